import { readFileSync, writeFileSync } from 'node:fs';

/** Recorded reports: a line with the case's name, then its events, one a line, then an empty line. */
const fileOf = (guest: string): URL => new URL(`expected/${guest}.txt`, import.meta.url);

export function readExpected(guest: string): Map<string, string> {
  const parts = readFileSync(fileOf(guest), 'utf8').trimEnd().split('\n\n');
  return new Map(
    parts.map((part) => {
      const end = part.indexOf('\n');
      return [part.slice(0, end), part.slice(end + 1)];
    }),
  );
}

export function writeExpected(guest: string, reports: ReadonlyMap<string, string>): void {
  const text = [...reports].map(([name, report]) => `${name}\n${report}\n`).join('\n');
  writeFileSync(fileOf(guest), text);
}
