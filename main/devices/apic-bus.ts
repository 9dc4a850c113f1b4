/** What travels between I/O APIC, local APICs and message-signalled interrupts (Intel SDM vol. 3, 11.6 and 11.11). */

/** Delivery modes: bits 8-10 of an ICR, an LVT entry, a redirection entry and an MSI's data. */
export const DeliveryMode = { FIXED: 0, LOWEST: 1, SMI: 2, NMI: 4, INIT: 5, STARTUP: 6, EXTINT: 7 } as const;

export interface ApicBus {
  /**
   * Sends an interrupt message to local APICs.
   * @param destination 8 bits: an APIC id (0xFF: all), or a logical destination when `logical`.
   * @param mode a DeliveryMode.
   * @param level level-triggered: its EOI is to be broadcast.
   * @returns whether a local APIC took it.
   */
  deliver(destination: number, logical: boolean, mode: number, vector: number, level: boolean): boolean;
}
