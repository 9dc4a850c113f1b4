/**
 * Where QEMU's translator (7.2) does something else than the manuals say: the case, what is right, and where that
 * stands (SDM: Intel 64 and IA-32 Architectures Software Developer's Manual; APM: AMD64 Architecture Programmer's
 * Manual). The recorded reports of these cases are the emulator's, read against the manual.
 */
export interface Difference {
  /** Cases, by name; a name that ends with * stands for all that begin so. */
  cases: readonly string[];
  right: string;
  manual: string;
}

export const DIFFERENCES: Readonly<Record<string, readonly Difference[]>> = {
  protected: [
    {
      cases: ['undefined: lock mov'],
      right: 'LOCK before an instruction that cannot have it is #UD',
      manual: 'SDM vol. 2, LOCK',
    },
    {
      cases: ['undefined: group 11 of c7'],
      right: 'C7 /1 is not defined',
      manual: 'SDM vol. 2, table A-6',
    },
    {
      cases: ['int to a gate beyond the code limit'],
      right: 'a gate whose offset is beyond the code segment is #GP(EXT)',
      manual: 'SDM vol. 2, INT n',
    },
    {
      cases: ['int1', 'int1 of ring 3: no privilege check'],
      right: 'INT1 raises #DB with the address after it, whatever the DPL of the gate',
      manual: 'SDM vol. 2, INT1',
    },
    {
      cases: ['inner stack: not present'],
      right: 'the inner stack is not present: #SS',
      manual: 'SDM vol. 2, INT n',
    },
    {
      cases: ['inner stack: tss too small'],
      right: 'the last byte of SS in the TSS must be inside its limit, not the field behind it',
      manual: 'SDM vol. 2, INT n',
    },
    {
      cases: [
        "an exception's gate is not present: EXT",
        "an exception's code is not present: EXT",
        'double fault: #NP while #UD is delivered is not one',
      ],
      right: 'EXT is set in the error code of a fault while an exception is delivered',
      manual: 'SDM vol. 3, 6.13',
    },
    {
      cases: ['mmx under EM and TS'],
      right: 'under CR0.EM an MMX instruction is #UD, whatever TS says',
      manual: 'SDM vol. 3, table 12-1',
    },
    {
      cases: ['emms under EM'],
      right: 'EMMS is an MMX instruction here, too',
      manual: 'SDM vol. 2, EMMS',
    },
    {
      cases: ['simd exception without OSXMMEXCPT'],
      right: 'an unmasked SIMD exception without CR4.OSXMMEXCPT is #UD',
      manual: 'SDM vol. 3, 2.5',
    },
    {
      cases: ['ldmxcsr: reserved bits'],
      right: 'reserved bits of MXCSR are #GP',
      manual: 'SDM vol. 1, 10.2.3',
    },
    {
      cases: ['x87 exception: NE'],
      right: 'the next waiting x87 instruction raises #MF, not only WAIT',
      manual: 'SDM vol. 1, 8.7',
    },
    {
      cases: ['xgetbv: index 2', 'xsetbv', 'xsetbv at ring 3'],
      right: 'XGETBV and XSETBV check index, value and privilege',
      manual: 'SDM vol. 2, XGETBV and XSETBV',
    },
    {
      cases: ['cr0: PG without PE', 'cr0: NW without CD', 'cr4: reserved bits'],
      right: '#GP',
      manual: 'SDM vol. 2, MOV to control registers',
    },
    {
      cases: ['cr0 keeps ET and drops the reserved bits'],
      right: 'reserved bits of CR0 stay clear',
      manual: 'SDM vol. 3, 2.5',
    },
    {
      cases: ['wrmsr: EFER reserved bits', 'wrmsr: PAT with a wrong type'],
      right: '#GP',
      manual: 'SDM vol. 3, 2.2.1 and 11.12.2',
    },
    {
      cases: ['accessed bits are set', 'ring 3 asks of ring 0'],
      right: 'the accessed bit of a code segment is set when CS is loaded',
      manual: 'SDM vol. 3, 3.4.5.1',
    },
    { cases: ['ltr: null'], right: '#GP(0)', manual: 'SDM vol. 2, LTR' },
    {
      cases: ['null: read', 'null: write'],
      right: 'an access through a null selector is #GP',
      manual: 'SDM vol. 3, 5.4.1',
    },
    {
      cases: [
        'limit: *',
        'expand-down: *',
        'code limit: *',
        'stack limit: *',
        'execute-only code cannot be read',
      ],
      right: 'limits and types are checked by each access',
      manual: 'SDM vol. 3, 5.3 and 5.5',
    },
    {
      cases: ['far return to an outer ring: stack not present', 'iret: to an outer ring, stack not present'],
      right: '#SS(selector)',
      manual: 'SDM vol. 2, RET and IRET',
    },
    {
      cases: ['far return: beyond the limit'],
      right: '#GP(0)',
      manual: 'SDM vol. 2, RET',
    },
    {
      cases: ['task: called twice goes on after its iret', 'task: 16-bit segment'],
      right: 'the arithmetic flags come from the TSS too',
      manual: 'SDM vol. 3, 7.3',
    },
    {
      cases: ['task: the debug trap bit'],
      right: 'the T bit of the new TSS is #DB before its first instruction, with DR6.BT',
      manual: 'SDM vol. 3, 17.3.1.5',
    },
    {
      cases: [
        'v86: offset beyond 64 KiB',
        'v86: word at 0xffff',
        'v86: dword at 0xfffd',
        'real: word at 0xffff',
        'real: offset beyond 64 KiB',
        'real: stack at 0xffff',
      ],
      right: 'the limit of 0xffff holds for each byte of an operand',
      manual: 'SDM vol. 3, 20.1.1 and 20.2.7',
    },
    {
      cases: ['paging: fault in pushad'],
      right: 'registers are pushed in order, so EBX is the first that faults',
      manual: 'SDM vol. 2, PUSHA',
    },
    {
      cases: ['paging: fault in the parameters of a call gate'],
      right: 'parameters are read with the rights of the caller',
      manual: 'SDM vol. 3, 4.6 and 5.8.5',
    },
    {
      cases: ['task: bad ldt in the new task'],
      right: 'a selector that is not of an LDT is #TS',
      manual: 'SDM vol. 3, table 7-1',
    },
  ],
  long: [
    {
      cases: ['undefined: lock'],
      right: 'LOCK before an instruction that cannot have it is #UD',
      manual: 'SDM vol. 2, LOCK',
    },
    {
      cases: ['rex prefixes that do not stand last are ignored'],
      right: 'a REX prefix that is not the last prefix is ignored',
      manual: 'SDM vol. 2, 2.2.1',
    },
    {
      cases: ['non-canonical through rbp: #SS'],
      right: 'RBP as base means the stack segment',
      manual: 'SDM vol. 3, 6.15, interrupt 12',
    },
    {
      cases: ['non-canonical: straddles the hole', 'non-canonical push'],
      right: 'each byte of an operand must be canonical',
      manual: 'SDM vol. 1, 3.3.7.1',
    },
    {
      cases: ['non-canonical call target', 'non-canonical jump target', 'non-canonical return'],
      right: 'the branch itself faults',
      manual: 'SDM vol. 2, CALL, JMP, RET',
    },
    {
      cases: ['non-canonical iret', 'non-canonical iret to ring 3', 'sysret: non-canonical'],
      right: 'the return itself faults, with error code 0 (SYSRET: as on Intel processors)',
      manual: 'SDM vol. 2, IRET and SYSRET',
    },
    {
      cases: ['interrupt through an IST'],
      right: 'SS becomes null only when the privilege level changes',
      manual: 'SDM vol. 2, INT n (intra-privilege-level interrupt)',
    },
    {
      cases: ['interrupt gate: not present, wrong type, DPL, beyond the table'],
      right: 'the error code has the vector from bit 3 on',
      manual: 'SDM vol. 3, 6.13',
    },
    {
      cases: ['iretq: bad selectors', 'far jump: L and D'],
      right: 'code with L and D set is #GP(selector)',
      manual: 'SDM vol. 2, IRET and JMP',
    },
    {
      cases: ['ltr and lldt: 16-byte descriptors', 'lldt: upper half has a type'],
      right: 'the upper half of a system descriptor is checked',
      manual: 'SDM vol. 3, 3.5.2 and 7.2.3',
    },
    {
      cases: ['mov to ss: null with RPL 3 at ring 0'],
      right: 'a null SS must have RPL = CPL',
      manual: 'SDM vol. 2, MOV',
    },
    {
      cases: ['fs base: 64 bits, and wrapped', 'rdfsbase, wrgsbase', 'wrmsr: non-canonical addresses'],
      right: 'bases and entry points must be canonical',
      manual: 'SDM vol. 2, WRMSR and WRFSBASE',
    },
    {
      cases: ['cr8', 'control registers: upper halves', 'EFER: LME cannot change while paging'],
      right: '#GP',
      manual: 'SDM vol. 2, MOV to control registers; vol. 3, 9.8.5',
    },
    {
      cases: ['syscall and sysret'],
      right: 'SYSCALL clears the flags of SFMASK and RF only',
      manual: 'SDM vol. 2, SYSCALL',
    },
    {
      cases: ['sysret: flags'],
      right: 'SYSRET loads VIF and VIP too',
      manual: 'SDM vol. 2, SYSRET',
    },
    {
      cases: ['breakpoint: execution', 'RF in the image of a fault'],
      right: 'faults push RFLAGS with RF set',
      manual: 'SDM vol. 3, 17.3.1.1',
    },
    {
      cases: ['breakpoint: write of a byte, touched by a dword'],
      right: 'an access that begins behind the watched byte does not touch it',
      manual: 'SDM vol. 3, 17.2.5',
    },
    { cases: ['general detect'], right: '#DB before MOV of a debug register', manual: 'SDM vol. 3, 17.2.4' },
    { cases: ['alignment check'], right: '#AC', manual: 'SDM vol. 3, 6.15, interrupt 17' },
    {
      cases: ['fxrstor: mxcsr', 'xsave and xrstor'],
      right: 'reserved bits of MXCSR and of the header are #GP',
      manual: 'SDM vol. 2, FXRSTOR and XRSTOR',
    },
    {
      cases: [
        'page fault: NX is reserved *',
        'page fault: reserved *',
        '2-MiB page: reserved bits',
        '1-GiB page: reserved bits',
      ],
      right: 'RSVD comes together with P',
      manual: 'SDM vol. 3, 4.7',
    },
    {
      cases: ['straddling: read-modify-write', 'straddling: xchg', 'straddling: lock cmpxchg8b'],
      right: 'the whole of a read-modify-write is an access for writing',
      manual: 'SDM vol. 3, 4.7; APM vol. 2, 8.2.15',
    },
  ],
};

/** The entry about a case, if QEMU is known to differ there. */
export function differenceOf(guest: string, name: string): Difference | undefined {
  const matches = (pattern: string): boolean =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
  return DIFFERENCES[guest].find(({ cases }) => cases.some(matches));
}
