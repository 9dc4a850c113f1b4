import { describe, expect, it } from 'vitest';
import { backtrace, FRAMES_MAXIMUM } from '../../../main/inspect/backtrace.ts';
import { decodeDescriptors, decodeIdt, decodeTss } from '../../../main/inspect/descriptors.ts';
import { codeSizeOf, disassemble } from '../../../main/inspect/disassembly.ts';
import { pageWalk } from '../../../main/inspect/page-walk.ts';
import { evaluatePlace } from '../../../main/inspect/place.ts';
import { registersOf, writeRegisters } from '../../../main/inspect/registers.ts';
import { parseSymbols, Symbols } from '../../../main/inspect/symbols.ts';
import { Cr, Gpr, Msr, Seg, State, StateOffset } from '../../../main/nvmm/constants.ts';
import { VcpuState } from '../../../main/nvmm/layout.ts';

/** Long mode with flat segments and page tables at 0x1000. */
function longState(): VcpuState {
  const state = new VcpuState(new Uint8Array(StateOffset.SIZE));
  state.setSegment(Seg.CS, 8, 0xa9b, 0xffff_ffff, 0n);
  state.setSegment(Seg.SS, 16, 0xc93, 0xffff_ffff, 0n);
  state.setCr(Cr.CR0, 0x8000_0011n);
  state.setCr(Cr.CR3, 0x1000n);
  state.setCr(Cr.CR4, 0x20n);
  state.setMsr(Msr.EFER, 0x500n);
  return state;
}

/** Guest-physical memory by aligned words. */
function memory(words: Record<number, number>): (gpa: number) => Promise<number | null> {
  return async (gpa) => (gpa >= 0x10_0000 ? null : (words[gpa] ?? 0));
}

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));

describe('registers', () => {
  it('spells the bits out, by the names of the manual', () => {
    const state = longState();
    state.rflags = 0x3246n;
    const all = registersOf(state).flatMap(({ registers }) => registers);
    const set = (name: string): string[] =>
      all
        .find((one) => one.name === name)!
        .fields!.filter(({ value }) => value !== 0)
        .map((field) => (field.value === 1 ? field.name : `${field.name}=${field.value}`));
    expect(set('RFLAGS')).toEqual(['PF', 'ZF', 'IF', 'IOPL=3']);
    expect(set('CR0')).toEqual(['PE', 'ET', 'PG']);
    expect(set('CR4')).toEqual(['PAE']);
    expect(set('IA32_EFER')).toEqual(['LME', 'LMA']);
    expect(set('CS.attributes')).toEqual(['Type=11', 'S', 'P', 'L', 'G']);
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  });

  it('writes every register that it shows, and nothing beside it', () => {
    const shown = registersOf(longState()).flatMap(({ registers }) => registers);
    for (const { name, bits } of shown.filter((one) => one.name !== 'INTR')) {
      const state = longState();
      const value = 1n << BigInt(Math.min(bits, 20) - 1);
      const flags = writeRegisters(state, { [name.toLowerCase()]: value });
      expect(flags).toBeGreaterThan(0);
      for (const after of registersOf(state).flatMap(({ registers }) => registers)) {
        const before = shown.find((one) => one.name === after.name)!;
        expect([after.name, after.value]).toEqual([after.name, after.name === name ? value : before.value]);
      }
    }
  });

  const wrong: { name: string; values: Record<string, bigint>; wanted: string }[] = [
    { name: 'an unknown one', values: { foo: 1n }, wanted: 'There is no register FOO' },
    {
      name: 'a value that is too wide',
      values: { cs: 0x1_0000n },
      wanted: '0x10000 does not fit the 16 bits of CS.',
    },
    { name: 'a negative value', values: { rax: -1n }, wanted: 'does not fit the 64 bits of RAX' },
  ];
  it.each(wrong)('refuses $name', ({ values, wanted }) => {
    expect(() => writeRegisters(longState(), values)).toThrow(wanted);
  });

  it('says which areas have changed', () => {
    expect(writeRegisters(longState(), { rax: 1n, cr2: 2n, xmm3: 1n << 127n })).toBe(
      State.GPRS | State.CRS | State.FPU,
    );
  });
});

describe('page walk', () => {
  const tables = { 0x1000: 0x2027, 0x2000: 0x3027, 0x3000: 0x4023, 0x3008: 0x20_00e3, 0x4008: 0x9061 };

  it('shows each level', async () => {
    const walk = await pageWalk(longState(), 0x1234n, memory(tables));
    expect(walk.levels.map(({ name, at, flags }) => [name, at, flags.join(' ')])).toEqual([
      ['PML4E', 0x1000, 'P R/W U/S A'],
      ['PDPTE', 0x2000, 'P R/W U/S A'],
      ['PDE', 0x3000, 'P R/W A'],
      ['PTE', 0x4008, 'P A D'],
    ]);
    expect(walk).toMatchObject({
      gpa: 0x9234,
      pageSize: 4096,
      writable: false,
      user: false,
      executable: true,
    });
  });

  it('ends at a large page', async () => {
    const walk = await pageWalk(longState(), 0x20_1234n, memory(tables));
    expect(walk.levels.map(({ name }) => name)).toEqual(['PML4E', 'PDPTE', 'PDE']);
    expect(walk).toMatchObject({ gpa: 0x20_1234, pageSize: 2 ** 21, writable: true });
  });

  const faults = [
    {
      name: 'a page that is not present',
      address: 0x5000n,
      wanted: /The page is not present\. The PTE at 0x4028/,
    },
    { name: 'an address that is not canonical', address: 1n << 50n, wanted: /not canonical/ },
    { name: 'a table outside of memory', address: 0x40_0000n, wanted: /is not in memory/ },
  ];
  it.each(faults)('says why: $name', async ({ address, wanted }) => {
    const walk = await pageWalk(longState(), address, memory({ ...tables, 0x3010: 0x80_0003 }));
    expect(walk.gpa).toBeNull();
    expect(walk.fault).toMatch(wanted);
  });

  it('warns of reserved bits', async () => {
    const walk = await pageWalk(longState(), 0x1000n, memory({ ...tables, 0x400c: 0x8000_0000 | 0 }));
    expect(walk.warning).toMatch(/NXE/);
  });

  it('is none without paging', async () => {
    const state = longState();
    state.setCr(Cr.CR0, 0x11n);
    expect(await pageWalk(state, 0x1234n, memory({}))).toMatchObject({
      paging: 'none',
      gpa: 0x1234,
      levels: [],
    });
  });
});

describe('backtrace', () => {
  /** Stacks of 64-bit words. */
  const stack =
    (words: Record<number, bigint>) =>
    async (address: bigint, length: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += 8) {
        const word = words[Number(address) + at];
        if (word === undefined) return bytes.subarray(0, at);
        new DataView(bytes.buffer).setBigUint64(at, word, true);
      }
      return bytes;
    };
  const cases: { name: string; words: Record<number, bigint>; frames: bigint[]; end: RegExp }[] = [
    {
      name: 'ends at a null frame',
      words: { 0x100: 0x120n, 0x108: 0xan, 0x120: 0n, 0x128: 0xbn },
      frames: [0x50n, 0xan, 0xbn],
      end: /outermost/,
    },
    {
      name: 'notices a loop',
      words: { 0x100: 0x120n, 0x108: 0xan, 0x120: 0x100n, 0x128: 0xbn },
      frames: [0x50n, 0xan, 0xbn],
      end: /a loop/,
    },
    {
      name: 'notices a frame that is its own caller',
      words: { 0x100: 0x100n, 0x108: 0xan },
      frames: [0x50n, 0xan],
      end: /a loop/,
    },
    {
      name: 'stops where nothing is mapped',
      words: { 0x100: 0x120n },
      frames: [0x50n],
      end: /Nothing is mapped/,
    },
    {
      name: 'stops at what is no frame',
      words: { 0x100: 0x7fff_ffff_ffffn, 0x108: 0xan },
      frames: [0x50n, 0xan],
      end: /too far/,
    },
  ];
  it.each(cases)('$name', async ({ words, frames, end }) => {
    const state = longState();
    state.rip = 0x50n;
    state.setGpr(Gpr.RBP, 0x100n);
    const found = await backtrace(state, 0n, stack(words));
    expect(found.frames.map(({ address }) => address)).toEqual(frames);
    expect(found.end).toMatch(end);
  });

  it('is bounded', async () => {
    const state = longState();
    state.setGpr(Gpr.RBP, 16n);
    const endless = async (address: bigint): Promise<Uint8Array> => {
      const bytes = new Uint8Array(16);
      new DataView(bytes.buffer).setBigUint64(0, address + 16n, true);
      new DataView(bytes.buffer).setBigUint64(8, 1n, true);
      return bytes;
    };
    expect((await backtrace(state, 0n, endless)).frames).toHaveLength(FRAMES_MAXIMUM);
  });
});

describe('symbols', () => {
  const map = Buffer.from(
    '0000000000001000 T start\n0000000000001010 t inner\nffffffff81000000 T _text\t[core]\n',
  );

  it('reads a System.map', () => {
    const symbols = parseSymbols('System.map', map);
    expect(symbols.count).toBe(3);
    expect(symbols.addressOf('inner')).toBe(0x1010n);
    const named = [0xfffn, 0x1000n, 0x100fn, 0x1010n, 0xffff_ffff_8100_0004n].map((at) => symbols.nameOf(at));
    expect(named).toEqual([null, 'start', 'start+0xf', 'inner', '_text+0x4']);
    expect(symbols.nameOf(0x7000_0000n)).toBeNull();
  });

  it('heeds the size of a symbol', () => {
    const symbols = new Symbols([{ name: 'f', address: 16n, size: 4n }]);
    expect([16n, 19n, 20n].map((at) => symbols.nameOf(at))).toEqual(['f', 'f+0x3', null]);
  });

  /** An ELF file with one symbol, `go` at 0x1234, of size 8. */
  function elf(change: (view: DataView) => void = () => undefined): Uint8Array {
    const bytes = new Uint8Array(0x200);
    const view = new DataView(bytes.buffer);
    bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
    view.setBigUint64(0x28, 0x100n, true);
    view.setUint16(0x3a, 64, true);
    view.setUint16(0x3c, 3, true);
    // Section 1: symbols at 0x40, names in section 2, at 0x80.
    view.setUint32(0x144, 2, true);
    view.setBigUint64(0x158, 0x40n, true);
    view.setBigUint64(0x160, 48n, true);
    view.setUint32(0x168, 2, true);
    view.setUint32(0x184, 3, true);
    view.setBigUint64(0x198, 0x80n, true);
    view.setBigUint64(0x1a0, 4n, true);
    bytes.set([0, 0x67, 0x6f, 0], 0x80);
    view.setUint32(0x58, 1, true);
    view.setUint16(0x5e, 1, true);
    view.setBigUint64(0x60, 0x1234n, true);
    view.setBigUint64(0x68, 8n, true);
    change(view);
    return bytes;
  }

  it('reads an ELF file', () => {
    expect(parseSymbols('kernel', elf()).nameOf(0x1236n)).toBe('go+0x2');
  });

  const broken: { name: string; bytes: Uint8Array; wanted: RegExp }[] = [
    { name: 'an empty file', bytes: new Uint8Array(0), wanted: /no symbols/ },
    { name: 'text of another kind', bytes: Buffer.from('hello\n'), wanted: /line 1 is neither/ },
    { name: 'a cut-off header', bytes: elf().subarray(0, 40), wanted: /no little-endian ELF/ },
    { name: 'a cut-off file', bytes: elf().subarray(0, 0x150), wanted: /cut off/ },
    { name: 'no sections', bytes: elf((view) => view.setUint16(0x3c, 0, true)), wanted: /no symbols/ },
    {
      name: 'a wild offset',
      bytes: elf((view) => view.setBigUint64(0x158, 2n ** 60n, true)),
      wanted: /cut off/,
    },
    {
      name: 'a wild link',
      bytes: elf((view) => view.setUint32(0x168, 99, true)),
      wanted: /section 99, of 3/,
    },
    { name: 'a wild size', bytes: elf((view) => view.setBigUint64(0x160, 0x1f0n, true)), wanted: /cut off/ },
  ];
  it.each(broken)('refuses $name', ({ bytes, wanted }) => {
    expect(() => parseSymbols('file', bytes)).toThrow(wanted);
  });
});

describe('places', () => {
  const symbols = new Symbols([
    { name: 'main', address: 0x1000n, size: 16n },
    { name: 'a-b', address: 0x2000n, size: 16n },
  ]);
  const state = longState();
  state.setGpr(Gpr.RSP, 0xffff_8000_0000_1000n);
  it.each([
    { input: '0x10', wanted: 0x10n },
    { input: '16', wanted: 16n },
    { input: 'rsp', wanted: 0xffff_8000_0000_1000n },
    { input: 'esp + 8', wanted: 0x1008n },
    { input: 'main+0x4', wanted: 0x1004n },
    { input: 'a-b', wanted: 0x2000n },
    { input: '0-1', wanted: 0xffff_ffff_ffff_ffffn },
    { input: 'CR3', wanted: 0x1000n },
  ])('$input', ({ input, wanted }) => {
    expect(evaluatePlace(input, state, symbols)).toBe(wanted);
  });
  it.each(['nowhere', '0x', '1++2', '', '+', '__proto__'])('refuses %j', (input) => {
    expect(() => evaluatePlace(input, state, symbols)).toThrow(/neither|is no address/);
  });
});

describe('descriptor tables', () => {
  it('decodes long-mode gates', () => {
    const [gate] = decodeIdt(longState(), bytesOf('34120800018e5678' + 'ddccbbaa00000000'));
    expect(gate).toMatchObject({
      index: 0,
      selector: 8,
      offset: 0xaabb_ccdd_7856_1234n,
      ist: 1,
      present: true,
      dpl: 0,
    });
    expect(gate!.type).toBe('interrupt gate');
  });

  it('decodes segments', () => {
    const found = decodeDescriptors(longState(), bytesOf('0000000000000000' + 'ffff0000009baf00'), false);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({
      index: 8,
      base: 0n,
      limit: 0xffff_ffff,
      type: 'execute, read, accessed',
    });
    expect(found[0]!.flags).toEqual(['L', 'G']);
  });

  it('takes what is cut off', () => {
    expect(decodeIdt(longState(), bytesOf('34120800018e56'))).toEqual([]);
    expect(decodeDescriptors(longState(), bytesOf('ffff00'), true)).toEqual([]);
    expect(decodeTss(longState(), new Uint8Array(12)).map(({ name }) => name)).toEqual(['RSP0']);
  });
});

describe('disassembly', () => {
  it.each([
    { name: '64 bits', size: 64, hex: '4889d8', wanted: 'mov     rax, rbx' },
    { name: '32 bits', size: 32, hex: '89d8', wanted: 'mov     eax, ebx' },
    { name: '16 bits', size: 16, hex: '89d8', wanted: 'mov     ax, bx' },
    { name: 'no instruction', size: 64, hex: '06', wanted: '(bad)' },
  ] as const)('$name', ({ size, hex, wanted }) => {
    const [line] = disassemble(bytesOf(hex + '90'.repeat(16)), size, 0x1000n, 1);
    expect(line!.text).toBe(wanted);
  });

  it('leaves out what is cut off', () => {
    expect(disassemble(bytesOf('4889'), 64, 0n, 4)).toEqual([]);
  });

  it('names targets and tells calls', () => {
    const [line] = disassemble(bytesOf('e8fb0f0000'), 64, 0x1000n, 1, (at) => (at === 0x2000n ? 'f' : null));
    expect(line).toMatchObject({ flow: 'call', target: 0x2000n, text: expect.stringContaining('<f>') });
  });

  it('knows the mode', () => {
    const state = longState();
    expect(codeSizeOf(state)).toBe(64);
    state.setSegment(Seg.CS, 8, 0xc9b, 0xffff_ffff, 0n);
    expect(codeSizeOf(state)).toBe(32);
    state.setSegment(Seg.CS, 8, 0x9b, 0xffff, 0n);
    expect(codeSizeOf(state)).toBe(16);
  });
});
