/*
 * Into a case and out of it. enter_case() loads every register from the case and jumps to its code; that ends
 * in some exception, whose handler (harness.c) returns to leave_case, and so from enter_case().
 */
#include <asm/prctl.h>
#include <sys/syscall.h>

        .text
        .globl  enter_case, leave_case
        .type   enter_case, @function

/* void enter_case(const struct test_case *c): offsets as in harness.c. */
enter_case:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, host_rsp(%rip)
        movq    %rdi, %rbx

        fxrstor64 160(%rbx)
        movq    136(%rbx), %rax
        movq    %rax, entry(%rip)
        pushq   128(%rbx)                       /* rflags; taken again just before the jump */
        cmpl    $0, has_fsgsbase(%rip)
        je      1f
        movq    152(%rbx), %rax
        wrgsbase %rax
        movq    144(%rbx), %rax
        wrfsbase %rax
        jmp     2f
1:      movl    $SYS_arch_prctl, %eax
        movl    $ARCH_SET_GS, %edi
        movq    152(%rbx), %rsi
        syscall
        movl    $SYS_arch_prctl, %eax
        movl    $ARCH_SET_FS, %edi
        movq    144(%rbx), %rsi
        syscall
2:      movq    %rbx, %rdi

        movq    0(%rdi), %rax
        movq    8(%rdi), %rcx
        movq    16(%rdi), %rdx
        movq    24(%rdi), %rbx
        movq    40(%rdi), %rbp
        movq    48(%rdi), %rsi
        movq    64(%rdi), %r8
        movq    72(%rdi), %r9
        movq    80(%rdi), %r10
        movq    88(%rdi), %r11
        movq    96(%rdi), %r12
        movq    104(%rdi), %r13
        movq    112(%rdi), %r14
        movq    120(%rdi), %r15
        pushq   32(%rdi)
        popq    target_rsp(%rip)
        movq    56(%rdi), %rdi
        popfq
        movq    target_rsp(%rip), %rsp
        jmp     *entry(%rip)

leave_case:
        fninit
        ldmxcsr default_mxcsr(%rip)
        cld
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   enter_case, . - enter_case

        .section .rodata
default_mxcsr:
        .long   0x1f80

        .data
        .balign 8
        .globl  host_rsp, has_fsgsbase
host_rsp:       .quad 0
has_fsgsbase:   .long 0
        .balign 8
target_rsp:     .quad 0
entry:          .quad 0

        .section .note.GNU-stack, "", @progbits
