import { Code } from 'iced-x86';
import { otherNaNs } from './dot-products.ts';
import { exceptionWasFirst, pointerRegisters, pointersInMemory, topOfMmxStore } from './intel-x87.ts';
import { instructionAt, isAccessFault } from './tolerance.ts';
import type { Tolerance } from './tolerance.ts';

/** What Intel's processors do in their own way: the emulated one follows AMD's, and says so in CPUID. */

const COMPARES_STRINGS = /^(cmps|scas)[bwdq]$/;
/** CF, PF, AF, ZF, SF, OF. */
const STATUS_FLAGS = 0x8d5n;
const RF = 0x10000n;
/** Loads of 16 bytes that need no alignment. */
const UNALIGNED = /^(lddqu|mov[dq]qu|movup[sd]|pcmp[ei]str[im](64)?)$/;
const DEBUG = 1;
const ALIGNMENT_CHECK = 17;
/** Those that write to [RDI], and those that read from [RSI] and write. */
const WRITES_STRINGS = /^(movs|stos)[bwdq]$/;
const COPIES_STRINGS = /^movs[bwdq]$/;

const [RCX, RSI, RDI] = [1, 6, 7];
const low = (value: bigint): bigint => BigInt.asUintN(32, value);

export const intelTolerances: readonly Tolerance[] = [
  {
    name: 'x87 pointers',
    reason:
      'FXSAVE stores FIP always, where AMD stores it for a pending exception alone (AMD64 vol. 2, 11.4.4); FOP is that of an unmasked exception or 0 (SDM vol. 1, 8.1.9.1), FDP as well where CPUID has FDP_EXCPTN_ONLY, and undefined after an instruction without a memory operand (8.1.8)',
    ignore: (context) => ({ parts: [...pointerRegisters(context), ...pointersInMemory(context)] }),
  },
  {
    name: 'x87 exceptions before faults',
    reason:
      "an unmasked exception leaves a store's memory alone, and whether its address is looked at before is up to the processor: one class of exceptions in the order of priorities (SDM vol. 3, 6.9; AMD64 vol. 2, 8.5)",
    ignore: (context) => (exceptionWasFirst(context) ? { everything: true } : undefined),
  },
  {
    name: 'flags of interrupted comparisons',
    reason:
      'what interrupts a repeated CMPS or SCAS finds the flags that were there before it (SDM vol. 2, REP); AMD leaves those of the last comparison',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, native.rip);
      const inside = isAccessFault(native.vector) || native.vector === DEBUG;
      return inside && native.rip === other.rip && at?.repeated && COMPARES_STRINGS.test(at.mnemonic)
        ? { rflags: STATUS_FLAGS }
        : undefined;
    },
  },
  {
    name: 'RF inside of REP',
    reason:
      'a trap after any but the last iteration has RF set in its frame (SDM vol. 3, 17.3.1.1), for AMD it has not',
    ignore: (context) => {
      const { native, other } = context;
      const trap = native.vector === DEBUG && other.vector === DEBUG && native.rip === other.rip;
      return trap && instructionAt(context, native.rip)?.repeated ? { rflags: RF } : undefined;
    },
  },
  {
    name: 'REP with ECX = 0',
    reason:
      'with 32-bit addresses RCX becomes 0, and what MOVS and STOS address is cut to 32 bits, although nothing is done (in no manual; Linux has it as string_registers_quirk in arch/x86/kvm/emulate.c)',
    ignore: ({ native, other, instructions }) => {
      const found = instructions.filter((one) => one.repeated && one.address32);
      if (found.length === 0) return undefined;
      // What counts by all of RCX later does something else then, and may not come to an end.
      const [first] = found;
      if (instructions.some((one) => one.at > first.at && one.repeated && !one.address32)) {
        return { everything: true };
      }
      const changed: [string, number][] = [['rcx', RCX]];
      if (found.some((one) => COPIES_STRINGS.test(one.mnemonic))) changed.push(['rsi', RSI]);
      if (found.some((one) => WRITES_STRINGS.test(one.mnemonic))) changed.push(['rdi', RDI]);
      const cut = changed.filter(([, i]) => native.gpr(i) === low(other.gpr(i)));
      return { parts: cut.map(([name]) => name) };
    },
  },
  {
    name: 'alignment of 16 bytes',
    reason:
      '#AC of a 16-byte access that may be unaligned is up to the processor (SDM vol. 3, 6.15, interrupt 17)',
    ignore: (context) => {
      const { native, other } = context;
      const at = instructionAt(context, other.rip);
      const same = native.vector === ALIGNMENT_CHECK && native.rip === other.rip;
      return other.vector === ALIGNMENT_CHECK && !same && at?.memory && UNALIGNED.test(at.mnemonic)
        ? { everything: true }
        : undefined;
    },
  },
  {
    name: 'TOP after faults of MMX stores',
    reason:
      'Ice Lake keeps TOP = 0 when the store of an MMX register faults, and nothing else of the instruction; no manual has that (seen; SDM vol. 3, 6.5 says that a fault leaves no trace)',
    ignore: topOfMmxStore,
  },
  {
    name: 'PAUSE with REX.B',
    reason:
      'F3 41 90 is PAUSE, whose REX prefix means nothing (SDM vol. 2, PAUSE; XED agrees); for AMD it is an XCHG with R8',
    ignore: ({ made, instructions }) => {
      const extended = instructions.some(
        (one) => one.code === Code.Pause && (made.code[one.at + one.length - 2] & 0xf1) === 0x41,
      );
      return extended ? { everything: true } : undefined;
    },
  },
  {
    name: 'NaNs of dot products',
    reason:
      'which of several NaNs becomes the sum, and in which lane, is up to the processor (SDM vol. 2, DPPS, DPPD)',
    ignore: otherNaNs,
  },
];
