import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '../../../main/service/client.ts';

const root = join(import.meta.dirname, '../../..');
const built = join(root, 'out/main/cli.js');
/** The bundle where there is one: it is what users run, and starts in a fraction of the time. */
const command = existsSync(built) ? [built] : ['--import', 'tsx', join(root, 'main/cli.ts')];

/** A `vitrine serve` of its own process group, and a calculator in it. It is there to be killed. */
export class Victim {
  readonly client: Client;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(child: ChildProcess, client: Client, ended: Promise<unknown>) {
    this.#child = child;
    this.client = client;
    this.#ended = ended;
  }

  static async start(folder: string, environment: NodeJS.ProcessEnv = {}): Promise<Victim> {
    const child = spawn(process.execPath, [...command, 'serve', '--port', '0'], {
      // Not XDG_RUNTIME_DIR: the socket goes with the folder.
      env: { ...process.env, VITRINE_HOME: folder, XDG_RUNTIME_DIR: '', ...environment },
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: process.platform !== 'win32',
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    const listening = new Promise((resolve) => child.stdout.once('data', resolve));
    await Promise.race([listening, ended.then(() => Promise.reject(new Error('vitrine serve has ended')))]);
    return new Victim(child, await Client.connect(folder), ended);
  }

  /** kill -9: of the service alone, whose VMs then find themselves alone, or of all its processes at once. */
  kill(all: boolean): void {
    const { pid } = this.#child;
    process.kill(all && process.platform !== 'win32' ? -pid! : pid!, 'SIGKILL');
  }

  async gone(): Promise<void> {
    await this.#ended;
    this.client.close();
  }

  /** The guest has booted: what is typed before it has set up its UART is lost. */
  prompt(id: string): Promise<void> {
    return this.#listen(id, true, '\n> ', null);
  }

  /** The guest answers to sums: its state is whole. */
  calculate(id: string, a: number, b: number): Promise<void> {
    return this.#listen(id, false, `${a * b}\r\n`, `\r${a} * ${b}\r`);
  }

  /** Types, and waits for the guest to print what is wanted; also looks at what it printed before, if `past`. */
  async #listen(id: string, past: boolean, wanted: string, typed: string | null): Promise<void> {
    const { client } = this;
    let heard = '';
    let end = (): void => undefined;
    let [stream, from] = [-1, 0];
    const early: { stream: number; offset: number; data: string }[] = [];
    await new Promise<void>((resolve, reject) => {
      const wait = setTimeout(() => reject(new Error(`no ${wanted} after ${typed}: ${heard}`)), 60_000);
      const hear = (piece: { stream: number; offset: number; data: string }): void => {
        if (stream < 0) early.push(piece);
        if (piece.stream !== stream) return;
        // A piece may have the end of what was printed before, and the beginning of the answer.
        const bytes = Buffer.from(piece.data, 'base64');
        heard += bytes.subarray(Math.max(0, from - piece.offset)).toString('latin1');
        if (heard.includes(wanted)) resolve();
      };
      const stop = client.on('console.data', hear);
      end = () => {
        stop();
        clearTimeout(wait);
      };
      const begin = async (): Promise<void> => {
        const attached = await client.request('console.attach', { id, port: 0 });
        [stream, from] = [attached.stream, past ? 0 : attached.history];
        early.forEach(hear);
        if (typed === null) return;
        const data = Buffer.from(typed).toString('base64');
        await client.request('console.input', { stream, data });
      };
      begin().catch(reject);
    }).finally(() => end());
    await client.request('console.detach', { stream });
  }
}
