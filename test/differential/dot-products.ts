import { Fxsave } from './case.ts';
import type { Context, Part } from './tolerance.ts';

/** What of a case may differ because DPPS or DPPD had to choose between NaNs. */

const NAMES = /^dpp[sd]$/;
const REGISTERS = [...Array(16).keys()];

/** Whether a register differs in lanes that are NaNs on both sides, and in nothing else. */
function differsInNaNs(a: Uint8Array, b: Uint8Array, register: number, mnemonic: string): boolean {
  const [one, two] = [a, b].map((image) => {
    const at = image.byteOffset + Fxsave.XMM + 16 * register;
    return new DataView(image.buffer, at, 16);
  });
  const bytes = mnemonic === 'dpps' ? 4 : 8;
  const real = (view: DataView, at: number): number =>
    bytes === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true);
  for (let at = 0; at < 16; at += bytes) {
    let same = true;
    for (let i = at; i < at + bytes; i++) same &&= one.getUint8(i) === two.getUint8(i);
    if (!same && !(Number.isNaN(real(one, at)) && Number.isNaN(real(two, at)))) return false;
  }
  return true;
}

export function otherNaNs({ native, other, instructions }: Context): Part | undefined {
  /** Registers with a dot product in them, and those with something made of one. */
  const products = new Map<number, string>();
  const derived = new Set<number>();
  for (const { mnemonic, xmm, flagsWritten } of instructions) {
    const reads = xmm.some((register) => products.has(register) || derived.has(register));
    const [to] = xmm;
    if (NAMES.test(mnemonic) && !reads) products.set(to, mnemonic);
    else if (reads && (to < 0 || flagsWritten !== 0)) return { everything: true };
    else if (reads) derived.add(to);
  }
  const parts = REGISTERS.filter((register) => {
    const mnemonic = products.get(register);
    if (derived.has(register)) return true;
    return mnemonic !== undefined && differsInNaNs(native.fxsave, other.fxsave, register, mnemonic);
  });
  return { parts: parts.map((register) => `xmm${register}`) };
}
