import manifest from '../../package.json' with { type: 'json' };

/** Vitrine's own, in a module without anything else: the command line says it before it loads a command. */
export const version: string = manifest.version;
