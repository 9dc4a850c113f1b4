/**
 * What a debugger and a machine say to each other. 64-bit addresses are bigints here, and hexadecimal text in the
 * contract of the front ends.
 */

export type Access = 'read' | 'write' | 'access';

/** What makes a machine stop. Addresses of `execute` and `watch` are linear. */
export type Breakpoint =
  /** Before the instruction at the address. */
  | { kind: 'execute'; address: bigint }
  /** After an instruction that touched one of `length` bytes. */
  | { kind: 'watch'; address: bigint; length: number; access: Access }
  /** At exits of this reason (a name of Exit): before a port, memory or MSR is touched, after anything else. */
  | { kind: 'exit'; reason: string }
  /** Before an access to one of the ports. */
  | { kind: 'port'; first: number; last: number; direction: 'in' | 'out' | 'both' }
  /** Before an access to an MSR that is Vitrine's to answer. */
  | { kind: 'msr'; index: number; access: Access }
  /** Before an exception is delivered. */
  | { kind: 'exception'; vector: number }
  /** When the guest has died: the machine stays as it is. */
  | { kind: 'triple-fault' };

/** A breakpoint that is set. */
export interface SetBreakpoint {
  id: number;
  breakpoint: Breakpoint;
  /** It goes when the machine stops, whatever for. */
  once: boolean;
  hits: number;
}

export type StopReason =
  | 'step'
  | 'breakpoint'
  | 'watchpoint'
  | 'exit'
  | 'port'
  | 'msr'
  | 'exception'
  | 'triple-fault'
  | 'pause'
  | 'halted';

/** Why a vCPU stands still, and where. */
export interface Stop {
  vcpu: number;
  reason: StopReason;
  /** The breakpoint's number. */
  id?: number;
  rip: bigint;
  /** `watchpoint`: linear address of the access; `port`: the port; `msr`: its index. */
  address?: bigint;
  access?: 'read' | 'write';
  vector?: number;
  /** Error code of the exception, if it has one. */
  error?: number;
  /** Name of the exit. */
  exit?: string;
  /** One sentence for people. */
  message: string;
}
