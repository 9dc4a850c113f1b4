import { readFile, writeFile } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { Client } from './client.ts';
import type { VmInfo } from './contract.ts';
import { ServiceError } from './errors.ts';
import type { SnapshotDifference, SnapshotInfo } from './snapshot-contract.ts';
import { compareValues } from './snapshot-diff.ts';

const usage = `Usage: vitrine snapshot take VM [NAME]
       vitrine snapshot list VM
       vitrine snapshot show VM SNAPSHOT
       vitrine snapshot diff VM SNAPSHOT OTHER
       vitrine snapshot restore VM SNAPSHOT [--paused]      also: vitrine restore VM SNAPSHOT
       vitrine snapshot clone VM SNAPSHOT NAME
       vitrine snapshot delete VM SNAPSHOT
       vitrine snapshot verify VM SNAPSHOT
       vitrine switch VM BACKEND                            of a paused VM: auto, emulated, kvm, nvmm
       vitrine vcpu save VM [FILE] [--vcpu N]               registers of a paused VM by name, to FILE or here
       vitrine vcpu load VM FILE [--vcpu N]                 puts them back, as they were or edited
       vitrine vcpu diff FILE OTHER

Snapshots of the VMs of a running "vitrine serve". VM and SNAPSHOT are an id, or a name that no other one has.

  take      the guest runs on while it is written
  restore   goes back to it: what the VM is now is lost. A VM that is off is started. --paused: and stands still there
  clone     makes a new VM that starts from it
  delete    what other snapshots need of it stays
  verify    reads every page and compares checksums

  --json    one JSON object on each line
  --help    this text

The library is in VITRINE_HOME, or where this system keeps the data of applications.
`;

/** Where the command writes, and the library it asks about: the process's and the user's, or a test's. */
export interface Surroundings {
  output: Writable;
  errors: Writable;
  library?: string;
}

interface Options {
  words: string[];
  json: boolean;
  paused: boolean;
  vcpu: number;
}

type Print = (value: unknown, text: string) => void;

interface Call extends Options {
  client: Client;
  print: Print;
}

/** What each verb takes after it, at least and at most, and what it does. */
interface VerbRow {
  words: [least: number, most: number];
  run(call: Call): Promise<void>;
}

const verbs: Record<string, VerbRow> = {
  'snapshot take': {
    words: [1, 2],
    run: async ({ client, words: [name, title], print }) => {
      const { id } = await client.vm(name!);
      const taken = await client.request('snapshot.take', {
        id,
        ...(title === undefined ? {} : { name: title }),
      });
      const { snapshot, pausedMs } = taken;
      print(
        taken,
        `${snapshot.id}  "${snapshot.name}"  ${size(snapshot.stored)}; the guest paused for ${pausedMs.toFixed(1)} ms\n`,
      );
    },
  },
  'snapshot list': {
    words: [1, 1],
    run: async ({ client, words: [name], print }) => {
      const { id } = await client.vm(name!);
      const list = await client.request('snapshot.list', { id });
      print(list, treeText(list));
    },
  },
  'snapshot show': {
    words: [2, 2],
    run: async (call) => {
      const found = await named(call);
      const all = await call.client.request('snapshot.show', found);
      call.print(all, `${JSON.stringify(all, null, 2)}\n`);
    },
  },
  'snapshot diff': {
    words: [3, 3],
    run: async (call) => {
      const found = await named(call);
      const { snapshot: other } = await named(call, call.words[2]);
      const difference = await call.client.request('snapshot.diff', { ...found, other });
      call.print(difference, differenceText(difference));
    },
  },
  'snapshot restore': {
    words: [2, 2],
    run: async (call) => {
      const found = await named(call);
      await call.client.request('snapshot.restore', { ...found, paused: call.paused });
      call.print({ restored: found.snapshot }, `restored ${found.snapshot}\n`);
    },
  },
  'snapshot clone': {
    words: [3, 3],
    run: async (call) => {
      const made = await call.client.request('snapshot.clone', {
        ...(await named(call)),
        name: call.words[2]!,
      });
      call.print(made, `${made.id}\n`);
    },
  },
  'snapshot delete': {
    words: [2, 2],
    run: async (call) => {
      const found = await named(call);
      await call.client.request('snapshot.delete', found);
      call.print({ deleted: found.snapshot }, `deleted ${found.snapshot}\n`);
    },
  },
  'snapshot verify': {
    words: [2, 2],
    run: async (call) => {
      const { wrong } = await call.client.request('snapshot.verify', await named(call));
      if (wrong !== null) throw new ServiceError('host', wrong);
      call.print({ wrong }, 'every page has its checksum\n');
    },
  },
  switch: {
    words: [2, 2],
    run: async ({ client, words: [name, backend], print }) => {
      const { id } = await client.vm(name!);
      await client.request('vm.switch', { id, backend: backend as VmInfo['config']['backend'] });
      const { backend: now } = await client.vm(id);
      print({ backend: now }, `${now}\n`);
    },
  },
  'vcpu save': {
    words: [1, 2],
    run: async ({ client, words: [name, file], vcpu, print }) => {
      const { id } = await client.vm(name!);
      const registers = await client.request('vcpu.save', { id, vcpu });
      const text = `${JSON.stringify(registers, null, 2)}\n`;
      if (file !== undefined) await writeFile(file, text, { mode: 0o600 });
      print(registers, file === undefined ? text : `wrote ${file}\n`);
    },
  },
  'vcpu load': {
    words: [2, 2],
    run: async ({ client, words: [name, file], vcpu, print }) => {
      const { id } = await client.vm(name!);
      await client.request('vcpu.load', { id, vcpu, registers: await readRegisters(file!) });
      print({ loaded: file }, `vCPU ${vcpu} has the registers of ${file}\n`);
    },
  },
  'vcpu diff': {
    words: [2, 2],
    run: async ({ words: [a, b], print }) => {
      const changes = compareValues(await readRegisters(a!), await readRegisters(b!));
      print(changes, changes.map(changeText).join('') || 'no difference\n');
    },
  },
};

/** `vitrine snapshot`, `restore`, `switch` and `vcpu`. Resolves with an exit status: 0, 1 or, for wrong usage, 2. */
export async function snapshotCommand(
  command: string,
  args: string[],
  around: Surroundings = { output: process.stdout, errors: process.stderr },
): Promise<number> {
  const { output, errors, library } = around;
  let options: Options | 'help';
  let verb: VerbRow;
  try {
    options = parse(args);
    if (options === 'help') {
      output.write(usage);
      return 0;
    }
    verb = findVerb(command, options);
  } catch (error) {
    errors.write(`vitrine ${command}: ${(error as Error).message}\nTry: vitrine ${command} --help\n`);
    return 2;
  }
  const { json } = options;
  const print: Print = (value, text) => void output.write(json ? `${JSON.stringify(value)}\n` : text);
  // Two files are compared without anybody's help.
  const alone = verb === verbs['vcpu diff'];
  let client: Client | null = null;
  try {
    client = alone ? null : await Client.connect(library);
    await verb.run({ ...options, client: client!, print });
    return 0;
  } catch (error) {
    errors.write(`vitrine ${command}: ${(error as Error).message}\n`);
    return 1;
  } finally {
    client?.close();
  }
}

function parse(args: string[]): Options | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      paused: { type: 'boolean', default: false },
      vcpu: { type: 'string', default: '0' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  if (!/^\d{1,3}$/.test(values.vcpu)) throw new Error(`--vcpu ${values.vcpu}: a vCPU is a number from 0 on`);
  return { words: positionals, json: values.json, paused: values.paused, vcpu: Number(values.vcpu) };
}

/** Finds the verb, and leaves its words in the options. */
function findVerb(command: string, options: Options): VerbRow {
  let name = command === 'restore' ? 'snapshot restore' : command;
  if (name === 'snapshot' || name === 'vcpu') name = `${name} ${options.words.shift() ?? ''}`;
  const verb = verbs[name];
  if (verb === undefined) {
    const known = Object.keys(verbs).filter((each) => each.startsWith(command));
    throw new Error(`"${name.trim()}" is none of: ${known.join(', ')}`);
  }
  const [least, most] = verb.words;
  const { length } = options.words;
  if (length < least || length > most) {
    throw new Error(`${name} takes ${least === most ? least : `${least} to ${most}`} words, not ${length}`);
  }
  return verb;
}

/** The VM and the snapshot that the command line names. */
async function named(call: Call, text = call.words[1]!): Promise<{ id: string; snapshot: string }> {
  const { id } = await call.client.vm(call.words[0]!);
  const list = await call.client.request('snapshot.list', { id });
  if (list.some((one) => one.id === text)) return { id, snapshot: text };
  const found = list.filter(({ name }) => name === text);
  if (found.length === 1) return { id, snapshot: found[0]!.id };
  const known = list.map(({ id: known, name }) => `"${name}" (${known})`).join(', ');
  throw new ServiceError(
    'not-found',
    found.length === 0
      ? `There is no snapshot "${text}". There are: ${known || 'none'}.`
      : `${found.length} snapshots are named "${text}". Say which by its id: ${known}.`,
  );
}

async function readRegisters(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new ServiceError('host', `${file}: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new ServiceError('invalid', `${file} is no JSON: ${(error as Error).message}`);
  }
}

/** The tree: each snapshot under the one that it was taken after. */
export function treeText(list: readonly SnapshotInfo[]): string {
  const lines: string[] = [];
  const add = (parent: string | null, depth: number): void => {
    for (const one of list.filter((each) => each.parent === parent)) {
      const mark = one.current ? '*' : ' ';
      const what =
        one.damaged === undefined
          ? `${new Date(one.createdAt).toISOString().slice(0, 19)}  ${size(one.stored)}  ${one.backend}`
          : `damaged: ${one.damaged}`;
      lines.push(`${mark} ${'  '.repeat(depth)}${one.id}  "${one.name}"  ${what}\n`);
      add(one.id, depth + 1);
    }
  };
  add(null, 0);
  return lines.join('') || 'There is no snapshot.\n';
}

function differenceText({ registers, devices, pages, bytes, memory }: SnapshotDifference): string {
  const stretches = memory.map(
    ({ address, bytes: count, from, to }) =>
      `  0x${address.toString(16).padStart(8, '0')}  ${count} bytes: ${from} -> ${to}\n`,
  );
  return [
    `Registers: ${registers.length} differ\n`,
    ...registers.map(changeText),
    `Devices: ${devices.length} registers differ\n`,
    ...devices.map(changeText),
    `Memory: ${pages} pages, ${bytes} bytes differ\n`,
    ...stretches,
  ].join('');
}

function changeText({ name, from, to }: { name: string; from: string; to: string }): string {
  return `  ${name}: ${from} -> ${to}\n`;
}

function size(bytes: number): string {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
