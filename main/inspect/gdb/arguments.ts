import { Errno, RemoteError } from './errors.ts';

/** Reads what packets carry. Everything is checked here: nobody else sees a byte that gdb sent. */

/** A number in hex digits, of at most 64 bits. */
export function number(digits: string, what: string): bigint {
  if (!/^[0-9a-f]{1,16}$/i.test(digits)) {
    throw new RemoteError(Errno.INVAL, `${what}: "${short(digits)}" is not a number of 1 to 16 hex digits.`);
  }
  return BigInt(`0x${digits}`);
}

/** A small number: a register's, a thread's, a signal's. */
export function small(digits: string, what: string): number {
  const value = number(digits, what);
  if (value > 0xffff_ffffn) {
    throw new RemoteError(Errno.INVAL, `${what}: 0x${value.toString(16)} is too large.`);
  }
  return Number(value);
}

/** `addr,length`: lengths beyond what a number holds are as good as the largest. */
export function range(text: string): { address: bigint; length: number } {
  const [address, length, ...more] = text.split(',');
  if (length === undefined || more.length > 0) {
    throw new RemoteError(Errno.INVAL, `"${short(text)}" is not ADDRESS,LENGTH.`);
  }
  const bytes = number(length, 'length');
  return {
    address: number(address, 'address'),
    length: Number(bytes > BigInt(Number.MAX_SAFE_INTEGER) ? BigInt(Number.MAX_SAFE_INTEGER) : bytes),
  };
}

/** What follows the first `separator`, and what is before it. */
export function split(text: string, separator: string): [string, string | null] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + 1)];
}

/** A thread as gdb names it: `-1` all, `0` any, or a vCPU's number plus one. */
export function thread(text: string, vcpus: number): 'all' | 'any' | number {
  if (text === '-1') return 'all';
  const id = small(text, 'thread');
  if (id === 0) return 'any';
  if (id <= vcpus) return id - 1;
  throw new RemoteError(Errno.SRCH, `There is no thread ${id}: the vCPUs are threads 1 to ${vcpus}.`);
}

/** As much of a text as belongs into a message. */
export function short(text: string): string {
  const shown = text.length > 40 ? `${text.slice(0, 40)}...` : text;
  return shown.replace(/[^ -~]/g, '?');
}
