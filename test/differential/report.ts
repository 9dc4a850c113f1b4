import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86';
import { Fxsave, PATTERN, WINDOW } from './case.ts';
import type { Case, Result } from './case.ts';
import { GPR_NAMES } from './compare.ts';
import type { Difference } from './compare.ts';
import { inspectAll } from './inspect.ts';

/** Words about a case, for people. */

const hex = (value: bigint | number): string => value.toString(16);
const bytesHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const number = (bytes: Uint8Array): string => Buffer.from(bytes).reverse().toString('hex');

export function disassemble(code: Uint8Array, rip: number): string[] {
  const formatter = new Formatter(FormatterSyntax.Nasm);
  const decoder = new Decoder(64, code, DecoderOptions.None);
  decoder.ip = BigInt(rip);
  const lines: string[] = [];
  while (decoder.canDecode) {
    const at = decoder.position;
    const instruction = decoder.decode();
    const bytes = bytesHex(code.subarray(at, decoder.position));
    lines.push(`${hex(rip + at)}  ${bytes.padEnd(30)}  ${formatter.format(instruction)}`);
    instruction.free();
  }
  decoder.free();
  formatter.free();
  return lines;
}

/** What the case starts with, leaving out what is zero. */
export function describeCase(made: Case): string[] {
  const lines: string[] = ['code:', ...disassemble(made.code, made.rip).map((line) => `  ${line}`)];
  const gprs = GPR_NAMES.map((name, i) => [name, made.gpr(i)] as const).filter(([, value]) => value !== 0n);
  lines.push(`registers: ${gprs.map(([name, value]) => `${name}=${hex(value)}`).join(' ')}`);
  lines.push(`rflags=${hex(made.rflags)} fsbase=${hex(made.fsbase)} gsbase=${hex(made.gsbase)}`);
  const f = made.fxsave;
  const word = (at: number): string => number(f.subarray(at, at + 2));
  lines.push(
    `fcw=${word(Fxsave.FCW)} fsw=${word(Fxsave.FSW)} ftw=${hex(f[Fxsave.FTW])} mxcsr=${word(Fxsave.MXCSR)}`,
  );
  const wide = (name: string, start: number, step: number, count: number, size: number): void => {
    for (let i = 0; i < count; i++) {
      const bytes = f.subarray(start + step * i, start + step * i + size);
      if (bytes.some((byte) => byte !== 0)) lines.push(`${name}${i}=${number(bytes)}`);
    }
  };
  wide('st', Fxsave.ST, 16, 8, 10);
  wide('xmm', Fxsave.XMM, 16, 16, 16);
  for (let at = 0; at < PATTERN; at += 16) {
    const bytes = made.pattern.subarray(at, at + 16);
    if (bytes.some((byte) => byte !== 0)) {
      lines.push(`memory ${hex(WINDOW + at)} (and every 0x${hex(PATTERN)}): ${bytesHex(bytes)}`);
    }
  }
  return lines;
}

export function describeFailure(
  made: Case,
  differences: Difference[],
  other: string,
  native?: Result,
): string {
  const end = native ? `native ended with exception ${native.vector} at ${hex(native.rip)}` : 'native died';
  return [
    ...describeCase(made),
    end,
    ...differences.map((one) => `  ${one.what}: native ${one.native}, ${other} ${one.other}`),
  ].join('\n');
}

/** What a failure is about, so that a thousand of one kind are told once. */
export function signature(made: Case, differences: Difference[]): string {
  const mnemonics = inspectAll(made.code)
    .map((one) => one.mnemonic)
    .filter((name) => name !== 'nop');
  const whats = differences.map((one) => one.what.replace(/\s.*|\d+$/g, ''));
  return `${mnemonics.join(' ')}: ${[...new Set(whats)].join(' ')}`;
}

/** The case as something that can be pasted into a regression table. */
export function caseText(made: Case): string {
  return Buffer.from(made.bytes).toString('base64');
}
