import { expect, it } from 'vitest';
import { assemble } from '../../assets/guests/assembler/assembler.ts';
import { Cr, EventType, Exit, Gpr, Intr, Prot, Seg, State, VcpuConf } from '../../main/nvmm/constants.ts';
import type { Backend, Machine, Nvmm, Vcpu } from '../../main/nvmm/nvmm.ts';
import { Host, PAGE } from './rig.ts';
import { onEachBackend } from './suite.ts';

// What toyvirt and its small kernel do (DragonFly's demo of NVMM): a vCPU with a high number starts in 32-bit code,
// goes to 64-bit mode, looks at what it is shown, and then takes traps that its VMM injects until it dies of one.

const NUMBER = 120;
const CONSOLE = 123;
const ENTRY = 0x8000;
const APIC = 0xfee0_0000;
const APIC_BASE_MSR = 0x1b;
const PAGES = 16;
const RFLAGS_IF = 0x200;

/** Traps never return: each handler says its letter, opens interrupts and spins, on a stack that grows. */
const KERNEL = `
bits 32
org ${ENTRY}
  mov al, 'B'
  out ${CONSOLE}, al
  mov dword [0x1000], 0x2003
  mov dword [0x2000], 0x3003
  mov dword [0x2018], 0x4003
  mov dword [0x3000], 0x83
  mov dword [0x4fb8], ${APIC} + 0x83
  mov eax, 0x620
  mov cr4, eax
  mov eax, 0x1000
  mov cr3, eax
  mov ecx, 0xc0000080
  mov eax, 0x100
  xor edx, edx
  wrmsr
  mov eax, 0x80010033
  mov cr0, eax
  lgdt [gdtr]
  db 0xea
  dd long
  dw 8
bits 64
long:
  mov esp, 0x7000
  mov al, 'P'
  out ${CONSOLE}, al
  mov ecx, ${APIC_BASE_MSR}
  rdmsr
  cmp eax, ${APIC} + 0x900
  jne failed
  mov al, 'A'
  out ${CONSOLE}, al
  mov eax, 1
  cpuid
  shr ebx, 24
  cmp ebx, ${NUMBER}
  jne failed
  mov al, 'I'
  out ${CONSOLE}, al
  mov edi, ${APIC}
  mov eax, [rdi + 0x20]
  shr eax, 24
  cmp eax, ${NUMBER}
  jne failed
  mov al, 'L'
  out ${CONSOLE}, al
  lidt [idtr]
  xor eax, eax
  mov cr8, rax
  xor r8d, r8d
  ud2
failed:
  mov al, 'x'
  out ${CONSOLE}, al
  hlt

undefined:
  mov al, 'U'
  jmp trap
protection:
  add rsp, 8
  mov al, 'G'
  jmp trap
nmi:
  mov al, 'N'
  jmp trap
interrupt:
  mov eax, 15
  mov cr8, rax
  mov al, 'T'
trap:
  inc r8d
  cmp r8d, 11
  jne spin
  lidt [nothing]
spin:
  out ${CONSOLE}, al
  sti
again:
  jmp again

align 8
gdt: dq 0, 0x00af9b000000ffff
gdtr: dw 15
  dd gdt
idtr: dw 0xfff
  dq 0x5000
nothing: dw 0
  dq 0
vectors: dq undefined, protection, nmi, interrupt
`;

class Toy {
  readonly nvmm: Nvmm;
  readonly machine: Machine;
  readonly vcpu: Vcpu;
  said = '';

  constructor(backend: Backend) {
    const { nvmm, ram, bytes } = new Host(backend);
    this.nvmm = nvmm;
    this.machine = nvmm.machineCreate();
    this.vcpu = nvmm.vcpuCreate(this.machine, NUMBER);
    nvmm.hvaMap(this.machine, ram, PAGES * PAGE);
    nvmm.gpaMap(this.machine, ram, 0, PAGES * PAGE, Prot.READ | Prot.WRITE | Prot.EXEC);
    const kernel = assemble(KERNEL).bytes;
    bytes.set(kernel, ram + ENTRY);
    // The IDT at 0x5000, for the four handlers whose addresses end the kernel.
    const view = new DataView(bytes.buffer, ram, PAGES * PAGE);
    [6, 13, 2, 200].forEach((vector, i) => {
      const handler = view.getUint32(ENTRY + kernel.length - 32 + 8 * i, true);
      view.setUint32(0x5000 + 16 * vector, (8 << 16) | (handler & 0xffff), true);
      view.setUint32(0x5000 + 16 * vector + 4, (handler & 0xffff0000) | 0x8e00, true);
    });
    nvmm.vcpuConfigure(this.machine, this.vcpu, VcpuConf.CALLBACKS, {
      io: ({ port, in: input, data }) => {
        expect([port, input]).toEqual([CONSOLE, false]);
        this.said += String.fromCharCode(data.getUint8(0));
      },
      mem: ({ gpa, write, size, data }) => {
        expect([gpa, write, size]).toEqual([APIC + 0x20, false, 4]);
        data.setUint32(0, (NUMBER << 24) >>> 0, true);
      },
    });
    const { state } = this.vcpu;
    nvmm.getState(this.machine, this.vcpu, State.ALL);
    for (let seg = 0; seg < 6; seg++) state.setSegment(seg, 0, 0xc93, 0xffff_ffff, 0n);
    state.setSegment(Seg.CS, 0, 0xc9b, 0xffff_ffff, 0n);
    state.setCr(Cr.CR0, 0x6000_0011n);
    state.rip = BigInt(ENTRY);
    nvmm.setState(this.machine, this.vcpu, State.ALL);
  }

  /** Runs until the kernel has said so many letters and spins with interrupts on, or to another end. */
  until(letters: number): number {
    const { nvmm, machine, vcpu } = this;
    for (let runs = 0; runs < 10_000; runs++) {
      nvmm.run(machine, vcpu);
      const { reason } = vcpu.exit;
      if (reason === Exit.IO) nvmm.assistIo(machine, vcpu);
      else if (reason === Exit.MEMORY) nvmm.assistMem(machine, vcpu);
      else if (reason === Exit.RDMSR) this.apicBase();
      else if (reason !== Exit.NONE && reason !== Exit.TPR_CHANGED) return reason;
      const spins = (vcpu.exit.rflagsLow & RFLAGS_IF) !== 0;
      if (reason === Exit.NONE && spins && this.said.length >= letters) break;
    }
    return Exit.NONE;
  }

  private apicBase(): void {
    const { nvmm, machine, vcpu } = this;
    expect(vcpu.exit.msr).toBe(APIC_BASE_MSR);
    nvmm.getState(machine, vcpu, State.GPRS);
    vcpu.state.setGpr(Gpr.RAX, BigInt(APIC + 0x900));
    vcpu.state.setGpr(Gpr.RDX, 0n);
    vcpu.state.rip = vcpu.exit.rdmsrNpc;
    nvmm.setState(machine, vcpu, State.GPRS);
  }

  inject(type: number, vector: number): void {
    this.vcpu.event.set(type, vector);
    this.nvmm.inject(this.machine, this.vcpu);
  }
}

onEachBackend('a small kernel', (backend) => {
  it('starts, looks around, takes ten traps, and dies of the next', () => {
    const toy = new Toy(backend);
    const { exit } = toy.vcpu;
    let expected = 'BPAILU';
    expect(toy.until(expected.length)).toBe(Exit.NONE);
    expect(toy.said).toBe(expected);
    expect(exit.cr8).toBe(0);
    const traps = [
      { letter: 'G', type: EventType.EXCP, vector: 13 },
      { letter: 'N', type: EventType.INTR, vector: 2 },
      { letter: 'T', type: EventType.INTR, vector: 200 },
      ...Array.from({ length: 7 }, () => ({ letter: 'G', type: EventType.EXCP, vector: 13 })),
    ];
    for (const { letter, type, vector } of traps) {
      expected += letter;
      toy.inject(type, vector);
      expect(toy.until(expected.length)).toBe(Exit.NONE);
      expect(toy.said).toBe(expected);
    }
    // No handler has returned: NMIs stay blocked, and the interrupt's has raised the priority.
    expect(exit.intr & Intr.NMI_WINDOW_EXITING).toBe(Intr.NMI_WINDOW_EXITING);
    expect(exit.cr8).toBe(15);
    toy.inject(EventType.EXCP, 13);
    expect(toy.until(Infinity)).toBe(Exit.SHUTDOWN);
    toy.nvmm.close();
  });
});
