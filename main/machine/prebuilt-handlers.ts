import { readFileSync } from 'node:fs';
import { takePrebuilt } from '../emulator/prebuilt.ts';
import { prebuiltFile } from './entry.ts';

/** Modules of the emulator that the build has generated already: a start without them takes a tenth of a second longer. */
export function loadPrebuilt(): void {
  const file = prebuiltFile();
  if (file === null) return;
  const modules = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
  takePrebuilt(
    Object.entries(modules).map(([key, text]) => [key, Uint8Array.from(Buffer.from(text, 'base64'))]),
  );
}
