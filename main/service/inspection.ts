import { readFile, stat } from 'node:fs/promises';
import type { z } from 'zod';
import { backtrace } from '../inspect/backtrace.ts';
import type { Descriptor } from '../inspect/descriptors.ts';
import { decodeDescriptors, decodeIdt, decodeTss } from '../inspect/descriptors.ts';
import { codeLinear, codeSizeOf, disassemble, LONGEST_INSTRUCTION } from '../inspect/disassembly.ts';
import { pageWalk } from '../inspect/page-walk.ts';
import { evaluatePlace, PlaceError } from '../inspect/place.ts';
import { registersOf, writeRegisters } from '../inspect/registers.ts';
import type { Symbols } from '../inspect/symbols.ts';
import { parseSymbols, SymbolError } from '../inspect/symbols.ts';
import type { DebugPort } from '../inspect/target.ts';
import { DebugTarget, TargetGoneError } from '../inspect/target.ts';
import type { Breakpoint, SetBreakpoint, Stop } from '../machine/debug.ts';
import { Gpr, Seg } from '../nvmm/constants.ts';
import type { VcpuState } from '../nvmm/layout.ts';
import { ServiceError } from './errors.ts';
import type {
  CodeLine,
  inspectRequests,
  WireBreakpoint,
  WireDescriptor,
  WirePageWalk,
  WireSetBreakpoint,
  WireStop,
  WireTable,
} from './inspect-contract.ts';

/** Bit 7 of a segment's attributes. */
const PRESENT = 0x80;

/** A kernel with all its debug information has less. */
const SYMBOL_FILE_MAXIMUM = 2 ** 31 - 1;

type Requests = typeof inspectRequests;
type Params<N extends keyof Requests> = z.output<Requests[N]['params']>;
type Result<N extends keyof Requests> = z.input<Requests[N]['result']>;
type Handlers = { [N in keyof Requests]: (params: Params<N>) => Promise<Result<N>> };

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A stop as the contract has it. */
export function wireStop({ id, rip, address, ...rest }: Stop): WireStop {
  return {
    ...rest,
    rip: hex(rip),
    ...(id === undefined ? {} : { breakpoint: id }),
    ...(address === undefined ? {} : { address: hex(address) }),
  };
}

/** What inspection needs of the VMs: the debugger's end of one, whatever its state. */
export interface InspectedVms {
  debugPort(id: string): { port: DebugPort; vcpus: number };
}

/** Answers the requests that stop VMs and look into them. Its only state is the symbols that it was given. */
export class Inspection {
  readonly handlers: Handlers;
  readonly #vms: InspectedVms;
  readonly #symbols = new Map<string, Symbols>();

  constructor(vms: InspectedVms) {
    this.#vms = vms;
    this.handlers = {
      'debug.step': (params) => this.#step(params),
      'debug.back': async ({ id, to }) => ({ stop: wireStop(await this.#target(id).back(to)) }),
      'debug.runTo': async ({ id, vcpu, place }) => {
        const target = this.#target(id);
        const address = await this.#code(target, id, vcpu, place);
        return { stop: wireStop(await toldBy(target.runTo(address))) };
      },
      'debug.add': (params) => this.#add(params),
      'debug.remove': async ({ id, number }) => {
        await this.#target(id).remove(number);
        return {};
      },
      'debug.list': async ({ id }) => (await this.#target(id).list()).map((one) => this.#wireSet(id, one)),
      'inspect.symbols': ({ id, file }) => this.#takeSymbols(id, file),
      'inspect.registers': async ({ id, vcpu }) =>
        registersOf(await this.#state(id, vcpu)).map(({ name, registers }) => ({
          name,
          registers: registers.map((one) => ({ ...one, value: hex(one.value) })),
        })),
      'inspect.setRegisters': (params) => this.#setRegisters(params),
      'inspect.memory': (params) => this.#memory(params),
      'inspect.setMemory': (params) => this.#setMemory(params),
      'inspect.code': (params) => this.#disassemble(params),
      'inspect.walk': (params) => this.#walk(params),
      'inspect.backtrace': (params) => this.#backtrace(params),
      'inspect.table': (params) => this.#table(params),
      'inspect.devices': async ({ id, device = '' }) => {
        const all = await this.#vms.debugPort(id).port.ask('devices.read', null);
        const found = all.filter((one) => one.device.includes(device));
        if (found.length > 0) return found;
        const names = all.map((one) => one.device).join(', ');
        throw new ServiceError('not-found', `No device has "${device}" in its name. There are: ${names}.`);
      },
    };
  }

  /** A VM is gone: nothing of it is kept. */
  forget(id: string): void {
    this.#symbols.delete(id);
  }

  #target(id: string): DebugTarget {
    const { port, vcpus } = this.#vms.debugPort(id);
    return new DebugTarget(port, vcpus);
  }

  #state(id: string, vcpu: number): Promise<VcpuState> {
    return this.#target(id).readState(vcpu);
  }

  /** `symbol` of an address, where it has one: for an object literal. */
  #named(id: string, address: bigint): { symbol?: string } {
    const symbol = this.#symbols.get(id)?.nameOf(address) ?? null;
    return symbol === null ? {} : { symbol };
  }

  /** What a place says. A running VM has no registers to name. */
  async #place(target: DebugTarget, id: string, vcpu: number, text: string): Promise<bigint> {
    const still = target.status.state !== 'running';
    const state = still ? await target.readState(vcpu) : null;
    try {
      return evaluatePlace(text, state, this.#symbols.get(id) ?? null);
    } catch (error) {
      if (error instanceof PlaceError) throw new ServiceError('invalid', error.message);
      throw error;
    }
  }

  /** The linear address of a place in code: in real mode and the like `rip` is an offset. */
  async #code(target: DebugTarget, id: string, vcpu: number, text: string): Promise<bigint> {
    const address = await this.#place(target, id, vcpu, text);
    if (!/^\s*[re]ip\b/i.test(text)) return address;
    return codeLinear(await target.readState(vcpu), address);
  }

  async #step({ id, vcpu, how, count }: Params<'debug.step'>): Promise<Result<'debug.step'>> {
    const target = this.#target(id);
    if (how === 'into') return { stop: wireStop(await target.step(vcpu, count)) };
    let stop = await toldBy(how === 'over' ? target.stepOver(vcpu) : target.stepOut(vcpu));
    for (let done = 1; done < count && stop.reason === 'step'; done++) {
      stop = await toldBy(how === 'over' ? target.stepOver(vcpu) : target.stepOut(vcpu));
    }
    return { stop: wireStop(stop) };
  }

  async #add({ id, vcpu, breakpoint, once }: Params<'debug.add'>): Promise<Result<'debug.add'>> {
    const target = this.#target(id);
    const added = await target.add(await this.#breakpoint(target, id, vcpu, breakpoint), { once });
    return { number: added.id, ...(added.note === undefined ? {} : { note: added.note }) };
  }

  async #breakpoint(
    target: DebugTarget,
    id: string,
    vcpu: number,
    given: WireBreakpoint,
  ): Promise<Breakpoint> {
    if (given.kind === 'execute') {
      return { kind: 'execute', address: await this.#code(target, id, vcpu, given.place) };
    }
    if (given.kind !== 'watch') return given;
    const { kind, place, length, access } = given;
    return { kind, length, access, address: await this.#place(target, id, vcpu, place) };
  }

  #wireSet(id: string, { id: number, breakpoint, once, hits }: SetBreakpoint): WireSetBreakpoint {
    return {
      number,
      breakpoint: wireBreakpoint(breakpoint),
      text: this.#breakpointText(id, breakpoint),
      once,
      hits,
    };
  }

  #breakpointText(id: string, one: Breakpoint): string {
    switch (one.kind) {
      case 'execute':
      case 'watch': {
        const { symbol } = this.#named(id, one.address);
        const where = `${hex(one.address)}${symbol === undefined ? '' : ` <${symbol}>`}`;
        return one.kind === 'execute' ? where : `${one.access} of ${one.length} bytes at ${where}`;
      }
      case 'exit':
        return `exit ${one.reason}`;
      case 'port': {
        const ports = one.first === one.last ? hex(one.first) : `${hex(one.first)}-${hex(one.last)}`;
        return `port ${ports}, ${one.direction}`;
      }
      case 'msr':
        return `MSR ${hex(one.index)}, ${one.access}`;
      case 'exception':
        return `exception ${one.vector}`;
      case 'triple-fault':
        return 'triple fault';
    }
  }

  async #takeSymbols(id: string, file: string | null): Promise<Result<'inspect.symbols'>> {
    // Says so when there is no such VM.
    this.#vms.debugPort(id);
    if (file === null) {
      this.#symbols.delete(id);
      return { count: 0 };
    }
    try {
      const { size } = await stat(file);
      if (size > SYMBOL_FILE_MAXIMUM) throw new SymbolError(file, `${size} bytes are too many for symbols`);
      const symbols = parseSymbols(file, await readFile(file));
      this.#symbols.set(id, symbols);
      return { count: symbols.count };
    } catch (error) {
      if (error instanceof SymbolError) throw new ServiceError('invalid', error.message);
      throw new ServiceError('host', `${file} can't be read: ${(error as Error).message}`);
    }
  }

  async #setRegisters({ id, vcpu, values }: Params<'inspect.setRegisters'>): Promise<Record<string, never>> {
    const target = this.#target(id);
    const state = await target.readState(vcpu);
    let flags: number;
    try {
      const numbers = Object.entries(values).map(([name, value]) => [name, BigInt(value)] as const);
      flags = writeRegisters(state, Object.fromEntries(numbers));
    } catch (error) {
      if (error instanceof RangeError) throw new ServiceError('invalid', error.message);
      throw error;
    }
    await target.writeState(vcpu, flags, state);
    return {};
  }

  async #memory({
    id,
    vcpu,
    place,
    physical,
    length,
  }: Params<'inspect.memory'>): Promise<Result<'inspect.memory'>> {
    const target = this.#target(id);
    const address = await this.#place(target, id, vcpu, place);
    const bytes = physical
      ? await target.readPhysical(physicalAddress(address), length)
      : await target.readLinear(vcpu, address, length);
    const named = physical ? {} : this.#named(id, address);
    return { address: hex(address), ...named, bytes: Buffer.from(bytes).toString('base64') };
  }

  async #setMemory(params: Params<'inspect.setMemory'>): Promise<Result<'inspect.setMemory'>> {
    const { id, vcpu, place, physical } = params;
    const target = this.#target(id);
    const address = await this.#place(target, id, vcpu, place);
    const bytes = new Uint8Array(Buffer.from(params.bytes, 'base64'));
    if (!physical) return { written: await target.writeLinear(vcpu, address, bytes) };
    await target.writePhysical(physicalAddress(address), bytes);
    return { written: bytes.length };
  }

  async #disassemble({ id, vcpu, place, count }: Params<'inspect.code'>): Promise<Result<'inspect.code'>> {
    const target = this.#target(id);
    const state = await target.readState(vcpu);
    const rip = state.gpr(Gpr.RIP);
    const at = place === undefined ? rip : await this.#place(target, id, vcpu, place);
    const size = codeSizeOf(state);
    const bytes = await target.readLinear(vcpu, codeLinear(state, at), count * LONGEST_INSTRUCTION);
    const symbols = this.#symbols.get(id);
    const set = await target.list();
    const lines = disassemble(bytes, size, at, count, (address) => symbols?.nameOf(address) ?? null);
    return {
      size,
      lines: lines.map(({ address, bytes: code, text }): CodeLine => {
        const linear = codeLinear(state, address);
        const here = set.filter(({ breakpoint: one }) => one.kind === 'execute' && one.address === linear);
        return {
          address: hex(address),
          bytes: Buffer.from(code).toString('hex'),
          text,
          ...this.#named(id, linear),
          current: address === rip,
          breakpoints: here.map((one) => one.id),
        };
      }),
    };
  }

  async #walk({ id, vcpu, place }: Params<'inspect.walk'>): Promise<WirePageWalk> {
    const target = this.#target(id);
    const address = await this.#place(target, id, vcpu, place);
    const state = await target.readState(vcpu);
    const walked = await pageWalk(state, address, (gpa) => target.readWord(gpa));
    const { levels, gpa, root, ...rest } = walked;
    return {
      ...rest,
      address: hex(address),
      root: hex(root),
      levels: levels.map(({ name, at, entry, flags, frame }) => ({
        ...{ name, flags, at: hex(at), entry: hex(entry), frame: hex(frame) },
      })),
      ...(gpa === null ? {} : { gpa: hex(gpa) }),
    };
  }

  async #backtrace({ id, vcpu }: Params<'inspect.backtrace'>): Promise<Result<'inspect.backtrace'>> {
    const target = this.#target(id);
    const state = await target.readState(vcpu);
    const base = codeSizeOf(state) === 64 ? 0n : state.base(Seg.SS);
    const { frames, end } = await backtrace(state, base, (at, length) => target.readLinear(vcpu, at, length));
    return {
      frames: frames.map(({ address, frame }) => ({
        ...{ address: hex(address), frame: hex(frame) },
        ...this.#named(id, codeLinear(state, address)),
      })),
      end,
    };
  }

  async #table({ id, vcpu, table }: Params<'inspect.table'>): Promise<WireTable> {
    const target = this.#target(id);
    const state = await target.readState(vcpu);
    const segment = { idt: Seg.IDT, gdt: Seg.GDT, ldt: Seg.LDT, tss: Seg.TR }[table];
    const base = state.base(segment);
    // A segment limit may be gigabytes; no table is longer than 64 KiB, and no TSS needs more than its fields.
    const limit = table === 'tss' ? Math.min(state.limit(segment), 0x67) : state.limit(segment) & 0xffff;
    const none = table === 'ldt' && (state.attrib(segment) & PRESENT) === 0;
    const bytes = none ? new Uint8Array() : await target.readLinear(vcpu, base, limit + 1);
    const cut = none
      ? 'LDTR is not present: there is none.'
      : `Only ${bytes.length} of its ${limit + 1} bytes are mapped.`;
    const descriptors =
      table === 'idt'
        ? decodeIdt(state, bytes)
        : table === 'tss'
          ? []
          : decodeDescriptors(state, bytes, table === 'ldt');
    const fields = table === 'tss' ? decodeTss(state, bytes) : [];
    return {
      table,
      base: hex(base),
      limit: state.limit(segment),
      ...(bytes.length > limit ? {} : { note: cut }),
      descriptors: descriptors.map((one) => this.#wireDescriptor(id, one)),
      fields: fields.map((field) => ({ ...field, value: hex(field.value) })),
    };
  }

  #wireDescriptor(id: string, { raw, base, offset, ...rest }: Descriptor): WireDescriptor {
    return {
      ...rest,
      raw: hex(raw),
      ...(base === undefined ? {} : { base: hex(base) }),
      ...(offset === undefined ? {} : { offset: hex(offset), ...this.#named(id, offset) }),
    };
  }
}

function wireBreakpoint(one: Breakpoint): WireBreakpoint {
  if (one.kind === 'execute') return { kind: 'execute', place: hex(one.address) };
  if (one.kind !== 'watch') return one;
  const { kind, address, length, access } = one;
  return { kind, place: hex(address), length, access };
}

/** A guest-physical address as a number: beyond what those can hold there is no RAM anyway. */
const physicalAddress = (address: bigint): number => Number(address);

/** A machine that ends while somebody steps it is the VM's state, not our fault. */
async function toldBy(stop: Promise<Stop>): Promise<Stop> {
  try {
    return await stop;
  } catch (error) {
    if (error instanceof TargetGoneError) throw new ServiceError('wrong-state', error.message);
    throw error;
  }
}
