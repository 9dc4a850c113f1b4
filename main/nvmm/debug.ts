import { NvmmError } from './errors.ts';
import type { DebugConf } from './nvmm.ts';

/** Longest watched range, in bytes: all that a 32-bit guest can address. */
export const WATCH_LIMIT = 2 ** 32;

/** Whether an address is one that 4-level paging has: bits 48 to 63 are copies of bit 47. */
export function isCanonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}

/** Gives a debug configuration back when it is one; EINVAL names what is wrong with it. */
export function checkDebug(verb: string, conf: DebugConf): DebugConf {
  const refuse = (why: string): never => {
    throw new NvmmError(verb, 'EINVAL', why);
  };
  const checkAddress = (what: string, address: bigint): void => {
    if (!isCanonical(address)) refuse(`${what} at 0x${address.toString(16)}, which is not canonical`);
  };
  for (const address of conf.breakpoints) checkAddress('a breakpoint', address);
  for (const { address, length, read, write } of conf.watchpoints) {
    checkAddress('a watchpoint', address);
    if (!(Number.isInteger(length) && length >= 1 && length <= WATCH_LIMIT)) {
      refuse(`a watchpoint of ${length} bytes: 1 to ${WATCH_LIMIT} (4 GiB) can be watched`);
    }
    checkAddress('the end of a watchpoint', address + BigInt(length - 1));
    if (!read && !write) refuse('a watchpoint for neither reads nor writes');
  }
  if (!(Number.isInteger(conf.exceptions) && conf.exceptions >= 0 && conf.exceptions < 2 ** 32)) {
    refuse(`exceptions ${conf.exceptions} are not a mask of vectors 0 to 31`);
  }
  return conf;
}
