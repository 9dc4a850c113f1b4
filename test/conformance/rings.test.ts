import { expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { Exit, Gpr, Msr, Prot, Seg, State } from '../../main/nvmm/constants.ts';
import type { Backend } from '../../main/nvmm/nvmm.ts';
import { PAGE, Rig } from './rig.ts';
import { onEachBackend } from './suite.ts';

// Between ring 3 and ring 0. The rig's data page is the kernel's: tables, handlers, SYSCALL's entry, stack.

const IDT = 0x1000;
const GDT = 0x1400;
const TSS = 0x1500;
const FAULTED = 0x1600;
const ENTRY = 0x1700;
const STACK = 0x2000;
/** Selectors: kernel code and data, user data and code. */
const KERNEL = 8;
const USER_DATA = 0x1b;
const USER_CODE = 0x23;
const PF = 14;
const IF = 0x200n;
const DF = 0x400n;

function code(text: string, at: number): Uint8Array {
  return assemble(`bits 64\n org ${at}\n${text}\n`).bytes;
}

/** A rig in ring 3 in front of a program; `entry` is what SYSCALL leads to. */
function inRing3(backend: Backend, program: string, entry: string): Rig {
  const rig = new Rig(backend, true);
  rig.load(Buffer.from(code(program, 0x2000)).toString('hex'));
  const { bytes, ram } = rig.host;
  rig.nvmm.gpaUnmap(rig.machine, ram, 0x1000, PAGE);
  rig.nvmm.gpaMap(rig.machine, ram, 0x1000, PAGE, Prot.READ | Prot.WRITE | Prot.EXEC);
  // The page table's second entry: the data page without ring 3.
  new DataView(bytes.buffer, ram + 5 * PAGE).setUint32(8, 0x1003, true);
  rig.fill(0, '');
  const view = new DataView(rig.data.buffer, rig.data.byteOffset, PAGE);
  const put = (at: number, low: number, high: number): void => {
    view.setUint32(at - 0x1000, low, true);
    view.setUint32(at + 4 - 0x1000, high, true);
  };
  put(IDT + 16 * PF, (KERNEL << 16) | FAULTED, 0x8e00);
  put(GDT + 8, 0xffff, 0x00af9b00);
  put(GDT + 16, 0xffff, 0x00cf9300);
  put(GDT + 24, 0xffff, 0x00cff300);
  put(GDT + 32, 0xffff, 0x00affb00);
  put(TSS + 4, STACK, 0);
  // What the fault was: the error code. Then HLT.
  rig.data.set(code('pop rbx\n pop rdi\n hlt', FAULTED), FAULTED - 0x1000);
  rig.data.set(code(entry, ENTRY), ENTRY - 0x1000);
  rig.nvmm.hvaWritten(ram, PAGE);
  const state = rig.get(State.ALL);
  state.setSegment(Seg.CS, USER_CODE, 0xafb, 0xffff_ffff, 0n);
  for (const seg of [Seg.SS, Seg.DS, Seg.ES]) state.setSegment(seg, USER_DATA, 0xcf3, 0xffff_ffff, 0n);
  state.setSegment(Seg.GDT, 0, 0, 0x3f, BigInt(GDT));
  state.setSegment(Seg.IDT, 0, 0, 0x1ff, BigInt(IDT));
  state.setSegment(Seg.TR, 0x28, 0x8b, 0x67, BigInt(TSS));
  state.rflags = 2n | IF | DF;
  state.setGpr(Gpr.RSP, 0x2ff0n);
  state.setMsr(Msr.STAR, (BigInt(USER_DATA - 8) << 48n) | (BigInt(KERNEL) << 32n));
  state.setMsr(Msr.LSTAR, BigInt(ENTRY));
  state.setMsr(Msr.SFMASK, IF | DF);
  rig.set(State.ALL);
  return rig;
}

onEachBackend('between rings', (backend) => {
  it('SYSCALL enters ring 0 with what the manual says', () => {
    const rig = inRing3(backend, 'nop\n syscall\n hlt', 'hlt');
    expect(rig.exit()).toBe(Exit.HALTED);
    const state = rig.get(State.ALL);
    expect(state.rip).toBe(BigInt(ENTRY + 1));
    expect(state.gpr(Gpr.RCX)).toBe(0x2003n);
    expect(state.gpr(Gpr.R11)).toBe(2n | IF | DF);
    expect(state.rflags).toBe(2n);
    expect(state.gpr(Gpr.RSP)).toBe(0x2ff0n);
    expect([state.selector(Seg.CS), state.selector(Seg.SS), state.cpl]).toEqual([KERNEL, KERNEL + 8, 0]);
    rig.close();
  });

  it('a hundred system calls, each back to ring 3 by IRET', () => {
    const program = 'mov ebx, 100\nagain: syscall\n dec ebx\n jnz again\n mov eax, [0x1000]\n';
    const entry = `inc r8
      mov r9, rsp
      mov rsp, ${STACK}
      push ${USER_DATA}
      push r9
      push r11
      push ${USER_CODE}
      push rcx
      iretq`;
    const rig = inRing3(backend, program, entry);
    expect(rig.exit()).toBe(Exit.HALTED);
    // The end is a page fault of ring 3: what is there is the kernel's, and it is a read of a page that is present.
    const state = rig.get(State.ALL);
    expect(state.gpr(Gpr.R8)).toBe(100n);
    expect(state.gpr(Gpr.RBX)).toBe(5n);
    expect(state.cr(1)).toBe(0x1000n);
    rig.close();
  });

  it('a jump of ring 3 to the entry of SYSCALL is a page fault', () => {
    const rig = inRing3(backend, `mov rcx, 0x2003\n mov r11, 0x202\n mov eax, ${ENTRY}\n jmp rax`, 'hlt');
    expect(rig.exit()).toBe(Exit.HALTED);
    const state = rig.get(State.ALL);
    expect(state.gpr(Gpr.RDI)).toBe(BigInt(ENTRY));
    expect(state.gpr(Gpr.RBX) & 5n).toBe(5n);
    rig.close();
  });
});
