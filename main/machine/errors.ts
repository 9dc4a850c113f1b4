/** Who can do something about it: `host` the person at the machine, `wrong-state` the caller's timing, `internal` us. */
export type MachineErrorKind = 'host' | 'wrong-state' | 'internal';

/** Something that a machine can't do. The message is for people: it names the thing and the way out. */
export class MachineError extends Error {
  readonly kind: MachineErrorKind;

  constructor(kind: MachineErrorKind, message: string) {
    super(message);
    this.name = 'MachineError';
    this.kind = kind;
  }
}

/** The words of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A file or folder that can't be written: which, how large it was to become (0: not known), why, and the way out. */
export function unwritable(path: string, bytes: number, error: unknown): MachineError {
  const [unit, name] = bytes < 2 ** 20 ? [1024, 'KiB'] : [2 ** 20, 'MiB'];
  const size = bytes === 0 ? '' : ` (up to ${Math.ceil(bytes / unit)} ${name})`;
  const room = (error as NodeJS.ErrnoException).code === 'ENOSPC' ? ' Make room on that disk.' : '';
  return new MachineError('host', `${path}${size} can't be written: ${messageOf(error)}.${room}`);
}
