import { spawnSync } from 'node:child_process';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import { Cr, Exit, Gpr, Prot, Seg, State } from '../../../main/nvmm/constants.ts';

/** Ports of the guests: a character, and the end. */
const PORT_TEXT = 0xe9;
const PORT_END = 0xf4;
const RAM = 16 * 2 ** 20;
/** Where the guests' images are loaded (their multiboot headers say so), and the boot information for them. */
const IMAGE = 0x100000;
const BOOT_INFORMATION = 0x500;
const COMMAND_LINE = 0x600;
const PRIVATE = 0x10000;

/** The text of a guest that ran, and how it ended. */
export interface Outcome {
  text: string;
  end: 'end' | 'shutdown' | 'other';
}

/** Runs an image on the emulator, with nothing around it but the two ports. `only` is the one case to run. */
export function runEmulated(image: Uint8Array, only?: number): Outcome {
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
  bytes.set(new TextEncoder().encode(`guest ${only ?? ''}\0`), COMMAND_LINE);

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
  nvmm.vcpuConfigure(machine, vcpu, 0, {
    io: ({ port, in: input, data, size }) => {
      if (input) for (let i = 0; i < size; i++) data.setUint8(i, 0xff);
      else if (port === PORT_TEXT) text.push(String.fromCharCode(data.getUint8(0)));
      else if (port === PORT_END) end = 'end';
    },
  });
  while (end === undefined) {
    nvmm.run(machine, vcpu);
    switch (vcpu.exit.reason) {
      case Exit.NONE:
        break;
      case Exit.IO:
        nvmm.assistIo(machine, vcpu);
        break;
      case Exit.SHUTDOWN:
        end = 'shutdown';
        break;
      default:
        text.push(`[exit ${vcpu.exit.reason}]`);
        end = 'other';
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
export function runQemu(file: string, only?: number): Outcome {
  const options =
    `-accel tcg -m 16 -nodefaults -no-user-config -display none -no-reboot -debugcon stdio -cpu ${CPU} ` +
    `-device isa-debug-exit,iobase=${PORT_END} -kernel`;
  const more = only === undefined ? [] : ['-append', String(only)];
  const result = spawnSync(QEMU, [...options.split(' '), file, ...more], { timeout: 60_000 });
  const end = result.status === 1 ? 'end' : result.status === 0 ? 'shutdown' : 'other';
  return { text: result.stdout.toString('latin1'), end };
}

/** Assembles a guest; undefined when nasm is not installed. */
export function assembleGuest(name: string, into: string): void {
  const folder = new URL('.', import.meta.url).pathname;
  const result = spawnSync('nasm', ['-f', 'bin', '-I', folder, '-o', into, `${folder}${name}.asm`]);
  if (result.status !== 0) throw new Error(`nasm ${name}.asm: ${result.stderr}`);
}
