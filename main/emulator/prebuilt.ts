import { Decoder } from './decoder/decoder.ts';
import { Handlers, PREBUILT, type Services } from './generate/handlers.ts';
import { SERVICES } from './generate/runtime.ts';
import { reserveUsual } from './generate/usual.ts';
import { PROCESSOR_GROUPS } from './groups.ts';
import { DECODED_FEATURES } from './system/cpuid.ts';

/**
 * The code of the modules that every vCPU begins with, by what they are: for the build, which keeps it, so that a start
 * needs not generate it. It is the same on every machine.
 */
export function prebuild(): ReadonlyMap<string, Uint8Array> {
  const unused = (): never => {
    throw new Error('nothing runs in a build');
  };
  const names = Object.keys(SERVICES) as (keyof Services)[];
  const services = Object.fromEntries(names.map((name) => [name, unused])) as Record<
    keyof Services,
    typeof unused
  >;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const handlers = new Handlers(memory, services, PROCESSOR_GROUPS);
  reserveUsual(handlers, new Decoder(DECODED_FEATURES));
  handlers.makeAllSets();
  return PREBUILT;
}

/** Takes what `prebuild` gave in the build that this program is of. Before a backend is opened. */
export function takePrebuilt(modules: Iterable<readonly [string, Uint8Array<ArrayBuffer>]>): void {
  for (const [key, bytes] of modules) PREBUILT.set(key, bytes);
}
