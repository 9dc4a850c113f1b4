import { describe, expect, it } from 'vitest';
import type { Backend } from '../../../main/nvmm/nvmm.ts';
import { chooseBackend, reportBackends, whyEmulated } from '../../../main/nvmm/registry.ts';

const backend = (name: Backend['name'], reason: string | null): Backend => ({
  name,
  unavailable: () => reason,
  privateSize: () => 0,
  open: () => {
    throw new Error('not opened here');
  },
});
const list = [backend('nvmm', 'not this system.'), backend('kvm', null), backend('emulated', null)];

describe('the registry of backends', () => {
  it('auto is the first that works', () => expect(chooseBackend(list, 'auto').name).toBe('kvm'));
  it('gives the one that was asked for', () => expect(chooseBackend(list, 'emulated').name).toBe('emulated'));
  it('says why the one that was asked for does not work', () => {
    expect(() => chooseBackend(list, 'nvmm')).toThrow('Backend nvmm is not available: not this system.');
  });
  it('says what there is instead of an unknown one', () => {
    expect(() => chooseBackend([list[1]], 'nvmm')).toThrow('choose auto or one of kvm');
  });
  it('says why there is none at all', () => {
    expect(() => chooseBackend([list[0]], 'auto')).toThrow('No backend is available. nvmm: not this system.');
  });
  it('tells what hardware lacks on this system', () => {
    const lacking = [backend('nvmm', 'no library.'), backend('kvm', 'no device.')];
    expect(whyEmulated(lacking, 'linux')).toBe('kvm: no device.');
    expect(whyEmulated(lacking, 'netbsd')).toBe('nvmm: no library.');
    expect(whyEmulated(list, 'linux')).toBeNull();
  });
  it('reports each', () => {
    expect(reportBackends(list)).toEqual([
      { name: 'nvmm', available: false, reason: 'not this system.' },
      { name: 'kvm', available: true },
      { name: 'emulated', available: true },
    ]);
  });
});
