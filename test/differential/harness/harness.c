/*
 * The native oracle of the differential test: reads cases from standard input, runs each on the real CPU in
 * ring 3, and writes what came out to standard output. Records are little-endian, in the layouts below, which
 * test/differential/case.ts has as well. A case that runs away is ended by a timer; one that kills the whole
 * process is the last: the reader sees the end of file and starts another process.
 *
 * Where a case lives (the same addresses on the emulator):
 *   0x10000000  two pages, read and write       the window: filled with the case's 256-byte pattern
 *   0x10002000  one page, read only             the pattern, too
 *   0x10003000  and all around: nothing
 *   0x20000000  two pages, read and execute     int3 everywhere but for the case's code; nothing after them
 */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define WINDOW ((uint8_t *)0x10000000)
#define WINDOW_WRITABLE 0x2000
#define WINDOW_SIZE 0x3000
#define CODE ((uint8_t *)0x20000000)
#define CODE_SIZE 0x2000
#define LINE 64
/* A case may run for one to two of these ticks. Eight instructions take far less, unless they loop. */
#define TICK_MICROSECONDS 20000

struct test_case {
    uint64_t gpr[16]; /* in encoding order: rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
    uint64_t rflags;
    uint64_t rip;
    uint64_t fsbase, gsbase;
    uint8_t fxsave[512];
    uint8_t pattern[256];
    uint32_t code_size;
    uint32_t reserved;
    uint8_t code[120];
};

struct result {
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t rip;
    uint32_t vector, error;
    uint64_t cr2;
    uint8_t fxsave[512];
    uint32_t signal;
    uint32_t lines; /* changed lines of the window, which follow: offset (4 bytes) and 64 bytes */
    uint64_t fsbase, gsbase;
    uint16_t selectors[4]; /* ds es fs gs */
};

_Static_assert(sizeof(struct test_case) == 1056, "as in case.ts");
_Static_assert(sizeof(struct result) == 704, "as in case.ts");

void enter_case(const struct test_case *c);
extern char leave_case[];
extern uint64_t host_rsp;
/* Whether programs may write the bases of FS and GS themselves; else the kernel does it. */
extern uint32_t has_fsgsbase;
static uint64_t host_fsbase;

static struct test_case current __attribute__((aligned(64)));
static struct result outcome;
/* The cases' pages again, writable. */
static uint8_t *window, *code;
static volatile sig_atomic_t running;
static unsigned ticks;

/* The system call alone: it is made while FS is the case's, and so without errno. */
static long arch_prctl(long code, uint64_t argument)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(SYS_arch_prctl), "D"(code), "S"(argument) : "rcx", "r11", "memory");
    return result;
}

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void die(const char *what)
{
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    exit(1);
}

/*
 * The end of a case: an exception, or the timer. AC and FS are still the case's: no unaligned access and no
 * TLS until they have been put back.
 */
static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)info;
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "cc", "memory");
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (!running) {
        if (number == SIGALRM)
            return;
        _exit(3);
    }
    if (number == SIGALRM && ticks++ == 0)
        return;

    arch_prctl(ARCH_GET_FS, (uint64_t)&outcome.fsbase);
    arch_prctl(ARCH_GET_GS, (uint64_t)&outcome.gsbase);
    __asm__ volatile("mov %%ds, %0" : "=r"(outcome.selectors[0]));
    __asm__ volatile("mov %%es, %0" : "=r"(outcome.selectors[1]));
    __asm__ volatile("mov %%fs, %0" : "=r"(outcome.selectors[2]));
    __asm__ volatile("mov %%gs, %0" : "=r"(outcome.selectors[3]));
    arch_prctl(ARCH_SET_FS, host_fsbase);
    running = 0;
    for (int i = 0; i < 16; i++)
        outcome.gpr[i] = (uint64_t)regs[registers[i]];
    outcome.rflags = (uint64_t)regs[REG_EFL];
    outcome.rip = (uint64_t)regs[REG_RIP];
    outcome.vector = (uint32_t)regs[REG_TRAPNO];
    outcome.error = (uint32_t)regs[REG_ERR];
    outcome.cr2 = outcome.vector == 14 ? (uint64_t)regs[REG_CR2] : 0; /* else, of some other fault */
    outcome.signal = (uint32_t)number;
    memcpy(outcome.fxsave, ((ucontext_t *)context)->uc_mcontext.fpregs, 512);

    regs[REG_RIP] = (greg_t)leave_case;
    regs[REG_RSP] = (greg_t)host_rsp;
    regs[REG_EFL] = 0x202;
}

static uint8_t *map_twice(void *address, size_t size, size_t writable, int protection)
{
    int fd = memfd_create("case", 0);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        die("memfd_create");
    int flags = MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE;
    if (mmap(address, size, protection, flags, fd, 0) != address)
        die("mmap at a fixed address");
    if (writable && mprotect(address, writable, PROT_READ | PROT_WRITE) < 0)
        die("mprotect");
    uint8_t *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (alias == MAP_FAILED)
        die("mmap");
    close(fd);
    return alias;
}

static void prepare(void)
{
    has_fsgsbase = (getauxval(AT_HWCAP2) & 2) != 0;
    if (arch_prctl(ARCH_GET_FS, (uint64_t)&host_fsbase) < 0) {
        fprintf(stderr, "harness: this kernel does not tell where FS is\n");
        exit(1);
    }
    window = map_twice(WINDOW, WINDOW_SIZE, WINDOW_WRITABLE, PROT_READ);
    code = map_twice(CODE, CODE_SIZE, 0, PROT_READ | PROT_EXEC);
    memset(code, 0xcc, CODE_SIZE);

    static uint8_t stack[65536] __attribute__((aligned(64)));
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    if (sigaltstack(&alternate, NULL) < 0)
        die("sigaltstack");
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&action.sa_mask);
    const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            die("sigaction");
    struct itimerval timer = {{0, TICK_MICROSECONDS}, {0, TICK_MICROSECONDS}};
    if (setitimer(ITIMER_REAL, &timer, NULL) < 0)
        die("setitimer");
}

static void run(void)
{
    uint8_t *at = code + (current.rip - (uint64_t)CODE);
    for (size_t i = 0; i < WINDOW_SIZE; i += sizeof current.pattern)
        memcpy(window + i, current.pattern, sizeof current.pattern);
    memcpy(at, current.code, current.code_size);
    ticks = 0;
    running = 1;
    enter_case(&current);
    memset(at, 0xcc, current.code_size);
}

static void report(void)
{
    uint8_t record[WINDOW_WRITABLE / LINE][4 + LINE];
    outcome.lines = 0;
    for (uint32_t offset = 0; offset < WINDOW_WRITABLE; offset += LINE) {
        if (memcmp(window + offset, current.pattern + offset % sizeof current.pattern, LINE) == 0)
            continue;
        memcpy(record[outcome.lines], &offset, 4);
        memcpy(record[outcome.lines++] + 4, window + offset, LINE);
    }
    if (fwrite(&outcome, sizeof outcome, 1, stdout) != 1 ||
        fwrite(record, sizeof record[0], outcome.lines, stdout) != outcome.lines)
        die("standard output");
}

int main(void)
{
    static char input[1 << 18], output[1 << 18];
    setvbuf(stdin, input, _IOFBF, sizeof input);
    setvbuf(stdout, output, _IOFBF, sizeof output);
    prepare();
    /* A batch: how many cases (4 bytes), then the cases. Its results are flushed together. */
    uint32_t count;
    while (fread(&count, sizeof count, 1, stdin) == 1) {
        while (count-- > 0) {
            if (fread(&current, sizeof current, 1, stdin) != 1)
                return 0;
            uint64_t offset = current.rip - (uint64_t)CODE;
            if (current.code_size > sizeof current.code || offset > CODE_SIZE - current.code_size) {
                fprintf(stderr, "harness: a case's code does not fit at 0x%lx\n", (unsigned long)current.rip);
                return 1;
            }
            run();
            report();
        }
        fflush(stdout);
    }
    return 0;
}
