import { Duplex } from 'node:stream';
import { GdbSession } from '../../main/inspect/gdb/session.ts';
import { encodePacket } from '../../main/inspect/gdb/packet.ts';
import { FakeDebuggee, type FakeMode, framed } from '../unit/inspect/gdb-fakes.ts';
import { Random } from '../differential/random.ts';

/** Hostile lines for the gdb stub: packets that are nearly right, cut, doubled, and noise between them. */

const MODES: readonly FakeMode[] = ['long', 'compatibility', 'protected', 'real'];

/** Packets of every command: # stands for a number, @ for bytes in hex digits, ! for binary bytes. */
const PATTERNS: readonly string[] = [
  ...['!', '?', 'c', 'c#', 'C#', 'C#;#', 's', 's#', 'S#', 'bs', 'bc', 'g', 'G@', 'Hg#', 'Hc#', 'Hc-1', 'H#'],
  ...['m#,#', 'm#', 'M#,#:@', 'M#,#', 'p#', 'P#=@', 'P#', 'T#', 'X#,#:!', 'Z0,#,#', 'Z1,#,#', 'Z2,#,#'],
  ...[
    'Z3,#,#',
    'Z4,#,#',
    'Z#,#,#;X1,@',
    'z0,#,#',
    'z#,#,#',
    'vCont?',
    'vCont;c',
    'vCont;s:#',
    'vCont;r#,#:#',
  ],
  ...[
    'vCont;s:#;c',
    'vCont;t:#',
    'vCont;C#:#',
    'vCtrlC',
    'vMustReplyEmpty',
    'qAttached',
    'qC',
    'qfThreadInfo',
  ],
  ...['qThreadExtraInfo,#', 'qRcmd,@', 'qSupported:!', 'qSupported:error-message+;swbreak+', 'qSymbol::'],
  ...['qXfer:features:read:target.xml:#,#', 'qXfer:features:read:!:#,#', 'qXfer:memory-map:read::#,#'],
  ...['qXfer:threads:read::#,#', 'qqemu.PhyMemMode', 'Qqemu.PhyMemMode:#', 'QStartNoAckMode', '!', '#', '@'],
];

const MONITOR: readonly string[] = [
  ...['help', 'arch', 'arch i386', 'registers', 'registers xmm', 'exits', 'exits 5 IO', 'memory', 'stats'],
  ...['physical on', 'physical off', 'stop port 0x3f8', 'stop msr 1 write', 'stops', 'delete 1', 'why', '\0'],
];

const NUMBERS: readonly string[] = [
  ...['0', '1', '2', '3', '4', '8', '10', '1000', '1010', '7c00', 'ffff', '10000', 'ffffffff', '100000000'],
  ...['8000000000000000', 'fffffffffffffff0', 'ffffffffffffffff', '10000000000000000', '-1', '', 'x', '0x10'],
];

function bytes(random: Random, most: number): string {
  return Array.from({ length: random.below(most) }, () => String.fromCharCode(random.below(256))).join('');
}

function digits(random: Random): string {
  if (random.once(3)) return Buffer.from(random.pick(MONITOR)).toString('hex');
  const text = Buffer.from(bytes(random, 40), 'latin1').toString('hex');
  return random.once(5) ? text.slice(1) : text;
}

function packetOf(random: Random): string {
  return random.pick(PATTERNS).replace(/[#@!]/g, (what) => {
    if (what === '#') return random.once(8) ? random.u64().toString(16) : random.pick(NUMBERS);
    return what === '@' ? digits(random) : bytes(random, 40);
  });
}

/** What travels: mostly whole frames. */
function pieceOf(random: Random): Buffer {
  const body = packetOf(random);
  switch (random.below(10)) {
    case 0:
      return Buffer.from(bytes(random, 60), 'latin1');
    case 1:
      return Buffer.from(`$${body}#${bytes(random, 3)}`, 'latin1');
    case 2:
      return Buffer.from('\x03+-$#'[random.below(5)], 'latin1');
    case 3:
      return encodePacket(body);
    default:
      return Buffer.from(framed(body), 'latin1');
  }
}

/** The stub's end of a line whose other end takes everything. */
class Line extends Duplex {
  replies = 0;
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    this.replies++;
    done();
  }
}

export interface Outcome {
  lines: number;
  replies: number;
  /** Steps and resumes that the machine saw: the packets get that far. */
  runs: number;
  writes: number;
}

const turn = (): Promise<void> => new Promise(setImmediate);

/** Plays `lines` lines. Throws, with the seed, when one is not survived: afterwards gdb must be answered as before. */
export async function talk(lines: number, seed: number): Promise<Outcome> {
  const outcome: Outcome = { lines, replies: 0, runs: 0, writes: 0 };
  for (let number = 0; number < lines; number++) {
    const random = new Random(seed, number);
    const fake = new FakeDebuggee(random.pick(MODES), 1 + random.below(3));
    const line = new Line();
    const options = { architecture: null, guestIs64: random.once(2), memory: 2 ** 28 };
    const session = new GdbSession(line, fake, fake, options);
    for (let pieces = random.below(40); pieces > 0 && !line.destroyed; pieces--) {
      if (random.once(20)) fake.failure = new Error('It would not.');
      line.push(pieceOf(random));
      if (random.once(3)) await turn();
      if (fake.status.state === 'off') fake.become({ state: 'running' });
    }
    // Out of whatever frame it is in, and stopped: an honest question has an answer.
    const before = line.replies;
    line.push(Buffer.from('#00\x03'));
    for (let n = 0; n < 50; n++) await turn();
    line.push(Buffer.from(framed('qC')));
    for (let n = 0; n < 50; n++) await turn();
    if (!line.destroyed && !line.writableEnded && line.replies === before) {
      throw new Error(`seed ${seed}, line ${number}: no answer any more`);
    }
    line.destroy();
    await session.ended;
    if (fake.breakpoints.size > 0) {
      throw new Error(`seed ${seed}, line ${number}: breakpoints were left behind`);
    }
    outcome.replies += line.replies;
    outcome.runs += fake.log.filter((entry) => entry.startsWith('step') || entry === 'resume').length;
    outcome.writes += fake.log.filter((entry) => entry.startsWith('write')).length;
  }
  return outcome;
}
