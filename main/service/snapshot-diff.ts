import type { Snapshot } from '../machine/snapshot/format.ts';
import { PAGE, ZERO } from '../machine/snapshot/memory-file.ts';
import type { SavedMemory } from '../machine/snapshot/restore.ts';
import { MemoryReader } from '../machine/snapshot/restore.ts';
import { ServiceError } from './errors.ts';
import type { SnapshotDifference } from './snapshot-contract.ts';

/** Stretches of memory that a difference lists; all of them are counted. */
const MOST_STRETCHES = 1000;
/** Bytes of a stretch that are shown. */
const SHOWN = 16;

interface Side {
  saved: Snapshot;
  memory: SavedMemory;
}

/** What differs between two snapshots: registers, device registers, memory pages and bytes. */
export function compareSnapshots(a: Side, b: Side): SnapshotDifference {
  if (a.memory.size !== b.memory.size) {
    throw new ServiceError(
      'invalid',
      `The snapshots have ${a.memory.size} and ${b.memory.size} bytes of RAM: they can't be compared.`,
    );
  }
  return {
    registers: compareValues({ vcpus: a.saved.vcpus }, { vcpus: b.saved.vcpus }),
    devices: compareValues(a.saved.devices, b.saved.devices),
    ...compareMemory(a.memory, b.memory),
  };
}

/** Leaves of two trees that differ, by their paths. */
export function compareValues(a: unknown, b: unknown, path = ''): SnapshotDifference['registers'] {
  if (isTree(a) && isTree(b)) {
    const names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
    return names.flatMap((name) =>
      compareValues(
        (a as Record<string, unknown>)[name],
        (b as Record<string, unknown>)[name],
        path === '' ? name : `${path}.${name}`,
      ),
    );
  }
  const [from, to] = [a, b].map((value) => (value === undefined ? 'none' : show(value)));
  return from === to ? [] : [{ name: path, from: from!, to: to! }];
}

function isTree(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function compareMemory(
  a: SavedMemory,
  b: SavedMemory,
): Pick<SnapshotDifference, 'pages' | 'bytes' | 'memory'> {
  const [from, to] = [new MemoryReader(a), new MemoryReader(b)];
  const found = { pages: 0, bytes: 0, memory: [] as SnapshotDifference['memory'] };
  try {
    const [x, y] = [Buffer.alloc(PAGE), Buffer.alloc(PAGE)];
    for (let page = 0; page < a.size / PAGE; page++) {
      if (sameFile(from, to, a, b, page)) continue;
      from.readPage(page, x);
      to.readPage(page, y);
      if (x.equals(y)) continue;
      found.pages++;
      found.bytes += comparePage(x, y, page * PAGE, found.memory);
    }
    return found;
  } finally {
    from.close();
    to.close();
  }
}

/** True when both have the page in the same file, or it is zero in both: then it need not be read. */
function sameFile(
  from: MemoryReader,
  to: MemoryReader,
  a: SavedMemory,
  b: SavedMemory,
  page: number,
): boolean {
  const [x, y] = [from.index.owner[page]!, to.index.owner[page]!];
  if (x === ZERO || y === ZERO) return x === y;
  return a.files[x] === b.files[y];
}

function comparePage(x: Buffer, y: Buffer, base: number, into: SnapshotDifference['memory']): number {
  let bytes = 0;
  for (let at = 0; at < PAGE; at++) {
    if (x[at] === y[at]) continue;
    const start = at;
    while (at < PAGE && x[at] !== y[at]) at++;
    bytes += at - start;
    if (into.length >= MOST_STRETCHES) continue;
    const [from, to] = [x, y].map((page) => page.toString('hex', start, Math.min(at, start + SHOWN)));
    into.push({ address: base + start, bytes: at - start, from: from!, to: to! });
  }
  return bytes;
}
