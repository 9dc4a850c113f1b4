import { createRequire, syncBuiltinESMExports } from 'node:module';
import { isMainThread, type Worker, type WorkerOptions } from 'node:worker_threads';
import { emulatedBackend } from '../../../main/emulator/backend.ts';
import type { AssistCallbacks, Nvmm } from '../../../main/nvmm/nvmm.ts';
import { VcpuConf } from '../../../main/nvmm/constants.ts';

/**
 * The fault of docs/tutorial.md: a memory exit that is answered wrongly. Preloaded (`npm run story`), it stands in the
 * emulated backend between the memory assist and the devices, and gives one read of the local APIC's task priority
 * register the answer to the read before. STORY_READ says which one; 0 is none. Like a real fault it depends on what the
 * guest does and on nothing else, so that going back and forward again meets it again. Of each two
 * backends that one thread opens, as lockstep does, the first has it.
 */

const TPR = 0xfee0_0080;
const STEP = 0x10;
const FAULTY_READ = Number(process.env.STORY_READ ?? 6);

/** Wraps a backend's opened interface. */
export function faulty(nvmm: Nvmm, read = FAULTY_READ): Nvmm {
  const configure = nvmm.vcpuConfigure.bind(nvmm);
  nvmm.vcpuConfigure = (machine, vcpu, op, conf) => {
    const { mem } = conf as AssistCallbacks;
    if (op !== VcpuConf.CALLBACKS || mem === undefined) return configure(machine, vcpu, op, conf);
    configure(machine, vcpu, op, {
      ...conf,
      mem: (access) => {
        mem(access);
        if (access.write || access.gpa !== TPR) return;
        // The guest reads what it has just written: 0x10 more each time.
        const right = access.data.getUint32(0, true);
        if (right === (read - 1) * STEP) access.data.setUint32(0, right - STEP, true);
      },
    });
  };
  return nvmm;
}

/** Threads don't preload what their process does: each one that runs a source of ours is told to. */
function followThreads(): void {
  const threads = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof Worker };
  const Real = threads.Worker;
  threads.Worker = class extends Real {
    constructor(code: string | URL, options: WorkerOptions = {}) {
      const here = JSON.stringify(import.meta.url);
      const told = String(code)
        .replace('({ register }) =>', 'async ({ register }) =>')
        .replace('register();', `register(); await import(${here});`);
      super(options.eval === true ? told : code, options);
    }
  };
  syncBuiltinESMExports();
}

if (process.env.STORY_READ !== undefined) {
  if (isMainThread) followThreads();
  const { open } = emulatedBackend;
  let opened = 0;
  emulatedBackend.open = (...args) => (opened++ % 2 === 0 ? faulty(open(...args)) : open(...args));
}
