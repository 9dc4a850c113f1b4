/*
 * Entry of the bare benchmark: multiboot, 32-bit, paging off, EBX = the boot information. Sets up paging with pages
 * of 4 KiB (so that the TLB matters as it does to programs), the first 128 MiB as they are; long mode if compiled for
 * it; SSE and x87; and calls bare_main(boot information). Interrupts are off but in await_byte; an exception resets the
 * machine.
 */
#define MAPPED (128 << 20)
#define PRESENT_WRITABLE 3

	.section .multiboot, "a"
	.long 0x1badb002, 3, -(0x1badb002 + 3)

	.text
	.code32
	.globl _start
_start:
	cld
	movl $stack_top, %esp
	movl %ebx, boot_information

	/* The page tables proper are one array. */
	movl $page_tables, %edi
	movl $PRESENT_WRITABLE, %eax
1:	movl %eax, (%edi)
	addl $ENTRY, %edi
	addl $4096, %eax
	cmpl $(MAPPED | PRESENT_WRITABLE), %eax
	jb 1b

	/* The directory points to them. */
	movl $directory, %edi
	movl $(page_tables + PRESENT_WRITABLE), %eax
2:	movl %eax, (%edi)
	addl $ENTRY, %edi
	addl $4096, %eax
	cmpl $(page_tables + MAPPED / 4096 * ENTRY + PRESENT_WRITABLE), %eax
	jb 2b

	lgdt gdt_pointer
	movl %cr4, %eax
#ifdef __x86_64__
	movl $(directory + PRESENT_WRITABLE), directory_pointers
	movl $(directory_pointers + PRESENT_WRITABLE), level4
	orl $0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $level4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl $0x100, %eax
	wrmsr
#else
	orl $0x600, %eax
	movl %eax, %cr4
	movl $directory, %eax
	movl %eax, %cr3
#endif
	movl %cr0, %eax
	andl $~0xc, %eax		/* EM and TS off */
	orl $0x80000022, %eax		/* PG, NE, MP on */
	movl %eax, %cr0
	ljmp $8, $3f

#ifdef __x86_64__
	.code64
3:	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	fninit
	movl boot_information, %edi
	call bare_main
#else
3:	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	fninit
	subl $12, %esp
	pushl boot_information
	call bare_main
#endif
4:	hlt
	jmp 4b

	/* Only wakes from hlt: end of interrupt. */
	.globl interrupt
interrupt:
#ifdef __x86_64__
	pushq %rax
	movb $0x20, %al
	outb %al, $0x20
	popq %rax
	iretq
#else
	pushl %eax
	movb $0x20, %al
	outb %al, $0x20
	popl %eax
	iret
#endif

	.data
	.balign 8
gdt:	.quad 0
#ifdef __x86_64__
	.quad 0x00af9b000000ffff
#else
	.quad 0x00cf9b000000ffff
#endif
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.bss
	.balign 4096
page_tables:
	.skip MAPPED / 4096 * ENTRY
directory:
	.skip 4096
directory_pointers:
	.skip 4096
level4:	.skip 4096
	.skip 65536
stack_top:
boot_information:
	.skip 4

	.section .note.GNU-stack, "", @progbits
