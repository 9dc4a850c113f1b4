import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'electron-vite';
import type { Plugin } from 'vite';
import { prebuild } from './main/emulator/prebuilt.ts';
import { PREBUILT_FILE } from './main/machine/entry.ts';

const root = import.meta.dirname;
const at = (path: string) => join(root, path);

/**
 * Every file that is started as a program of its own: the Electron entry, the two Node entries, and the process and
 * thread that a running VM is made of.
 */
const entries = {
  index: 'main/index.ts',
  cli: 'main/cli.ts',
  serve: 'main/serve.ts',
  process: 'main/machine/process.ts',
  vcpu: 'main/machine/vcpu.ts',
  snapshot: 'main/machine/snapshot/thread.ts',
  lockstep: 'main/inspect/lockstep-thread.ts',
};

/** npm makes a bin executable when it installs a package; a build in a clone has to do it itself. */
function executable(file: string): Plugin {
  return {
    name: 'vitrine:executable',
    writeBundle: () => chmodSync(at(file), 0o755),
  };
}

/** The emulator's handlers, generated now and not at each start. */
function handlers(): Plugin {
  return {
    name: 'vitrine:handlers',
    generateBundle() {
      const modules = [...prebuild()].map(([key, bytes]) => [key, Buffer.from(bytes).toString('base64')]);
      this.emitFile({
        type: 'asset',
        fileName: PREBUILT_FILE,
        source: JSON.stringify(Object.fromEntries(modules)),
      });
    },
  };
}

export default defineConfig({
  main: {
    plugins: [executable('out/main/cli.js'), handlers()],
    build: {
      outDir: 'out/main',
      // The same bundle runs in Electron and in the oldest Node that package.json allows.
      target: 'node20',
      rolldownOptions: {
        input: Object.fromEntries(Object.entries(entries).map(([name, file]) => [name, at(file)])),
      },
    },
  },
  preload: {
    build: {
      outDir: 'out/preload',
      target: 'node20',
      // A sandboxed preload script is CommonJS, in one file.
      rolldownOptions: {
        input: { index: at('preload/index.ts') },
        output: { format: 'cjs', entryFileNames: '[name].cjs' },
      },
    },
  },
  renderer: {
    root: at('renderer'),
    plugins: [react()],
    build: {
      outDir: at('out/renderer'),
      target: 'es2023',
      // Files, never data: URLs: the content security policy allows fonts and images from the app only.
      assetsInlineLimit: 0,
      // It comes from this computer, not over a network: one chunk of xterm.js and React is as good as several.
      chunkSizeWarningLimit: 1000,
      minify: true,
      rolldownOptions: { input: { index: at('renderer/index.html') } },
    },
  },
});
