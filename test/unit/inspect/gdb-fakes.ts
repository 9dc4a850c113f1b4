import { createConnection, type Socket } from 'node:net';
import { Cr, Gpr, Msr, Seg, StateOffset } from '../../../main/nvmm/constants.ts';
import { VcpuState } from '../../../main/nvmm/layout.ts';
import type { Answer, MachineStatus, Question, QuestionParams } from '../../../main/machine/protocol.ts';
import { expandRuns } from '../../../main/inspect/gdb/packet.ts';
import { linearPc } from '../../../main/inspect/gdb/registers.ts';
import type { GdbMachine, GdbTarget, Reverse } from '../../../main/inspect/gdb/stub.ts';
import type { Breakpoint, SetBreakpoint, Stop } from '../../../main/machine/debug.ts';

type Status = MachineStatus;
export type FakeMode = 'long' | 'compatibility' | 'protected' | 'real';

/** Bytes of the fake's memory, which repeats nowhere. */
export const FAKE_MEMORY = 0x10000;

/**
 * A machine without paging, whose memory is mapped one to one, and holds nothing but NOPs as far as its vCPUs care: each instruction
 * takes one byte. It has everything that a debugger touches, and needs no process.
 */
export class FakeDebuggee implements GdbTarget, GdbMachine {
  status: Status = { state: 'paused', backend: 'emulated' };
  readonly memory = new Uint8Array(FAKE_MEMORY).fill(0x90);
  readonly states: VcpuState[];
  readonly breakpoints = new Map<number, Breakpoint>();
  /** What was done, for tests to look at. */
  readonly log: string[] = [];
  reverse: Reverse | undefined;
  /** What the next step or resume fails with. */
  failure: Error | null = null;
  private readonly listeners = new Set<(status: Status) => void>();
  private nextId = 1;

  constructor(mode: FakeMode, vcpus = 1) {
    this.states = Array.from({ length: vcpus }, () => fakeState(mode));
  }

  onStatus(listener: (status: Status) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  become(status: Status): void {
    this.status = status;
    for (const listener of [...this.listeners]) listener(status);
  }

  get vcpus(): number {
    return this.states.length;
  }

  async readState(vcpu: number): Promise<VcpuState> {
    this.log.push(`read ${vcpu}`);
    this.mustStand();
    return new VcpuState(this.states[vcpu].bytes.slice());
  }

  async writeState(vcpu: number, flags: number, state: VcpuState): Promise<void> {
    this.log.push(`write ${vcpu} ${flags}`);
    this.mustStand();
    this.states[vcpu].bytes.set(state.bytes);
  }

  async readPhysical(gpa: number, length: number): Promise<Uint8Array> {
    return this.memory.slice(gpa, gpa + length);
  }

  async writePhysical(gpa: number, bytes: Uint8Array): Promise<void> {
    if (gpa + bytes.length > FAKE_MEMORY) throw new Error('There is no RAM.');
    this.memory.set(bytes, gpa);
  }

  async step(vcpu: number): Promise<Stop> {
    this.log.push(`step ${vcpu}`);
    this.mustStand();
    this.mayFail();
    // A real one is in another process: whoever steps a million times hears other things meanwhile.
    await new Promise(setImmediate);
    const state = this.states[vcpu];
    state.rip += 1n;
    return { vcpu, reason: 'step', rip: state.rip, message: '' };
  }

  async pause(): Promise<Stop> {
    const stop: Stop = { vcpu: 0, reason: 'pause', rip: this.states[0].rip, message: '' };
    this.become({ state: 'paused', stop });
    return stop;
  }

  /** Runs to the next breakpoint before the end of its memory; without one it runs until it is paused. */
  async resume(): Promise<void> {
    this.log.push('resume');
    this.mayFail();
    this.become({ state: 'running' });
    const [state] = this.states;
    for (let at = linearPc(state) + 1n; at < BigInt(FAKE_MEMORY); at++) {
      for (const [id, breakpoint] of this.breakpoints) {
        const hit = 'address' in breakpoint && breakpoint.address === at;
        if (!hit) continue;
        state.rip += at - linearPc(state);
        const reason = breakpoint.kind === 'watch' ? 'watchpoint' : 'breakpoint';
        const stop: Stop = { vcpu: 0, reason, id, rip: state.rip, address: at, message: '' };
        setImmediate(() => this.become({ state: 'paused', stop }));
        return;
      }
    }
  }

  /** From now on it can go back, to the beginning at 0x1000. */
  remembers(): void {
    const to = (rip: bigint) => {
      const state = this.states[0];
      const begin = rip <= 0x1000n;
      state.rip = begin ? 0x1000n : rip;
      const stop: Stop = { vcpu: 0, reason: 'step', rip: state.rip, message: '' };
      return begin ? { stop, begin: true as const } : { stop };
    };
    this.reverse = {
      step: async () => to(this.states[0].rip - 1n),
      goOn: async () => to(0x1000n),
    };
  }

  async add(breakpoint: Breakpoint): Promise<{ id: number }> {
    if (breakpoint.kind === 'watch' && breakpoint.length > 0x1000) {
      throw new Error(`${breakpoint.length} bytes are more than can be watched.`);
    }
    const id = this.nextId++;
    this.breakpoints.set(id, breakpoint);
    return { id };
  }

  async remove(id: number): Promise<void> {
    this.breakpoints.delete(id);
  }

  async list(): Promise<SetBreakpoint[]> {
    return [...this.breakpoints].map(([id, breakpoint]) => ({ id, breakpoint, once: false, hits: 0 }));
  }

  async powerButton(): Promise<void> {
    this.log.push('powerButton');
  }

  async powerOff(): Promise<void> {
    this.log.push('powerOff');
    this.become({ state: 'off' });
  }

  async ask<Q extends Question>(question: Q, params: QuestionParams<Q>): Promise<Answer<Q>> {
    this.log.push(`ask ${question} ${JSON.stringify(params)}`);
    const exit = {
      ...{ number: 7, vcpu: 0, run: 1, time: 1_500_000, reason: 'IO', rip: '0x7c05', port: 0x3f8, size: 1 },
      ...{ direction: 'write', value: '0x54', device: 'com1' },
    };
    const answers = {
      'trace.query': { records: [exit], next: 0, first: 0, end: 8 },
      stats: { 'exits.IO': 8 },
      'devices.read': [{ device: 'lapic', registers: [{ name: 'TPR', value: 16, about: 'task priority' }] }],
    } as Record<string, unknown>;
    return answers[question] as Answer<Q>;
  }

  private mustStand(): void {
    if (this.status.state === 'running') throw new Error("The machine is running: it can't be looked at.");
  }

  private mayFail(): void {
    const { failure } = this;
    this.failure = null;
    if (failure !== null) throw failure;
  }
}

const CODE: Record<FakeMode, { cr0: bigint; efer: bigint; attrib: number; base: bigint; rip: bigint }> = {
  long: { cr0: 0x11n, efer: 0x500n, attrib: 0x29b, base: 0n, rip: 0x1000n },
  compatibility: { cr0: 0x11n, efer: 0x500n, attrib: 0x49b, base: 0n, rip: 0x1000n },
  protected: { cr0: 0x11n, efer: 0n, attrib: 0xc9b, base: 0n, rip: 0x1000n },
  real: { cr0: 0x10n, efer: 0n, attrib: 0x9b, base: 0x7c00n, rip: 0x10n },
};

/** A state whose registers tell where they come from. */
export function fakeState(mode: FakeMode): VcpuState {
  const state = new VcpuState(new Uint8Array(StateOffset.SIZE));
  const { cr0, efer, attrib, base, rip } = CODE[mode];
  for (let n = 0; n < 16; n++) state.setGpr(n, 0x1111_1111n * BigInt(n) + (mode === 'long' ? 1n << 40n : 0n));
  state.setGpr(Gpr.RSP, 0x8000n);
  state.setGpr(Gpr.RBP, 0x8010n);
  state.rip = rip;
  state.rflags = 0x202n;
  state.setCr(Cr.CR0, cr0);
  state.setMsr(Msr.EFER, efer);
  for (let seg = 0; seg < 6; seg++) state.setSegment(seg, 0x10 + seg, 0xc93, 0xffff_ffff, 0n);
  state.setSegment(Seg.CS, Number(base >> 4n), attrib, 0xffff, base);
  state.setSegment(Seg.FS, 0, 0xc93, 0xffff_ffff, 0x1234_5678n);
  const fpu = new DataView(state.fpu.buffer, state.fpu.byteOffset, state.fpu.byteLength);
  fpu.setUint16(0, 0x37f, true);
  fpu.setUint16(2, 7 << 11, true);
  // One number on the stack, 1.0, in physical register 7.
  fpu.setUint8(4, 0x80);
  fpu.setUint8(32 + 7, 0x80);
  fpu.setUint16(32 + 8, 0x3fff, true);
  fpu.setUint32(24, 0x1f80, true);
  for (let n = 0; n < 16; n++) fpu.setUint32(160 + 16 * n, n + 1, true);
  return state;
}

const sumOf = (text: string): number =>
  Buffer.from(text, 'latin1').reduce((sum, byte) => (sum + byte) & 0xff, 0);

/** As gdb sends it: nothing is shortened, and what is binary has been escaped. */
export function framed(body: string): string {
  return `$${body}#${sumOf(body).toString(16).padStart(2, '0')}`;
}

/** The other end of the line: speaks packets, without gdb. */
export class FakeGdb {
  /** Text that came for the console, decoded. */
  console = '';
  /** Everything that was no packet: acknowledgements. */
  outside = '';
  closed = false;
  private readonly socket: Socket;
  private rest = '';
  private readonly packets: string[] = [];
  private readonly waiting: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => this.take(text));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  static connect(port: number): Promise<FakeGdb> {
    const socket = createConnection(port, '127.0.0.1');
    return new Promise((resolve, reject) => {
      socket.once('connect', () => resolve(new FakeGdb(socket)));
      socket.once('error', reject);
    });
  }

  /** Sends a body, and gives the reply's. */
  async ask(body: string): Promise<string> {
    this.say(framed(body));
    return this.next();
  }

  /** Sends bytes as they are. */
  say(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  /** The next packet that is no text, or null when the line was closed. */
  async next(): Promise<string> {
    for (;;) {
      const packet = this.packets.shift();
      if (packet !== undefined) {
        const isText = /^O[0-9a-f]{2}/.test(packet);
        if (!isText) return packet;
        this.console += Buffer.from(packet.slice(1), 'hex').toString('utf8');
      } else if (this.closed) return 'closed';
      else await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  /** Resolves when the other end has closed. */
  async end(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  close(): void {
    this.socket.destroy();
  }

  private take(text: string): void {
    this.rest += text;
    for (;;) {
      const match = /^([^$]*)\$([^#]*)#(..)/s.exec(this.rest);
      if (match === null) break;
      const [whole, before, body, sum] = match;
      this.rest = this.rest.slice(whole.length);
      this.outside += before;
      if (Number.parseInt(sum, 16) !== sumOf(body)) throw new Error(`checksum of ${body}: ${sum}`);
      const expanded = expandRuns(body);
      this.packets.push(
        expanded.replace(/\}(.)/gs, (_, char: string) => String.fromCharCode(char.charCodeAt(0) ^ 0x20)),
      );
    }
    if (!this.rest.includes('$')) {
      this.outside += this.rest;
      this.rest = '';
    }
    this.wake();
  }

  private wake(): void {
    for (const look of this.waiting.splice(0)) look();
  }
}
