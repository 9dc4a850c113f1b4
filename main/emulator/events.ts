import { DebugKind, Exit } from '../nvmm/constants.ts';
import { Eflags } from './cpu.ts';
import { stopFor } from './exit-record.ts';
import { GuestExit, GuestFault, hasErrorCode, Vector } from './fault.ts';
import { DELIVER } from './generate/integer/exceptions.ts';
import type { Processor } from './processor.ts';
import { Field } from './state.ts';
import { deliver, type EventSource } from './system/interrupts.ts';

/** Injected or raised exceptions that do not set RF in the saved flags (nvmm.md 6.7). */
const WITHOUT_RF: ReadonlySet<number> = new Set([Vector.DB, Vector.OF, Vector.DF, Vector.MC, Vector.BP]);
const CONTRIBUTORY: ReadonlySet<number> = new Set([0, 10, 11, 12, 13]);

interface PendingEvent {
  vector: number;
  /** -1: none is pushed. */
  error: number;
  source: EventSource;
  resume: boolean;
  /** A debugger has been told of it already. */
  announced?: boolean;
}

/** Exceptions and injected events of a processor, on their way through the IDT. */
export class Events {
  private readonly p: Processor;
  private readonly quick32: (...numbers: number[]) => number;
  private readonly quick64: (...numbers: number[]) => number;
  /** An event whose delivery was interrupted by an exit, or that was injected and waits for the run. */
  private pending: PendingEvent | null = null;

  constructor(p: Processor) {
    this.p = p;
    this.quick32 = p.handlers.routine(DELIVER[32]);
    this.quick64 = p.handlers.routine(DELIVER[64]);
  }

  get waits(): boolean {
    return this.pending !== null;
  }

  /** Raises an exception at RIP; false when the machine shuts down or an exit came in between. */
  raise(vector: number, error: number): boolean {
    const code = hasErrorCode(vector) ? error : -1;
    const resume = !WITHOUT_RF.has(vector) || vector === Vector.DB;
    if (this.deliverQuickly(vector, code, resume)) return true;
    return this.deliverEvent({ vector, error: code, source: 'exception', resume });
  }

  /** What nobody looks at is delivered by generated code, if that can do it. */
  private deliverQuickly(vector: number, error: number, resume: boolean): boolean {
    const { cpu, inspector, debug, isStepping } = this.p;
    if (inspector.exceptions !== 0 || inspector.recording || debug.active || isStepping) return false;
    const quick = cpu.code64 ? this.quick64 : this.quick32;
    return quick(cpu.s, vector, error, resume ? Eflags.RF : 0) !== 0;
  }

  trap(vector: number): boolean {
    return this.deliverEvent({ vector, error: -1, source: 'exception', resume: false });
  }

  /** Takes an injected event: it is delivered when the run begins. */
  inject(vector: number, error: number, source: EventSource): void {
    this.pending = {
      vector,
      error: source === 'exception' && hasErrorCode(vector) ? error : -1,
      source,
      resume: source === 'exception' && !WITHOUT_RF.has(vector),
    };
  }

  /** Delivers what waits. */
  deliverPending(): boolean {
    const event = this.pending!;
    this.pending = null;
    if (event.source === 'external' && event.vector === Vector.NMI) this.p.nmiBlocked = true;
    return this.deliverEvent(event);
  }

  /** Delivers, with what follows from faults on the way (SDM vol. 3, 6.15, interrupt 8). */
  private deliverEvent(first: PendingEvent): boolean {
    let event = first;
    for (;;) {
      if (this.announces(event)) return false;
      try {
        deliver(this.p, event.vector, event.error, event.source, event.resume);
        this.p.cpu.set(Field.LINK_FROM, 0);
        return true;
      } catch (reason) {
        if (reason instanceof GuestExit) {
          this.pending = event;
          return false;
        }
        if (!(reason instanceof GuestFault)) throw reason;
        const next = combine(event, reason);
        if (next === null) {
          this.p.exit.reason = Exit.SHUTDOWN;
          return false;
        }
        event = next;
      }
    }
  }

  /** Whether a debugger is told before this event is delivered: the exit is recorded, and the event waits. */
  private announces(event: PendingEvent): boolean {
    const { inspector, exit } = this.p;
    const { exceptions } = inspector;
    if (exceptions === 0 || event.source !== 'exception' || event.announced) return false;
    if (((exceptions >>> event.vector) & 1) === 0) return false;
    this.pending = { ...event, announced: true };
    stopFor(exit, DebugKind.EXCEPTION, 0, inspector.codeAddress, false);
    exit.vector = event.vector;
    exit.error = event.error;
    return true;
  }
}

/** What a fault during the delivery of an event leads to: the fault, a double fault, or null for shutdown. */
function combine(event: PendingEvent, fault: GuestFault): PendingEvent | null {
  const second: PendingEvent = {
    vector: fault.vector,
    error: hasErrorCode(fault.vector) ? fault.error : -1,
    source: 'exception',
    resume: true,
  };
  if (event.source !== 'exception') return second;
  if (event.vector === Vector.DF) return null;
  const contributes = CONTRIBUTORY.has(fault.vector) || fault.vector === Vector.PF;
  const double =
    (CONTRIBUTORY.has(event.vector) && CONTRIBUTORY.has(fault.vector)) ||
    (event.vector === Vector.PF && contributes);
  return double ? { vector: Vector.DF, error: 0, source: 'exception', resume: false } : second;
}
