/* nvmm_vcpu_run. */
#include "internal.h"

#include <string.h>
#include <sys/ioctl.h>

static bool stop_wanted(struct vcpu *v)
{
	return __atomic_load_n(&v->stop, __ATOMIC_SEQ_CST) != 0;
}

/* What the VMM sees without asking, on every exit. */
static void fill_exitstate(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	const struct kvm_vcpu_events *events = &v->run->s.regs.events;
	/* After a stop before the entry, what the VMM has set is still to be taken over. */
	uint64_t commit = atomic_load(&v->comm->state_commit);
	bool gprs = (commit & NVMM_X64_STATE_GPRS) != 0, crs = (commit & NVMM_X64_STATE_CRS) != 0;
	exit->exitstate.rflags = gprs ? v->comm->state.gprs[NVMM_X64_GPR_RFLAGS] : v->shown.rflags;
	exit->exitstate.cr8 = crs ? v->comm->state.crs[NVMM_X64_CR_CR8] : v->run->cr8;
	exit->exitstate.int_shadow = events->interrupt.shadow != 0;
	exit->exitstate.int_window_exiting = v->int_window;
	exit->exitstate.nmi_window_exiting = v->nmi_window;
	/* An event that was injected and not yet handed to KVM waits as well: another one would replace it. */
	exit->exitstate.evt_pending = event_pending(events) || atomic_load(&v->comm->event_commit) != 0;
}

/* KVM has no exit for the end of an NMI: it is looked for whenever the guest is out. */
static bool nmi_window_opened(struct vcpu *v)
{
	const struct kvm_vcpu_events *events = &v->run->s.regs.events;
	if (!v->nmi_window || events->nmi.masked || events->nmi.pending || events->nmi.injected)
		return false;
	v->nmi_window = false;
	return true;
}

/* State first, then the event, as NVMM's kernel does. */
static int commit(struct vcpu *v)
{
	if (!v->started) {
		if (cpuid_install(v) != 0)
			return -1;
		v->started = true;
	}
	/* A step begins with an instruction, not in the middle of one that KVM has begun. */
	if (v->debug.step)
		flight_finish(v);
	flight_resolve(v, atomic_load(&v->comm->state_commit));
	/* Looked at first: an exchange costs as much as some tens of instructions, and mostly there is nothing to take. */
	uint64_t flags = atomic_load(&v->comm->state_commit);
	if (flags != 0)
		flags = atomic_exchange(&v->comm->state_commit, 0) & NVMM_X64_STATE_ALL;
	if (tracing && flags != 0)
		trace_set(v, flags);
	int result = state_commit(v, flags);
	if ((flags & (NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS)) != 0)
		v->gate.fresh = false;
	bool event = atomic_load(&v->comm->event_commit) != 0 && atomic_exchange(&v->comm->event_commit, 0) != 0;
	if (event && result == 0 && event_commit(v) != 0)
		return -2;
	if (result == 0 && debug_prepare(v) != 0)
		return -2;
	struct kvm_sync_regs *sync = &v->run->s.regs;
	/* After an instruction that KVM had finished already, and the VMM now has too, there is nothing to tell. */
	if (v->differs && memcmp(&sync->regs, &v->shown, sizeof(v->shown)) == 0)
		v->differs = false;
	if (v->differs) {
		sync->regs = v->shown;
		v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
		v->differs = false;
		/* Setting registers makes KVM forget an exception that waits, such as a single-step trap. */
		if (sync->events.exception.injected)
			v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
	}
	if ((v->run->kvm_dirty_regs & KVM_SYNC_X86_EVENTS) != 0)
		v->run->s.regs.events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	v->run->request_interrupt_window = v->int_window;
	atomic_store_explicit(&v->comm->state_cached, 0, memory_order_release);
	v->xcr0_known = v->msrs_known = false;
	return result;
}

void exit_halted(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	exit->reason = NVMM_VCPU_EXIT_HALTED;
	if ((v->shown.rflags & RFLAGS_IF) != 0)
		v->int_window = false;
}

/* Translates what KVM_RUN ended with. False: the guest just goes on. */
static bool translate(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	struct kvm_run *run = v->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(v, exit);
		return true;
	case KVM_EXIT_MMIO:
		exit_memory(v, exit);
		return true;
	case KVM_EXIT_X86_RDMSR:
		if (msr_handle(v))
			return false;
		exit_rdmsr(v, exit);
		return true;
	case KVM_EXIT_X86_WRMSR:
		if (msr_handle(v))
			return false;
		exit_wrmsr(v, exit);
		return true;
	case KVM_EXIT_HLT:
		exit_halted(v, exit);
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		v->int_window = false;
		exit->reason = NVMM_VCPU_EXIT_INT_READY;
		return true;
	case KVM_EXIT_SET_TPR:
		if (!v->tpr_exits)
			return false;
		exit->reason = NVMM_VCPU_EXIT_TPR_CHANGED;
		return true;
	case KVM_EXIT_SHUTDOWN:
		exit->reason = NVMM_VCPU_EXIT_SHUTDOWN;
		return true;
	case KVM_EXIT_INTR:
		exit->reason = NVMM_VCPU_EXIT_NONE;
		return true;
	case KVM_EXIT_DEBUG:
		return debug_exit(v, exit);
	default:
		exit_failure(v, exit);
		return true;
	}
}

/* Enters the guest until there is something to say. */
static void enter(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	for (;;) {
		int result = ioctl(v->fd, KVM_RUN, 0);
		int error = result != 0 ? errno : 0;
		v->run->kvm_dirty_regs = 0;
		v->shown = v->run->s.regs.regs;
		memset(&v->flight, 0, sizeof(v->flight));
		if (result != 0 && (error == EINTR || error == EAGAIN)) {
			exit->reason = NVMM_VCPU_EXIT_NONE;
			return;
		}
		if (result != 0 && v->run->exit_reason != KVM_EXIT_FAIL_ENTRY) {
			/* State that no processor can be in, or memory that went away under the guest. */
			exit->reason = NVMM_VCPU_EXIT_INVALID;
			exit->u.inv.hwcode = ~0ULL;
			(void)fail(error, "KVM does not enter the guest at 0x%llx: %s",
				   (unsigned long long)v->shown.rip, strerror(error));
			return;
		}
		if (translate(v, exit))
			return;
	}
}

static int run(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	memset(exit, 0, sizeof(*exit));
	exit->reason = NVMM_VCPU_EXIT_NONE;
	atomic_store_explicit(&v->comm->answer, 0, memory_order_relaxed);
	tick_enter(v);
	if (atomic_load(&v->dying)) {
		tick_leave(v);
		return fail(ENOENT, "vCPU %u is being destroyed", v->id);
	}
	/* A stop that comes from now on ends KVM_RUN. */
	if (!stop_wanted(v)) {
		int result = commit(v);
		if (result == -2) {
			tick_leave(v);
			return -1;
		}
		if (result != 0) {
			exit->reason = NVMM_VCPU_EXIT_INVALID;
			exit->u.inv.hwcode = ~0ULL;
		} else if (nmi_window_opened(v)) {
			exit->reason = NVMM_VCPU_EXIT_NMI_READY;
		} else {
			enter(v, exit);
			if (nmi_window_opened(v) && exit->reason == NVMM_VCPU_EXIT_NONE)
				exit->reason = NVMM_VCPU_EXIT_NMI_READY;
		}
	}
	tick_leave(v);
	if (exit->reason == NVMM_VCPU_EXIT_NONE)
		v->gate.fresh = false;
	/* A stop that comes together with another exit stays for the next run. */
	if (exit->reason == NVMM_VCPU_EXIT_NONE && __atomic_exchange_n(&v->stop, 0, __ATOMIC_SEQ_CST) != 0)
		exit->reason = NVMM_VCPU_EXIT_STOPPED;
	fill_exitstate(v, exit);
	if (tracing)
		trace_exit(v, exit);
	bool unfinished = exit->reason == NVMM_VCPU_EXIT_IO || exit->reason == NVMM_VCPU_EXIT_MEMORY ||
			  exit->reason == NVMM_VCPU_EXIT_RDMSR || exit->reason == NVMM_VCPU_EXIT_WRMSR;
	return unfinished ? state_fetch(v, NVMM_X64_STATE_GPRS) : 0;
}

int nvmm_vcpu_run(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct vcpu *v;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	int result = traced(run(v, &v->comm->exit));
	v->comm->result = result;
	vcpu_leave(v);
	return result;
}

/* What nvmm_linux_run runs. */
static __thread struct nvmm_machine *chosen_machine;
static __thread struct nvmm_vcpu *chosen_vcpu;

void nvmm_linux_choose(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	chosen_machine = mach;
	chosen_vcpu = vcpu;
}

void nvmm_linux_run(void)
{
	(void)nvmm_vcpu_run(chosen_machine, chosen_vcpu);
}

void nvmm_linux_go_on(void)
{
	(void)assist_go_on(chosen_machine, chosen_vcpu);
}
