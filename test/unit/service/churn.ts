import { writeSync } from 'node:fs';
import { vmConfig } from '../../../main/service/contract.ts';
import { Library, type VmRecord } from '../../../main/service/library.ts';

/** Changes a library without a pause, and says before and after each change what it is, until it is killed. */
const [folder, seed] = process.argv.slice(2);
let state = Number(seed) >>> 0;

/** Marsaglia's xorshift32: the same seed gives the same changes. */
function random(below: number): number {
  state = (state || 1) ^ (state << 13);
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const config = (name: string) => vmConfig.parse({ name, guest: { kind: 'calc' }, memory: 2 ** 24 });
// Straight to the file: a line that was said must be there, however this process ends.
const say = (...words: string[]) => writeSync(1, `${words.join(' ')}\n`);

const library = await Library.open(folder!);
const { records } = await library.load();
const vms: VmRecord[] = [...records];

for (let step = 0; ; step++) {
  const name = `n${seed}-${step}`;
  const kind = vms.length < 3 ? 0 : vms.length > 12 ? 2 : random(3);
  const index = random(Math.max(vms.length, 1));
  if (kind === 0) {
    const id = `vm-${seed}-${step}`;
    say('begin', 'create', id, name);
    vms.push(await library.create(config(name), id));
    say('done', 'create', id, name);
  } else if (kind === 1) {
    const vm = vms[index]!;
    vm.config = config(name);
    say('begin', 'update', vm.id, name);
    await library.update(vm);
    say('done', 'update', vm.id, name);
  } else {
    const [vm] = vms.splice(index, 1);
    say('begin', 'delete', vm!.id, vm!.config.name);
    await library.delete(vm!.id);
    say('done', 'delete', vm!.id, vm!.config.name);
  }
}
