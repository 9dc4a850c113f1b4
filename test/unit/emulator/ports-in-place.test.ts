import { describe, expect, it } from 'vitest';
import { assemble } from '../../../assets/guests/assembler/assembler.ts';
import { protectedMode } from '../../../main/machine/boot/cpu-state.ts';
import { advance } from '../../../main/nvmm/assist.ts';
import { Exit, Gpr, State } from '../../../main/nvmm/constants.ts';
import type { PortAccess, PortsInPlace } from '../../../main/nvmm/nvmm.ts';
import { CODE, flatMachine, tiers } from './kernel-rig.ts';

const LSR = 0x3fd;
const THR = 0x3f8;

/** A processor in 32-bit protected mode, at a program. */
function start(runs: number, program: string) {
  const { nvmm, machine, ram, vcpu } = flatMachine(runs);
  ram.write(CODE, assemble(`bits 32\n org ${CODE}\n${program}\n`).bytes);
  protectedMode(vcpu.state, ram, CODE);
  vcpu.state.setGpr(Gpr.RSP, 0x30000n);
  vcpu.state.setGpr(Gpr.RFLAGS, 2n);
  nvmm.setState(machine, vcpu, State.ALL);
  const ports: PortsInPlace = nvmm.portsInPlace(machine, vcpu);
  const accesses: PortAccess[] = [];
  const exits: { port: number; in: boolean; after: number; instructions: number }[] = [];
  /** Runs to HLT; ports that exit read as 0x55. */
  const run = (): void => {
    for (;;) {
      nvmm.run(machine, vcpu);
      ports.take((access) => accesses.push({ ...access }));
      if (vcpu.exit.reason === Exit.NONE) continue;
      if (vcpu.exit.reason !== Exit.IO) break;
      nvmm.getState(machine, vcpu, State.GPRS);
      const { ioPort, ioIn } = vcpu.exit;
      exits.push({ port: ioPort, in: ioIn, after: accesses.length, instructions: vcpu.instructions ?? -1 });
      if (ioIn) vcpu.state.setGpr(Gpr.RAX, (vcpu.state.gpr(Gpr.RAX) & ~0xffn) | 0x55n);
      advance(vcpu);
      nvmm.setState(machine, vcpu, State.GPRS);
    }
    expect(vcpu.exit.reason).toBe(Exit.HALTED);
    nvmm.getState(machine, vcpu, State.ALL);
  };
  return { nvmm, machine, vcpu, ports, accesses, exits, run };
}

/** Writes bytes 1 to 20 when the line's status says that it may. */
const PRINT = `mov ebx, 1\n again: mov edx, ${LSR}\n wait: in al, dx\n test al, 0x20\n jz wait
  mov eax, ebx\n mov edx, ${THR}\n out dx, al\n inc ebx\n cmp ebx, 21\n jne again\n hlt`;

describe.each(tiers)('ports answered in place: $name', ({ runs }) => {
  it('each access is an exit until somebody says otherwise', () => {
    const { run, exits, accesses } = start(runs, `in al, 0x61\n out 0x80, al\n hlt`);
    run();
    expect(exits.map(({ port }) => port)).toEqual([0x61, 0x80]);
    expect(accesses).toEqual([]);
  });

  it('gives every byte, in order, with where and when', () => {
    const { run, exits, accesses, ports, nvmm, machine } = start(runs, PRINT);
    ports.answer(LSR, 0x60);
    ports.accept(THR);
    run();
    expect(exits).toEqual([]);
    const wanted = Array.from({ length: 20 }, (_, i) => [
      // Ten instructions a round, after the first one.
      { port: LSR, in: true, value: 0x60, ripLow: CODE + 10, ripHigh: 0, instructions: 2 + 10 * i },
      { port: THR, in: false, value: i + 1, ripLow: CODE + 22, ripHigh: 0, instructions: 7 + 10 * i },
    ]).flat();
    expect(accesses).toEqual(wanted);
    expect(nvmm.counters(machine).portsInPlace).toBe(40);
  });

  it('leaves when the log is full, and goes on after', () => {
    const { run, exits, accesses, ports, vcpu } = start(
      runs,
      `mov ecx, 1000\n again: in al, 0x61\n add ebx, eax\n dec ecx\n jnz again\n hlt`,
    );
    ports.answer(0x61, 0x30);
    run();
    expect(ports.capacity).toBe(64);
    expect(accesses.length + exits.length).toBe(1000);
    // Every 65th, but for time slices that end.
    expect(exits.length).toBeGreaterThan(5);
    expect(exits.length).toBeLessThanOrEqual(15);
    expect(exits[0].after).toBe(64);
    const times = [...accesses, ...exits].map(({ instructions }) => instructions).sort((a, b) => a - b);
    expect(times).toEqual(Array.from({ length: 1000 }, (_, i) => 1 + 4 * i));
    expect(vcpu.state.gpr(Gpr.RBX)).toBe(BigInt(accesses.length * 0x30 + exits.length * 0x55));
  });

  const sums = [
    { name: 'of another size', program: 'in ax, dx\n in eax, dx', wanted: 2 },
    { name: 'of a neighbour', program: 'inc edx\n in al, dx', wanted: 1 },
    { name: 'of a port at the same place', program: 'mov edx, 0x3ed\n in al, dx', wanted: 1 },
    { name: 'in the other direction', program: 'out dx, al', wanted: 1 },
    { name: 'of the port', program: 'in al, dx', wanted: 0 },
    { name: 'of the port, upper bits of EDX set', program: 'or edx, 0xabcd0000\n in al, dx', wanted: 0 },
  ];
  it.each(sums)('an access $name exits $wanted times', ({ program, wanted }) => {
    const { run, exits, ports } = start(runs, `mov edx, ${LSR}\n${program}\n hlt`);
    ports.answer(LSR, 0x60);
    run();
    expect(exits.length).toBe(wanted);
  });

  it('changes AL alone', () => {
    const { run, ports, vcpu } = start(runs, `mov eax, 0x12345678\n in al, 0x61\n hlt`);
    ports.answer(0x61, 0x9a);
    run();
    expect(vcpu.state.gpr(Gpr.RAX)).toBe(0x1234569an);
  });

  it('knows both directions of a port, and the last of two that share a place', () => {
    const program = `in al, 0x61\n out 0x61, al\n in al, 0x71\n out 0x71, al\n hlt`;
    const both = start(runs, program);
    both.ports.answer(0x61, 1);
    both.ports.accept(0x61);
    both.run();
    expect(both.accesses.map((one) => [one.port, one.in, one.value])).toEqual([
      [0x61, true, 1],
      [0x61, false, 1],
    ]);
    const last = start(runs, program);
    last.ports.accept(0x61);
    last.ports.answer(0x71, 2);
    last.run();
    expect(last.accesses.map(({ port }) => port)).toEqual([0x71]);
  });

  it('stops answering when that is withdrawn', () => {
    const { run, exits, ports } = start(runs, `in al, 0x61\n hlt`);
    ports.answer(0x61, 1);
    ports.withdraw();
    run();
    expect(exits.length).toBe(1);
  });

  it('leaves a program in ring 3 to its permissions', () => {
    const { run, exits, ports, nvmm, machine, vcpu } = start(runs, `in al, 0x61\n cli\n hlt`);
    ports.answer(0x61, 1);
    // IOPL 3 lets it: the exit is what is looked for here. HLT is none of its rights, so it ends otherwise.
    vcpu.state.setGpr(Gpr.RFLAGS, 0x3002n);
    for (let seg = 0; seg < 6; seg++) {
      const attrib = vcpu.state.attrib(seg) | 0x60;
      vcpu.state.setSegment(seg, vcpu.state.selector(seg) | 3, attrib, 0xffff_ffff, 0n);
    }
    nvmm.setState(machine, vcpu, State.ALL);
    expect(run).toThrow(); // a fault without a handler is no HLT
    expect(exits.map(({ port }) => port)).toEqual([0x61]);
  });

  it('steps see each access', () => {
    // The trap flag, without a handler for #DB: one instruction, then the end.
    const { run, exits, accesses, ports } = start(
      runs,
      `push 0x102\n db 0x9d\n in al, 0x61\n mov bl, 1\n hlt`,
    );
    ports.answer(0x61, 1);
    expect(run).toThrow();
    expect([exits.length, accesses.length]).toEqual([1, 0]);
  });
});
