/* vCPU state between NVMM's layout and KVM's. */
#include "internal.h"

#include <string.h>
#include <sys/ioctl.h>

#define SEG_RESET(type_) {.attrib = {.type = (type_), .s = 1, .p = 1}, .limit = 0xFFFF}
#define SYS_RESET(type_) {.attrib = {.type = (type_), .s = 0, .p = 1}, .limit = 0xFFFF}

/* What nvmm_vcpu_create leaves: Intel SDM volume 3, table 10-1, with the attributes as NVMM has them. */
const struct nvmm_x64_state reset_state = {
	.segs =
		{
			[NVMM_X64_SEG_ES] = SEG_RESET(3),
			[NVMM_X64_SEG_CS] = {.selector = 0xF000,
					     .attrib = {.type = 3, .s = 1, .p = 1},
					     .limit = 0xFFFF,
					     .base = 0xFFFF0000},
			[NVMM_X64_SEG_SS] = SEG_RESET(3),
			[NVMM_X64_SEG_DS] = SEG_RESET(3),
			[NVMM_X64_SEG_FS] = SEG_RESET(3),
			[NVMM_X64_SEG_GS] = SEG_RESET(3),
			[NVMM_X64_SEG_GDT] = SEG_RESET(2),
			[NVMM_X64_SEG_IDT] = SEG_RESET(2),
			[NVMM_X64_SEG_LDT] = SYS_RESET(2),
			[NVMM_X64_SEG_TR] = SYS_RESET(3),
		},
	.gprs = {[NVMM_X64_GPR_RDX] = 0x600, [NVMM_X64_GPR_RIP] = 0xFFF0, [NVMM_X64_GPR_RFLAGS] = 2},
	.crs = {[NVMM_X64_CR_CR0] = 0x60000010, [NVMM_X64_CR_XCR0] = 1},
	.drs = {[NVMM_X64_DR_DR6] = 0xFFFF0FF0, [NVMM_X64_DR_DR7] = 0x400},
	.msrs = {[NVMM_X64_MSR_PAT] = 0x0007040600070406},
	.fpu = {.fx_cw = 0x40, .fx_tw = 0x55, .fx_zero = 0x55, .fx_mxcsr = 0x1F80},
};

void regs_to_state(const struct kvm_regs *from, struct nvmm_x64_state *to)
{
	uint64_t *g = to->gprs;
	g[NVMM_X64_GPR_RAX] = from->rax;
	g[NVMM_X64_GPR_RCX] = from->rcx;
	g[NVMM_X64_GPR_RDX] = from->rdx;
	g[NVMM_X64_GPR_RBX] = from->rbx;
	g[NVMM_X64_GPR_RSP] = from->rsp;
	g[NVMM_X64_GPR_RBP] = from->rbp;
	g[NVMM_X64_GPR_RSI] = from->rsi;
	g[NVMM_X64_GPR_RDI] = from->rdi;
	memcpy(&g[NVMM_X64_GPR_R8], &from->r8, 8 * sizeof(uint64_t));
	g[NVMM_X64_GPR_RIP] = from->rip;
	g[NVMM_X64_GPR_RFLAGS] = from->rflags;
}

void state_to_regs(const struct nvmm_x64_state *from, struct kvm_regs *to)
{
	const uint64_t *g = from->gprs;
	to->rax = g[NVMM_X64_GPR_RAX];
	to->rcx = g[NVMM_X64_GPR_RCX];
	to->rdx = g[NVMM_X64_GPR_RDX];
	to->rbx = g[NVMM_X64_GPR_RBX];
	to->rsp = g[NVMM_X64_GPR_RSP];
	to->rbp = g[NVMM_X64_GPR_RBP];
	to->rsi = g[NVMM_X64_GPR_RSI];
	to->rdi = g[NVMM_X64_GPR_RDI];
	memcpy(&to->r8, &g[NVMM_X64_GPR_R8], 8 * sizeof(uint64_t));
	to->rip = g[NVMM_X64_GPR_RIP];
	to->rflags = g[NVMM_X64_GPR_RFLAGS] | 2; /* bit 1 is always set */
}

static void segment_from_kvm(const struct kvm_segment *from, struct nvmm_x64_state_seg *to)
{
	memset(to, 0, sizeof(*to));
	to->selector = from->selector;
	to->limit = from->limit;
	to->base = from->base;
	to->attrib.type = from->type & 0xF;
	to->attrib.s = from->s & 1;
	to->attrib.dpl = from->dpl & 3;
	to->attrib.p = from->present & !from->unusable & 1;
	to->attrib.avl = from->avl & 1;
	to->attrib.l = from->l & 1;
	to->attrib.def = from->db & 1;
	to->attrib.g = from->g & 1;
}

static void segment_to_kvm(const struct nvmm_x64_state_seg *from, struct kvm_segment *to)
{
	memset(to, 0, sizeof(*to));
	to->selector = from->selector;
	to->limit = from->limit;
	to->base = from->base;
	to->type = from->attrib.type;
	to->s = from->attrib.s;
	to->dpl = from->attrib.dpl;
	to->present = from->attrib.p;
	to->unusable = !from->attrib.p;
	to->avl = from->attrib.avl;
	to->l = from->attrib.l;
	to->db = from->attrib.def;
	to->g = from->attrib.g;
}

static void table_from_kvm(const struct kvm_dtable *from, struct nvmm_x64_state_seg *to)
{
	memset(to, 0, sizeof(*to));
	to->limit = from->limit;
	to->base = from->base;
}

static struct kvm_segment *kvm_segment_of(struct kvm_sregs *s, unsigned index)
{
	struct kvm_segment *const order[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs, NULL, NULL, &s->ldt, &s->tr};
	return order[index];
}

static void fetch_segments(struct kvm_sregs *from, struct nvmm_x64_state *to)
{
	for (unsigned i = 0; i < NVMM_X64_NSEG; i++)
		if (kvm_segment_of(from, i) != NULL)
			segment_from_kvm(kvm_segment_of(from, i), &to->segs[i]);
	table_from_kvm(&from->gdt, &to->segs[NVMM_X64_SEG_GDT]);
	table_from_kvm(&from->idt, &to->segs[NVMM_X64_SEG_IDT]);
}

static void commit_segments(const struct nvmm_x64_state *from, struct kvm_sregs *to)
{
	for (unsigned i = 0; i < NVMM_X64_NSEG; i++)
		if (kvm_segment_of(to, i) != NULL)
			segment_to_kvm(&from->segs[i], kvm_segment_of(to, i));
	to->gdt.base = from->segs[NVMM_X64_SEG_GDT].base;
	to->gdt.limit = (uint16_t)from->segs[NVMM_X64_SEG_GDT].limit;
	to->idt.base = from->segs[NVMM_X64_SEG_IDT].base;
	to->idt.limit = (uint16_t)from->segs[NVMM_X64_SEG_IDT].limit;
}

static int fetch_crs(struct vcpu *v)
{
	uint64_t *crs = v->comm->state.crs;
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	crs[NVMM_X64_CR_CR0] = s->cr0;
	crs[NVMM_X64_CR_CR2] = s->cr2;
	crs[NVMM_X64_CR_CR3] = s->cr3;
	crs[NVMM_X64_CR_CR4] = s->cr4;
	crs[NVMM_X64_CR_CR8] = s->cr8;
	if (!v->xcr0_known) {
		struct kvm_xcrs xcrs;
		memset(&xcrs, 0, sizeof(xcrs));
		v->xcr0 = 1;
		if (library.xcr0_mask != 0) {
			if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) != 0)
				return fail(errno, "KVM_GET_XCRS: %s", strerror(errno));
			if (xcrs.nr_xcrs > 0)
				v->xcr0 = xcrs.xcrs[0].value;
		}
		v->xcr0_known = true;
	}
	crs[NVMM_X64_CR_XCR0] = v->xcr0;
	return 0;
}

static int commit_crs(struct vcpu *v)
{
	const uint64_t *crs = v->comm->state.crs;
	struct kvm_sregs *s = &v->run->s.regs.sregs;
	s->cr0 = crs[NVMM_X64_CR_CR0];
	s->cr2 = crs[NVMM_X64_CR_CR2];
	s->cr3 = crs[NVMM_X64_CR_CR3];
	s->cr4 = crs[NVMM_X64_CR_CR4];
	s->cr8 = crs[NVMM_X64_CR_CR8] & 0xF;
	v->run->cr8 = s->cr8;
	uint64_t xcr0 = (crs[NVMM_X64_CR_XCR0] & library.xcr0_mask) | 1;
	if (library.xcr0_mask == 0 || (v->xcr0_known && xcr0 == v->xcr0))
		return 0;
	struct kvm_xcrs xcrs;
	memset(&xcrs, 0, sizeof(xcrs));
	xcrs.nr_xcrs = 1;
	xcrs.xcrs[0].value = xcr0;
	if (ioctl(v->fd, KVM_SET_XCRS, &xcrs) != 0)
		return fail(errno, "KVM_SET_XCRS: %s", strerror(errno));
	return 0;
}

static int fetch_drs(struct vcpu *v)
{
	struct kvm_debugregs d;
	memset(&d, 0, sizeof(d));
	if (ioctl(v->fd, KVM_GET_DEBUGREGS, &d) != 0)
		return fail(errno, "KVM_GET_DEBUGREGS: %s", strerror(errno));
	memcpy(v->comm->state.drs, d.db, sizeof(d.db));
	v->comm->state.drs[NVMM_X64_DR_DR6] = d.dr6;
	v->comm->state.drs[NVMM_X64_DR_DR7] = d.dr7;
	return 0;
}

static int commit_drs(struct vcpu *v)
{
	struct kvm_debugregs d;
	memset(&d, 0, sizeof(d));
	memcpy(d.db, v->comm->state.drs, sizeof(d.db));
	d.dr6 = (uint32_t)v->comm->state.drs[NVMM_X64_DR_DR6];
	d.dr7 = (uint32_t)v->comm->state.drs[NVMM_X64_DR_DR7];
	if (ioctl(v->fd, KVM_SET_DEBUGREGS, &d) != 0)
		return fail(errno, "KVM_SET_DEBUGREGS: %s", strerror(errno));
	return 0;
}

/* The legacy region of XSAVE is the FXSAVE image; XSTATE_BV follows it. */
static int fetch_fpu(struct vcpu *v)
{
	struct kvm_xsave *area = (struct kvm_xsave *)(void *)v->msr_page;
	if (ioctl(v->fd, KVM_GET_XSAVE, area) != 0)
		return fail(errno, "KVM_GET_XSAVE: %s", strerror(errno));
	memcpy(&v->comm->state.fpu, area, sizeof(v->comm->state.fpu));
	memset(v->comm->state.fpu.fx_rsvd, 0, sizeof(v->comm->state.fpu.fx_rsvd));
	v->comm->state.fpu.fx_mxcsr_mask = library.mxcsr_mask;
	return 0;
}

static int commit_fpu(struct vcpu *v)
{
	struct kvm_xsave *area = (struct kvm_xsave *)(void *)v->msr_page;
	struct nvmm_x64_state_fpu image = v->comm->state.fpu;
	image.fx_mxcsr_mask &= library.mxcsr_mask;
	image.fx_mxcsr &= image.fx_mxcsr_mask;
	memset(area, 0, sizeof(*area));
	memcpy(area, &image, sizeof(image));
	area->region[128] = 3; /* x87 and SSE are there */
	if (ioctl(v->fd, KVM_SET_XSAVE, area) != 0)
		return fail(errno, "KVM_SET_XSAVE: %s", strerror(errno));
	return 0;
}

static void fetch_intr(struct vcpu *v)
{
	struct nvmm_x64_state_intr *intr = &v->comm->state.intr;
	const struct kvm_vcpu_events *events = &v->run->s.regs.events;
	memset(intr, 0, sizeof(*intr));
	intr->int_shadow = events->interrupt.shadow != 0;
	intr->int_window_exiting = v->int_window;
	intr->nmi_window_exiting = v->nmi_window;
	intr->evt_pending = event_pending(events);
}

static void commit_intr(struct vcpu *v)
{
	const struct nvmm_x64_state_intr *intr = &v->comm->state.intr;
	struct kvm_vcpu_events *events = &v->run->s.regs.events;
	v->int_window = intr->int_window_exiting;
	v->nmi_window = intr->nmi_window_exiting;
	if ((events->interrupt.shadow != 0) == intr->int_shadow)
		return;
	events->interrupt.shadow = intr->int_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0;
	v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
}

/* Fills the wanted parts of the shared page, and marks them cached. */
int state_fetch(struct vcpu *v, uint64_t flags)
{
	/* An instruction that only waits for the next run has changed registers by now, as far as anybody can tell. */
	if (v->flight.answered && flight_step(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_GPRS) != 0)
		regs_to_state(&v->shown, &v->comm->state);
	if ((flags & NVMM_X64_STATE_SEGS) != 0)
		fetch_segments(&v->run->s.regs.sregs, &v->comm->state);
	if ((flags & NVMM_X64_STATE_INTR) != 0)
		fetch_intr(v);
	if ((flags & NVMM_X64_STATE_CRS) != 0 && fetch_crs(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_DRS) != 0 && fetch_drs(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_MSRS) != 0 && msr_fetch(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_FPU) != 0 && fetch_fpu(v) != 0)
		return -1;
	atomic_fetch_or(&v->comm->state_cached, flags);
	return 0;
}

/*
 * Hands the parts to KVM: general registers, segments, control registers and EFER together through the run page,
 * since KVM refuses combinations that only make sense whole; the rest by calls of their own.
 */
int state_commit(struct vcpu *v, uint64_t flags)
{
	const struct nvmm_x64_state *state = &v->comm->state;
	struct kvm_sync_regs *sync = &v->run->s.regs;
	if ((flags & NVMM_X64_STATE_GPRS) != 0) {
		state_to_regs(state, &v->shown);
		v->differs = true;
	}
	if ((flags & NVMM_X64_STATE_SEGS) != 0)
		commit_segments(state, &sync->sregs);
	if ((flags & NVMM_X64_STATE_CRS) != 0 && commit_crs(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_MSRS) != 0) {
		sync->sregs.efer = state->msrs[NVMM_X64_MSR_EFER];
		if (msr_commit(v) != 0)
			return -1;
	}
	if ((flags & (NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS)) != 0) {
		/* The L bit means something in long mode only, where KVM insists on it. */
		if ((sync->sregs.efer & EFER_LMA) == 0)
			sync->sregs.cs.l = 0;
		/*
		 * Every bit here is an interrupt that KVM takes over. In the run page it only sets them, and never
		 * clears one that has been delivered; what waits is in the events.
		 */
		memset(sync->sregs.interrupt_bitmap, 0, sizeof(sync->sregs.interrupt_bitmap));
		v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	}
	if ((flags & NVMM_X64_STATE_DRS) != 0 && commit_drs(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_FPU) != 0 && commit_fpu(v) != 0)
		return -1;
	if ((flags & NVMM_X64_STATE_INTR) != 0)
		commit_intr(v);
	return 0;
}
