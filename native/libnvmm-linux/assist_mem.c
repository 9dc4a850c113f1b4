/* nvmm_assist_mem: finishes an access to what is no memory with what the mem callback says. KVM executes. */
#include "internal.h"

#include <string.h>
#include <sys/mman.h>

static void call(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t data[16] = {0};
	struct nvmm_mem mem = {
		.mach = mach,
		.vcpu = vcpu,
		.gpa = run->mmio.phys_addr,
		.write = run->mmio.is_write,
		.size = run->mmio.len,
		.data = data,
	};
	if (mem.write)
		memcpy(data, run->mmio.data, mem.size);
	if (vcpu->cbs.mem != NULL)
		vcpu->cbs.mem(&mem);
	if (tracing)
		trace_memory(v, &mem);
	if (!mem.write)
		memcpy(run->mmio.data, data, mem.size);
}

/* A part of an access that goes on in the next page or the next eight bytes. */
static bool may_continue(const struct kvm_run *run)
{
	return run->mmio.len >= 8 || ((run->mmio.phys_addr + run->mmio.len) & (PAGE - 1)) == 0;
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

static int assist(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	struct kvm_run *run = v->run;
	int more = 1;
	call(mach, vcpu, v);
	v->differs = false;
	v->flight.answered = true;
	/* What the callback has set, it keeps; anything else may be changed by the instruction. */
	uint64_t commit = atomic_load(&v->comm.state_commit), cached = atomic_load(&v->comm.state_cached);
	if (!may_continue(run)) {
		if (run->mmio.is_write) {
			/* KVM has nothing left to do with it. */
			v->shown = run->s.regs.regs;
			memset(&v->flight, 0, sizeof(v->flight));
			regs_to_state(&v->shown, &v->comm.state);
			return 0;
		}
		if (plain_load(v) && (commit & NVMM_X64_STATE_GPRS) == 0) {
			/* The next run finishes it; until then getstate would. */
			atomic_store(&v->comm.state_cached, cached & commit);
			return 0;
		}
	}
	while ((more = flight_step(v)) == 1) {
		if (run->exit_reason != KVM_EXIT_MMIO) {
			flight_abandon(v);
			return fail(ENODEV, "the instruction at 0x%llx mixes memory and ports",
				    (unsigned long long)v->shown.rip);
		}
		call(mach, vcpu, v);
	}
	if (more < 0)
		return -1;
	atomic_store(&v->comm.state_cached, (cached & commit) | NVMM_X64_STATE_GPRS);
	regs_to_state(&v->shown, &v->comm.state);
	return 0;
}

int nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct vcpu *v;
	int result;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	if (v->exit.reason != NVMM_VCPU_EXIT_MEMORY)
		result = fail(EINVAL, "the last exit of vCPU %u is not MEMORY", v->id);
	else if (v->exit.u.mem.prot == PROT_EXEC)
		result = fail(EFAULT, "the guest executes at 0x%llx, where no memory is",
			      (unsigned long long)v->exit.u.mem.gpa);
	else if (v->flight.kind != FLIGHT_MEMORY || v->flight.answered)
		result = fail(EINVAL, "the access at 0x%llx is finished already", (unsigned long long)v->exit.u.mem.gpa);
	else
		result = assist(mach, vcpu, v);
	vcpu_leave(v);
	return traced(result);
}
