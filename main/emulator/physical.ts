/** One guest-physical mapping. Addresses and sizes in bytes, page-aligned. */
export interface PhysicalArea {
  gpa: number;
  size: number;
  hva: number;
  prot: number;
}

/** What a guest-physical page is to the processor: its host page, or nothing, and what may be done with it. */
export class PhysicalMap {
  private areas: PhysicalArea[] = [];
  private last: PhysicalArea | undefined;

  /** Takes the areas of a machine, in any order; they do not overlap. */
  load(areas: readonly PhysicalArea[]): void {
    this.areas = [...areas].sort((a, b) => a.gpa - b.gpa);
    this.last = undefined;
  }

  find(gpa: number): PhysicalArea | undefined {
    const { last } = this;
    if (last && gpa >= last.gpa && gpa - last.gpa < last.size) return last;
    let low = 0;
    let high = this.areas.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const area = this.areas[middle];
      if (gpa < area.gpa) high = middle - 1;
      else if (gpa - area.gpa >= area.size) low = middle + 1;
      else return (this.last = area);
    }
    return undefined;
  }

  /** Host address of a guest-physical address, or -1 when nothing there allows the access (Prot bits). */
  host(gpa: number, prot: number): number {
    const area = this.find(gpa);
    return area && (area.prot & prot) === prot ? area.hva + (gpa - area.gpa) : -1;
  }
}
