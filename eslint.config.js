import js from '@eslint/js';
import tseslint from 'typescript-eslint';
import reactHooks from 'eslint-plugin-react-hooks';
import { readdirSync } from 'node:fs';

/**
 * The arrows of ARCHITECTURE.md: what the files of a folder may import. Anything of ours that is not listed
 * is an error. `node` says whether Node's own modules may be used there.
 */
const layers = {
  'main/nvmm': { may: [], node: false },
  'main/emulator': { may: ['main/nvmm'], node: false },
  'main/devices': { may: [], node: false },
  'native/libnvmm': { may: ['main/nvmm'], node: true },
  'main/machine': { may: ['main/devices', 'main/nvmm', 'main/emulator', 'native/libnvmm'], node: true },
  'main/inspect': { may: ['main/nvmm', 'main/machine'], node: true },
  'main/service': { may: ['main/machine', 'main/nvmm', 'main/inspect'], node: true },
  preload: { may: ['main/service/contract.ts'], node: false },
  renderer: { may: ['main/service/contract.ts'], node: false },
};

const folders = Object.keys(layers);
const top = readdirSync(new URL('.', import.meta.url)).filter((name) =>
  ['main', 'native', 'preload', 'renderer', 'test'].includes(name),
);

/** Resolves a relative import to a path from the repository's root. */
function resolveFrom(file, source) {
  const parts = file.split('/').slice(0, -1);
  for (const step of source.split('/')) {
    if (step === '..') parts.pop();
    else if (step !== '.') parts.push(step);
  }
  return parts.join('/');
}

const layerRule = {
  meta: { type: 'problem', schema: [] },
  create(context) {
    const root = import.meta.dirname ?? new URL('.', import.meta.url).pathname.replace(/\/$/, '');
    const file = context.filename.slice(root.length + 1);
    const folder = folders.find((name) => file.startsWith(`${name}/`));
    const electronAllowed =
      file === 'main/index.ts' || file.startsWith('preload/') || file.startsWith('test/');
    const check = (node) => {
      const source = node.source?.value;
      if (typeof source !== 'string') return;
      if (source === 'electron' && !electronAllowed && node.importKind !== 'type') {
        context.report({ node, message: 'Electron is imported in main/index.ts and preload/ only.' });
      }
      if (folder === undefined) return;
      if (source.startsWith('node:') && !layers[folder].node) {
        context.report({ node, message: `${folder} must not import ${source}: it runs without Node.` });
      }
      if (!source.startsWith('.')) return;
      const target = resolveFrom(file, source);
      const allowed = [folder, ...layers[folder].may];
      const ours = top.some((name) => target.startsWith(`${name}/`));
      if (ours && !allowed.some((name) => target === name || target.startsWith(`${name}/`))) {
        context.report({ node, message: `${folder} must not import ${target} (layers: ARCHITECTURE.md).` });
      }
    };
    return {
      ImportDeclaration: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      ImportExpression: check,
    };
  },
};

export default tseslint.config(
  { ignores: ['out', 'dist', 'node_modules', '.cache', 'test-results', 'playwright-report'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    plugins: { vitrine: { rules: { layers: layerRule } }, 'react-hooks': reactHooks },
    rules: {
      'vitrine/layers': 'error',
      'no-undef': 'off',
      'no-console': 'off',
      curly: ['error', 'multi-line'],
      eqeqeq: 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      'react-hooks/rules-of-hooks': 'error',
      'react-hooks/exhaustive-deps': 'error',
    },
  },
);
