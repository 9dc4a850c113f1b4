import type { VcpuState } from '../../nvmm/layout.ts';
import { Limit } from '../../nvmm/constants.ts';
import type { DebugTarget } from '../target.ts';
import { translatePage } from '../linear.ts';
import { Errno, RemoteError } from './errors.ts';

/** Page-table pages that are kept: those of a stack, some code and some data. */
const KEPT_PAGES = 64;

/**
 * Linear memory of a machine that stands still. Each question to the VM's process is a message there and back, so
 * page tables are read by the page and remembered, and what lies together is read together.
 */
export class LinearMemory {
  private readonly target: Pick<DebugTarget, 'readPhysical' | 'writePhysical'>;
  private readonly tables = new Map<number, Uint8Array>();

  constructor(target: Pick<DebugTarget, 'readPhysical' | 'writePhysical'>) {
    this.target = target;
  }

  /** The machine has run, or its memory has been written. */
  forget(): void {
    this.tables.clear();
  }

  /** As far as it is mapped, and no farther than the end of the address space. */
  async read(state: VcpuState, address: bigint, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let done = 0;
    for (const { gpa, size } of await this.pieces(state, address, length)) {
      const got = await this.target.readPhysical(gpa, size);
      bytes.set(got, done);
      done += got.length;
      if (got.length < size) break;
    }
    return bytes.subarray(0, done);
  }

  /** All of it, or nothing: fails where a page is not mapped. */
  async write(state: VcpuState, address: bigint, bytes: Uint8Array): Promise<void> {
    const pieces = await this.pieces(state, address, bytes.length);
    const mapped = pieces.reduce((sum, { size }) => sum + size, 0);
    if (mapped < bytes.length) {
      const hole = (address + BigInt(mapped)).toString(16);
      throw new RemoteError(
        Errno.FAULT,
        `Nothing is mapped at linear address 0x${hole}: nothing was written.`,
      );
    }
    this.forget();
    let done = 0;
    for (const { gpa, size } of pieces) {
      await this.target.writePhysical(gpa, bytes.subarray(done, done + size));
      done += size;
    }
  }

  /** Where a linear range is in physical memory, up to the first page that is not mapped. */
  private async pieces(
    state: VcpuState,
    address: bigint,
    length: number,
  ): Promise<{ gpa: number; size: number }[]> {
    const pieces: { gpa: number; size: number }[] = [];
    for (let done = 0; done < length;) {
      const gpa = await translatePage(state, address + BigInt(done), (at) => this.word(at));
      if (gpa === null || gpa >= Limit.MAX_RAM) break;
      const size = Math.min(length - done, Limit.PAGE - (gpa % Limit.PAGE));
      const last = pieces.at(-1);
      if (last !== undefined && last.gpa + last.size === gpa) last.size += size;
      else pieces.push({ gpa, size });
      done += size;
    }
    return pieces;
  }

  /** An aligned word of physical memory; null where there is none. */
  async word(gpa: number): Promise<number | null> {
    const start = gpa - (gpa % Limit.PAGE);
    let page = this.tables.get(start);
    if (page === undefined) {
      page = await this.target.readPhysical(start, Limit.PAGE);
      if (this.tables.size >= KEPT_PAGES) this.tables.clear();
      this.tables.set(start, page);
    }
    const at = gpa - start;
    if (at + 4 > page.length) return null;
    return new DataView(page.buffer, page.byteOffset).getUint32(at, true);
  }
}
