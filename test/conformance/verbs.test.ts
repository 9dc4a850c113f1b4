import { afterEach, beforeEach, expect, it } from 'vitest';
import { Prot, State, VcpuConf } from '../../main/nvmm/constants.ts';
import { NvmmError } from '../../main/nvmm/errors.ts';
import type { CpuidConf, Machine, Vcpu } from '../../main/nvmm/nvmm.ts';
import { Host, longMode, PAGE } from './rig.ts';
import { onEachBackend } from './suite.ts';

const NONE = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
const RWX = Prot.READ | Prot.WRITE | Prot.EXEC;

interface Bench extends Host {
  machine: Machine;
  vcpu: Vcpu;
}

function cpuid(change: Partial<CpuidConf>): CpuidConf {
  return { mask: false, exit: false, leaf: 1, set: NONE, del: NONE, ...change };
}

/** What each verb refuses, with which errno. */
const refusals: { name: string; errno: string; act(bench: Bench): void }[] = [
  {
    name: 'a machine number too high',
    errno: 'EINVAL',
    act: ({ nvmm }) => nvmm.ctl(0, 128),
  },
  { name: 'a machine that is not there', errno: 'ENOENT', act: ({ nvmm }) => nvmm.ctl(0, 127) },
  { name: 'an unknown control', errno: 'EINVAL', act: ({ nvmm, machine }) => nvmm.ctl(9, machine.machid) },
  {
    name: 'a destroyed machine',
    errno: 'ENOENT',
    act: ({ nvmm, machine }) => {
      nvmm.machineDestroy(machine);
      nvmm.machineDestroy(machine);
    },
  },
  {
    name: 'machine options',
    errno: 'EINVAL',
    act: ({ nvmm, machine }) => nvmm.machineConfigure(machine, 200, null),
  },
  {
    name: 'a vCPU number too high',
    errno: 'EINVAL',
    act: ({ nvmm, machine }) => nvmm.vcpuCreate(machine, nvmm.capability().maxVcpus),
  },
  { name: 'a vCPU twice', errno: 'EBUSY', act: ({ nvmm, machine }) => nvmm.vcpuCreate(machine, 0) },
  {
    name: 'a destroyed vCPU',
    errno: 'ENOENT',
    act: ({ nvmm, machine, vcpu }) => {
      nvmm.vcpuDestroy(machine, vcpu);
      nvmm.run(machine, vcpu);
    },
  },
  {
    name: 'destroying a vCPU twice',
    errno: 'ENOENT',
    act: ({ nvmm, machine, vcpu }) => {
      nvmm.vcpuDestroy(machine, vcpu);
      nvmm.vcpuDestroy(machine, vcpu);
    },
  },
  {
    name: 'an unknown vCPU option',
    errno: 'EINVAL',
    act: ({ nvmm, machine, vcpu }) => nvmm.vcpuConfigure(machine, vcpu, 199, {}),
  },
  {
    name: 'CPUID masked and exiting',
    errno: 'EINVAL',
    act: ({ nvmm, machine, vcpu }) =>
      nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CPUID, cpuid({ mask: true, exit: true })),
  },
  {
    name: 'a CPUID bit set and deleted',
    errno: 'EINVAL',
    act: ({ nvmm, machine, vcpu }) => {
      const both = { ...NONE, ecx: 4 };
      nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CPUID, cpuid({ mask: true, set: both, del: both }));
    },
  },
  {
    name: 'a 33rd CPUID leaf',
    errno: 'ENOBUFS',
    act: ({ nvmm, machine, vcpu }) => {
      for (let leaf = 0; leaf <= 32; leaf++) {
        nvmm.vcpuConfigure(machine, vcpu, VcpuConf.CPUID, cpuid({ mask: true, leaf }));
      }
    },
  },
  { name: 'no size', errno: 'EINVAL', act: ({ nvmm, machine, ram }) => nvmm.hvaMap(machine, ram + PAGE, 0) },
  {
    name: 'an unaligned host range',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => nvmm.hvaMap(machine, ram + 1, PAGE),
  },
  {
    name: 'a host range beyond the memory',
    errno: 'EINVAL',
    act: ({ nvmm, machine, bytes }) => nvmm.hvaMap(machine, bytes.length - PAGE, 2 * PAGE),
  },
  {
    name: 'a host range that overlaps',
    errno: 'EEXIST',
    act: ({ nvmm, machine, ram }) => nvmm.hvaMap(machine, ram + 3 * PAGE, 2 * PAGE),
  },
  {
    name: 'a 33rd host range',
    errno: 'ENOBUFS',
    act: ({ nvmm, machine, ram }) => {
      for (let i = 0; i < 32; i++) nvmm.hvaMap(machine, ram, PAGE);
    },
  },
  {
    name: 'unmapping another host range',
    errno: 'ENOENT',
    act: ({ nvmm, machine, ram }) => nvmm.hvaUnmap(machine, ram, PAGE),
  },
  {
    name: 'unknown protection',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => nvmm.gpaMap(machine, ram, 0, PAGE, 9),
  },
  {
    name: 'an unaligned guest range',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => nvmm.gpaMap(machine, ram, 12, PAGE, RWX),
  },
  {
    name: 'a guest range beyond the end',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => nvmm.gpaMap(machine, ram, nvmm.capability().maxRam, PAGE, RWX),
  },
  {
    name: 'a guest range without host memory',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => nvmm.gpaMap(machine, ram + 3 * PAGE, 0, 2 * PAGE, RWX),
  },
  {
    name: 'a guest range that overlaps',
    errno: 'EINVAL',
    act: ({ nvmm, machine, ram }) => {
      nvmm.gpaMap(machine, ram, 0x1000, 2 * PAGE, RWX);
      nvmm.gpaMap(machine, ram, 0x2000, PAGE, RWX);
    },
  },
  {
    name: 'unmapping half a guest range',
    errno: 'ESRCH',
    act: ({ nvmm, machine, ram }) => {
      nvmm.gpaMap(machine, ram, 0x1000, 2 * PAGE, RWX);
      nvmm.gpaUnmap(machine, ram, 0x1000, PAGE);
    },
  },
  {
    name: 'the host address of what is not mapped',
    errno: 'ENOENT',
    act: ({ nvmm, machine }) => nvmm.gpaToHva(machine, 0x5000),
  },
  {
    name: 'a walk without page tables',
    errno: 'EFAULT',
    act: ({ nvmm, machine, vcpu }) => {
      longMode(vcpu);
      nvmm.setState(machine, vcpu, State.ALL);
      nvmm.gvaToGpa(machine, vcpu, 0x1000, 0);
    },
  },
];

onEachBackend('verbs', (backend) => {
  let bench: Bench;
  beforeEach(() => {
    const host = new Host(backend);
    const machine = host.nvmm.machineCreate();
    const vcpu = host.nvmm.vcpuCreate(machine, 0);
    bench = Object.assign(host, { machine, vcpu });
    host.nvmm.hvaMap(machine, host.ram, 4 * PAGE);
  });
  afterEach(() => bench.nvmm.close());

  it.each(refusals)('refuses $name with $errno', ({ errno, act }) => {
    let thrown: unknown;
    try {
      act(bench);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(NvmmError);
    expect((thrown as NvmmError).errno).toBe(errno);
    // Every failure says more than its number.
    expect((thrown as NvmmError).message.length).toBeGreaterThan((thrown as NvmmError).verb.length + 12);
  });

  it('as many machines as it says, and one more is ENOBUFS', () => {
    const { nvmm } = new Host(backend);
    const { maxMachines } = nvmm.capability();
    const made: Machine[] = [];
    const more = (): void => {
      for (let i = 0; i <= maxMachines; i++) made.push(nvmm.machineCreate());
    };
    expect(more).toThrow('ENOBUFS');
    // Other tests of this process may hold some.
    expect(made.length).toBeGreaterThan(maxMachines / 2);
    for (const machine of made) nvmm.machineDestroy(machine);
    nvmm.machineDestroy(nvmm.machineCreate());
    nvmm.close();
  });

  it('machines have numbers and sizes', () => {
    const { nvmm, machine } = bench;
    expect(nvmm.ctl(0, machine.machid)).toMatchObject({ machid: machine.machid, vcpus: 1, ram: 4 * PAGE });
    expect(nvmm.machineCreate().machid).not.toBe(machine.machid);
    expect(nvmm.capability()).toMatchObject({ stateSize: 1008, maxMachines: 128, maxRam: 128 * 2 ** 30 });
  });

  it('one host range at several guest addresses, in parts', () => {
    const { nvmm, machine, ram } = bench;
    nvmm.gpaMap(machine, ram, 0x1000, PAGE, RWX);
    nvmm.gpaMap(machine, ram + 2 * PAGE, 0x2000, 2 * PAGE, Prot.READ);
    nvmm.gpaMap(machine, ram + PAGE, 0x10_0000_0000, PAGE, RWX);
    nvmm.gpaMap(machine, ram + 2 * PAGE, 0x8000_0000, PAGE, RWX);
    expect(nvmm.gpaToHva(machine, 0x1234)).toEqual({ hva: ram + 0x234, prot: RWX });
    expect(nvmm.gpaToHva(machine, 0x3008)).toEqual({ hva: ram + 3 * PAGE + 8, prot: Prot.READ });
    expect(nvmm.gpaToHva(machine, 0x10_0000_0fff)).toEqual({ hva: ram + 2 * PAGE - 1, prot: RWX });
    expect(nvmm.gpaToHva(machine, 0x8000_0000)).toEqual({ hva: ram + 2 * PAGE, prot: RWX });
    nvmm.gpaUnmap(machine, ram, 0x1000, PAGE);
    expect(() => nvmm.gpaToHva(machine, 0x1000)).toThrow('ENOENT');
    nvmm.gpaMap(machine, ram + PAGE, 0x1000, PAGE, RWX);
    expect(nvmm.gpaToHva(machine, 0x1000).hva).toBe(ram + PAGE);
  });

  it('what is in memory stays there when it is mapped', () => {
    const { nvmm, machine, ram, bytes } = bench;
    bytes[ram + 5 * PAGE] = 42;
    nvmm.hvaMap(machine, ram + 5 * PAGE, PAGE);
    expect(bytes[ram + 5 * PAGE]).toBe(42);
  });

  it('shares a machine', () => {
    const { nvmm, machine } = bench;
    const again = nvmm.machineAttach(nvmm.machineShare(machine));
    expect(again.machid).toBe(machine.machid);
    nvmm.vcpuCreate(again, 1);
    expect(nvmm.ctl(0, machine.machid).vcpus).toBe(2);
  });
});
