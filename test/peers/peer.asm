; A guest that tries what a PC emulator makes of NVMM: run on QEMU it is our library that is tested, by devices,
; memory maps and a run loop that are not ours. Every check is a line on the first serial port, "ok NAME" or
; "FAILED NAME: got ..., wanted ..."; port 0xf4 (isa-debug-exit) ends it. It boots through a PVH note or as a
; multiboot kernel, at 1 MiB, and wants 32 MiB of RAM.
;
; Build: nasm -f bin. Routines keep all registers but rax, rcx, rdx, rsi, rdi.

LOAD            equ 0x100000
BSS             equ 0x200000            ; page tables and the rest; not in the file
pml4            equ BSS                 ; four levels: 5 GiB one to one, in 2-MiB pages that ring 3 may use
pdpt            equ BSS + 0x1000
directories     equ BSS + 0x2000        ; five
idt             equ BSS + 0x8000
buffer          equ BSS + 0x9000
stack_top       equ BSS + 0x20000
stack_interrupt equ BSS + 0x28000       ; from ring 3
stack_second    equ BSS + 0x2c000       ; of the second processor
stack_user      equ BSS + 0x30000
TRAMPOLINE      equ 0x8000              ; where the other processors start, in real mode
arrived         equ 0x8f00              ; how many have
ROUNDS          equ 500
HIGH_MEMORY     equ 0x100100000         ; RAM there, if the machine has more than fits below 4 GiB

CODE            equ 0x08
DATA            equ 0x10
USER_DATA       equ 0x1b
USER_CODE       equ 0x23
TASK            equ 0x28

UART            equ 0x3f8               ; 16550A
PIC1            equ 0x20                ; 8259A
PIT             equ 0x40                ; 8254
EXIT            equ 0xf4
PCI_ADDRESS     equ 0xcf8
PCI_DATA        equ 0xcfc
LAPIC           equ 0xfee00000          ; always in r15; its registers:
VERSION         equ 0x30
TPR             equ 0x80
EOI             equ 0xb0
SVR             equ 0xf0
ICR             equ 0x300
ICR_HIGH        equ 0x310
LVT_TIMER       equ 0x320
LVT_LINT0       equ 0x350
COUNT           equ 0x380
DIVIDE          equ 0x3e0
IOAPIC          equ 0xfec00000
NOWHERE         equ 0xfed80000          ; no device, no RAM

VECTOR_PIT      equ 0x20
VECTOR_TIMER    equ 0x40
VECTOR_IPI      equ 0x41
VECTOR_PING     equ 0x42

                bits 32
                org LOAD
; ---------------------------------------------------------------- the file
base:           db 0x7f, 'ELF', 1, 1, 1, 0                      ; 32-bit, little-endian
                dq 0
                dw 2, 3                                         ; executable, i386
                dd 1, start, program_headers - base, 0, 0
                dw 52, 32, 2, 0, 0, 0
program_headers:
                dd 1, 0, LOAD, LOAD, file_end - base, stack_user - LOAD, 7, 4096        ; PT_LOAD
                dd 4, note - base, note, note, note_end - note, note_end - note, 4, 4   ; PT_NOTE
                align 4
                dd 0x1badb002, 0, 0 - 0x1badb002                ; multiboot: magic, flags, checksum
note:           dd 4, 4, 18                                     ; XEN_ELFNOTE_PHYS32_ENTRY
                db 'Xen', 0
                dd start
note_end:

; ---------------------------------------------------------------- into long mode
start:          cli
                cld
                mov esp, stack_top
                mov edi, BSS
                mov ecx, 0x9000 / 4
                xor eax, eax
                rep stosd
                mov dword [pml4], pdpt + 7                      ; present, writable, user
                mov edi, pdpt
                mov eax, directories + 7
.pointer:       mov [edi], eax
                add edi, 8
                add eax, 4096
                cmp edi, pdpt + 5 * 8
                jne .pointer
                mov edi, directories
                mov eax, 0x87                                   ; the same, 2 MiB
                xor edx, edx
.page:          mov [edi], eax
                mov [edi + 4], edx
                add edi, 8
                add eax, 0x200000
                adc edx, 0
                cmp edi, directories + 5 * 4096
                jne .page
                lgdt [gdt_pointer]
                mov eax, cr4
                or eax, 0x620                                   ; PAE, OSFXSR, OSXMMEXCPT
                mov cr4, eax
                mov eax, pml4
                mov cr3, eax
                mov ecx, 0xc0000080                             ; EFER
                rdmsr
                or eax, 0x100                                   ; LME
                wrmsr
                mov eax, cr0
                and eax, ~4                                     ; EM
                or eax, 0x80010003                              ; PG, WP, MP, PE
                mov cr0, eax
                jmp CODE:start64

                bits 64
; CHECK NAME, WANTED: compares rax, and prints a line. The texts of both macros follow the call.
%macro CHECK 2
                mov rdi, %2
                call check
                db %1, 0
%endmacro
%macro SAY 1
                call say
                db %1, 0
%endmacro
; GATE VECTOR, HANDLER
%macro GATE 2
                mov rdi, idt + 16 * (%1)
                mov rax, %2
                call set_gate
%endmacro

start64:        mov eax, DATA
                mov ds, eax
                mov es, eax
                mov ss, eax
                mov rsp, stack_top
                mov r15d, LAPIC
                lidt [idt_pointer]
                mov eax, TASK
                ltr ax
                SAY {"peer: in long mode", 13, 10}
                call interrupts
                call features
                call ports
                call device_memory
                call mapped_memory
                call local_interrupts
                call sleep
                call ring3
                call processors
                mov al, 0x10                                    ; QEMU's exit code is 2n + 1
                cmp dword [failures], 0
                je .end
                mov al, 0x20
.end:           push rax
                SAY {"peer: done", 13, 10}
                pop rax
                out EXIT, al
.halt:          cli
                hlt
                jmp .halt

; ---------------------------------------------------------------- what the processor says of itself
features:       mov eax, 0x40000000
                cpuid
                mov eax, ebx
                CHECK "CPUID: signature, first part", '___ '
                mov eax, 0x40000000
                cpuid
                mov eax, ecx
                CHECK "CPUID: signature, second part", 'NVMM'
                mov eax, 1
                cpuid
                mov eax, edx
                and eax, 0x5080                                 ; MCE, MTRR, MCA: QEMU adds them
                CHECK "CPUID: what the emulator adds", 0x5080
                mov ecx, 0x1b                                   ; APIC_BASE: an exit
                rdmsr
                wrmsr
                rdmsr
                shl rdx, 32
                or rax, rdx
                CHECK "RDMSR APIC_BASE", LAPIC + 0x900
                rdtsc
                mov ebx, eax
                mov r9d, edx
                rdtsc
                shl rdx, 32
                or rax, rdx
                shl r9, 32
                or rbx, r9
                sub rax, rbx
                mov ecx, 0
                setg cl
                mov eax, ecx
                CHECK "the time stamp counter moves on", 1
                ret

; ---------------------------------------------------------------- ports
ports:          mov edx, UART + 7                               ; scratch register
                mov al, 0x5a
                out dx, al
                xor eax, eax
                in al, dx
                CHECK "IN, OUT", 0x5a
                mov rdi, buffer
                mov qword [rdi], 0
                mov ecx, 5
                rep insb
                mov rax, [buffer]
                CHECK "REP INSB: the bytes", qword 0x5a5a5a5a5a
                mov rdi, buffer + 8
                mov ecx, 3
                std
                rep insb
                cld
                lea rax, [rdi + rcx]
                CHECK "REP INSB downwards: RDI, RCX", buffer + 5
                mov rsi, ports_text
                mov ecx, ports_text_end - ports_text
                mov edx, UART
                rep outsb
                lea rax, [rsi + rcx]
                CHECK "REP OUTSB: RSI, RCX", ports_text_end
                mov rsi, ports_word
                mov edx, UART + 7
                outsb
                outsb
                xor eax, eax
                in al, dx
                CHECK "OUTSB", 0xa5
                mov al, 0xff
                out PIC1 + 1, al
                in al, PIC1 + 1
                movzx eax, al
                CHECK "IN imm, OUT imm", 0xff
                ret

; ---------------------------------------------------------------- devices in memory
device_memory:  mov eax, [r15 + VERSION]
                and eax, 0xff
                mov ecx, 0
                cmp eax, 0x10
                setge cl
                mov eax, ecx
                CHECK "a load from the local APIC", 1
                lea rbx, [r15 + TPR]
                mov dword [rbx], 0x10
                mov eax, [rbx]
                CHECK "a store of an immediate", 0x10
                or dword [rbx], 1
                add dword [rbx], 0x20
                inc dword [rbx]
                xor byte [rbx], 0                               ; QEMU ignores bytes here
                sub dword [rbx], -1
                mov eax, 0x77
                xchg eax, [rbx]
                CHECK "OR, ADD, INC, SUB, XCHG", 0x33
                and dword [rbx], -8                             ; sign-extended
                mov eax, [rbx]
                CHECK "AND with a negative immediate", 0x70
                cmp dword [rbx], 0x70
                sete al
                movzx eax, al
                CHECK "CMP", 1
                mov eax, 0x70
                mov ecx, 0x22
                lock cmpxchg [rbx], ecx
                mov eax, [rbx]
                CHECK "LOCK CMPXCHG", 0x22
                mov rax, cr8
                CHECK "CR8 is what the local APIC holds", 2
                mov eax, 5
                mov cr8, rax
                mov eax, [rbx]
                CHECK "the local APIC holds what CR8 is", 0x50
                xor eax, eax
                mov cr8, rax
                mov rsi, rbx
                mov rdi, buffer
                mov dword [rdi], -1
                movsd
                mov eax, [buffer]
                CHECK "MOVSD from a device", 0
                mov dword [buffer], 0x60
                mov rsi, buffer
                mov rdi, rbx
                movsd
                mov eax, [rbx]
                CHECK "MOVSD to a device", 0x60
                mov eax, 0x100
                add eax, [rbx]
                CHECK "ADD from a device", 0x160
                test dword [rbx], 0x20
                cmovnz eax, [rbx]
                CHECK "TEST and CMOV from a device", 0x60
                mov dword [rbx], 0
                mov rdi, NOWHERE
                mov ecx, 40
                mov eax, 0x12345678
                rep stosd
                lea rax, [rdi + rcx]
                CHECK "REP STOSD into nothing: RDI, RCX", NOWHERE + 160
                mov ebx, IOAPIC
                mov dword [rbx], 1
                mov eax, [rbx + 0x10]
                shr eax, 16
                CHECK "the I/O APIC's pins", 23
                ret

; ---------------------------------------------------------------- memory that is mapped piece by piece
mapped_memory:  mov eax, 0x80000000                             ; a PCI host, if there is one
                mov edx, PCI_ADDRESS
                out dx, eax
                in eax, dx
                cmp eax, 0x80000000
                jne .no_pci
                mov edx, PCI_DATA
                in eax, dx
                mov ebx, 0x5c                                   ; i440FX: PAM3
                cmp eax, 0x12378086
                je .shadow
                mov ebx, 0x93                                   ; Q35: PAM3
                cmp eax, 0x29c08086
                je .shadow
                SAY {"an unknown PCI host", 13, 10}
                jmp .high
.shadow:        mov ch, 0x33                                    ; D0000 to D3FFF, D4000 to D7FFF: RAM
                call set_pam
                mov dword [0xd0000], 0x11111111
                mov dword [0xd5000], 0x22222222
                mov ch, 0x30                                    ; the first half: what is on the bus
                call set_pam
                mov eax, [0xd0000]
                xor ecx, ecx
                cmp eax, 0x11111111
                setne cl
                mov eax, ecx
                CHECK "shadow RAM, one half switched off", 1
                mov eax, 0x44444444
                xchg [0xd5000], eax
                CHECK "shadow RAM, the other half", 0x22222222
                mov ch, 0x03
                call set_pam
                mov eax, [0xd0000]
                CHECK "shadow RAM, on again", 0x11111111
                mov eax, [0xd5000]
                xor ecx, ecx
                cmp eax, 0x44444444
                setne cl
                mov eax, ecx
                CHECK "shadow RAM, the other half off", 1
                mov ch, 0x33
                call set_pam
                mov eax, [0xd5000]
                CHECK "shadow RAM, the other half on again", 0x44444444
                mov ebx, 0xfffff000                             ; firmware
                mov ecx, [rbx]
                mov eax, ecx
                not eax
                mov [rbx], eax
                mov eax, [rbx]
                xor eax, ecx
                CHECK "a store to ROM", 0
                jmp .high
.no_pci:        mov eax, [0xff000]                              ; one ROM in two places
                mov [buffer], eax
                not eax
                mov [0xff000], eax
                mov ebx, 0xfffff000
                mov ecx, [rbx]
                xor eax, ecx
                CHECK "the firmware's alias", 0
                mov eax, [buffer]
                mov [rbx], eax
                xor eax, [0xff000]
                CHECK "the firmware's alias, the other way", 0
.high:          mov rbx, HIGH_MEMORY
                mov rax, 0x123456789abcdef0
                mov [rbx], rax
                mov rcx, [rbx]
                cmp rcx, rax
                jne .none
                not rax
                xchg rax, [rbx]
                CHECK "RAM above 4 GiB", qword 0x123456789abcdef0
.none:          ret

; Writes ch to the shadow register bl of the PCI host.
set_pam:        mov eax, ebx
                and eax, 0xfc
                or eax, 0x80000000
                mov edx, PCI_ADDRESS
                out dx, eax
                mov edx, ebx
                and edx, 3
                add edx, PCI_DATA
                mov al, ch
                out dx, al
                ret

; ---------------------------------------------------------------- interrupts
interrupts:     mov rbx, exceptions
                xor r8d, r8d
.exception:     mov rax, rbx
                mov rdi, r8
                shl rdi, 4
                add rdi, idt
                call set_gate
                add rbx, EXCEPTION_SIZE
                inc r8d
                cmp r8d, 32
                jne .exception
                GATE 2, on_nmi
                GATE VECTOR_PIT, on_pit
                GATE VECTOR_TIMER, on_timer
                GATE VECTOR_IPI, on_ipi
                GATE VECTOR_PING, on_ping
                mov al, 0x11                                    ; edge, cascade, ICW4
                out PIC1, al
                mov al, VECTOR_PIT
                out PIC1 + 1, al
                mov al, 4
                out PIC1 + 1, al
                mov al, 1
                out PIC1 + 1, al
                mov al, 0xff                                    ; all masked
                out PIC1 + 1, al
                mov dword [r15 + SVR], 0x1ff
                mov dword [r15 + LVT_LINT0], 0x700              ; the 8259's
                ret

; Interrupt gate for the handler rax, at rdi.
set_gate:       mov [rdi], ax
                mov word [rdi + 2], CODE
                mov word [rdi + 4], 0x8e00
                shr rax, 16
                mov [rdi + 6], ax
                shr rax, 16
                mov [rdi + 8], eax
                ret

on_nmi:         inc dword [nmis]
                cmp dword [nmis], 1
                jne .end
                mov dword [r15 + ICR], 0x44400                  ; another, which has to wait for the IRET
                inc dword [r15 + TPR]                           ; an exit or two in between
                dec dword [r15 + TPR]
                cmp dword [nmis], 1
                je .end
                mov dword [nmis], 100
.end:           iretq

on_pit:         push rax
                inc qword [ticks]
                mov al, 0x20
                out PIC1, al
                pop rax
                iretq

on_timer:       inc qword [timer_ticks]
                mov dword [r15 + EOI], 0
                iretq

on_ipi:         inc qword [ipis]
                mov dword [r15 + EOI], 0
                iretq

; On the second processor: answers the first.
on_ping:        inc qword [pings]
                mov dword [r15 + EOI], 0
                mov dword [r15 + ICR_HIGH], 0
                mov dword [r15 + ICR], 0x4000 + VECTOR_IPI
                iretq

; The NMI, the processor's own interrupts, its timer, and the priority that holds them back.
local_interrupts:
                mov dword [r15 + ICR], 0x44400                  ; NMI to itself
                mov ecx, 100000                                 ; the second may be late by a time slice
.second:        cmp dword [nmis], 2
                loopne .second
                mov eax, [nmis]
                CHECK "two NMIs, one in the other", 2
                mov dword [r15 + ICR], 0x44000 + VECTOR_IPI
                mov rax, [ipis]
                CHECK "an interrupt waits for STI", 0
                call open_window
                mov rax, [ipis]
                CHECK "an interrupt after STI", 1
                mov eax, 6                                      ; above 0x41's class
                mov cr8, rax
                mov dword [r15 + ICR], 0x44000 + VECTOR_IPI
                call open_window
                mov rax, [ipis]
                CHECK "an interrupt below the priority waits", 1
                xor eax, eax
                mov cr8, rax
                call open_window
                mov rax, [ipis]
                CHECK "and comes when CR8 is lowered", 2
                mov dword [r15 + DIVIDE], 0xb
                mov dword [r15 + LVT_TIMER], VECTOR_TIMER
                mov dword [r15 + COUNT], 1000000                ; of QEMU's 1 GHz
                sti
.spin:          cmp qword [timer_ticks], 0
                je .spin
                cli
                mov rax, [timer_ticks]
                CHECK "the local timer, in a loop that spins", 1
                ret

; Takes interrupts for some ten thousand instructions. One would do, but on a KVM that emulates ring 0 a time slice may
; pass before it looks.
open_window:    mov ecx, 20000
                sti
.next:          loop .next
                cli
                ret

; The PIT at 100 Hz, and HLT.
sleep:          mov al, 0x34                                    ; channel 0, rate generator
                out PIT + 3, al
                mov ax, 11932
                out PIT, al
                mov al, ah
                out PIT, al
                mov al, 0xfe
                out PIC1 + 1, al
                mov rbx, [ticks]
                mov ecx, 5
.next:          sti
                hlt
                cli
                loop .next
                mov rax, [ticks]
                sub rax, rbx
                CHECK "five ticks wake five HLTs", 5
                ret

; ---------------------------------------------------------------- ring 3
; Computes for 20 ticks, with what it holds in an SSE and in an x87 register, which must come through the interrupts.
; It comes back by an exception: some KVMs without hardware support know no other way.
ring3:          GATE 6, on_invalid
                mov dword [tss + 4], stack_interrupt
                mov [ring3_stack], rsp
                mov rax, [ticks]
                add rax, 20
                mov [ring3_until], rax
                push USER_DATA
                push stack_user
                push 0x202
                push USER_CODE
                push user
                iretq
user:           movdqu xmm7, [ring3_pattern]
                fninit
                fldpi
                xor ebx, ebx
.round:         mov ecx, 10000
.loop:          dec ecx
                jnz .loop
                inc rbx
                mov rax, [ticks]
                cmp rax, [ring3_until]
                jb .round
                movdqu xmm6, [ring3_pattern]
                pcmpeqb xmm6, xmm7
                pmovmskb eax, xmm6
                fldpi
                fcomip st0, st1
                setne cl
                movzx ecx, cl
                shl ecx, 16
                or eax, ecx
                ud2
on_invalid:     mov rsp, [ring3_stack]
                mov ecx, DATA
                mov ss, ecx
                CHECK "registers through twenty interrupts in ring 3", 0xffff
                xor eax, eax
                cmp rbx, 1000
                setg al
                CHECK "ring 3 computed meanwhile", 1
                ret

; ---------------------------------------------------------------- other processors
processors:     mov rsi, trampoline
                mov edi, TRAMPOLINE
                mov ecx, trampoline_end - trampoline
                rep movsb
                mov dword [arrived], 0
                mov dword [r15 + ICR], 0xc4500                  ; INIT to all the others
                call tick
                mov dword [r15 + ICR], 0xc4600 + (TRAMPOLINE >> 12)
                mov r12d, 10
.wait:          call tick
                dec r12d
                jnz .wait
                mov eax, [arrived]
                push rax
                add al, '1'
                mov [processors_count], al
                mov rsi, processors_text
                call put_string
                pop rax
                test eax, eax
                jz .end
; A ball that goes to and fro: every wake-up of a spinning processor by another must arrive.
                mov al, 0xff                                    ; without the PIT's ticks
                out PIC1 + 1, al
                mov qword [ipis], 0
                mov ebx, 1
.round:         mov dword [r15 + ICR_HIGH], 1 << 24
                mov dword [r15 + ICR], 0x4000 + VECTOR_PING
                sti
                mov ecx, 20000000                               ; some seconds, at least
.answer:        cmp [ipis], rbx
                je .next
                pause
                loop .answer
.next:          cli
                cmp [ipis], rbx
                jne .lost
                inc ebx
                cmp ebx, ROUNDS
                jbe .round
.lost:          mov rax, [pings]
                CHECK "interrupts to the second processor", ROUNDS
                mov rax, [ipis]
                CHECK "and its answers", ROUNDS
.end:           ret

tick:           sti
                hlt
                cli
                ret

; Copied below 1 MiB: from real mode into long mode in one step. ds is 0.
                bits 16
trampoline:     xor ax, ax
                mov ds, ax
                o32 lgdt [TRAMPOLINE + .gdt - trampoline]
                mov eax, cr4
                or eax, 0x620
                mov cr4, eax
                mov eax, pml4
                mov cr3, eax
                mov ecx, 0xc0000080
                rdmsr
                or eax, 0x100
                wrmsr
                mov eax, cr0
                or eax, 0x80010003
                and eax, ~0x60000004                            ; CD, NW, EM
                mov cr0, eax
                jmp dword CODE:second
.gdt:           dw gdt_end - gdt - 1
                dd gdt
trampoline_end:
                bits 64
second:         mov eax, DATA
                mov ds, eax
                mov es, eax
                mov ss, eax
                mov rsp, stack_second
                mov r15d, LAPIC
                lidt [idt_pointer]
                mov dword [r15 + SVR], 0x1ff
                lock inc dword [arrived]
                sti
.spin:          pause                                           ; QEMU 7.2 burns the host's CPU for one that halts
                jmp .spin

; ---------------------------------------------------------------- exceptions: none is expected
EXCEPTION_SIZE  equ 7                   ; bytes of each of these
exceptions:
%assign vector 0
%rep 32
                push byte vector
                jmp near unexpected
%assign vector vector + 1
%endrep
unexpected:     SAY {13, 10, "FAILED: exception "}
                pop rax
                call put_hexadecimal
                SAY " with, on its stack, "
                pop rax
                call put_hexadecimal
                SAY " "
                pop rax
                call put_hexadecimal
                SAY " "
                pop rax
                call put_hexadecimal
                SAY {13, 10}
                mov al, 0x30
                out EXIT, al
.halt:          hlt
                jmp .halt

; ---------------------------------------------------------------- text
; A line about the check whose name follows the call: rax is what came, rdi what was wanted.
check:          pop rsi
                push rax
                push rdi
                cmp rax, rdi
                jne .failed
                push rsi
                SAY "ok "
                pop rsi
                call put_string
                pop rdi
                pop rax
                jmp .end
.failed:        inc dword [failures]
                push rsi
                SAY "FAILED "
                pop rsi
                call put_string
                inc rsi
                pop rax
                pop rdi
                push rsi
                push rdi
                push rax
                SAY ": wanted "
                pop rax
                call put_hexadecimal
                SAY ", got "
                pop rax
                call put_hexadecimal
                pop rsi
                dec rsi
.end:           inc rsi
                push rsi
                SAY {13, 10}
                ret

; Prints the text that follows the call.
say:            pop rsi
                call put_string
                inc rsi
                jmp rsi

put_string:     mov al, [rsi]
                test al, al
                jz .end
                call put_byte
                inc rsi
                jmp put_string
.end:           ret

put_byte:       push rdx
                push rax
                mov edx, UART + 5
.full:          in al, dx
                test al, 0x20                                   ; room for a character
                jz .full
                pop rax
                mov edx, UART
                out dx, al
                pop rdx
                ret

put_hexadecimal:
                mov ecx, 16
.digit:         rol rax, 4
                push rax
                and al, 0xf
                add al, '0'
                cmp al, '9'
                jbe .put
                add al, 'a' - '0' - 10
.put:           call put_byte
                pop rax
                loop .digit
                ret

; ---------------------------------------------------------------- data
                align 8
gdt:            dq 0
                dq 0x00af9b000000ffff                           ; CODE
                dq 0x00cf93000000ffff                           ; DATA
                dq 0x00cff3000000ffff                           ; USER_DATA
                dq 0x00affb000000ffff                           ; USER_CODE
                dw 0x67, (tss - base + LOAD) & 0xffff
                db (tss - base + LOAD) >> 16, 0x89, 0, 0
                dq 0
gdt_end:
gdt_pointer:    dw gdt_end - gdt - 1
                dq gdt
idt_pointer:    dw 67 * 16 - 1
                dq idt
tss:            times 0x68 db 0
ring3_pattern:  db 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
ticks:          dq 0
timer_ticks:    dq 0
ipis:           dq 0
pings:          dq 0
ring3_until:    dq 0
ring3_stack:    dq 0
nmis:           dd 0
failures:       dd 0
ports_word:     db 0x11, 0xa5
ports_text:     db 'this line is one REP OUTSB', 13, 10
ports_text_end:
processors_text: db 'processors: '
processors_count: db '?', 13, 10, 0
file_end:
