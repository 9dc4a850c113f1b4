import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { afterEach, expect, it } from 'vitest';
import { backends } from '../../main/machine/backends.ts';
import { Exit, Gpr, Prot, State } from '../../main/nvmm/constants.ts';
import { answerAll } from '../guests/calc-cases.ts';
import { Session } from '../guests/session.ts';
import { Host, PAGE } from './rig.ts';
import { onEachBackend } from './suite.ts';

const root = join(import.meta.dirname, '../..');

// calc-vm, the first program that anybody writes for NVMM: ADD, HLT in the state that vcpuCreate leaves (16-bit code).
const sums = [
  { a: 1n, b: 2n, sum: 3n },
  { a: 3n, b: 0xffff_ffffn, sum: 0xffff_0002n },
  { a: 65535n, b: 1n, sum: 0n },
  { a: 0n, b: 0n, sum: 0n },
];

onEachBackend('calculators', (backend) => {
  const hosts: Host[] = [];
  afterEach(() => hosts.splice(0).forEach(({ nvmm }) => nvmm.close()));

  it.each(sums)('calc-vm: $a + $b = $sum', ({ a, b, sum }) => {
    const host = new Host(backend);
    hosts.push(host);
    const { nvmm, ram, bytes } = host;
    const machine = nvmm.machineCreate();
    const vcpu = nvmm.vcpuCreate(machine, 120);
    nvmm.hvaMap(machine, ram, PAGE);
    nvmm.gpaMap(machine, ram, 0xffff_0000, PAGE, Prot.READ | Prot.EXEC);
    bytes.set([0x01, 0xc3, 0xf4], ram);
    nvmm.getState(machine, vcpu, State.GPRS);
    vcpu.state.rip = 0n;
    vcpu.state.setGpr(Gpr.RAX, a);
    vcpu.state.setGpr(Gpr.RBX, b);
    nvmm.setState(machine, vcpu, State.GPRS);
    do nvmm.run(machine, vcpu);
    while (vcpu.exit.reason === Exit.NONE);
    expect(vcpu.exit.reason).toBe(Exit.HALTED);
    nvmm.getState(machine, vcpu, State.GPRS);
    expect(vcpu.state.gpr(Gpr.RBX)).toBe(sum);
    expect(vcpu.state.rip).toBe(3n);
  });

  it('the calculator that is typed into', async ({ skip }) => {
    const absent = backends.find(({ name }) => name === backend.name)?.unavailable();
    if (absent) skip(absent);
    const built = join(root, 'out/main/cli.js');
    const program = existsSync(built) ? [built] : ['--import', 'tsx', join(root, 'main/cli.ts')];
    const options = ['run', '--guest', 'calc', '--backend', backend.name];
    const session = new Session(spawn(process.execPath, [...program, ...options]));
    try {
      await answerAll(session);
      expect(await session.ended).toBe(0);
    } finally {
      session.kill();
    }
  });
});
