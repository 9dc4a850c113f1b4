/* System calls of Linux for amd64 and i386, as far as the benchmark needs them. */
#ifndef LINUX_H
#define LINUX_H

#ifdef __x86_64__
enum {
	SYS_read = 0,
	SYS_write = 1,
	SYS_mmap = 9,
	SYS_munmap = 11,
	SYS_ioctl = 16,
	SYS_pipe = 22,
	SYS_getpid = 39,
	SYS_fork = 57,
	SYS_vfork = 58,
	SYS_execve = 59,
	SYS_exit = 60,
	SYS_wait4 = 61,
	SYS_getppid = 110,
	SYS_reboot = 169,
	SYS_clock_gettime = 228,
};

static inline long call6(long n, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#else
enum {
	SYS_exit = 1,
	SYS_fork = 2,
	SYS_read = 3,
	SYS_write = 4,
	SYS_execve = 11,
	SYS_getpid = 20,
	SYS_pipe = 42,
	SYS_ioctl = 54,
	SYS_getppid = 64,
	SYS_reboot = 88,
	SYS_munmap = 91,
	SYS_wait4 = 114,
	SYS_vfork = 190,
	SYS_mmap = 192, /* mmap2, offset in pages */
	SYS_clock_gettime = 265,
};

/* The kernel's way in (AT_SYSINFO: sysenter where the processor has it), or int 0x80. start.S has it. */
extern long call6(long n, long a, long b, long c, long d, long e, long f);
extern void (*system_call)(void);
#endif

#define call0(n) call6(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) call6(n, (long)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) call6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) call6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define call4(n, a, b, c, d) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

#define MMAP_READ_WRITE 3
#define MMAP_EXECUTE 4
#define MMAP_PRIVATE_ANONYMOUS 0x22

#endif
