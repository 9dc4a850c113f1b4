/** The errno values that NVMM's calls end with. */
export type Errno =
  | 'EPERM'
  | 'ENOENT'
  | 'ESRCH'
  | 'ENXIO'
  | 'EBADF'
  | 'ENOMEM'
  | 'EACCES'
  | 'EFAULT'
  | 'EBUSY'
  | 'EEXIST'
  | 'ENODEV'
  | 'EINVAL'
  | 'ENOBUFS'
  | 'EPROGMISMATCH'
  | 'ENOTSUP';

/**
 * An NVMM verb that failed: what the C library says with -1 and errno. The message names the verb, the value
 * that was refused and, where there is one, the way out.
 */
export class NvmmError extends Error {
  readonly verb: string;
  readonly errno: Errno;

  constructor(verb: string, errno: Errno, detail: string) {
    super(`${verb}: ${errno}: ${detail}`);
    this.name = 'NvmmError';
    this.verb = verb;
    this.errno = errno;
  }
}
