import type { PortAccess, PortsInPlace } from '../nvmm/nvmm.ts';
import type { Cpu } from './cpu.ts';
import { Field, PORT_LOG_ENTRIES, PORT_PLACES, PortAnswer, PortLog } from './state.ts';

/**
 * What a vCPU answers in place of exits: the words that generated code looks at (generate/integer/ports.ts), and the log of
 * what it did with them.
 */
export class EmulatedPorts implements PortsInPlace {
  readonly capacity = PORT_LOG_ENTRIES;
  private readonly cpu: Cpu;
  /** Words of the vCPU's block. */
  private readonly answers: Int32Array;
  private readonly log: Int32Array;
  /** Of each entry of the log: instructions retired before it, as far as that is settled. */
  private readonly counts = new Float64Array(PORT_LOG_ENTRIES);
  private settled = 0;
  private taken = 0;
  private readonly access: PortAccess = {
    port: 0,
    in: false,
    value: 0,
    ripLow: 0,
    ripHigh: 0,
    instructions: 0,
  };

  constructor(cpu: Cpu) {
    this.cpu = cpu;
    const { buffer } = cpu.words;
    this.answers = new Int32Array(buffer, cpu.s + Field.PORT_ANSWERS, PORT_PLACES);
    this.log = new Int32Array(buffer, cpu.s + Field.PORT_LOG, (PORT_LOG_ENTRIES * PortLog.SIZE) / 4);
    cpu.set(Field.PORT_COUNT, 0);
    this.withdraw();
  }

  get count(): number {
    return this.cpu.get(Field.PORT_COUNT);
  }

  /** Accesses of all time. */
  get total(): number {
    return this.taken + this.count;
  }

  answer(port: number, value: number): void {
    this.put(port, PortAnswer.READ, value & 0xff);
  }

  accept(port: number): void {
    this.put(port, PortAnswer.WRITE, 0);
  }

  /** A port may have both, but no other at its place. */
  private put(port: number, holds: number, value: number): void {
    const { answers } = this;
    const place = port & (PORT_PLACES - 1);
    const same = (answers[place] & PortAnswer.PORT) === port ? answers[place] : 0;
    const kept = holds === PortAnswer.READ ? same & PortAnswer.WRITE : same & ~PortAnswer.PORT;
    answers[place] = port | (value << PortAnswer.VALUE_SHIFT) | holds | kept;
    this.cpu.set(Field.PORT_LIMIT, PORT_LOG_ENTRIES);
  }

  withdraw(): void {
    this.answers.fill(0);
    this.cpu.set(Field.PORT_LIMIT, 0);
  }

  /** The budget is about to be counted from elsewhere: `retired` is what was retired when it was 0. */
  settle(retired: number): void {
    const { count } = this;
    for (; this.settled < count; this.settled++) {
      const at = (this.settled * PortLog.SIZE + PortLog.BUDGET) >>> 2;
      this.counts[this.settled] = retired - this.log[at];
    }
  }

  take(each: (access: Readonly<PortAccess>) => void): void {
    const { cpu, log, access } = this;
    const { count } = this;
    cpu.set(Field.PORT_COUNT, 0);
    this.settled = 0;
    this.taken += count;
    for (let i = 0; i < count; i++) {
      const at = (i * PortLog.SIZE) >>> 2;
      const what = log[at + (PortLog.ACCESS >>> 2)];
      access.port = what & PortAnswer.PORT;
      access.in = (what & PortAnswer.READ) !== 0;
      access.value = (what >>> PortAnswer.VALUE_SHIFT) & 0xff;
      access.ripLow = log[at] >>> 0;
      access.ripHigh = log[at + 1] >>> 0;
      access.instructions = this.counts[i];
      each(access);
    }
  }
}
