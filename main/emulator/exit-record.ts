import { Exit } from '../nvmm/constants.ts';

/** An exit as the processor finds it; the driver writes it into the nvmm_vcpu_exit. */
export interface ExitRecord {
  reason: number;
  gpa: number;
  prot: number;
  in: boolean;
  port: number;
  segment: number;
  /** Bytes. */
  addressSize: number;
  operandSize: number;
  rep: boolean;
  string: boolean;
  msr: number;
  valueLow: number;
  valueHigh: number;
  /** Address of the next instruction. */
  nextLow: number;
  nextHigh: number;
  hwcode: number;
  /** DEBUG: see VcpuExit. */
  kind: number;
  index: number;
  address: number;
  write: boolean;
  vector: number;
  error: number;
}

export function noExit(): ExitRecord {
  return {
    reason: Exit.NONE,
    gpa: 0,
    prot: 0,
    in: false,
    port: 0,
    segment: 0,
    addressSize: 0,
    operandSize: 0,
    rep: false,
    string: false,
    msr: 0,
    valueLow: 0,
    valueHigh: 0,
    nextLow: 0,
    nextHigh: 0,
    hwcode: 0,
    kind: 0,
    index: 0,
    address: 0,
    write: false,
    vector: 0,
    error: -1,
  };
}

/** Records a stop for a debugger (VcpuExit.kind and so on). */
export function stopFor(
  exit: ExitRecord,
  kind: number,
  index: number,
  address: number,
  write: boolean,
): void {
  exit.reason = Exit.DEBUG;
  exit.kind = kind;
  exit.index = index;
  exit.address = address;
  exit.write = write;
  exit.vector = 0;
  exit.error = -1;
}
