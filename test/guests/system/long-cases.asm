; ---- Exceptions --------------------------------------------------------------------------------------------

CASE "nothing happens"
        END
CASE "ud2"
        ud2
        END
CASE "divide"
        xor ecx, ecx
        div rcx
        END
CASE "divide: quotient too large"
        mov ecx, 1
        mov edx, 1
        div rcx
        END
CASE "int3 and int1"
        FOLLOW
        int3
        nop
        END
CASE "the stack is aligned for an interrupt"
        mov rsp, STACK0 - 5
        mov rax, rsp
        int 0x31
        END
CASE "undefined in 64-bit mode"
        RECOVER .n1
        db 0x06                         ; push es
.n1:    RECOVER .n2
        db 0x27                         ; daa
.n2:    RECOVER .n3
        db 0x60                         ; pusha
.n3:    RECOVER .n4
        db 0x62, 0x00                   ; bound
.n4:    RECOVER .n5
        db 0x9a, 0, 0, 0, 0, 8, 0       ; far call
.n5:    RECOVER .n6
        db 0xce                         ; into
.n6:    RECOVER .n7
        db 0xd4, 10                     ; aam
.n7:    RECOVER .n8
        db 0x82, 0xc0, 1                ; the second encoding of group 1
.n8:    RECOVER .n9
        db 0xd6                         ; salc
.n9:    RECOVER .n10
        db 0xc5, 0x00, 0x00             ; lds: VEX here
.n10:   END
CASE "undefined: lock"
        RECOVER .n1
        db 0xf0, 0x90
.n1:    RECOVER .n2
        db 0xf0, 0x01, 0xc0             ; add eax, eax
.n2:    RECOVER .n3
        db 0xf0, 0x85, 0x00             ; test
.n3:    END
CASE "rex prefixes that do not stand last are ignored"
        mov rax, -1
        db 0x48, 0x66
        inc ax
        db 0x48, 0x2e, 0x89, 0xc3       ; mov ebx, eax
        END
CASE "32-bit results are zero-extended, 16- and 8-bit ones are not"
        mov eax, -1
        mov rcx, -1
        mov cx, 1
        mov rdx, -1
        mov dl, 1
        mov rbx, -1
        mov bh, 1
        mov rsi, -1
        add esi, 0
        mov rdi, -1
        xchg edi, edi
        mov r8, -1
        cmovc r8d, eax
        mov r9, -1
        nop
        END
CASE "cmpxchg and shifts by zero write 32-bit registers"
        mov rax, -1
        mov rcx, -1
        mov rdx, -1
        cmpxchg ecx, edx
        mov rbx, -1
        shl ebx, 0
        END
CASE "non-canonical read: #GP"
        mov rax, 0x800000000000
        mov rbx, [rax]
        END
CASE "non-canonical through rsp: #SS"
        mov rax, rsp
        mov rsp, 0x800000000000
        mov rbx, [rsp]
        END
CASE "non-canonical through rbp: #SS"
        mov rbp, 0x800000000000
        mov rbx, [rbp + 8]
        END
CASE "non-canonical through r13 is #SS? no: #SS needs rbp or rsp"
        mov r13, 0x800000000000
        mov rbx, [r13]
        END
CASE "non-canonical through rbp with an override"
        mov rbp, 0x800000000000
        mov rbx, [fs:rbp + 8]
        END
CASE "non-canonical: straddles the hole"
        mov rax, 0x7ffffffffffc
        mov rbx, [rax]
        END
CASE "non-canonical push"
        mov rsp, 0x800000000004
        mov byte [idt + 16 * 12 + 4], 1
        push rax
        END
CASE "non-canonical call target"
        mov rax, 0x800000000000
        call rax
        END
CASE "non-canonical jump target"
        mov rax, 0x800000000000
        jmp rax
        END
CASE "non-canonical return"
        mov rax, 0x800000000000
        push rax
        ret
        END
CASE "non-canonical iret"
        mov rax, 0x800000000000
        IRET_TO CODE0, STACK0, rax
        END
CASE "non-canonical iret to ring 3"
        mov rax, 0x800000000000
        IRET_TO CODE3, STACK3, rax
        END
CASE "non-canonical movs: source and target"
        mov rsi, 0x800000000000
        mov edi, FREE
        RECOVER .next
        movsb
.next:  mov esi, FREE
        mov rdi, 0x800000000000
        mov ecx, 3
        rep movsb
        END
CASE "lea computes non-canonical addresses"
        mov rax, 0x7fffffffffff
        lea rbx, [rax + 1]
        END
CASE "a 32-bit address size wraps"
        mov eax, 0xfffffff0
        mov dword [FREE], 0x1234
        mov ebx, [eax + FREE + 16]
        lea rcx, [eax + 0x20]
        END
CASE "a moffs of 64 bits"
        mov dword [FREE], 0x55667788
        db 0x48, 0xa1
        dq FREE
        mov rbx, rax
        db 0x67, 0xa1
        dd FREE
        END
CASE "rip-relative store with an immediate"
        mov dword [rel $ + 0x1234567], 5
        END
CASE "rip-relative, in place"
        lea rax, [rel .here]
        mov rbx, [rel .here]
.here:  END
CASE "push and pop of 16 bits, and of immediates"
        push word 0x1234
        mov rax, rsp
        pop bx
        push -1
        pop rcx
        push 0x12345678
        pop rdx
        push strict dword -5
        pop rsi
        push fs
        pop rdi
        END
CASE "enter and leave"
        mov ebp, STACK0 - 0x100
        mov qword [rbp - 8], 0x1111
        enter 32, 2
        mov rax, [rbp]
        mov rcx, [rbp - 8]
        mov rdx, [rbp - 16]
        mov rbx, rsp
        leave
        END
CASE "movsxd, cdqe, cqo"
        mov eax, 0x80000000
        movsxd rcx, eax
        cdqe
        cqo
        END
CASE "cmpxchg16b"
        mov rax, 1
        mov rdx, 2
        mov rbx, 3
        mov rcx, 4
        mov qword [FREE], 1
        mov qword [FREE + 8], 2
        lock cmpxchg16b [FREE]
        mov r8, [FREE]
        mov r9, [FREE + 8]
        lock cmpxchg16b [FREE]
        END
CASE "cmpxchg16b: alignment"
        cmpxchg16b [FREE + 8]
        END
CASE "hlt, cli, ports at ring 3"
        RING3
        RECOVER .n1
        hlt
.n1:    RECOVER .n2
        cli
.n2:    mov byte [tss_main + 0x68 + 0x10], 2
        mov dx, 0x81
        RECOVER .n3
        in al, dx
.n3:    mov dx, 0x80
        in al, dx
        END
; ---- Gates, stacks, IRET -----------------------------------------------------------------------------------
CASE "interrupt through an IST"
        SETGATE 0x31, CODE0, .handler, 0x8e, 2
        int 0x31
.handler: mov rax, rsp
        mov ecx, ss
        END
CASE "interrupt from ring 3 through an IST"
        SETGATE 0x31, CODE0, .handler, 0xee, 2
        RING3
        int 0x31
.handler: mov rax, rsp
        mov rbx, [rsp + 24]
        mov rcx, [rsp + 32]
        mov edx, ss
        END
CASE "interrupt from ring 3: null stack segment"
        SETGATE 0x31, CODE0, .handler, 0xee
        RING3
        int 0x31
.handler: mov eax, ss
        mov rcx, rsp
        END
CASE "interrupt gate: a non-canonical IST"
        mov rax, 0x800000000000
        mov [tss_main + 0x2c], rax
        SETGATE 0x31, CODE0, .handler, 0x8e, 2
        int 0x31
.handler: END
CASE "interrupt gate: a non-canonical target"
        SETGATE 0x31, CODE0, 0x800000000000, 0x8e
        int 0x31
        END
CASE "interrupt gate: compatibility code"
        SETGATE 0x31, CODE32K, .handler, 0x8e
        int 0x31
.handler: END
CASE "interrupt gate: not present, wrong type, DPL, beyond the table"
        SETGATE 0x31, CODE0, .handler, 0x0e
        RECOVER .n1
        int 0x31
.n1:    SETGATE 0x31, CODE0, .handler, 0x8c
        RECOVER .n2
        int 0x31
.n2:    SETGATE 0x31, CODE0, .handler, 0x86
        RECOVER .n3
        int 0x31
.n3:    RECOVER .n4
        int 0x80
.n4:    SETGATE 0x31, CODE0, .handler, 0x8e
        RING3
        int 0x31
.handler: END
CASE "double fault through its IST"
        mov dword [idt + 16 * 13 + 4], 0
        mov rax, 0x800000000000
        mov rbx, [rax]
        END
CASE "double fault: #PF while #PF is delivered"
        mov byte [idt + 16 * 14 + 4], 2
        PTE STACK_IST - 0x1000, 0
        mov rax, cr3
        mov cr3, rax
        mov rax, [0x2000000]
        END
CASE "triple fault"
        lidt [FREE]
        ud2
        END
CASE "bad stack: the second fault"
        mov rsp, 0x2000000
        ud2
        END
CASE "int to conforming code"
        SETDESC SPARE, 0xffff, 0x00af9e00
        SETGATE 0x31, SPARE, .handler, 0xee
        RING3
        int 0x31
.handler: mov eax, cs
        mov ecx, ss
        mov rdx, rsp
        END
CASE "iretq to the same ring takes ss and rsp"
        IRET_TO CODE0, STACK0 - 0x1230, .next, 0xcd7
.next:  pushfq
        pop rax
        END
CASE "iretq to ring 0 with a null ss"
        push 0
        push STACK0
        push 2
        push CODE0
        push .next
        iretq
.next:  mov eax, ss
        END
CASE "iretq to ring 3 with a null ss"
        push 3
        push STACK3
        push 2
        push CODE3
        push .next
        iretq
.next:  END
CASE "iretq to compatibility mode with a null ss"
        push 3
        push STACK3
        push 2
        push CODE32
        push .next
        iretq
.next:  END
CASE "iretq: NT"
        push 0x4002
        popfq
        IRET_TO CODE0, STACK0, .next
.next:  END
CASE "iretq: bad selectors"
        RECOVER .n1
        IRET_TO 0, STACK0, .n1
.n1:    RECOVER .n2
        IRET_TO DATA0, STACK0, .n2
.n2:    RECOVER .n3
        IRET_TO 0x1f8, STACK0, .n3
.n3:    SETDESC SPARE, 0xffff, 0x00af1a00
        RECOVER .n4
        IRET_TO SPARE, STACK0, .n4
.n4:    SETDESC SPARE, 0xffff, 0x00ef9a00
        RECOVER .n5
        IRET_TO SPARE, STACK0, .n5
.n5:    END
CASE "iretd and iretw in 64-bit mode"
        mov rbx, rsp
        sub rsp, 20
        mov dword [rsp], .next
        mov dword [rsp + 4], CODE0
        mov dword [rsp + 8], 2
        mov dword [rsp + 12], STACK0
        mov dword [rsp + 16], DATA0
        iretd
.next:  END
CASE "iretq drops nothing of fs and gs bases when they stay"
        MSR 0xc0000100, 0x12345678, 0x1234
        mov eax, DATA3
        mov gs, ax
        RING3
        mov eax, gs
        mov ecx, fs
        END
CASE "far return to compatibility mode and back"
        push CODE32K
        push .compat
        retfq
        bits 32
.compat: mov eax, 0x12345678
        dec eax
        mov ecx, cs
        jmp CODE0:.back
        bits 64
.back:  mov edx, cs
        END
CASE "far call to compatibility mode: 32-bit operand"
        mov dword [FREE], .compat
        mov word [FREE + 4], CODE32K
        call far dword [FREE]
        END
        bits 32
.compat: mov eax, [esp]
        mov ecx, [esp + 4]
        retf
        bits 64
CASE "far jump through memory, 64-bit operand"
        mov qword [FREE], .next
        mov word [FREE + 8], CODE0
        db 0x48, 0xff, 0x2c, 0x25
        dd FREE
        ud2
.next:  END
CASE "far jump: L and D"
        SETDESC SPARE, 0xffff, 0x00ef9a00
        mov dword [FREE], .next
        mov word [FREE + 4], SPARE
        jmp far dword [FREE]
.next:  END
CASE "call gate to the same ring"
        CALLGATE SPARE, CODE0, .sub, 0x8c
        mov dword [FREE + 4], SPARE
        call far dword [FREE]
        mov rcx, rsp
        END
.sub:   mov rax, [rsp]
        mov rbx, [rsp + 8]
        retfq
CASE "call gate from ring 3"
        CALLGATE SPARE, CODE0, .sub, 0xec
        mov dword [FREE + 4], SPARE + 3
        RING3
        call far dword [FREE]
        mov rcx, rsp
        END
.sub:   mov rax, [rsp]
        mov rbx, [rsp + 8]
        mov rdx, [rsp + 16]
        mov rsi, [rsp + 24]
        mov edi, ss
        retfq
CASE "call gate to compatibility code"
        CALLGATE SPARE, CODE32K, .sub, 0x8c
        mov dword [FREE + 4], SPARE
        call far dword [FREE]
.sub:   END
CASE "call gate: upper half has a type"
        CALLGATE SPARE, CODE0, .sub, 0x8c
        mov dword [gdt + SPARE + 12], 0x1f00
        mov dword [FREE + 4], SPARE
        call far dword [FREE]
.sub:   END
CASE "call gate: 16-bit and task gates are gone"
        CALLGATE SPARE, CODE0, .sub, 0x84
        mov dword [FREE + 4], SPARE
        RECOVER .n1
        call far dword [FREE]
.n1:    mov byte [gdt + SPARE + 5], 0x85
        RECOVER .n2
        call far dword [FREE]
.n2:    mov word [FREE + 4], TSS0
        call far dword [FREE]
.sub:   END
CASE "ltr and lldt: 16-byte descriptors"
        mov dword [gdt + TSS0 + 8], 0x1234
        and byte [gdt + TSS0 + 5], 0xfd
        mov eax, TSS0
        ltr ax
        str ecx
        mov edx, [gdt + TSS0 + 4]
        mov eax, LDT0
        lldt ax
        sldt ebx
        mov dword [gdt + TSS0 + 8], 0x00800000
        and byte [gdt + TSS0 + 5], 0xfd
        mov eax, TSS0
        ltr ax
        END
CASE "lldt: upper half has a type"
        mov dword [gdt + LDT0 + 12], 0x200
        mov eax, LDT0
        lldt ax
        END
CASE "mov to ss: null"
        xor eax, eax
        mov ss, ax
        mov ecx, ss
        push rax
        END
CASE "mov to ss: null with RPL 3 at ring 0"
        mov eax, 3
        mov ss, ax
        END
CASE "mov to ss: null at ring 3"
        RING3
        mov eax, 3
        mov ss, ax
        END
CASE "mov to ds: limits do not count"
        SETDESC SPARE, 0x00000fff, 0x00409230
        mov eax, SPARE
        mov ds, ax
        mov dword [FREE], 77
        mov ebx, [FREE]
        END
CASE "fs and gs: bases of descriptors count"
        SETDESC SPARE, 0x0000ffff, 0x00cf9230
        mov eax, SPARE
        mov fs, ax
        mov dword [FREE], 77
        mov ebx, [fs:0]
        MSR 0xc0000101, FREE - 8, 0
        mov ecx, [gs:8]
        MSR 0xc0000100, FREE - 8, 0
        mov edx, [fs:8]
        END
CASE "fs base: 64 bits, and wrapped"
        MSR 0xc0000100, FREE - 0x10, 0
        mov dword [FREE], 77
        mov rbx, -0x10
        mov ecx, [fs:rbx + 0x20]
        MSR 0xc0000100, 0x1234, 0x8000
        END
CASE "swapgs"
        MSR 0xc0000101, 0x11111111, 0x11
        MSR 0xc0000102, 0x22222222, 0x22
        swapgs
        mov ecx, 0xc0000101
        rdmsr
        mov ebx, eax
        mov esi, edx
        inc ecx
        rdmsr
        RING3
        swapgs
        END
CASE "rdfsbase and the like: CR4"
        rdfsbase rax
        END
CASE "rdfsbase, wrgsbase"
        CR4_SET 0x10000
        mov rax, 0x123456789abc
        wrfsbase rax
        rdfsbase rcx
        mov rdx, -1
        rdfsbase edx
        mov eax, FREE
        wrgsbase rax
        mov dword [FREE], 99
        mov ebx, [gs:0]
        RING3
        rdgsbase rsi
        wrfsbase esi
        rdfsbase rdi
        mov rax, 0x800000000000
        wrfsbase rax
        END
CASE "cr8"
        mov eax, 5
        mov cr8, rax
        mov rcx, cr8
        mov eax, 16
        RECOVER .n1
        mov cr8, rax
.n1:    RING3
        mov rax, cr8
        END
CASE "control registers: upper halves"
        mov rax, 0x1_00000000
        mov rcx, cr0
        or rcx, rax
        RECOVER .n1
        mov cr0, rcx
.n1:    mov rcx, cr4
        or rcx, rax
        RECOVER .n2
        mov cr4, rcx
.n2:    mov rcx, cr4
        and ecx, ~0x20
        RECOVER .n3
        mov cr4, rcx
.n3:    mov rcx, cr0
        and ecx, 0x7fffffff
        RECOVER .n4
        mov cr0, rcx
.n4:    mov rcx, 0x10000000_00200000
        RECOVER .n5
        mov cr3, rcx
.n5:    END
CASE "debug registers: upper halves"
        mov rax, 0x1_00000000
        RECOVER .n1
        mov dr7, rax
.n1:    RECOVER .n2
        mov dr6, rax
.n2:    mov rax, 0x123456789abc
        mov dr0, rax
        mov rcx, dr0
        mov rdx, dr7
        mov rbx, dr6
        mov rsi, dr4
        CR4_SET 8
        mov rdi, dr4
        END
CASE "EFER: LME cannot change while paging"
        MSR 0xc0000080, 0x801, 0
        END
CASE "wrmsr: non-canonical addresses"
        RECOVER .n1
        MSR 0xc0000082, 0, 0x8000
.n1:    RECOVER .n2
        MSR 0xc0000102, 0, 0x8000
.n2:    RECOVER .n3
        MSR 0x176, 0, 0x8000
.n3:    END
; ---- SYSCALL and the like ----------------------------------------------------------------------------------
CASE "syscall and sysret"
        MSR 0xc0000082, .target, 0
        MSR 0xc0000084, 0x4700, 0
        RING3 0x3a02
        std
        syscall
.after: mov eax, cs
        mov edx, ss
        cld
        END
.target: mov rbx, rcx
        mov rsi, r11
        pushfq
        pop rdi
        mov r8d, cs
        mov r9d, ss
        mov r10, rsp
        o64 sysret
CASE "syscall at ring 0"
        syscall
        END
CASE "syscall: SCE is off"
        MSR 0xc0000080, 0x900, 0
        RING3
        syscall
        END
CASE "sysret: SCE is off"
        MSR 0xc0000080, 0x900, 0
        o64 sysret
        END
CASE "sysret at ring 3"
        RING3
        o64 sysret
        END
CASE "sysret: flags"
        mov ecx, .target
        mov r11, 0x3f7fd7 & ~0x100
        o64 sysret
.target: pushfq
        pop rax
        cld
        END
CASE "sysret to compatibility mode"
        mov ecx, .target
        mov r11, 2
        mov rsp, STACK3
        db 0x0f, 0x07
        bits 32
.target: mov eax, cs
        mov edx, ss
        dec ebx
        int 0x30
        bits 64
CASE "sysret: non-canonical"
        mov rcx, 0x800000000000
        mov r11, 2
        o64 sysret
        END
CASE "syscall from compatibility mode"
        MSR 0xc0000083, .target, 0
        COMPAT
        syscall
        bits 64
.target: mov eax, cs
        mov ebx, ss
        END
; ---- Compatibility mode ------------------------------------------------------------------------------------
CASE "compatibility mode: what differs"
        COMPAT
        xor eax, eax
        dec eax
        inc eax
        push eax
        pop ecx
        push ds
        pop edx
        pushad
        popad
        mov ebx, esp
        int 0x30
CASE "compatibility mode: upper halves after it"
        mov r10, -1
        mov rax, -1
        mov rbx, 0x1122334455667788
        COMPAT
        mov ax, 0x1234
        inc ecx
        int 0x30
CASE "compatibility mode: addresses wrap"
        mov dword [FREE], 0x1234
        COMPAT
        mov eax, 0xffffffff
        mov ecx, [eax + FREE + 1]
        int 0x30
CASE "compatibility mode: sysenter, call gate"
        CALLGATE SPARE, CODE0, .sub, 0xec
        COMPAT
        call SPARE + 3:0
        mov ecx, cs
        int 0x30
        bits 64
.sub:   mov rax, [rsp]
        mov rbx, [rsp + 8]
        mov rsi, [rsp + 16]
        retfq
CASE "compatibility mode: far jump to 64-bit code"
        COMPAT
        jmp CODE3:.next
        bits 64
.next:  mov eax, cs
        END
CASE "compatibility mode: iretd within"
        COMPAT
        push 0x202
        push CODE32
        push .next
        iretd
.next:  mov eax, cs
        int 0x30
CASE "compatibility mode: 16-bit code"
        SETDESC CODE16, 0x0000ffff, 0x0000fa10
        IRET_TO CODE16, STACK3, .next - BASE
        bits 16
.next:  mov ax, 0x1234
        mov ecx, cs
        int 0x30
        bits 64
CASE "compatibility mode: an exception's frame"
        COMPAT
        ud2
        END
CASE "compatibility mode: segment base"
        SETDESC SPARE, 0x0000ffff, 0x00cff230
        mov dword [FREE + 4], 0x31
        COMPAT
        mov eax, SPARE + 3
        mov es, ax
        mov ecx, [es:4]
        int 0x30
        bits 64
; ---- Debug -------------------------------------------------------------------------------------------------
CASE "single step"
        FOLLOW
        push 0x102
        popfq
        nop
        inc eax
        push 2
        popfq
        nop
        END
CASE "single step: rep movsb"
        FOLLOW
        mov esi, FREE
        mov edi, FREE + 8
        mov ecx, 3
        push 0x102
        popfq
        rep movsb
        push 2
        popfq
        END
CASE "single step: mov ss"
        FOLLOW
        mov eax, DATA0
        push 0x102
        popfq
        mov ss, ax
        nop
        push 2
        popfq
        END
CASE "single step: pop to ss is not there; int"
        FOLLOW
        SETGATE 0x31, CODE0, .handler, 0x8e
        push 0x102
        popfq
        int 0x31
        push 2
        popfq
        END
.handler: iretq
CASE "single step: syscall"
        FOLLOW
        MSR 0xc0000082, .target, 0
        RING3
        push 0x102
        popfq
        syscall
        nop
        END
.target: mov eax, 1
        btr r11, 8
        o64 sysret
CASE "single step: sysret that sets TF"
        FOLLOW
        mov ecx, .target
        mov r11, 0x102
        o64 sysret
.target: nop
        push 2
        popfq
        nop
        END
CASE "single step: syscall whose mask clears TF"
        FOLLOW
        MSR 0xc0000082, .target, 0
        MSR 0xc0000084, 0x100, 0
        RING3
        push 0x102
        popfq
        syscall
        nop
        push 2
        popfq
        END
.target: mov eax, 1
        o64 sysret
CASE "single step: into iretq"
        FOLLOW
        IRET_TO CODE0, STACK0, .next, 0x102
.next:  nop
        push 2
        popfq
        END
CASE "breakpoint: execution"
        FOLLOW
        mov eax, .here
        mov dr0, rax
        mov eax, 0x401
        mov dr7, rax
        nop
.here:  inc ecx
        nop
        END
%macro WATCH 4
CASE %1
        FOLLOW
        mov eax, FREE + 0x108
        mov dr1, rax
        mov eax, 0x404 | (%2 << 20)
        mov dr7, rax
        %3
        nop
        %4
        nop
        END
%endmacro
%define AT(x) [FREE + 0x100 + x]
WATCH "breakpoint: write of a byte", 1, {mov AT(8), al}, {mov al, AT(8)}
WATCH "breakpoint: write of a byte, touched by a dword", 1, {mov AT(5), eax}, {mov AT(9), eax}
WATCH "breakpoint: access of a dword", 15, {mov al, AT(11)}, {mov AT(12), al}
WATCH "breakpoint: access of 8 bytes", 11, {mov al, AT(15)}, {mov al, AT(16)}
WATCH "breakpoint: read-modify-write", 13, {inc dword AT(8)}, {mov eax, AT(8)}
WATCH "breakpoint: access of a word", 7, {mov al, AT(9)}, {mov al, AT(10)}
WATCH "breakpoint: xmm", 13, nop, {push qword AT(8)}
CASE "breakpoint: rep stosb"
        FOLLOW
        mov eax, FREE + 0x102
        mov dr1, rax
        mov eax, 0x404 | (1 << 20)
        mov dr7, rax
        mov edi, FREE + 0x100
        mov ecx, 4
        rep stosb
        END
CASE "breakpoint: a push"
        FOLLOW
        mov eax, STACK0 - 8
        mov dr2, rax
        mov eax, 0x410 | (9 << 24)
        mov dr7, rax
        push rax
        nop
        END
CASE "general detect"
        FOLLOW
        mov eax, 0x2400
        mov dr7, rax
        mov rcx, dr0
        mov rcx, dr7
        END
CASE "RF in the image of a fault"
        mov dword [show_rf], 0
        ud2
        END
CASE "RF in the image of int3 and of a single step"
        FOLLOW
        mov dword [show_rf], 0
        int3
        push 0x102
        popfq
        nop
        push 2
        popfq
        END
CASE "RF set by iretq passes a breakpoint"
        FOLLOW
        mov eax, .here
        mov dr0, rax
        mov eax, 0x401
        mov dr7, rax
        IRET_TO CODE0, STACK0, .here, 0x10002
.here:  inc ecx
        nop
        END
; ---- Alignment check ---------------------------------------------------------------------------------------
CASE "alignment check"
        mov rax, cr0
        or eax, 0x40000
        mov cr0, rax
        mov dword [FREE + 1], eax
        RING3 0x40002
        mov eax, [FREE + 4]
        mov eax, [FREE + 1]
        END
; ---- x87, SSE and their images -----------------------------------------------------------------------------
CASE "fxsave64"
        CR4_SET 0x600
        fld1
        fldz
        mov eax, 0x1234
        movd xmm15, eax
        o64 fxsave [FREE]
        mov rax, [FREE]
        mov ecx, [FREE + 24]
        mov rdx, [FREE + 32]
        mov rbx, [FREE + 48]
        mov rsi, [FREE + 160 + 16 * 15]
        mov edi, [FREE + 28]
        fninit
        pxor xmm15, xmm15
        o64 fxrstor [FREE]
        fnstsw ax
        movd r8d, xmm15
        END
CASE "fxrstor: mxcsr"
        CR4_SET 0x600
        o64 fxsave [FREE]
        mov dword [FREE + 24], 0x10000
        o64 fxrstor [FREE]
        END
CASE "xsave and xrstor"
        CR4_SET 0x40600
        xor ecx, ecx
        xor edx, edx
        mov eax, 3
        xsetbv
        fld1
        mov ecx, 77
        movd xmm3, ecx
        xsave [FREE]
        mov rbx, [FREE + 512]
        fninit
        pxor xmm3, xmm3
        mov eax, 2
        xrstor [FREE]
        movd esi, xmm3
        fnstsw ax
        mov qword [FREE + 512], 0
        mov eax, 3
        xrstor [FREE]
        movd edi, xmm3
        mov qword [FREE + 512], 4
        xrstor [FREE]
        END
CASE "ts: fxsave"
        CR4_SET 0x600
        mov rax, cr0
        or eax, 8
        mov cr0, rax
        o64 fxsave [FREE]
        END
CASE "simd exception"
        CR4_SET 0x600
        mov dword [FREE], 0x1f80 & ~0x80
        ldmxcsr [FREE]
        mov dword [FREE], 1
        cvtsi2ss xmm0, [FREE]
        cvtss2sd xmm0, xmm0
        END
