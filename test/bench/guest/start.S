/* Entry of the Linux program: linux_main(stack as the kernel left it: argc, argv, environment, auxiliary vector). */
	.text
	.globl _start
#ifdef __x86_64__
_start:
	xorl %ebp, %ebp
	movq %rsp, %rdi
	andq $-16, %rsp
	call linux_main
	hlt

	/* vfork: the child comes back first, on the same stack, so the return address is kept in a register. */
	.globl vfork
vfork:
	popq %rdx
	movl $58, %eax
	syscall
	jmp *%rdx
#else
_start:
	xorl %ebp, %ebp
	movl %esp, %eax
	andl $-16, %esp
	subl $12, %esp
	pushl %eax
	call linux_main
	hlt

	.globl vfork
vfork:
	popl %edx
	movl $190, %eax
	int $0x80
	jmp *%edx

	/* long call6(n, a, b, c, d, e, f) */
	.globl call6
call6:
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %ebp
	movl 20(%esp), %eax
	movl 24(%esp), %ebx
	movl 28(%esp), %ecx
	movl 32(%esp), %edx
	movl 36(%esp), %esi
	movl 40(%esp), %edi
	movl 44(%esp), %ebp
	call *system_call
	popl %ebp
	popl %edi
	popl %esi
	popl %ebx
	ret

	.globl call_interrupt
call_interrupt:
	int $0x80
	ret

	.data
	.globl system_call
system_call:
	.long call_interrupt
#endif

	.section .note.GNU-stack, "", @progbits
