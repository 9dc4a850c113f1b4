; ---- Segment registers -------------------------------------------------------------------------------------

; LOAD name, register, low, high, selector: a load of a segment register in ring 0.
%macro LOAD 5
CASE %1
        SETDESC SPARE, %3, %4
        mov eax, %5
        mov %2, ax
        mov %2, cx
        END
%endmacro
; A load that ends in the register, and is read back.
%macro LOADS 5
CASE %1
        SETDESC SPARE, %3, %4
        mov eax, %5
        mov %2, ax
        mov ebx, %2
        mov edx, [gdt + SPARE + 4]
        mov ax, DATA0
        mov %2, ax
        END
%endmacro
%macro LOAD3 5
CASE %1
        SETDESC SPARE, %3, %4
        RING3
        mov eax, %5
        mov %2, ax
        mov ebx, %2
        END
%endmacro
LOADS "es: data", es, 0xffff, 0x00cf9200, SPARE
LOADS "es: readable code", es, 0xffff, 0x00cf9a00, SPARE
LOADS "es: null", es, 0xffff, 0x00cf9a00, 0
LOADS "fs: null with RPL 3", fs, 0xffff, 0x00cf9a00, 3
LOADS "gs: RPL 3 of DPL 3", gs, 0xffff, 0x00cff200, SPARE + 3
LOADS "gs: conforming code of DPL 0 with RPL 3", gs, 0xffff, 0x00cf9e00, SPARE + 3
LOAD "es: execute-only code", es, 0xffff, 0x00cf9800, SPARE
LOAD "es: not present", es, 0xffff, 0x00cf1200, SPARE
LOAD "fs: RPL 3 of DPL 0", fs, 0xffff, 0x00cf9200, SPARE + 3
LOAD "gs: system descriptor", gs, 0xffff, 0x00cf8200, SPARE
LOAD "es: beyond the gdt", es, 0xffff, 0x00cf9200, 0x200
LOAD "es: no ldt", es, 0xffff, 0x00cf9200, 0xc
LOAD "es: not present and wrong type", es, 0xffff, 0x00cf1800, SPARE
LOAD "ss: null", ss, 0xffff, 0x00cf9200, 0
LOAD "ss: RPL 3", ss, 0xffff, 0x00cf9200, SPARE + 3
LOAD "ss: DPL 3", ss, 0xffff, 0x00cff200, SPARE
LOAD "ss: read-only", ss, 0xffff, 0x00cf9000, SPARE
LOAD "ss: code", ss, 0xffff, 0x00cf9a00, SPARE
LOAD "ss: not present", ss, 0xffff, 0x00cf1200, SPARE
LOAD "ss: beyond the gdt", ss, 0xffff, 0x00cf9200, 0x200
LOAD3 "ring 3, es: data of ring 0", es, 0xffff, 0x00cf9200, SPARE
LOAD3 "ring 3, es: conforming code of ring 0", es, 0xffff, 0x00cf9e00, SPARE
LOAD3 "ring 3, es: readable code of ring 0", es, 0xffff, 0x00cf9a00, SPARE
LOAD3 "ring 3, ds: data of ring 3 with RPL 0", ds, 0xffff, 0x00cff200, SPARE
LOAD3 "ring 3, ss: RPL 0", ss, 0xffff, 0x00cff200, SPARE
LOAD3 "ring 3, ss: null", ss, 0xffff, 0x00cff200, 3

CASE "accessed bits are set"
        SETDESC SPARE, 0xffff, 0x00cf9200
        SETDESC SPARE + 8, 0xffff, 0x00cf9a00
        mov ax, SPARE
        mov es, ax
        jmp SPARE + 8:.next
.next:  mov eax, [gdt + SPARE + 4]
        mov ecx, [gdt + SPARE + 12]
        END
CASE "ldt"
        SETLDT 8, 0x0000ffff, 0x00cf9200
        mov ax, LDT0
        lldt ax
        mov ax, 0xc
        mov es, ax
        sldt cx
        mov edx, [ldt + 12]
        END
CASE "ldt: beyond its limit"
        mov ax, LDT0
        lldt ax
        mov ax, 0x104
        mov es, ax
        END
CASE "lldt: not an ldt"
        mov ax, DATA0
        lldt ax
        END
CASE "lldt: selector in the ldt"
        mov ax, 4
        lldt ax
        END
CASE "lldt: not present"
        mov byte [gdt + LDT0 + 5], 2
        mov ax, LDT0
        lldt ax
        END
CASE "ltr: busy"
        mov ax, TSS0
        ltr ax
        END
CASE "ltr: null"
        xor eax, eax
        ltr ax
        END
CASE "ltr: not a tss"
        mov ax, DATA0
        ltr ax
        END
CASE "ltr: not present"
        mov byte [gdt + TSS2 + 5], 9
        mov ax, TSS2
        ltr ax
        END
CASE "ltr: sets the busy bit"
        mov ax, TSS2
        ltr ax
        str cx
        mov edx, [gdt + TSS2 + 4]
        END
CASE "lds, les, lfs, lgs, lss"
        mov dword [FREE], 0x12345678
        mov word [FREE + 4], DATA3
        les eax, [FREE]
        lfs ecx, [FREE]
        lgs edx, [FREE]
        lds ebx, [FREE]
        END
CASE "les: faults change nothing"
        mov dword [FREE], 0x12345678
        mov word [FREE + 4], 0x200
        les eax, [FREE]
        END
CASE "lss: esp and ss"
        mov dword [FREE], STACK0 - 16
        mov word [FREE + 4], DATA0
        lss esp, [FREE]
        END
CASE "pop ss: a bad selector leaves esp"
        push dword 0x200
        pop ss
        END
CASE "pop ds with a 16-bit operand"
        push word DATA3
        o16 pop ds
        END
; Segment limits: SDM vol. 3, 5.3.
CASE "null: read"
        xor eax, eax
        mov es, ax
        mov eax, [es:FREE]
        END
CASE "null: write"
        xor eax, eax
        mov fs, ax
        mov [fs:FREE], eax
        END
%macro LIMIT 4+
CASE %1
        SETDESC SPARE, %2, %3
        mov eax, SPARE
        mov es, ax
        %4
        END
%endmacro
LIMIT "limit: last byte", 0x00000fff, 0x00409230, mov al, [es:0xfff]
LIMIT "limit: one too far", 0x00000fff, 0x00409230, mov al, [es:0x1000]
LIMIT "limit: dword that sticks out", 0x00000fff, 0x00409230, mov eax, [es:0xffd]
LIMIT "limit: dword at the end", 0x00000fff, 0x00409230, mov eax, [es:0xffc]
LIMIT "limit: write", 0x00000fff, 0x00409230, mov [es:0x1000], al
LIMIT "limit: read-modify-write", 0x00000fff, 0x00409230, inc byte [es:0x1000]
LIMIT "limit: write of read-only data", 0x0000ffff, 0x00cf9000, mov [es:FREE], al
LIMIT "limit: write of code", 0x0000ffff, 0x00cf9a00, mov [es:FREE], al
LIMIT "expand-down: below", 0x00000fff, 0x00409630, mov al, [es:0xfff]
LIMIT "expand-down: above", 0x00000fff, 0x00409630, mov al, [es:0x1000]
LIMIT "expand-down: 16-bit top", 0x00000fff, 0x00009630, mov al, [es:0x10000]
LIMIT "expand-down: 16-bit last", 0x00000fff, 0x00009630, mov al, [es:0xffff]
CASE "execute-only code cannot be read"
        SETDESC SPARE, 0xffff, 0x00cf9800
        jmp SPARE:.next
.next:  mov eax, [cs:FREE]
        END
CASE "code limit: running over it"
        SETDESC SPARE, (.last - BASE), 0x00409a10
        jmp SPARE:(.next - BASE)
.next:  nop
.last:  nop
.over:  nop
        END
CASE "code limit: an instruction that sticks out"
        SETDESC SPARE, (.last - BASE), 0x00409a10
        jmp SPARE:(.next - BASE)
.next:  nop
.last:  mov eax, 0x12345678
        END
CASE "code limit: jump beyond"
        SETDESC SPARE, 0x00000fff, 0x00409a10
        jmp SPARE:0x1000
        END
CASE "stack limit: push below an expand-down stack"
        SETDESC SPARE, (STACK0 >> 12) - 1, 0x00c09600
        mov eax, SPARE
        mov ss, ax
        mov esp, STACK0
        SETGATE 12, CODE0, .fault, 0x8e
        mov dword [idt + 8 * 12 + 4], 0x8500
        mov word [idt + 8 * 12 + 2], TSSDF
        push eax
.fault: END
CASE "stack limit: pop beyond it"
        SETDESC SPARE, STACK0 - 1, 0x00409200
        or dword [gdt + SPARE + 4], (STACK0 - 1) & 0xf0000
        mov eax, SPARE
        SETDESC SPARE, (STACK0 >> 12) - 1, 0x00c09200
        mov ss, ax
        mov esp, STACK0
        pop eax
        END
CASE "16-bit stack wraps"
        SETDESC SPARE, 0x0000ffff, 0x00009230
        mov eax, SPARE
        mov ss, ax
        mov esp, 0x12340000
        push dword 0x55667788
        mov ecx, esp
        mov ebx, [FREE + 0xfffc]
        pop edx
        mov esi, esp
        mov ax, DATA0
        mov ss, ax
        mov esp, STACK0
        END
CASE "base and limit in bytes"
        SETDESC SPARE, 0x0000ffff, 0x00409230
        mov ax, SPARE
        mov fs, ax
        mov dword [FREE + 16], 0x1234
        mov eax, [fs:16]
        END
CASE "base wraps at 4 GiB"
        SETDESC SPARE, 0x0000ffff, 0xffcf92f0
        mov ax, SPARE
        mov fs, ax
        mov dword [FREE], 0x1234
        mov eax, [fs:FREE + 0x100000]
        END
; ---- LAR, LSL, VERR, VERW, ARPL ----------------------------------------------------------------------------
%macro ASK 3-4 SPARE
CASE %1
        SETDESC SPARE, %2, %3
        mov ebx, %4
        lar eax, ebx
        pushfd
        and eax, 0xf0ff00               ; the rest is undefined
        lsl ecx, ebx
        pushfd
        verr bx
        pushfd
        verw bx
        pushfd
        pop edx
        pop esi
        pop edi
        pop ebp
        END
%endmacro
ASK "ask: data", 0x0000ffff, 0x00cf9200
ASK "ask: read-only, bytes", 0x00012345, 0x00459000
ASK "ask: code", 0x0000ffff, 0x00cf9a00
ASK "ask: execute-only", 0x0000ffff, 0x00cf9800
ASK "ask: data, RPL 3", 0x0000ffff, 0x00cf9200, SPARE + 3
ASK "ask: conforming, RPL 3", 0x0000ffff, 0x00cf9e00, SPARE + 3
ASK "ask: not present", 0x0000ffff, 0x00cf1200
ASK "ask: null", 0, 0, 0
ASK "ask: null with RPL", 0, 0, 3
ASK "ask: beyond the gdt", 0, 0, 0x200
%assign type 0
%rep 16
%assign high 0x8000 | (type << 8)
%defstr type_name type
%strcat case_name "ask: system type ", type_name
ASK case_name, 0x12345678, high
%assign type type + 1
%endrep
CASE "lar and lsl with 16-bit registers"
        mov ebx, DATA0
        o16 lar ax, bx
        o16 lsl cx, bx
        END
CASE "lar of memory"
        mov word [FREE], DATA0
        lar eax, [FREE]
        and eax, 0xf0ff00
        END
CASE "ring 3 asks of ring 0"
        RING3
        mov ebx, DATA0
        lar eax, ebx
        setz cl
        lsl edx, ebx
        setz ch
        verr bx
        setz bl
        mov esi, CODE3
        lar esi, esi
        and esi, 0xf0fe00
        END
CASE "arpl"
        mov eax, 0x10
        mov ecx, 0x23
        arpl ax, cx
        pushfd
        pop edx
        arpl ax, cx
        pushfd
        pop ebx
        END
