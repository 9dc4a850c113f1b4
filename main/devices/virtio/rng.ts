// Virtual I/O Device (VIRTIO) 1.2, section 5.4: the entropy device. One queue of buffers to fill; no configuration.
import type { Chain } from './chain.ts';
import { VirtioDevice, type VirtioHost } from './device.ts';

/** Where random bytes come from. */
export interface EntropySource {
  /** Fills the whole buffer (plain memory, not shared). */
  fill(into: Uint8Array): void;
}

/** At most this much for one request, in bytes: drivers ask for less, and a device may always give less (5.4.6.2). */
const REQUEST_BYTES = 4096;

const NOTHING = new Uint8Array(0);

export class VirtioRng extends VirtioDevice {
  private readonly entropy: EntropySource;
  private readonly buffer = new Uint8Array(REQUEST_BYTES);

  constructor(name: string, host: VirtioHost, entropy: EntropySource) {
    super(name, host, { type: 4, features: [], queues: 1 });
    this.entropy = entropy;
  }

  config(): Uint8Array {
    return NOTHING;
  }

  protected handle(_queue: number, chain: Chain): number {
    const wanted = this.buffer.subarray(0, Math.min(chain.writable, REQUEST_BYTES));
    this.entropy.fill(wanted);
    return chain.write(0, wanted);
  }
}
