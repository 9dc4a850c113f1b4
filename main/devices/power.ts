/** What the chipset can do to the whole machine. The machine layer implements it; calls come under the device lock. */
export interface PowerControl {
  /** Resets every vCPU and device, soon: the access that caused it returns first. `cause` is for people. */
  reset(cause: string): void;
  /** The guest switched itself off (ACPI S5). */
  powerOff(cause: string): void;
}
