import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MachineProcess } from '../../main/machine/machine-process.ts';
import type { BackendChoice, MachineConfig } from '../../main/machine/protocol.ts';
import { Console } from '../unit/machine/console.ts';

/** Linux at its shell goes from the emulator to another backend and back, in place and through a snapshot. */

const guests = join(import.meta.dirname, '../../.cache/guests');

/** KVM without hardware runs a kernel at less than a million instructions a second. */
const PATIENCE = 15 * 60_000;

/**
 * A guest that goes from one backend to another keeps time by the ACPI timer: the time stamp counters have other rates,
 * and a KVM without hardware has no offset for it, so that it would jump by hours.
 */
const TIME = 'tsc=unstable clocksource=acpi_pm lapic=notscdeadline';

const config: MachineConfig = {
  name: 'linux',
  guest: {
    kind: 'linux',
    kernel: join(guests, 'vmlinuz-cloud'),
    initrd: join(guests, 'initrd-amd64.gz'),
    append: `console=ttyS0 panic=-1 ${TIME}`,
  },
  memory: 256 * 2 ** 20,
  vcpus: 1,
  backend: 'emulated',
  disks: [],
};

export class LinuxSwitch {
  private readonly machine = new MachineProcess();
  private readonly console = new Console(this.machine.serial[0]!);
  private readonly folder = mkdtempSync(join(tmpdir(), 'vitrine-switch-'));
  private readonly say: (text: string) => void;

  constructor(say: (text: string) => void) {
    this.say = say;
  }

  /** Boots on the emulator; then in the middle of a line to `other`, and back to the emulator. */
  async thereAndBack(other: BackendChoice): Promise<void> {
    await this.boot();
    await this.compute(6, 7);
    this.console.type('echo $((11');
    await this.seen('echo $((11');
    await this.move(other);
    await this.compute(11, 11, true);
    this.say(`finished the line on ${other}`);
    await this.compute(12, 12);
    await this.move('emulated');
    await this.compute(13, 13);
  }

  /** The same with programs that are started over there, and a snapshot from there that goes on emulated. */
  async campaign(other: BackendChoice): Promise<void> {
    await this.thereAndBack(other);
    await this.move(other);
    this.console.type('ls -l /; (sleep 1; echo slept); md5sum /bin/busybox\n');
    await this.seen('slept\r\n');
    await this.seen('  /bin/busybox\r\n');
    await this.seen('guest# ');
    const stats = await this.machine.ask('stats', null);
    this.say(`programs ran on ${other}; instructions run for it: ${stats['exits.INVALID'] ?? 0}`);
    const taken = await this.snapshot();
    await this.move('emulated');
    await this.compute(14, 14);
    await this.machine.powerOff();
    this.say('off; the snapshot goes on, emulated');
    await this.machine.start({ ...config, restore: { folder: taken, layers: [] } });
    await this.compute(15, 15);
    this.console.type('poweroff\n');
    const ended = await this.machine.ended;
    if (ended.state !== 'off') throw new Error(`it ended ${ended.state}: ${ended.message}`);
    this.say(`it went on everywhere: ${ended.message}`);
  }

  /** How many exits of this kind there were since the last switch. */
  async exits(reason: string): Promise<number> {
    const stats = await this.machine.ask('stats', null);
    return stats[`exits.${reason}`] ?? 0;
  }

  async end(): Promise<void> {
    await this.machine.powerOff();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async boot(): Promise<void> {
    await this.machine.start(config);
    await this.seen('guest# ');
    this.say('at its shell, emulated');
  }

  /** Waits for text, unless the machine ends first. */
  private async seen(text: string): Promise<void> {
    const ended = this.machine.ended.then(({ message }) => Promise.reject(new Error(message ?? 'it ended')));
    await Promise.race([this.console.wait(text, PATIENCE), ended]);
  }

  private async compute(a: number, b: number, finish = false): Promise<void> {
    this.console.type(finish ? `*${b}))\n` : `echo $((${a}*${b}))\n`);
    await this.seen(`\n${a * b}\r\n`);
    await this.seen('guest# ');
  }

  private async move(to: BackendChoice): Promise<void> {
    await this.machine.pause();
    await this.machine.ask('backend.switch', { backend: to });
    await this.machine.resume();
    this.say(`on ${this.machine.status.backend}`);
  }

  private async snapshot(): Promise<string> {
    const folder = join(this.folder, 'snapshot');
    mkdirSync(folder);
    const title = {
      id: 'snapshot',
      name: '',
      createdAt: 0,
      parent: null,
      writtenBy: 'campaign',
      console: '',
    };
    const order = { folder, title, config, parent: null, layers: [] };
    const { pausedMs, stored } = await this.machine.ask('snapshot.take', order);
    this.say(`snapshot: paused for ${pausedMs.toFixed(1)} ms, ${stored} pages`);
    return folder;
  }
}
