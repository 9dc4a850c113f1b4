import { number, short, small, split, thread } from './arguments.ts';
import { Errno, RemoteError } from './errors.ts';
import type { Ended, Stub } from './stub.ts';

/** Lets the guest run: vCont, its older forms, and backwards (GDB manual, appendix E.2). */

type Action =
  { kind: 'continue' } | { kind: 'step' } | { kind: 'range'; start: bigint; end: bigint } | { kind: 'stop' };

export const resumeActions = 'vCont;c;C;s;S;t;r';

/** `c`, `C05`, `s`, `S05`, `t`, `r1000,1010`. A signal has no meaning for a machine, and is not delivered. */
function parseAction(text: string): Action {
  const letter = text[0];
  const rest = text.slice(1);
  switch (letter) {
    case 'c':
    case 's':
    case 't':
      if (rest !== '') break;
      return { kind: letter === 'c' ? 'continue' : letter === 's' ? 'step' : 'stop' };
    case 'C':
    case 'S':
      small(rest, 'signal');
      return { kind: letter === 'C' ? 'continue' : 'step' };
    case 'r': {
      const [start, end] = split(rest, ',');
      if (end === null) break;
      return { kind: 'range', start: number(start, 'start'), end: number(end, 'end') };
    }
  }
  throw new RemoteError(Errno.INVAL, `vCont: "${short(text)}" is none of ${resumeActions}.`);
}

/** What each vCPU is to do: the first action that names it counts. */
export function parseVCont(text: string, vcpus: number): Action[] {
  const actions: (Action | undefined)[] = Array.from({ length: vcpus });
  for (const part of text.split(';')) {
    const [what, whom] = split(part, ':');
    const action = parseAction(what);
    const id = whom === null ? 'all' : thread(whom, vcpus);
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      if (id === 'all' || id === vcpu || (id === 'any' && vcpu === 0)) actions[vcpu] ??= action;
    }
  }
  return actions.map((action) => action ?? { kind: 'stop' });
}

/** vCont: a vCPU that is to step does, with the others standing still; else all of them run. */
export function vCont(stub: Stub, text: string): Promise<Ended> {
  const actions = parseVCont(text, stub.vcpus);
  const vcpu = actions.findIndex(({ kind }) => kind === 'step' || kind === 'range');
  const action = actions[vcpu];
  if (action?.kind === 'range') return stub.stepRange(vcpu, action.start, action.end);
  if (action !== undefined) return stub.step(vcpu);
  if (actions.some(({ kind }) => kind === 'continue')) return stub.goOn();
  throw new RemoteError(Errno.INVAL, 'vCont: no vCPU is to run.');
}

/** `c` and `s`, with the address to go on from, if there is one; `C` and `S`, whose signal is checked and dropped. */
export async function resume(stub: Stub, letter: string, text: string): Promise<Ended> {
  let address: string | null = text;
  if (letter === 'C' || letter === 'S') {
    const [signal, rest] = split(text, ';');
    small(signal, 'signal');
    address = rest;
  }
  const vcpu = stub.resumed ?? stub.selected;
  if (address !== null && address !== '') await stub.setPc(vcpu, number(address, 'address'));
  return letter === 'c' || letter === 'C' ? stub.goOn() : stub.step(vcpu);
}
