// Virtual I/O Device (VIRTIO) 1.2, section 5.2: the block device.
import { GuestAddressError } from '../device.ts';
import { VirtioFault, type Chain } from './chain.ts';
import { VirtioDevice, type VirtioHost } from './device.ts';
import { CHAIN_BYTES, QUEUE_SIZE } from './queue.ts';

/** A disk: bytes that stay. Used on the I/O thread; every method throws on a host's error. */
export interface BlockBackend {
  /** Bytes: a multiple of 512. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Fills all of `into`, a piece of guest memory, from `offset` on. */
  read(offset: number, into: Uint8Array): void;
  write(offset: number, from: Uint8Array): void;
  /** Returns when everything written is on stable storage. */
  flush(): void;
  /** A hint: these bytes are no longer needed. */
  discard?(offset: number, length: number): void;
}

/** Section 5.2.3: feature bits. */
const FEATURE = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  READ_ONLY: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  DISCARD: 13,
  ZEROES: 14,
} as const;

/** Section 5.2.6: a request is this header, data, and a status byte. */
const HEADER = { TYPE: 0, SECTOR: 8, BYTES: 16 } as const;
const TYPE = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
const STATUS = { OK: 0, IOERR: 1, UNSUPPORTED: 2 } as const;
const ID_BYTES = 20;

/** A range of a discard or write-zeroes request: sector (8), number of sectors (4), flags (4: bit 0 unmap). */
const RANGE = { SECTOR: 0, COUNT: 8, FLAGS: 12, BYTES: 16, UNMAP: 1 } as const;

/** Section 5.2.4: the configuration structure. */
const CONFIG = {
  CAPACITY: 0,
  SIZE_MAX: 8,
  SEG_MAX: 12,
  BLK_SIZE: 20,
  MAX_DISCARD_SECTORS: 36,
  MAX_DISCARD_SEGMENTS: 40,
  DISCARD_ALIGNMENT: 44,
  MAX_ZEROES_SECTORS: 48,
  MAX_ZEROES_SEGMENTS: 52,
  ZEROES_MAY_UNMAP: 56,
  BYTES: 60,
} as const;

const SECTOR = 512;

/** Bytes of a data segment: NetBSD's driver refuses less. */
const SEGMENT_BYTES = 64 * 1024;
/** Data segments of a request: half a queue without those of header and status, and less than a chain's bytes. */
const SEGMENTS = QUEUE_SIZE / 2 - 2;
/** Sectors that one request zeroes or discards: 4 MiB, some milliseconds of writing. */
const RANGE_SECTORS = 8192;

if (SEGMENTS * SEGMENT_BYTES + 2 * SECTOR > CHAIN_BYTES) {
  throw new RangeError('a full request exceeds a chain');
}

export interface BlkOptions {
  /** What the guest sees as the serial number: up to 20 bytes of ASCII. */
  serial?: string;
}

export class VirtioBlk extends VirtioDevice {
  private readonly backend: BlockBackend;
  private readonly configBytes: Uint8Array;
  private readonly serial = new Uint8Array(ID_BYTES);
  private readonly header = new Uint8Array(HEADER.BYTES);
  private readonly zeroes = new Uint8Array(SEGMENT_BYTES);
  private readonly status = new Uint8Array(1);
  /** The host's error that was reported last, so that a broken disk does not flood the log. */
  private reported = '';

  constructor(name: string, host: VirtioHost, backend: BlockBackend, options: BlkOptions = {}) {
    if (backend.size % SECTOR !== 0) {
      throw new RangeError(
        `${name}: a disk of ${backend.size} bytes; its size must be a multiple of ${SECTOR}`,
      );
    }
    const writes = backend.readOnly ? [FEATURE.READ_ONLY] : [FEATURE.DISCARD, FEATURE.ZEROES];
    const features = [FEATURE.SIZE_MAX, FEATURE.SEG_MAX, FEATURE.BLK_SIZE, FEATURE.FLUSH, ...writes];
    super(name, host, { type: 2, features, queues: 1 });
    this.backend = backend;
    this.configBytes = configOf(backend);
    const serial = options.serial ?? name;
    for (let i = 0; i < Math.min(serial.length, ID_BYTES); i++) this.serial[i] = serial.charCodeAt(i) & 0x7f;
  }

  config(): Uint8Array {
    return this.configBytes;
  }

  protected handle(_queue: number, chain: Chain): number {
    if (chain.writable === 0) throw new VirtioFault('a request without a byte for its status');
    if (chain.read(0, this.header) !== HEADER.BYTES) {
      throw new VirtioFault(`a request with a header of ${chain.readable} bytes`);
    }
    const header = new DataView(this.header.buffer);
    const offset =
      SECTOR * (header.getUint32(HEADER.SECTOR + 4, true) * 2 ** 32 + header.getUint32(HEADER.SECTOR, true));
    const type = header.getUint32(HEADER.TYPE, true);
    const room = chain.writable - 1;
    let status: number;
    try {
      status = this.perform(type, offset, room, chain);
      this.reported = '';
    } catch (error) {
      if (error instanceof VirtioFault || error instanceof GuestAddressError) throw error;
      this.reportHost(error);
      status = STATUS.IOERR;
    }
    this.status[0] = status;
    chain.write(room, this.status);
    return status === STATUS.OK ? chain.writable : 1;
  }

  /** Does a request and returns its status. Throws what the backend throws. */
  private perform(type: number, offset: number, room: number, chain: Chain): number {
    const { backend } = this;
    const data = chain.readable - HEADER.BYTES;
    switch (type) {
      case TYPE.IN:
        if (!this.fits(offset, room)) return STATUS.IOERR;
        chain.eachWritable(0, room, (piece, at) => backend.read(offset + at, piece));
        return STATUS.OK;
      case TYPE.OUT:
        if (backend.readOnly || !this.fits(offset, data)) return STATUS.IOERR;
        chain.eachReadable(HEADER.BYTES, data, (piece, at) => backend.write(offset + at, piece));
        this.writeThrough();
        return STATUS.OK;
      case TYPE.FLUSH:
        backend.flush();
        return STATUS.OK;
      case TYPE.GET_ID:
        chain.write(0, this.serial.subarray(0, Math.min(room, ID_BYTES)));
        return STATUS.OK;
      case TYPE.DISCARD:
      case TYPE.WRITE_ZEROES:
        return this.performRange(type, data, chain);
      default:
        return STATUS.UNSUPPORTED;
    }
  }

  /** Section 5.2.6.2: one range; the configuration says that there are no more. */
  private performRange(type: number, data: number, chain: Chain): number {
    const { backend } = this;
    if (backend.readOnly) return STATUS.IOERR;
    if (data !== RANGE.BYTES) return data === 0 ? STATUS.IOERR : STATUS.UNSUPPORTED;
    const bytes = new Uint8Array(RANGE.BYTES);
    chain.read(HEADER.BYTES, bytes);
    const range = new DataView(bytes.buffer);
    const start =
      SECTOR * (range.getUint32(RANGE.SECTOR + 4, true) * 2 ** 32 + range.getUint32(RANGE.SECTOR, true));
    const sectors = range.getUint32(RANGE.COUNT, true);
    const flags = range.getUint32(RANGE.FLAGS, true);
    const allowed = type === TYPE.DISCARD ? 0 : RANGE.UNMAP;
    if ((flags & ~allowed) !== 0) return STATUS.UNSUPPORTED;
    if (sectors > RANGE_SECTORS || !this.fits(start, sectors * SECTOR)) return STATUS.IOERR;
    const end = start + sectors * SECTOR;
    if (type === TYPE.DISCARD) {
      if (sectors !== 0) backend.discard?.(start, end - start);
      return STATUS.OK;
    }
    for (let at = start; at < end; at += SEGMENT_BYTES) {
      backend.write(at, this.zeroes.subarray(0, Math.min(SEGMENT_BYTES, end - at)));
    }
    this.writeThrough();
    return STATUS.OK;
  }

  /** A driver that cannot flush gets its writes on stable storage at once (section 5.2.6.2). */
  private writeThrough(): void {
    if (!this.has(FEATURE.FLUSH)) this.backend.flush();
  }

  /** Whole sectors inside the disk? Offsets from the guest may be up to 2^73: too large is too large, exact or not. */
  private fits(offset: number, length: number): boolean {
    return length % SECTOR === 0 && offset + length <= this.backend.size;
  }

  private reportHost(error: unknown): void {
    const message = `${this.name}: ${error instanceof Error ? error.message : String(error)}`;
    if (message === this.reported) return;
    this.reported = message;
    this.report(`${message}. The guest sees an I/O error`);
  }
}

function configOf({ size }: BlockBackend): Uint8Array {
  const bytes = new Uint8Array(CONFIG.BYTES);
  const view = new DataView(bytes.buffer);
  const sectors = size / SECTOR;
  view.setUint32(CONFIG.CAPACITY, sectors % 2 ** 32, true);
  view.setUint32(CONFIG.CAPACITY + 4, Math.floor(sectors / 2 ** 32), true);
  view.setUint32(CONFIG.SIZE_MAX, SEGMENT_BYTES, true);
  view.setUint32(CONFIG.SEG_MAX, SEGMENTS, true);
  view.setUint32(CONFIG.BLK_SIZE, SECTOR, true);
  view.setUint32(CONFIG.MAX_DISCARD_SECTORS, RANGE_SECTORS, true);
  view.setUint32(CONFIG.MAX_DISCARD_SEGMENTS, 1, true);
  view.setUint32(CONFIG.DISCARD_ALIGNMENT, 1, true);
  view.setUint32(CONFIG.MAX_ZEROES_SECTORS, RANGE_SECTORS, true);
  view.setUint32(CONFIG.MAX_ZEROES_SEGMENTS, 1, true);
  view.setUint8(CONFIG.ZEROES_MAY_UNMAP, 1);
  return bytes;
}
