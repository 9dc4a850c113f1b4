; ---- Paging ------------------------------------------------------------------------------------------------

%macro FLUSH 0
        mov rax, cr3
        mov cr3, rax
%endmacro
%macro WP 0
        mov rax, cr0
        or eax, 0x10000
        mov cr0, rax
%endmacro
PAGE1   equ FREE + 0x1000
PAGE2   equ FREE + 0x2000

CASE "page fault: read, not present"
        mov rax, [0x2000000]
        END
CASE "page fault: write, not present"
        mov [0x2000000], rax
        END
CASE "page fault: fetch, not present"
        mov eax, 0x2000000
        jmp rax
        END
CASE "page fault: user read, not present"
        RING3
        mov rax, [0x2000000]
        END
CASE "page fault: at each level"
        mov rbx, 0x8000000000
        RECOVER .n1
        mov al, [rbx]
.n1:    mov rbx, 0x40000000
        RECOVER .n2
        mov al, [rbx]
.n2:    mov rbx, -8
        mov rax, [rbx]
        END
CASE "page fault: user access of a supervisor page"
        PTE PAGE1, PAGE1 + 3
        FLUSH
        RING3
        mov al, [PAGE1]
        END
CASE "page fault: user write of a supervisor page"
        PTE PAGE1, PAGE1 + 3
        FLUSH
        RING3
        mov [PAGE1 + 5], al
        END
CASE "page fault: user fetch of a supervisor page"
        PTE PAGE1, PAGE1 + 3
        FLUSH
        RING3
        mov eax, PAGE1
        jmp rax
        END
CASE "page fault: write of a read-only page"
        PTE PAGE1, PAGE1 + 5
        FLUSH
        RING3
        mov [PAGE1 + 5], al
        END
CASE "page fault: supervisor write of a read-only page, WP 0 and 1"
        PTE PAGE1, PAGE1 + 5
        FLUSH
        mov [PAGE1 + 5], al
        mov bl, [PAGE1 + 5]
        WP
        mov [PAGE1 + 5], al
        END
CASE "page fault: rights of upper levels count"
        and dword [DIRECTORY + 8], ~2
        FLUSH
        WP
        mov [FREE], al
        END
CASE "page fault: no-execute"
        mov byte [PAGE1], 0xc3
        PTE_HIGH PAGE1, 0x80000000
        FLUSH
        mov eax, PAGE1
        call rax
        END
CASE "page fault: no-execute in an upper level, ring 3"
        mov byte [FREE], 0xc3
        mov dword [DIRECTORY + 8 + 4], 0x80000000
        FLUSH
        mov dword [DIRECTORY + 12], 0
        PTE_HIGH FREE, 0x80000000
        FLUSH
        RING3
        mov eax, FREE
        call rax
        END
CASE "page fault: ring 3 calls what ring 0 has run"
        mov byte [PAGE1], 0xc3
        PTE PAGE1, PAGE1 + 3
        FLUSH
        mov eax, PAGE1
        mov ebx, 3
.again: call rax
        dec ebx
        jnz .again
        RING3
        mov eax, PAGE1
        call rax
        END
CASE "an instruction over two pages, of which the second is mapped anew"
        mov byte [PAGE1 + 0xfff], 0xb8          ; mov eax, 0x11111111; ret
        mov dword [PAGE2], 0x11111111
        mov byte [PAGE2 + 4], 0xc3
        mov dword [PAGE2 + 0x1000], 0x22222222
        mov byte [PAGE2 + 0x1004], 0xc3
        mov edi, PAGE1 + 0xfff
        mov ecx, 3
.again: call rdi
        dec ecx
        jnz .again
        mov esi, eax
        PTE PAGE2, PAGE2 + 0x1007
        invlpg [PAGE2]
        call rdi
        mov ebx, eax
        mov dword [PAGE2], 0x33333333
        call rdi
        END
CASE "page fault: NX is reserved without NXE"
        MSR 0xc0000080, 0x501, 0
        PTE_HIGH PAGE1, 0x80000000
        FLUSH
        mov al, [PAGE1]
        END
CASE "page fault: reserved address bits"
        PTE_HIGH PAGE1, 0x000f0000
        FLUSH
        mov al, [PAGE1]
        END
CASE "page fault: reserved bit of a pointer table"
        mov dword [PML4 + 8], POINTERS + 7 + 0x80
        mov rbx, 0x8000000000
        mov al, [rbx]
        END
CASE "accessed and dirty bits"
        mov al, [PAGE1]
        mov ebx, [TABLES + (PAGE1 >> 12) * 8]
        mov [PAGE1], al
        mov ecx, [TABLES + (PAGE1 >> 12) * 8]
        mov edx, [TABLES + (PAGE2 >> 12) * 8]
        mov esi, [DIRECTORY + 8]
        mov edi, [POINTERS]
        and edi, 0xff
        END
CASE "a page that faults is not marked dirty"
        PTE PAGE1, PAGE1 + 5
        FLUSH
        WP
        RECOVER .next
        mov [PAGE1], al
.next:  mov ebx, [TABLES + (PAGE1 >> 12) * 8]
        END
CASE "2-MiB page"
        mov dword [DIRECTORY + 8 * 16], 0x200000 + 0x87
        FLUSH
        mov dword [FREE + 0x345678 - 0x300000], 0x5566
        mov rbx, [0x2145678]
        mov ebx, [0x2000000 + 0x145678]
        mov ecx, [DIRECTORY + 8 * 16]
        mov [0x2000000 + 0x1ffff8], rax
        mov edx, [DIRECTORY + 8 * 16]
        END
CASE "2-MiB page: reserved bits"
        mov dword [DIRECTORY + 8 * 16], 0x200000 + 0x87 + 0x2000
        mov ebx, [0x2000000]
        END
CASE "1-GiB page"
        mov dword [POINTERS + 8], 0x87
        mov dword [FREE + 8], 0x778899
        mov ebx, [0x40000000 + FREE + 8]
        mov ecx, [POINTERS + 8]
        END
CASE "1-GiB page: reserved bits"
        mov dword [POINTERS + 8], 0x87 + 0x2000
        mov ebx, [0x40000000]
        END
CASE "aliases: a write is seen at the other address"
        PTE PAGE2, PAGE1 + 7
        FLUSH
        mov dword [PAGE1 + 4], 0x1234
        mov ebx, [PAGE2 + 4]
        mov dword [PAGE2 + 4], 0x5678
        mov ecx, [PAGE1 + 4]
        END
CASE "invlpg"
        mov dword [PAGE1], 1
        mov dword [PAGE2], 2
        mov eax, [PAGE1]
        PTE PAGE1, PAGE2 + 7
        invlpg [PAGE1]
        mov ebx, [PAGE1]
        END
CASE "invlpg of a 2-MiB page"
        mov dword [DIRECTORY + 8 * 16], 0x200000 + 0x87
        mov dword [FREE + 0x10], 1
        mov eax, [0x2100010]
        mov ecx, [0x2000010]
        mov dword [DIRECTORY + 8 * 16], 0x00000087
        mov dword [0x100010 - 0x10 + 0x10000 + 0x70000], 0
        invlpg [0x2000000]
        cmp dword [0x2100000], 0x1badb002
        sete bl
        END
CASE "invlpg of a non-canonical address"
        mov rax, 0x800000000000
        invlpg [rax]
        END
CASE "global pages survive a load of cr3"
        CR4_SET 0x80
        mov dword [PAGE1], 1
        mov dword [PAGE2], 2
        PTE PAGE1, PAGE1 + 0x107
        invlpg [PAGE1]
        mov ebx, [PAGE1]
        PTE PAGE1, PAGE2 + 0x107
        invlpg [PAGE1]
        mov ecx, [PAGE1]
        END
; Straddling: PAGE1 is there, PAGE2 is not.
%macro STRADDLE 2+
CASE %1
        PTE PAGE2, 0
        FLUSH
        %2
        mov rcx, [PAGE1 + 0xff8]
        END
%endmacro
STRADDLE "straddling: read", mov rax, [PAGE2 - 3]
STRADDLE "straddling: write changes nothing", mov [PAGE2 - 3], rax
STRADDLE "straddling: read-modify-write", add [PAGE2 - 3], rax
STRADDLE "straddling: xchg", xchg [PAGE2 - 1], ax
STRADDLE "straddling: movups read", movups xmm0, [PAGE2 - 3]
STRADDLE "straddling: lock cmpxchg8b", lock cmpxchg8b [PAGE2 - 4]
STRADDLE "straddling: bts with a register", bts dword [PAGE2 - 2], eax
CASE "straddling: write, PAGE2 read-only"
        PTE PAGE2, PAGE2 + 5
        FLUSH
        WP
        RECOVER .next
        mov rax, -1
        mov [PAGE2 - 3], rax
.next:  mov rbx, [PAGE1 + 0xff8]
        mov rcx, [PAGE2]
        RECOVER .last
        add [PAGE2 - 3], rax
.last:  mov rbx, [PAGE1 + 0xff8]
        END
CASE "straddling: works when both are there, and not in order"
        PTE PAGE2, FREE + 0x5007
        FLUSH
        mov rax, 0x1122334455667788
        mov [PAGE2 - 3], rax
        mov rbx, [PAGE2 - 3]
        mov ecx, [FREE + 0x5000]
        mov edx, [PAGE1 + 0xffc]
        add [PAGE2 - 3], rax
        mov rsi, [PAGE2 - 3]
        END
CASE "straddling: an instruction"
        PTE PAGE2, 0
        FLUSH
        mov dword [PAGE2 - 4], 0xb8909090       ; mov eax, imm32
        mov eax, PAGE2 - 4
        jmp rax
        END
CASE "straddling: an instruction that runs"
        mov dword [PAGE2 - 4], 0xb8909090
        mov dword [PAGE2], 0x12345678
        mov word [PAGE2 + 4], 0x30cd
        mov eax, PAGE2 - 4
        jmp rax
CASE "straddling: running into a page that is not there"
        PTE PAGE2, 0
        FLUSH
        mov dword [PAGE2 - 4], 0x90909090
        mov eax, PAGE2 - 4
        jmp rax
        END
CASE "straddling: the instruction changes its second half's page"
        mov dword [PAGE2 - 4], 0xb8909090
        mov dword [PAGE2], 0x12345678
        mov word [PAGE2 + 4], 0xc3
        mov dword [FREE + 0x5000], 0x55667788
        mov word [FREE + 0x5004], 0xc3
        mov ebx, PAGE2 - 4
        call rbx
        mov ecx, eax
        PTE PAGE2, FREE + 0x5007
        FLUSH
        call rbx
        END
CASE "fault in the middle of rep movsb"
        PTE PAGE2, 0
        FLUSH
        mov esi, FREE
        mov edi, PAGE2 - 5
        mov ecx, 0x20
        rep movsb
        END
CASE "fault in the middle of rep movsq: source"
        PTE PAGE2, 0
        FLUSH
        mov esi, PAGE2 - 20
        mov edi, FREE
        mov ecx, 0x20
        rep movsq
        END
CASE "fault in the middle of rep stosd, backwards"
        PTE PAGE1, 0
        FLUSH
        mov edi, PAGE2 + 8
        mov ecx, 0x20
        std
        rep stosd
        END
CASE "fault in the middle of repe cmpsb"
        PTE PAGE2, 0
        FLUSH
        mov edi, PAGE2 - 5
        mov esi, FREE
        mov ecx, 0x20
        repe cmpsb
        END
CASE "fault of push, pop, call, ret: rsp stays"
        PTE PAGE1, 0
        FLUSH
        mov byte [idt + 16 * 14 + 4], 2
        mov rsp, PAGE2
        RECOVER .n1
        push rax
.n1:    mov rsp, PAGE2
        RECOVER .n2
        call .n2
.n2:    mov rsp, PAGE1
        RECOVER .n3
        pop rax
.n3:    mov rsp, PAGE1
        RECOVER .n4
        ret
.n4:    mov rsp, PAGE2
        RECOVER .n5
        push qword [FREE]
.n5:    mov rsp, PAGE2
        RECOVER .n6
        enter 8, 0
.n6:    mov rsp, STACK0
        RECOVER .n7
        pop qword [PAGE1]
.n7:    mov rax, rsp
        mov rsp, STACK0
        END
CASE "fault in iretq: nothing changed"
        PTE PAGE2, 0
        FLUSH
        mov byte [idt + 16 * 14 + 4], 2
        mov rsp, PAGE2 - 16
        iretq
        END
CASE "fault in an interrupt's stack: ring 3 stays"
        PTE STACK_INNER - 0x1000, 0
        FLUSH
        mov byte [idt + 16 * 14 + 4], 2
        mov byte [idt + 16 * 0x31 + 5], 0xee
        RING3
        int 0x31
        END
CASE "fault of the tss, the gdt, the idt"
        mov byte [idt + 16 * 14 + 4], 2
        PTE PAGE1, 0
        FLUSH
        mov dword [FREE], 0xffff
        mov qword [FREE + 2], PAGE1
        RECOVER .n1
        lgdt [PAGE1]
.n1:    RECOVER .n2
        fxsave [PAGE1]
.n2:    END
CASE "cmpxchg writes what it read: a read-only page faults"
        PTE PAGE1, PAGE1 + 5
        FLUSH
        WP
        xor eax, eax
        mov ecx, 1
        cmpxchg [PAGE1 + 8], ecx
        END
CASE "page fault: ring 3, gdt in a supervisor page is readable"
        PTE gdt, gdt + 3
        FLUSH
        RING3
        mov eax, DATA3
        mov es, ax
        mov al, [gdt]
; ---- SMEP and SMAP -----------------------------------------------------------------------------------------
%macro SUPERVISOR_IMAGE 0
        ; The image and the stack, the tables: supervisor. FREE stays with the user.
%%again:
        mov ecx, 0x100
%%page: and byte [TABLES + rcx * 8], 0xfb
        inc ecx
        cmp ecx, 0x300
        jb %%page
        FLUSH
%endmacro
CASE "smep"
        SUPERVISOR_IMAGE
        mov byte [FREE], 0xc3
        mov eax, FREE
        call rax
        CR4_SET 0x100000
        mov eax, FREE
        call rax
        END
CASE "smap: read and write"
        SUPERVISOR_IMAGE
        CR4_SET 0x200000
        RECOVER .n1
        mov al, [FREE]
.n1:    RECOVER .n2
        mov [FREE], al
.n2:    stac
        mov [FREE], al
        mov bl, [FREE]
        clac
        mov bl, [FREE]
        END
CASE "smap: popf sets AC too"
        SUPERVISOR_IMAGE
        CR4_SET 0x200000
        push 0x40002
        popfq
        mov al, [FREE]
        push 2
        popfq
        mov al, [FREE]
        END
CASE "smap: an interrupt clears nothing of AC"
        SUPERVISOR_IMAGE
        CR4_SET 0x200000
        stac
        SETGATE 0x31, CODE0, .handler, 0x8e
        int 0x31
.handler: pushfq
        pop rax
        END
CASE "stac at ring 3, and without SMAP"
        stac
        pushfq
        pop rax
        clac
        RING3
        stac
        END
CASE "smap: ring 3 is not concerned"
        SUPERVISOR_IMAGE
        CR4_SET 0x200000
        mov word [FREE], 0x30cd
        IRET_TO CODE3, STACK3, FREE
; ---- Self-modifying code -----------------------------------------------------------------------------------
CASE "self-modifying: ahead in the same block"
        mov dword [.patch + 1], 0x12345678
.patch: mov eax, 0
        mov dword [.patch + 1], 0
        END
CASE "self-modifying: the next byte"
        mov byte [.patch], 0x40                 ; REX before an INC
.patch: nop
        inc eax
        mov byte [.patch], 0x90
        END
CASE "self-modifying: in a loop"
        xor ebx, ebx
        mov ecx, 5
.again: add byte [.patch + 1], 1
.patch: mov al, 0
        movzx eax, al
        add ebx, eax
        loop .again
        mov byte [.patch + 1], 0
        END
CASE "self-modifying: rep movsb over itself"
        mov edi, .patch
        mov esi, .source
        mov ecx, 5
        rep movsb
.patch: mov eax, 1
        mov edi, .patch
        mov esi, .restore
        mov ecx, 5
        rep movsb
        END
.source: mov eax, 2
.restore: mov eax, 1
CASE "self-modifying: through an alias"
        PTE PAGE2, PAGE1 + 7
        FLUSH
        mov dword [PAGE1], 0x000001b8
        mov word [PAGE1 + 4], 0xc300
        mov ebx, PAGE1
        call rbx
        mov ecx, eax
        mov byte [PAGE2 + 1], 7
        call rbx
        mov edx, eax
        mov ebx, PAGE2
        mov byte [PAGE1 + 1], 9
        call rbx
        END
CASE "self-modifying: second half of a straddling instruction"
        mov dword [PAGE2 - 4], 0xb8909090
        mov dword [PAGE2], 1
        mov byte [PAGE2 + 4], 0xc3
        mov ebx, PAGE2 - 4
        call rbx
        mov ecx, eax
        mov dword [PAGE2], 2
        call rbx
        END
CASE "self-modifying: a push onto code"
        mov rbx, rsp
        mov rsp, .patch + 8
        push qword [.source]
        mov rsp, rbx
.patch: mov eax, 1
        nop
        nop
        nop
        END
        align 8
.source: mov eax, 3
        nop
        nop
        nop
CASE "self-modifying: remapped code"
        mov dword [PAGE1], 0x000001b8
        mov word [PAGE1 + 4], 0xc300
        mov dword [PAGE2], 0x000002b8
        mov word [PAGE2 + 4], 0xc300
        mov ebx, PAGE1
        call rbx
        mov ecx, eax
        PTE PAGE1, PAGE2 + 7
        invlpg [PAGE1]
        call rbx
        END
; ---- Leaving long mode -------------------------------------------------------------------------------------
CASE "out of long mode and in again"
        push CODE32K
        push .compat
        retfq
        bits 32
.compat: mov ax, DATA0
        mov ds, ax
        mov ss, ax
        mov es, ax
        mov eax, cr0
        and eax, 0x7fffffff
        mov cr0, eax
        mov ecx, 0xc0000080
        rdmsr
        mov ebx, eax
        mov eax, 0x1000
        dec eax                                 ; an instruction that is a prefix in 64-bit mode
        mov esi, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        rdmsr
        jmp CODE0:.back
        bits 64
.back:  mov edi, cs
        END
CASE "long mode: PG with LME needs PAE"
        push CODE32K
        push .compat
        retfq
        bits 32
.compat: mov eax, cr0
        and eax, 0x7fffffff
        mov cr0, eax
        xor eax, eax
        mov cr4, eax
        mov dword [FREE], 0
        lidt [.idt]
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        jmp $
.idt:   dw 0
        dd 0
        bits 64
        END
