import { z } from 'zod';

/** Checks a file against the Trace Event Format (the JSON of Perfetto and chrome://tracing). */

const base = z.object({
  name: z.string().min(1),
  pid: z.number().int().min(1),
  tid: z.number().int().min(1),
  /** Microseconds. */
  ts: z.number().min(0),
  cat: z.string().optional(),
  args: z.record(z.string(), z.unknown()).optional(),
});
const event = z.discriminatedUnion('ph', [
  base.extend({ ph: z.literal('M'), args: z.object({ name: z.string() }) }),
  base.extend({ ph: z.literal('X'), cat: z.string(), dur: z.number().min(0) }),
  base.extend({ ph: z.literal('i'), s: z.enum(['g', 'p', 't']) }),
]);
const file = z.strictObject({ displayTimeUnit: z.enum(['ms', 'ns']), traceEvents: z.array(event) });

export type TraceEvent = z.infer<typeof event>;

/** The events of a file whose every event has what its phase needs, in order of time, and on each thread one after another. */
export function checkTraceEvents(text: string): TraceEvent[] {
  const { traceEvents } = file.parse(JSON.parse(text));
  let last = 0;
  const ends = new Map<number, number>();
  for (const one of traceEvents) {
    if (one.ph === 'M') continue;
    const where = `${one.name} at ${one.ts} µs`;
    if (one.ts < last) throw new Error(`${where} comes after ${last} µs`);
    last = one.ts;
    if (one.ph !== 'X') continue;
    // The grain of the clock is a nanosecond; sums of microseconds have their rounding.
    const free = ends.get(one.tid) ?? 0;
    if (one.ts < free - 1e-6) throw new Error(`${where} begins before ${free} µs, when the one before ends`);
    ends.set(one.tid, one.ts + one.dur);
  }
  return traceEvents;
}
