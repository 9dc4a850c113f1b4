; Long mode: 64-bit and compatibility mode.
%include "harness64.asm"
%include "long-cases.asm"
%include "long-paging.asm"
        section .cases
cases_end:
