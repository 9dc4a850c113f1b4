; ---- Task switches -----------------------------------------------------------------------------------------

; A second task at `entry`; its registers come from its segment.
%macro TASK2 1
        mov edi, tss_two
        mov eax, %1
        mov edx, STACK_DF
        call make_task
        mov dword [tss_two + 0x28], 0xa1a1a1a1
        mov dword [tss_two + 0x2c], 0xc1c1c1c1
        mov dword [tss_two + 0x30], 0xd1d1d1d1
        mov dword [tss_two + 0x34], 0xb1b1b1b1
        mov dword [tss_two + 0x3c], 0xb2b2b2b2
        mov dword [tss_two + 0x40], 0xe1e1e1e1
        mov dword [tss_two + 0x44], 0xf1f1f1f1
%endmacro
; What a task finds: link, busy bits, CR0, NT.
%macro TASK_REPORT 0
        mov ecx, [gdt + TSS0 + 4]
        mov edx, [gdt + TSS2 + 4]
        mov eax, cr0
        movzx esi, word [tss_two]
        pushfd
        pop edi
        str bx
%endmacro

CASE "task: jump"
        TASK2 .task
        jmp TSS2:0
.task:  TASK_REPORT
        END
CASE "task: registers come from the segment"
        TASK2 .task
        jmp TSS2:0
.task:  END
CASE "task: jump saves the old one"
        TASK2 .task
        mov eax, 0x12121212
        jmp TSS2:0
.task:  mov eax, [tss_main + 0x20]
        mov ecx, [tss_main + 0x28]
        mov edx, [tss_main + 0x38]
        mov ebx, [tss_main + 0x24]
        mov esi, [tss_main + 0x4c]
        mov edi, [tss_main + 0x54]
        END
CASE "task: call and iret"
        TASK2 .task
        call TSS2:0
        TASK_REPORT
        END
.task:  iretd
CASE "task: call sets NT and the link"
        TASK2 .task
        call TSS2:0
.task:  TASK_REPORT
        END
CASE "task: called twice goes on after its iret"
        TASK2 .task
        xor esi, esi
        call TSS2:0
        call TSS2:0
        mov eax, [tss_two + 0x28]
        END
.task:  mov eax, 1
        iretd
        mov eax, 2
        iretd
CASE "task: iret without a busy one"
        mov word [tss_main], TSS2
        push dword 0x4002
        popfd
        iretd
        END
CASE "task: iret with a null link"
        push dword 0x4002
        popfd
        iretd
        END
CASE "task: through a task gate in the gdt"
        TASK2 .task
        CALLGATE SPARE, TSS2, 0, 0xe5, 0
        RING3
        call SPARE + 3:0
        mov ax, cs
        END
.task:  TASK_REPORT
        iretd
CASE "task: an interrupt's task gate"
        TASK2 .task
        CALLGATE SPARE, TSS2, 0, 0xe5, 0
        mov word [idt + 8 * 0x31 + 2], TSS2
        mov byte [idt + 8 * 0x31 + 5], 0xe5
        RING3
        int 0x31
        mov ax, cs
        END
.task:  TASK_REPORT
        iretd
CASE "task: an exception's task gate has the error code"
        TASK2 .task
        mov word [idt + 8 * 13 + 2], TSS2
        mov byte [idt + 8 * 13 + 5], 0x85
        mov ax, 0x200
        mov es, ax
.task:  mov eax, [esp]
        mov ecx, [tss_main + 0x20]
        mov edx, esp
        END
CASE "task: jump to a busy one"
        jmp TSS0:0
        END
CASE "task: jump to one that is not present"
        mov byte [gdt + TSS2 + 5], 9
        jmp TSS2:0
        END
CASE "task: segment too small"
        mov word [gdt + TSS2], 0x66
        jmp TSS2:0
        END
CASE "task: DPL"
        RING3
        jmp TSS2:0
        END
CASE "task: gate to something else"
        CALLGATE SPARE, DATA0, 0, 0xe5, 0
        jmp SPARE:0
        END
CASE "task: gate not present"
        CALLGATE SPARE, TSS2, 0, 0x65, 0
        jmp SPARE:0
        END
CASE "task: bad data selector in the new task"
        TASK2 .task
        mov dword [tss_two + 0x54], 0x200
        jmp TSS2:0
.task:  END
CASE "task: data not present in the new task"
        SETDESC SPARE, 0xffff, 0x00cf1200
        TASK2 .task
        mov dword [tss_two + 0x58], SPARE
        jmp TSS2:0
.task:  END
CASE "task: bad ldt in the new task"
        TASK2 .task
        mov dword [tss_two + 0x60], DATA0
        jmp TSS2:0
.task:  END
CASE "task: with an ldt"
        TASK2 .task
        SETLDT 8, 0xffff, 0x00cf9200
        mov dword [tss_two + 0x60], LDT0
        mov dword [tss_two + 0x54], 0xc
        jmp TSS2:0
.task:  sldt ax
        END
CASE "task: into ring 3"
        TASK2 .task
        mov dword [tss_two + 0x4c], CODE3
        mov dword [tss_two + 0x50], DATA3
        mov dword [tss_two + 0x48], DATA3
        mov dword [tss_two + 0x54], DATA3
        mov dword [tss_two + 0x58], DATA3
        mov dword [tss_two + 0x5c], DATA3
        mov dword [tss_two + 0x38], STACK3
        mov dword [tss_two + 4], STACK_DF
        mov dword [tss_two + 8], DATA0
        call TSS2:0
        mov ax, cs
        END
.task:  END
CASE "task: 16-bit segment"
        mov word [gdt + TSS2], 0x2b
        mov byte [gdt + TSS2 + 5], 0x81
        mov edi, tss_two
        mov word [tss_two + 14], task16_entry
        mov word [tss_two + 16], 2
        mov word [tss_two + 18], 0xa1a1
        mov word [tss_two + 20], 0xc1c1
        mov word [tss_two + 22], 0xd1d1
        mov word [tss_two + 24], 0xb1b1
        mov word [tss_two + 26], 0x7000
        mov word [tss_two + 28], 0xb2b2
        mov word [tss_two + 30], 0xe1e1
        mov word [tss_two + 32], 0xf1f1
        mov word [tss_two + 34], DATA0
        mov word [tss_two + 36], CODE16
        mov word [tss_two + 38], DATA0
        mov word [tss_two + 40], DATA0
        mov word [tss_two + 42], 0
        xor eax, eax
        mov fs, ax
        mov gs, ax
        call TSS2:0
        mov eax, [tss_two + 14]
        mov ecx, [tss_two + 18]
        mov edx, [tss_two]
        END
        section .low
        bits 16
task16_entry:
        int 0x3f
        iret
        bits 32
        section .text
CASE "task: the debug trap bit"
        FOLLOW
        TASK2 .task
        mov word [tss_two + 0x64], 1
        jmp TSS2:0
.task:  nop
        END
CASE "task: switch changes cr3"
        TASK2 .task
        mov dword [PAGE_DIRECTORY + 0x2000], 0
        mov esi, PAGE_DIRECTORY
        mov edi, FREE
        mov ecx, 1024
        rep movsd
        mov dword [tss_two + 0x1c], FREE
        PAGING
        jmp TSS2:0
.task:  mov eax, cr3
        mov ecx, [tss_main + 0x1c]
        END
; ---- Double faults -----------------------------------------------------------------------------------------
CASE "double fault: #GP while #GP is delivered"
        mov dword [idt + 8 * 13 + 4], 0
        mov ax, 0x200
        mov es, ax
        END
CASE "double fault: #NP while #UD is delivered is not one"
        mov byte [idt + 8 * 6 + 5], 0x0e
        ud2
        END
CASE "double fault: #NP while #DE is delivered"
        mov byte [idt + 8 * 0 + 5], 0x0e
        xor ecx, ecx
        div ecx
        END
CASE "double fault: #PF while #PF is delivered"
        PAGING
        PTE STACK0 - 0x1000, 6
        mov eax, [0x900000]
        END
CASE "double fault: bad stack"
        PAGING
        mov esp, 0x900000
        ud2
        END
