; The Vitrine calculator: a small 64-bit kernel with a calculator on its first serial port.
;
; It boots as a multiboot 1 kernel or through a PVH note (both enter 32-bit protected mode with paging off),
; goes to long mode with the low 4 GiB mapped one to one, and from then on lives from two interrupts: the
; UART's (a character came) and ACPI's (the power button was pressed). Between them it sleeps in HLT.
;
; The syntax is NASM's, so that `nasm -f bin calc.asm` also builds it; Vitrine's own build uses
; ../assembler.ts, which needs nothing but Node.
;
; Routines may change rax, rcx, rdx, rsi and rdi, and keep the others. While an expression is evaluated
; rbx points at the next character of the line.

LOAD            equ 0x100000            ; where the file lands
BSS             equ 0x104000            ; what is not in the file; page-aligned, page tables first
LINE_SIZE       equ 256                 ; bytes of the input line, its final zero included
RING_SIZE       equ 256                 ; bytes received and not yet read; a power of two
STACK_SIZE      equ 65536               ; "((((..." of a full line needs some 12 KiB

CODE            equ 0x08                ; selectors of the GDT below
DATA            equ 0x10
TASK            equ 0x18

PIC1            equ 0x20                ; 8259A: command, +1 data
PIC2            equ 0xa0
IRQ_BASE        equ 0x20                ; vector of IRQ 0
IRQ_SERIAL      equ 4

UART            equ 0x3f8               ; 16550A registers, from COM1
UART_DATA       equ UART + 0            ; divisor low when DLAB is set
UART_IER        equ UART + 1            ; divisor high when DLAB is set
UART_FCR        equ UART + 2
UART_LCR        equ UART + 3
UART_MCR        equ UART + 4
UART_LSR        equ UART + 5

                bits 32
                org LOAD
; ---------------------------------------------------------------- the file
base:           db 0x7f, 'ELF', 1, 1, 1, 0                      ; 32-bit, little-endian
                dq 0
                dw 2, 3                                         ; executable, i386
                dd 1, start_multiboot, program_headers - base, 0, 0
                dw 52, 32, 2, 0, 0, 0
program_headers:
                dd 1, 0, LOAD, LOAD, file_end - base, bss_end - LOAD, 7, 4096           ; PT_LOAD
                dd 4, note - base, note, note, note_end - note, note_end - note, 4, 4   ; PT_NOTE

                align 4
                dd 0x1badb002, 0, 0 - 0x1badb002                ; multiboot: magic, flags, checksum

note:           dd 4, 4, 18                                     ; XEN_ELFNOTE_PHYS32_ENTRY
                db 'Xen', 0
                dd start_pvh
note_end:

; ---------------------------------------------------------------- into long mode
start_pvh:      mov esi, [ebx + 32]                             ; hvm_start_info.rsdp_paddr
                cmp dword [ebx + 36], 0
                je start32
start_multiboot:
                xor esi, esi                                    ; the RSDP has to be searched
start32:        cli
                cld
                mov esp, stack_top
                mov dword [pml4], pdpt + 3                      ; present, writable
                mov edi, pdpt
                mov eax, page_directories + 3
.pdpt_entry:    mov [edi], eax
                add edi, 8
                add eax, 4096
                cmp edi, pdpt + 4 * 8
                jne .pdpt_entry
                mov edi, page_directories
                mov eax, 0x83                                   ; present, writable, 2 MiB
.large_page:    mov [edi], eax
                add edi, 8
                add eax, 0x200000
                cmp edi, page_directories + 4 * 4096
                jne .large_page

                lgdt [gdt_pointer]
                mov eax, cr4
                or eax, 0x20                                    ; PAE
                mov cr4, eax
                mov eax, pml4
                mov cr3, eax
                mov ecx, 0xc0000080                             ; EFER
                rdmsr
                or eax, 0x100                                   ; LME
                wrmsr
                mov eax, cr0
                or eax, 0x80010001                              ; PG, WP, PE
                mov cr0, eax
                push CODE
                push start64
                retf

                bits 64
start64:        mov eax, DATA
                mov ds, eax
                mov es, eax
                mov ss, eax
                xor eax, eax
                mov fs, eax
                mov gs, eax
                mov rsp, stack_top
                mov eax, esi
                mov [rsdp], rax
                call init_interrupts
                call init_serial
                call init_acpi
                sti
                mov rsi, text_banner
                call put_string

; ---------------------------------------------------------------- the calculator
main:           mov rsi, text_prompt
                call put_string
                call read_line
                mov rbx, line
                call skip_spaces
                cmp byte [rbx], 0
                je main
                mov rsi, word_help
                call is_command
                je .help
                mov rsi, word_quit
                call is_command
                je power_off
                mov rsi, word_crash
                call is_command
                je .crash
                call evaluate
                jmp main
.help:          mov rsi, text_help
                call put_string
                jmp main
.crash:         ud2

; Sets ZF when the rest of the line (at rbx) is the word at rsi, with only spaces after it.
is_command:     mov rdi, rbx
.next:          mov al, [rsi]
                test al, al
                jz .tail
                cmp al, [rdi]
                jne .done
                inc rsi
                inc rdi
                jmp .next
.tail:          cmp byte [rdi], ' '
                jne .end
                inc rdi
                jmp .tail
.end:           cmp byte [rdi], 0
.done:          ret

; Evaluates the line at rbx and prints its value, or what is wrong with it and where.
evaluate:       mov [evaluate_stack], rsp
                call sum
                cmp byte [rbx], 0
                jne .rest
                call put_decimal
                jmp put_newline
.rest:          mov rsi, error_rest
                cmp byte [rbx], ')'
                jne .fail
                mov rsi, error_unopened
.fail:          mov rdx, rbx

; Ends the evaluation: rsi says what is wrong, rdx points at the character to blame.
fail:           mov rsp, [evaluate_stack]
                push rdx
                push rsi
                mov rsi, text_error
                call put_string
                pop rsi
                call put_string
                mov rsi, text_column
                call put_string
                pop rax
                sub rax, line - 1
                call put_decimal
                jmp put_newline

; sum: product { ("+" | "-") product }. Value in rax; so for all that follow.
sum:            call product
.next:          mov cl, [rbx]
                cmp cl, '+'
                je .operator
                cmp cl, '-'
                je .operator
                ret
.operator:      push rax
                push rbx
                inc rbx
                call product
                pop rdx                                         ; the operator
                pop rcx                                         ; the left side
                cmp byte [rdx], '+'
                jne .subtract
                add rax, rcx
                jmp .check
.subtract:      xchg rax, rcx
                sub rax, rcx
.check:         jno .next
                mov rsi, error_overflow
                jmp fail

; product: signed { ("*" | "/" | "%") signed }
product:        call signed
.next:          mov cl, [rbx]
                cmp cl, '*'
                je .operator
                cmp cl, '/'
                je .operator
                cmp cl, '%'
                je .operator
                ret
.operator:      push rax
                push rbx
                inc rbx
                call signed
                mov rcx, rax                                    ; the right side
                pop rdi                                         ; the operator
                pop rax
                cmp byte [rdi], '*'
                jne .divide
                imul rax, rcx
                jno .next
.overflow:      mov rsi, error_overflow
                mov rdx, rdi
                jmp fail
.divide:        test rcx, rcx
                jz .by_zero
                cmp rcx, -1                                     ; IDIV would fault on the lowest number
                je .by_minus_one
                cqo
                idiv rcx
                cmp byte [rdi], '/'
                je .next
                mov rax, rdx
                jmp .next
.by_minus_one:  cmp byte [rdi], '%'
                je .no_remainder
                neg rax
                jno .next
                jmp .overflow
.no_remainder:  xor eax, eax
                jmp .next
.by_zero:       mov rsi, error_zero
                mov rdx, rdi
                jmp fail

; signed: { "-" | "+" } primary. The spaces around a primary are skipped.
signed:         call skip_spaces
                cmp byte [rbx], '+'
                je .plus
                cmp byte [rbx], '-'
                jne primary
                push rbx
                inc rbx
                call skip_spaces
                mov al, [rbx]
                sub al, '0'
                cmp al, 9
                ja .expression
                call number                                     ; at most 2^63: its negation is a value
                pop rdx
                neg rax
                jmp skip_spaces
.expression:    call signed
                pop rdx
                neg rax
                jno .done
                mov rsi, error_overflow
                jmp fail
.plus:          inc rbx
                jmp signed
.done:          ret

; primary: number | "(" sum ")"
primary:        mov al, [rbx]
                cmp al, '('
                je .group
                sub al, '0'
                cmp al, 9
                ja .missing
                mov rdx, rbx
                push rdx
                call number
                pop rdx
                test rax, rax
                js number.too_large
                jmp skip_spaces
.group:         push rbx
                inc rbx
                call sum
                pop rdx
                mov rsi, error_unclosed
                cmp byte [rbx], ')'
                jne fail
                inc rbx
                jmp skip_spaces
.missing:       mov rsi, error_missing
                mov rdx, rbx
                jmp fail

; number: decimal digits, or "0x" and hexadecimal ones. Up to 2^63, without sign.
number:         mov r8, rbx
                mov ecx, 10
                xor eax, eax
                cmp byte [rbx], '0'
                jne .digit
                mov dl, [rbx + 1]
                or dl, 0x20
                cmp dl, 'x'
                jne .digit
                mov ecx, 16
                add rbx, 2
                mov r9, rbx
.digit:         movzx esi, byte [rbx]
                cmp esi, '9'
                jbe .decimal
                or esi, 0x20
                sub esi, 'a' - 10
                cmp esi, 10
                jb .end
                jmp .check
.decimal:       sub esi, '0'
.check:         cmp esi, ecx                                    ; unsigned: what is below '0' is out, too
                jae .end
                mul rcx
                jc .overflow
                add rax, rsi
                jc .overflow
                inc rbx
                jmp .digit
.end:           cmp ecx, 16
                jne .range
                cmp rbx, r9
                jne .range
                mov rsi, error_hex
                mov rdx, rbx
                jmp fail
.range:         mov rdx, r8
                mov rcx, 0x8000000000000000
                cmp rax, rcx
                ja .too_large
                ret
.overflow:      mov rdx, r8
.too_large:     mov rsi, error_large
                jmp fail

skip_spaces:    cmp byte [rbx], ' '
                jne .done
                inc rbx
                jmp skip_spaces
.done:          ret

; ---------------------------------------------------------------- line editing
; Reads a line into `line`, echoing it: backspace, Ctrl-U (start over), Ctrl-C (give up), Enter.
read_line:      xor r12d, r12d                                  ; characters in the line
.next:          call get_char
                cmp al, 0x0d
                je .enter
                cmp al, 0x0a
                je .line_feed
                mov byte [after_return], 0
                cmp al, 0x08
                je .backspace
                cmp al, 0x7f
                je .backspace
                cmp al, 0x15
                je .kill
                cmp al, 0x03
                je .interrupt
                cmp al, 0x1b
                je .escape
                cmp al, 0x20
                jb .next
                cmp al, 0x7e
                ja .next
                cmp r12d, LINE_SIZE - 1
                je .full
                mov [line + r12], al
                inc r12d
                call put_char
                jmp .next
.full:          mov al, 7                                       ; the bell
                call put_char
                jmp .next
.line_feed:     cmp byte [after_return], 0                      ; the second half of "\r\n"
                mov byte [after_return], 0
                jne .next
                jmp .end
.enter:         mov byte [after_return], 1
.end:           mov byte [line + r12], 0
                jmp put_newline
.backspace:     test r12d, r12d
                jz .next
                call .erase
                jmp .next
.kill:          test r12d, r12d
                jz .next
                call .erase
                jmp .kill
.interrupt:     mov rsi, text_interrupt
                call put_string
                mov byte [line], 0
                ret
.escape:        call get_char                                   ; an arrow key or the like: passed over
                cmp al, '['
                je .sequence
                cmp al, 'O'
                jne .next
.sequence:      call get_char
                cmp al, 0x40
                jb .sequence
                jmp .next
.erase:         dec r12d
                mov rsi, text_erase
                jmp put_string

; ---------------------------------------------------------------- serial port
init_serial:    mov dx, UART_LCR
                mov al, 0x80                                    ; DLAB
                out dx, al
                mov dx, UART_DATA
                mov al, 1                                       ; 115200 baud
                out dx, al
                mov dx, UART_IER
                xor eax, eax
                out dx, al
                mov dx, UART_LCR
                mov al, 3                                       ; 8 bits, no parity, 1 stop bit
                out dx, al
                mov dx, UART_FCR
                mov al, 7                                       ; FIFOs on and empty
                out dx, al
                mov dx, UART_MCR
                mov al, 0x0b                                    ; DTR, RTS, and OUT2: the interrupt's gate
                out dx, al
                mov dx, UART_IER
                mov al, 1                                       ; interrupt when there is data
                out dx, al
                ret

; Waits, asleep, for a character: al.
get_char:       cli
                mov ecx, [ring_read]
                cmp ecx, [ring_write]
                jne .take
                sti                                             ; takes effect after HLT has begun
                hlt
                jmp get_char
.take:          mov edx, ecx
                and edx, RING_SIZE - 1
                mov al, [ring + rdx]
                inc ecx
                mov [ring_read], ecx
                cmp byte [receive_stopped], 0
                je .done
                cmp ecx, [ring_write]
                jne .done
                mov byte [receive_stopped], 0
                push rax
                mov dx, UART_IER
                mov al, 1
                out dx, al
                pop rax
.done:          sti
                ret

; In the interrupt: empties the UART's FIFO into the ring. When the ring is full it leaves the rest in the
; UART and turns its interrupt off until the ring has been read, so that nothing is lost.
receive:        mov dx, UART_LSR
                in al, dx
                test al, 1
                jz .done
                mov ecx, [ring_write]
                mov esi, ecx
                sub esi, [ring_read]
                cmp esi, RING_SIZE
                je .full
                mov dx, UART_DATA
                in al, dx
                mov esi, ecx
                and esi, RING_SIZE - 1
                mov [ring + rsi], al
                inc ecx
                mov [ring_write], ecx
                jmp receive
.full:          mov byte [receive_stopped], 1
                mov dx, UART_IER
                xor eax, eax
                out dx, al
.done:          ret

put_char:       push rax
.wait:          mov dx, UART_LSR
                in al, dx
                test al, 0x20                                   ; room in the transmitter
                jz .wait
                pop rax
                mov dx, UART_DATA
                out dx, al
                ret

put_newline:    mov rsi, text_newline
put_string:     mov al, [rsi]
                test al, al
                jz .done
                inc rsi
                call put_char
                jmp put_string
.done:          ret

; Prints rax as a signed decimal number.
put_decimal:    test rax, rax
                jns .unsigned
                push rax
                mov al, '-'
                call put_char
                pop rax
                neg rax
.unsigned:      mov ecx, 10
                xor edx, edx
                div rcx
                push rdx
                test rax, rax
                jz .digit
                call .unsigned
.digit:         pop rax
                add al, '0'
                jmp put_char

; Prints rax as sixteen hexadecimal digits.
put_hex:        mov ecx, 16
.next:          rol rax, 4
                push rax
                and eax, 15
                mov al, [text_digits + rax]
                call put_char
                pop rax
                dec ecx
                jnz .next
                ret

; ---------------------------------------------------------------- interrupts
init_interrupts:
                mov rax, tss                                    ; the base, spread over the descriptor
                mov [gdt + TASK + 2], ax
                shr rax, 16
                mov [gdt + TASK + 4], al
                mov [gdt + TASK + 7], ah
                mov qword [tss + 0x24], fault_stack_top         ; IST 1: exceptions
                mov word [tss + 0x66], 0x68                     ; no I/O permission map
                mov eax, TASK
                ltr ax

                mov rdi, idt
                mov rsi, exception_stubs
                mov ecx, 1
                mov edx, 32
                call set_gates
                mov rsi, irq_stubs
                xor ecx, ecx
                mov edx, 16
                call set_gates
                lidt [idt_pointer]

                mov al, 0x11                                    ; both 8259As: ICW1 to ICW4
                out PIC1, al
                out PIC2, al
                mov al, IRQ_BASE
                out PIC1 + 1, al
                mov al, IRQ_BASE + 8
                out PIC2 + 1, al
                mov al, 4
                out PIC1 + 1, al
                mov al, 2
                out PIC2 + 1, al
                mov al, 1
                out PIC1 + 1, al
                out PIC2 + 1, al
                mov al, 0xff - (1 << IRQ_SERIAL) - (1 << 2)     ; the serial port, and the second 8259A
                out PIC1 + 1, al
                mov al, 0xff
                out PIC2 + 1, al
                ret

; Fills edx interrupt gates from rdi on, to stubs of 5 bytes each from rsi on, with IST ecx.
set_gates:      mov rax, rsi
                mov [rdi], ax
                mov word [rdi + 2], CODE
                mov [rdi + 4], cl
                mov byte [rdi + 5], 0x8e
                shr rax, 16
                mov [rdi + 6], ax
                add rdi, 16
                add rsi, 5
                dec edx
                jnz set_gates
                ret

; Each stub is a CALL, so that the address it pushes tells which one it was.
exception_stubs:
                times 32 call exception
irq_stubs:      times 16 call irq

irq:            push rax
                push rcx
                push rdx
                push rsi
                mov eax, [rsp + 32]
                sub eax, irq_stubs + 5
                xor edx, edx
                mov ecx, 5
                div ecx
                push rax
                cmp eax, IRQ_SERIAL
                je .serial
                cmp eax, [sci]
                jne .end
                call power_button
                jmp .end
.serial:        call receive
.end:           pop rcx
                mov al, 0x20                                    ; end of interrupt
                cmp ecx, 8
                jb .first
                out PIC2, al
.first:         out PIC1, al
                pop rsi
                pop rdx
                pop rcx
                pop rax
                add rsp, 8
                iretq

; Says what happened and stops for good.
exception:      push r15
                push r14
                push r13
                push r12
                push r11
                push r10
                push r9
                push r8
                push rbp
                push rdi
                push rsi
                push rdx
                push rcx
                push rbx
                push rax
                mov eax, [rsp + 15 * 8]
                sub eax, exception_stubs + 5
                xor edx, edx
                mov ecx, 5
                div ecx
                mov ebx, eax                                    ; the vector
                lea rbp, [rsp + 16 * 8]
                xor r12d, r12d                                  ; the error code, of those that have one
                mov eax, 0x60227d00
                bt eax, ebx
                jnc .no_error_code
                mov r12, [rbp]
                add rbp, 8
.no_error_code: mov rsi, text_exception
                call put_string
                mov eax, ebx
                call put_decimal
                mov rsi, text_error_code
                call put_string
                mov rax, r12
                call put_hex
                call put_newline

                mov r13, rsp                                    ; the fifteen registers that were pushed
                mov r14, text_registers
                mov r15d, 15
.register:      mov rax, [r13]
                call .show
                add r13, 8
                dec r15d
                jnz .register
                mov rax, [rbp + 24]
                call .show                                      ; rsp
                mov rax, [rbp]
                call .show                                      ; rip
                mov rax, [rbp + 16]
                call .show                                      ; rflags
                mov rax, cr2
                call .show
                mov rax, cr3
                call .show
                mov rsi, text_halted
                call put_string
.halt:          cli
                hlt
                jmp .halt
.show:          push rax                                        ; prints one value under the next name
                mov rsi, r14
                call put_string
                lea r14, [rsi + 1]
                pop rax
                jmp put_hex

; ---------------------------------------------------------------- ACPI
; Finds the power management registers, so that `quit` and the power button can turn the machine off.
init_acpi:      mov rsi, [rsdp]
                test rsi, rsi
                jnz .found
                movzx esi, word [0x40e]                         ; the extended BIOS data area, as a segment
                shl esi, 4
                lea edi, [rsi + 1024]
                call find_rsdp
                je .found
                mov esi, 0xe0000
                mov edi, 0x100000
                call find_rsdp
                jne .done
.found:         mov edx, 4                                      ; size of an entry of the RSDT
                mov edi, [rsi + 16]
                cmp byte [rsi + 15], 2                          ; revision
                jb .tables
                mov rax, [rsi + 24]
                test rax, rax
                jz .tables
                mov rdi, rax
                mov edx, 8                                      ; and of the XSDT
.tables:        mov ecx, [rdi + 4]
                add rcx, rdi                                    ; end of the table
                add rdi, 36
.table:         lea rax, [rdi + rdx]
                cmp rax, rcx
                ja .done
                mov esi, [rdi]                                  ; below 4 GiB, as everything here
                cmp dword [rsi], 'FACP'
                je .fadt
                add rdi, rdx
                jmp .table
.done:          ret

.fadt:          mov rdi, rsi
                mov eax, [rdi + 64]                             ; PM1a_CNT_BLK
                mov [pm1_control], eax
                mov esi, [rdi + 40]                             ; DSDT
                mov ecx, [rsi + 4]
                add rcx, rsi
.name:          inc rsi
                lea rax, [rsi + 16]
                cmp rax, rcx
                ja .no_s5
                cmp dword [rsi], '_S5_'
                jne .name
                cmp byte [rsi + 4], 0x12                        ; PackageOp
                jne .name
                movzx eax, byte [rsi + 5]                       ; PkgLength: bits 7-6 count further bytes
                shr eax, 6
                lea rsi, [rsi + rax + 7]                        ; the first element
                mov al, [rsi]
                cmp al, 0x0a                                    ; BytePrefix
                jne .s5                                         ; ZeroOp and OneOp are the value itself
                mov al, [rsi + 1]
.s5:            and eax, 7
                shl eax, 10
                or eax, 0x2000                                  ; SLP_TYP, SLP_EN
                mov [s5_value], eax

.no_s5:         mov edx, [pm1_control]                          ; into ACPI mode, unless it is
                in ax, dx
                test al, 1
                jnz .enabled
                mov al, [rdi + 52]                              ; ACPI_ENABLE
                mov edx, [rdi + 48]                             ; SMI_CMD
                test edx, edx
                jz .enabled
                out dx, al
                mov ecx, 1000000                                ; some hundred milliseconds at the least
                mov edx, [pm1_control]
.wait:          in ax, dx
                test al, 1
                jnz .enabled
                pause
                dec ecx
                jnz .wait

.enabled:       movzx ecx, word [rdi + 46]                      ; SCI_INT
                test ecx, ecx
                jz .done
                cmp ecx, 15
                ja .done
                mov [sci], ecx
                mov edx, [rdi + 56]                             ; PM1a_EVT_BLK: status, then enable
                test edx, edx
                jz .done
                mov [pm1_event], edx
                mov ax, 0x100                                   ; PWRBTN
                out dx, ax                                      ; forget an old one
                movzx eax, byte [rdi + 88]                      ; PM1_EVT_LEN
                shr eax, 1
                add edx, eax
                mov ax, 0x100
                out dx, ax
                mov dx, PIC1 + 1
                cmp ecx, 8
                jb .unmask
                mov dx, PIC2 + 1
                sub ecx, 8
.unmask:        in al, dx
                btr eax, ecx
                out dx, al
                ret

; Searches [rsi, rdi) for the RSDP: ZF and rsi.
find_rsdp:      cmp rsi, rdi
                jae .none
                mov rax, 'RSD PTR '
                cmp [rsi], rax
                jne .next
                xor eax, eax
                xor ecx, ecx
.checksum:      add al, [rsi + rcx]
                inc ecx
                cmp ecx, 20
                jne .checksum
                test al, al
                jz .done
.next:          add rsi, 16
                jmp find_rsdp
.none:          or eax, 1
.done:          ret

; In the interrupt: was it the power button?
power_button:   mov edx, [pm1_event]
                in ax, dx
                out dx, ax                                      ; writing a one clears it
                test ah, 1
                jz .done
                mov rsi, text_button
                call put_string
                jmp power_off
.done:          ret

power_off:      mov rsi, text_bye
                call put_string
                cli
                mov eax, [s5_value]
                test eax, eax
                jz .guess
                mov edx, [pm1_control]
                out dx, ax
.guess:         mov dx, 0x604                                   ; no ACPI tables: QEMU's usual place,
                mov ax, 0x2000
                out dx, ax
                mov dx, 0x501                                   ; and its debug exit
                out dx, al
.halt:          hlt
                jmp .halt

; ---------------------------------------------------------------- constants
                align 8
gdt:            dq 0
                dq 0x00af9a000000ffff                           ; CODE: 64-bit
                dq 0x00cf92000000ffff                           ; DATA
                dq 0x0000890000000067                           ; TASK: 64-bit TSS, its base is filled in
                dq 0
gdt_pointer:    dw gdt_pointer - gdt - 1
                dq gdt
idt_pointer:    dw 48 * 16 - 1
                dq idt

text_banner:    db 13, 10, 'Vitrine calculator', 13, 10
                db 'Type an expression, or help.', 13, 10, 0
text_prompt:    db '> ', 0
text_help:      db 'Integers of 64 bits, decimal or 0x..., with + - * / % and parentheses.', 13, 10
                db 'help   this text', 13, 10
                db 'crash  run into an undefined instruction, to see it reported', 13, 10
                db 'quit   turn the machine off', 13, 10
                db 'Ctrl-U starts the line over, Ctrl-C gives it up.', 13, 10, 0
text_newline:   db 13, 10, 0
text_interrupt: db '^C', 13, 10, 0
text_erase:     db 8, ' ', 8, 0
text_error:     db 'error: ', 0
text_column:    db ' at column ', 0
text_button:    db 13, 10, 'The power button was pressed.', 13, 10, 0
text_bye:       db 'Bye.', 13, 10, 0
text_digits:    db '0123456789abcdef'
text_exception: db 13, 10, 'exception ', 0
text_error_code:
                db ', error code 0x', 0
text_registers: db 'rax ', 0, ' rbx ', 0, ' rcx ', 0, ' rdx ', 0
                db 13, 10, 'rsi ', 0, ' rdi ', 0, ' rbp ', 0, ' r8  ', 0
                db 13, 10, 'r9  ', 0, ' r10 ', 0, ' r11 ', 0, ' r12 ', 0
                db 13, 10, 'r13 ', 0, ' r14 ', 0, ' r15 ', 0, ' rsp ', 0
                db 13, 10, 'rip ', 0, ' rfl ', 0, ' cr2 ', 0, ' cr3 ', 0
text_halted:    db 13, 10, 'Halted.', 13, 10, 0
word_help:      db 'help', 0
word_quit:      db 'quit', 0
word_crash:     db 'crash', 0
error_rest:     db 'an operator is missing', 0
error_unopened: db 'unmatched parenthesis', 0
error_unclosed: db 'unclosed parenthesis', 0
error_missing:  db 'a number is missing', 0
error_hex:      db 'a hexadecimal digit is missing', 0
error_large:    db 'number too large', 0
error_overflow: db 'overflow', 0
error_zero:     db 'division by zero', 0
file_end:

; ---------------------------------------------------------------- memory that starts as zeros
                absolute BSS
pml4:           resb 4096
pdpt:           resb 4096
page_directories:
                resb 4 * 4096
idt:            resb 48 * 16
tss:            resb 0x68
rsdp:           resq 1
evaluate_stack: resq 1
ring_read:      resd 1                  ; free-running
ring_write:     resd 1
sci:            resd 1                  ; IRQ of ACPI; 0 (the timer's, masked) when there is none
pm1_control:    resd 1                  ; ports
pm1_event:      resd 1
s5_value:       resd 1                  ; what turns the machine off when it is written there; 0: unknown
receive_stopped:
                resb 1
after_return:   resb 1                  ; the last character was a carriage return
line:           resb LINE_SIZE
ring:           resb RING_SIZE
                alignb 16
                resb 4096
fault_stack_top:
                resb STACK_SIZE
stack_top:
bss_end:
