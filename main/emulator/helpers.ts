/**
 * Instructions that TypeScript carries out: those that change the machine's mode, talk to the world outside
 * the processor, or are too rare to be worth generated code. The number is what generated code passes.
 */
export const HELPERS = [
  // I/O and exits
  'in',
  'out',
  'ins',
  'outs',
  'hlt',
  'monitor',
  'mwait',
  'cpuid',
  'rdmsr',
  'wrmsr',
  'rdtsc',
  'rdtscp',
  'rdpmc',
  'rdrand',
  'rdseed',
  // Flags
  'popf',
  // Segments
  'loadSegment',
  'moveToSegment',
  'popSegment',
  'lldt',
  'ltr',
  'lgdt',
  'lidt',
  'lar',
  'lsl',
  'verr',
  'verw',
  // Control registers
  'movFromControl',
  'movToControl',
  'movFromDebug',
  'movToDebug',
  'lmsw',
  'clts',
  'invlpg',
  'invpcid',
  'flushCaches',
  'xgetbv',
  'xsetbv',
  // Far transfers
  'farJump',
  'farCall',
  'farReturn',
  'interrupt',
  'interruptReturn',
  'syscall',
  'sysret',
  'sysenter',
  'sysexit',
  'enter',
  // Processor state images
  'fxsave',
  'fxrstor',
  'xsave',
  'xrstor',
] as const;
export type HelperName = (typeof HELPERS)[number];

const numbers = new Map(HELPERS.map((name, number) => [name, number]));

/** The number of a helper, as generated code passes it: with an argument (mostly the operand size in bits) above. */
export function helperNumber(name: HelperName, argument = 0): number {
  return numbers.get(name)! | (argument << 8);
}
