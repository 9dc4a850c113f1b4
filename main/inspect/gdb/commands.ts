import { range, short, small, split, thread } from './arguments.ts';
import { memoryMapXml, targetXml, threadsXml } from './description.ts';
import { Errno, RemoteError } from './errors.ts';
import { monitor } from './monitor.ts';
import { hex, hexText, PACKET_SIZE, unhex } from './packet.ts';
import { resume, resumeActions, vCont } from './resume.ts';
import type { Ended, Stub } from './stub.ts';
import type { Breakpoint } from '../../machine/debug.ts';

/** What a packet leads to: a reply, or the end of the connection after it. */
export type Reply = string | { last: string | null };

type Handler = (stub: Stub, rest: string, letter: string) => Reply | Promise<Reply>;

const OK = 'OK';

/** Bytes of memory in one reply at most: twice as many digits. */
const MEMORY_PIECE = PACKET_SIZE / 2 - 64;

/**
 * The packets by what they begin with, in the order of the GDB manual's appendix E. The longest beginning counts.
 * What isn't here is answered with an empty packet, by which gdb knows that we don't know it.
 */
const commands: Readonly<Record<string, Handler>> = {
  '!': () => OK,
  '?': async (stub) => {
    const stop = await stub.halt();
    return stop === null ? ended({ state: 'off' }) : stub.stopReply(stop);
  },
  c: forwards,
  C: forwards,
  s: forwards,
  S: forwards,
  bs: (stub) => afterRun(stub, () => stub.back(stub.resumed ?? stub.selected)),
  bc: (stub) => afterRun(stub, () => stub.back(null)),
  D: async (stub) => {
    await stub.removeAll();
    if (stub.machine.status.state === 'paused') await stub.target.resume();
    return { last: OK };
  },
  g: (stub) => stub.readAll(),
  G: async (stub, rest) => {
    await stub.writeAll(bytesOf(rest));
    return OK;
  },
  H: (stub, rest) => {
    const id = thread(rest.slice(1), stub.vcpus);
    if (rest[0] === 'g') stub.selected = typeof id === 'number' ? id : stub.selected;
    else if (rest[0] === 'c') stub.resumed = typeof id === 'number' ? id : null;
    else return '';
    return OK;
  },
  k: (stub) => {
    powerOff(stub);
    return { last: null };
  },
  m: async (stub, rest) => {
    const { address, length } = range(rest);
    return hex(await readMemory(stub, address, length));
  },
  M: async (stub, rest) => {
    const [place, digits] = split(rest, ':');
    return writeMemory(stub, place, bytesOf(digits ?? ''));
  },
  p: (stub, rest) => stub.readOne(small(rest, 'register')),
  P: async (stub, rest) => {
    const [register, digits] = split(rest, '=');
    await stub.writeOne(small(register, 'register'), bytesOf(digits ?? ''));
    return OK;
  },
  T: (stub, rest) => {
    thread(rest, stub.vcpus);
    return OK;
  },
  X: (stub, rest) => {
    const [place, data] = split(rest, ':');
    return writeMemory(stub, place, Buffer.from(data ?? '', 'latin1'));
  },
  z: async (stub, rest) => {
    breakpoint(rest);
    await stub.remove(rest);
    return OK;
  },
  Z: async (stub, rest) => {
    await stub.insert(rest, breakpoint(rest));
    return OK;
  },
  'vCont?': () => resumeActions,
  'vCont;': async (stub, rest) => afterRun(stub, () => vCont(stub, rest)),
  vCtrlC: () => OK,
  'vKill;': (stub) => {
    powerOff(stub);
    return OK;
  },
  qAttached: () => '1',
  qC: (stub) => `QC${(stub.selected + 1).toString(16)}`,
  qfThreadInfo: (stub) => `m${threads(stub).join(',')}`,
  qsThreadInfo: () => 'l',
  'qThreadExtraInfo,': async (stub, rest) => {
    const id = thread(rest, stub.vcpus);
    return hexText(await stub.threadInfo(typeof id === 'number' ? id : stub.selected));
  },
  'qRcmd,': async (stub, rest) => {
    await monitor(stub, bytesOf(rest).toString('utf8'));
    return OK;
  },
  qSupported: (stub, rest) => {
    for (const word of rest.replace(/^:/, '').split(';')) {
      if (word.endsWith('+')) stub.accepts.add(word.slice(0, -1));
    }
    return stub.target.reverse === undefined ? supported : `${supported};ReverseStep+;ReverseContinue+`;
  },
  qSymbol: () => OK,
  'qXfer:features:read:': async (stub, rest) => {
    const [annex, part] = split(rest, ':');
    if (annex !== 'target.xml') {
      throw new RemoteError(Errno.NOENT, `There is no description "${short(annex)}".`);
    }
    // Only the first piece decides what it says: the others have to go with it.
    if (part?.startsWith('0,')) stub.documents.features = targetXml(await stub.describe());
    return piece(stub.documents.features, part);
  },
  'qXfer:memory-map:read::': (_, rest) => piece(memoryMapXml, rest),
  'qXfer:threads:read::': async (stub, rest) => {
    if (rest.startsWith('0,')) {
      const all = threads(stub).map(async (_, core) => ({
        id: core + 1,
        core,
        extra: await stub.threadInfo(core),
      }));
      stub.documents.threads = threadsXml(await Promise.all(all));
    }
    return piece(stub.documents.threads, rest);
  },
  'qqemu.PhyMemMode': (stub) => (stub.physical ? '1' : '0'),
  'Qqemu.PhyMemMode:': (stub, rest) => {
    stub.physical = small(rest, 'mode') !== 0;
    return OK;
  },
};

/** QStartNoAckMode is the session's, which knows of acknowledgements. */
const supported = [
  `PacketSize=${PACKET_SIZE.toString(16)}`,
  'QStartNoAckMode+',
  'qXfer:features:read+',
  'qXfer:memory-map:read+',
  'qXfer:threads:read+',
  'swbreak+',
  'hwbreak+',
  'vContSupported+',
  'error-message+',
  'PhyMemMode+',
].join(';');

const beginnings = Object.keys(commands).sort((a, b) => b.length - a.length);

/** Does what a packet says. Fails with a RemoteError, or with what the machine says. */
export async function execute(stub: Stub, body: string): Promise<Reply> {
  const beginning = beginnings.find((text) => body.startsWith(text));
  if (beginning === undefined) return '';
  return commands[beginning](stub, body.slice(beginning.length), beginning[0]);
}

function forwards(stub: Stub, rest: string, letter: string): Promise<Reply> {
  return afterRun(stub, () => resume(stub, letter, rest));
}

/** Once the reply has left: with the machine this stub may end. */
function powerOff({ machine }: Stub): void {
  setImmediate(() => void machine.powerOff());
}

async function afterRun(stub: Stub, run: () => Promise<Ended>): Promise<Reply> {
  const how = await run();
  if (!('stop' in how)) return ended(how);
  await stub.announce(how.stop);
  return stub.stopReply(how.stop, how.begin);
}

/** The machine is gone: to gdb a process that exited, or was killed. */
function ended({ state }: { state: 'off' | 'failed' }): string {
  return state === 'off' ? 'W00' : 'X09';
}

function threads({ vcpus }: Stub): string[] {
  return Array.from({ length: vcpus }, (_, vcpu) => (vcpu + 1).toString(16));
}

function bytesOf(digits: string): Buffer {
  const bytes = unhex(digits);
  if (bytes !== null) return bytes;
  throw new RemoteError(Errno.INVAL, `"${short(digits)}" is not bytes in hex digits.`);
}

/** One piece of a document: `offset,length`. */
function piece(document: string, part: string | null): string {
  const { address, length } = range(part ?? '');
  const from = Number(address);
  if (from > document.length) {
    throw new RemoteError(Errno.INVAL, `The document has ${document.length} bytes, not ${from}.`);
  }
  const most = Math.min(length, PACKET_SIZE / 2);
  return `${from + most < document.length ? 'm' : 'l'}${document.slice(from, from + most)}`;
}

/** A reply may be shorter than asked, so a question for 4 GiB gets its first piece. */
async function readMemory(stub: Stub, address: bigint, length: number): Promise<Uint8Array> {
  const most = Number(
    2n ** 64n - address > BigInt(MEMORY_PIECE) ? BigInt(MEMORY_PIECE) : 2n ** 64n - address,
  );
  if (length === 0) throw new RemoteError(Errno.INVAL, 'No bytes of memory were asked for.');
  const bytes = await stub.readMemory(address, Math.min(length, most));
  if (bytes.length > 0) return bytes;
  const space = stub.physical ? 'guest-physical' : 'linear';
  throw new RemoteError(Errno.FAULT, `There is no memory at ${space} address 0x${address.toString(16)}.`);
}

async function writeMemory(stub: Stub, place: string, bytes: Uint8Array): Promise<Reply> {
  const { address, length } = range(place);
  if (length !== bytes.length) {
    throw new RemoteError(Errno.INVAL, `${length} bytes were announced, and ${bytes.length} came.`);
  }
  // gdb asks with no bytes whether binary data get through.
  if (length > 0) await stub.writeMemory(address, bytes);
  return OK;
}

const ACCESS: Readonly<Record<string, 'write' | 'read' | 'access'>> = {
  '2': 'write',
  '3': 'read',
  '4': 'access',
};

/** `type,address,kind`: kind is a length for watchpoints; all our instructions' breakpoints are alike. */
function breakpoint(text: string): Breakpoint {
  const [type, place] = split(text, ',');
  const { address, length } = range(place ?? '');
  if (type === '0' || type === '1') return { kind: 'execute', address };
  const access = ACCESS[type];
  if (access === undefined) throw new RemoteError(Errno.INVAL, `There is no breakpoint type ${short(type)}.`);
  if (length === 0) throw new RemoteError(Errno.INVAL, 'A watchpoint of 0 bytes watches nothing.');
  return { kind: 'watch', address, length, access };
}
