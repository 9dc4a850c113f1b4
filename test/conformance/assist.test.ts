import { afterEach, beforeEach, expect, it } from 'vitest';
import { Exit, Gpr, Seg, State } from '../../main/nvmm/constants.ts';
import { Recorder, Rig, Stream } from './rig.ts';
import { onEachBackend } from './suite.ts';

// The cases of libnvmm's own tests of the assists, and those that they leave out. Each guest ends with RDMSR.

/** rcx = -1, rdmsr */
const END = '48c7c1ffffffff0f32';

const ioCases = [
  // edi = 0x1000; IN by immediate port, store, dx = 123, IN by DX, store
  { name: 'INB', in: true, text: '12', code: 'bf00100000e47b880766ba7b00ec884701' },
  { name: 'INW', in: true, text: '1234', code: 'bf0010000066e57b66890766ba7b0066ed66894702' },
  { name: 'INL', in: true, text: '12345678', code: 'bf00100000e57b890766ba7b00ed894704' },
  // edi = 0x1000, ecx = count, dx = 123, REP INS
  { name: 'REP INSB', in: true, text: '12345', code: 'bf00100000b90500000066ba7b00f36c' },
  {
    name: 'REP INSW',
    in: true,
    text: 'Comment est votre blanquette',
    code: 'bf00100000b90e00000066ba7b0066f36d',
  },
  {
    name: 'REP INSL',
    in: true,
    text: '123456789abcdefghijklmnopqrs',
    code: 'bf00100000b90700000066ba7b00f36d',
  },
  // esi = 0x1000; load, OUT by immediate port, load, dx = 123, OUT by DX
  { name: 'OUTB', in: false, text: '12', code: 'be001000008a06e67b8a460166ba7b00ee' },
  { name: 'OUTW', in: false, text: '1234', code: 'be00100000668b0666e77b668b460266ba7b0066ef' },
  { name: 'OUTL', in: false, text: '12345678', code: 'be001000008b06e77b8b460466ba7b00ef' },
  { name: 'REP OUTSB', in: false, text: '12345', code: 'be00100000b90500000066ba7b00f36e' },
  { name: 'REP OUTSW', in: false, text: 'Ah, Herr Bramard', code: 'be00100000b90800000066ba7b0066f36f' },
  {
    name: 'REP OUTSL',
    in: false,
    text: '123456789abcdefghijklmnopqrs',
    code: 'be00100000b90700000066ba7b00f36f',
  },
];

const memCases = [
  {
    name: 'MOV',
    code: 'b80010000048c7000030000048c7400804100000488b18488b48084801d94889188808',
    wanted: 0x3004n,
    accesses: 'W8 W8@1008 R8 R8@1008 W8 W1',
  },
  {
    name: 'OR',
    code: 'b800100000bb0010000048c700000000008008ff6681080006480918',
    wanted: 0x16ffn,
    accesses: 'W8 R1 W1 R2 W2 R8 W8',
  },
  {
    name: 'AND',
    code: 'b800100000bbff1f0000b9ff3f00004889084821188020c0',
    wanted: 0x1fc0n,
    accesses: 'W8 R8 W8 R1 W1',
  },
  {
    name: 'XOR',
    code: 'b800100000bbf000000048c700001000004831186683303f',
    wanted: 0x10cfn,
    accesses: 'W8 R8 W8 R2 W2',
  },
  {
    name: '32-bit addresses',
    code: '48b800100000aaaaaaaabb331f00006748891867c60000',
    wanted: 0x1f00n,
    accesses: 'W8 W1',
  },
  {
    name: 'absolute addresses',
    code: 'b8a0ff000048a30010000000000000a00010000000000000040ba20010000000000000',
    wanted: 0xffabn,
    accesses: 'W8 R1 W1',
  },
  {
    name: 'STOS',
    code: 'bf00100000b901000000b856000000f3aab83412000066ab',
    wanted: 0x123456n,
    accesses: 'W1 W2@1001',
  },
  {
    name: 'LODS',
    code: 'bf00100000be08100000bb7856341248891e66ad668907ac884702ac884703',
    wanted: 0x12345678n,
    accesses: 'W8@1008 R2@1008 W2 R1@100a W1@1002 R1@100b W1@1003',
  },
  {
    name: 'MOVS',
    code: 'bf00100000be08100000bb7856341248891eb904000000f3a4b90200000066f3a5',
    wanted: 0x12345678n,
    accesses:
      'W8@1008 R1@1008 W1 R1@1009 W1@1001 R1@100a W1@1002 R1@100b W1@1003 R2@100c W2@1004 R2@100e W2@1006',
  },
  {
    name: 'MOVZX byte',
    code: 'b800100000bb78563412488918480fb608488908',
    wanted: 0x78n,
    accesses: 'W8 R1 W8',
  },
  {
    name: 'MOVZX word',
    code: 'b800100000bb78563412488918480fb708488908',
    wanted: 0x5678n,
    accesses: 'W8 R2 W8',
  },
  {
    name: 'CMP',
    code:
      'b800100000bbf00000004889188038f075598038f173548038ef764f668138f0007548668138f1007d41668138ef007e3a' +
      '8138f000000075328138f10000007d2a8138ef0000007e22488138f00000007519488138f10000007d10488138ef000000' +
      '7e0748c70001000000',
    wanted: 1n,
    accesses: 'W8 R1 R1 R1 R2 R2 R2 R4 R4 R4 R8 R8 R8 W8',
  },
  {
    name: 'SUB',
    code: 'b80010000048bb00a100001f000000488918bb010000002818bb0001000066291848bb0000000010000000482918',
    wanted: 0xf_0000_a0ffn,
    accesses: 'W8 R1 W1 R2 W2 R8 W8',
  },
  {
    name: 'TEST',
    code: 'b800100000bb10010100488918f60010741666f7000001740ff70000000100740748c70001000000',
    wanted: 1n,
    accesses: 'W8 R1 R2 R4 W8',
  },
  {
    name: 'XCHG',
    code: 'b800100000bbffff1200488718bbff340000668718bb560000008618',
    wanted: 0x123456n,
    accesses: 'R8 W8 R2 W2 R1 W1',
  },
  {
    name: 'XCHG with 32-bit addresses',
    code: '48b800100000bbbbbbbbbb563412006748c700070000006748871867488918b95634120067488708',
    wanted: 0x123456n,
    accesses: 'W8 R8 W8 W8 R8 W8',
  },
  // [m] = -1; and dword [m], -2; dword [m+4] = -1; cmp qword [m], -2
  {
    name: 'immediates are sign-extended',
    code: 'b80010000048c700ffffffff8320fec74004ffffffff488338fe',
    wanted: 0xffff_ffff_ffff_fffen,
    accesses: 'W8 R4 W4 W4@1004 R8',
  },
];

const realCases = [
  { name: 'MOV', code: 'bbf110c60723', at: 0x10f1, wanted: 0x23n, accesses: 'W1@10f1' },
  { name: 'two registers', code: 'bbf010be0300c7002301', at: 0x10f3, wanted: 0x123n, accesses: 'W2@10f3' },
  {
    name: 'two registers and a displacement',
    code: 'bd0010bfe000c743117806',
    at: 0x10f1,
    wanted: 0x678n,
    accesses: 'W2@10f1',
  },
  {
    name: 'mixed sizes',
    code: 'b9001066bbf0100000c7470611006766834b0600094f066683770600',
    at: 0x10f6,
    wanted: 0x1011n,
    accesses: 'W2@10f6 R4@10f6 W4@10f6 R2@10f6 W2@10f6 R4@10f6 W4@10f6',
  },
  { name: 'displacement alone', code: 'c606341212', at: 0x1234, wanted: 0x12n, accesses: 'W1@1234' },
  {
    name: 'XCHG',
    code: 'b8ff1287063412b134860e3412',
    at: 0x1234,
    wanted: 0x1234n,
    accesses: 'R2@1234 W2@1234 R1@1234 W1@1234',
  },
];

onEachBackend('the I/O assist', (backend) => {
  let rig: Rig;
  beforeEach(() => void (rig = new Rig(backend, true)));
  afterEach(() => rig.close());

  it.each(ioCases)('$name', ({ in: input, text, code }) => {
    const stream = new Stream(input ? text : '');
    rig.use(stream);
    rig.fill(0, input ? '' : text);
    rig.load(code + END);
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(input ? Buffer.from(rig.data).toString('latin1', 0, text.length) : stream.text).toBe(text);
  });

  it('backwards', () => {
    const stream = new Stream();
    rig.use(stream);
    rig.fill(0, '4321');
    // ecx = 4, esi = 0x1003, dx = 123, std, rep outsb, cld
    rig.load(`b904000000be0310000066ba7b00fdf36efc${END}`);
    rig.finish();
    expect(stream.text).toBe('1234');
    expect(rig.gpr(Gpr.RSI)).toBe(0xfffn);
    expect(rig.gpr(Gpr.RCX)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('a count of zero does nothing', () => {
    rig.use(new Stream('x'));
    rig.fill(0, 'abc');
    rig.load(`bf0010000031c966ba7b00f36c${END}`);
    rig.finish();
    expect(Buffer.from(rig.data).toString('latin1', 0, 3)).toBe('abc');
  });

  it('RIP is at the instruction, then behind it, also between equal OUTs', () => {
    rig.use(new Stream());
    // dx = 123, al = 7, out dx, al three times
    rig.load(`66ba7b00b007eeeeee${END}`);
    for (let at = 0x2006n; at < 0x2009n; at++) {
      expect(rig.exit()).toBe(Exit.IO);
      expect(rig.gpr(Gpr.RIP)).toBe(at);
      expect(rig.vcpu.exit.ioNpc).toBe(at + 1n);
      rig.assist();
      expect(rig.gpr(Gpr.RIP)).toBe(at + 1n);
    }
    expect(rig.exit()).toBe(Exit.RDMSR);
  });

  it('describes the access', () => {
    rig.use(new Stream('abcd'));
    // edi = 0x1000, ecx = 2, dx = 123, 67 66 rep insw
    rig.load(`bf00100000b90200000066ba7b006766f36d${END}`);
    rig.exit();
    const { exit } = rig.vcpu;
    expect([exit.ioIn, exit.ioPort, exit.ioStr, exit.ioRep]).toEqual([true, 123, true, true]);
    expect([exit.ioOperandSize, exit.ioAddressSize, exit.ioSeg]).toEqual([2, 4, Seg.ES]);
    expect(exit.ioNpc).toBe(rig.gpr(Gpr.RIP) + 4n);
  });

  it('without the assist: registers set by the VMM', () => {
    // in al, 123; mov bl, al; in eax, dx
    rig.load(`66ba7b00e47b88c3ed${END}`);
    for (const value of [0x11n, 0xdead_beefn]) {
      expect(rig.exit()).toBe(Exit.IO);
      const state = rig.get(State.GPRS);
      state.setGpr(Gpr.RAX, value);
      state.rip = rig.vcpu.exit.ioNpc;
      rig.set(State.GPRS);
    }
    rig.exit();
    expect(rig.gpr(Gpr.RAX)).toBe(0xdead_beefn);
    expect(rig.gpr(Gpr.RBX)).toBe(0x11n);
  });

  it('an exit that is not answered comes again', () => {
    rig.load(`66ba7b00b807000000ec${END}`);
    for (let i = 0; i < 3; i++) {
      expect(rig.exit()).toBe(Exit.IO);
      expect(rig.gpr(Gpr.RIP)).toBe(0x2009n);
      expect(rig.gpr(Gpr.RAX)).toBe(7n);
    }
  });

  it('a callback that throws ends the assist', () => {
    rig.use({
      io: () => {
        throw new Error('no such device');
      },
    });
    rig.load(`e47b${END}`);
    rig.exit();
    expect(() => rig.assist()).toThrow('no such device');
  });

  it('refuses another exit', () => {
    rig.load('f4');
    expect(rig.exit()).toBe(Exit.HALTED);
    expect(() => rig.nvmm.assistIo(rig.machine, rig.vcpu)).toThrow('EINVAL');
    expect(() => rig.nvmm.assistMem(rig.machine, rig.vcpu)).toThrow('EINVAL');
  });
});

onEachBackend('the memory assist', (backend) => {
  let rig: Rig;
  let recorder: Recorder;
  beforeEach(() => {
    rig = new Rig(backend, false);
    recorder = new Recorder();
    rig.use(recorder);
  });
  afterEach(() => rig.close());

  it.each(memCases)('$name', ({ code, wanted, accesses }) => {
    rig.load(code + END);
    expect(rig.finish()).toBe(Exit.RDMSR);
    expect(recorder.accesses.join(' ')).toBe(accesses);
    expect(recorder.u64(0x1000)).toBe(wanted);
  });

  it.each(memCases)('$name: each exit comes again until it is answered', ({ code, wanted }) => {
    rig.load(code + END);
    while (rig.exit() === Exit.MEMORY) {
      const { memGpa, memProt } = rig.vcpu.exit;
      const before = rig.get(State.GPRS).bytes.slice();
      expect(rig.exit()).toBe(Exit.MEMORY);
      expect([rig.vcpu.exit.memGpa, rig.vcpu.exit.memProt]).toEqual([memGpa, memProt]);
      expect(Buffer.from(rig.get(State.GPRS).bytes.subarray(160, 304))).toEqual(
        Buffer.from(before.subarray(160, 304)),
      );
      rig.assist();
    }
    expect(recorder.u64(0x1000)).toBe(wanted);
  });

  it.each(realCases)('16-bit: $name', ({ code, at, wanted, accesses }) => {
    const { host, nvmm } = rig;
    const machine = nvmm.machineCreate();
    const vcpu = nvmm.vcpuCreate(machine, 0);
    nvmm.vcpuConfigure(machine, vcpu, 0, recorder);
    nvmm.hvaMap(machine, host.ram + 0x8000, 0x1000);
    nvmm.gpaMap(machine, host.ram + 0x8000, 0x2000, 0x1000, 5);
    host.bytes.set(Buffer.from(`${code}0f32`, 'hex'), host.ram + 0x8000);
    nvmm.hvaWritten(host.ram + 0x8000, 0x1000);
    nvmm.getState(machine, vcpu, State.ALL);
    vcpu.state.setSegment(Seg.CS, 0, vcpu.state.attrib(Seg.CS), 0x2fff, 0n);
    vcpu.state.rip = 0x2000n;
    nvmm.setState(machine, vcpu, State.ALL);
    for (;;) {
      nvmm.run(machine, vcpu);
      if (vcpu.exit.reason === Exit.NONE) continue;
      if (vcpu.exit.reason !== Exit.MEMORY) break;
      nvmm.assistMem(machine, vcpu);
    }
    expect(vcpu.exit.reason).toBe(Exit.RDMSR);
    expect(recorder.accesses.join(' ')).toBe(accesses);
    expect(recorder.u64(at)).toBe(wanted);
    nvmm.machineDestroy(machine);
  });

  it('RIP and registers are right when the VMM looks after a load', () => {
    // eax = 0x1000; mov ebx, [rax]; hlt
    rig.load('b8001000008b18f4');
    recorder.bytes.set([0x78, 0x56, 0x34, 0x12]);
    rig.exit();
    expect(rig.gpr(Gpr.RIP)).toBe(0x2005n);
    rig.assist();
    expect(rig.gpr(Gpr.RBX)).toBe(0x12345678n);
    expect(rig.gpr(Gpr.RIP)).toBe(0x2007n);
    expect(rig.exit()).toBe(Exit.HALTED);
  });

  it('a store to read-only memory', () => {
    // eax = 0x2800; mov byte [rax], 7; the page is the code's
    rig.load(`b800280000c60007${END}`);
    expect(rig.exit()).toBe(Exit.MEMORY);
    expect([rig.vcpu.exit.memGpa, rig.vcpu.exit.memProt]).toEqual([0x2800, 2]);
    rig.assist();
    expect(rig.exit()).toBe(Exit.RDMSR);
    expect(rig.host.bytes[rig.host.ram + 0x1800]).toBe(0);
    expect(recorder.accesses).toEqual(['W1@2800']);
  });

  it('half in memory, half not', () => {
    // mov rbx, 0x1122334455667788; mov [0x1ffc], rbx; mov rcx, [0x1ffc]: the upper half is the code page
    rig.load(`b8fc1f000048bb8877665544332211488918488b0848b9ffffffffffffffff0f32`);
    const code = rig.host.bytes.slice(rig.host.ram + PAGE_AT, rig.host.ram + PAGE_AT + 4);
    rig.finish();
    expect(Buffer.from(recorder.bytes.subarray(0xffc, 0x1004)).toString('hex')).toBe('8877665544332211');
    expect([...rig.host.bytes.subarray(rig.host.ram + PAGE_AT, rig.host.ram + PAGE_AT + 4)]).toEqual([
      ...code,
    ]);
  });
});

const PAGE_AT = 0x1000;
