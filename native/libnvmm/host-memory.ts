import { closeSync, openSync, readSync } from 'node:fs';
import { loadKoffi, ownLibrary } from './library.ts';

/**
 * What Linux can do with the memory that guest RAM is: put a file's pages in its place, which are read when they are
 * first touched; and keep a picture of it while it changes. Elsewhere nobody needs to know: callers read and copy.
 */

/** A picture of all memory at one moment. */
export interface FrozenMemory {
  /** For another thread: how it opens the same picture (`readFrozen`). */
  readonly handle: FrozenHandle;
  release(): void;
}

/** Structured-cloneable. */
export interface FrozenHandle {
  /** The process that holds the picture. */
  pid: number;
  /** Address of host address 0. */
  base: number;
}

export interface HostMemory {
  /** Puts a file's bytes in place of memory, private and read on demand. All three are whole pages. */
  map(hva: number, size: number, fd: number, offset: number): void;
  /** Puts zero pages in place of memory, and gives back what was there. */
  clear(hva: number, size: number): void;
  /** Takes a picture, or gives null where that can't be done. */
  freeze(): FrozenMemory | null;
}

const PROT_READ_WRITE = 3;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DOFORK = 11;

type Call = (...args: (number | Uint8Array)[]) => number;

/** Null where the host has no such means. `memory` is all of a shared WebAssembly.Memory. */
export function openHostMemory(memory: Uint8Array): HostMemory | null {
  if (process.platform !== 'linux') return null;
  let koffi: ReturnType<typeof loadKoffi>;
  try {
    koffi = loadKoffi();
  } catch {
    return null;
  }
  const c = koffi.load(null);
  const mmap = c.func('mmap', 'uintptr_t', [
    ...['uintptr_t', 'size_t', 'int', 'int', 'int'],
    'int64_t',
  ]) as Call;
  const memcpy = c.func('memcpy', 'uintptr_t', ['void *', 'uintptr_t', 'size_t']) as Call;
  const madvise = c.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']) as Call;
  const base = memcpy(memory, 0, 0);

  const replace = (hva: number, size: number, flags: number, fd: number, offset: number): void => {
    if (!(hva >= 0 && size > 0 && hva + size <= memory.length)) {
      throw new RangeError(`host range ${hva} + ${size} is not inside the memory`);
    }
    const address = base + hva;
    if (mmap(address, size, PROT_READ_WRITE, MAP_PRIVATE | MAP_FIXED | flags, fd, offset) !== address) {
      throw new Error(`mmap of ${size} bytes fails with errno ${koffi.errno()}`);
    }
  };
  return {
    map: (hva, size, fd, offset) => replace(hva, size, MAP_NORESERVE, fd, offset),
    clear: (hva, size) => replace(hva, size, MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
    freeze: () => {
      // V8 keeps its memory from children, unless told otherwise.
      if (madvise(base, memory.length, MADV_DOFORK) !== 0) return null;
      return freeze(koffi, base);
    },
  };
}

function freeze(koffi: ReturnType<typeof loadKoffi>, base: number): FrozenMemory | null {
  const path = ownLibrary();
  if (path === null) return null;
  const library = koffi.load(path);
  const pid = (library.func('nvmm_linux_freeze', 'int', []) as Call)();
  if (pid < 0) return null;
  const thaw = library.func('nvmm_linux_thaw', 'int', ['int']) as Call;
  const handle: FrozenHandle = { pid, base };
  try {
    // Some systems let nobody look into another process, not even into a child.
    const reader = readFrozen(handle);
    reader.close();
  } catch {
    thaw(pid);
    return null;
  }
  return { handle, release: () => void thaw(pid) };
}

/** Reads a picture, on any thread. */
export function readFrozen({ pid, base }: FrozenHandle): {
  read(into: Uint8Array, hva: number): void;
  close(): void;
} {
  const fd = openSync(`/proc/${pid}/mem`, 'r');
  return {
    read: (into, hva) => {
      for (let done = 0; done < into.length;) {
        const count = readSync(fd, into, done, into.length - done, base + hva + done);
        if (count === 0) throw new Error(`the memory of process ${pid} ends at ${base + hva + done}`);
        done += count;
      }
    },
    close: () => closeSync(fd),
  };
}
