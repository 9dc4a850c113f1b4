/* nvmm_assist_mem: finishes an access to what is no memory with what the mem callback says. KVM executes. */
#include "internal.h"

#include <string.h>
#include <sys/mman.h>

static void describe(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct comm *comm = v->comm;
	comm->access.mem = (struct nvmm_mem){.mach = mach, .vcpu = vcpu, .gpa = run->mmio.phys_addr,
					     .write = run->mmio.is_write, .size = run->mmio.len, .data = comm->data};
	memset(comm->data, 0, sizeof(comm->data));
	if (run->mmio.is_write)
		memcpy(comm->data, run->mmio.data, run->mmio.len);
}

static void call(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct comm *comm = v->comm;
	describe(mach, vcpu, v);
	if (vcpu->cbs.mem != NULL)
		vcpu->cbs.mem(&comm->access.mem);
	if (tracing)
		trace_memory(v, &comm->access.mem);
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, comm->data, run->mmio.len);
}

/* A part of an access that goes on in the next page or the next eight bytes. */
static bool may_continue(const struct kvm_run *run)
{
	return run->mmio.len >= 8 || ((run->mmio.phys_addr + run->mmio.len) & (PAGE - 1)) == 0;
}

/* KVM has nothing left to do with the instruction: it stores last, and what it stored has been handed over. */
static bool is_last(const struct kvm_run *run)
{
	return run->mmio.is_write && !may_continue(run);
}

/* A load into a register is over with its data. Anything else may come back for a second access. */
static bool plain_load(struct vcpu *v)
{
	uint8_t bytes[15];
	struct insn insn;
	struct insn_mode mode;
	insn_mode_of(v, &mode);
	size_t count = guest_read(v, code_address(v, v->shown.rip), bytes, sizeof(bytes));
	return insn_decode(bytes, count, mode, &insn) && insn.class == INSN_LOAD;
}

/* To whoever has lent the page: an access that is all of its instruction can be answered there, without a call. */
void assist_offer(struct vcpu *v)
{
	if (!is_last(v->run) && (v->run->mmio.is_write || may_continue(v->run) || !plain_load(v)))
		return;
	describe(NULL, NULL, v);
	atomic_store(&v->comm->answer, ANSWER_OFFERED);
}

/* It has been: the instruction goes on, or is finished, as after nvmm_assist_mem. */
void assist_answered(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	atomic_store(&v->comm->answer, 0);
	if (v->flight.kind != FLIGHT_MEMORY || v->flight.answered)
		return;
	if (tracing)
		trace_memory(v, &v->comm->access.mem);
	v->differs = false;
	if (run->mmio.is_write) {
		flight_landed(v);
		return;
	}
	memcpy(run->mmio.data, v->comm->data, run->mmio.len);
	v->flight.answered = true;
}

static int assist(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	int more = 1;
	atomic_store(&v->comm->answer, 0);
	call(mach, vcpu, v);
	v->differs = false;
	v->flight.answered = true;
	/* What the callback has set, it keeps; anything else may be changed by the instruction. */
	uint64_t commit = atomic_load(&v->comm->state_commit), cached = atomic_load(&v->comm->state_cached);
	if (!run->mmio.is_write && !may_continue(run) && (commit & NVMM_X64_STATE_GPRS) == 0 && plain_load(v)) {
		/* The next run finishes it; until then getstate would. */
		atomic_store(&v->comm->state_cached, cached & commit);
		return 0;
	}
	bool last = is_last(run);
	while (!last && (more = flight_step(v)) == 1) {
		if (run->exit_reason != KVM_EXIT_MMIO) {
			flight_abandon(v);
			return fail(ENODEV, "the instruction at 0x%llx mixes memory and ports",
				    (unsigned long long)v->shown.rip);
		}
		call(mach, vcpu, v);
		last = is_last(run);
	}
	if (more < 0)
		return -1;
	if (last)
		flight_landed(v);
	atomic_store(&v->comm->state_cached, (cached & commit) | NVMM_X64_STATE_GPRS);
	regs_to_state(&v->shown, &v->comm->state);
	return 0;
}

int nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct vcpu *v;
	int result;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	if (v->comm->exit.reason != NVMM_VCPU_EXIT_MEMORY)
		result = fail(EINVAL, "the last exit of vCPU %u is not MEMORY", v->id);
	else if (v->comm->exit.u.mem.prot == PROT_EXEC)
		result = fail(EFAULT, "the guest executes at 0x%llx, where no memory is",
			      (unsigned long long)v->comm->exit.u.mem.gpa);
	else if (v->flight.kind != FLIGHT_MEMORY || v->flight.answered)
		result = fail(EINVAL, "the access at 0x%llx is finished already", (unsigned long long)v->comm->exit.u.mem.gpa);
	else
		result = assist(mach, vcpu, v);
	vcpu_leave(v);
	return traced(result);
}
