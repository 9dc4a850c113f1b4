import type { ChildProcess } from 'node:child_process';

/** A conversation with a guest's serial console on a child's stdin and stdout. */
export class Session {
  /** Everything printed so far. */
  output = '';
  readonly ended: Promise<number | null>;
  private readonly child: ChildProcess;
  private readonly waiting = new Set<() => void>();
  /** Where the next wait starts to look. */
  private position = 0;
  private over = false;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout!.setEncoding('latin1').on('data', (text: string) => {
      this.output += text;
      this.wake();
    });
    child.stderr?.setEncoding('latin1').on('data', (text: string) => (this.output += text));
    this.ended = new Promise((resolve) => {
      child.on('close', (code) => {
        this.over = true;
        this.wake();
        resolve(code);
      });
    });
  }

  private wake(): void {
    for (const look of [...this.waiting]) look();
  }

  /** Waits for `text` and gives what was printed before it, since the last wait. */
  waitFor(text: string, milliseconds = 60_000): Promise<string> {
    return new Promise((resolve, reject) => {
      const give = (settle: () => void): void => {
        clearTimeout(timer);
        this.waiting.delete(look);
        settle();
      };
      const look = (): void => {
        const at = this.output.indexOf(text, this.position);
        if (at >= 0) {
          const before = this.output.slice(this.position, at);
          this.position = at + text.length;
          give(() => resolve(before));
        } else if (this.over) {
          give(() => reject(new Error(`ended before "${text}"; printed: ${this.tail()}`)));
        }
      };
      const timer = setTimeout(() => {
        give(() => reject(new Error(`no "${text}" in ${milliseconds} ms; printed: ${this.tail()}`)));
      }, milliseconds);
      this.waiting.add(look);
      look();
    });
  }

  type(text: string): void {
    this.child.stdin!.write(Buffer.from(text, 'latin1'));
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }

  private tail(): string {
    return JSON.stringify(this.output.slice(Math.max(0, this.position - 200)));
  }
}
