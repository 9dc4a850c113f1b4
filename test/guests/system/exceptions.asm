; ---- Exceptions, their error codes, saved EIP and flags ----------------------------------------------------

CASE "nothing happens"
        END
CASE "ud2"
        ud2
        END
CASE "undefined: 0f ff"
        db 0x0f, 0xff
        END
CASE "undefined: lock nop"
        db 0xf0, 0x90
        END
CASE "undefined: lock mov"
        mov eax, FREE
        db 0xf0, 0x89, 0x00
        END
CASE "undefined: lock add to a register"
        db 0xf0, 0x01, 0xc0
        END
CASE "undefined: lock cmp"
        db 0xf0, 0x39, 0x00
        END
CASE "undefined: mov to cs"
        db 0x8e, 0xc8
        END
CASE "undefined: mov to segment 6"
        db 0x8e, 0xf0
        END
CASE "undefined: lea of a register"
        db 0x8d, 0xc0
        END
CASE "undefined: lds of a register"
        db 0xc5, 0xc0
        END
CASE "undefined: cmpxchg8b of a register"
        db 0x0f, 0xc7, 0xc8
        END
CASE "undefined: group 11 of c7"
        db 0xc7, 0xc8, 1, 2, 3, 4
        END
CASE "undefined: fe /2"
        db 0xfe, 0xd0
        END
CASE "undefined: ff /7"
        db 0xff, 0xf8
        END
CASE "undefined: far jump of a register"
        db 0xff, 0xe8
        END
CASE "undefined: mov from cr1"
        db 0x0f, 0x20, 0xc8
        END
CASE "undefined: bound of a register"
        db 0x62, 0xc0
        END
CASE "undefined: movbe"
        db 0x0f, 0x38, 0xf0, 0x05, 0, 0, 0x30, 0
        END
CASE "undefined: rsm"
        rsm
        END
CASE "undefined: invlpg of a register at ring 3"
        RING3
        db 0x0f, 0x01, 0xf8
        END
CASE "divide by zero"
        xor ecx, ecx
        xor edx, edx
        div ecx
        END
CASE "divide: quotient too large"
        mov ecx, 1
        mov edx, 1
        div ecx
        END
CASE "idiv: smallest by minus one"
        mov eax, 0x80000000
        cdq
        mov ecx, -1
        idiv ecx
        END
CASE "divide 8 bits"
        mov ax, 0x200
        mov cl, 1
        div cl
        END
CASE "idiv 16 bits: smallest that fits"
        mov dx, 0xffff
        mov ax, 0x8000
        mov cx, 1
        idiv cx
        mov eax, eax
        END
CASE "aam 0"
        db 0xd4, 0
        END
CASE "int3"
        FOLLOW
        int3
        nop
        END
CASE "int 3 in two bytes"
        FOLLOW
        db 0xcd, 3
        nop
        END
CASE "into, set and clear"
        FOLLOW
        into
        mov al, 0x7f
        add al, 1
        into
        nop
        END
CASE "bound: inside"
        mov dword [FREE], 5
        mov dword [FREE + 4], 10
        mov eax, 10
        bound eax, [FREE]
        END
CASE "bound: outside"
        mov dword [FREE], 5
        mov dword [FREE + 4], 10
        mov eax, 11
        bound eax, [FREE]
        END
CASE "bound: signed, 16 bits"
        mov dword [FREE], 0x0005fff0
        mov eax, 0xfff1
        bound ax, [FREE]
        mov eax, 0xffef
        bound ax, [FREE]
        END
CASE "int beyond the table"
        int 0x80
        END
CASE "int to an empty gate"
        mov dword [idt + 8 * 0x31 + 4], 0
        int 0x31
        END
CASE "int to a gate that is not present"
        mov byte [idt + 8 * 0x31 + 5], 0x0e
        int 0x31
        END
CASE "int to a gate with a null selector"
        SETGATE 0x31, 0, stubs, 0x8e
        int 0x31
        END
CASE "int to a gate with a data selector"
        SETGATE 0x31, DATA0, stubs, 0x8e
        int 0x31
        END
CASE "int to a gate beyond the gdt"
        SETGATE 0x31, 0x300, stubs, 0x8e
        int 0x31
        END
CASE "int to code that is not present"
        SETDESC SPARE, 0x0000ffff, 0x00cf1a00
        SETGATE 0x31, SPARE, stubs, 0x8e
        int 0x31
        END
CASE "int to code of an outer ring"
        SETGATE 0x31, CODE3, stubs, 0x8e
        int 0x31
        END
CASE "int to a call gate"
        mov byte [idt + 8 * 0x31 + 5], 0x8c
        int 0x31
        END
CASE "int to a gate beyond the code limit"
        SETDESC SPARE, 0x00001000, 0x00409a00
        SETGATE 0x31, SPARE, .beyond, 0x8e
        int 0x31
.beyond: END
CASE "int of ring 3 to a gate of ring 0"
        RING3
        int 0x31
        END
CASE "int of ring 3 to a gate of ring 3"
        mov byte [idt + 8 * 0x31 + 5], 0xee
        RING3
        int 0x31
        END
CASE "int3 of ring 3 to a gate of ring 0"
        mov byte [idt + 8 * 3 + 5], 0x8e
        RING3
        int3
        END
CASE "into of ring 3 to a gate of ring 0"
        mov byte [idt + 8 * 4 + 5], 0x8e
        RING3
        mov al, 0x7f
        inc al
        into
        END
CASE "int1"
        db 0xf1
        END
CASE "int1 of ring 3: no privilege check"
        RING3
        db 0xf1
        END
CASE "trap gate keeps IF"
        SETGATE 0x31, CODE0, .trap, 0x8f
        sti
        int 0x31
        hlt
.trap:  pushfd
        pop eax
        END
CASE "interrupt gate clears IF, TF, NT"
        SETGATE 0x31, CODE0, .handler, 0x8e
        push dword 0x4202
        popfd
        int 0x31
        hlt
.handler: pushfd
        pop eax
        mov ecx, [esp + 8]
        END
CASE "16-bit interrupt gate"
        SETDESC SPARE, 0x8000ffff, 0x00009a00
        SETGATE 0x31, SPARE, LOW + (small_handler - LOW), 0x86
        sub word [idt + 8 * 0x31], 0x8000
        mov ebx, esp
        int 0x31
        END
CASE "16-bit interrupt gate from ring 3"
        SETDESC SPARE, 0x8000ffff, 0x00009a00
        SETGATE 0x31, SPARE, LOW + (small_handler - LOW), 0xe6
        sub word [idt + 8 * 0x31], 0x8000
        RING3
        mov ebx, esp
        int 0x31
        END
        section .low
        bits 16
small_handler:
        mov eax, [esp]
        mov ecx, [esp + 4]
        mov edx, [esp + 8]
        int 0x30
        bits 32
        section .text
CASE "interrupt to conforming code stays in ring 3"
        SETDESC SPARE, 0x0000ffff, 0x00cf9e00
        SETGATE 0x31, SPARE, .handler, 0xee
        RING3
        int 0x31
        hlt
.handler: mov ax, cs
        mov ecx, [esp]
        mov edx, [esp + 4]
        END
CASE "interrupt to ring 1"
        SETGATE 0x31, CODE1, .handler, 0xee
        RING3
        int 0x31
        hlt
.handler: mov ax, cs
        mov cx, ss
        mov edx, [esp + 16]
        mov ebx, [esp + 12]
        END
CASE "inner stack: null selector in the tss"
        mov dword [tss_main + 16], 0
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "inner stack: wrong privilege in the tss"
        mov dword [tss_main + 16], DATA0
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "inner stack: not present"
        SETDESC SPARE, 0x0000ffff, 0x00cf3200
        mov dword [tss_main + 16], SPARE + 1
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "inner stack: not writable"
        SETDESC SPARE, 0x0000ffff, 0x00cfb000
        mov dword [tss_main + 16], SPARE + 1
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "inner stack: beyond the gdt"
        mov dword [tss_main + 16], 0x301
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "inner stack: tss too small"
        mov byte [gdt + TSS0], 10
        mov byte [gdt + TSS0 + 1], 0
        mov byte [gdt + TSS0 + 5], 0x89
        mov ax, TSS0
        ltr ax
        SETGATE 0x31, CODE1, 0x100, 0xee
        RING3
        int 0x31
        END
CASE "an exception's inner stack fails: EXT"
        mov dword [tss_main + 16], 0
        SETGATE 6, CODE1, 0x100, 0x8e
        RING3
        ud2
        END
CASE "an exception's gate is not present: EXT"
        mov byte [idt + 8 * 6 + 5], 0x0e
        ud2
        END
CASE "an exception's gate is beyond the table: EXT"
        lidt [.short]
        ud2
        align 8
.short: dw 14 * 8 + 7
        dd idt
        END
CASE "an exception's code is not present: EXT"
        SETDESC SPARE, 0x0000ffff, 0x00cf1a00
        SETGATE 6, SPARE, stubs, 0x8e
        ud2
        END
CASE "device not available: em"
        mov eax, 0x15
        mov cr0, eax
        fld1
        END
CASE "device not available: ts"
        mov eax, 0x19
        mov cr0, eax
        fld1
        END
CASE "wait: ts without mp"
        mov eax, 0x19
        mov cr0, eax
        fwait
        END
CASE "wait: ts and mp"
        mov eax, 0x1b
        mov cr0, eax
        fwait
        END
CASE "clts ends it"
        mov eax, 0x1b
        mov cr0, eax
        clts
        fwait
        fld1
        mov eax, cr0
        fninit
        END
CASE "sse without OSFXSR"
        addps xmm0, xmm1
        END
CASE "sse under EM"
        mov eax, 0x200
        mov cr4, eax
        mov eax, 0x15
        mov cr0, eax
        addps xmm0, xmm1
        END
CASE "sse under TS"
        mov eax, 0x200
        mov cr4, eax
        mov eax, 0x19
        mov cr0, eax
        addps xmm0, xmm1
        END
CASE "mmx under TS"
        mov eax, 0x19
        mov cr0, eax
        paddb mm0, mm1
        END
CASE "mmx under EM"
        mov eax, 0x15
        mov cr0, eax
        paddb mm0, mm1
        END
CASE "mmx under EM and TS"
        mov eax, 0x1d
        mov cr0, eax
        movd mm0, eax
        END
CASE "emms under EM"
        mov eax, 0x15
        mov cr0, eax
        emms
        END
CASE "simd exception without OSXMMEXCPT"
        mov eax, 0x200
        mov cr4, eax
        mov dword [FREE], 0x1d80
        ldmxcsr [FREE]
        mov dword [FREE], 0x3f800000
        movss xmm0, [FREE]
        xorps xmm1, xmm1
        divss xmm0, xmm1
        END
CASE "ldmxcsr: reserved bits"
        mov eax, 0x200
        mov cr4, eax
        mov dword [FREE], 0x10000
        ldmxcsr [FREE]
        END
CASE "x87 exception: NE"
        mov eax, 0x31
        mov cr0, eax
        mov word [FREE], 0x37b
        fldcw [FREE]
        fld1
        fldz
        fdivp
        nop
        fld1
        END
CASE "x87 exception at wait"
        mov eax, 0x31
        mov cr0, eax
        mov word [FREE], 0x37b
        fldcw [FREE]
        fld1
        fldz
        fdivp
        fnstsw ax
        and eax, 0xff
        fwait
        END
CASE "x87 exception: none for the control instructions"
        mov eax, 0x31
        mov cr0, eax
        mov word [FREE], 0x37b
        fldcw [FREE]
        fld1
        fldz
        fdivp
        fnstcw [FREE]
        fnclex
        fld1
        fninit
        END
CASE "movaps: alignment"
        mov eax, 0x200
        mov cr4, eax
        movaps xmm0, [FREE + 8]
        END
CASE "fxsave: alignment"
        mov eax, 0x200
        mov cr4, eax
        fxsave [FREE + 8]
        END
CASE "xsave without OSXSAVE"
        xsave [FREE]
        END
CASE "xgetbv without OSXSAVE"
        xor ecx, ecx
        xgetbv
        END
CASE "xgetbv: index 2"
        mov eax, 0x40200
        mov cr4, eax
        mov ecx, 2
        xgetbv
        END
CASE "xsetbv"
        mov eax, 0x40200
        mov cr4, eax
        xor ecx, ecx
        xor edx, edx
        mov eax, 1
        xsetbv
        xgetbv
        mov ebx, eax
        mov eax, 2
        RECOVER .next
        xsetbv
.next:  mov eax, 0x80000001
        RECOVER .last
        xsetbv
.last:  mov eax, 3
        xsetbv
        END
CASE "xsetbv at ring 3"
        mov eax, 0x40200
        mov cr4, eax
        RING3
        xor ecx, ecx
        xor edx, edx
        mov eax, 3
        xsetbv
        END
CASE "hlt at ring 3"
        RING3
        hlt
        END
CASE "cli at ring 3"
        RING3
        cli
        END
CASE "sti at ring 3"
        RING3
        sti
        END
CASE "cli and sti at ring 3 with IOPL 3"
        RING3 0x3202
        cli
        pushfd
        pop eax
        sti
        END
CASE "popf at ring 3 keeps IOPL and IF"
        RING3 0x202
        push dword 0x247fd7
        popfd
        pushfd
        pop eax
        END
CASE "popf at ring 3 with IOPL 3"
        RING3 0x3202
        push dword 0x240cd7
        popfd
        pushfd
        pop eax
        END
CASE "popf at ring 0"
        push dword 0x3b7ed7
        popfd
        pushfd
        pop eax
        push dword 2
        popfd
        END
CASE "popf 16 bits keeps the upper flags"
        push dword 0x240002
        popfd
        push word 0x8d7
        popfw
        pushfd
        pop eax
        END
CASE "pushf and lahf"
        push dword 0x8d7
        popfd
        pushfw
        pop ax
        mov ebx, eax
        lahf
        END
%assign i 0
%macro PRIVILEGED 2+
CASE %1
        RING3 0x3202
        %2
        END
%endmacro
PRIVILEGED "ring 3: mov from cr0", mov eax, cr0
PRIVILEGED "ring 3: mov to cr3", mov cr3, eax
PRIVILEGED "ring 3: mov from dr7", mov eax, dr7
PRIVILEGED "ring 3: mov to dr0", mov dr0, eax
PRIVILEGED "ring 3: lgdt", lgdt [gdt_pointer]
PRIVILEGED "ring 3: lidt", lidt [idt_pointer]
PRIVILEGED "ring 3: lldt", lldt ax
PRIVILEGED "ring 3: ltr", ltr ax
PRIVILEGED "ring 3: lmsw", lmsw ax
PRIVILEGED "ring 3: clts", clts
PRIVILEGED "ring 3: invlpg", invlpg [FREE]
PRIVILEGED "ring 3: invd", invd
PRIVILEGED "ring 3: wbinvd", wbinvd
PRIVILEGED "ring 3: rdmsr", rdmsr
PRIVILEGED "ring 3: wrmsr", wrmsr
PRIVILEGED "ring 3: sysexit", sysexit
PRIVILEGED "ring 3: rdpmc", rdpmc
CASE "rdtsc under TSD at ring 3"
        mov eax, 4
        mov cr4, eax
        RING3
        rdtsc
        END
CASE "ring 3: smsw, sgdt, sidt, sldt, str are allowed"
        RING3
        smsw ax
        sldt cx
        str dx
        sgdt [FREE]
        mov ebx, [FREE + 2]
        sidt [FREE]
        mov esi, [FREE + 2]
        movzx edi, word [FREE]
        END
CASE "lgdt: 16-bit operand takes 24 bits of base"
        mov word [FREE], 0x1ff
        mov dword [FREE + 2], 0xff280000
        o16 lgdt [FREE]
        mov dword [FREE + 2], 0
        sgdt [FREE]
        mov eax, [FREE + 2]
        o16 sgdt [FREE + 16]
        mov ecx, [FREE + 18]
        END
CASE "smsw to a 32-bit register and to memory"
        mov dword [FREE], -1
        smsw eax
        smsw [FREE]
        mov ecx, [FREE]
        END
CASE "sldt and str to a 32-bit register and to memory"
        mov dword [FREE], -1
        mov dword [FREE + 4], -1
        sldt eax
        str ecx
        sldt [FREE]
        str [FREE + 4]
        mov edx, [FREE]
        mov ebx, [FREE + 4]
        END
CASE "lmsw cannot clear PE"
        mov ax, 0xe
        lmsw ax
        mov eax, cr0
        mov ecx, 0x11
        mov cr0, ecx
        END
CASE "cr0: PG without PE"
        mov eax, 0x80000010
        mov cr0, eax
        END
CASE "cr0: NW without CD"
        mov eax, 0x20000011
        mov cr0, eax
        END
CASE "cr4: reserved bits"
        mov eax, 0x80000000
        mov cr4, eax
        END
CASE "cr0 keeps ET and drops the reserved bits"
        mov eax, 0x0ff8ff01
        mov cr0, eax
        mov eax, cr0
        END
CASE "wrmsr: EFER reserved bits"
        mov ecx, 0xc0000080
        mov eax, 2
        xor edx, edx
        wrmsr
        END
CASE "wrmsr: PAT with a wrong type"
        mov ecx, 0x277
        mov eax, 2
        xor edx, edx
        wrmsr
        END
CASE "EFER: NXE and SCE read back"
        mov ecx, 0xc0000080
        mov eax, 0x801
        xor edx, edx
        wrmsr
        rdmsr
        END
CASE "15 bytes are allowed"
        times 14 db 0x66
        nop
        END
CASE "16 bytes are not"
        times 15 db 0x66
        nop
        END
CASE "15 bytes with an operand"
        times 10 db 0x2e
        mov eax, 0x12345678
        END
CASE "16 bytes with an operand"
        times 11 db 0x2e
        mov eax, 0x12345678
        END
CASE "cmpxchg8b"
        mov dword [FREE + 0xffc], 1
        mov dword [FREE + 0x1000], 2
        mov eax, 1
        mov edx, 2
        mov ebx, 3
        mov ecx, 4
        cmpxchg8b [FREE + 0xffc]
        mov esi, [FREE + 0xffc]
        mov edi, [FREE + 0x1000]
        cmpxchg8b [FREE + 0xffc]
        END
CASE "enter, levels 0 to 3"
        mov ebp, STACK0 - 0x100
        mov dword [ebp - 4], 0x11111111
        mov dword [ebp - 8], 0x22222222
        mov ecx, esp
        enter 0x20, 3
        sub ecx, esp
        mov eax, [ebp]
        mov edx, [ebp - 4]
        mov ebx, [ebp - 8]
        mov esi, [ebp - 12]
        mov edi, ebp
        leave
        enter 8, 0
        enter 8, 1
        END
CASE "enter and leave, 16-bit operands"
        mov ebp, 0x2eaaaa
        o16 enter 8, 1
        mov eax, ebp
        mov ecx, esp
        o16 leave
        mov edx, ebp
        END
CASE "push and pop of esp and memory"
        push esp
        pop eax
        push dword 0x12345678
        pop dword [esp - 4]
        mov ecx, [esp - 4]
        push dword [esp - 4]
        pop edx
        push dword FREE
        pop esp
        mov ebx, esp
        mov esp, STACK0
        END
CASE "pop to memory addressed by esp"
        push dword 1
        push dword 2
        pop dword [esp]
        pop eax
        END
CASE "push of segment registers"
        push dword -1
        pop eax
        push ds
        mov eax, [esp]
        add esp, 4
        push word -1
        sub esp, 2
        END
CASE "popa ignores the image of esp"
        pushad
        mov dword [esp + 12], 0x1234
        mov dword [esp], 0x5678
        popad
        END
CASE "16-bit pusha and popa"
        pushaw
        mov eax, [esp]
        mov ecx, [esp + 4]
        mov edx, [esp + 8]
        mov ebx, [esp + 12]
        popaw
        END
CASE "loop with a 16-bit counter"
        mov ecx, 0x00010002
        xor eax, eax
.again: inc eax
        a16 loop .again
        END
CASE "jcxz and jecxz"
        mov ecx, 0x00010000
        xor eax, eax
        a16 jcxz .one
        inc eax
.one:   jecxz .two
        add eax, 2
.two:   END
CASE "rep movsb with 16-bit addresses wraps at 64 KiB"
        mov dword [0xfffc], 0x44332211
        mov dword [0x0], 0
        mov esi, 0x1234fffe
        mov edi, 0x56786100
        mov ecx, 0xabcd0004
        a16 rep movsb
        mov eax, [0x6100]
        END
CASE "rep stosd backwards"
        mov edi, FREE + 16
        mov ecx, 3
        mov eax, 0x01020304
        std
        rep stosd
        cld
        mov eax, [FREE + 8]
        END
CASE "repe cmpsb and repne scasb"
        mov dword [FREE], 'abcd'
        mov dword [FREE + 16], 'abxd'
        mov esi, FREE
        mov edi, FREE + 16
        mov ecx, 10
        repe cmpsb
        mov edx, ecx
        mov edi, FREE
        mov al, 'd'
        mov ecx, 10
        repne scasb
        END
CASE "movs with a segment override"
        mov ax, DATA3
        mov fs, ax
        mov dword [FREE], 0x31415926
        mov esi, FREE
        mov edi, FREE + 8
        fs movsd
        mov eax, [FREE + 8]
        END
