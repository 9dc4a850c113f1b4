import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type Koffi from 'koffi';
import type { Layout } from './layouts.ts';
import { LAYOUTS, STATE_SIZE } from './layouts.ts';

/**
 * The C library, opened once per thread. Addresses cross as numbers (they have 47 bits), bytes are copied between
 * the library's memory and ours by memcpy: memory that V8 has not made is never wrapped.
 */

/** Why the library can't be used here, in one sentence that says what to do. */
export class LibraryError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LibraryError';
  }
}

type Verb = (...args: (number | bigint | Uint8Array | BigUint64Array)[]) => number;

/** libnvmm's functions. All but the last give 0, or -1 with errno. */
export interface Functions {
  init: Verb;
  capability: Verb;
  machineCreate: Verb;
  machineDestroy: Verb;
  machineConfigure: Verb;
  vcpuCreate: Verb;
  vcpuDestroy: Verb;
  vcpuConfigure: Verb;
  setState: Verb;
  getState: Verb;
  inject: Verb;
  run: Verb;
  /** Absent in version 3. */
  stop: Verb | null;
  hvaMap: Verb;
  hvaUnmap: Verb;
  gpaMap: Verb;
  gpaUnmap: Verb;
  gvaToGpa: Verb;
  gpaToHva: Verb;
  assistIo: Verb;
  assistMem: Verb;
  ctl: Verb;
  /** Ours on Linux: a sentence about the last failure. */
  reason: (() => string) | null;
  /** Ours on Linux: vcpuCreate with a page of the caller's (layouts.ts, PAGE). */
  lentVcpuCreate: Verb | null;
  /** Ours on Linux: run without arguments and result, which cost as much as the call itself. */
  lent: { choose: Verb; run: () => void; goOn: () => void } | null;
}

export interface Library {
  readonly path: string;
  readonly layout: Layout;
  readonly call: Functions;
  /** A zeroed block of C's memory. Never freed: other threads may hold its address. */
  allocate(size: number): number;
  /** Copies from an address into ours. */
  read(into: Uint8Array, address: number, size: number): void;
  write(address: number, from: Uint8Array, size: number): void;
  /** The address of bytes that V8 keeps where they are: a shared WebAssembly.Memory's. */
  addressOf(bytes: Uint8Array): number;
  /** A function pointer for a callback that takes one pointer. It lives as long as the thread. */
  callback(work: (address: number) => void): number;
  errno(): number;
}

const P = 'uintptr_t';

/** Name, and argument types behind the leading pointers. */
const VERBS: Record<keyof Omit<Functions, 'reason' | 'lentVcpuCreate' | 'lent'>, [string, ...string[]]> = {
  init: ['nvmm_init'],
  capability: ['nvmm_capability', 'void *'],
  machineCreate: ['nvmm_machine_create', P],
  machineDestroy: ['nvmm_machine_destroy', P],
  machineConfigure: ['nvmm_machine_configure', P, 'uint64_t', 'void *'],
  vcpuCreate: ['nvmm_vcpu_create', P, 'uint32_t', P],
  vcpuDestroy: ['nvmm_vcpu_destroy', P, P],
  vcpuConfigure: ['nvmm_vcpu_configure', P, P, 'uint64_t', 'void *'],
  setState: ['nvmm_vcpu_setstate', P, P, 'uint64_t'],
  getState: ['nvmm_vcpu_getstate', P, P, 'uint64_t'],
  inject: ['nvmm_vcpu_inject', P, P],
  run: ['nvmm_vcpu_run', P, P],
  stop: ['nvmm_vcpu_stop', P],
  hvaMap: ['nvmm_hva_map', P, P, 'size_t'],
  hvaUnmap: ['nvmm_hva_unmap', P, P, 'size_t'],
  gpaMap: ['nvmm_gpa_map', P, P, 'uint64_t', 'size_t', 'int'],
  gpaUnmap: ['nvmm_gpa_unmap', P, P, 'uint64_t', 'size_t'],
  gvaToGpa: ['nvmm_gva_to_gpa', P, P, 'uint64_t', 'void *', 'void *'],
  gpaToHva: ['nvmm_gpa_to_hva', P, 'uint64_t', 'void *', 'void *'],
  assistIo: ['nvmm_assist_io', P, P],
  assistMem: ['nvmm_assist_mem', P, P],
  ctl: ['nvmm_ctl', 'int', 'void *', 'size_t'],
};

/** Where our library may lie, from the sources as well as from the bundle and from an installed application. */
export function ownLibrary(): string | null {
  // Electron's own property of process, absent in Node.
  const resources = (process as { resourcesPath?: string }).resourcesPath;
  if (resources !== undefined) {
    const packaged = join(resources, 'libnvmm', 'libnvmm.so');
    if (existsSync(packaged)) return packaged;
  }
  let folder = import.meta.dirname;
  for (;;) {
    const built = join(folder, 'out', 'native', 'libnvmm.so');
    // Inside an archive a file exists for Node, and not for the system's loader.
    if (!built.includes('.asar') && existsSync(built)) return built;
    const parent = dirname(folder);
    if (parent === folder) return null;
    folder = parent;
  }
}

function candidates(layout: Layout): readonly string[] {
  if (layout.libraries.length > 0) return layout.libraries;
  const own = ownLibrary();
  if (own === null) {
    throw new LibraryError(
      'our libnvmm for Linux has not been built: install gcc and make, then run "npm run build:native".',
    );
  }
  return [own];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function loadKoffi(): typeof Koffi {
  try {
    return createRequire(import.meta.url)('koffi') as typeof Koffi;
  } catch (error) {
    throw new LibraryError(`the npm package koffi can't be loaded here (${messageOf(error)}).`);
  }
}

function loadFirst(koffi: typeof Koffi, names: readonly string[]): [string, ReturnType<typeof koffi.load>] {
  const failures: string[] = [];
  for (const name of names) {
    try {
      return [name, koffi.load(name)];
    } catch (error) {
      failures.push(`${name}: ${messageOf(error)}`);
    }
  }
  throw new LibraryError(`libnvmm can't be loaded (${failures.join('; ')}).`);
}

function layoutOf(system: string): Layout {
  const layout = LAYOUTS[system];
  if (layout === undefined) throw new LibraryError(`there is no libnvmm for ${system}.`);
  return layout;
}

/** Loads a library, the first of these that is there, as that of a system. It is not used yet. */
function load(system: string, names: readonly string[]): Library {
  const layout = layoutOf(system);
  const koffi = loadKoffi();
  const [path, handle] = loadFirst(koffi, names);
  const find = <F>(name: string, result: string, types: string[]): F => {
    try {
      return handle.func(name, result, types) as F;
    } catch {
      throw new LibraryError(
        system === 'linux'
          ? `${path} has no ${name}: it was built from other sources. Run "npm run build:native" again.`
          : `${path} has no ${name}: it is the library of another system or version.`,
      );
    }
  };
  const call = Object.fromEntries(
    Object.entries(VERBS).map(([key, [name, ...types]]) => {
      return [key, key === 'stop' && !layout.stop ? null : find(name, 'int', types)];
    }),
  ) as unknown as Functions;
  const ours = system === 'linux';
  call.reason = ours ? find('nvmm_linux_reason', 'str', []) : null;
  call.lentVcpuCreate = ours ? find('nvmm_linux_vcpu_create', 'int', [P, 'uint32_t', P, P]) : null;
  call.lent = !ours
    ? null
    : {
        choose: find('nvmm_linux_choose', 'void', [P, P]),
        run: find('nvmm_linux_run', 'void', []),
        goOn: find('nvmm_linux_go_on', 'void', []),
      };

  const c = koffi.load(null);
  const calloc = c.func('calloc', P, ['size_t', 'size_t']) as (count: number, size: number) => number;
  const copyOut = c.func('memcpy', P, ['void *', P, 'size_t']) as Verb;
  const copyIn = c.func('memcpy', P, [P, 'const void *', 'size_t']) as Verb;
  const prototype = koffi.pointer(koffi.proto('void', [P]));
  return {
    path,
    layout,
    call,
    allocate: (size) => calloc(1, size),
    read: copyOut,
    write: copyIn,
    addressOf: (bytes) => copyOut(bytes, 0, 0),
    callback: (work) => Number(koffi.register(work, prototype)),
    errno: () => koffi.errno(),
  };
}

/** The library must be the one that the table describes. */
function check({ layout, call, path }: Library): void {
  const size = layout.capability.size;
  // Filled, and larger than needed, so that a longer structure shows.
  const bytes = new Uint8Array(256).fill(0xa5);
  if (call.capability(bytes) !== 0) throw new LibraryError(`${path}: nvmm_capability fails.`);
  const view = new DataView(bytes.buffer);
  const version = view.getUint32(0, true);
  const stateSize = view.getUint32(4, true);
  if (version !== layout.version || stateSize !== STATE_SIZE) {
    throw new LibraryError(
      `${path} speaks version ${version} with ${stateSize} bytes of state, and version ${layout.version} with ${STATE_SIZE} is wanted.`,
    );
  }
  if (bytes[size] !== 0xa5 || bytes.subarray(size - 8, size).every((byte) => byte === 0xa5)) {
    throw new LibraryError(`${path}: its capability does not have ${size} bytes: it is another system's.`);
  }
}

/** Makes a loaded library ready for use, or says why it can't be. */
function initialize(library: Library): void {
  const { call, layout } = library;
  if (call.init() !== 0) {
    const why = call.reason?.() ?? '';
    throw new LibraryError(
      why !== '' ? `${why}.` : `nvmm_init fails with errno ${library.errno()}: look at ${layout.device}.`,
    );
  }
  check(library);
}

/** By system; but for tests there is one. */
const libraries = new Map<string, Library>();
const usable = new Set<Library>();

/** Opens the library of this system. What can't be opened now may be later: nothing but success is remembered. */
export function openLibrary(system: string = process.platform): Library {
  const library = libraries.get(system) ?? load(system, candidates(layoutOf(system)));
  libraries.set(system, library);
  if (!usable.has(library)) initialize(library);
  usable.add(library);
  return library;
}

/** Opens the library in a file as that of a system. */
export function openLibraryFile(system: string, file: string): Library {
  const library = load(system, [file]);
  initialize(library);
  return library;
}
