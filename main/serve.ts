import { serveCommand } from './service/serve-command.ts';

/** The service without Electron: for a browser, and for programs of the same user. */
process.exitCode = await serveCommand(process.argv.slice(2));
