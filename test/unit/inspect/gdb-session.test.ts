import { afterEach, describe, expect, it } from 'vitest';
import { GdbServer } from '../../../main/inspect/gdb/server.ts';
import { PACKET_SIZE } from '../../../main/inspect/gdb/packet.ts';
import { registersOf } from '../../../main/inspect/gdb/registers.ts';
import { FakeDebuggee, FakeGdb, type FakeMode } from './gdb-fakes.ts';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function connect(mode: FakeMode = 'long', vcpus = 1, guestIs64 = false) {
  const fake = new FakeDebuggee(mode, vcpus);
  const options = { architecture: null, guestIs64, memory: 2 ** 28 };
  const server = await GdbServer.open({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => ({
    ...{ target: fake, machine: fake, options },
  }));
  open.push(server);
  const port = Number(server.address.split(':')[1]);
  const gdb = await FakeGdb.connect(port);
  open.push(gdb);
  return { fake, server, gdb, port };
}

const numberOf = (name: string): string =>
  registersOf('i386:x86-64')
    .findIndex((register) => register.name === name)
    .toString(16);
const text = (words: string): string => Buffer.from(words).toString('hex');

describe('gdb asks', () => {
  const r = (name: string) => `p${numberOf(name)}`;
  for (const { name, packets, wanted, mode, vcpus } of [
    { name: 'what is unknown gets an empty reply', packets: ['vMustReplyEmpty'], wanted: [''] },
    {
      name: 'why it stands',
      packets: ['?'],
      wanted: ['T05thread:1;6:1080000000000000;7:0080000000000000;10:0010000000000000;'],
    },
    {
      name: 'a register',
      packets: [r('rip'), r('fs_base'), r('cr0'), r('st0'), r('xmm1'), r('mxcsr')],
      wanted: [
        ...['0010000000000000', '7856341200000000', '1100000000000000', '0000000000000080ff3f'],
        ...['02000000000000000000000000000000', '801f0000'],
      ],
    },
    { name: 'the tag word', packets: [r('ftag')], wanted: ['ff3f0000'] },
    {
      name: 'a register changes, and is read again',
      packets: [`P${numberOf('rbx')}=0102030405060708`, r('rbx')],
      wanted: ['OK', '0102030405060708'],
    },
    {
      name: 'a register that there is not',
      packets: ['p1000', 'P1000=00', 'pffffffffff', 'p', 'pxyz'],
      wanted: ['E02', 'E02', 'E16', 'E16', 'E16'],
    },
    {
      name: 'a value that does not fit its register',
      packets: [
        `P${numberOf('rbx')}=01`,
        `P${numberOf('rbx')}`,
        `P${numberOf('rbx')}=0`,
        'P0=zz00000000000000',
      ],
      wanted: ['E16', 'E16', 'E16', 'E16'],
    },
    {
      name: 'values that the processor would not take',
      packets: [`P${numberOf('rip')}=0000000000008000`, `P${numberOf('mxcsr')}=ffffffff`, 'G00'],
      wanted: ['E16', 'E16', 'E16'],
    },
    {
      name: 'reserved flags stay as they are',
      packets: [`P${numberOf('eflags')}=ffffffff`, r('eflags')],
      wanted: ['OK', 'd77f3f00'],
    },
    { name: 'memory', packets: ['m1000,4'], wanted: ['90909090'] },
    {
      name: 'memory changes',
      packets: ['M1000,2:abcd', 'X1002,1:}\x03', 'X0,0:', 'm1000,4'],
      wanted: ['OK', 'OK', 'OK', 'abcd2390'],
    },
    { name: 'memory ends', packets: ['mfffe,8', 'm10000,1'], wanted: ['9090', 'E0e'] },
    {
      name: 'memory questions that are none',
      packets: ['m', 'm0', 'm0,', 'm0,0', 'm,4', 'm0,4,4', 'mxyz,1', 'm11111111111111111,1'],
      wanted: ['E16', 'E16', 'E16', 'E16', 'E16', 'E16', 'E16', 'E16'],
    },
    {
      name: 'lengths that lie',
      packets: ['M1000,3:abcd', 'M1000,2:abc', 'X1000,5:abc', 'M1000', 'M1000,1:xy'],
      wanted: ['E16', 'E16', 'E16', 'E16', 'E16'],
    },
    {
      name: 'breakpoints of every type, twice',
      packets: ['Z0,1000,1', 'Z0,1000,1', 'Z1,1000,1', 'Z2,1000,8', 'Z3,1000,4', 'Z4,1000,1', 'z0,1000,1'],
      wanted: ['OK', 'OK', 'OK', 'OK', 'OK', 'OK', 'OK'],
    },
    {
      name: 'breakpoints that are none',
      packets: ['Z5,1000,1', 'Z0', 'Z0,1000', 'Z2,1000,0', 'z9,0,0', 'Z2,0,100000000'],
      wanted: ['E.vitrine.', 'E.vitrine.', 'E.vitrine.', 'E.vitrine.', 'E16', 'E.vitrine.'],
    },
    { name: 'a breakpoint that is not there goes', packets: ['z0,1234,1'], wanted: ['OK'] },
    {
      name: 'threads',
      packets: ['qfThreadInfo', 'qsThreadInfo', 'qC', 'T2', 'T3', 'Hg2', 'qC', 'Hg0', 'Hg9', 'Hx1', 'H'],
      wanted: ['m1,2', 'l', 'QC1', 'OK', 'E03', 'OK', 'QC2', 'OK', 'E03', '', 'E16'],
      vcpus: 2,
    },
    {
      name: 'what a thread does',
      packets: ['qThreadExtraInfo,1'],
      wanted: [text('real mode, CPL 0, RIP 0x10')],
      mode: 'real' as const,
    },
    {
      name: 'documents that there are not',
      packets: ['qXfer:features:read:other.xml:0,100', 'qXfer:auxv:read::0,100', 'qXfer:memory-map:read::x'],
      wanted: ['E02', '', 'E16'],
    },
    {
      name: 'actions',
      packets: ['vCont?', 'vCont;x', 'vCont;c:9'],
      wanted: ['vCont;c;C;s;S;t;r', 'T05thread:1', 'T05thread:1'],
    },
    {
      name: 'physical memory',
      packets: ['qqemu.PhyMemMode', 'Qqemu.PhyMemMode:1', 'qqemu.PhyMemMode'],
      wanted: ['0', 'OK', '1'],
    },
  ]) {
    it(name, async () => {
      const { gdb } = await connect(mode ?? 'long', vcpus ?? 1);
      const replies: string[] = [];
      for (const packet of packets) replies.push(await gdb.ask(packet));
      expect(replies.map((reply, n) => (reply.startsWith(wanted[n] || '\0') ? wanted[n] : reply))).toEqual(
        wanted,
      );
    });
  }

  it('errors are sentences for a gdb that takes them', async () => {
    const { gdb } = await connect();
    const features = await gdb.ask('qSupported:multiprocess+;error-message+');
    expect(features).toContain(`PacketSize=${PACKET_SIZE.toString(16)};`);
    expect(await gdb.ask('p1000')).toMatch(
      /^E\.There is no register 4096: the target description has \d+\.$/,
    );
    expect(await gdb.ask('mffffffff81000000,4')).toBe(
      'E.There is no memory at linear address 0xffffffff81000000.',
    );
  });

  it('4 GiB of memory are answered with a piece', async () => {
    const { gdb } = await connect();
    const reply = await gdb.ask('m0,100000000');
    expect(reply.length).toBeGreaterThan(1000);
    expect(reply.length).toBeLessThanOrEqual(PACKET_SIZE);
    expect(await gdb.ask('m0,ffffffffffffffff')).toBe(reply);
  });

  it('all registers are read and written, and nothing is written that stays', async () => {
    const { gdb, fake } = await connect();
    const all = await gdb.ask('g');
    expect(await gdb.ask(`G${all}`)).toBe('OK');
    expect(fake.log.filter((line) => line.startsWith('write'))).toEqual([]);
    expect(await gdb.ask(`Gffffffffffffffff${all.slice(16)}`)).toBe('OK');
    expect(fake.states[0].gpr(0)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('a stop and all that gdb asks of it read the state once', async () => {
    const { gdb, fake } = await connect();
    await gdb.ask('?');
    fake.log.length = 0;
    await gdb.ask('vCont;s:1');
    await gdb.ask('g');
    await gdb.ask(`p${numberOf('cr3')}`);
    expect(fake.log).toEqual(['step 0', 'read 0']);
  });
});

describe("gdb's description", () => {
  const architecture = async (gdb: FakeGdb) =>
    /<architecture>(.*)<\/architecture>/.exec(await gdb.ask('qXfer:features:read:target.xml:0,ffff'))?.[1];

  for (const { mode, guestIs64, wanted } of [
    { mode: 'long', guestIs64: false, wanted: 'i386:x86-64' },
    { mode: 'compatibility', guestIs64: false, wanted: 'i386:x86-64' },
    { mode: 'protected', guestIs64: false, wanted: 'i386' },
    { mode: 'protected', guestIs64: true, wanted: 'i386:x86-64' },
    { mode: 'real', guestIs64: false, wanted: 'i8086' },
  ] as const) {
    it(`${mode} mode${guestIs64 ? ' of a 64-bit guest' : ''}: ${wanted}`, async () => {
      const { gdb } = await connect(mode, 1, guestIs64);
      expect(await architecture(gdb)).toBe(wanted);
      const all = await gdb.ask('g');
      const bits = registersOf(wanted).reduce((sum, register) => sum + register.bits, 0);
      expect(all.length).toBe(bits / 4);
    });
  }

  it('is read in pieces', async () => {
    const { gdb } = await connect();
    const whole = await gdb.ask('qXfer:features:read:target.xml:0,ffff');
    let pieces = '';
    for (let last = 'm'; last === 'm';) {
      const reply = await gdb.ask(`qXfer:features:read:target.xml:${pieces.length.toString(16)},100`);
      last = reply[0];
      pieces += reply.slice(1);
    }
    expect(`l${pieces}`).toBe(whole);
  });

  it('changes with monitor arch', async () => {
    const { gdb } = await connect('long');
    expect(await gdb.ask(`qRcmd,${text('arch i386')}`)).toBe('OK');
    expect(await architecture(gdb)).toBe('i386');
    expect(await gdb.ask('p8')).toBe('00100000');
  });

  it('in real mode the program counter is the linear address', async () => {
    const { gdb, fake } = await connect('real');
    expect(await gdb.ask('p8')).toBe('107c0000');
    expect(await gdb.ask('P8=207c0000')).toBe('OK');
    expect(fake.states[0].rip).toBe(0x20n);
  });

  it('a vCPU that has left the mode is told of once', async () => {
    const { gdb, fake } = await connect('protected');
    await architecture(gdb);
    fake.states[0].setCr(0, 0x10n);
    await gdb.ask('s');
    await gdb.ask('s');
    expect(gdb.console).toMatch(/^vCPU 0 is in real mode.*\n$/);
  });
});

describe('the guest runs', () => {
  it('to a breakpoint, to a watchpoint, and until Ctrl-C', async () => {
    const { gdb, fake } = await connect();
    await gdb.ask('qSupported:swbreak+;hwbreak+');
    await gdb.ask('Z0,1010,1');
    await gdb.ask('Z1,1020,1');
    await gdb.ask('Z2,1030,4');
    expect(await gdb.ask('vCont;c')).toMatch(/^T05thread:1;swbreak:;.*10:1010/);
    expect(await gdb.ask('c')).toMatch(/^T05thread:1;hwbreak:;.*10:2010/);
    expect(await gdb.ask('c')).toMatch(/^T05thread:1;watch:1030;/);
    await gdb.ask('z2,1030,4');
    const stopped = gdb.ask('C02');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    gdb.say('\x03');
    expect(await stopped).toMatch(/^T02thread:1;/);
  });

  it('from an address, and through a range', async () => {
    const { gdb, fake } = await connect();
    expect(await gdb.ask('s2000')).toMatch(/10:0120000000000000/);
    expect(await gdb.ask('vCont;r2001,2010:1')).toMatch(/10:1020000000000000/);
    await gdb.ask('Z0,2018,1');
    expect(await gdb.ask('vCont;r2010,2020:1')).toMatch(/10:1820000000000000/);
    expect(fake.log).not.toContain('resume');
  });

  it('back, where the machine remembers', async () => {
    const { gdb, fake } = await connect();
    expect(await gdb.ask('qSupported')).not.toContain('Reverse');
    expect(await gdb.ask('bs')).toMatch(/^T05/);
    expect(gdb.console).toContain('keeps no history');
    fake.remembers();
    expect(await gdb.ask('qSupported')).toContain('ReverseStep+;ReverseContinue+');
    await gdb.ask('vCont;s:1');
    await gdb.ask('vCont;s:1');
    expect(await gdb.ask('bs')).toMatch(/^T05thread:1;6:.*10:0110000000000000;/);
    expect(await gdb.ask('bc')).toMatch(/^T05thread:1;replaylog:begin;/);
  });

  it('until somebody else stops it, or it ends', async () => {
    const { gdb, fake } = await connect();
    const stopped = gdb.ask('c');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    await fake.pause();
    expect(await stopped).toMatch(/^T00/);
    const ended = gdb.ask('c');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    fake.become({ state: 'off' });
    expect(await ended).toBe('W00');
    expect(await gdb.ask('?')).toBe('W00');
  });

  it('a packet that comes meanwhile stops it', async () => {
    const { gdb, fake } = await connect();
    const stopped = gdb.ask('c');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    gdb.say('$qC#b4');
    expect(await stopped).toMatch(/^T02/);
    expect(await gdb.next()).toBe('QC1');
  });

  it('a guest that cannot go on has stopped, with the reason in words', async () => {
    const { gdb, fake } = await connect();
    fake.failure = new Error('The machine is crashed: it cannot step now.');
    expect(await gdb.ask('s')).toMatch(/^T05/);
    expect(gdb.console).toBe('The machine is crashed: it cannot step now.\n');
  });
});

describe('gdb goes', () => {
  const gone = async (server: GdbServer) => {
    while (server.connected) await new Promise(setImmediate);
  };

  it('a connection that breaks leaves a machine that stands, without breakpoints', async () => {
    const { gdb, fake, server } = await connect();
    await gdb.ask('Z0,1010,1');
    await gdb.ask(`qRcmd,${text('stop port 0x3f8')}`);
    gdb.say('$vCont;s:1#23');
    gdb.close();
    await gone(server);
    expect([fake.status.state, fake.breakpoints.size]).toEqual(['paused', 0]);
  });

  it('a connection that breaks while the guest runs lets it run', async () => {
    const { gdb, fake, server } = await connect();
    await gdb.ask('Z0,1,1');
    gdb.say('$c#63');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    gdb.close();
    await gone(server);
    expect([fake.status.state, fake.breakpoints.size]).toEqual(['running', 0]);
  });

  it('detach lets it run, and another can come', async () => {
    const { gdb, fake, server, port } = await connect();
    await gdb.ask('Z0,1010,1');
    expect(await gdb.ask('D')).toBe('OK');
    await gone(server);
    expect([fake.status.state, fake.breakpoints.size]).toEqual(['running', 0]);
    const second = await FakeGdb.connect(port);
    open.push(second);
    expect(await second.ask('?')).toMatch(/^T05/);
    expect(fake.status.state).toBe('paused');
  });

  it('kill pulls the plug', async () => {
    const { gdb, fake } = await connect();
    gdb.say('$k#6b');
    await gdb.end();
    await new Promise(setImmediate);
    expect(fake.log).toContain('powerOff');
  });

  it('a second one is sent away', async () => {
    const { gdb, port } = await connect();
    const second = await FakeGdb.connect(port);
    open.push(second);
    expect(await second.next()).toBe('E.Another gdb is connected to this machine.');
    await second.end();
    expect(await gdb.ask('qC')).toBe('QC1');
  });
});

describe('the line', () => {
  it('acknowledges, asks again, and stops doing so', async () => {
    const { gdb } = await connect();
    gdb.say('$qC#00');
    while (gdb.outside === '') await new Promise(setImmediate);
    expect(gdb.outside).toBe('-');
    await gdb.ask('qC');
    gdb.say('-');
    expect(await gdb.next()).toBe('QC1');
    expect(await gdb.ask('QStartNoAckMode')).toBe('OK');
    gdb.outside = '';
    expect(await gdb.ask('qC')).toBe('QC1');
    expect(gdb.outside).toBe('');
    gdb.say('$qC#00');
    expect(await gdb.next()).toBe('E16');
  });

  it('a packet that is too long is an error', async () => {
    const { gdb } = await connect();
    gdb.say(`$${'m'.repeat(PACKET_SIZE + 10)}#00`);
    expect(await gdb.next()).toBe('E16');
    expect(await gdb.ask('qC')).toBe('QC1');
  });

  it('somebody who only says no is let go', async () => {
    const { gdb } = await connect();
    await gdb.ask('qC');
    gdb.say('-'.repeat(100));
    await gdb.end();
  });

  it('somebody who asks without listening is let go', async () => {
    const { gdb, fake } = await connect();
    const stopped = gdb.ask('c');
    while (fake.status.state !== 'running') await new Promise(setImmediate);
    gdb.say('$qC#b4'.repeat(100));
    await gdb.end();
    await stopped;
  });
});

describe('monitor', () => {
  for (const { line, wanted } of [
    { line: '', wanted: /^help .*this list\narch / },
    {
      line: 'registers cr0 efer',
      wanted: /^CR0 +0000000000000011 {2}PE ET\nEFER +0000000000000500 {2}LME LMA\n$/,
    },
    { line: 'registers nothing', wanted: /No register begins so: nothing\./ },
    { line: 'exits', wanted: /7 +1\.500 ms IO +write 0x3f8 1B = 0x54 com1 at 0x7c05\n1 shown of 8/ },
    { line: 'exits 5 0x3f8', wanted: /shown/ },
    { line: 'exits 5 IO', wanted: /shown/ },
    { line: 'exits 0', wanted: /0 of them are none/ },
    { line: 'exits 5 frob', wanted: /There is no exit frob/ },
    { line: 'memory', wanted: /000100000-00fffffff {2}RAM\n/ },
    { line: 'walk $pc', wanted: /^0x1000: paging is off\n0x1000 is 0x1000 \(/ },
    { line: 'walk nowhere', wanted: /"nowhere".*neither a number nor a register/ },
    { line: 'devices la', wanted: /^lapic\n {2}TPR +0x10 {2}task priority\n$/ },
    { line: 'devices nothing', wanted: /No device's name begins with nothing: lapic\./ },
    { line: 'physical on', wanted: /Addresses are physical/ },
    { line: 'physical maybe', wanted: /"maybe" is neither on nor off/ },
    { line: 'stop exception 14', wanted: /^Stop 1: exception 14\n$/ },
    { line: 'stop port 0x3f8-0x3ff in', wanted: /^Stop 1/ },
    { line: 'stop msr 0xc0000080 write', wanted: /^Stop 1/ },
    { line: 'stop exit memory', wanted: /^Stop 1/ },
    { line: 'stop triple-fault', wanted: /^Stop 1/ },
    { line: 'stop port 70000', wanted: /port: "70000" is not a number from 0 to 65535/ },
    { line: 'stop', wanted: /stop: wanted is exit REASON/ },
    { line: 'delete 3', wanted: /there is no stop 3/ },
    { line: 'stats', wanted: /exits\.IO +8/ },
    { line: 'why', wanted: /Nothing has failed/ },
    { line: 'constructor', wanted: /There is no command "constructor"/ },
    { line: 'arch sparc', wanted: /none of auto, i8086, i386, x86-64/ },
  ]) {
    it(line || 'nothing', async () => {
      const { gdb } = await connect();
      expect(await gdb.ask(`qRcmd,${text(line)}`)).toBe('OK');
      expect(gdb.console).toMatch(wanted);
    });
  }
});
