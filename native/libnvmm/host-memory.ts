import { closeSync, openSync, readSync } from 'node:fs';
import { loadKoffi, ownLibrary } from './library.ts';

/**
 * What Linux can do with the memory that guest RAM is: give it large pages; put a file's pages in its place, which are
 * read when they are first touched; and keep a picture of it while it changes. Elsewhere nobody needs to know: callers
 * read and copy.
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
  /** Puts zero pages in place of all memory that was mapped, and gives back what was there. */
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
const MADV_HUGEPAGE = 14;
const MADV_DONTNEED = 4;
const PROT_NONE = 0;
/** MAP_FAILED. */
const FAILED = -1;
/** MREMAP_MAYMOVE, FIXED and DONTUNMAP (Linux 5.7): the pages go, the range stays and is empty. */
const MREMAP_AWAY = 7;
/** What one entry of a page directory maps. Whole ones are moved at once, when both places are alike in it. */
const DIRECTORY = 2 ** 21;
/** When and in what pieces memory that was put aside is given back: the guest runs again by then. */
const LATER_MS = 200;
const PIECE = 2 ** 25;
/** Beyond so many stretches, moving costs as much as it saves. */
const MOST_STRETCHES = 256;

type Call = (...args: (number | Uint8Array)[]) => number;
/** A call on another thread, whose result nobody waits for. */
type Later = { async(...args: [...number[], () => void]): void };

/** Null where the host has no such means. `memory` is all of a shared WebAssembly.Memory, which gets large pages. */
export function openHostMemory(memory: Uint8Array): HostMemory | null {
  if (process.platform !== 'linux') return null;
  let koffi: ReturnType<typeof loadKoffi>;
  try {
    koffi = loadKoffi();
  } catch {
    return null;
  }
  const c = koffi.load(null);
  const mmap = c.func('mmap', 'intptr_t', [
    ...['uintptr_t', 'size_t', 'int', 'int', 'int'],
    'int64_t',
  ]) as Call;
  const memcpy = c.func('memcpy', 'uintptr_t', ['void *', 'uintptr_t', 'size_t']) as Call;
  const madvise = c.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']) as Call & Later;
  const mremap = c.func('mremap', 'intptr_t', [
    ...['uintptr_t', 'size_t', 'size_t', 'int', 'uintptr_t'],
  ]) as Call;
  const munmap = c.func('munmap', 'int', ['uintptr_t', 'size_t']) as Call;
  const base = memcpy(memory, 0, 0);
  // A guest that jumps about in 8 MiB runs a fifth faster in large pages of the host. One without them refuses, and nobody needs
  // to know. What is put in memory's place later, when a snapshot is restored, does without: it is brought in page by page.
  madvise(base, memory.length, MADV_HUGEPAGE);
  /** What has been mapped since all was cleared, in order. */
  let mapped: { hva: number; size: number }[] = [];

  const replace = (hva: number, size: number, flags: number, fd: number, offset: number): void => {
    if (!(hva >= 0 && size > 0 && hva + size <= memory.length)) {
      throw new RangeError(`host range ${hva} + ${size} is not inside the memory`);
    }
    const address = base + hva;
    if (mmap(address, size, PROT_READ_WRITE, MAP_PRIVATE | MAP_FIXED | flags, fd, offset) !== address) {
      throw new Error(`mmap of ${size} bytes fails with errno ${koffi.errno()}`);
    }
  };
  /** By and by: each call keeps everybody waiting who maps memory. */
  const giveBack = (place: number, room: number, at: number): void => {
    if (at >= room) munmap(place, room);
    else {
      const piece = Math.min(PIECE, room - at);
      madvise.async(place + at, piece, MADV_DONTNEED, () => giveBack(place, room, at + piece));
    }
  };
  /**
   * Takes the pages of a stretch out of memory's way, to be given back on another thread: that takes a fifth of a
   * second for 2 GiB, and a guest would wait. Where it can't be done, `replace` gives them back.
   */
  const putAside = (hva: number, size: number): void => {
    const [address, room] = [base + hva, size + DIRECTORY];
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const place = mmap(0, room, PROT_NONE, flags, -1, 0);
    if (place === FAILED) return;
    const alike = (((address - place) % DIRECTORY) + DIRECTORY) % DIRECTORY;
    if (mremap(address, size, size, MREMAP_AWAY, place + alike) === FAILED) munmap(place, room);
    else setTimeout(() => giveBack(place, room, 0), LATER_MS).unref();
  };
  const clear = (hva: number, size: number): void => {
    if (mapped.length <= MOST_STRETCHES) {
      let at = hva;
      for (const one of mapped) {
        if (one.hva > at) putAside(at, one.hva - at);
        putAside(one.hva, one.size);
        at = one.hva + one.size;
      }
      if (at < hva + size) putAside(at, hva + size - at);
    }
    replace(hva, size, MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mapped = [];
  };
  return {
    map: (hva, size, fd, offset) => {
      replace(hva, size, MAP_NORESERVE, fd, offset);
      mapped.push({ hva, size });
    },
    clear,
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
