import { DeviceNames } from '../../../main/devices/device-names.ts';
import type { ExitRecord, ExitTraceWriter } from '../../../main/machine/exit-trace.ts';
import { Gpr } from '../../../main/nvmm/constants.ts';
import { FakeVcpu } from './fake-nvmm.ts';

/** Names as a PC has them, in an order that tests know: 1 uart, 2 rtc, 3 lapic, 4 msrs. */
export function deviceNames(): DeviceNames {
  const names = new DeviceNames();
  for (const name of ['uart0', 'rtc', 'lapic', 'msrs']) names.number(name);
  return names;
}

/** A writer of records whose every field follows from their number. */
export function numbered(writer: ExitTraceWriter): (number: number) => void {
  const vcpu = new FakeVcpu(0);
  vcpu.leaveIo(0, 4, true);
  return (number) => {
    vcpu.state.setGprHalves(Gpr.RIP, number >>> 0, ~number >>> 0);
    vcpu.exit.view.setUint16(10, number & 0xffff, true);
    writer.begin(vcpu, number);
    writer.port((number * 7) >>> 0, number & 0xff);
    writer.end();
    writer.enter(2 * number);
  };
}

/** Whether a record is the one that `numbered` wrote under that number, whole. */
export function isNumbered(record: ExitRecord, number: number): boolean {
  return (
    record.time === number &&
    record.ripLow === number >>> 0 &&
    record.ripHigh === ~number >>> 0 &&
    record.where === (number & 0xffff) &&
    record.valueLow === (number * 7) >>> 0 &&
    record.device === (number & 0xff) &&
    record.accesses === 1 &&
    record.size === 4 &&
    (record.duration === Math.fround(number) || record.duration === -1)
  );
}

/** One exit of a script: what `write` makes of it. */
export interface ScriptedExit {
  time: number;
  rip?: [low: number, high: number];
  io?: { port: number; size: 1 | 2 | 4; input: boolean; values: number[]; device: number };
  memory?: { gpa: number; size: number; write: boolean; low: number; high?: number; device: number }[];
  msr?: { index: number; write?: bigint; read?: [number, number]; device?: number };
  reason?: number;
  fault?: true;
  inject?: { type: number; vector: number };
  until?: number;
}

/** Plays a script into a trace. */
export function write(writer: ExitTraceWriter, script: ScriptedExit[]): void {
  const vcpu = new FakeVcpu(0);
  for (const { time, rip, io, memory, msr, reason, fault, inject, until } of script) {
    vcpu.state.setGprHalves(Gpr.RIP, rip?.[0] ?? 0x1000, rip?.[1] ?? 0);
    if (io !== undefined) vcpu.leaveIo(io.port, io.size, io.input);
    else if (memory !== undefined) {
      vcpu.leave(1);
      vcpu.exit.setMemory(memory[0].write ? 2 : 1, memory[0].gpa);
    } else if (msr !== undefined) vcpu.leaveMsr(msr.index, msr.write ?? null);
    else vcpu.leave(reason ?? 0x1003);
    if (inject !== undefined) writer.inject(inject.type, inject.vector);
    writer.begin(vcpu, time);
    for (const value of io?.values ?? []) writer.port(value, io!.device);
    for (const one of memory ?? []) {
      writer.memory(one.gpa, one.size, one.write, one.low, one.high ?? 0, one.device);
    }
    if (msr?.device !== undefined) {
      const [low, high] = msr.read ?? [Number(msr.write! & 0xffff_ffffn), Number(msr.write! >> 32n)];
      writer.msr(low, high, msr.device);
    }
    if (fault === true) writer.fault();
    writer.end();
    if (until !== undefined) writer.enter(until);
  }
}
