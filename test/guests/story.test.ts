import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { backends } from '../../main/machine/backends.ts';
import { gdb } from './gdb-rig.ts';

// docs/tutorial.md: its commands as they are written there, and what it says came of them.

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'vitrine-story-'));
afterAll(() => rmSync(folder, { recursive: true }));

const tutorial = readFileSync(join(root, 'docs/tutorial.md'), 'utf8');
const blocks = (language: string): string[][] =>
  [...tutorial.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))].map(([, text]) =>
    text!.trim().split('\n'),
  );
const [runs, traced, debugged, backwards, lockstep, judged] = blocks('sh');
const [corpse, back] = blocks('gdb');

const source = readFileSync(join(root, 'assets/guests/story/story.asm'), 'utf8');
const { bytes, symbols } = assemble(source);
const guest = join(folder, 'story.bin');
writeFileSync(guest, bytes);

/** A line of the tutorial, with files of this test's own. */
const line = (text: string): string =>
  text.replace('out/guests/story.bin', guest).replace('story.jsonl', join(folder, 'story.jsonl'));

function shell(text: string): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', line(text)], {
    ...{ cwd: root, encoding: 'latin1', input: '', timeout: 60_000 },
  });
  return { status, out: stdout, err: stderr };
}

/** Starts the debugged machine as the tutorial does, but at any port, and gives gdb's commands to it. */
async function withGdb(command: string, commands: readonly string[]): Promise<string> {
  const text = line(command).replace('--gdb 1234', '--gdb 0 --json');
  const child = spawn('sh', ['-c', `exec ${text.replace(/^(STORY_READ=\d)/, 'env $1')}`], { cwd: root });
  let out = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString()));
  const ended = new Promise((resolve) => child.on('close', resolve));
  await expect.poll(() => out, { timeout: 30_000 }).toContain('"event":"gdb"');
  const said = await gdb(/"address":"([^"]+)"/.exec(out)![1]!, [...commands, 'kill']);
  await ended;
  return said;
}

const noGdb = spawnSync('gdb', ['--version']).error === undefined ? null : 'there is no gdb here';

describe('the tutorial', () => {
  it('the addresses in it are those of the guest', () => {
    expect(symbols.get('table')).toBe(0x100180n);
    expect(symbols.get('steps')).toBe(0x100060n);
    expect(symbols.get('answer')).toBe(0x100035n);
  });

  it('the guest does its work without the fault, and dies of it', () => {
    const [, healthy, faulty] = runs!;
    expect(shell(healthy!)).toMatchObject({ status: 0, out: 'All steps are done.\r\n' });
    const { status, err } = shell(faulty!);
    expect(status).toBe(3);
    const shown = tutorial.split('```\n')[2]!;
    expect(err).toContain(shown.split('\n').slice(0, 3).join('\n'));
    expect(err).not.toMatch(/0x40 \(lapic\)\n.*0x50 .*\n.*read.*0x40/);
  });

  it('the trace has the right answers', () => {
    expect(shell(traced![0]!).status).toBe(3);
    const exits = readFileSync(join(folder, 'story.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map(
        (text) => JSON.parse(text) as { reason?: string; direction?: string; value?: string; rip?: string },
      )
      .filter(({ reason }) => reason === 'MEMORY');
    const reads = exits.filter(({ direction }) => direction === 'read');
    expect(reads.map(({ value }) => Number(value))).toEqual(Array.from({ length: 16 }, (_, n) => n * 16));
    expect(exits.at(-1)!.rip).toBe('0x100035');
  });

  it.skipIf(noGdb !== null)(`gdb sees the table and the stack${noGdb ? `: ${noGdb}` : ''}`, async () => {
    const dead = await withGdb(debugged![0]!, corpse!);
    expect(dead).toContain('received signal SIGSEGV');
    expect(dead).toMatch(/0x1002[0-9a-f]+:\t0x00000007\t0x00000007/);
    expect(dead).toContain('0x100190:\t0x001000a0\t0x001000a0\t0x001000c0');
  });

  it.skipIf(noGdb !== null)(
    `back from the corpse to the answer that was lost${noGdb ? `: ${noGdb}` : ''}`,
    { timeout: 120_000 },
    async () => {
      const found = await withGdb(backwards![0]!, back!);
      expect(found).toMatch(/SIGSEGV[^]*watchpoint 1[^]*Old value = 1048736\nNew value = 0\n/);
      expect(found).toMatch(/=> 0x100040:\tmov +%eax,0x100180[^]*=> 0x100035:\tmov +0xfee00080,%eax\n/);
      expect(found).toMatch(/\$1 = 0x5\n\$2 = 0x50\n[^]* tpr +0x50 [^]*\$3 = 0x40\n/);
    },
  );

  it('lockstep shows the very instruction, and nothing without the fault', () => {
    const [with6, without] = lockstep!.map(shell);
    const shown = tutorial.split('```\n').find((text) => text.startsWith('emulated and emulated'))!;
    expect(with6).toMatchObject({ status: 4, out: expect.stringContaining(shown) as string });
    expect(without).toMatchObject({ status: 0 });
  });

  const kvm = backends.find(({ name }) => name === 'kvm')!.unavailable();
  it.skipIf(kvm !== null)(`and so does hardware${kvm === null ? '' : `: ${kvm}`}`, () => {
    const { status, out } = shell(judged![0]!);
    expect([status, out]).toEqual([4, expect.stringContaining('RAX: emulated 0x40, kvm 0x50')]);
    expect(out).toContain('0x100035  mov     eax, [0xfee00080]');
  });
});
