/* The world of a Linux program without a libc, which is also /init of a machine; and the rows that measure Linux. */
#include "bench.h"
#include "linux.h"

#define AT_SYSINFO 32
#define TCSBRK 0x5409
#define CLOCK_MONOTONIC 1
#define EXEC_ONLY "exit"

long vfork(void);

static const char *program_path;
static char *const *environment;

static void fail(const char *what)
{
	print("BENCH failed: ");
	print(what);
	print("\n");
	call1(SYS_exit, 1);
}

unsigned char *arena_get(size_t size)
{
	long at = call6(SYS_mmap, 0, (long)(size + MIB), MMAP_READ_WRITE | MMAP_EXECUTE, MMAP_PRIVATE_ANONYMOUS, -1, 0);
	if ((unsigned long)at > -4096ul)
		fail("mmap");
	unsigned char *aligned = (unsigned char *)(((uintptr_t)at + MIB - 1) & ~(uintptr_t)(MIB - 1));
	/* Touched before it is measured. */
	for (size_t i = 0; i < size; i += 4096)
		*(volatile unsigned char *)(aligned + i) = 0;
	return aligned;
}

void arena_release(unsigned char *at, size_t size)
{
	/* What was cut off below the boundary stays mapped, and was never touched. */
	call2(SYS_munmap, at, size);
}

void print(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	call3(SYS_write, 1, text, n);
}

void print_flush(void)
{
	/* tcdrain: an error if it is no terminal, where nothing waits. */
	call3(SYS_ioctl, 1, TCSBRK, 1);
}

void await_byte(void)
{
	char byte;
	if (call3(SYS_read, 0, &byte, 1) != 1)
		fail("read");
}

uint64_t clock_now(void)
{
	long time[2];
	call2(SYS_clock_gettime, CLOCK_MONOTONIC, time);
	return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* 10,000 system calls that do nothing each unit. */
static uint64_t run_getppid(uint32_t units)
{
	long sum = 0;
	while (units--)
		for (int i = 0; i < 10000; i++)
			sum |= call0(SYS_getppid);
	return sum < 0 ? 0 : 1;
}

/* 1,024 pages mapped, touched and unmapped each unit. */
static uint64_t run_faults(uint32_t units)
{
	uint64_t sum = 0;
	while (units--) {
		size_t size = 1024 * 4096;
		long at = call6(SYS_mmap, 0, (long)size, MMAP_READ_WRITE, MMAP_PRIVATE_ANONYMOUS, -1, 0);
		if ((unsigned long)at > -4096ul)
			fail("mmap");
		for (size_t i = 0; i < size; i += 4096) {
			volatile unsigned char *byte = (unsigned char *)at + i;
			sum += *byte;
			*byte = 1;
			sum += *byte;
		}
		call2(SYS_munmap, at, size);
	}
	return sum;
}

static void wait_for(long child, int wanted)
{
	int status = -1;
	if (child < 0 || call4(SYS_wait4, child, &status, 0, 0) != child || status != wanted << 8)
		fail("child");
}

/* One process each unit. */
static uint64_t run_fork(uint32_t units)
{
	uint64_t sum = 0;
	for (; units; units--) {
		long child = call0(SYS_fork);
		if (child == 0)
			call1(SYS_exit, units & 127);
		wait_for(child, (int)(units & 127));
		sum = mix(sum, units);
	}
	return sum;
}

static __attribute__((noinline)) long spawn(void)
{
	const char *words[] = { program_path, EXEC_ONLY, NULL };
	long child = vfork();
	if (child == 0) {
		call3(SYS_execve, program_path, words, environment);
		call1(SYS_exit, 1);
	}
	return child;
}

/* One process that becomes this program anew each unit. */
static uint64_t run_exec(uint32_t units)
{
	uint64_t sum = 0;
	for (; units; units--) {
		wait_for(spawn(), 42);
		sum = mix(sum, units);
	}
	return sum;
}

/* 100 bytes to another process and back each unit. */
static uint64_t run_pipe(uint32_t units)
{
	int there[2], back[2];
	unsigned char byte = 0;
	if (call1(SYS_pipe, there) < 0 || call1(SYS_pipe, back) < 0)
		fail("pipe");
	long child = call0(SYS_fork);
	if (child == 0) {
		for (uint32_t i = 0; i < 100 * units; i++) {
			call3(SYS_read, there[0], &byte, 1);
			byte++;
			call3(SYS_write, back[1], &byte, 1);
		}
		call1(SYS_exit, byte & 127);
	}
	for (uint32_t i = 0; i < 100 * units; i++) {
		call3(SYS_write, there[1], &byte, 1);
		if (call3(SYS_read, back[0], &byte, 1) != 1)
			fail("pipe");
	}
	wait_for(child, byte & 127);
	return byte;
}

const struct row system_rows[] = {
	{ "getppid", run_getppid, 120, NULL, 0, 1 },
	{ "faults", run_faults, 60, NULL, 0, 1 },
	{ "fork", run_fork, 200, NULL, 0, 1 },
	{ "exec", run_exec, 300, NULL, 0, 1 },
	{ "pipe", run_pipe, 80, NULL, 0, 1 },
	{ .name = NULL },
};

void linux_main(const long *stack)
{
	int count = (int)stack[0];
	const char *const *words = (const char *const *)(stack + 1);
	environment = (char *const *)(words + count + 1);
#ifdef __i386__
	const long *vector = (const long *)environment;
	while (*vector)
		vector++;
	for (vector++; vector[0]; vector += 2)
		if (vector[0] == AT_SYSINFO)
			system_call = (void (*)(void))vector[1];
#endif
	program_path = words[0];
	if (count > 1 && words[1][0] == EXEC_ONLY[0] && words[1][1] == EXEC_ONLY[1])
		call1(SYS_exit, 42);
	bench_main(words + 1, count - 1);
	/* As the first process there is nothing to return to: LINUX_REBOOT_CMD_POWER_OFF. */
	if (call0(SYS_getpid) == 1)
		call4(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, 0);
	call1(SYS_exit, 0);
}
