import { resolve } from 'node:path';
import type { ExitFormat } from './trace-contract.ts';

/** A file for exits and its format, which its name tells. Throws for another name. */
export function traceFile(file: string): { path: string; format: ExitFormat } {
  if (file.endsWith('.jsonl')) return { path: resolve(file), format: 'jsonl' };
  if (file.endsWith('.json')) return { path: resolve(file), format: 'perfetto' };
  throw new Error(
    `${file}: a name that ends in .jsonl (JSON lines) or .json (Perfetto) says how to write it`,
  );
}
