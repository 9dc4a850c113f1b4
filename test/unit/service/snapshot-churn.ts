import { existsSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Service } from '../../../main/service/service.ts';
import { Console } from '../machine/console.ts';

/** Takes, restores, deletes and clones snapshots of a VM that runs, without a pause, until it is killed. */
const [folder, seed] = process.argv.slice(2) as [string, string];
let state = Number(seed) >>> 0;

/** Marsaglia's xorshift32: the same seed gives the same choices. */
function random(below: number): number {
  state = (state || 1) ^ (state << 13);
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

// Straight to the file: a line that was said must be there, however this process ends.
const say = (...words: string[]) => writeSync(1, `${words.join(' ')}\n`);

const service = await Service.open({ folder });
const disk = join(folder, 'disk.img');
if (!existsSync(disk)) writeFileSync(disk, Buffer.alloc(2 ** 20));
const config = {
  name: 'main',
  guest: { kind: 'calc' as const },
  memory: 2 ** 23,
  backend: 'emulated' as const,
};
const there = (await service.call('vm.list', {})).find((vm) => vm.config.name === 'main');
const { id } = there ?? (await service.call('vm.create', { ...config, disks: [{ path: disk }] }));
const console = new Console(service.serial(id, 0));

const list = () => service.call('snapshot.list', { id });

/** The guest answers: its state is whole. */
async function works(): Promise<void> {
  const [a, b] = [random(90) + 10, random(90) + 10];
  console.type(`\r${a} * ${b}\r`);
  await console.wait(`${a * b}\r\n`, 20_000);
}

const before = await list();
const current = before.find((each) => each.current);
if (current !== undefined && random(2) === 0) {
  await service.call('snapshot.restore', { id, snapshot: current.id });
} else {
  await service.call('vm.start', { id });
  await console.wait('\n> ');
}
await works();
say('ready');

for (;;) {
  const snapshots = await list();
  const kind = snapshots.length < 3 ? 0 : snapshots.length > 8 ? 2 : random(4);
  const one = snapshots[random(Math.max(1, snapshots.length))];
  if (kind === 0) {
    say('begin', 'take', '-');
    const { snapshot } = await service.call('snapshot.take', { id });
    say('done', 'take', snapshot.id);
  } else if (kind === 1) {
    say('begin', 'restore', one!.id);
    await service.call('snapshot.restore', { id, snapshot: one!.id });
    say('done', 'restore', one!.id);
  } else if (kind === 2) {
    say('begin', 'delete', one!.id);
    await service.call('snapshot.delete', { id, snapshot: one!.id });
    say('done', 'delete', one!.id);
  } else {
    say('begin', 'clone', one!.id);
    const made = await service.call('snapshot.clone', { id, snapshot: one!.id, name: 'clone' });
    say('done', 'clone', one!.id);
    if (random(2) === 0) await service.call('vm.delete', { id: made.id });
  }
  if (random(4) === 0) await works();
}
