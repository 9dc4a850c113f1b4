; The runner of 32-bit cases: each case starts from the same state, and every interrupt or exception that it takes
; is a line on port 0xe9. A multiboot image, flat, at 1 MiB.
;
;   CASE "name"      the code that follows is a case; it starts in ring 0, 32-bit, paging off
;   END              ends it, from any ring (INT 30h)
;   RECOVER label    after the next event the case goes on at label, in the same ring
;   FOLLOW           traps (#DB, #BP, #OF) are reported, and the case goes on after them

BASE            equ 0x100000
PORT            equ 0xe9
PORT_EXIT       equ 0xf4
LOW             equ 0x8000          ; where code for real and virtual-8086 mode stands
LOW_STACK       equ 0x7000
PAGE_DIRECTORY  equ 0x200000        ; then the tables of the first 8 MiB
PAGE_TABLE      equ 0x201000
PDPT            equ 0x204000        ; PAE: the pointers, four directories, and tables of 8 MiB
PAE_DIRECTORY   equ 0x205000
PAE_TABLE       equ 0x206000
FREE            equ 0x300000        ; pages that cases may use
STACK0          equ 0x2f0000
STACK3          equ 0x2f8000
STACK_DF        equ 0x2e8000
STACK_INNER     equ 0x2e0000        ; where interrupts from outer rings go

CODE0   equ 0x08
DATA0   equ 0x10
CODE3   equ 0x1b
DATA3   equ 0x23
TSS0    equ 0x28
TSSDF   equ 0x30
TSS2    equ 0x38
LDT0    equ 0x40
CODE16  equ 0x48
DATA16  equ 0x50
CODE1   equ 0x59
DATA1   equ 0x61
SPARE   equ 0x68                    ; SPARE .. SPARE + 0xf8: for cases

        bits 32
        section .text start=BASE vstart=BASE
        section .cases follows=.text vfollows=.text align=16 valign=16
        section .data follows=.cases vfollows=.cases align=16 valign=16
        section .low follows=.data vstart=LOW align=16

gdt             equ 0x280000
gdt_bytes       equ 0x200
ldt             equ 0x280400
idt             equ 0x280800
tss_main        equ 0x281000
TSS_LIMIT       equ 0x67 + 0x101    ; a permission map of 0x800 ports
tss_df          equ 0x282000
tss_two         equ 0x282100

%macro DESC 3
        dw %2, (%1) & 0xffff
        db ((%1) >> 16) & 0xff, %3, 0, ((%1) >> 24) & 0xff
%endmacro

        section .cases
first_case:
        section .text
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        dd header, BASE, 0, 0, entry

%assign case_number 0
%macro CASE 1
        section .data
%%name: db ">", %1, 0
        section .cases
        dd %%name, case_ %+ case_number
        section .text
case_ %+ case_number:
%assign case_number case_number + 1
%endmacro
%macro END 0
        int 0x30
%endmacro
%macro RECOVER 1
        mov dword [recover], %1
%endmacro
%macro FOLLOW 0
        mov dword [follow], 1
%endmacro
; SETDESC selector, low, high: puts a descriptor in the GDT.
%macro SETDESC 3
        mov dword [gdt + ((%1) & 0xfff8)], %2
        mov dword [gdt + ((%1) & 0xfff8) + 4], %3
%endmacro
%macro SETLDT 3
        mov dword [ldt + ((%1) & 0xfff8)], %2
        mov dword [ldt + ((%1) & 0xfff8) + 4], %3
%endmacro
; SETGATE vector, selector, offset, type byte
%macro SETGATE 4
        mov eax, %3
        mov [idt + 8 * (%1)], ax
        mov word [idt + 8 * (%1) + 2], %2
        mov byte [idt + 8 * (%1) + 4], 0
        mov byte [idt + 8 * (%1) + 5], %4
        shr eax, 16
        mov [idt + 8 * (%1) + 6], ax
%endmacro
; CALLGATE selector, target selector, offset, access byte (0xec: 32-bit, DPL 3), parameters
%macro CALLGATE 5
        mov eax, %3
        mov [gdt + ((%1) & 0xfff8)], ax
        mov word [gdt + ((%1) & 0xfff8) + 2], %2
        mov byte [gdt + ((%1) & 0xfff8) + 4], %5
        mov byte [gdt + ((%1) & 0xfff8) + 5], %4
        shr eax, 16
        mov [gdt + ((%1) & 0xfff8) + 6], ax
%endmacro
; Goes on at the next line in ring 3, with the flags given.
%macro RING3 0-1 2
        push dword DATA3
        push dword STACK3
        push dword %1
        push dword CODE3
        push dword %%outside
        mov ax, DATA3
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        iretd
%%outside:
%endmacro
; Paging with 4-KiB pages over the first 8 MiB, all user and writable; extra bits for CR0 (WP).
%macro PAGING 0-1 0
        mov eax, PAGE_DIRECTORY
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000 | (%1)
        mov cr0, eax
%endmacro
%macro PAE_PAGING 0-1 0
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        mov eax, PDPT
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000 | (%1)
        mov cr0, eax
%endmacro
; PTE address, value: the entry of a 4-KiB page.
%macro PTE 2
        mov dword [PAGE_TABLE + ((%1) >> 12) * 4], %2
%endmacro

entry:  cli
        mov esp, STACK0
        lgdt [boot_gdt_pointer]
        jmp CODE0:.flat
.flat:  mov ax, DATA0
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov dword [case_now], first_case
        mov al, 0xff                    ; no interrupts from devices
        out 0x21, al
        out 0xa1, al
        ; A number on the command line is the case to start with.
        test dword [ebx], 4
        jz next_case
        mov esi, [ebx + 16]
        call parse_number
        jnc next_case
        lea eax, [first_case + 8 * eax]
        mov [case_now], eax
        jmp next_case

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

next_case:
        cli
        cld
        mov esp, STACK0
        mov eax, 0x11
        mov cr0, eax
        xor eax, eax
        mov cr4, eax
        mov cr3, eax
        mov cr2, eax
        mov dr7, eax
        mov dr0, eax
        mov dr1, eax
        mov dr2, eax
        mov dr3, eax
        mov eax, 0xffff0ff0
        mov dr6, eax
        push dword 2
        popfd
        mov ecx, 0xc0000080
        xor eax, eax
        xor edx, edx
        wrmsr
        ; Tables from their images.
        mov edi, gdt
        mov ecx, 0x3000 / 4
        xor eax, eax
        rep stosd
        mov esi, gdt_image
        mov edi, gdt
        mov ecx, gdt_image_size / 4
        rep movsd
        mov dword [tss_main + 4], STACK_INNER
        mov dword [tss_main + 8], DATA0
        mov dword [tss_main + 12], STACK_INNER - 0x1000
        mov dword [tss_main + 16], DATA1
        mov word [tss_main + 0x66], 0x68
        mov byte [tss_main + 0x68 + 0x100], 0xff
        mov edi, tss_df
        mov eax, double_fault
        mov edx, STACK_DF
        call make_task
        mov edi, idt
        mov ebx, stubs
        xor ecx, ecx
.gate:  mov eax, ebx
        mov [edi], ax
        mov word [edi + 2], CODE0
        mov word [edi + 4], 0x8e00
        shr eax, 16
        mov [edi + 6], ax
        add ebx, STUB
        add edi, 8
        inc ecx
        cmp ecx, 64
        jb .gate
        mov byte [idt + 8 * 0x30 + 5], 0xee
        mov byte [idt + 8 * 3 + 5], 0xee
        mov byte [idt + 8 * 4 + 5], 0xee
        mov byte [idt + 8 * 5 + 5], 0xee
        mov dword [idt + 8 * 8], TSSDF << 16
        mov dword [idt + 8 * 8 + 4], 0x8500
        ; Real mode's table and code.
        xor edi, edi
        xor ecx, ecx
.vector: mov eax, ecx
        shl eax, 4
        add eax, real_stubs
        mov [edi], ax
        mov word [edi + 2], 0
        add edi, 4
        inc ecx
        cmp ecx, 64
        jb .vector
        mov esi, section..low.start
        mov edi, LOW
        mov ecx, low_size
        rep movsb
        mov edi, 0x6000
        mov ecx, 0x400
        xor eax, eax
        rep stosd
        ; Page tables.
        mov edi, PAGE_TABLE
        mov eax, 7
.pte:   stosd
        add eax, 0x1000
        cmp eax, 0x800007
        jb .pte
        mov edi, PAGE_DIRECTORY
        xor eax, eax
        mov ecx, 1024
        rep stosd
        mov dword [PAGE_DIRECTORY], PAGE_TABLE + 7
        mov dword [PAGE_DIRECTORY + 4], PAGE_TABLE + 0x1007
        mov edi, PDPT
        mov ecx, 0x2000 / 4
        rep stosd
        mov dword [PDPT], PAE_DIRECTORY + 1
        mov dword [PAE_DIRECTORY], PAE_TABLE + 7
        mov dword [PAE_DIRECTORY + 8], PAE_TABLE + 0x1007
        mov dword [PAE_DIRECTORY + 16], PAE_TABLE + 0x2007
        mov dword [PAE_DIRECTORY + 24], PAE_TABLE + 0x3007
        mov edi, PAE_TABLE
        mov eax, 7
.pae:   mov [edi], eax
        mov dword [edi + 4], 0
        add edi, 8
        add eax, 0x1000
        cmp eax, 0x800007
        jb .pae
        mov edi, FREE
        mov ecx, 0x8000 / 4
        xor eax, eax
        rep stosd
        mov edi, STACK3 - 0x100
        mov ecx, 0x200 / 4
        rep stosd
        mov edi, STACK_INNER - 0x200
        mov ecx, 0x400 / 4
        rep stosd
        mov [recover], eax
        mov [follow], eax
        mov [events], eax
        mov dword [show_rf], 0x10000
        lidt [idt_pointer]
        lgdt [gdt_pointer]
        xor eax, eax
        lldt ax
        jmp CODE0:.flat
.flat:  mov ax, TSS0
        ltr ax
        mov ax, DATA0
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        fninit
        mov ebx, [case_now]
        cmp ebx, cases_end
        jae finish
        mov esi, [ebx]
        call print
        add dword [case_now], 8
        mov eax, [ebx + 4]
        mov [case_code], eax
        mov eax, 0x11223344
        mov ecx, 0x22334455
        mov edx, 0x33445566
        mov ebx, 0x44556677
        mov ebp, 0x66778899
        mov esi, 0x778899aa
        mov edi, 0x8899aabb
        mov esp, STACK0
        push dword 2
        popfd
        jmp [case_code]

; A task's segment at edi: flat ring 0, eax the entry, edx the stack.
make_task:
        mov dword [edi + 0x1c], PAGE_DIRECTORY
        mov [edi + 0x20], eax
        mov dword [edi + 0x24], 2
        mov [edi + 0x38], edx
        mov dword [edi + 0x48], DATA0
        mov dword [edi + 0x4c], CODE0
        mov dword [edi + 0x50], DATA0
        mov dword [edi + 0x54], DATA0
        mov dword [edi + 0x58], DATA0
        mov dword [edi + 0x5c], DATA0
        mov word [edi + 0x66], 0x68
        ret

finish: mov al, 0
        out PORT_EXIT, al
.stay:  cli
        hlt
        jmp .stay

; ---- Reports -----------------------------------------------------------------------------------------------

print:  push eax
.next:  lodsb
        test al, al
        jz .done
        out PORT, al
        jmp .next
.done:  pop eax
        ret

; The low ecx hexadecimal digits of eax, after a blank.
hex:    push ecx
        push eax
        push edx
        mov edx, eax
        mov al, ' '
        out PORT, al
        push ecx
        neg ecx
        add ecx, 8
        shl ecx, 2
        shl edx, cl
        pop ecx
.digit: rol edx, 4
        mov al, dl
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe .put
        add al, 'a' - '0' - 10
.put:   out PORT, al
        loop .digit
        pop edx
        pop eax
        pop ecx
        ret
%macro SAY 1
        section .data
%%text: db %1, 0
        section .text
        mov esi, %%text
        call print
%endmacro
%macro HEX 2
        mov eax, %1
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
        push dword 0
%endif
        push dword v
        jmp strict near common_event
%assign v v + 1
%endrep

common_event: pushad
        push ds
        push es
        push fs
        push gs
        mov ax, DATA0
        mov ds, ax
        mov es, ax
        cld
        mov ebp, esp
        mov ax, ss
        lar eax, ax
        test eax, 0x400000
        jnz .wide
        movzx ebp, bp
.wide:
        ; gs fs es ds edi esi ebp esp ebx edx ecx eax vector error eip cs eflags esp ss
        SAY " |"
        HEX [ebp + 48], 2
        HEX [ebp + 52], 4
        mov eax, cr2
        mov ecx, 8
        call hex
        HEX [ebp + 60], 4
        HEX [ebp + 56], 8
        mov eax, [ebp + 64]
        or eax, [show_rf]
        sub eax, [show_rf]
        HEX eax, 6
        test dword [ebp + 64], 0x20000
        jnz .outer
        test byte [ebp + 60], 3
        jnz .outer
        SAY " in"
        mov ax, ss
        HEX eax, 4
        lea eax, [ebp + 68]
        HEX eax, 8
        jmp .same
.outer: SAY " ss"
        HEX [ebp + 72], 4
        HEX [ebp + 68], 8
        test dword [ebp + 64], 0x20000
        jz .same
        SAY " v86"
        HEX [ebp + 76], 4
        HEX [ebp + 80], 4
        HEX [ebp + 84], 4
        HEX [ebp + 88], 4
.same:  SAY " seg"
        HEX [ebp + 12], 4
        HEX [ebp + 8], 4
        HEX [ebp + 4], 4
        HEX [ebp], 4
        SAY " reg"
        HEX [ebp + 44], 8
        HEX [ebp + 40], 8
        HEX [ebp + 36], 8
        HEX [ebp + 32], 8
        HEX [ebp + 24], 8
        HEX [ebp + 20], 8
        HEX [ebp + 16], 8
        cmp dword [ebp + 48], 1
        jne .plain
        SAY " dr6"
        mov eax, dr6
        mov ecx, 4
        call hex
        mov eax, 0xffff0ff0
        mov dr6, eax
.plain: SAY 10
        inc dword [events]
        cmp dword [events], 40
        ja next_case
        mov eax, [recover]
        test eax, eax
        jz .no_recovery
        mov [ebp + 56], eax
        mov dword [recover], 0
        jmp .back
.no_recovery:
        cmp dword [follow], 0
        je next_case
        mov eax, [ebp + 48]
        cmp eax, 1
        je .back
        cmp eax, 3
        je .back
        cmp eax, 4
        je .back
        jmp next_case
.back:  pop gs
        pop fs
        pop es
        pop ds
        popad
        add esp, 8
        iretd

; The double-fault task.
double_fault:
        SAY " | DF"
        HEX [esp], 4
        mov eax, cr2
        mov ecx, 8
        call hex
        HEX [tss_df], 4
        HEX [tss_main + 0x4c], 4
        HEX [tss_main + 0x20], 8
        mov eax, [tss_main + 0x24]
        and eax, ~0x10000
        HEX eax, 6
        HEX [tss_main + 0x50], 4
        HEX [tss_main + 0x38], 8
        SAY 10
        jmp next_case

; An event in real mode.
real_event:
        mov ax, DATA0
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, STACK0
        cld
        SAY " | real"
        HEX [real_vector], 2
        movzx ebp, word [real_sp]
        movzx eax, word [real_ss]
        shl eax, 4
        add ebp, eax
        HEX [ebp + 2], 4
        HEX [ebp], 4
        HEX [ebp + 4], 4
        HEX [real_ss], 4
        HEX [real_esp], 8
        HEX [real_ds], 4
        HEX [real_es], 4
        SAY " reg"
        HEX [real_eax], 8
        HEX [real_ecx], 8
        HEX [real_edx], 8
        HEX [real_ebx], 8
        HEX [real_ebp], 8
        HEX [real_esi], 8
        HEX [real_edi], 8
        SAY 10
        jmp next_case

; ---- Data --------------------------------------------------------------------------------------------------

        section .data
        align 8
gdt_image:
        dq 0
        dq 0x00cf9a000000ffff           ; CODE0
        dq 0x00cf92000000ffff           ; DATA0
        dq 0x00cffa000000ffff           ; CODE3
        dq 0x00cff2000000ffff           ; DATA3
        DESC tss_main, TSS_LIMIT, 0x89
        DESC tss_df, 0x67, 0x89
        DESC tss_two, 0x67, 0x89
        DESC ldt, 0xff, 0x82
        dq 0x00009a000000ffff           ; CODE16
        dq 0x000092000000ffff           ; DATA16
        dq 0x00cfba000000ffff           ; CODE1
        dq 0x00cfb2000000ffff           ; DATA1
gdt_image_size equ $ - gdt_image
        align 4
boot_gdt_pointer: dw gdt_image_size - 1
        dd gdt_image
gdt_pointer: dw gdt_bytes - 1
        dd gdt
idt_pointer: dw 64 * 8 - 1
        dd idt
real_idt_pointer: dw 0x3ff
        dd 0
case_now: dd 0
case_code: dd 0
recover: dd 0
follow: dd 0
; RF is left out of reports when this is its bit; QEMU does not set it in the image that faults push.
show_rf: dd 0x10000
events: dd 0
        section .low
low_begin:
; Events in real mode: registers are saved, and protected mode reports.
real_stubs:
%assign v 0
%rep 64
        bits 16
        align 16
        mov byte [cs:real_vector], v
        jmp strict near real_common
%assign v v + 1
%endrep
real_common:
        mov [cs:real_eax], eax
        mov [cs:real_ecx], ecx
        mov [cs:real_edx], edx
        mov [cs:real_ebx], ebx
        mov [cs:real_esp], esp
        mov [cs:real_ebp], ebp
        mov [cs:real_esi], esi
        mov [cs:real_edi], edi
        mov [cs:real_ds], ds
        mov [cs:real_es], es
        mov [cs:real_ss], ss
        mov ax, [cs:real_esp]
        mov [cs:real_sp], ax
        o32 lgdt [cs:real_gdt_pointer]
        o32 lidt [cs:real_pm_idt]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword CODE0:real_event
        align 4
real_gdt_pointer: dw gdt_bytes - 1
        dd gdt
real_pm_idt: dw 64 * 8 - 1
        dd idt
real_vector: dd 0
real_eax: dd 0
real_ecx: dd 0
real_edx: dd 0
real_ebx: dd 0
real_esp: dd 0
real_ebp: dd 0
real_esi: dd 0
real_edi: dd 0
real_ds: dw 0
real_es: dw 0
real_ss: dw 0
real_sp: dw 0
; To real mode: jumped to through CODE16; bx is the address to go on at.
to_real:
        mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0:.real
.real:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov esp, LOW_STACK
        push dword 2
        popfd
        jmp bx
        bits 32
        section .text
