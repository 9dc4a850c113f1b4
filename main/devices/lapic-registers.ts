/**
 * Registers of the local APIC: Intel SDM vol. 3, 11.4.1 (table 11-1) and 11.12.1. They have one number whichever
 * way they are reached: an offset in the register page divided by 16, or an MSR minus 800h.
 */
import { DeliveryMode } from './apic-bus.ts';
import type { Layout, Registers } from './registers.ts';
import { NEVER } from './ticks.ts';

export const LVT_COUNT = 6;
export const LVT = { TIMER: 0, THERMAL: 1, PERFORMANCE: 2, LINT0: 3, LINT1: 4, ERROR: 5 } as const;
export const LVT_MASKED = 0x10000;

/** vCPU 0 is the bootstrap processor: its LINT0 is left as firmware does, open for the 8259s (virtual wire). */
export function lapicLayout(id: number) {
  const lint0 = id === 0 ? DeliveryMode.EXTINT << 8 : LVT_MASKED;
  const lint1 = id === 0 ? DeliveryMode.NMI << 8 : LVT_MASKED;
  const masked = LVT_MASKED;
  return {
    baseLow: { type: 'u32', reset: id === 0 ? 0xfee00900 : 0xfee00800, about: 'IA32_APIC_BASE, bits 0-31' },
    baseHigh: { type: 'u32', about: 'IA32_APIC_BASE, bits 32-63' },
    tpr: { type: 'u8', about: '080h task priority' },
    ldr: { type: 'u8', about: '0D0h logical id (xAPIC), bits 24-31' },
    dfr: { type: 'u32', reset: 0xffffffff, about: '0E0h destination format: Fh flat, 0h cluster' },
    svr: { type: 'u32', reset: 0xff, about: '0F0h spurious vector; bit 8 enabled, bit 12 no EOI broadcast' },
    isr: { type: 'u32', count: 8, about: '100h-170h in service' },
    tmr: { type: 'u32', count: 8, about: '180h-1F0h level-triggered' },
    irr: { type: 'u32', count: 8, about: '200h-270h requested' },
    esr: { type: 'u32', about: '280h errors, as latched by the last write' },
    errors: { type: 'u32', about: 'errors since then' },
    icrLow: { type: 'u32', about: '300h interrupt command' },
    icrHigh: { type: 'u32', about: '310h its destination' },
    lvt: {
      type: 'u32',
      count: LVT_COUNT,
      reset: [masked, masked, masked, lint0, lint1, masked],
      about: '320h-370h local vectors: timer, thermal, performance, LINT0, LINT1, error',
    },
    initialCount: { type: 'u32', about: '380h timer: count that it starts from' },
    divide: { type: 'u32', about: '3E0h timer: divider' },
    timerStart: { type: 'f64', about: 'when the initial count was written, in ns' },
    deadline: { type: 'f64', reset: NEVER, about: 'when the timer ends next, in ns' },
    tscLow: { type: 'u32', about: 'IA32_TSC_DEADLINE, bits 0-31' },
    tscHigh: { type: 'u32', about: 'IA32_TSC_DEADLINE, bits 32-63' },
    lint: { type: 'u8', count: 2, about: 'levels of LINT0 and LINT1' },
    extInt: { type: 'u8', about: 'an ExtINT message waits for the 8259s to be asked' },
    nmi: { type: 'u8', about: 'an NMI waits' },
    init: { type: 'u8', about: 'an INIT waits' },
    sipi: { type: 'i32', reset: -1, about: 'vector of a start-up message that waits; -1: none' },
    waiting: { type: 'u8', reset: id === 0 ? 0 : 1, about: 'the processor waits for a start-up message' },
  } as const satisfies Layout;
}

export const MSR = { BASE: 0x1b, TSC_DEADLINE: 0x6e0, X2APIC: 0x800 } as const;
export const BASE = { BSP: 0x100, X2APIC: 0x400, ENABLED: 0x800, RESERVED: 0x2ff } as const;
export const REG = {
  ID: 0x02,
  VERSION: 0x03,
  TPR: 0x08,
  APR: 0x09,
  PPR: 0x0a,
  EOI: 0x0b,
  RRD: 0x0c,
  LDR: 0x0d,
  DFR: 0x0e,
  SVR: 0x0f,
  ISR: 0x10,
  TMR: 0x18,
  IRR: 0x20,
  ESR: 0x28,
  ICR_LOW: 0x30,
  ICR_HIGH: 0x31,
  LVT: 0x32,
  INITIAL_COUNT: 0x38,
  CURRENT_COUNT: 0x39,
  DIVIDE: 0x3e,
  SELF_IPI: 0x3f,
} as const;
/** Version 14h, six local vectors, EOI broadcasts can be suppressed. */
export const VERSION = (1 << 24) | ((LVT_COUNT - 1) << 16) | 0x14;
export const SVR = { ENABLED: 0x100, NO_BROADCAST: 0x1000, WRITABLE: 0x13ff } as const;
export const ERROR = { SEND_VECTOR: 0x20, RECEIVE_VECTOR: 0x40, REGISTER: 0x80 } as const;
export const REMOTE_IRR = 1 << 14;
export const LEVEL = 1 << 15;
export const LVT_WRITABLE = [0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff] as const;
/** Delivery status and remote IRR, which may be written with anything. */
export const LVT_READ_ONLY = 0x5000;
export const ICR_WRITABLE = 0xccfff;

export type LapicRegisters = Registers<ReturnType<typeof lapicLayout>>;

/** Registers that can be read in both modes. */
export function isReadable(index: number): boolean {
  if (index >= REG.ISR && index < REG.ESR) return true;
  if (index >= REG.LVT && index <= REG.CURRENT_COUNT) return true;
  switch (index) {
    case REG.ID:
    case REG.VERSION:
    case REG.TPR:
    case REG.PPR:
    case REG.LDR:
    case REG.SVR:
    case REG.ESR:
    case REG.ICR_LOW:
    case REG.DIVIDE:
      return true;
  }
  return false;
}

/** x2APIC: whether a register can be written and none of its reserved bits is set. */
export function isValid(index: number, value: number): boolean {
  if (index >= REG.LVT && index < REG.LVT + LVT_COUNT) {
    return (value & ~(LVT_WRITABLE[index - REG.LVT] | LVT_READ_ONLY)) === 0;
  }
  switch (index) {
    case REG.TPR:
    case REG.SELF_IPI:
      return (value & ~0xff) === 0;
    case REG.EOI:
    case REG.ESR:
      return value === 0;
    case REG.SVR:
      return (value & ~SVR.WRITABLE) === 0;
    case REG.INITIAL_COUNT:
      return true;
    case REG.DIVIDE:
      return (value & ~0x0b) === 0;
  }
  return false;
}
