import type { Breakpoint, SetBreakpoint, Stop } from '../machine/debug.ts';
import type { MachineProcess } from '../machine/machine-process.ts';
import type { MachineStatus } from '../machine/protocol.ts';
import { MEMORY_PIECE } from '../machine/protocol.ts';
import { Gpr, Limit } from '../nvmm/constants.ts';
import { VcpuState } from '../nvmm/layout.ts';
import type { Disassembled } from './disassembly.ts';
import { codeLinear, codeSizeOf, disassemble, LONGEST_INSTRUCTION, ripLinear } from './disassembly.ts';
import { translatePage } from './linear.ts';

/** A running machine, as far as a debugger needs it: a MachineProcess is one. */
export type DebugPort = Pick<MachineProcess, 'status' | 'onStatus' | 'ask' | 'pause' | 'resume'>;

/** Steps of one stepOut before it gives up: a function that loops this long is better left by a breakpoint. */
const STEP_OUT_LIMIT = 1_000_000;

/** The machine came to its end, or was never on, while somebody waited for it to stop. */
export class TargetGoneError extends Error {
  constructor(status: MachineStatus) {
    super(`The machine is ${status.state}${status.message === undefined ? '.' : `: ${status.message}`}`);
    this.name = 'TargetGoneError';
  }
}

/** Where going back has ended. */
export interface Reversed {
  stop: Stop;
  begin?: true;
}

/** One VM under a debugger. Everything but pause, add and remove wants the machine to be paused or crashed. */
export class DebugTarget {
  readonly port: DebugPort;
  readonly vcpus: number;

  /** Present where the machine keeps a history. `begin`: it begins there. */
  readonly reverse: { step(vcpu: number): Promise<Reversed>; goOn(): Promise<Reversed> } | undefined;

  constructor(port: DebugPort, vcpus: number, history = false) {
    this.port = port;
    this.vcpus = vcpus;
    if (!history) return;
    const back = async (to: 'step' | 'stop'): Promise<Reversed> => {
      const stop = await this.back(to);
      return stop.reason === 'pause' ? { stop, begin: true } : { stop };
    };
    this.reverse = { step: () => back('step'), goOn: () => back('stop') };
  }

  /** Goes back by an instruction, or to the last breakpoint, watchpoint hit or exit. Deterministic machines only. */
  back(to: 'step' | 'stop'): Promise<Stop> {
    return this.port.ask('debug.back', { to });
  }

  get status(): MachineStatus {
    return this.port.status;
  }

  // ---- Registers and memory -----------------------------------------------------------------------------

  async readState(vcpu: number): Promise<VcpuState> {
    return new VcpuState(await this.port.ask('vcpu.read', { vcpu }));
  }

  /** Changes the areas that `flags` (State) names. */
  async writeState(vcpu: number, flags: number, state: VcpuState): Promise<void> {
    await this.port.ask('vcpu.write', { vcpu, flags, state: state.bytes });
  }

  /** Guest-physical memory: shorter than asked where RAM ends. */
  async readPhysical(gpa: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const piece = Math.min(length - done, MEMORY_PIECE);
      const got = await this.port.ask('memory.read', { gpa: gpa + done, length: piece });
      bytes.set(got, done);
      done += got.length;
      if (got.length < piece) return bytes.subarray(0, done);
    }
    return bytes;
  }

  async writePhysical(gpa: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; done += MEMORY_PIECE) {
      await this.port.ask('memory.write', {
        gpa: gpa + done,
        bytes: bytes.slice(done, done + MEMORY_PIECE),
      });
    }
  }

  /** Memory at a linear address, as the vCPU's page tables map it: shorter than asked where they don't. */
  async readLinear(vcpu: number, address: bigint, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const { gpa, size } of await this.pieces(vcpu, address, length)) {
      const got = await this.readPhysical(gpa, size);
      bytes.set(got, done);
      done += got.length;
      if (got.length < size) break;
    }
    return bytes.subarray(0, done);
  }

  /** Writes as far as memory is mapped, whatever its protection, and says how many bytes. */
  async writeLinear(vcpu: number, address: bigint, bytes: Uint8Array): Promise<number> {
    let done = 0;
    for (const { gpa, size } of await this.pieces(vcpu, address, bytes.length)) {
      await this.writePhysical(gpa, bytes.subarray(done, done + size));
      done += size;
    }
    return done;
  }

  /** Where the pages of a linear range are, up to the first that is not mapped. */
  private async pieces(
    vcpu: number,
    address: bigint,
    length: number,
  ): Promise<{ gpa: number; size: number }[]> {
    const state = await this.readState(vcpu);
    const pieces: { gpa: number; size: number }[] = [];
    for (let done = 0; done < length;) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const gpa = await translatePage(state, at, (table) => this.readWord(table));
      if (gpa === null) break;
      const size = Math.min(length - done, Limit.PAGE - (gpa % Limit.PAGE));
      pieces.push({ gpa, size });
      done += size;
    }
    return pieces;
  }

  /** An aligned 32-bit word of guest-physical memory; null where there is no RAM. */
  async readWord(gpa: number): Promise<number | null> {
    const bytes = await this.port.ask('memory.read', { gpa, length: 4 });
    return bytes.length < 4 ? null : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  // ---- Running ------------------------------------------------------------------------------------------

  async resume(): Promise<void> {
    await this.port.resume();
  }

  async pause(): Promise<Stop> {
    await this.port.pause();
    return this.stopOf(this.port.status);
  }

  /** The stop that the machine is at, or comes to. Rejects with TargetGoneError when it ends. */
  waitForStop(): Promise<Stop> {
    return new Promise((resolve, reject) => {
      let end = (): void => undefined;
      const look = (status: MachineStatus): boolean => {
        if (status.state === 'paused' || status.state === 'crashed') resolve(this.stopOf(status));
        else if (status.state === 'off' || status.state === 'failed') reject(new TargetGoneError(status));
        else return false;
        end();
        return true;
      };
      if (!look(this.port.status)) end = this.port.onStatus(look);
    });
  }

  /** Lets the machine go on, and waits for its next stop. */
  async goOn(): Promise<Stop> {
    await this.port.resume();
    return this.waitForStop();
  }

  private stopOf({ stop, message }: MachineStatus): Stop {
    return stop ?? { vcpu: 0, reason: 'pause', rip: 0n, message: message ?? 'Paused.' };
  }

  /** Executes one instruction of a vCPU, or so many. */
  step(vcpu: number, count = 1): Promise<Stop> {
    return this.port.ask('debug.step', { vcpu, count });
  }

  /** Runs the machine until some vCPU is about to execute an address. */
  async runTo(address: bigint): Promise<Stop> {
    await this.add({ kind: 'execute', address }, { once: true });
    return this.goOn();
  }

  /**
   * Steps; a CALL, an INT or a repeated string instruction is run as a whole, with all vCPUs. Ends at the instruction
   * behind it, in the same frame: a recursion that comes by deeper does not count.
   */
  async stepOver(vcpu: number): Promise<Stop> {
    const state = await this.readState(vcpu);
    const next = await this.behindCall(vcpu, state);
    if (next === null) return this.step(vcpu);
    const depth = state.gpr(Gpr.RSP);
    for (;;) {
      const stop = await this.runTo(next);
      if (stop.reason !== 'breakpoint' || stop.vcpu !== vcpu || stop.address !== next) return stop;
      if ((await this.readState(vcpu)).gpr(Gpr.RSP) >= depth) {
        return { ...stop, reason: 'step', message: `Stepped: now at 0x${stop.rip.toString(16)}.` };
      }
    }
  }

  /** Runs until the function that a vCPU is in has returned: to the instruction behind the call. */
  async stepOut(vcpu: number): Promise<Stop> {
    for (let steps = 0; steps < STEP_OUT_LIMIT; steps++) {
      const returns = await this.isReturn(vcpu);
      const stop = await this.stepOver(vcpu);
      if (returns || stop.reason !== 'step') return stop;
    }
    throw new Error(`No return within ${STEP_OUT_LIMIT} instructions: set a breakpoint where it should go.`);
  }

  /** The instruction at RIP; null when its bytes can't be read. */
  private async instruction(vcpu: number, state: VcpuState): Promise<Disassembled | null> {
    const bytes = await this.readLinear(vcpu, ripLinear(state), LONGEST_INSTRUCTION);
    return disassemble(bytes, codeSizeOf(state), state.gpr(Gpr.RIP), 1)[0] ?? null;
  }

  /** Linear address of what follows an instruction that is stepped over as a whole; null for others. */
  private async behindCall(vcpu: number, state: VcpuState): Promise<bigint | null> {
    const instruction = await this.instruction(vcpu, state);
    if (instruction === null || (instruction.flow !== 'call' && instruction.flow !== 'repeat')) return null;
    return codeLinear(state, instruction.address + BigInt(instruction.length));
  }

  private async isReturn(vcpu: number): Promise<boolean> {
    return (await this.instruction(vcpu, await this.readState(vcpu)))?.flow === 'return';
  }

  // ---- Breakpoints --------------------------------------------------------------------------------------

  add(breakpoint: Breakpoint, options: { once?: boolean } = {}): Promise<{ id: number; note?: string }> {
    return this.port.ask('debug.add', { breakpoint, ...options });
  }

  async remove(id: number): Promise<void> {
    await this.port.ask('debug.remove', { id });
  }

  list(): Promise<SetBreakpoint[]> {
    return this.port.ask('debug.list', null);
  }

  /** Tells of every stop, whoever asked for it. Returns what ends that. */
  onStop(listener: (stop: Stop) => void): () => void {
    return this.port.onStatus((status) => {
      if (status.stop !== undefined) listener(status.stop);
    });
  }
}
