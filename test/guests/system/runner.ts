import { spawnSync } from 'node:child_process';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { NvmmError } from '../../../main/nvmm/errors.ts';
import { Cr, Exit, Gpr, Prot, Seg, State, VcpuConf } from '../../../main/nvmm/constants.ts';

/** The guests: each is an .asm file of this folder. */
export const GUESTS = ['protected', 'long'] as const;

/** Ports of the guests: a character, and the end. */
const PORT_TEXT = 0xe9;
const PORT_END = 0xf4;
const RAM = 16 * 2 ** 20;
/** Where the guests' images are loaded (their multiboot headers say so), and the boot information for them. */
const IMAGE = 0x100000;
const BOOT_INFORMATION = 0x500;
const COMMAND_LINE = 0x600;
const PRIVATE = 0x10000;
/** All cases together take a few seconds. */
const QEMU_HANG_MILLISECONDS = 3_000;
/** Nothing that is right hangs in the emulator: long enough for a machine that is busy with other tests. */
const HANG_MILLISECONDS = 30_000;

/** The text of a guest that ran, and how it ended. */
export interface Outcome {
  text: string;
  end: 'end' | 'shutdown' | 'hang';
}

/** Runs an image on the emulator, with nothing around it but the two ports, from case number `first` on. */
export function runEmulated(image: Uint8Array, first = 0): Outcome {
  const privateSize = emulatedBackend.privateSize(1, RAM);
  const ram = Math.ceil((PRIVATE + privateSize) / 65536) * 65536;
  const pages = (ram + RAM) / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const nvmm = emulatedBackend.open({ memory, privateOffset: PRIVATE, privateSize });
  const machine = nvmm.machineCreate();
  const vcpu = nvmm.vcpuCreate(machine, 0);
  nvmm.hvaMap(machine, ram, RAM);
  nvmm.gpaMap(machine, ram, 0, RAM, Prot.READ | Prot.WRITE | Prot.EXEC);
  const bytes = new Uint8Array(memory.buffer, ram, RAM);
  bytes.set(image, IMAGE);
  const words = new DataView(memory.buffer, ram, RAM);
  words.setUint32(BOOT_INFORMATION, 4, true);
  words.setUint32(BOOT_INFORMATION + 16, COMMAND_LINE, true);
  bytes.set(new TextEncoder().encode(`guest ${first}\0`), COMMAND_LINE);

  nvmm.getState(machine, vcpu, State.ALL);
  const { state } = vcpu;
  // As a multiboot loader leaves the processor: 32-bit, flat, paging off.
  for (const segment of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) {
    state.setSegment(segment, 0x10, 0xc93, 0xffffffff, 0n);
  }
  state.setSegment(Seg.CS, 8, 0xc9b, 0xffffffff, 0n);
  state.setCr(Cr.CR0, 0x11n);
  state.setGpr(Gpr.RAX, 0x2badb002n);
  state.setGpr(Gpr.RBX, BigInt(BOOT_INFORMATION));
  state.rip = BigInt(new DataView(image.buffer, image.byteOffset).getUint32(28, true));
  state.rflags = 2n;
  nvmm.setState(machine, vcpu, State.ALL);

  const text: string[] = [];
  let end: Outcome['end'] | undefined;
  nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CALLBACKS, {
    io: ({ port, in: input, data, size }) => {
      if (input) for (let i = 0; i < size; i++) data.setUint8(i, 0xff);
      else if (port === PORT_TEXT) text.push(String.fromCharCode(data.getUint8(0)));
      else if (port === PORT_END) end = 'end';
    },
    mem: ({ write, data, size }) => {
      if (!write) for (let i = 0; i < size; i++) data.setUint8(i, 0xff);
    },
  });
  const deadline = Date.now() + HANG_MILLISECONDS;
  while (end === undefined) {
    nvmm.run(machine, vcpu);
    switch (vcpu.exit.reason) {
      case Exit.NONE:
        if (Date.now() > deadline) end = 'hang';
        break;
      case Exit.IO:
        nvmm.assistIo(machine, vcpu);
        break;
      case Exit.MEMORY:
        try {
          nvmm.assistMem(machine, vcpu);
        } catch (error) {
          // Instructions cannot be fetched from where nothing is: the guest has run away.
          if (!(error instanceof NvmmError)) throw error;
          end = 'hang';
        }
        break;
      case Exit.SHUTDOWN:
        end = 'shutdown';
        break;
      case Exit.HALTED:
        end = 'hang';
        break;
      default:
        throw new Error(`the guest exited with reason ${vcpu.exit.reason}`);
    }
  }
  nvmm.close();
  return { text: text.join(''), end };
}

export const QEMU = 'qemu-system-x86_64';
/** The emulator's features, as far as QEMU's translator has them. */
const CPU =
  'qemu64,+ssse3,+sse4.1,+sse4.2,+xsave,+rdtscp,+pdpe1gb,+fsgsbase,+smep,+smap,+erms,+rdrand,+rdseed,-svm';

/** Runs an image file on QEMU. */
export function runQemu(file: string, first = 0): Outcome {
  const options =
    `-accel tcg -m 16 -nodefaults -no-user-config -display none -no-reboot -debugcon stdio -cpu ${CPU} ` +
    `-device isa-debug-exit,iobase=${PORT_END} -kernel`;
  const result = spawnSync(QEMU, [...options.split(' '), file, '-append', String(first)], {
    timeout: QEMU_HANG_MILLISECONDS,
  });
  const end = result.status === 1 ? 'end' : result.status === 0 ? 'shutdown' : 'hang';
  return { text: result.stdout.toString('latin1'), end };
}

/** Runs all cases of a guest, again from the next one when the machine shuts down. What each reported, by name. */
export function runCases(run: (first: number) => Outcome): Map<string, string> {
  const reports = new Map<string, string>();
  for (;;) {
    const { text, end } = run(reports.size);
    for (const part of text.split(/^>/m).slice(1)) {
      const bar = part.indexOf(' |');
      const name = (bar < 0 ? part : part.slice(0, bar)).trim();
      if (reports.has(name)) throw new Error(`two cases are called "${name}"`);
      reports.set(name, bar < 0 ? '' : part.slice(bar + 1).trim());
    }
    if (end === 'end') return reports;
    const last = [...reports.keys()].pop();
    if (last === undefined || text === '') throw new Error(`nothing was reported: ${end}`);
    reports.set(last, `${reports.get(last)}\n(${end})`.trim());
  }
}

/** Assembles a guest; into a file. */
export function assembleGuest(name: string, into: string): void {
  const folder = new URL('.', import.meta.url).pathname;
  const result = spawnSync('nasm', ['-f', 'bin', '-I', folder, '-o', into, `${folder}${name}.asm`]);
  if (result.status !== 0) throw new Error(`nasm ${name}.asm: ${result.stderr}`);
}
