import type { SerialLog, SerialReader } from '../../../main/machine/serial-log.ts';

/** A conversation with a guest's serial port in this process. */
export class Console {
  output = '';
  private readonly log: SerialLog;
  private readonly reader: SerialReader;
  private position = 0;
  private looks: (() => void)[] = [];

  constructor(log: SerialLog) {
    this.log = log;
    this.reader = log.attach({
      from: 'end',
      lossless: false,
      onData: (data, offset) => {
        this.output += Buffer.from(data).toString('latin1');
        // After the log has noted that it handed these bytes out.
        queueMicrotask(() => this.reader.ack(offset + data.length));
        for (const look of this.looks.splice(0)) look();
      },
    });
  }

  type(text: string): void {
    this.log.write(Buffer.from(text, 'latin1'));
  }

  /** Waits for `text` after what was waited for last; gives what was printed before it. */
  async wait(text: string, milliseconds = 10_000): Promise<string> {
    const end = Date.now() + milliseconds;
    for (;;) {
      const at = this.output.indexOf(text, this.position);
      if (at >= 0) {
        const before = this.output.slice(this.position, at);
        this.position = at + text.length;
        return before;
      }
      const left = end - Date.now();
      const seen = JSON.stringify(this.output.slice(Math.max(0, this.position - 200)));
      if (left <= 0) throw new Error(`no ${JSON.stringify(text)} in ${milliseconds} ms; printed: ${seen}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.looks.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  close(): void {
    this.reader.detach();
  }
}
