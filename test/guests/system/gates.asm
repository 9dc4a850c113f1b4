; ---- Far transfers -----------------------------------------------------------------------------------------

CASE "far jump: null"
        jmp 0:0
        END
CASE "far jump: beyond the gdt"
        jmp 0x200:0
        END
CASE "far jump: data"
        jmp DATA0:0
        END
CASE "far jump: ring 3 code from ring 0"
        jmp CODE3:0
        END
CASE "far jump: RPL 3"
        jmp CODE0 + 3:0
        END
CASE "far jump: not present"
        SETDESC SPARE, 0xffff, 0x00cf1a00
        jmp SPARE:0
        END
CASE "far jump: conforming from ring 3"
        SETDESC SPARE, 0xffff, 0x00cf9e00
        RING3
        jmp SPARE:.next
.next:  mov ax, cs
        END
CASE "far jump: conforming of an outer ring"
        SETDESC SPARE, 0xffff, 0x00cffe00
        jmp SPARE:.next
.next:  END
CASE "far jump through memory"
        mov dword [FREE], .next
        mov word [FREE + 4], CODE0
        jmp far [FREE]
        hlt
.next:  END
CASE "far call and return"
        call CODE0:.sub
        mov ecx, 1
        END
.sub:   mov eax, [esp]
        mov edx, [esp + 4]
        retf
CASE "far call: 16-bit operand"
        mov word [FREE], call16_target
        mov word [FREE + 2], SPARE
        SETDESC SPARE, 0x0000ffff, 0x00409a00
        o16 call far [FREE]
        section .low
call16_target:
        mov ecx, [esp]
        int 0x30
        section .text
        END
CASE "far return to the same ring, with parameters"
        push dword 1
        push dword 2
        push dword CODE0
        push dword .next
        retf 8
.next:  END
CASE "far return to an outer ring, with parameters"
        mov ax, DATA0
        mov es, ax
        mov ax, DATA3
        mov fs, ax
        push dword DATA3
        push dword STACK3
        push dword 0x11
        push dword 0x22
        push dword CODE3
        push dword .next
        retf 8
.next:  mov ecx, esp
        END
CASE "far return to an inner ring"
        RING3
        push dword CODE0
        push dword 0
        retf
        END
CASE "far return: null"
        push dword 0
        push dword 0
        retf
        END
CASE "far return: data"
        push dword DATA0
        push dword 0
        retf
        END
CASE "far return: RPL and DPL differ"
        push dword CODE0 + 3
        push dword 0
        retf
        END
CASE "far return: not present"
        SETDESC SPARE, 0xffff, 0x00cf1a00
        push dword SPARE
        push dword 0
        retf
        END
CASE "far return to an outer ring: null stack"
        push dword 0
        push dword STACK3
        push dword CODE3
        push dword 0
        retf
        END
CASE "far return to an outer ring: stack of ring 0"
        push dword DATA0
        push dword STACK3
        push dword CODE3
        push dword 0
        retf
        END
CASE "far return to an outer ring: stack not present"
        SETDESC SPARE, 0xffff, 0x00cf7200
        push dword SPARE + 3
        push dword STACK3
        push dword CODE3
        push dword 0
        retf
        END
CASE "far return: beyond the limit"
        SETDESC SPARE, 0x0fff, 0x00409a10
        SETDESC SPARE, 0x0fff, 0x00409a00
        push dword SPARE
        push dword .next
        retf
.next:
        END
CASE "call gate in the same ring"
        CALLGATE SPARE, CODE0, .sub, 0x8c, 0
        call SPARE:0x12345678
        mov ecx, 1
        END
.sub:   mov eax, [esp]
        mov edx, [esp + 4]
        retf
CASE "call gate from ring 3, 3 parameters"
        CALLGATE SPARE, CODE0, .sub, 0xec, 3
        RING3
        push dword 0x11
        push dword 0x22
        push dword 0x33
        call SPARE + 3:0
        mov ecx, esp
        END
.sub:   mov eax, [esp + 8]
        mov ebx, [esp + 16]
        mov edx, [esp + 20]
        mov esi, [esp + 24]
        mov edi, [esp + 4]
        retf 12
CASE "call gate from ring 3 to ring 1"
        CALLGATE SPARE, CODE1, .sub, 0xec, 0
        RING3
        call SPARE + 3:0
        END
.sub:   mov ax, cs
        mov cx, ss
        mov edx, esp
        END
CASE "call gate, 16 bits, 2 parameters"
        CALLGATE SPARE, CODE16, 0, 0xe4, 2
        mov word [gdt + SPARE], gate16_target
        RING3
        push word 0x11
        push word 0x22
        call SPARE + 3:0
        mov ecx, esp
        END
        section .low
        bits 16
gate16_target:
        mov eax, [esp]
        mov ebx, [esp + 4]
        mov esi, [esp + 8]
        int 0x30
        bits 32
        section .text
CASE "call gate: DPL below CPL"
        CALLGATE SPARE, CODE0, 0, 0x8c, 0
        RING3
        call SPARE + 3:0
        END
CASE "call gate: DPL below RPL"
        CALLGATE SPARE, CODE0, 0, 0x8c, 0
        call SPARE + 3:0
        END
CASE "call gate: not present"
        CALLGATE SPARE, CODE0, 0, 0x6c, 0
        call SPARE:0
        END
CASE "call gate: null target"
        CALLGATE SPARE, 0, 0, 0xec, 0
        call SPARE:0
        END
CASE "call gate: target is data"
        CALLGATE SPARE, DATA0, 0, 0xec, 0
        call SPARE:0
        END
CASE "call gate: target not present"
        SETDESC SPARE + 8, 0xffff, 0x00cf1a00
        CALLGATE SPARE, SPARE + 8, 0, 0xec, 0
        call SPARE:0
        END
CASE "call gate: target of an outer ring"
        CALLGATE SPARE, CODE3, 0, 0xec, 0
        call SPARE:0
        END
CASE "jump through a call gate to an inner ring"
        CALLGATE SPARE, CODE0, 0, 0xec, 0
        RING3
        jmp SPARE + 3:0
        END
CASE "jump through a call gate to conforming code"
        SETDESC SPARE + 8, 0xffff, 0x00cf9e00
        CALLGATE SPARE, SPARE + 8, .next, 0xec, 0
        RING3
        jmp SPARE + 3:0
.next:  mov ax, cs
        END
CASE "call gate: inner stack is wrong"
        mov dword [tss_main + 8], DATA3
        CALLGATE SPARE, CODE0, 0, 0xec, 0
        SETGATE 10, CODE1, .handler, 0x8e
        RING3
        call SPARE + 3:0
.handler: mov eax, [esp]
        mov ecx, [esp + 4]
        mov dword [tss_main + 8], DATA0
        END
CASE "far jump to an ldt descriptor"
        jmp LDT0:0
        END
CASE "far jump to an interrupt gate"
        CALLGATE SPARE, CODE0, 0, 0x8e, 0
        jmp SPARE:0
        END
; ---- IRET --------------------------------------------------------------------------------------------------
CASE "iret to the same ring"
        push dword 0x247fd7 & ~0x4300
        push dword CODE0
        push dword .next
        iretd
.next:  pushfd
        pop eax
        END
CASE "iret to ring 3 drops the data segments of ring 0"
        mov ax, DATA3
        mov gs, ax
        push dword DATA3
        push dword STACK3
        push dword 0x202
        push dword CODE3
        push dword .next
        iretd
.next:  END
CASE "iret at ring 3 keeps IOPL and IF"
        RING3 0x202
        push dword 0x247fd7 & ~0x4300
        push dword CODE3
        push dword .next
        iretd
.next:  pushfd
        pop eax
        END
CASE "iret: 16 bits"
        SETDESC SPARE, 0x8000ffff, 0x00009a00
        push word 0x8d7
        push word CODE16
        push word iret16_target
        o16 iret
        section .low
        bits 16
iret16_target:
        pushfd
        pop eax
        int 0x30
        bits 32
        section .text
        END
CASE "iret: null"
        push dword 2
        push dword 0
        push dword 0
        iretd
        END
CASE "iret: to an inner ring"
        RING3
        push dword 2
        push dword CODE0
        push dword 0
        iretd
        END
CASE "iret: stack of another ring"
        push dword DATA0
        push dword STACK3
        push dword 2
        push dword CODE3
        push dword 0
        iretd
        END
CASE "iret: not present"
        SETDESC SPARE, 0xffff, 0x00cf1a00
        push dword 2
        push dword SPARE
        push dword 0
        iretd
        END
CASE "iret: to an outer ring, stack not present"
        SETDESC SPARE, 0xffff, 0x00cf7200
        push dword SPARE + 3
        push dword STACK3
        push dword 2
        push dword CODE3
        push dword 0
        iretd
        END
CASE "sysenter without a selector"
        sysenter
        END
CASE "sysenter and sysexit"
        mov ecx, 0x174
        mov eax, 0x100
        xor edx, edx
        wrmsr
        inc ecx
        mov eax, STACK0
        wrmsr
        inc ecx
        mov eax, .target
        wrmsr
        SETDESC 0x100, 0xffff, 0x00cf9a00
        SETDESC 0x108, 0xffff, 0x00cf9200
        SETDESC 0x110, 0xffff, 0x00cffa00
        SETDESC 0x118, 0xffff, 0x00cff200
        RING3 0x202
        xor esi, esi
        sysenter
.target: pushfd
        pop ebx
        mov ax, cs
        mov bp, ss
        mov ecx, STACK3
        mov edx, .outside
        sysexit
.outside: mov si, cs
        mov di, ss
        END
CASE "syscall and sysret, 32-bit"
        mov ecx, 0xc0000080
        mov eax, 1
        xor edx, edx
        wrmsr
        inc ecx
        mov eax, .target
        mov edx, 0x01100100
        wrmsr
        SETDESC 0x100, 0xffff, 0x00cf9a00
        SETDESC 0x108, 0xffff, 0x00cf9200
        SETDESC 0x110, 0xffff, 0x00cffa00
        SETDESC 0x118, 0xffff, 0x00cff200
        RING3 0x202
        syscall
        mov si, cs
        mov di, ss
        END
.target: pushfd
        pop ebx
        mov ax, cs
        mov dx, ss
        mov esp, STACK0
        sysret
CASE "syscall without SCE"
        syscall
        END
; ---- Ports -------------------------------------------------------------------------------------------------
CASE "ports: allowed by the map"
        RING3
        mov al, 0
        mov dx, 0x80
        out dx, al
        END
CASE "ports: forbidden by the map"
        mov byte [tss_main + 0x68 + 0x10], 2
        RING3
        mov dx, 0x81
        out dx, al
        END
CASE "ports: a word that touches a forbidden one"
        mov byte [tss_main + 0x68 + 0x10], 2
        RING3
        mov dx, 0x80
        out dx, ax
        END
CASE "ports: beyond the map"
        RING3
        mov dx, 0x801
        in al, dx
        END
CASE "ports: IOPL 3"
        mov byte [tss_main + 0x68 + 0x10], 2
        RING3 0x3202
        mov dx, 0x81
        out dx, al
        END
CASE "ports: a 16-bit map offset beyond the segment"
        mov word [tss_main + 0x66], 0xffff
        RING3
        mov dx, 0x80
        out dx, al
        END
CASE "outs at ring 3"
        mov byte [tss_main + 0x68 + 0x10], 2
        RING3
        mov esi, FREE
        mov dx, 0x81
        outsb
        END
CASE "rep outs"
        mov dword [FREE], '....'
        mov esi, FREE
        mov ecx, 4
        mov dx, PORT
        rep outsb
        END
