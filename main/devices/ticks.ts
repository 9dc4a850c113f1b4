/**
 * A crystal's ticks against the machine's clock, without rounding errors: both ways split off the whole
 * seconds, so every product stays below 2^53 and every quotient is exact for frequencies up to 4 MHz.
 */

const SECOND = 1e9;

/** A deadline that never comes: larger than any time, and a number that JSON can hold, unlike Infinity. */
export const NEVER = Number.MAX_VALUE;

/** Ticks of a crystal of `hz` that have passed at `ns` on the machine's clock. */
export function ticksAt(ns: number, hz: number): number {
  const seconds = Math.floor(ns / SECOND);
  const rest = Math.floor(ns - seconds * SECOND);
  return seconds * hz + Math.floor((rest * hz) / SECOND);
}

/** The first whole nanosecond at which that tick has passed: ticksAt(nsOfTick(n, hz), hz) === n. */
export function nsOfTick(tick: number, hz: number): number {
  const seconds = Math.floor(tick / hz);
  return seconds * SECOND + Math.ceil(((tick - seconds * hz) * SECOND) / hz);
}
