/*
 * The exit trace: what the guest left for, what it was told, and what the VMM changed, as JSON lines. It is on when
 * the environment variable NVMM_TRACE names a file at nvmm_init (%p in it stands for the process's number), for any
 * program. Off, it costs the look at one variable.
 *
 * A line is an object with `t` (seconds since nvmm_init), mostly `machine` and `vcpu`, and one of: `exit`, `access`,
 * `inject`, `set`, `map`, `unmap`, `error`. README.md has the fields.
 */
#include "internal.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Longer than any line. */
#define LINE 640
/*
 * A full file is renamed to NAME.old, over the one before: the last exits are kept, and a disk is never filled. A
 * million exits fit; NVMM_TRACE_BYTES says otherwise.
 */
#define MOST_BYTES (256L << 20)

_Atomic bool tracing;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int file = -1;
static char name[1024];
static long used_bytes, most_bytes = MOST_BYTES;
static struct timespec began;

struct line {
	char text[LINE];
	size_t used;
};

static void add(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct line *l, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int size = vsnprintf(l->text + l->used, sizeof(l->text) - l->used, format, args);
	va_end(args);
	/* What doesn't fit is cut off; no line comes near. */
	if (size > 0)
		l->used = l->used + (size_t)size < sizeof(l->text) ? l->used + (size_t)size : sizeof(l->text) - 1;
}

/* Text of the library's own, but for file names, so quotes and backslashes are all that can disturb. */
static void add_string(struct line *l, const char *text)
{
	add(l, "\"");
	for (; *text != 0; text++)
		add(l, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	add(l, "\"");
}

static void add_bytes(struct line *l, const char *field, const uint8_t *bytes, size_t size)
{
	add(l, ",\"%s\":\"", field);
	for (size_t i = 0; i < size; i++)
		add(l, "%02x", bytes[i]);
	add(l, "\"");
}

static void begin(struct line *l, const struct vcpu *v)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t ns = (now.tv_sec - began.tv_sec) * 1000000000LL + (now.tv_nsec - began.tv_nsec);
	l->used = 0;
	add(l, "{\"t\":%lld.%09lld", (long long)(ns / 1000000000), (long long)(ns % 1000000000));
	if (v != NULL)
		add(l, ",\"machine\":%u,\"vcpu\":%u", v->machine != NULL ? v->machine->id : 0, v->id);
}

static void rotate(void)
{
	char old[sizeof(name) + 4];
	snprintf(old, sizeof(old), "%s.old", name);
	close(file);
	(void)rename(name, old);
	file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	used_bytes = 0;
	tracing = file >= 0;
}

/* Written at once: the lines before a crash are those that matter. */
static void end(struct line *l)
{
	int saved = errno;
	add(l, "}");
	l->text[l->used] = '\n';
	pthread_mutex_lock(&lock);
	ssize_t written = file >= 0 ? write(file, l->text, l->used + 1) : 0;
	/* A disk that is full costs lines, and nothing else. */
	used_bytes += written > 0 ? written : 0;
	if (used_bytes > most_bytes)
		rotate();
	pthread_mutex_unlock(&lock);
	errno = saved;
}

/* Gives -1, with errno, when there is a name but no file. */
int trace_init(void)
{
	const char *wanted = secure_getenv("NVMM_TRACE");
	if (wanted == NULL || *wanted == 0 || file >= 0)
		return 0;
	const char *pid = strstr(wanted, "%p");
	if (pid != NULL)
		snprintf(name, sizeof(name), "%.*s%d%s", (int)(pid - wanted), wanted, (int)getpid(), pid + 2);
	else
		snprintf(name, sizeof(name), "%s", wanted);
	file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (file < 0)
		return -1;
	const char *most = secure_getenv("NVMM_TRACE_BYTES");
	if (most != NULL && atol(most) > 0)
		most_bytes = atol(most);
	clock_gettime(CLOCK_MONOTONIC, &began);
	tracing = true;
	return 0;
}

/* ------------------------------------------------------------------------------------------------ exits */

static const struct {
	uint64_t reason;
	const char *name;
} names[] = {
	{NVMM_VCPU_EXIT_NONE, "NONE"},
	{NVMM_VCPU_EXIT_STOPPED, "STOPPED"},
	{NVMM_VCPU_EXIT_INVALID, "INVALID"},
	{NVMM_VCPU_EXIT_MEMORY, "MEMORY"},
	{NVMM_VCPU_EXIT_IO, "IO"},
	{NVMM_VCPU_EXIT_SHUTDOWN, "SHUTDOWN"},
	{NVMM_VCPU_EXIT_INT_READY, "INT_READY"},
	{NVMM_VCPU_EXIT_NMI_READY, "NMI_READY"},
	{NVMM_VCPU_EXIT_HALTED, "HALTED"},
	{NVMM_VCPU_EXIT_TPR_CHANGED, "TPR_CHANGED"},
	{NVMM_VCPU_EXIT_RDMSR, "RDMSR"},
	{NVMM_VCPU_EXIT_WRMSR, "WRMSR"},
	{NVMM_VCPU_EXIT_MONITOR, "MONITOR"},
	{NVMM_VCPU_EXIT_MWAIT, "MWAIT"},
	{NVMM_VCPU_EXIT_DEBUG, "DEBUG"},
};

static const char *exit_name(uint64_t reason)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].reason == reason)
			return names[i].name;
	return "?";
}

static void add_io(struct line *l, struct vcpu *v, const struct nvmm_x86_exit_io *io)
{
	add(l, ",\"port\":\"0x%x\",\"in\":%s,\"size\":%u", io->port, io->in ? "true" : "false", io->operand_size);
	if (io->str)
		add(l, ",\"string\":true,\"rep\":%s,\"count\":%u", io->rep ? "true" : "false", v->run->io.count);
	if (!io->in)
		add_bytes(l, "data", flight_port_data(v), io->operand_size);
}

static void add_memory(struct line *l, struct vcpu *v, const struct nvmm_x86_exit_memory *mem)
{
	static const char *const kinds[] = {[PROT_READ] = "read", [PROT_WRITE] = "write", [PROT_EXEC] = "execute"};
	add(l, ",\"gpa\":\"0x%llx\",\"kind\":\"%s\"", (unsigned long long)mem->gpa, kinds[mem->prot]);
	if (mem->prot == PROT_EXEC)
		return;
	add(l, ",\"size\":%u", v->run->mmio.len);
	if (mem->prot == PROT_WRITE)
		add_bytes(l, "data", v->run->mmio.data, v->run->mmio.len);
}

/* The bytes at RIP tell what KVM could not do. */
static void add_code(struct line *l, struct vcpu *v)
{
	uint8_t bytes[15];
	size_t count = guest_read(v, code_address(v, v->shown.rip), bytes, sizeof(bytes));
	add_bytes(l, "code", bytes, count);
	add(l, ",\"reason\":");
	add_string(l, nvmm_linux_reason());
}

void trace_exit(struct vcpu *v, const struct nvmm_vcpu_exit *exit)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	struct line l;
	begin(&l, v);
	add(&l, ",\"exit\":\"%s\",\"cs\":\"0x%x\",\"rip\":\"0x%llx\",\"cpl\":%u", exit_name(exit->reason), s->cs.selector,
	    (unsigned long long)v->shown.rip, s->ss.dpl);
	switch (exit->reason) {
	case NVMM_VCPU_EXIT_IO:
		add_io(&l, v, &exit->u.io);
		break;
	case NVMM_VCPU_EXIT_MEMORY:
		add_memory(&l, v, &exit->u.mem);
		break;
	case NVMM_VCPU_EXIT_RDMSR:
		add(&l, ",\"msr\":\"0x%x\"", exit->u.rdmsr.msr);
		break;
	case NVMM_VCPU_EXIT_WRMSR:
		add(&l, ",\"msr\":\"0x%x\",\"value\":\"0x%llx\"", exit->u.wrmsr.msr,
		    (unsigned long long)exit->u.wrmsr.val);
		break;
	case NVMM_VCPU_EXIT_INVALID:
		add(&l, ",\"hwcode\":\"0x%llx\"", (unsigned long long)exit->u.inv.hwcode);
		add_code(&l, v);
		break;
	default:
		break;
	}
	add(&l, ",\"rflags\":\"0x%llx\",\"cr8\":%u", (unsigned long long)exit->exitstate.rflags,
	    (unsigned)exit->exitstate.cr8);
	static const char *const flags[] = {"int_shadow", "int_window", "nmi_window", "evt_pending"};
	const unsigned set[] = {exit->exitstate.int_shadow, exit->exitstate.int_window_exiting,
				exit->exitstate.nmi_window_exiting, exit->exitstate.evt_pending};
	for (unsigned i = 0; i < 4; i++)
		if (set[i])
			add(&l, ",\"%s\":true", flags[i]);
	end(&l);
}

/* ------------------------------------------------------------------------------------------------ the VMM's part */

void trace_port(struct vcpu *v, const struct nvmm_io *io)
{
	struct line l;
	begin(&l, v);
	add(&l, ",\"access\":\"%s\",\"port\":\"0x%x\"", io->in ? "in" : "out", io->port);
	add_bytes(&l, "data", io->data, io->size);
	end(&l);
}

void trace_memory(struct vcpu *v, const struct nvmm_mem *mem)
{
	struct line l;
	begin(&l, v);
	add(&l, ",\"access\":\"%s\",\"gpa\":\"0x%llx\"", mem->write ? "write" : "read", (unsigned long long)mem->gpa);
	add_bytes(&l, "data", mem->data, mem->size);
	end(&l);
}

void trace_set(struct vcpu *v, uint64_t flags)
{
	static const char *const parts[] = {"SEGS", "GPRS", "CRS", "DRS", "MSRS", "INTR", "FPU"};
	const struct nvmm_x64_state *s = &v->comm->state;
	const char *between = "";
	struct line l;
	begin(&l, v);
	add(&l, ",\"set\":\"");
	for (unsigned i = 0; i < 7; i++) {
		if ((flags >> i & 1) == 0)
			continue;
		add(&l, "%s%s", between, parts[i]);
		between = " ";
	}
	add(&l, "\"");
	if ((flags & NVMM_X64_STATE_GPRS) != 0)
		add(&l, ",\"rip\":\"0x%llx\",\"rflags\":\"0x%llx\",\"rax\":\"0x%llx\",\"rdx\":\"0x%llx\"",
		    (unsigned long long)s->gprs[NVMM_X64_GPR_RIP], (unsigned long long)s->gprs[NVMM_X64_GPR_RFLAGS],
		    (unsigned long long)s->gprs[NVMM_X64_GPR_RAX], (unsigned long long)s->gprs[NVMM_X64_GPR_RDX]);
	if ((flags & NVMM_X64_STATE_CRS) != 0)
		add(&l, ",\"cr0\":\"0x%llx\",\"cr3\":\"0x%llx\",\"cr4\":\"0x%llx\",\"cr8\":%u",
		    (unsigned long long)s->crs[NVMM_X64_CR_CR0], (unsigned long long)s->crs[NVMM_X64_CR_CR3],
		    (unsigned long long)s->crs[NVMM_X64_CR_CR4], (unsigned)s->crs[NVMM_X64_CR_CR8]);
	if ((flags & NVMM_X64_STATE_INTR) != 0)
		add(&l, ",\"int_shadow\":%d,\"int_window\":%d,\"nmi_window\":%d", s->intr.int_shadow,
		    s->intr.int_window_exiting, s->intr.nmi_window_exiting);
	end(&l);
}

void trace_inject(struct vcpu *v, const struct nvmm_vcpu_event *event)
{
	struct line l;
	begin(&l, v);
	add(&l, ",\"inject\":\"%s\",\"vector\":%u", event->type == NVMM_VCPU_EVENT_EXCP ? "EXCP" : "INTR", event->vector);
	if (event->type == NVMM_VCPU_EVENT_EXCP)
		add(&l, ",\"code\":\"0x%llx\"", (unsigned long long)event->u.excp.error);
	end(&l);
}

void trace_map(const struct machine *m, const char *verb, const struct area *area)
{
	struct line l;
	begin(&l, NULL);
	add(&l, ",\"machine\":%u,\"%s\":\"0x%llx\",\"size\":\"0x%zx\",\"hva\":\"0x%llx\",\"prot\":\"%s%s%s\"", m->id, verb,
	    (unsigned long long)area->gpa, area->size, (unsigned long long)area->hva,
	    (area->prot & PROT_READ) != 0 ? "r" : "", (area->prot & PROT_WRITE) != 0 ? "w" : "",
	    (area->prot & PROT_EXEC) != 0 ? "x" : "");
	end(&l);
}

void trace_failure(int error, const char *reason)
{
	struct line l;
	begin(&l, NULL);
	add(&l, ",\"error\":%d,\"reason\":", error);
	add_string(&l, reason);
	end(&l);
}
