// Virtual I/O Device (VIRTIO) 1.2, section 4.1: virtio over PCI, modern (not transitional) devices.
import type { BusDevice, MsiSink } from '../device.ts';
import { HEADER, PciFunction, overlaps, put, type Capability } from '../pci/function.ts';
import { MSIX_BAR_BYTES, Msix } from '../pci/msix.ts';
import type { RegisterArena, Registers, SavedRegisters } from '../registers.ts';
import { NO_VECTOR, type VirtioDevice, type VirtioTransport } from './device.ts';
import { QUEUE_SIZE } from './queue.ts';

/** Section 4.1.4.3: the common configuration structure, in bytes from its start. */
const COMMON = {
  DEVICE_FEATURE_SELECT: 0,
  DEVICE_FEATURE: 4,
  DRIVER_FEATURE_SELECT: 8,
  DRIVER_FEATURE: 12,
  CONFIG_VECTOR: 16,
  NUM_QUEUES: 18,
  STATUS: 20,
  GENERATION: 21,
  QUEUE_SELECT: 22,
  QUEUE_SIZE: 24,
  QUEUE_VECTOR: 26,
  QUEUE_ENABLE: 28,
  QUEUE_NOTIFY_OFF: 30,
  QUEUE_DESC: 32,
  QUEUE_DRIVER: 40,
  QUEUE_DEVICE: 48,
  QUEUE_NOTIFY_DATA: 56,
  QUEUE_RESET: 58,
  BYTES: 60,
} as const;

/** The size of each field by its offset; 64-bit fields count as two of 32 bits (section 4.1.3.1). */
const FIELD_BYTES: Record<number, number> = {
  ...{ 0: 4, 4: 4, 8: 4, 12: 4, 16: 2, 18: 2, 20: 1, 21: 1, 22: 2, 24: 2, 26: 2, 28: 2, 30: 2 },
  ...{ 32: 4, 36: 4, 40: 4, 44: 4, 48: 4, 52: 4, 56: 2, 58: 2 },
};

/** Section 4.1.4: kinds of structures; our places for them in BAR 0, a page each so that drivers map what they need. */
const REGIONS = {
  common: { type: 1, at: 0x0000, bytes: COMMON.BYTES },
  notify: { type: 2, at: 0x3000, bytes: 0x1000 },
  isr: { type: 3, at: 0x1000, bytes: 1 },
  device: { type: 4, at: 0x2000, bytes: 0x1000 },
} as const;
const PCI_ACCESS = 5;
const NOTIFY_MULTIPLIER = 4;
const BAR_BYTES = 0x4000;

/** Section 4.1.4: a capability's body, from its length on; and section 4.1.4.9, the access window's data behind it. */
const CAPABILITY = { BAR: 4, OFFSET: 8, LENGTH: 12, DATA: 16, BYTES: 16 } as const;
const VENDOR_SPECIFIC = 9;

/** Section 4.1.4.5. */
const ISR = { QUEUE: 1, CONFIG: 2 } as const;

const VENDOR = 0x1af4;
const MODERN = 0x1040;

/** Class codes by device type: what drivers and `lspci` make of them. */
const CLASS: Record<number, number> = { 1: 0x020000, 2: 0x010000, 3: 0x078000 };
const CLASS_OTHER = 0x00ff00;

const LAYOUT = {
  deviceFeatureSelect: { type: 'u32', about: 'which word of the offered features is seen' },
  driverFeatureSelect: { type: 'u32', about: 'which word of the accepted features is seen' },
  queueSelect: { type: 'u16', about: 'which queue is seen' },
  isr: { type: 'u8', about: '0 a queue, 1 the configuration; cleared by a read' },
} as const;

/** The two halves of a 64-bit address by field offset. */
type AreaName = 'queueDesc' | 'queueDriver' | 'queueDevice';
const AREAS: Record<number, AreaName> = {
  [COMMON.QUEUE_DESC]: 'queueDesc',
  [COMMON.QUEUE_DRIVER]: 'queueDriver',
  [COMMON.QUEUE_DEVICE]: 'queueDevice',
};

/** A virtio device as a PCI function: BAR 0 has its structures, BAR 2 its MSI-X table. */
export class VirtioPci extends PciFunction implements VirtioTransport {
  readonly device: VirtioDevice;
  private readonly t: Registers<typeof LAYOUT>;
  private readonly msix: Msix;
  private readonly msixAt: number;
  private readonly accessAt: number;

  constructor(arena: RegisterArena, device: VirtioDevice, msi: MsiSink) {
    const { type, queues } = device.kind;
    super(device.name, arena, {
      vendor: VENDOR,
      device: MODERN + type,
      subsystemVendor: VENDOR,
      subsystem: MODERN + type,
      classCode: CLASS[type] ?? CLASS_OTHER,
      revision: 1,
      interruptPin: 1,
    });
    this.device = device;
    this.t = arena.allocate(LAYOUT);
    const owner = { msixControl: () => this.msixControl(), isMaster: () => this.busMaster };
    this.msix = new Msix(arena, queues + 1, owner, msi);
    const structures: BusDevice = {
      read: (offset, size) => this.readStructure(offset, size),
      write: (offset, size, value) => this.writeStructure(offset, size, value),
    };
    this.addBar({ index: 0, kind: 'memory64', size: BAR_BYTES, device: structures });
    this.addBar({ index: 2, kind: 'memory32', size: MSIX_BAR_BYTES, device: this.msix });
    this.msixAt = this.addCapability(this.msix.capability(2));
    for (const region of Object.values(REGIONS)) this.addCapability(structureCapability(region));
    this.accessAt = this.addCapability(accessCapability());
    device.attach(this);
  }

  override reset(): void {
    this.t.resetAll();
    super.reset();
    this.msix.reset();
    this.device.reset();
  }

  override save(): SavedRegisters {
    return { ...super.save(), ...this.t.saveAll(), ...this.msix.save(), ...this.device.save() };
  }

  override load(saved: SavedRegisters): void {
    super.load(saved);
    this.t.loadAll(saved);
    this.msix.load(saved);
    this.device.load(saved);
  }

  get dmaAllowed(): boolean {
    return this.busMaster;
  }

  queueInterrupt(vector: number): void {
    this.interrupt(vector, ISR.QUEUE);
  }

  configInterrupt(vector: number): void {
    this.interrupt(vector, ISR.CONFIG);
  }

  deviceReset(): void {
    this.t.isr = 0;
    this.setIntx(false);
  }

  override readConfig(offset: number, size: number): number {
    const data = this.accessAt + CAPABILITY.DATA;
    if (overlaps(offset, size, data, 4)) this.accessBar(false);
    return super.readConfig(offset, size);
  }

  override writeConfig(offset: number, size: number, value: number): void {
    const couldDma = this.busMaster;
    super.writeConfig(offset, size, value);
    if (overlaps(offset, size, this.accessAt + CAPABILITY.DATA, 4)) this.accessBar(true);
    if (overlaps(offset, size, this.msixAt, 4) || overlaps(offset, size, HEADER.COMMAND, 2)) {
      this.msix.unmasked();
      if (this.msix.enabled) this.setIntx(false);
    }
    // What was asked for before the device could get at memory is looked at now.
    if (!couldDma && this.busMaster) this.device.kickAll();
  }

  private msixControl(): number {
    return super.readConfig(this.msixAt + 2, 2);
  }

  private interrupt(vector: number, cause: number): void {
    if (this.msix.enabled) {
      if (vector !== NO_VECTOR) this.msix.notify(vector);
      return;
    }
    this.t.isr |= cause;
    this.setIntx(true);
  }

  private readStructure(offset: number, size: number): number {
    switch (offset & ~0xfff) {
      case REGIONS.common.at:
        return this.readCommon(offset, size);
      case REGIONS.isr.at: {
        if (offset !== REGIONS.isr.at) return 0;
        const value = this.t.isr;
        this.t.isr = 0;
        this.setIntx(false);
        return value;
      }
      case REGIONS.device.at:
        return bytesOf(this.device.config(), offset - REGIONS.device.at, size);
      default:
        return 0;
    }
  }

  private writeStructure(offset: number, size: number, value: number): void {
    switch (offset & ~0xfff) {
      case REGIONS.common.at:
        if (FIELD_BYTES[offset] === size) this.writeCommon(offset, value);
        return;
      case REGIONS.device.at:
        this.device.writeConfig(offset - REGIONS.device.at, size, value);
        return;
      case REGIONS.notify.at:
        this.device.kick(Math.floor((offset - REGIONS.notify.at) / NOTIFY_MULTIPLIER));
        return;
      default:
        return;
    }
  }

  /** Fields are read whole where the access is a field's own, and byte by byte otherwise: none has side effects. */
  private readCommon(offset: number, size: number): number {
    if (FIELD_BYTES[offset] === size) return this.commonField(offset);
    let value = 0;
    for (let i = 0; i < size; i++) {
      let field = offset + i;
      while (field >= 0 && FIELD_BYTES[field] === undefined) field--;
      const shift = 8 * (offset + i - field);
      const byte = offset + i < COMMON.BYTES ? (this.commonField(field) >>> shift) & 0xff : 0;
      value |= byte << (8 * i);
    }
    return value >>> 0;
  }

  private commonField(offset: number): number {
    const { t, device } = this;
    const { r } = device;
    const queue = t.queueSelect;
    const exists = queue < device.queues.length;
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        return t.deviceFeatureSelect;
      case COMMON.DEVICE_FEATURE:
        return device.offeredFeatures(t.deviceFeatureSelect);
      case COMMON.DRIVER_FEATURE_SELECT:
        return t.driverFeatureSelect;
      case COMMON.DRIVER_FEATURE:
        return t.driverFeatureSelect < 2 ? r.driverFeatures[t.driverFeatureSelect] : 0;
      case COMMON.CONFIG_VECTOR:
        return r.configVector;
      case COMMON.NUM_QUEUES:
        return device.queues.length;
      case COMMON.STATUS:
        return r.status;
      case COMMON.GENERATION:
        return r.generation;
      case COMMON.QUEUE_SELECT:
        return queue;
      case COMMON.QUEUE_SIZE:
        return exists ? r.queueSize[queue] : 0;
      case COMMON.QUEUE_VECTOR:
        return exists ? r.queueVector[queue] : NO_VECTOR;
      case COMMON.QUEUE_ENABLE:
        return exists ? r.queueEnable[queue] : 0;
      case COMMON.QUEUE_NOTIFY_OFF:
      case COMMON.QUEUE_NOTIFY_DATA:
        return exists ? queue : 0;
      case COMMON.QUEUE_RESET:
        return exists ? r.queueReset[queue] : 0;
      default: {
        const area = AREAS[offset & ~7];
        return exists && area !== undefined ? r[area][2 * queue + ((offset >> 2) & 1)] : 0;
      }
    }
  }

  private writeCommon(offset: number, value: number): void {
    const { t, device } = this;
    const { r } = device;
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        t.deviceFeatureSelect = value;
        return;
      case COMMON.DRIVER_FEATURE_SELECT:
        t.driverFeatureSelect = value;
        return;
      case COMMON.DRIVER_FEATURE:
        device.acceptFeatures(t.driverFeatureSelect, value);
        return;
      case COMMON.CONFIG_VECTOR:
        r.configVector = this.vector(value);
        return;
      case COMMON.STATUS:
        device.writeStatus(value);
        return;
      case COMMON.QUEUE_SELECT:
        t.queueSelect = value;
        return;
      default:
        if (t.queueSelect < device.queues.length) this.writeQueue(t.queueSelect, offset, value);
    }
  }

  /** An enabled queue keeps its place (section 4.1.4.3.2). */
  private writeQueue(queue: number, offset: number, value: number): void {
    const { device } = this;
    const { r } = device;
    const enabled = r.queueEnable[queue] !== 0;
    switch (offset) {
      case COMMON.QUEUE_SIZE: {
        const power = value !== 0 && (value & (value - 1)) === 0;
        if (!enabled && power && value <= QUEUE_SIZE) r.queueSize[queue] = value;
        return;
      }
      case COMMON.QUEUE_VECTOR:
        r.queueVector[queue] = this.vector(value);
        return;
      case COMMON.QUEUE_ENABLE:
        if (value === 1) device.enableQueue(queue);
        return;
      case COMMON.QUEUE_RESET:
        if (value === 1) device.resetQueue(queue);
        return;
      default: {
        const area = AREAS[offset & ~7];
        if (!enabled && area !== undefined) r[area][2 * queue + ((offset >> 2) & 1)] = value;
      }
    }
  }

  /** A vector that does not exist reads back as none (section 4.1.5.1.2). */
  private vector(value: number): number {
    return value < this.msix.vectors ? value : NO_VECTOR;
  }

  /** Section 4.1.4.9: a read or write of the window's data is an access to the place in a BAR that it names. */
  private accessBar(write: boolean): void {
    const { config } = this.r;
    const at = this.accessAt;
    const bar = this.bars.find(({ index }) => index === config[at + CAPABILITY.BAR]);
    const offset = super.readConfig(at + CAPABILITY.OFFSET, 4);
    const size = super.readConfig(at + CAPABILITY.LENGTH, 4);
    const data = at + CAPABILITY.DATA;
    const sane = size === 1 || size === 2 || size === 4;
    if (bar === undefined || !sane || offset % size !== 0 || offset + size > bar.size) return;
    const info = { vcpu: -1, address: offset };
    if (write) bar.device.write(offset, size, super.readConfig(data, size), info);
    else put(config, data, size, bar.device.read(offset, size, info));
  }
}

/** The capability that says where a structure is. */
function structureCapability({ type, at, bytes }: { type: number; at: number; bytes: number }): Capability {
  const notify = type === REGIONS.notify.type;
  const body = new Uint8Array(CAPABILITY.BYTES - 2 + (notify ? 4 : 0));
  body[0] = body.length + 2;
  body[1] = type;
  put(body, CAPABILITY.OFFSET - 2, 4, at);
  put(body, CAPABILITY.LENGTH - 2, 4, bytes);
  if (notify) put(body, CAPABILITY.BYTES - 2, 4, NOTIFY_MULTIPLIER);
  return { id: VENDOR_SPECIFIC, body };
}

/** The access window: BAR, offset, length and data can be written. */
function accessCapability(): Capability {
  const body = new Uint8Array(CAPABILITY.DATA + 4 - 2);
  const writable = new Uint8Array(body.length);
  body[0] = body.length + 2;
  body[1] = PCI_ACCESS;
  writable[CAPABILITY.BAR - 2] = 0xff;
  writable.fill(0xff, CAPABILITY.OFFSET - 2);
  return { id: VENDOR_SPECIFIC, body, writable };
}

/** Up to four bytes as a number; zeros behind the end. */
function bytesOf(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value |= (bytes[offset + i] ?? 0) << (8 * i);
  return value >>> 0;
}
