import type { DeviceNames } from '../devices/device-names.ts';
import { EventType, Exit, Prot } from '../nvmm/constants.ts';
import { address, DIRECTIONS, exitName, NOBODYS_NAME } from './exit-names.ts';
import { eventOf, Flag, type ExitRecord } from './exit-trace.ts';

/** One exit as programs and people get it. 64-bit values are text: 0x and hexadecimal digits. */
export interface ExitInfo {
  /** Records of a vCPU count from 0; the oldest go when there are a million. */
  number: number;
  vcpu: number;
  /** Counts resets, restores and changes of the backend: the machine's clock may have gone back. */
  run: number;
  /** ns on the machine's clock when the guest had left. */
  time: number;
  /** Instructions that the vCPU has retired before this one, where the backend counts them. */
  instructions?: number;
  /** One of Exit, by name. */
  reason: string;
  rip: string;
  port?: number;
  /** Guest-physical address. */
  gpa?: number;
  msr?: number;
  /** Bytes of one access. */
  size?: number;
  /** IN and RDMSR read, OUT and WRMSR write. */
  direction?: 'read' | 'write' | 'fetch';
  /** What was read or written; of several accesses to a port the first eight bytes, the first one lowest. */
  value?: string;
  /** The device that answered, or "nobody". */
  device?: string;
  /** Accesses that this stands for, when it is not one: string instructions on ports. */
  accesses?: number;
  /** Another access of the instruction that the record before is about. */
  continued?: true;
  /** The guest got an exception for it. */
  fault?: true;
  /** The backend could not run the instruction: our emulator did. */
  emulated?: true;
  /** The backend completed the access in place, and the guest did not leave. */
  inPlace?: true;
  /** The event injected last since the record before. */
  event?: { type: 'interrupt' | 'exception'; vector: number };
  /** ns until the vCPU entered the guest again, once it has; halted, that is how long it slept. */
  duration?: number;
}

export function exitInfo(number: number, vcpu: number, record: ExitRecord, names: DeviceNames): ExitInfo {
  const { reason, direction, accesses, flags } = record;
  const info: ExitInfo = {
    number,
    vcpu,
    run: record.run,
    time: Math.round(record.time),
    reason: exitName(reason),
    rip: address(record.ripLow, record.ripHigh),
  };
  if (record.instructions >= 0) info.instructions = record.instructions;
  if (reason === Exit.IO) info.port = record.where;
  else if (reason === Exit.MEMORY) info.gpa = record.where;
  else if (record.where >= 0) info.msr = record.where;
  if (record.size > 0) info.size = record.size;
  if (direction === Prot.READ || direction === Prot.WRITE || direction === Prot.EXEC) {
    info.direction = DIRECTIONS[direction];
  }
  if ((flags & Flag.VALUE) !== 0) info.value = address(record.valueLow, record.valueHigh);
  if (accesses > 0) info.device = names.name(record.device) || NOBODYS_NAME;
  if (accesses > 1) info.accesses = accesses;
  if ((flags & Flag.CONTINUED) !== 0) info.continued = true;
  if ((flags & Flag.FAULT) !== 0) info.fault = true;
  if ((flags & Flag.EMULATED) !== 0) info.emulated = true;
  if ((flags & Flag.IN_PLACE) !== 0) info.inPlace = true;
  const event = eventOf(record);
  if (event !== null) {
    info.event = { type: event.type === EventType.INTR ? 'interrupt' : 'exception', vector: event.vector };
  }
  if (record.duration >= 0) info.duration = Math.round(record.duration);
  return info;
}
