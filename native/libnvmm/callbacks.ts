import type { Machine } from '../../main/nvmm/nvmm.ts';
import type { Library } from './library.ts';
import type { LibVcpu } from './vcpu.ts';

/** The vCPU whose assist a thread is in, and its machine. */
interface Current {
  machine: Machine | null;
  vcpu: LibVcpu | null;
}

/** Turns the C calls that the assists make into calls of the vCPU's callbacks. One for each thread. */
export class CallbackBridge {
  /** Function pointers for struct nvmm_assist_callbacks. */
  readonly ioAddress: number;
  readonly memAddress: number;
  private current: Current = { machine: null, vcpu: null };

  constructor(library: Library) {
    this.ioAddress = library.callback((address) => this.onIo(address));
    this.memAddress = library.callback((address) => this.onMem(address));
  }

  /** Before an assist. What it gives is for `leave`. */
  enter(machine: Machine, vcpu: LibVcpu): Current {
    const outer = this.current;
    this.current = { machine, vcpu };
    vcpu.thrown = null;
    vcpu.changed(false);
    return outer;
  }

  /** After the assist; what a callback has thrown comes out here. */
  leave(outer: Current): void {
    const { vcpu } = this.current;
    this.current = outer;
    vcpu!.changed(false);
    if (vcpu!.thrown !== null) throw vcpu!.thrown.error;
  }

  private onIo(address: number): void {
    const { machine, vcpu } = this.current;
    // After the first throw the rest of the instruction gets zeroes.
    if (vcpu === null || vcpu.thrown !== null) return;
    try {
      const access = vcpu.takeIo(address);
      access.machine = machine!;
      vcpu.callbacks.io?.(access);
      vcpu.giveIo();
    } catch (error) {
      vcpu.thrown = { error };
    }
  }

  private onMem(address: number): void {
    const { machine, vcpu } = this.current;
    if (vcpu === null || vcpu.thrown !== null) return;
    try {
      const access = vcpu.takeMem(address);
      access.machine = machine!;
      vcpu.callbacks.mem?.(access);
      vcpu.giveMem();
    } catch (error) {
      vcpu.thrown = { error };
    }
  }
}
