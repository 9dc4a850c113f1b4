/**
 * bench:exit: what an exit costs: the same guest in a loop in C on raw KVM and on libnvmm, in the same loop in
 * TypeScript, and under the run loop of a whole PC; on each backend present. And what a guest costs that computes in
 * ring 3, against the same loop without a guest. Rounds are interleaved: a number is the median of them.
 *
 *   npm run bench:exit -- [--rounds 31] [--exits 1000] [--write]
 *
 * --write puts the tables into docs/backends.md.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { emulatedBackend } from '../../main/emulator/backend.ts';
import { kvmBackend } from '../../native/libnvmm/backends.ts';
import { median, numberOption, root } from './bench.ts';
import type { ExitCase } from './exit-guests.ts';
import { cases, codeOf, computing } from './exit-guests.ts';
import type { Side } from './exit-sides.ts';
import { Bare, Loops, wallTime, Whole } from './exit-sides.ts';

const rounds = numberOption('rounds', 31);
const exits = numberOption('exits', 1000);

/** Rounds before those that count: V8 compiles, for exits in several stages and on another thread. */
const WARM_UP = 3;
const WARM_UP_EXITS = 30;
/** Turns of the loop in ring 3: some forty milliseconds. A shorter one shows what the start of the guest costs, a longer one is interrupted more. */
const TURNS = 20_000_000;

const missing = kvmBackend.unavailable();
if (missing !== null) console.log(`kvm is not measured: ${missing}`);
const loops = missing === null ? new Loops() : null;
const time = loops?.time ?? wallTime;
const kvm: Side[] =
  loops === null ? [] : [...loops.sides(), new Bare(kvmBackend, time), new Whole(kvmBackend, time)];
const emulated: Side[] = [new Bare(emulatedBackend, time), new Whole(emulatedBackend, time)];

/** A median, and its ratio to the first side's: the median of the rounds' ratios, as the host's speed changes. */
interface Measured {
  ns: number;
  ratio: number;
}

/** Each side in each round. */
function measure(sides: readonly (() => number)[]): Measured[] {
  const times = sides.map((): number[] => []);
  for (let round = -WARM_UP_EXITS; round < rounds; round++) {
    sides.forEach((run, i) => {
      const ns = run();
      if (round >= 0) times[i].push(ns);
    });
  }
  return times.map((own) => ({
    ns: median(own),
    ratio: median(own.map((ns, round) => ns / times[0][round])),
  }));
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
}

function exitRow(one: ExitCase): string[] {
  const code = codeOf(one, exits);
  const all = measure([...kvm, ...emulated].map((side) => () => side.run(code, false) / exits));
  const cells = all.map(({ ns, ratio }, i) => {
    const us = (ns / 1000).toFixed(2);
    return i === 0 || loops === null ? `${us} µs` : `${us} µs, ${ratio.toFixed(2)}`;
  });
  const cellsOfRow = [one.name, ...cells];
  console.log(cellsOfRow.join('   '));
  return cellsOfRow;
}

/** A side's ratio to the same loop right before and right after it, as other work makes the processor slower and faster. */
function besides(
  native: (code: Uint8Array) => number,
  code: Uint8Array,
  side: Side,
  guest: Uint8Array,
): string {
  const ratios: number[] = [];
  for (let round = -WARM_UP; round < rounds; round++) {
    const before = native(code);
    const ns = side.run(guest, true);
    const ratio = (2 * ns) / (before + native(code));
    if (round >= 0) ratios.push(ratio);
  }
  return median(ratios).toFixed(3);
}

function ringThree(native: (code: Uint8Array) => number): string {
  const { guest, native: code } = computing(TURNS);
  const cells = ['a loop in ring 3', '1.000', ...kvm.map((side) => besides(native, code, side, guest))];
  console.log(cells.join('   '));
  return table(['', 'natively', ...kvm.map(({ name }) => name)], [cells]);
}

const exitTable = table(
  ['', ...kvm.map(({ name }) => name), ...emulated.map(({ name }) => name)],
  cases.map(exitRow),
);
const computeTable = loops === null ? '' : ringThree((code) => loops.native(code));

if (process.argv.includes('--write')) {
  const page = join(root, 'docs/backends.md');
  const cores = `${cpus().length} cores of an ${cpus()[0].model}, Node ${process.versions.node}`;
  const machine = `${cores}, ${rounds} rounds, at a load of ${loadavg()[0].toFixed(0)}`;
  const text = readFileSync(page, 'utf8');
  const [begin, end] = ['<!-- bench:exit -->', '<!-- end of bench:exit -->'];
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${page} has no place for the tables, ${begin} to ${end}`);
  const body = [begin, `Measured on ${machine}.`, exitTable, computeTable, ''].join('\n\n');
  writeFileSync(page, text.slice(0, from) + body + text.slice(to));
}
