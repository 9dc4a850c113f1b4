; ---- Virtual-8086 mode -------------------------------------------------------------------------------------

; To virtual-8086 mode at a label of .low, with the flags given (VM is added) and 0x9000 in the data segments' place.
%macro V86 1-2 0
        push dword 0x600                ; gs
        push dword 0x600                ; fs
        push dword 0x600                ; ds
        push dword 0x600                ; es
        push dword 0x100                ; ss
        push dword 0x1000               ; sp
        push dword 0x20002 | (%2)
        push dword 0x80                 ; cs
        push dword %1 - 0x800
        iretd
%endmacro
; V86CASE name, flags, code ...
%macro V86CASE 3+
CASE %1
        V86 %%low, %2
        section .low
        bits 16
%%low:  %3
        int 0x30
        bits 32
        section .text
%endmacro
V86CASE "v86: what iret loads", 0x3000, nop
V86CASE "v86: int with IOPL 0", 0, nop
V86CASE "v86: segments", 0x3000, {mov ax, ds}
V86CASE "v86: a load of a segment register", 0x3000, {mov fs, ax}
V86CASE "v86: ud2", 0x3000, ud2
V86CASE "v86: int3 with IOPL 0", 0, int3
V86CASE "v86: cli with IOPL 0", 0, cli
V86CASE "v86: sti with IOPL 3", 0x3000, sti
V86CASE "v86: pushf with IOPL 0", 0, pushf
V86CASE "v86: popf with IOPL 0", 0, popf
V86CASE "v86: iret with IOPL 0", 0, iret
V86CASE "v86: hlt", 0x3000, hlt
V86CASE "v86: lgdt", 0x3000, {lgdt [0]}
V86CASE "v86: lldt", 0x3000, {lldt ax}
V86CASE "v86: sldt", 0x3000, {sldt ax}
V86CASE "v86: verr", 0x3000, {verr ax}
V86CASE "v86: arpl", 0x3000, {arpl ax, cx}
V86CASE "v86: mov from cr0", 0x3000, {mov eax, cr0}
V86CASE "v86: smsw", 0x3000, {smsw ax}
V86CASE "v86: clts", 0x3000, clts
V86CASE "v86: offset beyond 64 KiB", 0x3000, {mov eax, [dword 0x10000]}
V86CASE "v86: word at 0xffff", 0x3000, {mov ax, [0xffff]}
V86CASE "v86: dword at 0xfffd", 0x3000, {mov eax, [0xfffd]}
V86CASE "v86: port allowed by the map, whatever the IOPL", 0x3000, {out 0x80, al}
V86CASE "v86: port forbidden by the map", 0x3000, {mov dx, 0x801}
CASE "v86: port forbidden with IOPL 3"
        mov byte [tss_main + 0x68 + 0x10], 2
        V86 v86_port, 0x3000
        section .low
        bits 16
v86_port: out 0x81, al
        int 0x30
        bits 32
        section .text
CASE "v86: pushf, popf and iret with IOPL 3"
        V86 v86_flags, 0x3000
        section .low
        bits 16
v86_flags:
        pushf
        pop ax
        push word 0x0ed7
        popf
        pushfd
        pop ecx
        push word 0x8d7
        push cs
        push word .back - 0x800
        iret
.back:  pushf
        pop dx
        push dword 0x20000
        int 0x30
        bits 32
        section .text
CASE "v86: far call and return, loads and a string"
        V86 v86_far, 0x3000
        section .low
        bits 16
v86_far:
        mov ax, 0x123
        mov es, ax
        mov word [0x10], 0x4567
        call 0x80:.sub - 0x800
        mov si, 0x10
        mov di, 0x20
        movsw
        mov cx, [es:0x20]
        mov dx, sp
        int 0x30
.sub:   mov bx, sp
        mov bx, [ss:bx + 2]
        retf
        bits 32
        section .text
CASE "v86: an interrupt's gate must lead to ring 0"
        SETGATE 0x31, CODE3, 0, 0xee
        V86 v86_gate, 0x3000
        section .low
        bits 16
v86_gate: int 0x31
        int 0x30
        bits 32
        section .text
CASE "v86: a task gate"
        TASK2 .task
        mov word [idt + 8 * 0x31 + 2], TSS2
        mov byte [idt + 8 * 0x31 + 5], 0xe5
        V86 v86_task, 0x3000
.task:  mov eax, [tss_main + 0x24]
        mov ecx, [tss_main + 0x20]
        mov edx, [tss_main + 0x54]
        iretd
        section .low
        bits 16
v86_task: int 0x31
        int 0x30
        bits 32
        section .text
CASE "v86: a fault through an interrupt gate, and back"
        SETGATE 6, CODE0, .handler, 0x8e
        V86 v86_back, 0x3000
.handler: mov eax, [esp + 8]
        and eax, ~0x10000
        add dword [esp], 2
        mov ecx, [esp + 24]
        mov edx, ds
        iretd
        section .low
        bits 16
v86_back: mov bx, 0x1234
        ud2
        mov si, ds
        int 0x30
        bits 32
        section .text
; ---- Real mode ---------------------------------------------------------------------------------------------
%macro REAL 1
        lidt [real_idt_pointer]
        mov bx, %1
        mov ax, DATA16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        jmp CODE16:to_real
%endmacro
%macro REALCASE 2-3 nop
CASE %1
        REAL %%low
        section .low
        bits 16
%%low:  %2
        %3
        int 0x30
        bits 32
        section .text
%endmacro
REALCASE "real: int", nop
REALCASE "real: divide", {xor cx, cx}, div cx
REALCASE "real: ud2", ud2
REALCASE "real: lldt", {lldt ax}
REALCASE "real: sldt", {sldt ax}
REALCASE "real: arpl", {arpl ax, cx}
REALCASE "real: verr", {verr ax}
REALCASE "real: lar", {lar ax, cx}
REALCASE "real: word at 0xffff", {mov ax, [0xffff]}
REALCASE "real: offset beyond 64 KiB", {mov eax, [dword 0x10000]}
REALCASE "real: stack at 0xffff", {mov bp, 0xffff}, {mov ax, [bp]}
REALCASE "real: smsw and cr0", {mov eax, cr0}
REALCASE "real: sgdt", {sgdt [0x6000]}, {mov eax, [0x6002]}
CASE "real: push wraps, pusha, ip wraps"
        REAL real_wrap
        section .low
        bits 16
real_wrap:
        mov sp, 2
        push ax
        push cx
        mov dx, sp
        pop cx
        pop ax
        mov sp, LOW_STACK
        mov bx, [0xfffe]
        int 0x30
        bits 32
        section .text
CASE "real: segments load without checks"
        REAL real_segments
        section .low
        bits 16
real_segments:
        mov ax, 0x1234
        mov ds, ax
        mov es, ax
        mov word [es:0], 0x77
        xor ax, ax
        mov fs, ax
        mov bx, [fs:0x2340 + 0x10000 - 0x10000]
        int 0x30
        bits 32
        section .text
CASE "real: far call, iret and flags"
        REAL real_far
        section .low
        bits 16
real_far:
        call 0:.sub
        push word 0x4ed7 & ~0x200
        push cs
        push word .next
        iret
.next:  cld
        pushfd
        pop eax
        mov cx, sp
        int 0x30
.sub:   mov bp, sp
        mov dx, [bp]
        mov bx, [bp + 2]
        retf
        bits 32
        section .text
CASE "real: an interrupt clears IF and TF"
        REAL real_int
        section .low
        bits 16
real_int:
        mov word [0x31 * 4], .handler
        push word 0x202 & ~0x200
        popf
        int 0x31
.handler: pushf
        pop ax
        mov bp, sp
        mov cx, [bp]
        mov dx, [bp + 4]
        int 0x30
        bits 32
        section .text
CASE "unreal mode"
        mov dword [FREE], 0x31415926
        lidt [real_idt_pointer]
        mov bx, unreal
        mov ax, DATA16
        mov ds, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        jmp CODE16:to_real
        section .low
        bits 16
unreal: mov ecx, FREE
        xor ax, ax
        mov es, ax
        mov edx, [es:ecx]
        int 0x30
        bits 32
        section .text
; ---- 32-bit and PAE paging ---------------------------------------------------------------------------------
PAGE1   equ FREE + 0x1000
PAGE2   equ FREE + 0x2000
CASE "paging: read, not present"
        PAGING
        mov eax, [0x900000]
        END
CASE "paging: write, not present table"
        PAGING
        mov [0xc00000], eax
        END
CASE "paging: user read of a supervisor page"
        PTE PAGE1, PAGE1 + 3
        PAGING
        RING3
        mov eax, [PAGE1]
        END
CASE "paging: user write of a read-only page"
        PTE PAGE1, PAGE1 + 5
        PAGING
        RING3
        mov [PAGE1 + 8], eax
        END
CASE "paging: supervisor write of a read-only page without WP"
        PTE PAGE1, PAGE1 + 5
        PAGING
        mov [PAGE1 + 8], eax
        mov ecx, [PAGE1 + 8]
        END
CASE "paging: supervisor write of a read-only page with WP"
        PTE PAGE1, PAGE1 + 5
        PAGING 0x10000
        mov [PAGE1 + 8], eax
        END
CASE "paging: fetch"
        PAGING
        mov eax, 0x900000
        jmp eax
        END
CASE "paging: accessed and dirty"
        PAGING
        mov al, [PAGE1]
        mov ebx, [PAGE_TABLE + (PAGE1 >> 12) * 4]
        mov [PAGE1], al
        mov ecx, [PAGE_TABLE + (PAGE1 >> 12) * 4]
        mov edx, [PAGE_TABLE + (PAGE2 >> 12) * 4]
        mov esi, [PAGE_DIRECTORY]
        END
CASE "paging: 4-MiB page"
        mov eax, 0x10
        mov cr4, eax
        mov dword [PAGE_DIRECTORY + 8], 0x87
        PAGING
        mov dword [FREE], 0x1234
        mov eax, [0x800000 + FREE]
        mov ecx, [PAGE_DIRECTORY + 8]
        mov [0x800000 + FREE + 4], ecx
        mov edx, [PAGE_DIRECTORY + 8]
        END
CASE "paging: the PS bit without PSE is ignored"
        mov dword [PAGE_DIRECTORY + 8], PAGE_TABLE + 0x87
        PAGING
        mov dword [FREE], 0x1234
        mov eax, [0x800000 + FREE]
        END
CASE "paging: straddling write"
        PTE PAGE2, 0
        PAGING
        mov [PAGE2 - 2], eax
        END
CASE "paging: linear addresses wrap"
        mov dword [PAGE_DIRECTORY + 4092], PAGE_TABLE + 7
        PTE 0x3ff000, PAGE1 + 7
        PAGING
        mov dword [PAGE1 + 0xffc], 0x11223344
        mov eax, [0]
        mov ecx, [0xfffffffe]
        and ecx, 0xffff
        END
CASE "paging: invlpg"
        mov dword [PAGE1], 1
        mov dword [PAGE2], 2
        PAGING
        mov eax, [PAGE1]
        PTE PAGE1, PAGE2 + 7
        invlpg [PAGE1]
        mov ecx, [PAGE1]
        END
CASE "paging: fault in pushad"
        SETGATE 14, CODE0, 0, 0x8e
        mov word [idt + 8 * 14 + 2], TSS2
        mov byte [idt + 8 * 14 + 5], 0x85
        TASK2 .task
        PTE PAGE1, 0
        PAGING
        mov esp, PAGE2 + 12
        pushad
.task:  mov eax, [esp]
        mov ecx, [tss_main + 0x20]
        mov edx, [tss_main + 0x38]
        mov ebx, cr2
        END
CASE "paging: fault in the stack of a call gate"
        CALLGATE SPARE, CODE1, .sub, 0xec, 2
        PTE STACK_INNER - 0x2000, 0
        PAGING
        RING3
        push dword 1
        push dword 2
        call SPARE + 3:0
.sub:   END
CASE "paging: fault in the parameters of a call gate"
        CALLGATE SPARE, CODE1, .sub, 0xec, 2
        PTE PAGE1, 0
        PAGING
        RING3
        mov esp, PAGE1 - 4
        call SPARE + 3:0
.sub:   END
CASE "paging: fault in the new task's segment"
        TASK2 .task
        PTE tss_two, 0
        PAGING
        jmp TSS2:0
.task:  END
CASE "paging: a descriptor that is not there"
        PTE gdt, 0
        PTE PAGE1, gdt + 7
        mov dword [FREE], 0x1ff | ((PAGE1 & 0xffff) << 16)
        mov word [FREE + 4], PAGE1 >> 16
        lgdt [FREE]
        PAGING
        mov ax, DATA3
        PTE PAGE1, 0
        invlpg [PAGE1]
        mov dx, cs
        PTE PAGE1, gdt + 7
        RECOVER .next
        mov fs, ax
.next:  END
CASE "pae: read"
        PAE_PAGING
        mov eax, [0x900000]
        END
CASE "pae: a pointer that is not present"
        PAE_PAGING
        mov eax, [0x40000000]
        END
CASE "pae: a write of a read-only page"
        mov dword [PAE_TABLE + (PAGE1 >> 12) * 8], PAGE1 + 5
        PAE_PAGING 0x10000
        mov [PAGE1], eax
        END
CASE "pae: 2-MiB page"
        mov dword [PAE_DIRECTORY + 64], 0x200000 + 0x87
        PAE_PAGING
        mov dword [FREE], 0x1234
        mov eax, [0x1000000 + 0x100000]
        mov ecx, [PAE_DIRECTORY + 64]
        END
CASE "pae: no-execute"
        mov ecx, 0xc0000080
        mov eax, 0x800
        xor edx, edx
        wrmsr
        mov dword [PAE_TABLE + (PAGE1 >> 12) * 8 + 4], 0x80000000
        PAE_PAGING
        mov al, [PAGE1]
        mov eax, PAGE1
        jmp eax
        END
CASE "pae: user fetch of a supervisor page, with NXE"
        mov ecx, 0xc0000080
        mov eax, 0x800
        xor edx, edx
        wrmsr
        mov dword [PAE_TABLE + (PAGE1 >> 12) * 8], PAGE1 + 3
        PAE_PAGING
        RING3
        mov eax, PAGE1
        jmp eax
        END
CASE "pae: smep"
        mov eax, 0x100000
        mov cr4, eax
        mov byte [PAGE1], 0xc3
        mov ebx, PAE_TABLE
        mov ecx, 0x800
.page:  and byte [ebx], 0xfb
        add ebx, 8
        loop .page
        mov dword [PAE_TABLE + (PAGE1 >> 12) * 8], PAGE1 + 7
        PAE_PAGING
        mov eax, PAGE1
        call eax
        END
; ---- Shutdown ----------------------------------------------------------------------------------------------
CASE "triple fault: no table"
        lidt [FREE]
        ud2
        END
CASE "triple fault: no double-fault gate"
        mov dword [idt + 8 * 8 + 4], 0
        mov dword [idt + 8 * 13 + 4], 0
        mov ax, 0x200
        mov es, ax
        END
