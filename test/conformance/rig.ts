import { emulatedBackend } from '../../main/emulator/backend.ts';
import { Cr, EventType, Exit, Gpr, Msr, Prot, Seg, State } from '../../main/nvmm/constants.ts';
import type {
  Backend,
  BackendMemory,
  IoAccess,
  Machine,
  MemAccess,
  Nvmm,
  Vcpu,
} from '../../main/nvmm/nvmm.ts';
import { VcpuConf } from '../../main/nvmm/constants.ts';
import { kvmBackend, nvmmBackend } from '../../native/libnvmm/backends.ts';
import { openLibrary } from '../../native/libnvmm/library.ts';
import { LibNvmm } from '../../native/libnvmm/nvmm.ts';

/**
 * The binding as NetBSD has it, with copies of the state, over our library, which speaks the same version: on Linux that
 * stands for systems whose own library is not here. It is loaded already, by its name, when kvm is there.
 */
const copyingBackend: Backend = {
  name: 'nvmm',
  unavailable: () => kvmBackend.unavailable(),
  privateSize: () => 0,
  open: (memory) => new LibNvmm('nvmm', openLibrary('netbsd'), memory),
};
const systems = process.platform === 'linux' ? copyingBackend : nvmmBackend;

/** Whether the KVM of Linux is behind it. */
export function onKvm({ name }: Backend): boolean {
  return name === 'kvm' || (name === 'nvmm' && process.platform === 'linux');
}

/** Every backend, with the reason why it can't be tested here. */
export const candidates = [emulatedBackend, kvmBackend, systems].map((backend) => ({
  name: backend.name,
  backend,
  reason: backend.unavailable(),
}));

export const PAGE = 4096;
const WASM_PAGE = 65536;
const RAM_PAGES = 32;

const FLAT = 0xa93;
const CODE = 0xa9b;

/** A backend with memory of its own, and at `ram` pages for the tests. */
export class Host {
  readonly nvmm: Nvmm;
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  /** What another thread opens the backend with. */
  readonly backendMemory: BackendMemory;
  /** Host address of the first byte that a test may map. */
  readonly ram: number;

  constructor(backend: Backend) {
    const privateSize = Math.ceil(backend.privateSize(2, RAM_PAGES * PAGE) / WASM_PAGE) * WASM_PAGE;
    const pages = (privateSize + RAM_PAGES * PAGE) / WASM_PAGE;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.backendMemory = { memory: this.memory, privateOffset: 0, privateSize };
    this.nvmm = backend.open(this.backendMemory);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.ram = privateSize;
  }
}

/** What a guest did to ports and to memory that is not there. */
export interface Devices {
  io(access: IoAccess): void;
  mem(access: MemAccess): void;
}

/**
 * The machine of libnvmm's own tests: 64-bit mode, code at 0x2000 (read-only), page tables at 0x3000 to 0x6FFF, one
 * to one. The page at 0x1000 is memory, or none.
 */
export class Rig {
  readonly host: Host;
  readonly nvmm: Nvmm;
  readonly machine: Machine;
  readonly vcpu: Vcpu;

  constructor(backend: Backend, data: boolean) {
    this.host = new Host(backend);
    const { nvmm, ram, bytes } = this.host;
    this.nvmm = nvmm;
    this.machine = nvmm.machineCreate();
    this.vcpu = nvmm.vcpuCreate(this.machine, 0);
    nvmm.hvaMap(this.machine, ram, 8 * PAGE);
    if (data) nvmm.gpaMap(this.machine, ram, 0x1000, PAGE, Prot.READ | Prot.WRITE);
    nvmm.gpaMap(this.machine, ram + PAGE, 0x2000, PAGE, Prot.READ | Prot.EXEC);
    nvmm.gpaMap(this.machine, ram + 2 * PAGE, 0x3000, 4 * PAGE, Prot.READ | Prot.WRITE);
    const tables = new DataView(bytes.buffer, ram + 2 * PAGE);
    tables.setUint32(0, 0x4007, true);
    tables.setUint32(PAGE, 0x5007, true);
    tables.setUint32(2 * PAGE, 0x6007, true);
    for (let page = 1; page <= 6; page++) tables.setUint32(3 * PAGE + 8 * page, (page << 12) | 7, true);
  }

  /** The data page, as the host sees it. */
  get data(): Uint8Array {
    return this.host.bytes.subarray(this.host.ram, this.host.ram + PAGE);
  }

  use(devices: Partial<Devices>): void {
    this.nvmm.vcpuConfigure(this.machine, this.vcpu, VcpuConf.CALLBACKS, devices);
  }

  /** Loads code (hex) and puts the vCPU in front of it. */
  load(code: string): void {
    const { bytes, ram } = this.host;
    bytes.fill(0, ram + PAGE, ram + 2 * PAGE);
    bytes.set(Buffer.from(code, 'hex'), ram + PAGE);
    this.nvmm.hvaWritten(ram + PAGE, PAGE);
    longMode(this.vcpu);
    this.nvmm.setState(this.machine, this.vcpu, State.ALL);
  }

  /** Fills the data page from `at` on. */
  fill(at: number, text: string | Uint8Array): void {
    this.data.fill(0);
    this.data.set(typeof text === 'string' ? Buffer.from(text, 'latin1') : text, at);
    this.nvmm.hvaWritten(this.host.ram, PAGE);
  }

  get(flags: number): Vcpu['state'] {
    this.nvmm.getState(this.machine, this.vcpu, flags);
    return this.vcpu.state;
  }

  set(flags: number): void {
    this.nvmm.setState(this.machine, this.vcpu, flags);
  }

  gpr(index: number): bigint {
    return this.get(State.GPRS).gpr(index);
  }

  /** Runs to the next exit that says something. */
  exit(): number {
    // A thousand time slices are a second: more than any test needs.
    for (let slice = 0; slice < 1000; slice++) {
      this.nvmm.run(this.machine, this.vcpu);
      if (this.vcpu.exit.reason !== Exit.NONE) return this.vcpu.exit.reason;
    }
    return Exit.NONE;
  }

  assist(): void {
    if (this.vcpu.exit.reason === Exit.IO) this.nvmm.assistIo(this.machine, this.vcpu);
    else this.nvmm.assistMem(this.machine, this.vcpu);
  }

  /** Runs with the assists up to an exit of another kind. */
  finish(): number {
    for (;;) {
      const reason = this.exit();
      if (reason !== Exit.IO && reason !== Exit.MEMORY) return reason;
      this.assist();
    }
  }

  inject(type: number, vector: number, error = 0): void {
    this.vcpu.event.set(type, vector, error);
    this.nvmm.inject(this.machine, this.vcpu);
  }

  interrupt(vector: number): void {
    this.inject(EventType.INTR, vector);
  }

  close(): void {
    this.nvmm.close();
  }
}

/** 64-bit mode, ring 0, flat, RIP 0x2000, CR3 0x3000, interrupts off, everything else zero. */
export function longMode({ state }: Pick<Vcpu, 'state'>): void {
  state.bytes.fill(0);
  for (const seg of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) {
    state.setSegment(seg, 0, FLAT, 0xffff_ffff, 0n);
  }
  state.setSegment(Seg.CS, 8, CODE, 0xffff_ffff, 0n);
  state.setSegment(Seg.LDT, 0, 0x82, 0xffff, 0n);
  state.setSegment(Seg.TR, 0, 0x8b, 0xffff, 0n);
  state.setSegment(Seg.GDT, 0, 0, 0xffff, 0n);
  state.setSegment(Seg.IDT, 0, 0, 0xffff, 0n);
  state.rflags = 2n;
  state.rip = 0x2000n;
  state.setCr(Cr.CR0, 0x8005_0033n);
  state.setCr(Cr.CR3, 0x3000n);
  state.setCr(Cr.CR4, 0x620n);
  state.setCr(Cr.XCR0, 3n);
  state.setMsr(Msr.EFER, 0xd01n & ~0x800n);
  state.setMsr(Msr.PAT, 0x0007_0406_0007_0406n);
  state.setDr(4, 0xffff_0ff0n);
  state.setDr(5, 0x400n);
  const fpu = new DataView(state.fpu.buffer, state.fpu.byteOffset, 32);
  fpu.setUint16(0, 0x37f, true);
  fpu.setUint32(24, 0x1f80, true);
  fpu.setUint32(28, 0xffff, true);
}

/** Memory that is not there: bytes from 0x1000 on, and a record of what was done to them. */
export class Recorder implements Devices {
  readonly bytes = new Uint8Array(2 * PAGE);
  accesses: string[] = [];

  io(access: IoAccess): void {
    throw new Error(`unexpected access to port ${access.port}`);
  }

  mem({ gpa, write, size, data }: MemAccess): void {
    for (let i = 0; i < size; i++) {
      if (write) this.bytes[gpa - 0x1000 + i] = data.getUint8(i);
      else data.setUint8(i, this.bytes[gpa - 0x1000 + i]);
    }
    this.accesses.push(`${write ? 'W' : 'R'}${size}${gpa === 0x1000 ? '' : `@${gpa.toString(16)}`}`);
  }

  u64(gpa: number): bigint {
    return new DataView(this.bytes.buffer).getBigUint64(gpa - 0x1000, true);
  }
}

/** Port 123: a stream of bytes in both directions. */
export class Stream implements Devices {
  bytes: number[] = [];
  private position = 0;

  constructor(text = '') {
    this.bytes = [...Buffer.from(text, 'latin1')];
  }

  io({ port, in: input, size, data }: IoAccess): void {
    if (port !== 123) throw new Error(`unexpected access to port ${port}`);
    for (let i = 0; i < size; i++) {
      if (input) data.setUint8(i, this.bytes[this.position++] ?? 0);
      else this.bytes.push(data.getUint8(i));
    }
  }

  mem(access: MemAccess): void {
    throw new Error(`unexpected access to ${access.gpa}`);
  }

  get text(): string {
    return Buffer.from(this.bytes).toString('latin1');
  }
}

export { Gpr };
