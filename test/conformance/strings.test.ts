import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cr, Exit, Gpr, Prot, Seg, State } from '../../main/nvmm/constants.ts';
import { PAGE, Recorder, Rig, Stream } from './rig.ts';
import { onEachBackend } from './suite.ts';

// String instructions where it gets difficult: over the end of a page, with each address size, with a fault on the way.

/** Guest-physical pages of their own, and the linear pages that show them, the other way round. */
const [FIRST, SECOND] = [0x9000, 0xa000];
/** The handler of #PF: HLT. */
const HANDLER = 0x2100;
const RDMSR = '48c7c1ffffffff0f32';

onEachBackend('strings', (backend) => {
  let rig: Rig;
  beforeEach(() => {
    rig = new Rig(backend, true);
    const { nvmm, machine, host } = rig;
    nvmm.gpaMap(machine, host.ram + 6 * PAGE, SECOND, PAGE, Prot.READ | Prot.WRITE);
    nvmm.gpaMap(machine, host.ram + 7 * PAGE, FIRST, PAGE, Prot.READ | Prot.WRITE);
    map(FIRST, SECOND + 7);
    map(SECOND, FIRST + 7);
  });
  afterEach(() => rig.close());

  function map(linear: number, entry: number): void {
    const { bytes, ram } = rig.host;
    new DataView(bytes.buffer).setUint32(ram + 5 * PAGE + (linear >>> 12) * 8, entry, true);
  }

  /** What is in the two linear pages. */
  const linear = (from: number, length: number): string => {
    const { bytes, ram } = rig.host;
    const both = Buffer.concat([bytes.subarray(ram + 6 * PAGE, ram + 8 * PAGE)]);
    return both.toString('latin1', from - FIRST, from - FIRST + length);
  };

  const put = (at: number, text: string): void => {
    rig.host.bytes.set(Buffer.from(text, 'latin1'), rig.host.ram + 6 * PAGE + at - FIRST);
    rig.nvmm.hvaWritten(rig.host.ram + 6 * PAGE, 2 * PAGE);
  };

  /** With a gate for #PF, and a stack. */
  function load(code: string): void {
    const tables = new Uint8Array(0x800);
    const view = new DataView(tables.buffer);
    view.setBigUint64(8, 0x00af_9b00_0000_ffffn, true);
    view.setUint32(0x100 + 16 * 14, (8 << 16) | HANDLER, true);
    view.setUint32(0x100 + 16 * 14 + 4, 0x8e00, true);
    rig.fill(0, tables);
    rig.load(code.padEnd(0x200, '0') + 'f4');
    const { state } = rig.vcpu;
    state.setSegment(Seg.GDT, 0, 0, 0xff, 0x1000n);
    state.setSegment(Seg.IDT, 0, 0, 33 * 16 - 1, 0x1100n);
    state.setGpr(Gpr.RSP, 0x1800n);
    rig.set(State.ALL);
  }

  const text = 'the quick brown fox jumps over the lazy dog';

  it.each([
    { name: 'bytes', width: 1, opcode: 'f36c' },
    { name: 'words', width: 2, opcode: '66f36d' },
    { name: 'words, one in both pages', width: 2, opcode: '66f36d', shift: 1 },
    { name: 'doublewords, one in both pages', width: 4, opcode: 'f36d', shift: 2 },
  ])('REP INS over the end of a page: $name', ({ width, opcode, shift = 0 }) => {
    const count = 40 / width;
    rig.use(new Stream(text));
    // edi = 0x9ff0 + shift; ecx = count; dx = 123
    const at = 0x9ff0 + shift;
    load(`bf${hex(at)}b9${hex(count)}66ba7b00${opcode}${RDMSR}`);
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(linear(at, 40)).toBe(text.slice(0, 40));
    expect(rig.gpr(Gpr.RDI)).toBe(BigInt(at + 40));
  });

  it.each([
    { name: 'bytes', width: 1, opcode: 'f36e' },
    { name: 'doublewords, one in both pages', width: 4, opcode: 'f36f', shift: 2 },
  ])('REP OUTS over the end of a page: $name', ({ width, opcode, shift = 0 }) => {
    const stream = new Stream();
    rig.use(stream);
    const at = 0x9ff0 + shift;
    put(at, text);
    load(`be${hex(at)}b9${hex(40 / width)}66ba7b00${opcode}${RDMSR}`);
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(stream.text).toBe(text.slice(0, 40));
  });

  it.each([
    // OUTS by ESI: the upper half of RSI is not used, and cleared.
    { name: '32-bit addresses', setup: '48be00900000aaaaaaaa', opcode: '67f36e', left: 0x9005n },
    { name: '64-bit addresses', setup: '48be0090000000000000', opcode: 'f36e', left: 0x9005n },
  ])('OUTS with $name', ({ setup, opcode, left }) => {
    const stream = new Stream();
    rig.use(stream);
    put(0x9000, text);
    load(`${setup}b90500000066ba7b00${opcode}${RDMSR}`);
    expect(rig.exit()).toBe(Exit.IO);
    expect(rig.vcpu.exit.ioAddressSize).toBe(opcode.startsWith('67') ? 4 : 8);
    rig.assist();
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(stream.text).toBe('the q');
    expect(rig.gpr(Gpr.RSI)).toBe(left);
  });

  it('a fault in the middle of REP OUTS: what was done is done', () => {
    const stream = new Stream();
    rig.use(stream);
    put(0x9ff8, text);
    map(SECOND, 0);
    load(`bef89f0000b91400000066ba7b00f36e${RDMSR}`);
    expect(rig.finish()).toBe(Exit.HALTED);
    expect(stream.text).toBe('the quic');
    expect([rig.gpr(Gpr.RSI), rig.gpr(Gpr.RCX)]).toEqual([0xa000n, 12n]);
    expect(rig.get(State.CRS).cr(Cr.CR2)).toBe(0xa000n);
  });

  it('a fault in the middle of REP INS: what was done is done', () => {
    const stream = new Stream(text);
    rig.use(stream);
    map(SECOND, 0);
    load(`bff89f0000b91400000066ba7b00f36c${RDMSR}`);
    expect(rig.finish()).toBe(Exit.HALTED);
    expect(linear(0x9ff8, 8)).toBe('the quic');
    expect([rig.gpr(Gpr.RDI), rig.gpr(Gpr.RCX)]).toEqual([0xa000n, 12n]);
  });

  it('a fault in the middle of REP MOVS from memory that is not there', () => {
    const recorder = new Recorder();
    recorder.bytes.set(Buffer.from(text, 'latin1'));
    // Linear 0x7000 is device memory.
    map(0x7000, 0x1_b000 + 7);
    rig.use({ mem: (access) => recorder.mem({ ...access, gpa: access.gpa - 0x1_a000, data: access.data }) });
    map(SECOND, 0);
    load(`bff89f0000be00700000b914000000f3a4${RDMSR}`);
    expect(rig.finish()).toBe(Exit.HALTED);
    expect(linear(0x9ff8, 8)).toBe('the quic');
    expect([rig.gpr(Gpr.RDI), rig.gpr(Gpr.RCX)]).toEqual([0xa000n, 12n]);
    expect(rig.get(State.CRS).cr(Cr.CR2)).toBe(0xa000n);
  });

  it.each([
    {
      name: 'load',
      code: '488b1c25fc9f0000',
      done: (): void => expect(rig.gpr(Gpr.RBX)).toBe(0x0807_0605_0403_0201n),
    },
    {
      name: 'store',
      code: '48891c25fc9f0000',
      done: (): void => expect(linear(0x9ffc, 4)).toBe('\x11\x22\x33\x44'),
    },
  ])('a $name half in memory, half in a device', ({ code, done }) => {
    // The second page is the device's.
    map(SECOND, 0x1_b000 + 7);
    const accesses: string[] = [];
    rig.use({
      mem: ({ gpa, write, size, data }) => {
        accesses.push(`${write ? 'W' : 'R'}${size}@${gpa.toString(16)}`);
        if (!write) for (let i = 0; i < size; i++) data.setUint8(i, 5 + i);
      },
    });
    put(0x9ffc, '\x01\x02\x03\x04');
    load(`48bb11223344556677 88${code}${RDMSR}`.replaceAll(' ', ''));
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(accesses).toEqual([`${code.startsWith('488b') ? 'R' : 'W'}4@1b000`]);
    done();
  });
});

/** A 32-bit immediate. */
function hex(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString('hex');
}
