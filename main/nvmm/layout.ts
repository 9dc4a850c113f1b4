import { Cr, ExitOffset, Gpr, Seg, StateOffset } from './constants.ts';

const SEG_SIZE = 16;

/**
 * A view of one nvmm_x64_state: 1008 bytes, wherever they are. 64-bit registers have three forms: as a
 * bigint, as two unsigned 32-bit halves (no allocation), and as a number where the value is known to be small.
 */
export class VcpuState {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    if (bytes.byteLength !== StateOffset.SIZE) {
      throw new RangeError(`a vCPU state has ${StateOffset.SIZE} bytes, not ${bytes.byteLength}`);
    }
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private get64(offset: number): bigint {
    return this.view.getBigUint64(offset, true);
  }

  private set64(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, value, true);
  }

  gpr(index: number): bigint {
    return this.get64(StateOffset.GPRS + 8 * index);
  }
  setGpr(index: number, value: bigint): void {
    this.set64(StateOffset.GPRS + 8 * index, value);
  }
  gprLow(index: number): number {
    return this.view.getUint32(StateOffset.GPRS + 8 * index, true);
  }
  gprHigh(index: number): number {
    return this.view.getUint32(StateOffset.GPRS + 8 * index + 4, true);
  }
  setGprHalves(index: number, low: number, high: number): void {
    this.view.setUint32(StateOffset.GPRS + 8 * index, low, true);
    this.view.setUint32(StateOffset.GPRS + 8 * index + 4, high, true);
  }

  get rip(): bigint {
    return this.gpr(Gpr.RIP);
  }
  set rip(value: bigint) {
    this.setGpr(Gpr.RIP, value);
  }
  get rflags(): bigint {
    return this.gpr(Gpr.RFLAGS);
  }
  set rflags(value: bigint) {
    this.setGpr(Gpr.RFLAGS, value);
  }

  cr(index: number): bigint {
    return this.get64(StateOffset.CRS + 8 * index);
  }
  setCr(index: number, value: bigint): void {
    this.set64(StateOffset.CRS + 8 * index, value);
  }
  get cr8(): number {
    return this.view.getUint32(StateOffset.CRS + 8 * Cr.CR8, true);
  }

  dr(index: number): bigint {
    return this.get64(StateOffset.DRS + 8 * index);
  }
  setDr(index: number, value: bigint): void {
    this.set64(StateOffset.DRS + 8 * index, value);
  }

  msr(index: number): bigint {
    return this.get64(StateOffset.MSRS + 8 * index);
  }
  setMsr(index: number, value: bigint): void {
    this.set64(StateOffset.MSRS + 8 * index, value);
  }

  /** The intr word: see Intr. */
  get intr(): number {
    return this.view.getUint32(StateOffset.INTR, true);
  }
  set intr(value: number) {
    this.view.setUint32(StateOffset.INTR, value, true);
    this.view.setUint32(StateOffset.INTR + 4, 0, true);
  }

  selector(seg: number): number {
    return this.view.getUint16(StateOffset.SEGS + SEG_SIZE * seg, true);
  }
  /** Attribute bits: type 0-3, s 4, dpl 5-6, p 7, avl 8, l 9, def 10, g 11 (AMD VMCB packing). */
  attrib(seg: number): number {
    return this.view.getUint16(StateOffset.SEGS + SEG_SIZE * seg + 2, true);
  }
  /** Limit in bytes. */
  limit(seg: number): number {
    return this.view.getUint32(StateOffset.SEGS + SEG_SIZE * seg + 4, true);
  }
  base(seg: number): bigint {
    return this.get64(StateOffset.SEGS + SEG_SIZE * seg + 8);
  }
  setSegment(seg: number, selector: number, attrib: number, limit: number, base: bigint): void {
    const at = StateOffset.SEGS + SEG_SIZE * seg;
    this.view.setUint16(at, selector, true);
    this.view.setUint16(at + 2, attrib, true);
    this.view.setUint32(at + 4, limit, true);
    this.set64(at + 8, base);
  }

  /** The 512-byte FXSAVE image. */
  get fpu(): Uint8Array {
    return this.bytes.subarray(StateOffset.FPU, StateOffset.SIZE);
  }

  /** Privilege level: DPL of SS, as in VMCS and VMCB. */
  get cpl(): number {
    return (this.attrib(Seg.SS) >>> 5) & 3;
  }
}

/** A view of one 16-byte nvmm_vcpu_event: what the next run delivers after inject. */
export class VcpuEvent {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get type(): number {
    return this.view.getUint32(0, true);
  }
  get vector(): number {
    return this.view.getUint8(4);
  }
  get error(): number {
    return this.view.getUint32(8, true);
  }

  /** Writes every field: the kernel may have used the slot in the last run. */
  set(type: number, vector: number, error = 0): void {
    this.view.setUint32(0, type, true);
    this.view.setUint32(4, vector, true);
    this.view.setUint32(8, error, true);
    this.view.setUint32(12, 0, true);
  }
}

/** A view of one 64-byte nvmm_vcpu_exit. Which members of the union are valid depends on `reason`. */
export class VcpuExit {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** One of Exit; the 64-bit values -1 and -2 come back as such. */
  get reason(): number {
    return this.view.getInt32(ExitOffset.REASON, true);
  }
  set reason(value: number) {
    this.view.setInt32(ExitOffset.REASON, value, true);
    this.view.setInt32(ExitOffset.REASON + 4, value >> 31, true);
  }

  /** MEMORY: exactly one of Prot. */
  get memProt(): number {
    return this.view.getInt32(8, true);
  }
  get memGpa(): number {
    return this.view.getUint32(16, true) + this.view.getUint32(20, true) * 2 ** 32;
  }
  get memInstLength(): number {
    return this.view.getUint8(24);
  }
  /** Up to 15 instruction bytes. */
  get memInstBytes(): Uint8Array {
    return this.bytes.subarray(25, 40);
  }
  setMemory(prot: number, gpa: number): void {
    this.view.setInt32(8, prot, true);
    this.view.setUint32(16, gpa >>> 0, true);
    this.view.setUint32(20, Math.floor(gpa / 2 ** 32), true);
    this.view.setUint8(24, 0);
  }

  get ioIn(): boolean {
    return this.view.getUint8(8) !== 0;
  }
  get ioPort(): number {
    return this.view.getUint16(10, true);
  }
  /** Segment of the string operand, 0-5, or -1. */
  get ioSeg(): number {
    return this.view.getInt8(12);
  }
  /** Bytes: 2, 4 or 8. */
  get ioAddressSize(): number {
    return this.view.getUint8(13);
  }
  /** Bytes: 1, 2 or 4. */
  get ioOperandSize(): number {
    return this.view.getUint8(14);
  }
  get ioRep(): boolean {
    return this.view.getUint8(15) !== 0;
  }
  get ioStr(): boolean {
    return this.view.getUint8(16) !== 0;
  }
  get ioNpc(): bigint {
    return this.view.getBigUint64(24, true);
  }

  get msr(): number {
    return this.view.getUint32(8, true);
  }
  get msrValue(): bigint {
    return this.view.getBigUint64(16, true);
  }
  get msrValueLow(): number {
    return this.view.getUint32(16, true);
  }
  get msrValueHigh(): number {
    return this.view.getUint32(20, true);
  }
  get rdmsrNpc(): bigint {
    return this.view.getBigUint64(16, true);
  }
  get wrmsrNpc(): bigint {
    return this.view.getBigUint64(24, true);
  }
  get insnNpc(): bigint {
    return this.view.getBigUint64(8, true);
  }
  get hwcode(): bigint {
    return this.view.getBigUint64(8, true);
  }

  /** DEBUG: one of DebugKind. */
  get debugKind(): number {
    return this.view.getUint32(8, true);
  }
  /** Which of the breakpoints or watchpoints, in the order of the configuration. */
  get debugIndex(): number {
    return this.view.getUint32(12, true);
  }
  /** BREAKPOINT: RIP's linear address; WATCHPOINT: the access's, as far as the backend knows. */
  get debugAddress(): bigint {
    return this.view.getBigUint64(16, true);
  }
  get debugWrite(): boolean {
    return this.view.getUint8(24) !== 0;
  }
  get debugVector(): number {
    return this.view.getUint8(25);
  }
  /** Error code; -1: the exception has none. */
  get debugError(): number {
    return this.view.getInt32(28, true);
  }
  setDebug(kind: number, index: number, address: bigint, write: boolean, vector = 0, error = -1): void {
    this.view.setUint32(8, kind, true);
    this.view.setUint32(12, index, true);
    this.view.setBigUint64(16, BigInt.asUintN(64, address), true);
    this.view.setUint8(24, write ? 1 : 0);
    this.view.setUint8(25, vector);
    this.view.setInt32(28, error, true);
  }

  /** Byte offset of the next instruction's address in this exit's union, by reason; undefined where there is none. */
  npcOffset(): number | undefined {
    switch (this.reason) {
      case 2:
        return 24;
      case 0x2000:
        return 16;
      case 0x2001:
        return 24;
      case 0x2002:
      case 0x2003:
      case 0x2004:
        return 8;
      default:
        return undefined;
    }
  }

  /** Takes over what an exit says of the state, after the state was changed without a run. */
  reflect(state: VcpuState): void {
    this.view.setUint32(ExitOffset.RFLAGS, state.gprLow(Gpr.RFLAGS), true);
    this.view.setUint32(ExitOffset.CR8, state.cr8, true);
    this.view.setUint32(ExitOffset.INTR, state.intr, true);
  }

  get rflagsLow(): number {
    return this.view.getUint32(ExitOffset.RFLAGS, true);
  }
  get cr8(): number {
    return this.view.getUint32(ExitOffset.CR8, true);
  }
  /** See Intr. */
  get intr(): number {
    return this.view.getUint32(ExitOffset.INTR, true);
  }
}
