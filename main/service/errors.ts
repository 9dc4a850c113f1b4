import type { z } from 'zod';
import type { errorKind } from './contract.ts';

export type ErrorKind = z.infer<typeof errorKind>;

/** An error that people read: the sentence names the thing, the value and the way out. */
export class ServiceError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string) {
    super(message);
    this.name = 'ServiceError';
    this.kind = kind;
  }
}

/** What a front end is told of any thrown value. The machine layer's errors carry a kind of the same names. */
export function describeError(error: unknown): { kind: ErrorKind; message: string } {
  if (!(error instanceof Error)) return { kind: 'internal', message: String(error) };
  const { kind } = error as { kind?: unknown };
  if (kind === 'invalid' || kind === 'not-found' || kind === 'wrong-state' || kind === 'host') {
    return { kind, message: error.message };
  }
  return { kind: typeof hostCode(error) === 'string' ? 'host' : 'internal', message: error.message };
}

/** The errno name of an error of Node's own (`ENOENT`), if it is one. */
export function hostCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}
