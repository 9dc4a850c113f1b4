import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { GuestSource } from '../../main/machine/protocol.ts';
import { Console } from '../unit/machine/console.ts';
import { deterministicMachine } from './deterministic-machine.ts';
import { fetchGuests, startVitrine } from './scenarios.ts';

// Debian's own virtio drivers on our PCI bus, MSI-X, virtqueues and raw-file disks.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const guests = join(root, '.cache/guests');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-disk-'));
afterAll(() => rmSync(folder, { recursive: true }));

const MODULES =
  'virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio-rng virtio_blk';
const MIB = 2 ** 20;

/** The initrd, and behind it an archive of the modules: the kernel unpacks one after the other. */
function initrdWithModules(): string {
  const modules = join(folder, 'modules');
  if (existsSync(modules)) return join(folder, 'initrd.gz');
  mkdirSync(modules);
  for (const name of MODULES.split(' ')) {
    const found = execFileSync('find', [join(guests, 'cloud'), '-name', `${name}.ko`], { encoding: 'utf8' });
    copyFileSync(found.split('\n')[0], join(modules, `${name}.ko`));
  }
  const archive = execFileSync('sh', ['-c', 'find modules | cpio -o -H newc --quiet | gzip'], {
    cwd: folder,
  });
  const path = join(folder, 'initrd.gz');
  writeFileSync(path, Buffer.concat([readFileSync(join(guests, 'initrd-amd64.gz')), archive]));
  return path;
}

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

const reason = fetchGuests(['cloud', 'initrd']);
describe.runIf(reason === null)(`virtio${reason === null ? '' : ` (${reason})`}`, () => {
  it('Linux reads and writes a disk, is refused on a read-only one, and gets random bytes', async () => {
    const image = join(folder, 'disk.img');
    const before = randomBytes(4 * MIB);
    writeFileSync(image, before);
    const session = startVitrine([
      ...['--kernel', join(guests, 'vmlinuz-cloud'), '--initrd', initrdWithModules()],
      ...['--append', 'console=ttyS0 quiet', '--disk', image, '--disk', `${image},ro`],
    ]);
    const run = async (command: string): Promise<string> => {
      session.type(`${command}; echo EN""D\n`);
      const printed = await session.waitFor('END', 120_000);
      await session.waitFor('guest# ');
      return printed;
    };
    await session.waitFor('guest# ', 300_000);
    await run(`cd /modules; for m in ${MODULES}; do insmod $m.ko; done`);
    expect(await run('md5sum /dev/vda')).toContain(md5(before));
    await run('yes vitrine | dd of=/dev/vda bs=64k count=3 seek=1 iflag=fullblock; sync');
    expect(await run('dd if=/dev/zero of=/dev/vdb bs=512 count=1')).toContain('Operation not permitted');
    expect(await run('dd if=/dev/hwrng bs=64 count=1 | wc -c')).toMatch(/^64\r?$/m);
    expect(await run('grep -c virtio0-req /proc/interrupts')).toMatch(/^1\r?$/m);
    session.type('poweroff\n');
    expect(await session.ended).toBe(0);
    const after = readFileSync(image);
    expect(after.subarray(65536, 65536 + 8).toString()).toBe('vitrine\n');
    expect(md5(after.subarray(4 * 65536))).toBe(md5(before.subarray(4 * 65536)));
  }, 480_000);

  // Its vCPU's thread has the disks open, too: once it went on writing into what a snapshot had sealed.
  it('a deterministic machine leaves alone what a snapshot has sealed', async () => {
    const image = join(folder, 'sealed.img');
    writeFileSync(image, Buffer.alloc(MIB));
    const guest: GuestSource = {
      ...{ kind: 'linux', kernel: join(guests, 'vmlinuz-cloud'), initrd: initrdWithModules() },
      append: 'console=ttyS0 quiet',
    };
    const disks = [{ path: image, readonly: false }];
    const { machine, config } = await deterministicMachine(guest, 128 * MIB, { disks });
    try {
      const console = new Console(machine.serial[0]!);
      const run = async (command: string): Promise<void> => {
        console.type(`${command}; echo EN""D\r`);
        await console.wait('END', 300_000);
        await console.wait('guest# ', 60_000);
      };
      await machine.resume();
      await console.wait('guest# ', 300_000);
      await run(`cd /modules; for m in ${MODULES}; do insmod $m.ko; done`);
      await run('echo before | dd of=/dev/vda conv=notrunc,fsync');
      const [snapshot, layer] = [join(folder, 'snapshot'), join(folder, 'layer')];
      mkdirSync(snapshot);
      const title = { id: 's', name: '', createdAt: 0, parent: null, writtenBy: 'test', console: '' };
      await machine.ask('snapshot.take', { folder: snapshot, title, config, parent: null, layers: [layer] });
      const sealed = readFileSync(image);
      expect(sealed.subarray(0, 7).toString()).toBe('before\n');
      await run('echo after | dd of=/dev/vda conv=notrunc,fsync');
      expect(readFileSync(image).equals(sealed)).toBe(true);
      expect(readFileSync(layer).includes('after\n')).toBe(true);
    } finally {
      await machine.powerOff();
    }
  }, 480_000);
});
