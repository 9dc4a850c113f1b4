/** Numbers that gdb knows from its own host I/O (GDB manual, E.13.6): what older versions show of an error. */
export const Errno = { NOENT: 2, IO: 5, SRCH: 3, FAULT: 14, BUSY: 16, INVAL: 22 } as const;

/** What a packet asks for can't be had. gdb gets the sentence where its version takes one, and the number elsewhere. */
export class RemoteError extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.name = 'RemoteError';
    this.errno = errno;
  }
}
