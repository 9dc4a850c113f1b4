/* Guest code of the tests. Each piece runs at guest address 0x2000 and ends with an RDMSR of an unknown register. */
	.section .rodata

.macro guest name
	.globl guest_\name, guest_\name\()_end
guest_\name:
.endm
.macro end64 name
	movq $-1, %rcx
	rdmsr
guest_\name\()_end:
.endm
.macro end16 name
	rdmsr
guest_\name\()_end:
.endm

	.code64
	/* ---- I/O: twice a single access, with the port as immediate and in DX; or one REP */
guest inb
	movl $0x1000, %edi
	in $123, %al
	mov %al, (%rdi)
	movw $123, %dx
	in %dx, %al
	mov %al, 1(%rdi)
	end64 inb
guest inw
	movl $0x1000, %edi
	in $123, %ax
	mov %ax, (%rdi)
	movw $123, %dx
	in %dx, %ax
	mov %ax, 2(%rdi)
	end64 inw
guest inl
	movl $0x1000, %edi
	in $123, %eax
	mov %eax, (%rdi)
	movw $123, %dx
	in %dx, %eax
	mov %eax, 4(%rdi)
	end64 inl
guest rep_insb
	movl $0x1000, %edi
	movl $5, %ecx
	movw $123, %dx
	rep insb
	end64 rep_insb
guest rep_insw
	movl $0x1000, %edi
	movl $14, %ecx
	movw $123, %dx
	rep insw
	end64 rep_insw
guest rep_insl
	movl $0x1000, %edi
	movl $7, %ecx
	movw $123, %dx
	rep insl
	end64 rep_insl
guest outb
	movl $0x1000, %esi
	mov (%rsi), %al
	out %al, $123
	mov 1(%rsi), %al
	movw $123, %dx
	out %al, %dx
	end64 outb
guest outw
	movl $0x1000, %esi
	mov (%rsi), %ax
	out %ax, $123
	mov 2(%rsi), %ax
	movw $123, %dx
	out %ax, %dx
	end64 outw
guest outl
	movl $0x1000, %esi
	mov (%rsi), %eax
	out %eax, $123
	mov 4(%rsi), %eax
	movw $123, %dx
	out %eax, %dx
	end64 outl
guest rep_outsb
	movl $0x1000, %esi
	movl $5, %ecx
	movw $123, %dx
	rep outsb
	end64 rep_outsb
guest rep_outsw
	movl $0x1000, %esi
	movl $8, %ecx
	movw $123, %dx
	rep outsw
	end64 rep_outsw
guest rep_outsl
	movl $0x1000, %esi
	movl $7, %ecx
	movw $123, %dx
	rep outsl
	end64 rep_outsl

	/* ---- memory that is not there, at 0x1000, 64-bit */
guest mov
	movl $0x1000, %eax
	movq $0x3000, (%rax)
	movq $0x1004, 8(%rax)
	movq (%rax), %rbx
	movq 8(%rax), %rcx
	addq %rbx, %rcx
	movq %rbx, (%rax)
	movb %cl, (%rax)
	end64 mov
guest or
	movl $0x1000, %eax
	movl $0x1000, %ebx
	movq $0, (%rax)
	orb $0xFF, (%rax)
	orw $0x0600, (%rax)
	orq %rbx, (%rax)
	end64 or
guest and
	movl $0x1000, %eax
	movl $0x1FFF, %ebx
	movl $0x3FFF, %ecx
	movq %rcx, (%rax)
	andq %rbx, (%rax)
	andb $0xC0, (%rax)
	end64 and
guest xor
	movl $0x1000, %eax
	movl $0xF0, %ebx
	movq $0x1000, (%rax)
	xorq %rbx, (%rax)
	xorw $0x003F, (%rax)
	end64 xor
guest address_size
	movabsq $0xAAAAAAAA00001000, %rax
	movl $0x1F33, %ebx
	movq %rbx, (%eax)
	movb $0, (%eax)
	end64 address_size
guest moffs
	movl $0xFFA0, %eax
	movabsq %rax, 0x1000
	movabsb 0x1000, %al
	addb $0x0B, %al
	movabsb %al, 0x1000
	end64 moffs
guest stos
	movl $0x1000, %edi
	movl $1, %ecx
	movl $0x56, %eax
	rep stosb
	movl $0x1234, %eax
	stosw
	end64 stos
guest lods
	movl $0x1000, %edi
	movl $0x1008, %esi
	movl $0x12345678, %ebx
	movq %rbx, (%rsi)
	lodsw
	movw %ax, (%rdi)
	lodsb
	movb %al, 2(%rdi)
	lodsb
	movb %al, 3(%rdi)
	end64 lods
guest movs
	movl $0x1000, %edi
	movl $0x1008, %esi
	movl $0x12345678, %ebx
	movq %rbx, (%rsi)
	movl $4, %ecx
	rep movsb
	movl $2, %ecx
	rep movsw
	end64 movs
guest movzxb
	movl $0x1000, %eax
	movl $0x12345678, %ebx
	movq %rbx, (%rax)
	movzbq (%rax), %rcx
	movq %rcx, (%rax)
	end64 movzxb
guest movzxw
	movl $0x1000, %eax
	movl $0x12345678, %ebx
	movq %rbx, (%rax)
	movzwq (%rax), %rcx
	movq %rcx, (%rax)
	end64 movzxw
guest cmp
	movl $0x1000, %eax
	movl $0xF0, %ebx
	movq %rbx, (%rax)
	cmpb $0xF0, (%rax)
	jne 1f
	cmpb $0xF1, (%rax)
	jae 1f
	cmpb $0xEF, (%rax)
	jbe 1f
	cmpw $0xF0, (%rax)
	jne 1f
	cmpw $0xF1, (%rax)
	jge 1f
	cmpw $0xEF, (%rax)
	jle 1f
	cmpl $0xF0, (%rax)
	jne 1f
	cmpl $0xF1, (%rax)
	jge 1f
	cmpl $0xEF, (%rax)
	jle 1f
	cmpq $0xF0, (%rax)
	jne 1f
	cmpq $0xF1, (%rax)
	jge 1f
	cmpq $0xEF, (%rax)
	jle 1f
	movq $1, (%rax)
1:	end64 cmp
guest sub
	movl $0x1000, %eax
	movabsq $0x1F0000A100, %rbx
	movq %rbx, (%rax)
	movl $1, %ebx
	subb %bl, (%rax)
	movl $0x100, %ebx
	subw %bx, (%rax)
	movabsq $0x1000000000, %rbx
	subq %rbx, (%rax)
	end64 sub
guest test
	movl $0x1000, %eax
	movl $0x00010110, %ebx
	movq %rbx, (%rax)
	testb $0x10, (%rax)
	jz 1f
	testw $0x0100, (%rax)
	jz 1f
	testl $0x00010000, (%rax)
	jz 1f
	movq $1, (%rax)
1:	end64 test
guest xchg
	movl $0x1000, %eax
	movl $0x12FFFF, %ebx
	xchgq %rbx, (%rax)
	movl $0x34FF, %ebx
	xchgw %bx, (%rax)
	movl $0x56, %ebx
	xchgb %bl, (%rax)
	end64 xchg
guest xchg32
	movabsq $0xBBBBBBBB00001000, %rax
	movl $0x123456, %ebx
	movq $7, (%eax)
	xchgq %rbx, (%eax)
	movq %rbx, (%eax)
	movl $0x123456, %ecx
	xchgq %rcx, (%eax)
	end64 xchg32

	/* ---- what upstream's tests leave out */
guest sign /* immediates are sign-extended: -1 & -2, compared with a 64-bit -2 */
	movl $0x1000, %eax
	movq $-1, (%rax)
	andl $-2, (%rax)
	movl $-1, 4(%rax)
	cmpq $-2, (%rax)
	end64 sign
guest arithmetic /* ADD, INC, NOT, NEG, MOVSX, BTS, CMPXCHG, which the original can't */
	movl $0x1000, %eax
	movq $5, (%rax)
	addq $10, (%rax)
	incl (%rax)
	notw (%rax)
	negq (%rax)
	movsbq (%rax), %rbx
	btsq $40, (%rax)
	movq %rax, %rdx
	movq (%rdx), %rax
	lock cmpxchgq %rbx, (%rdx)
	end64 arithmetic
guest straddle /* eight bytes, half of them in memory and half not */
	movl $0x1FFC, %eax
	movabsq $0x1122334455667788, %rbx
	movq %rbx, (%rax)
	movl $0x1000, %edx
	movq (%rax), %rcx
	end64 straddle
guest backwards
	movl $0x1003, %edi
	movl $4, %ecx
	movl $0x1003, %esi
	movw $123, %dx
	std
	rep outsb
	cld
	end64 backwards
guest outs_twice /* OUT after OUT: RIP must be right between them */
	movw $123, %dx
	movb $7, %al
	out %al, %dx
	out %al, %dx
	out %al, %dx
	end64 outs_twice
guest push_pop
	movl $0x1800, %esp
	pushq $0x1234
	popq (%rsp)
	end64 push_pop

	.code16
guest r_mov
	movw $0x10F1, %bx
	movb $0x23, (%bx)
	end16 r_mov
guest r_dual
	movw $0x10F0, %bx
	movw $3, %si
	movw $0x123, (%bx,%si)
	end16 r_dual
guest r_disp
	movw $0x1000, %bp
	movw $0xE0, %di
	movw $0x678, 0x11(%bp,%di)
	end16 r_disp
guest r_mixed
	movw $0x1000, %cx
	movl $0x10F0, %ebx
	movw $0x0011, 6(%bx)
	orl $0, 6(%ebx)
	orw %cx, 6(%bx)
	xorl $0, 6(%bx)
	end16 r_mixed
guest r_direct
	movb $0x12, 0x1234
	end16 r_direct
guest r_xchg
	movw $0x12FF, %ax
	xchgw %ax, 0x1234
	movb $0x34, %cl
	xchgb %cl, 0x1234
	end16 r_xchg

	/* ---- three small kernels */
	.code64
guest spin
1:	jmp 1b
guest_spin_end:
	.balign 64
guest handlers /* INT 32: port 2; NMI: port 3; #GP: port 4 with the error code; #UD: port 5 */
	movw $1, %dx
	out %al, %dx
	sti
1:	incq %rbx
	jmp 1b
	.balign 64
	movw $2, %dx /* + 0x40 */
	out %al, %dx
	iretq
	.balign 64
	movw $3, %dx /* + 0x80 */
	out %al, %dx
	iretq
	.balign 64
	movw $4, %dx /* + 0xC0 */
	popq %rax
	out %eax, %dx
	iretq
	.balign 64
	movw $5, %dx /* + 0x100 */
	out %al, %dx
	iretq
guest_handlers_end:
	.section .note.GNU-stack,"",@progbits
