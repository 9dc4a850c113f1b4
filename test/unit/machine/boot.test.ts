import { describe, expect, it } from 'vitest';
import { loadBzImage } from '../../../main/machine/boot/bzimage.ts';
import { loadElf } from '../../../main/machine/boot/elf.ts';
import { loadFlat } from '../../../main/machine/boot/flat.ts';
import { Image } from '../../../main/machine/boot/image.ts';
import { Cr, Gpr, Msr, Seg } from '../../../main/nvmm/constants.ts';
import { walk } from '../../../main/nvmm/walk.ts';
import { bzImage, elf64, imageCampaign, multiboot, target } from './images.ts';

const MIB = 2 ** 20;

describe('bzImage', () => {
  it('is entered at its 64-bit entry with the zero page in RSI', () => {
    const to = target();
    const initrd = new Image('initrd', Uint8Array.of(1, 2, 3));
    loadBzImage(to, new Image('kernel', bzImage()), initrd, 'console=ttyS0');
    const { ram, state } = to;
    expect(state.rip).toBe(0x10_0200n);
    const zero = state.gprLow(Gpr.RSI);
    expect(ram.readU16(zero + 0x1fe)).toBe(0xaa55);
    expect(ram.readU32(zero + 0x202)).toBe(0x5372_6448);
    expect(ram.readU32(zero + 0x70)).toBe(0xe0000);
    const line = new Uint8Array(14);
    ram.read(ram.readU32(zero + 0x228), line);
    expect(new TextDecoder().decode(line)).toBe('console=ttyS0\0');
    const at = ram.readU32(zero + 0x218);
    expect([at, ram.readU32(zero + 0x21c)]).toEqual([16 * MIB - 4096, 3]);
    expect(ram.readU16(at)).toBe(0x201);
    const entries = new Uint8Array(1);
    ram.read(zero + 0x1e8, entries);
    expect(entries[0]).toBe(ram.e820().length);
    expect([state.attrib(Seg.CS) & 0x600, state.selector(Seg.CS), state.selector(Seg.DS)]).toEqual([
      0x200, 16, 24,
    ]);
    expect(state.msr(Msr.EFER)).toBe(0x500n);
  });

  it('has the first 4 GiB mapped to themselves', () => {
    const { ram, state } = loaded(bzImage());
    for (const address of [0x1000, 0x10_0200, 0x3fff_ffff, 0x4000_0000, 0xc000_1234, 0xffff_ffff]) {
      expect(walk(state, address, 0, (gpa) => (ram.isRam(gpa, 4) ? ram.readU32(gpa) : null)).gpa).toBe(
        address,
      );
    }
    expect(() => walk(state, 0, 1, (gpa) => ram.readU32(gpa))).toThrow('EFAULT');
  });

  it('is entered in 32-bit mode when it has no 64-bit entry', () => {
    const { state } = loaded(bzImage([[0x236, 2, 0]]));
    expect(state.rip).toBe(0x10_0000n);
    expect(state.cr(Cr.CR0)).toBe(0x11n);
    expect(state.attrib(Seg.CS)).toBe(0xc9b);
    expect(state.gpr(Gpr.RBP)).toBe(0n);
  });

  for (const { name, file, append, wanted } of [
    { name: 'an empty file', file: new Uint8Array(0), wanted: /truncated: the setup header/ },
    { name: 'no kernel', file: new Uint8Array(4096), wanted: /not a Linux kernel image/ },
    { name: 'an old protocol', file: bzImage([[0x206, 2, 0x201]]), wanted: /boot protocol 2.01 is too old/ },
    { name: 'a zImage', file: bzImage([[0x211, 1, 0]]), wanted: /zImage/ },
    { name: 'setup beyond the file', file: bzImage([[0x1f1, 1, 64]]), wanted: /truncated: its setup code/ },
    { name: 'a cut kernel', file: bzImage().slice(0, 5000), wanted: /the header says 9216 bytes.*has 5000/ },
    {
      name: 'an init size beyond memory',
      file: bzImage([[0x260, 4, 0xffff_ffff]]),
      wanted: /give it more memory/,
    },
    { name: 'a wild load address', file: bzImage([[0x258, 8, 2n ** 63n]]), wanted: /no sensible number/ },
    { name: 'a low load address', file: bzImage([[0x258, 8, 0x9000]]), wanted: /not a page above 1 MiB/ },
    { name: 'too long a command line', file: bzImage([[0x238, 4, 5]]), append: '123456', wanted: /takes 5/ },
    { name: 'no room for the initrd', file: bzImage([[0x22c, 4, 0]]), wanted: /initrd's 3 bytes do not fit/ },
  ]) {
    it(`refuses ${name}`, () => {
      const initrd = new Image('initrd', Uint8Array.of(1, 2, 3));
      expect(() => loadBzImage(target(), new Image('k', file), initrd, append ?? '')).toThrow(wanted);
    });
  }
});

describe('ELF', () => {
  it('plain: 64-bit mode at the physical address of its entry, the rest of the segment zero', () => {
    const to = target();
    to.ram.writeU32(2 * MIB + 16, 0xffff_ffff);
    loadElf(to, new Image('e', elf64()), null, '');
    expect(to.state.rip).toBe(BigInt(2 * MIB + 4));
    expect(to.ram.readU32(2 * MIB)).toBe(0x1122_3344);
    expect(to.ram.readU32(2 * MIB + 16)).toBe(0);
  });

  it('PVH: start info in EBX', () => {
    const to = target();
    loadElf(to, new Image('e', elf64({ note: 2 * MIB + 8 })), new Image('i', Uint8Array.of(9)), 'quiet');
    const { ram, state } = to;
    expect(state.rip).toBe(BigInt(2 * MIB + 8));
    const info = state.gprLow(Gpr.RBX);
    expect([0, 4, 12].map((at) => ram.readU32(info + at))).toEqual([0x336e_c578, 1, 1]);
    expect(ram.readU32(info + 32)).toBe(0xe0000);
    expect(ram.readU32(info + 48)).toBe(ram.e820().length);
    expect(ram.readU32(ram.readU32(info + 40) + 8)).toBe(639 * 1024);
    expect(ram.readU16(ram.readU32(ram.readU32(info + 16)))).toBe(9);
  });

  it('multiboot: information in EBX, loaded by its address fields', () => {
    const to = target();
    loadElf(to, new Image('m', multiboot()), null, 'x');
    const { ram, state } = to;
    expect(state.rip).toBe(0x10_0040n);
    expect(state.gpr(Gpr.RAX)).toBe(0x2bad_b002n);
    const info = state.gprLow(Gpr.RBX);
    expect(ram.readU32(info)).toBe(0x245);
    expect(ram.readU32(info + 8)).toBe(15 * 1024);
    expect(ram.readU32(0x10_0020)).toBe(0x1bad_b002);
  });

  for (const { name, file, wanted } of [
    { name: 'a text', file: new TextEncoder().encode('x'.repeat(100)), wanted: /not an ELF file/ },
    { name: 'a cut header', file: elf64().slice(0, 40), wanted: /truncated/ },
    { name: 'a segment over the tables', file: elf64({ physical: 0x1000 }), wanted: /loader's tables/ },
    { name: 'a segment beyond memory', file: elf64({ physical: 2 ** 32 }), wanted: /give it more memory/ },
    { name: 'a PVH entry beyond memory', file: elf64({ note: 0xf000_0000 }), wanted: /PVH entry/ },
    {
      name: 'unknown multiboot features',
      file: multiboot([
        [36, 4, 0x1_0043],
        [40, 4, 0xe451_4fbb],
      ]),
      wanted: /requires features 0x40/,
    },
    { name: 'a low multiboot load', file: multiboot([[48, 4, 0x8000]]), wanted: /below 1 MiB/ },
  ]) {
    it(`refuses ${name}`, () =>
      expect(() => loadElf(target(), new Image('f', file), null, '')).toThrow(wanted));
  }
});

describe('flat', () => {
  for (const { name, address, wanted } of [
    { name: 'boot sector', address: 0x7c00, wanted: [0, 0x7c00] },
    { name: 'higher', address: 0x2_0000, wanted: [0x2000, 0] },
    { name: 'above 1 MiB', address: MIB, wanted: [16, MIB] },
  ]) {
    it(name, () => {
      const { ram, state } = target();
      loadFlat({ ram, state, rsdp: 0 }, new Image('f', Uint8Array.of(0xf4)), address);
      expect([state.selector(Seg.CS), Number(state.rip)]).toEqual(wanted);
    });
  }
  for (const address of [0, 0x1_0001, 0x9_fc00, 0xa_0000, 0xf_0000, 0xffff_ffff]) {
    it(`refuses 0x${address.toString(16)}`, () => {
      expect(() => loadFlat(target(), new Image('f', Uint8Array.of(0xf4)), address)).toThrow(/^f: /);
    });
  }
});

describe('hostile files', () => {
  it('are booted or refused with a message', () => {
    const seed = 1;
    console.log(`images: seed ${seed}`);
    const { booted, refused } = imageCampaign(seed, 3000);
    expect(booted + refused).toBe(3000);
    expect(booted).toBeGreaterThan(0);
  });
});

function loaded(file: Uint8Array) {
  const to = target();
  loadBzImage(to, new Image('k', file), null, '');
  return to;
}
