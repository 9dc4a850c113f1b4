; The runner of 64-bit cases: as harness32.asm, but cases start in 64-bit mode, ring 0, with the first 16 MiB mapped
; by 4-KiB pages (user, writable), and report 64-bit registers. Ends and follows in the same way.

BASE            equ 0x100000
PORT            equ 0xe9
PORT_EXIT       equ 0xf4
PML4            equ 0x200000
POINTERS        equ 0x201000
DIRECTORY       equ 0x202000
TABLES          equ 0x203000        ; of the first 16 MiB
FREE            equ 0x300000        ; pages that cases may use
FREE_PAGES      equ 16
STACK0          equ 0x2f0000
STACK3          equ 0x2f8000
STACK_DF        equ 0x2e8000
STACK_INNER     equ 0x2e0000
STACK_IST       equ 0x2d8000

CODE0   equ 0x08                    ; 64-bit
DATA0   equ 0x10
CODE32  equ 0x1b                    ; compatibility mode, ring 3
DATA3   equ 0x23
CODE3   equ 0x2b                    ; 64-bit; this order suits SYSRET
CODE32K equ 0x30                    ; compatibility mode, ring 0
TSS0    equ 0x38                    ; 16 bytes
LDT0    equ 0x48                    ; 16 bytes
CODE16  equ 0x5b                    ; 16-bit, ring 3
SPARE   equ 0x60                    ; for cases

gdt             equ 0x280000
gdt_bytes       equ 0x200
ldt             equ 0x280400
idt             equ 0x280800
tss_main        equ 0x281000
TSS_LIMIT       equ 0x67 + 0x101

        bits 32
        section .text start=BASE vstart=BASE
        section .cases follows=.text vfollows=.text align=16 valign=16
        section .data follows=.cases vfollows=.cases align=16 valign=16

%macro DESC 3
        dw %2, (%1) & 0xffff
        db ((%1) >> 16) & 0xff, %3, 0, ((%1) >> 24) & 0xff
%endmacro
%assign case_number 0
%macro CASE 1
        section .data
%%name: db ">", %1, 0
        section .cases
        dq %%name, case_ %+ case_number
        section .text
        bits 64
case_ %+ case_number:
%assign case_number case_number + 1
%endmacro
%macro END 0
        int 0x30
%endmacro
%macro RECOVER 1
        mov qword [recover], %1
%endmacro
%macro FOLLOW 0
        mov byte [follow], 1
%endmacro
%macro SETDESC 3
        mov dword [gdt + ((%1) & 0xfff8)], %2
        mov dword [gdt + ((%1) & 0xfff8) + 4], %3
%endmacro
; SETGATE vector, selector, offset, type byte, IST
%macro SETGATE 4-5 0
        mov rax, %3
        mov [idt + 16 * (%1)], ax
        mov word [idt + 16 * (%1) + 2], %2
        mov byte [idt + 16 * (%1) + 4], %5
        mov byte [idt + 16 * (%1) + 5], %4
        shr rax, 16
        mov [idt + 16 * (%1) + 6], ax
        shr rax, 16
        mov [idt + 16 * (%1) + 8], eax
        mov dword [idt + 16 * (%1) + 12], 0
%endmacro
; CALLGATE selector, target selector, offset, access byte
%macro CALLGATE 4
        mov rax, %3
        mov [gdt + ((%1) & 0xfff8)], ax
        mov word [gdt + ((%1) & 0xfff8) + 2], %2
        mov byte [gdt + ((%1) & 0xfff8) + 4], 0
        mov byte [gdt + ((%1) & 0xfff8) + 5], %4
        shr rax, 16
        mov [gdt + ((%1) & 0xfff8) + 6], ax
        shr rax, 16
        mov [gdt + ((%1) & 0xfff8) + 8], eax
        mov dword [gdt + ((%1) & 0xfff8) + 12], 0
%endmacro
%macro IRET_TO 3-4 2
        push qword DATA3
        push qword %2
        push qword %4
        push qword %1
        push qword %3
        iretq
%endmacro
%macro RING3 0-1 2
        IRET_TO CODE3, STACK3, %%outside, %1
%%outside:
%endmacro
; Compatibility mode in ring 3; the code that follows is 32-bit.
%macro COMPAT 0-1 2
        IRET_TO CODE32, STACK3, %%outside, %1
        bits 32
%%outside:
        mov ax, DATA3
        mov ds, ax
        mov es, ax
%endmacro
; Sets the low or high half of the entry of a 4-KiB page.
%macro PTE 2
        mov dword [TABLES + ((%1) >> 12) * 8], %2
%endmacro
%macro PTE_HIGH 2
        mov dword [TABLES + ((%1) >> 12) * 8 + 4], %2
%endmacro
%macro CR4_SET 1
        mov rax, cr4
        or eax, %1
        mov cr4, rax
%endmacro
%macro MSR 3
        mov ecx, %1
        mov eax, %2
        mov edx, %3
        wrmsr
%endmacro

        section .cases
first_case:
        section .text
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        dd header, BASE, 0, 0, entry

entry:  cli
        mov esp, STACK0
        lgdt [boot_gdt_pointer]
        mov al, 0xff                    ; no interrupts from devices
        out 0x21, al
        out 0xa1, al
        ; A number on the command line is the case to start with.
        mov dword [case_now], first_case
        test dword [ebx], 4
        jz .start
        mov esi, [ebx + 16]
        call parse_number
        jnc .start
        shl eax, 4
        add eax, first_case
        mov [case_now], eax
.start: mov edi, PML4
        mov ecx, 0x3000 / 4
        xor eax, eax
        rep stosd
        mov dword [PML4], POINTERS + 7
        mov dword [POINTERS], DIRECTORY + 7
        call make_tables
        mov eax, 0x20
        mov cr4, eax
        mov eax, PML4
        mov cr3, eax
        mov ecx, 0xc0000080
        mov eax, 0x901
        xor edx, edx
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
        jmp CODE0:next_case

; The 8 tables of the first 16 MiB; the code is the same in 32- and 64-bit mode.
make_tables:
        mov edi, TABLES
        mov eax, 7
.pte:   mov [edi], eax
        mov dword [edi + 4], 0
        add edi, 8
        add eax, 0x1000
        cmp eax, 0x1000007
        jb .pte
        mov edi, DIRECTORY
        mov eax, TABLES + 7
.table: mov [edi], eax
        mov dword [edi + 4], 0
        add edi, 8
        add eax, 0x1000
        cmp eax, TABLES + 0x8007
        jb .table
        ret

; The last word of a command line as a number in eax; CF is set when it is one.
parse_number:
        xor ecx, ecx
.word:  mov edi, esi
.char:  lodsb
        cmp al, 0
        je .end
        cmp al, ' '
        jne .char
        jmp .word
.end:   mov esi, edi
        xor eax, eax
        xor edx, edx
.digit: mov dl, [esi]
        inc esi
        test dl, dl
        jz .done
        sub dl, '0'
        cmp dl, 9
        ja .none
        imul eax, 10
        add eax, edx
        inc ecx
        jmp .digit
.done:  test ecx, ecx
        jz .none
        stc
        ret
.none:  clc
        ret

; ---- Between cases -----------------------------------------------------------------------------------------

        bits 64
next_case:
        cli
        cld
        mov rsp, STACK0
        mov eax, 0x80000011
        mov cr0, rax
        ; The top tables first, so that the others can be written whatever a case did to them.
        mov eax, 0x20
        mov cr4, rax
        mov eax, PML4
        mov cr3, rax
        mov edi, PML4
        mov ecx, 0x3000 / 4
        xor eax, eax
        mov dword [PML4], POINTERS + 7
        mov dword [POINTERS], DIRECTORY + 7
        lea rdi, [PML4 + 8]
        mov ecx, 0xff8 / 4
        rep stosd
        lea rdi, [POINTERS + 8]
        mov ecx, 0xff8 / 4
        rep stosd
        call make_tables
        mov eax, 0xa0
        mov cr4, rax                    ; PGE on and off: nothing survives
        mov eax, 0x20
        mov cr4, rax
        xor eax, eax
        mov cr2, rax
        mov cr8, rax
        mov dr7, rax
        mov dr0, rax
        mov dr1, rax
        mov dr2, rax
        mov dr3, rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        push 2
        popfq
        MSR 0xc0000080, 0xd01, 0        ; NXE, LMA, LME, SCE
        MSR 0xc0000081, 0, 0x00180008   ; STAR
        MSR 0xc0000082, end_of_syscall, 0
        MSR 0xc0000083, end_of_syscall, 0
        MSR 0xc0000084, 0, 0
        MSR 0x174, 0, 0
        mov edi, gdt
        mov ecx, 0x3000 / 4
        xor eax, eax
        rep stosd
        mov esi, gdt_image
        mov edi, gdt
        mov ecx, gdt_image_size / 4
        rep movsd
        mov dword [tss_main + 4], STACK_INNER
        mov dword [tss_main + 0x24], STACK_DF
        mov dword [tss_main + 0x2c], STACK_IST
        mov word [tss_main + 0x66], 0x68
        mov byte [tss_main + 0x68 + 0x100], 0xff
        mov edi, idt
        mov ebx, stubs
        xor ecx, ecx
.gate:  mov eax, ebx
        mov [rdi], ax
        mov word [rdi + 2], CODE0
        mov word [rdi + 4], 0x8e00
        shr eax, 16
        mov [rdi + 6], ax
        mov qword [rdi + 8], 0
        add ebx, STUB
        add rdi, 16
        inc ecx
        cmp ecx, 64
        jb .gate
        mov byte [idt + 16 * 0x30 + 5], 0xee
        mov byte [idt + 16 * 3 + 5], 0xee
        mov byte [idt + 16 * 8 + 4], 1
        mov edi, FREE
        mov ecx, FREE_PAGES * 0x1000 / 4
        xor eax, eax
        rep stosd
        mov edi, STACK3 - 0x100
        mov ecx, 0x200 / 4
        rep stosd
        mov edi, STACK_INNER - 0x200
        mov ecx, 0x400 / 4
        rep stosd
        mov [recover], rax
        mov [follow], al
        mov [events], eax
        mov dword [show_rf], 0x10000
        lidt [idt_pointer]
        lgdt [gdt_pointer]
        xor eax, eax
        lldt ax
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        MSR 0xc0000100, 0, 0
        MSR 0xc0000101, 0, 0
        MSR 0xc0000102, 0, 0
        mov eax, DATA0
        mov ss, ax
        mov eax, TSS0
        ltr ax
        fninit
        mov rbx, [case_now]
        cmp rbx, cases_end
        jae finish
        mov esi, [rbx]
        call print
        add qword [case_now], 16
        mov rax, [rbx + 8]
        mov [case_code], rax
        push CODE0
        push .here
        retfq
.here:  mov rax, 0x1111111122222222
        mov rcx, 0x2222222233333333
        mov rdx, 0x3333333344444444
        mov rbx, 0x4444444455555555
        mov rbp, 0x5555555566666666
        mov rsi, 0x6666666677777777
        mov rdi, 0x7777777788888888
        xor r8, r8
        mov r9, 9
        xor r10, r10
        xor r11, r11
        xor r12, r12
        xor r13, r13
        xor r14, r14
        xor r15, r15
        push 2
        popfq
        jmp [case_code]

; What SYSCALL leads to unless a case wants something else.
end_of_syscall:
        END

finish: mov al, 0
        out PORT_EXIT, al
.stay:  cli
        hlt
        jmp .stay

; ---- Reports -----------------------------------------------------------------------------------------------

print:  push rax
.next:  lodsb
        test al, al
        jz .done
        out PORT, al
        jmp .next
.done:  pop rax
        ret

; The low ecx hexadecimal digits of rax, after a blank.
hex:    mov rdx, rax
        mov al, ' '
        out PORT, al
        mov ebx, ecx
        neg ecx
        add ecx, 16
        shl ecx, 2
        shl rdx, cl
        mov ecx, ebx
.digit: rol rdx, 4
        mov al, dl
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe .put
        add al, 'a' - '0' - 10
.put:   out PORT, al
        loop .digit
        ret
%macro SAY 1
        section .data
%%text: db %1, 0
        section .text
        mov esi, %%text
        call print
%endmacro
%macro HEX 2
        mov rax, %1
        mov ecx, %2
        call hex
%endmacro

STUB    equ 16
        align 16
stubs:
%assign v 0
%rep 64
        align STUB
%if v = 8 || (v >= 10 && v <= 14) || v = 17
%else
        push 0
%endif
        push v
        jmp strict near common_event
%assign v v + 1
%endrep

common_event:
        cld
        push rax
        push rcx
        push rdx
        push rbx
        push rbp
        push rsi
        push rdi
        push r8
        push r9
        push r10
        push r11
        push r12
        mov rbp, rsp
        ; r12 .. rax: 0 .. 88, vector 96, error 104, rip 112, cs 120, flags 128, rsp 136, ss 144
        SAY " |"
        HEX [rbp + 96], 2
        HEX [rbp + 104], 4
        mov rax, cr2
        HEX rax, 16
        HEX [rbp + 120], 4
        HEX [rbp + 112], 16
        mov eax, [rbp + 128]
        or eax, [show_rf]
        sub eax, [show_rf]
        HEX rax, 6
        SAY " ss"
        HEX [rbp + 144], 4
        HEX [rbp + 136], 16
        lea rax, [rbp + 96]
        HEX rax, 8
        SAY " seg"
        mov eax, ds
        HEX rax, 4
        mov eax, es
        HEX rax, 4
        mov eax, fs
        HEX rax, 4
        mov eax, gs
        HEX rax, 4
        SAY " reg"
%assign at 88
%rep 7
        HEX [rbp + at], 16
%assign at at - 8
%endrep
        SAY " r8"
%rep 5
        HEX [rbp + at], 16
%assign at at - 8
%endrep
        cmp dword [rbp + 96], 1
        jne .plain
        SAY " dr6"
        mov rax, dr6
        HEX rax, 4
        mov eax, 0xffff0ff0
        mov dr6, rax
.plain: SAY 10
        inc dword [events]
        cmp dword [events], 40
        ja next_case
        mov rax, [recover]
        test rax, rax
        jz .no_recovery
        mov [rbp + 112], rax
        mov qword [recover], 0
        jmp .back
.no_recovery:
        cmp byte [follow], 0
        je next_case
        mov eax, [rbp + 96]
        cmp eax, 1
        je .back
        cmp eax, 3
        jne next_case
.back:  pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rdi
        pop rsi
        pop rbp
        pop rbx
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq

; ---- Data --------------------------------------------------------------------------------------------------

        section .data
        align 8
gdt_image:
        dq 0
        dq 0x00af9a000000ffff           ; CODE0
        dq 0x00cf92000000ffff           ; DATA0
        dq 0x00cffa000000ffff           ; CODE32
        dq 0x00cff2000000ffff           ; DATA3
        dq 0x00affa000000ffff           ; CODE3
        dq 0x00cf9a000000ffff           ; CODE32K
        DESC tss_main, TSS_LIMIT, 0x89
        dq 0
        DESC ldt, 0xff, 0x82
        dq 0
        dq 0x0000fa000000ffff           ; CODE16
gdt_image_size equ $ - gdt_image
        align 4
boot_gdt_pointer: dw gdt_image_size - 1
        dd gdt_image
gdt_pointer: dw gdt_bytes - 1
        dq gdt
idt_pointer: dw 64 * 16 - 1
        dq idt
        align 8
case_now: dq 0
case_code: dq 0
recover: dq 0
events: dd 0
; RF is left out of reports when this is its bit; QEMU does not set it in the image that faults push.
show_rf: dd 0x10000
follow: db 0
        section .text
        bits 64
