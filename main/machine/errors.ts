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
