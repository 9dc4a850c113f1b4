; The guest of docs/tutorial.md: it dies of an answer that it got long before.
;
; Sixteen times it puts the offset of a step into the local APIC's task priority register, reads it back, and notes the
; step's address. Then it calls the steps in that order. Steps 4 and 5 belong together: the first leaves a word on the
; stack, the second takes it away. A flat binary for 1 MiB, where it begins in 32-bit protected mode without paging.

TPR             equ 0xfee00080                                  ; SDM volume 3, 11.8.3.1: eight bits
STEPS           equ 16

                bits 32
                org 0x100000
start:          mov esp, stack_top
                call run
                mov esi, text_done
.print:         mov al, [esi]
                test al, al
                jz .off
                mov dx, 0x3f8
                out dx, al
                inc esi
                jmp .print
.off:           mov dx, 0x604                                   ; ACPI S5
                mov ax, 0x3400
                out dx, ax
                hlt

run:            xor ecx, ecx
prepare:        mov eax, ecx
                shl eax, 4
                mov [TPR], eax
answer:         mov eax, [TPR]
                add eax, steps
                mov [table + ecx * 4], eax
                inc ecx
                cmp ecx, STEPS
                jne prepare
                xor ecx, ecx
work:           mov eax, [table + ecx * 4]
                call eax
                inc ecx
                cmp ecx, STEPS
                jne work
done:           ret

; Sixteen bytes each.
                align 16
steps:          times 4 dd 0x90c3c3c3, 0x90909090, 0x90909090, 0x90909090
step_4:         pop eax
                push 7
                push eax
                ret
                align 16
step_5:         pop eax
                pop ebx
                push eax
                ret
                align 16
                times 10 dd 0x90c3c3c3, 0x90909090, 0x90909090, 0x90909090

text_done:      db 'All steps are done.', 13, 10, 0
                align 128
table:          times STEPS dd 0
                times 64 dd 0
stack_top:
