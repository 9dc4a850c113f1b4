/*
 * NVMM_VCPU_CONF_DEBUG, an extension of NVMM: single steps, breakpoints and watchpoints from outside of the guest, by
 * KVM_SET_GUEST_DEBUG. KVM steps with the processor's trap flag, which has gaps that are closed here:
 *
 * - Delivering an exception or interrupt clears TF, so a handler would run freely until its IRET. While stepping, the
 *   debug registers stand at the first instructions of the handlers that the instruction may lead to.
 * - The delivery, PUSHF and SYSCALL copy TF to where the guest can see it. It is taken out again.
 * - A trap flag of the guest's own is hidden by KVM meanwhile. It is put back, and its #DB delivered.
 */
#include "internal.h"

#include <string.h>
#include <sys/ioctl.h>

#define POINTS 4 /* DR0 to DR3 */
#define DR6_BS (1ULL << 14)
#define DR6_HITS 0xFULL
#define RFLAGS_TF (1ULL << 8)
#define CR0_PE 1ULL

#define MSR_SYSENTER_EIP 0x176
#define MSR_LSTAR 0xC0000082

#define DB 1
#define DE 0
#define UD 6
#define NM 7
#define SS 12
#define GP 13
#define PF 14
#define MF 16
#define XM 19

/* Exceptions that push an error code, as in event.c. */
#define WITH_ERROR (1U << 8 | 1U << 10 | 1U << 11 | 1U << 12 | 1U << 13 | 1U << 14 | 1U << 17 | 1U << 21)

/* ------------------------------------------------------------------------------------------------ configuration */

/* Lengths that a debug register has, longest first, as bits 2 and 3 of its field in DR7. */
static const struct {
	unsigned bytes;
	unsigned code;
} lengths[] = {{8, 2}, {4, 3}, {2, 1}, {1, 0}};

static int add_point(struct debug *debug, gvaddr_t address, unsigned code, unsigned rw, unsigned index)
{
	if (debug->count == POINTS)
		return fail(ENOBUFS, "the processor has four debug registers, and these breakpoints and watchpoints need "
				     "more: take fewer, or shorter and aligned ones, or the emulated backend");
	debug->points[debug->count++] = (struct debug_point){address, (uint8_t)code, (uint8_t)rw, (uint16_t)index};
	return 0;
}

static int add_watch(struct debug *debug, const struct nvmm_vcpu_conf_debug_point *point)
{
	gvaddr_t at = point->address, left = point->length;
	if (!point->write)
		return fail(EOPNOTSUPP, "x86 processors can't watch reads alone: watch any access, or take the emulated backend");
	if (left == 0 || left > 1ULL << 32)
		return fail(EINVAL, "%llu bytes can't be watched: 1 byte to 4 GiB can", (unsigned long long)left);
	while (left != 0) {
		unsigned i = 0;
		while (lengths[i].bytes > left || (at & (lengths[i].bytes - 1)) != 0)
			i++;
		if (add_point(debug, at, lengths[i].code, point->read ? 3 : 1, point->index) != 0)
			return -1;
		at += lengths[i].bytes;
		left -= lengths[i].bytes;
	}
	return 0;
}

int debug_configure(struct vcpu *v, const struct nvmm_vcpu_conf_debug *conf)
{
	struct debug debug = {.step = conf->step, .control = v->debug.control};
	if (conf->exceptions != 0)
		return fail(EOPNOTSUPP, "KVM does not show a guest's exceptions: set a breakpoint at the handler, whose "
					"address is in the IDT, or take the emulated backend");
	if (conf->count > NVMM_VCPU_CONF_DEBUG_POINTS)
		return fail(ENOBUFS, "%u breakpoints and watchpoints are more than %u", conf->count,
			    NVMM_VCPU_CONF_DEBUG_POINTS);
	for (unsigned i = 0; i < conf->count; i++) {
		const struct nvmm_vcpu_conf_debug_point *point = &conf->points[i];
		bool code = !point->read && !point->write;
		if ((code ? add_point(&debug, point->address, 0, 0, point->index) : add_watch(&debug, point)) != 0)
			return -1;
	}
	v->debug = debug;
	return 0;
}

/* Tells KVM, if it isn't so already that nothing is wanted. */
static int apply(struct vcpu *v, uint32_t control, const struct debug_point *points, unsigned count)
{
	struct kvm_guest_debug set;
	if (control == 0 && v->debug.control == 0)
		return 0;
	memset(&set, 0, sizeof(set));
	set.control = control;
	set.arch.debugreg[7] = 0x400;
	for (unsigned i = 0; i < count; i++) {
		set.arch.debugreg[i] = points[i].address;
		set.arch.debugreg[7] |= 2ULL << (2 * i) | (uint64_t)(points[i].rw | points[i].code << 2) << (16 + 4 * i);
	}
	if (ioctl(v->fd, KVM_SET_GUEST_DEBUG, &set) != 0)
		return fail(errno, "KVM_SET_GUEST_DEBUG: %s", strerror(errno));
	v->debug.control = control;
	return 0;
}

/* ------------------------------------------------------------------------------------------------ handlers */

static bool long_mode(struct vcpu *v)
{
	return (v->run->s.regs.sregs.efer & EFER_LMA) != 0;
}

static bool real_mode(struct vcpu *v)
{
	return (v->run->s.regs.sregs.cr0 & CR0_PE) == 0;
}

/* Base of the segment that a selector names, in protected mode. */
static bool base_of(struct vcpu *v, uint16_t selector, gvaddr_t *base)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	gvaddr_t table = (selector & 4) != 0 ? s->ldt.base : s->gdt.base;
	uint8_t d[8];
	if (guest_read(v, table + (selector & 0xFFF8), d, sizeof(d)) != sizeof(d))
		return false;
	*base = d[2] | (gvaddr_t)d[3] << 8 | (gvaddr_t)d[4] << 16 | (gvaddr_t)d[7] << 24;
	return true;
}

/* Linear address of the first instruction of a vector's handler. False: there is none that can be told. */
static bool handler_of(struct vcpu *v, unsigned vector, gvaddr_t *linear)
{
	const struct kvm_dtable *idt = &v->run->s.regs.sregs.idt;
	unsigned size = real_mode(v) ? 4 : long_mode(v) ? 16 : 8;
	uint8_t gate[16];
	uint16_t w[8];
	if (vector * size + size - 1 > idt->limit || guest_read(v, idt->base + vector * size, gate, size) != size)
		return false;
	memcpy(w, gate, sizeof(w));
	if (real_mode(v)) {
		*linear = w[0] + ((gvaddr_t)w[1] << 4);
		return true;
	}
	unsigned type = gate[5] & 0x1F;
	if ((gate[5] & 0x80) == 0 || (type & 6) != 6)
		return false;
	uint64_t offset = w[0] | ((type & 8) != 0 ? (uint64_t)w[3] << 16 : 0);
	if (long_mode(v)) {
		*linear = offset | (uint64_t)w[4] << 32 | (uint64_t)w[5] << 48;
		return true;
	}
	gvaddr_t base;
	if (!base_of(v, w[1], &base))
		return false;
	*linear = (uint32_t)(base + offset);
	return true;
}

/* What the instruction at RIP may lead to: vectors, most likely first, and SYSCALL's entry. */
struct outlook {
	unsigned vectors[POINTS];
	unsigned count;
	bool pushf, popf, syscall, sysenter, hlt;
	unsigned image; /* of POPF and IRET: bytes from RSP to that of RFLAGS */
};

static void expect(struct outlook *o, unsigned vector)
{
	for (unsigned i = 0; i < o->count; i++)
		if (o->vectors[i] == vector)
			return;
	if (o->count < POINTS)
		o->vectors[o->count++] = vector;
}

static bool is_prefix(uint8_t byte, bool code64)
{
	return byte == 0x66 || byte == 0x67 || byte == 0xF2 || byte == 0xF3 || byte == 0xF0 || byte == 0x2E || byte == 0x36 ||
	       byte == 0x3E || byte == 0x26 || byte == 0x64 || byte == 0x65 || (code64 && (byte & 0xF0) == 0x40);
}

/* Of IRET, whose operand has 32 bits in 64-bit code, too. */
static unsigned operand_bytes(const uint8_t *prefixes, size_t count, struct insn_mode mode)
{
	bool wide = mode.long_mode || mode.def32, other = memchr(prefixes, 0x66, count) != NULL;
	if (mode.long_mode && count > 0 && (prefixes[count - 1] & 0xF8) == 0x48)
		return 8;
	return wide != other ? 4 : 2;
}

static void look_ahead(struct vcpu *v, struct outlook *o)
{
	uint8_t b[15];
	struct insn_mode mode;
	memset(o, 0, sizeof(*o));
	insn_mode_of(v, &mode);
	size_t count = guest_read(v, code_address(v, v->shown.rip), b, sizeof(b)), at = 0;
	while (at < count && is_prefix(b[at], mode.long_mode))
		at++;
	uint8_t op = at < count ? b[at] : 0x90, next = at + 1 < count ? b[at + 1] : 0;
	o->pushf = op == 0x9C;
	o->popf = op == 0x9D || op == 0xCF;
	o->image = op == 0xCF ? 2 * operand_bytes(b, at, mode) : 0;
	o->hlt = op == 0xF4;
	o->sysenter = op == 0x0F && next == 0x34;
	o->syscall = op == 0x0F && (next == 0x05 || next == 0x34);
	if (op == 0xCD)
		expect(o, next);
	else if (op == 0xCC || op == 0xCE || op == 0xF1)
		expect(o, op == 0xCC ? 3 : op == 0xCE ? 4 : DB);
	else if (op == 0xF6 || op == 0xF7 || op == 0xD4)
		expect(o, DE);
	else if ((op & 0xF8) == 0xD8 || op == 0x9B)
		expect(o, NM), expect(o, MF);
	else if (op == 0x0F && next != 0x05 && ((next & 0xF0) == 0x10 || (next & 0xF8) == 0x28 || (next >= 0x50 && next < 0x80) ||
						 next >= 0xC2))
		expect(o, NM), expect(o, XM);
	expect(o, PF);
	expect(o, GP);
	expect(o, UD);
	expect(o, SS);
}

/* ------------------------------------------------------------------------------------------------ stepping */

static unsigned waiting_vector(const struct kvm_vcpu_events *events)
{
	if (events->exception.injected)
		return events->exception.nr;
	return events->nmi.injected || events->nmi.pending ? 2 : events->interrupt.nr;
}

/* In place of a vector: the entry of SYSCALL or SYSENTER, whose flags may end TF as well. */
#define ENTRY 255

static void watch_entry(struct vcpu *v, uint32_t msr)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} get = {.header = {.nmsrs = 1}, .entry = {.index = msr}};
	struct stepping *s = &v->stepping;
	if (ioctl(v->fd, KVM_GET_MSRS, &get) != 1 || get.entry.data == code_address(v, v->shown.rip))
		return;
	s->vectors[s->count] = ENTRY;
	s->points[s->count++] = (struct debug_point){get.entry.data, 0, 0, 0};
}

/* The handlers that are watched for in this step, but not the one that RIP is at. */
static void watch_handlers(struct vcpu *v, const struct outlook *o)
{
	struct stepping *s = &v->stepping;
	gvaddr_t here = code_address(v, v->shown.rip), at;
	for (unsigned i = 0; i < o->count && s->count < POINTS; i++) {
		if (!handler_of(v, o->vectors[i], &at) || at == here)
			continue;
		s->vectors[s->count] = (uint8_t)o->vectors[i];
		s->points[s->count++] = (struct debug_point){at, 0, 0, 0};
	}
}

static gvaddr_t stack_address(struct vcpu *v, unsigned offset)
{
	const struct kvm_segment *ss = &v->run->s.regs.sregs.ss;
	if (long_mode(v))
		return v->shown.rsp + offset;
	uint64_t mask = ss->db ? 0xFFFFFFFF : 0xFFFF;
	return (uint32_t)(ss->base + ((v->shown.rsp + offset) & mask));
}

/*
 * The points that were asked for, and where there is room the one that syscall.c wants. KVM stops at a breakpoint before
 * an instruction every time: to get on from that one, it is left out for a step.
 */
static int prepare_points(struct vcpu *v)
{
	struct debug *d = &v->debug;
	struct debug_point points[POINTS];
	unsigned count = d->count;
	gvaddr_t watch = count < POINTS ? syscall_watch(v) : 0;
	bool passing = watch != 0 && watch == code_address(v, v->shown.rip);
	if (d->applied && d->watch == watch && d->passing == passing)
		return 0;
	d->applied = true;
	d->watch = watch;
	d->passing = passing;
	memcpy(points, d->points, sizeof(points));
	if (watch != 0 && !passing)
		points[count++] = (struct debug_point){watch, 0, 0, 0};
	uint32_t control = count == 0 ? 0 : KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	if (passing)
		control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	return apply(v, control, points, count);
}

/* Before a run, after the state and the event were taken over. */
int debug_prepare(struct vcpu *v)
{
	struct stepping *s = &v->stepping;
	struct debug *d = &v->debug;
	if (!d->step) {
		s->active = false;
		return prepare_points(v);
	}
	d->applied = false;
	const struct kvm_vcpu_events *events = &v->run->s.regs.events;
	struct outlook o;
	memset(s, 0, sizeof(*s));
	s->active = true;
	s->trap_flag = (v->shown.rflags & RFLAGS_TF) != 0;
	s->delivering = event_pending(events) || (events->nmi.pending && !events->nmi.masked);
	look_ahead(v, &o);
	if (s->delivering) {
		memset(&o, 0, sizeof(o));
		expect(&o, waiting_vector(events));
		expect(&o, PF);
		expect(&o, GP);
		expect(&o, 8);
	}
	s->pushf = o.pushf;
	s->syscall = o.syscall;
	s->popf = o.popf;
	s->hlt = o.hlt;
	uint16_t image = 0;
	if (o.popf)
		(void)guest_read(v, stack_address(v, o.image), &image, sizeof(image));
	s->loads_trap_flag = (image & RFLAGS_TF) != 0;
	if (o.syscall)
		watch_entry(v, long_mode(v) && !o.sysenter ? MSR_LSTAR : MSR_SYSENTER_EIP);
	watch_handlers(v, &o);
	uint32_t step = s->delivering ? 0 : KVM_GUESTDBG_SINGLESTEP;
	return apply(v, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | step, s->points, s->count);
}

/* Takes TF out of a word of guest memory. */
static void clear_trap_flag(struct vcpu *v, gvaddr_t linear)
{
	uint16_t word;
	if (guest_read(v, linear, &word, sizeof(word)) != sizeof(word) || (word & RFLAGS_TF) == 0)
		return;
	word &= (uint16_t)~RFLAGS_TF;
	guest_write(v, linear, &word, sizeof(word));
}

/* The image of RFLAGS that the delivery of a vector has pushed. */
static gvaddr_t pushed_flags(struct vcpu *v, unsigned vector)
{
	if (real_mode(v))
		return stack_address(v, 4);
	unsigned error = vector < 32 && ((WITH_ERROR >> vector) & 1) != 0, word = 8;
	if (!long_mode(v)) {
		uint8_t gate[8] = {0};
		(void)guest_read(v, v->run->s.regs.sregs.idt.base + vector * 8, gate, sizeof(gate));
		word = (gate[5] & 8) != 0 ? 4 : 2;
	}
	return stack_address(v, word * (2 + error));
}

/* The #DB of the guest's own trap flag comes next. */
static void own_trap(struct vcpu *v)
{
	struct kvm_debugregs regs;
	struct kvm_vcpu_events *events = &v->run->s.regs.events;
	memset(&regs, 0, sizeof(regs));
	if (ioctl(v->fd, KVM_GET_DEBUGREGS, &regs) == 0) {
		regs.dr6 |= DR6_BS;
		(void)ioctl(v->fd, KVM_SET_DEBUGREGS, &regs);
	}
	events->exception.injected = 1;
	events->exception.nr = DB;
	events->exception.has_error_code = 0;
	events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
}

/* What is left to do after the step. False: it ended in a handler, not behind the instruction. */
static bool end_step(struct vcpu *v, uint64_t dr6)
{
	struct stepping *s = &v->stepping;
	gvaddr_t here = code_address(v, v->shown.rip);
	for (unsigned i = 0; i < s->count; i++) {
		if ((dr6 & (1ULL << i)) == 0 || s->points[i].address != here)
			continue;
		if (s->vectors[i] == ENTRY)
			break;
		if (!s->trap_flag)
			clear_trap_flag(v, pushed_flags(v, s->vectors[i]));
		return false;
	}
	/* KVM has hidden the guest's own trap flag. */
	if (s->popf ? s->loads_trap_flag : s->trap_flag) {
		v->shown.rflags |= RFLAGS_TF;
		v->differs = true;
	}
	if (s->trap_flag)
		own_trap(v);
	else if (s->pushf)
		clear_trap_flag(v, stack_address(v, 0));
	if (!s->trap_flag && s->syscall && (v->shown.r11 & RFLAGS_TF) != 0) {
		v->shown.r11 &= ~RFLAGS_TF;
		v->differs = true;
	}
	return true;
}

/* KVM's emulator steps over HLT without a word. */
static bool stepped_over_hlt(struct vcpu *v)
{
	uint8_t opcode;
	return code_address(v, v->shown.rip) == v->debug.watch + 1 &&
	       guest_read(v, v->debug.watch, &opcode, 1) == 1 && opcode == 0xF4;
}

/* KVM_EXIT_DEBUG. False: it was the guest's own #DB, which it gets. */
bool debug_exit(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	uint64_t dr6 = v->run->debug.arch.dr6;
	struct nvmm_x86_exit_debug *debug = &exit->u.debug;
	gvaddr_t watch = syscall_watch(v);
	bool mended = watch != 0 && watch == code_address(v, v->shown.rip) && syscall_mend(v);
	if (v->stepping.active) {
		if (end_step(v, dr6) && v->stepping.hlt) {
			exit_halted(v, exit);
			return true;
		}
		exit->reason = NVMM_VCPU_EXIT_DEBUG;
		debug->kind = NVMM_VCPU_DEBUG_STEP;
		debug->address = code_address(v, v->shown.rip);
		debug->error = -1;
		return true;
	}
	for (unsigned i = 0; i < v->debug.count && !mended; i++) {
		const struct debug_point *point = &v->debug.points[i];
		if ((dr6 & (1ULL << i)) == 0)
			continue;
		exit->reason = NVMM_VCPU_EXIT_DEBUG;
		debug->kind = point->rw == 0 ? NVMM_VCPU_DEBUG_BREAKPOINT : NVMM_VCPU_DEBUG_WATCHPOINT;
		debug->index = point->index;
		debug->address = point->address;
		debug->write = point->rw == 1;
		debug->error = -1;
		return true;
	}
	if (v->debug.passing && stepped_over_hlt(v)) {
		(void)prepare_points(v);
		exit_halted(v, exit);
		return true;
	}
	if (mended || v->debug.passing || (watch != 0 && watch == v->debug.watch))
		return prepare_points(v) != 0;
	own_trap(v);
	return false;
}

/* KVM has no breakpoints of ours any more. */
void debug_end(struct vcpu *v)
{
	(void)apply(v, 0, NULL, 0);
}
