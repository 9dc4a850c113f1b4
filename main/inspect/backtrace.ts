import { Gpr } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import type { CodeSize } from './disassembly.ts';
import { codeSizeOf } from './disassembly.ts';

/** Frames at most: a runaway recursion is told by fewer. */
export const FRAMES_MAXIMUM = 256;
/** A frame that is larger than this is no frame: the chain has run into something else. */
const FRAME_MAXIMUM = 2n ** 24n;

export interface Frame {
  /** Where it is executing, or will return to. */
  address: bigint;
  /** Its frame pointer, where the caller's is saved. */
  frame: bigint;
}

export interface Backtrace {
  frames: Frame[];
  /** Why it ends where it does. */
  end: string;
}

/** Reads linear memory as a data access would; shorter where nothing is mapped. */
export type ReadStack = (address: bigint, length: number) => Promise<Uint8Array>;

const BYTES: Record<CodeSize, number> = { 16: 2, 32: 4, 64: 8 };

/**
 * The callers of the code at RIP, by the chain of frame pointers in RBP: at each, the caller's frame pointer, and above
 * it the return address. The stack is the guest's, and may hold anything: the chain must go up, in sensible steps.
 */
export async function backtrace(state: VcpuState, stackBase: bigint, read: ReadStack): Promise<Backtrace> {
  const size = codeSizeOf(state);
  const bytes = BYTES[size];
  const mask = (1n << BigInt(8 * bytes)) - 1n;
  const frames: Frame[] = [{ address: state.rip, frame: state.gpr(Gpr.RBP) & mask }];
  let frame = state.gpr(Gpr.RBP) & mask;
  const done = (end: string): Backtrace => ({ frames, end });
  while (frames.length < FRAMES_MAXIMUM) {
    if (frame === 0n) return done('The frame pointer is 0: the outermost function.');
    const memory = await read(BigInt.asUintN(size === 64 ? 64 : 32, stackBase + frame), 2 * bytes);
    if (memory.length < 2 * bytes) {
      return done(`Nothing is mapped at the frame pointer 0x${frame.toString(16)}.`);
    }
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    const word = (at: number): bigint =>
      size === 64
        ? view.getBigUint64(at, true)
        : BigInt(size === 32 ? view.getUint32(at, true) : view.getUint16(at, true));
    const next = word(0);
    const address = word(bytes);
    if (address === 0n) return done('The return address is 0: the outermost function.');
    frames.push({ address, frame: next });
    if (next === 0n) return done('The frame pointer is 0: the outermost function.');
    if (next <= frame) {
      return done(`The chain of frame pointers goes back, to 0x${next.toString(16)}: a loop.`);
    }
    if (next - frame > FRAME_MAXIMUM) {
      return done(
        `The next frame pointer, 0x${next.toString(16)}, is too far: RBP is no frame pointer there.`,
      );
    }
    frame = next;
  }
  return done(`${FRAMES_MAXIMUM} frames: the rest is left out.`);
}
