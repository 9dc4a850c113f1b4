import type { Readable } from 'node:stream';

/** Ctrl-A: what QEMU and minicom use, and what a shell needs less than Ctrl-C. */
const ESCAPE = 0x01;

export const keyHelp = `
Ctrl-A h       this help
Ctrl-A x       quit: powers the machine off at once
Ctrl-A b       press the power button: the guest shuts down
Ctrl-A p       pause, or go on
Ctrl-A r       reset
Ctrl-A c       the next console: COM1 to COM4, then hvc0
Ctrl-A Ctrl-A  types a Ctrl-A
`.replaceAll('\n', '\r\n');

export type Key = 'x' | 'h' | 'b' | 'p' | 'r' | 'c';
const KEYS = 'xhbprc';

/** Splits what is typed into bytes for the guest and commands: keys after Ctrl-A. */
export class EscapeFilter {
  private pending = false;
  private readonly command: (key: Key) => void;

  constructor(command: (key: Key) => void) {
    this.command = command;
  }

  /** The bytes that go to the guest. Commands run on the way. */
  filter(data: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of data) {
      if (!this.pending) {
        if (byte === ESCAPE) this.pending = true;
        else out.push(byte);
        continue;
      }
      this.pending = false;
      const key = String.fromCharCode(byte).toLowerCase();
      if (byte === ESCAPE) out.push(ESCAPE);
      else if (KEYS.includes(key)) this.command(key as Key);
      else if (key === '?') this.command('h');
      // Any other key is dropped: typed into the guest, it would surprise.
    }
    return Uint8Array.from(out);
  }
}

/** A stream that may be a terminal. */
export type Input = Readable & { isTTY?: boolean; setRawMode?(on: boolean): unknown };

/** Puts a terminal into raw mode, and back on every way out of the process. */
export class RawTerminal {
  private readonly input: Input;
  private raw = false;
  private readonly leave = (): void => this.restore();

  constructor(input: Input) {
    this.input = input;
  }

  get isTerminal(): boolean {
    return this.input.isTTY === true && this.input.setRawMode !== undefined;
  }

  enter(): void {
    if (!this.isTerminal || this.raw) return;
    this.raw = true;
    // 'exit' comes after process.exit() and after an uncaught exception, too.
    process.on('exit', this.leave);
    this.input.setRawMode!(true);
  }

  restore(): void {
    if (!this.raw) return;
    this.raw = false;
    process.off('exit', this.leave);
    this.input.setRawMode!(false);
  }
}
