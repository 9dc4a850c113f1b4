import { afterEach, beforeEach, expect, it } from 'vitest';
import { Exit, Gpr, Prot, State } from '../../main/nvmm/constants.ts';
import { PAGE, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

// One host mapping in many places of guest-physical memory: pieces, aliases and read-only views, which come and go
// while the guest has them in its TLB. QEMU lives on such maps, and NVMM's own tests have none.

const PAGES = 8;
/** Where the guest sees something; guest-virtual addresses are the same. */
const VIEW = 0x10000;
const ALIAS = 0x20000;
const PIECE = 0x30000;
const ROM = 0x40000;
const NOTHING = 0x50000;
const RW = Prot.READ | Prot.WRITE;
const RX = Prot.READ | Prot.EXEC;

/** mov rax, [rbx]; mov [rsi], rdi; hlt */
const LOAD_STORE = '488b0348893ef4';

onEachBackend('maps', (backend) => {
  let rig: Rig;
  /** Host address of the memory that is mapped in pieces; its words are (page << 32) + offset. */
  let block: number;
  let words: BigUint64Array;
  let outside: string[];

  beforeEach(() => {
    rig = new Rig(backend, false);
    const { bytes, ram } = rig.host;
    const table = new DataView(bytes.buffer, ram + 5 * PAGE);
    for (let page = 0x10; page < 0x60; page++) table.setUint32(8 * page, (page << 12) | 7, true);
    block = ram + 8 * PAGE;
    words = new BigUint64Array(bytes.buffer, block, (PAGES * PAGE) / 8);
    rig.nvmm.hvaMap(rig.machine, block, PAGES * PAGE);
    words.forEach((_, i) => (words[i] = (BigInt(i >> 9) << 32n) + BigInt((i & 511) * 8)));
    rig.nvmm.hvaWritten(ram, 16 * PAGE);
    outside = [];
    rig.use({
      mem: ({ gpa, write, data }) => {
        outside.push(`${write ? 'W' : 'R'}@${gpa.toString(16)}`);
        if (!write) data.setBigUint64(0, 0x5555n, true);
      },
    });
    rig.load(LOAD_STORE);
  });
  afterEach(() => rig.close());

  const map = (page: number, gpa: number, pages: number, prot: number): void =>
    rig.nvmm.gpaMap(rig.machine, block + page * PAGE, gpa, pages * PAGE, prot);
  const unmap = (page: number, gpa: number, pages: number): void =>
    rig.nvmm.gpaUnmap(rig.machine, block + page * PAGE, gpa, pages * PAGE);
  const word = (page: number, offset: number): bigint => words[page * 512 + offset / 8];

  /** The guest runs from `rip` to HLT, with these addresses to load from and to store to. Gives RAX. */
  function run(from: number, to: number, value: bigint, rip = 0x2000): bigint {
    const { state } = rig.vcpu;
    rig.get(State.GPRS);
    state.rip = BigInt(rip);
    state.setGpr(Gpr.RBX, BigInt(from));
    state.setGpr(Gpr.RSI, BigInt(to));
    state.setGpr(Gpr.RDI, value);
    rig.set(State.GPRS);
    expect(rig.finish()).toBe(Exit.HALTED);
    return rig.gpr(Gpr.RAX);
  }

  it('what is stored through one view is loaded through the other', () => {
    map(2, VIEW, 2, RW);
    map(2, ALIAS, 2, RW);
    expect(run(ALIAS + 0x1010, VIEW + 0x1010, 0x11n)).toBe(0x3_0000_0010n);
    expect(run(ALIAS + 0x1010, ALIAS + 8, 0x22n)).toBe(0x11n);
    expect(run(VIEW + 8, VIEW + 8, 0x33n)).toBe(0x22n);
    expect([word(3, 0x10), word(2, 8), outside]).toEqual([0x11n, 0x33n, []]);
  });

  it('a piece begins where it was cut out, and has a read-only view of its middle', () => {
    map(4, PIECE, 3, RW);
    map(5, ROM, 1, RX);
    expect(run(PIECE + 0x1018, PIECE + 0x1018, 0x44n)).toBe(0x5_0000_0018n);
    expect(run(ROM + 0x18, ROM + 0x18, 0x55n)).toBe(0x44n);
    expect([word(5, 0x18), outside]).toEqual([0x44n, [`W@${(ROM + 0x18).toString(16)}`]]);
    const { hva, prot } = rig.nvmm.gpaToHva(rig.machine, ROM + 0x18);
    expect([hva - block, prot]).toEqual([5 * PAGE + 0x18, RX]);
  });

  it('a map is replaced by parts, one of them another memory, and comes back', () => {
    map(4, PIECE, 3, RW);
    expect(run(PIECE + 0x20, PIECE + 0x1020, 0x11n)).toBe(0x4_0000_0020n);
    unmap(4, PIECE, 3);
    map(0, PIECE, 1, RX);
    map(5, PIECE + 0x1000, 2, RW);
    expect(run(PIECE + 0x20, PIECE + 0x1020, 0x66n)).toBe(0x20n);
    expect(run(PIECE + 0x1020, PIECE + 0x20, 0x77n)).toBe(0x66n);
    expect([word(5, 0x20), word(0, 0x20), outside]).toEqual([
      0x66n,
      0x20n,
      [`W@${(PIECE + 0x20).toString(16)}`],
    ]);
    unmap(0, PIECE, 1);
    expect(run(PIECE + 0x20, NOTHING, 0x88n)).toBe(0x5555n);
    map(4, PIECE, 1, RW);
    expect(run(PIECE + 0x20, PIECE + 0x20, 0x99n)).toBe(0x4_0000_0020n);
    expect(word(4, 0x20)).toBe(0x99n);
  });

  it('code runs through one view, is changed through another, and is run again', () => {
    const RWX = RW | Prot.EXEC;
    map(6, VIEW, 1, RW);
    map(6, ALIAS, 1, RWX);
    // mov eax, 0x11; hlt
    const code = (value: number): bigint => (0xf4n << 40n) | (BigInt(value) << 8n) | 0xb8n;
    for (const value of [0x11, 0x22, 0x33]) {
      run(VIEW, VIEW + 0x100, code(value));
      expect(run(0, 0, 0n, ALIAS + 0x100)).toBe(BigInt(value));
    }
    unmap(6, ALIAS, 1);
    words[7 * 512 + 32] = code(0x44);
    rig.nvmm.hvaWritten(block + 7 * PAGE, PAGE);
    map(7, ALIAS, 1, RWX);
    expect(run(0, 0, 0n, ALIAS + 0x100)).toBe(0x44n);
  });
});
