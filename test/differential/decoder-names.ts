/** Where iced-x86 and our decoder name the same instruction differently, and what only iced knows. */

const conditions = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];

/** iced's name to ours and the condition. */
export const conditionNames: ReadonlyMap<string, readonly [name: string, condition: number]> = new Map([
  ...['j', 'set', 'cmov'].flatMap((stem) =>
    conditions.map((suffix, code) => [`${stem}${suffix}`, [`${stem}cc`, code]] as const),
  ),
  ...Object.entries({ b: 2, e: 4, be: 6, u: 10, nb: 3, ne: 5, nbe: 7, nu: 11 }).map(
    ([suffix, code]) => [`fcmov${suffix}`, ['fcmovcc', code]] as const,
  ),
]);

/** String instructions: to our name and the operand size. */
export const stringNames: ReadonlyMap<string, readonly [name: string, size: number]> = new Map(
  ['movs', 'cmps', 'stos', 'lods', 'scas', 'ins', 'outs'].flatMap((stem) =>
    Object.entries({ b: 8, w: 16, d: 32, q: 64 }).map(
      ([suffix, size]) => [`${stem}${suffix}`, [stem, size]] as const,
    ),
  ),
);

/** Names that spell the operand size: to our name and the size. */
export const sizedNames: ReadonlyMap<string, readonly [name: string, size: number]> = new Map([
  ['cbw', ['cbw', 16]],
  ['cwde', ['cbw', 32]],
  ['cdqe', ['cbw', 64]],
  ['cwd', ['cwd', 16]],
  ['cdq', ['cwd', 32]],
  ['cqo', ['cwd', 64]],
  ['pusha', ['pusha', 16]],
  ['pushad', ['pusha', 32]],
  ['popa', ['popa', 16]],
  ['popad', ['popa', 32]],
  ['pushf', ['pushf', 16]],
  ['pushfd', ['pushf', 32]],
  ['pushfq', ['pushf', 64]],
  ['popf', ['popf', 16]],
  ['popfd', ['popf', 32]],
  ['popfq', ['popf', 64]],
  ['iret', ['iret', 16]],
  ['iretd', ['iret', 32]],
  ['iretq', ['iret', 64]],
  ['sysretq', ['sysret', 64]],
  ['sysexitq', ['sysexit', 64]],
  ['pcmpestrm64', ['pcmpestrm', 64]],
  ['pcmpestri64', ['pcmpestri', 64]],
]);

/** Other names of ours. */
export const aliases: ReadonlyMap<string, string> = new Map([
  ['xlatb', 'xlat'],
  ['wait', 'fwait'],
  ['sal', 'shl'],
  ['jecxz', 'jcxz'],
  ['jrcxz', 'jcxz'],
  ['fneni', 'fnop'],
  ['fndisi', 'fnop'],
  ['fnsetpm', 'fnop'],
  // What a processor without the feature makes of it.
  ...['reservednop', 'endbr32', 'endbr64', 'rdsspd', 'rdsspq', 'cldemote', 'prefetchit0', 'prefetchit1'].map(
    (name) => [name, 'nop'] as const,
  ),
  ['prefetchwt1', 'prefetch'],
  ['wbnoinvd', 'wbinvd'],
  ['vmgexit', 'vmmcall'],
]);

/**
 * The operand size and the address size that the name of an iced code tells where no operand does, or 0:
 * `Retfw_imm16`, `Loop_rel8_32_ECX`, `Monitorq`.
 */
export function sizesInCode(code: string): { operand: number; address: number } {
  const stack = /^(?:Retn|Retf|Leave|Enter)([wdq])(?:_|$)/.exec(code)?.[1];
  const counter = /^(?:Loop(?:ne|e)?_.*_|J)([er]?)cx/i.exec(code)?.[1];
  const monitor = /^Monitor([wdq])$/.exec(code)?.[1];
  const bits: Readonly<Record<string, number>> = { w: 16, d: 32, q: 64, '': 16, e: 32, r: 64 };
  return {
    operand: stack === undefined ? 0 : bits[stack]!,
    address: bits[monitor ?? counter?.toLowerCase() ?? '-'] ?? 0,
  };
}

/** A NOP's operands mean nothing, and iced has none for some. */
export const operandsDiffer: ReadonlySet<string> = new Set(['nop']);

/** Register operands that are read as words: iced gives them the operand size. MOV to a segment register too. */
export const wordOperands: ReadonlySet<string> = new Set([
  'lldt',
  'ltr',
  'verr',
  'verw',
  'lmsw',
  'lar',
  'lsl',
  'arpl',
]);

/** What iced knows and we don't, by feature. VEX, EVEX and XOP are all unknown to us, whatever the name. */
const unsupportedByFeature: Readonly<Record<string, string>> = {
  '3DNow!': 'femms',
  SSE4A: 'extrq insertq movntss movntsd',
  VMX: 'vmread vmwrite vmptrld vmptrst vmclear vmxon vmxoff vmlaunch vmresume vmfunc invept invvpid',
  SVM: 'vmrun vmload vmsave stgi clgi skinit invlpga invlpgb tlbsync',
  'SEV-SNP': 'rmpadjust rmpupdate psmash pvalidate rmpquery',
  SMX: 'getsec getsecq',
  SGX: 'encls enclu enclv',
  TDX: 'seamcall seamops seamret tdcall',
  RTM: 'xbegin xend xabort xtest xsusldtrk xresldtrk',
  CET: 'incsspd incsspq saveprevssp rstorssp wrssd wrssq wrussd wrussq setssbsy clrssbsy',
  XSAVES: 'xsaves xsaves64 xrstors xrstors64',
  MOVDIRI: 'movdiri movdir64b enqcmd enqcmds',
  'RAO-INT': 'aadd aand aor axor',
  PTWRITE: 'ptwrite',
  WAITPKG: 'umonitor umwait tpause',
  UINTR: 'senduipi uiret clui stui testui',
  'Key Locker':
    'loadiwkey encodekey128 encodekey256 aesenc128kl aesenc256kl aesdec128kl aesdec256kl ' +
    'aesencwide128kl aesencwide256kl aesdecwide128kl aesdecwide256kl',
  GFNI: 'gf2p8mulb gf2p8affineqb gf2p8affineinvqb',
  PKU: 'rdpkru wrpkru',
  FRED: 'erets eretu lkgs',
  MSRLIST: 'rdmsrlist wrmsrlist wrmsrns',
  'VIA PadLock':
    'xstore xcryptecb xcryptcbc xcryptctr xcryptcfb xcryptofb xsha1 xsha256 xsha512 montmul ' +
    'xsha512_alt xstore_alt undoc ccs_hash ccs_encrypt',
  others: 'pconfig pbndkb serialize hreset clzero monitorx mwaitx rdpru mcommit',
};
const unsupported: ReadonlySet<string> = new Set(
  Object.values(unsupportedByFeature).flatMap((names) => names.split(' ')),
);

export function isUnsupported(name: string): boolean {
  return unsupported.has(name);
}
