import { Exit, Limit, Prot, State, VcpuConf } from '../../main/nvmm/constants.ts';
import { checkDebug } from '../../main/nvmm/debug.ts';
import { NvmmError } from '../../main/nvmm/errors.ts';
import type {
  AssistCallbacks,
  BackendMemory,
  Capability,
  CpuidConf,
  DebugConf,
  Machine,
  MachineHandle,
  MachineInfo,
  Nvmm,
  TprConf,
  Vcpu,
  VcpuConfiguration,
  VcpuHandle,
} from '../../main/nvmm/nvmm.ts';
import { lastError } from './errors.ts';
import { CALLBACKS_SIZE, CPUID_CONF_SIZE, DEBUG_CONF, MACHINE_INFO, MACHINE_SIZE, VCPU } from './layouts.ts';
import type { Library } from './library.ts';
import { CallbackBridge } from './callbacks.ts';
import { CopiedVcpu, LentVcpu, LibMachine, LibVcpu } from './vcpu.ts';

const WORD = 2 ** 32;

/** The verbs of libnvmm, on one thread, through the C library. */
export class LibNvmm implements Nvmm {
  readonly backend: string;
  private readonly library: Library;
  private readonly memory: Uint8Array;
  /** Address of host address 0. */
  private readonly base: number;
  private readonly bridge: CallbackBridge;
  private readonly machines = new Map<number, LibMachine>();
  private readonly found = new BigUint64Array(1);
  private readonly foundProt = new BigUint64Array(1);

  constructor(backend: string, library: Library, { memory }: BackendMemory) {
    this.backend = backend;
    this.library = library;
    this.memory = new Uint8Array(memory.buffer);
    this.base = library.addressOf(this.memory);
    this.bridge = new CallbackBridge(library);
  }

  capability(): Capability {
    const { layout } = this.library;
    const at = layout.capability;
    const bytes = new Uint8Array(256);
    this.require('nvmm_capability', this.library.call.capability(bytes));
    const view = new DataView(bytes.buffer);
    const wide = (offset: number): number => Number(view.getBigUint64(offset, true));
    return {
      version: view.getUint32(0, true),
      stateSize: view.getUint32(4, true),
      commSize: Limit.PAGE,
      maxMachines: view.getUint32(at.maxMachines, true),
      maxVcpus: view.getUint32(at.maxVcpus, true),
      maxRam: wide(at.maxRam),
      machConfSupport: wide(at.machConfSupport),
      vcpuConfSupport: wide(at.vcpuConfSupport),
      xcr0Mask: wide(at.xcr0Mask),
      mxcsrMask: view.getUint32(at.mxcsrMask, true),
      confCpuidMaxops: view.getUint32(at.confCpuidMaxops, true),
    };
  }

  machineCreate(): Machine {
    const address = this.library.allocate(MACHINE_SIZE);
    this.require('nvmm_machine_create', this.library.call.machineCreate(address));
    const bytes = new Uint8Array(4);
    this.library.read(bytes, address, 4);
    const machine = new LibMachine(new DataView(bytes.buffer).getUint32(0, true), address);
    this.machines.set(machine.machid, machine);
    return machine;
  }

  machineDestroy(machine: Machine): void {
    this.require('nvmm_machine_destroy', this.library.call.machineDestroy(addressOf(machine)));
    this.machines.delete(machine.machid);
  }

  machineConfigure(machine: Machine, op: number, _conf: unknown): void {
    const result = this.library.call.machineConfigure(addressOf(machine), op, new Uint8Array(64));
    this.require('nvmm_machine_configure', result);
  }

  machineShare(machine: Machine): MachineHandle {
    return { backend: this.backend, machid: machine.machid, token: addressOf(machine) };
  }

  machineAttach(handle: MachineHandle): Machine {
    if (handle.backend !== this.backend || typeof handle.token !== 'number') {
      throw new NvmmError(
        'machineAttach',
        'EINVAL',
        `a machine of backend ${handle.backend} is not one of ours`,
      );
    }
    return new LibMachine(handle.machid, handle.token);
  }

  vcpuCreate(machine: Machine, cpuid: number): Vcpu {
    if (!(Number.isInteger(cpuid) && cpuid >= 0 && cpuid < WORD)) {
      throw new NvmmError('nvmm_vcpu_create', 'EINVAL', `vCPU ${cpuid} has no valid number`);
    }
    const { library } = this;
    const { call } = library;
    const parent = addressOf(machine);
    const address = library.allocate(VCPU.ALLOCATED);
    const { machid } = machine;
    let vcpu: LibVcpu;
    if (call.lentVcpuCreate === null) {
      this.require('nvmm_vcpu_create', call.vcpuCreate(parent, cpuid, address));
      vcpu = new CopiedVcpu(library, parent, machid, cpuid, address);
    } else {
      const lent = new LentVcpu(library, parent, machid, cpuid, address);
      this.require('nvmm_vcpu_create', call.lentVcpuCreate(parent, cpuid, address, lent.pageAddress));
      vcpu = lent;
    }
    // An assist calls what is there, also nothing.
    const { CALLBACKS } = VcpuConf;
    this.require('nvmm_vcpu_configure', call.vcpuConfigure(parent, address, CALLBACKS, this.callbackBytes()));
    return vcpu;
  }

  vcpuDestroy(machine: Machine, vcpu: Vcpu): void {
    this.require('nvmm_vcpu_destroy', this.library.call.vcpuDestroy(addressOf(machine), own(vcpu).address));
  }

  vcpuConfigure(machine: Machine, vcpu: Vcpu, op: number, conf: VcpuConfiguration): void {
    let bytes = new Uint8Array(64);
    if (op === VcpuConf.CALLBACKS) {
      own(vcpu).callbacks = conf as AssistCallbacks;
      bytes = this.callbackBytes();
    } else if (op === VcpuConf.CPUID) {
      bytes = cpuidBytes(conf as CpuidConf);
    } else if (op === VcpuConf.TPR) {
      bytes[0] = (conf as TprConf).exitChanged ? 1 : 0;
    } else if (op === VcpuConf.DEBUG) {
      bytes = debugBytes(checkDebug('nvmm_vcpu_configure', conf as DebugConf));
    }
    const result = this.library.call.vcpuConfigure(addressOf(machine), own(vcpu).address, op, bytes);
    this.require('nvmm_vcpu_configure', result);
  }

  setState(_machine: Machine, vcpu: Vcpu, flags: number): void {
    this.require('nvmm_vcpu_setstate', own(vcpu).setState(flags));
  }

  getState(_machine: Machine, vcpu: Vcpu, flags: number): void {
    this.require('nvmm_vcpu_getstate', own(vcpu).getState(flags & State.ALL));
  }

  inject(_machine: Machine, vcpu: Vcpu): void {
    this.require('nvmm_vcpu_inject', own(vcpu).inject());
  }

  run(_machine: Machine, vcpu: Vcpu): void {
    const ours = own(vcpu);
    const result = ours.run();
    ours.changed(result === 0);
    if (result !== 0) throw lastError(this.library, 'nvmm_vcpu_run');
    if (!this.library.layout.stop) this.takeOwnStop(ours);
  }

  runUntil(vcpu: Vcpu, ns: number): void {
    own(vcpu).until(ns);
  }

  vcpuShare(vcpu: Vcpu): VcpuHandle {
    const { machid, cpuid, address } = own(vcpu);
    return { backend: this.backend, machid, cpuid, token: address };
  }

  vcpuStop(vcpu: Vcpu | VcpuHandle): void {
    const address = 'token' in vcpu ? (vcpu.token as number) : own(vcpu).address;
    if (this.library.call.stop !== null) this.require('nvmm_vcpu_stop', this.library.call.stop(address));
    // Version 3 has no such call: its run comes back about once per time slice, and then finds this word.
    else this.library.write(address + VCPU.OWN_STOP, new Uint8Array([1, 0, 0, 0]), 4);
  }

  private takeOwnStop(vcpu: LibVcpu): void {
    if (vcpu.exit.reason !== Exit.NONE) return;
    const word = new Uint8Array(4);
    this.library.read(word, vcpu.address + VCPU.OWN_STOP, 4);
    if (word[0] === 0) return;
    this.library.write(vcpu.address + VCPU.OWN_STOP, new Uint8Array(4), 4);
    vcpu.exit.reason = Exit.STOPPED;
  }

  hvaMap(machine: Machine, hva: number, size: number): void {
    const address = this.hostAddress('nvmm_hva_map', hva, size);
    const kept = this.library.layout.hvaMapClears ? this.contents(hva, size) : [];
    this.require('nvmm_hva_map', this.library.call.hvaMap(addressOf(machine), address, size));
    for (const { at, bytes } of kept) this.memory.set(bytes, at);
  }

  hvaUnmap(machine: Machine, hva: number, size: number): void {
    const address = this.hostAddress('nvmm_hva_unmap', hva, size);
    this.require('nvmm_hva_unmap', this.library.call.hvaUnmap(addressOf(machine), address, size));
  }

  /** NVMM puts fresh memory where V8's was: what is not zero is carried over. */
  private contents(hva: number, size: number): { at: number; bytes: Uint8Array }[] {
    const kept: { at: number; bytes: Uint8Array }[] = [];
    for (let at = hva; at < hva + size; at += Limit.PAGE) {
      const page = this.memory.subarray(at, at + Limit.PAGE);
      if (page.some((byte) => byte !== 0)) kept.push({ at, bytes: page.slice() });
    }
    return kept;
  }

  gpaMap(machine: Machine, hva: number, gpa: number, size: number, prot: number): void {
    const address = this.hostAddress('nvmm_gpa_map', hva, size);
    checkGuest('nvmm_gpa_map', gpa, size);
    if ((prot & ~(Prot.READ | Prot.WRITE | Prot.EXEC)) !== 0) {
      throw new NvmmError('nvmm_gpa_map', 'EINVAL', `protection ${prot} has bits that mean nothing`);
    }
    this.require('nvmm_gpa_map', this.library.call.gpaMap(addressOf(machine), address, gpa, size, prot));
  }

  gpaUnmap(machine: Machine, hva: number, gpa: number, size: number): void {
    const address = this.hostAddress('nvmm_gpa_unmap', hva, size);
    checkGuest('nvmm_gpa_unmap', gpa, size);
    if (this.library.call.gpaUnmap(addressOf(machine), address, gpa, size) === 0) return;
    const error = lastError(this.library, 'nvmm_gpa_unmap');
    // Version 3 says -1 and leaves errno as it was.
    if (this.library.layout.stop) throw error;
    throw new NvmmError('nvmm_gpa_unmap', 'ESRCH', `guest 0x${gpa.toString(16)} is not mapped like that`);
  }

  gvaToGpa(machine: Machine, vcpu: Vcpu, gvaLow: number, gvaHigh: number): { gpa: number; prot: number } {
    const gva = gvaHigh === 0 ? gvaLow : (BigInt(gvaHigh) << 32n) | BigInt(gvaLow);
    const { address } = own(vcpu);
    const { call } = this.library;
    const result = call.gvaToGpa(addressOf(machine), address, gva, this.found, this.foundProt);
    this.require('nvmm_gva_to_gpa', result);
    return { gpa: Number(this.found[0]), prot: Number(this.foundProt[0]) };
  }

  gpaToHva(machine: Machine, gpa: number): { hva: number; prot: number } {
    if (!(gpa >= 0)) throw new NvmmError('nvmm_gpa_to_hva', 'ENOENT', `guest ${gpa} is not mapped`);
    const result = this.library.call.gpaToHva(addressOf(machine), gpa, this.found, this.foundProt);
    this.require('nvmm_gpa_to_hva', result);
    return { hva: Number(this.found[0]) - this.base, prot: Number(this.foundProt[0]) };
  }

  assistIo(machine: Machine, vcpu: Vcpu): void {
    const ours = own(vcpu);
    if (ours.answerIo(machine)) return;
    const outer = this.bridge.enter(machine, ours);
    const result = this.library.call.assistIo(addressOf(machine), ours.address);
    this.bridge.leave(outer);
    this.require('nvmm_assist_io', result);
  }

  assistMem(machine: Machine, vcpu: Vcpu): void {
    const ours = own(vcpu);
    const answered = ours.answerMem(machine);
    if (answered !== null) return this.require('nvmm_assist_mem', answered);
    const outer = this.bridge.enter(machine, ours);
    const result = this.library.call.assistMem(addressOf(machine), ours.address);
    this.bridge.leave(outer);
    this.require('nvmm_assist_mem', result);
  }

  ctl(op: number, machid: number): MachineInfo {
    const bytes = new Uint8Array(MACHINE_INFO.SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, machid, true);
    this.require('nvmm_ctl', this.library.call.ctl(op, bytes, bytes.length));
    return {
      machid,
      vcpus: view.getUint32(MACHINE_INFO.VCPUS, true),
      ram: Number(view.getBigUint64(MACHINE_INFO.RAM, true)),
      pid: view.getInt32(MACHINE_INFO.PID, true),
      time: Number(view.getBigInt64(MACHINE_INFO.TIME, true)),
    };
  }

  /** Hardware sees what is written. */
  hvaWritten(): void {}

  close(): void {
    for (const machine of [...this.machines.values()]) this.machineDestroy(machine);
  }

  private callbackBytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(CALLBACKS_SIZE);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(this.bridge.ioAddress), true);
    view.setBigUint64(8, BigInt(this.bridge.memAddress), true);
    return bytes;
  }

  /** The address of a range of the shared memory. */
  private hostAddress(verb: string, hva: number, size: number): number {
    const { length } = this.memory;
    if (
      Number.isSafeInteger(hva) &&
      Number.isSafeInteger(size) &&
      hva >= 0 &&
      size > 0 &&
      hva + size <= length
    ) {
      return this.base + hva;
    }
    throw new NvmmError(
      verb,
      'EINVAL',
      `host range ${hva} + ${size} is not inside the ${length} bytes of memory`,
    );
  }

  private require(verb: string, result: number): void {
    if (result !== 0) throw lastError(this.library, verb);
  }
}

function addressOf(machine: Machine): number {
  if (machine instanceof LibMachine) return machine.address;
  throw new NvmmError('machine', 'EINVAL', `machine ${machine.machid} belongs to another backend`);
}

function own(vcpu: Vcpu | VcpuHandle): LibVcpu {
  if (vcpu instanceof LibVcpu) return vcpu;
  throw new NvmmError('vcpu', 'EINVAL', `vCPU ${vcpu.cpuid} belongs to another backend`);
}

/** The original ends the process when the kernel refuses a map: what it would refuse never gets there. */
function checkGuest(verb: string, gpa: number, size: number): void {
  const aligned = gpa % Limit.PAGE === 0 && size % Limit.PAGE === 0;
  if (aligned && gpa >= 0 && gpa + size <= Limit.MAX_RAM) return;
  throw new NvmmError(verb, 'EINVAL', `guest range 0x${gpa.toString(16)} + ${size} is unaligned or too high`);
}

/** struct nvmm_vcpu_conf_debug of our libnvmm for Linux. */
function debugBytes({ step, breakpoints, watchpoints, exceptions }: DebugConf): Uint8Array<ArrayBuffer> {
  const count = breakpoints.length + watchpoints.length;
  if (count > DEBUG_CONF.POINTS) {
    const why = `the processor has four debug registers: ${count} breakpoints and watchpoints don't fit`;
    throw new NvmmError('nvmm_vcpu_configure', 'ENOBUFS', `${why}; the emulated backend takes any number`);
  }
  const bytes = new Uint8Array(DEBUG_CONF.SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(DEBUG_CONF.STEP, step ? 1 : 0, true);
  view.setUint32(DEBUG_CONF.EXCEPTIONS, exceptions, true);
  view.setUint32(DEBUG_CONF.COUNT, count, true);
  const put = (n: number, index: number, address: bigint, length: number, accesses: number): void => {
    const at = DEBUG_CONF.FIRST + n * DEBUG_CONF.POINT_SIZE;
    view.setBigUint64(at, address, true);
    view.setBigUint64(at + 8, BigInt(length), true);
    view.setUint32(at + 16, index, true);
    view.setUint16(at + 20, accesses, true);
  };
  breakpoints.forEach((address, index) => put(index, index, address, 0, 0));
  watchpoints.forEach(({ address, length, read, write }, index) =>
    put(breakpoints.length + index, index, address, length, (read ? 1 : 0) | (write ? 0x100 : 0)),
  );
  return bytes;
}

function cpuidBytes(conf: CpuidConf): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CPUID_CONF_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (conf.mask ? 1 : 0) | (conf.exit ? 2 : 0), true);
  view.setUint32(4, conf.leaf, true);
  [conf.set, conf.del].forEach(({ eax, ebx, ecx, edx }, at) => {
    [eax, ebx, ecx, edx].forEach((value, i) => view.setUint32(8 + 16 * at + 4 * i, value, true));
  });
  return bytes;
}
