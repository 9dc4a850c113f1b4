import { constants } from 'node:os';
import type { Errno } from '../../main/nvmm/errors.ts';
import { NvmmError } from '../../main/nvmm/errors.ts';
import type { Library } from './library.ts';

const NAMES: readonly Errno[] = [
  'EPERM',
  'ENOENT',
  'ESRCH',
  'ENXIO',
  'EBADF',
  'ENOMEM',
  'EACCES',
  'EFAULT',
  'EBUSY',
  'EEXIST',
  'ENODEV',
  'EINVAL',
  'ENOBUFS',
];

const NUMBERS = new Map<number, Errno>(
  NAMES.flatMap((name) => {
    const number = (constants.errno as Record<string, number>)[name];
    return number === undefined ? [] : [[number, name]];
  }),
);

/** EOPNOTSUPP of Linux and of the BSDs. */
const NOT_SUPPORTED = new Set([95, 45, constants.errno.ENOTSUP]);

/** The error of a verb that gave -1, from errno and what the library says about it. */
export function lastError(library: Library, verb: string, detail = ''): NvmmError {
  const number = library.errno();
  const reason = library.call.reason?.() ?? '';
  const said = [detail, reason].filter((part) => part !== '').join(': ');
  let name = NUMBERS.get(number);
  if (NOT_SUPPORTED.has(number)) name = 'ENOTSUP';
  if (name === undefined && number === library.layout.programMismatch) name = 'EPROGMISMATCH';
  if (name !== undefined) return new NvmmError(verb, name, said || 'the library refuses');
  return new NvmmError(verb, 'ENODEV', `${said || 'the system refuses'} (errno ${number})`);
}
