import { parseArgs } from 'node:util';
import { Client } from './client.ts';
import type { Surroundings } from './trace-command.ts';

const usage = `Usage: vitrine gdb VM [--address [HOST:]PORT|unix:PATH] [--arch ARCH] [--json]
       vitrine gdb VM --stop

Makes a VM of a running "vitrine serve" listen for gdb, until --stop, and prints what to type to connect. VM is an id, or
a name that no other VM has. vitrine run has --gdb for a VM of its own.

  --address ADDRESS  where (default: a free port of this computer's own); a host is to be named only with care
  --arch ARCH        what gdb takes the machine for: auto, i8086, i386 or x86-64 (default auto)
  --stop             lets gdb go and listens no more; the VM stays as it is
  --json             the answer as JSON
  --help             this text

The library is in VITRINE_HOME, or where this system keeps the data of applications.
`;

const architectures = ['auto', 'i8086', 'i386', 'x86-64'] as const;

interface GdbOptions {
  vm: string;
  address: string | undefined;
  architecture: (typeof architectures)[number];
  stop: boolean;
  json: boolean;
}

/** `vitrine gdb`. Resolves with an exit status: 0, 1 for the host's or the VM's fault, 2 for wrong usage. */
export async function gdbCommand(
  args: string[],
  around: Surroundings = { output: process.stdout, errors: process.stderr },
): Promise<number> {
  const { output, errors } = around;
  let options: GdbOptions | 'help';
  try {
    options = parseGdbArgs(args);
  } catch (error) {
    errors.write(`vitrine gdb: ${(error as Error).message}\nTry: vitrine gdb --help\n`);
    return 2;
  }
  if (options === 'help') {
    output.write(usage);
    return 0;
  }
  let client: Client | undefined;
  try {
    client = await Client.connect(around.library);
    const { id } = await client.vm(options.vm);
    if (options.stop) {
      await client.request('gdb.stop', { id });
      return 0;
    }
    const { address, architecture, json } = options;
    const answer = await client.request('gdb.start', {
      ...{ id, architecture },
      ...(address === undefined ? {} : { address }),
    });
    output.write(`${json ? JSON.stringify(answer) : answer.command}\n`);
    if (answer.warning !== undefined) errors.write(`vitrine gdb: ${answer.warning}\n`);
    return 0;
  } catch (error) {
    errors.write(`vitrine gdb: ${(error as Error).message}\n`);
    return 1;
  } finally {
    client?.close();
  }
}

export function parseGdbArgs(args: string[]): GdbOptions | 'help' {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      address: { type: 'string' },
      arch: { type: 'string', default: 'auto' },
      stop: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  const [vm, ...more] = positionals;
  if (vm === undefined) throw new Error('which VM? Give its name or id');
  if (more.length > 0) throw new Error(`${more[0]}: one VM at a time`);
  if (values.stop && values.address !== undefined) throw new Error('--stop and --address exclude each other');
  const architecture = architectures.find((name) => name === values.arch);
  if (architecture === undefined) {
    throw new Error(`--arch ${values.arch}: there are ${architectures.join(', ')}`);
  }
  return { vm, address: values.address, architecture, stop: values.stop, json: values.json };
}
