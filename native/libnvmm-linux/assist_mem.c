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
	uint8_t bytes[INSN_BYTES];
	struct insn insn;
	struct insn_mode mode;
	insn_mode_of(v, &mode);
	size_t count = guest_read(v, code_address(v, v->shown.rip), bytes, INSN_BYTES - 1);
	return insn_decode(v, bytes, count, mode, &insn) && insn.class == INSN_LOAD;
}

/* To whoever has lent the page: the access can be answered there, without a call from here to there. */
void assist_offer(struct vcpu *v)
{
	bool whole = is_last(v->run) || (!v->run->mmio.is_write && !may_continue(v->run) && plain_load(v));
	describe(NULL, NULL, v);
	atomic_store_explicit(&v->comm->answer, whole ? ANSWER_OFFERED : ANSWER_PART, memory_order_relaxed);
}

/* It has been: the instruction is finished, or goes on in the next run or by assist_go_on. */
void assist_answered(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	atomic_store_explicit(&v->comm->answer, 0, memory_order_relaxed);
	if (v->flight.kind != FLIGHT_MEMORY || v->flight.answered)
		return;
	if (tracing)
		trace_memory(v, &v->comm->access.mem);
	v->differs = false;
	if (is_last(run)) {
		flight_landed(v);
		return;
	}
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, v->comm->data, run->mmio.len);
	v->flight.answered = true;
}

/* The instruction is done: what the callbacks have set stays, anything else may be changed by the instruction. */
static void finished(struct vcpu *v)
{
	uint64_t commit = atomic_load(&v->comm->state_commit), cached = atomic_load(&v->comm->state_cached);
	atomic_store(&v->comm->state_cached, (cached & commit) | NVMM_X64_STATE_GPRS);
	regs_to_state(&v->shown, &v->comm->state);
}

static int mixed(struct vcpu *v)
{
	flight_abandon(v);
	return fail(ENODEV, "the instruction at 0x%llx mixes memory and ports", (unsigned long long)v->shown.rip);
}

/* One step of an instruction with several accesses, each of which is answered in the page. */
static int step(struct vcpu *v)
{
	if (v->flight.kind != FLIGHT_MEMORY || !v->flight.answered)
		return fail(EINVAL, "vCPU %u has no access that was answered", v->id);
	int more = flight_step(v);
	if (more < 0)
		return -1;
	if (more == 0) {
		finished(v);
		return 0;
	}
	if (v->run->exit_reason != KVM_EXIT_MMIO)
		return mixed(v);
	v->flight.answered = false;
	assist_offer(v);
	return 0;
}

/* vcpu_enter has taken the answer. */
int assist_go_on(const struct nvmm_machine *mach, const struct nvmm_vcpu *vcpu)
{
	struct vcpu *v;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	int result = traced(step(v));
	v->comm->result = result;
	vcpu_leave(v);
	return result;
}

static int assist(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	int more = 1;
	atomic_store(&v->comm->answer, 0);
	call(mach, vcpu, v);
	v->differs = false;
	v->flight.answered = true;
	uint64_t commit = atomic_load(&v->comm->state_commit);
	if (!run->mmio.is_write && !may_continue(run) && (commit & NVMM_X64_STATE_GPRS) == 0 && plain_load(v)) {
		/* The next run finishes it; until then getstate would. */
		atomic_fetch_and(&v->comm->state_cached, commit);
		return 0;
	}
	bool last = is_last(run);
	while (!last && (more = flight_step(v)) == 1) {
		if (run->exit_reason != KVM_EXIT_MMIO)
			return mixed(v);
		call(mach, vcpu, v);
		last = is_last(run);
	}
	if (more < 0)
		return -1;
	if (last)
		flight_landed(v);
	finished(v);
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
