import { vmConfig } from '../main/service/contract.ts';
import type { BackendChoice, GuestConfig, VmConfig } from '../main/service/contract.ts';

export type GuestKind = GuestConfig['kind'];

/** The New VM form as typed: text until it is checked. */
export interface Draft {
  name: string;
  kind: GuestKind;
  kernel: string;
  initrd: string;
  append: string;
  file: string;
  /** Where a flat binary is loaded: decimal, or hexadecimal with 0x. */
  address: string;
  /** MiB. */
  memory: string;
  backend: BackendChoice;
  disks: { path: string; readonly: boolean }[];
}

/** Messages by field; disks are `disks.0`, `disks.1`, … */
export type Messages = Record<string, string>;

export const kinds: readonly {
  kind: GuestKind;
  title: string;
  text: string;
  memory: string;
  append: string;
}[] = [
  {
    kind: 'calc',
    title: 'Calculator',
    text: 'Built in: starts at once, needs no files.',
    memory: '16',
    append: '',
  },
  {
    kind: 'linux',
    title: 'Linux kernel',
    text: 'A bzImage, with an initrd if it needs one.',
    memory: '512',
    append: 'console=ttyS0',
  },
  { kind: 'elf', title: 'ELF', text: 'A multiboot, PVH or plain ELF kernel.', memory: '64', append: '' },
  { kind: 'flat', title: 'Flat binary', text: 'Raw code, loaded at an address.', memory: '16', append: '' },
];

const MIB = 2 ** 20;

function preset(kind: GuestKind) {
  return kinds.find((each) => each.kind === kind) ?? kinds[0]!;
}

/** A name that no machine has yet: "Calculator", "Calculator 2", … */
export function freeName(kind: GuestKind, taken: readonly string[]): string {
  const { title } = preset(kind);
  for (let count = 1; ; count += 1) {
    const name = count === 1 ? title : `${title} ${count}`;
    if (!taken.includes(name)) return name;
  }
}

export function newDraft(taken: readonly string[], kind: GuestKind = 'calc'): Draft {
  const { memory, append } = preset(kind);
  return {
    name: freeName(kind, taken),
    kind,
    kernel: '',
    initrd: '',
    append,
    file: '',
    address: '0x7c00',
    memory,
    backend: 'auto',
    disks: [],
  };
}

/** Changes the kind; what the user has not touched follows its new defaults. */
export function withKind(draft: Draft, kind: GuestKind, taken: readonly string[]): Draft {
  const before = newDraft(taken, draft.kind);
  const after = newDraft(taken, kind);
  const follow = (field: 'name' | 'memory' | 'append'): string =>
    draft[field] === before[field] ? after[field] : draft[field];
  return { ...draft, kind, name: follow('name'), memory: follow('memory'), append: follow('append') };
}

export function draftOf({ name, guest, memory, backend, disks }: VmConfig): Draft {
  return {
    ...newDraft([], guest.kind),
    ...(guest.kind === 'flat' ? { file: guest.file, address: `0x${guest.address.toString(16)}` } : {}),
    ...(guest.kind === 'elf' ? { file: guest.file, append: guest.append } : {}),
    ...(guest.kind === 'linux'
      ? { kernel: guest.kernel, initrd: guest.initrd ?? '', append: guest.append }
      : {}),
    name,
    memory: String(memory / MIB),
    backend,
    disks: disks.map((disk) => ({ ...disk })),
  };
}

/** A number as typed; NaN for what is none, which the schema then refuses. */
function parseNumber(text: string): number {
  return /^\s*(?:0x[0-9a-f]+|\d+)\s*$/i.test(text) ? Number(text) : NaN;
}

function guestOf(draft: Draft): unknown {
  switch (draft.kind) {
    case 'calc':
      return { kind: 'calc' };
    case 'linux':
      return {
        kind: 'linux',
        kernel: draft.kernel.trim(),
        initrd: draft.initrd.trim() === '' ? undefined : draft.initrd.trim(),
        append: draft.append,
      };
    case 'elf':
      return { kind: 'elf', file: draft.file.trim(), append: draft.append };
    case 'flat':
      return { kind: 'flat', file: draft.file.trim(), address: parseNumber(draft.address) };
  }
}

/** The schema's refusals in words, by where they are. */
const sentences: Record<string, string> = {
  name: 'Give the machine a name of 1 to 80 characters.',
  kernel: 'Enter the path of the kernel (bzImage).',
  initrd: 'This path is too long.',
  append: 'A command line has at most 2048 characters.',
  file: 'Enter the path of the file to load.',
  address: 'Enter an address from 0 to 0xffffffff, such as 0x7c00.',
  memory: 'Enter a whole number of MiB, from 4 to 3584.',
  backend: 'Choose one of the backends.',
  disks: 'Enter the path of the disk image, or remove the disk.',
};

/** Checks a draft against the contract: the configuration, or a message for each field that is wrong. */
export function checkDraft(draft: Draft): { config: VmConfig } | { messages: Messages } {
  const checked = vmConfig.safeParse({
    name: draft.name,
    guest: guestOf(draft),
    memory: parseNumber(draft.memory) * MIB,
    backend: draft.backend,
    disks: draft.disks.map(({ path, readonly }) => ({ path: path.trim(), readonly })),
  });
  if (checked.success) return { config: checked.data };
  const messages: Messages = {};
  for (const { path, message } of checked.error.issues) {
    const [first, second] = path.map(String);
    const field = (first === 'guest' ? second : first) ?? 'name';
    const place = first === 'disks' && second !== undefined ? `disks.${second}` : field;
    messages[place] ??=
      first === 'disks' && second === undefined ? 'At most 8 disks.' : (sentences[field] ?? message);
  }
  return { messages };
}
