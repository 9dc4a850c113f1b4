import { Cr0, Eflags } from '../cpu.ts';
import { generalProtection, selectorFault, Vector } from '../fault.ts';
import type { Processor } from '../processor.ts';
import { Field, SegmentIndex } from '../state.ts';
import {
  attributes,
  baseOf,
  checkStackSegment,
  dplOf,
  fetch,
  install,
  installNull,
  installReal,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isReadable,
  isSystem,
  limitOf,
  SystemType,
  typeOf,
} from './descriptors.ts';
import { writeControl } from './control.ts';

export type TaskSwitch = 'jump' | 'call' | 'return';

/** Offsets in a 32-bit TSS (SDM vol. 3, figure 7-2) and a 16-bit one (figure 7-10). */
const TSS32 = {
  EIP: 0x20,
  EFLAGS: 0x24,
  EAX: 0x28,
  ES: 0x48,
  LDT: 0x60,
  CR3: 0x1c,
  TRAP: 0x64,
  STEP: 4,
  LIMIT: 0x67,
} as const;
const TSS16 = {
  EIP: 0x0e,
  EFLAGS: 0x10,
  EAX: 0x12,
  ES: 0x22,
  LDT: 0x2a,
  CR3: -1,
  TRAP: -1,
  STEP: 2,
  LIMIT: 0x2b,
} as const;

const SAVED_SEGMENTS32 = [
  SegmentIndex.ES,
  SegmentIndex.CS,
  SegmentIndex.SS,
  SegmentIndex.DS,
  SegmentIndex.FS,
  SegmentIndex.GS,
];
const SAVED_SEGMENTS16 = SAVED_SEGMENTS32.slice(0, 4);

/**
 * A hardware task switch (SDM vol. 3, 7.3). RIP is the address at which the old task goes on. After the new
 * state is loaded, faults belong to the new task.
 */
export function switchTask(p: Processor, selector: number, how: TaskSwitch, fromEvent = false): void {
  const { cpu, linear } = p;
  const vector = how === 'return' ? Vector.TS : Vector.GP;
  if (selector & 4) throw selectorFault(vector, selector);
  const descriptor = fetch(p, selector, vector);
  const type = typeOf(descriptor);
  const busy = type === SystemType.TSS16_BUSY || type === SystemType.TSS32_BUSY;
  const available = type === SystemType.TSS16 || type === SystemType.TSS32;
  if (!isSystem(descriptor) || !(how === 'return' ? busy : available)) throw selectorFault(vector, selector);
  if (!isPresent(descriptor)) throw selectorFault(Vector.NP, selector);
  const layout = type & 8 ? TSS32 : TSS16;
  if (limitOf(descriptor) < layout.LIMIT) throw selectorFault(Vector.TS, selector);
  const base = baseOf(descriptor);

  // Save the old task.
  const oldLayout = cpu.attrib(SegmentIndex.TR) & 8 ? TSS32 : TSS16;
  const oldBase = cpu.base(SegmentIndex.TR);
  const bytes = oldLayout.STEP;
  let flags = cpu.eflags;
  if (how === 'return') flags &= ~Eflags.NT;
  linear.store(oldBase + oldLayout.EIP, bytes, cpu.get(Field.RIP));
  linear.store(oldBase + oldLayout.EFLAGS, bytes, flags);
  for (let i = 0; i < 8; i++) linear.store(oldBase + oldLayout.EAX + bytes * i, bytes, cpu.gpr(i));
  const oldSegments = oldLayout === TSS32 ? SAVED_SEGMENTS32 : SAVED_SEGMENTS16;
  oldSegments.forEach((index, i) => linear.store(oldBase + oldLayout.ES + bytes * i, 2, cpu.selector(index)));

  // Read the new one before anything is committed.
  const step = layout.STEP;
  const read = (offset: number): number => linear.read(base + offset, step);
  const segments = layout === TSS32 ? SAVED_SEGMENTS32 : SAVED_SEGMENTS16;
  const cr3 = layout === TSS32 && cpu.get(Field.CR0) & Cr0.PG ? read(layout.CR3) : undefined;
  const newEip = read(layout.EIP);
  let newFlags = read(layout.EFLAGS);
  const registers = Array.from({ length: 8 }, (_, i) => read(layout.EAX + step * i));
  const selectors = segments.map((_, i) => linear.read(base + layout.ES + step * i, 2));
  const ldt = linear.read(base + layout.LDT, 2);
  const trap = layout === TSS32 ? linear.read(base + layout.TRAP, 2) & 1 : 0;

  const oldSelector = cpu.selector(SegmentIndex.TR);
  if (how !== 'call') setBusy(p, oldSelector, false);
  if (how !== 'return') setBusy(p, selector, true);
  if (how === 'call') {
    linear.store(base, 2, oldSelector);
    newFlags |= Eflags.NT;
  }

  // Commit.
  cpu.setSegment(
    SegmentIndex.TR,
    selector,
    attributes(descriptor.high) | 2,
    limitOf(descriptor),
    base | 0,
    0,
  );
  cpu.set(Field.CR0, cpu.get(Field.CR0) | Cr0.TS);
  // Here, since what follows may fault in the new task.
  cpu.updateMode();
  if (cr3 !== undefined) writeControl(p, 3, cr3, 0);
  cpu.eflags = newFlags;
  registers.forEach((value, i) => (layout === TSS32 ? cpu.setGpr32(i, value | 0) : cpu.setGpr16(i, value)));
  cpu.set64(Field.RIP, newEip | 0, 0);
  p.debugOnTask(trap !== 0);

  loadLdt(p, ldt);
  loadSegments(p, segments, selectors);
  if (fromEvent && newEip > cpu.limit(SegmentIndex.CS)) throw generalProtection();
  p.modeChanged();
}

function setBusy(p: Processor, selector: number, busy: boolean): void {
  const { cpu, linear } = p;
  const at = cpu.number(Field.GDT_BASE) + (selector & 0xfff8) + 4;
  const high = linear.read(at, 4);
  linear.store(at, 4, busy ? high | 0x200 : high & ~0x200);
}

function loadLdt(p: Processor, selector: number): void {
  const { cpu } = p;
  if (isNull(selector)) {
    cpu.setSegment(SegmentIndex.LDT, selector, SystemType.LDT, 0, 0, 0);
    return;
  }
  const wrong = selectorFault(Vector.TS, selector);
  if (selector & 4) throw wrong;
  const descriptor = fetch(p, selector, Vector.TS);
  if (!isSystem(descriptor) || typeOf(descriptor) !== SystemType.LDT || !isPresent(descriptor)) throw wrong;
  cpu.setSegment(
    SegmentIndex.LDT,
    selector,
    attributes(descriptor.high),
    limitOf(descriptor),
    baseOf(descriptor) | 0,
    0,
  );
}

/** The segments of the new task, with the checks of SDM vol. 3, table 7-1. */
function loadSegments(p: Processor, indices: readonly number[], selectors: readonly number[]): void {
  const { cpu } = p;
  indices.forEach((index, i) => cpu.setSegment(index, selectors[i], 0, 0, 0, 0));
  if (cpu.get(Field.EFLAGS) & Eflags.VM) {
    cpu.set(Field.CPL, 3);
    indices.forEach((index, i) => installReal(p, index, selectors[i]));
    return;
  }
  const cs = selectors[1];
  cpu.set(Field.CPL, cs & 3);
  const code = isNull(cs) ? undefined : fetch(p, cs, Vector.TS);
  if (!code || isSystem(code) || !isCode(code)) throw selectorFault(Vector.TS, cs);
  const fits = isConforming(code) ? dplOf(code) <= (cs & 3) : dplOf(code) === (cs & 3);
  if (!fits) throw selectorFault(Vector.TS, cs);
  if (!isPresent(code)) throw selectorFault(Vector.NP, cs);
  install(p, SegmentIndex.CS, cs, code);
  checkStackSegment(p, selectors[2], cs & 3, Vector.TS);
  indices.forEach((index, i) => {
    if (index === SegmentIndex.CS || index === SegmentIndex.SS) return;
    const selector = selectors[i];
    if (isNull(selector)) {
      installNull(p, index, selector);
      return;
    }
    const descriptor = fetch(p, selector, Vector.TS);
    if (isSystem(descriptor) || !isReadable(descriptor)) throw selectorFault(Vector.TS, selector);
    const conforming = isCode(descriptor) && isConforming(descriptor);
    if (!conforming && dplOf(descriptor) < Math.max(cs & 3, selector & 3)) {
      throw selectorFault(Vector.TS, selector);
    }
    if (!isPresent(descriptor)) throw selectorFault(Vector.NP, selector);
    install(p, index, selector, descriptor);
  });
}
