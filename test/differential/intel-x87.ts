import { Code } from 'iced-x86';
import { CODE, Fxsave } from './case.ts';
import type { Found } from './inspect.ts';
import { instructionAt, isAccessFault, isPending, partsWithin, windowAfter } from './tolerance.ts';
import type { Context, Part } from './tolerance.ts';
import { imagesIn, storesImage } from './x87-images.ts';

/** Where Intel's processors have their own way with the x87: what the entries in tolerances-intel.ts look at. */

const LOADS_CONTROL = new Set('fldcw fldenv frstor fxrstor fxrstor64'.split(' '));

/** Which of FOP and FDP must be those of the instruction at `fip`, while an exception is pending. */
function pointersThatCount(context: Context, fip: bigint): { opcode: boolean; data: boolean } {
  // An exception that a control word has unmasked is none that the instruction has "incurred".
  const incurred = !context.instructions.some((one) => LOADS_CONTROL.has(one.mnemonic));
  const at = instructionAt(context, fip);
  return { opcode: incurred, data: incurred && (at === undefined || at.memory) };
}

/** Names of the pointers in the registers that do not count. */
export function pointerRegisters(context: Context): string[] {
  const { native } = context;
  if (!isPending(native.fxsave, Fxsave.FSW)) return ['fop', 'fdp'];
  const view = new DataView(native.fxsave.buffer, native.fxsave.byteOffset);
  const counts = pointersThatCount(context, view.getBigUint64(Fxsave.FIP, true));
  return [...(counts.opcode ? [] : ['fop']), ...(counts.data ? [] : ['fdp'])];
}

/** Names of the parts of memory that differ in the pointers of images, where those do not count. */
export function pointersInMemory(context: Context): string[] {
  const codes = context.instructions.map((one) => one.code).filter(storesImage);
  if (codes.length === 0) return [];
  const a = windowAfter(context.native, context.made);
  const b = windowAfter(context.other, context.made);
  const allowed = new Set<number>();
  const add = (from: number, bytes: number): void => {
    for (let i = 0; i < bytes; i++) allowed.add(from + i);
  };
  for (const image of imagesIn(codes, a, b)) {
    const pending = isPending(a, image.status);
    const low = a[image.instruction] | (a[image.instruction + 1] << 8);
    const counts = pointersThatCount(context, BigInt(CODE + low));
    if (image.opcode >= 0 && !(pending && counts.opcode)) add(image.opcode, 2);
    if (!(pending && counts.data)) add(image.data, image.bytes);
    // FNSTENV and FNSAVE have it always, FXSAVE on Intel's processors alone.
    if (!pending && image.bytes === 8) add(image.instruction, 8);
  }
  return partsWithin(allowed, a, b);
}

const X87_STORES = /^(fst|fstp|fist|fistp|fisttp|fbstp)$/;
/** These run while an exception is pending, and take it away. */
const NO_WAIT = new Set('fninit fnclex fnsave fnstenv'.split(' '));
const MASKS = 0x3f;

/** A store that faults in the emulator, and whose unmasked exception came before that on the processor. */
export function exceptionWasFirst(context: Context): boolean {
  const { native, other, instructions } = context;
  const at = instructionAt(context, other.rip);
  const store = isAccessFault(other.vector) && X87_STORES.test(at?.mnemonic ?? '');
  if (!store || native.rip === other.rip || (other.fxsave[Fxsave.FCW] & MASKS) === MASKS) return false;
  const fip = new DataView(native.fxsave.buffer, native.fxsave.byteOffset).getBigUint64(Fxsave.FIP, true);
  const taken = instructions.some((one) => NO_WAIT.has(one.mnemonic));
  return taken || (isPending(native.fxsave, Fxsave.FSW) && fip === other.rip);
}

const MMX_STORES = new Set([Code.Movd_rm32_mm, Code.Movq_rm64_mm, Code.Movq_mmm64_mm, Code.Movntq_m64_mm]);
const TOP = 0x3800;
const REGISTERS = 8;

/** A faulting store of an MMX register has left TOP = 0 and everything else alone: what that changes. */
export function topOfMmxStore(context: Context): Part | undefined {
  const { native, other } = context;
  const at: Found | undefined = instructionAt(context, native.rip);
  const same = native.rip === other.rip && native.vector === other.vector && isAccessFault(native.vector);
  if (!same || !MMX_STORES.has(at?.code ?? Code.INVALID)) return undefined;
  if ((native.fxsave[Fxsave.FSW + 1] & (TOP >> 8)) !== 0) return undefined;
  // The image has the registers from ST(0) on, and which one that is has changed.
  const top = (other.fxsave[Fxsave.FSW + 1] >> 3) & 7;
  const register = (image: Uint8Array, i: number): Uint8Array =>
    image.subarray(Fxsave.ST + 16 * i, Fxsave.ST + 16 * i + 10);
  const indices = [...Array(REGISTERS).keys()];
  const rotated = indices.every(
    (i) => Buffer.compare(register(native.fxsave, (i + top) % REGISTERS), register(other.fxsave, i)) === 0,
  );
  return rotated ? { fsw: TOP, parts: indices.map((i) => `st${i}`) } : { fsw: TOP };
}
