/* nvmm_assist_io: finishes an IN, OUT, INS or OUTS with what the io callback says. */
#include "internal.h"

#include <string.h>

static void call(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v, uint8_t *data)
{
	const struct nvmm_vcpu_exit *exit = &v->exit;
	struct nvmm_io io = {
		.mach = mach,
		.vcpu = vcpu,
		.port = exit->u.io.port,
		.in = exit->u.io.in,
		.size = exit->u.io.operand_size,
		.data = data,
	};
	if (vcpu->cbs.io != NULL)
		vcpu->cbs.io(&io);
	if (tracing)
		trace_port(v, &io);
}

/* Callbacks get eight bytes, whatever the size: some write more than they should. */
static void plain(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	uint64_t *g = v->comm.state.gprs;
	const struct nvmm_x86_exit_io *io = &v->exit.u.io;
	uint8_t data[8] = {0};
	if (!io->in)
		memcpy(data, &g[NVMM_X64_GPR_RAX], io->operand_size);
	call(mach, vcpu, v, data);
	if (io->in) {
		if (io->operand_size == 4)
			g[NVMM_X64_GPR_RAX] = 0;
		memcpy(&g[NVMM_X64_GPR_RAX], data, io->operand_size);
	}
	g[NVMM_X64_GPR_RIP] = io->npc;
	(void)nvmm_vcpu_setstate(mach, vcpu, NVMM_X64_STATE_GPRS);
}

/* The registers after a string instruction; KVM leaves it to the next run to find a count of zero. */
static void show(struct vcpu *v)
{
	const struct nvmm_x86_exit_io *io = &v->exit.u.io;
	if (io->rep && (v->shown.rcx & size_mask(io->address_size)) == 0 && v->shown.rip != io->npc) {
		v->shown.rip = io->npc;
		v->differs = true;
	}
	regs_to_state(&v->shown, &v->comm.state);
}

/* INS: all elements that KVM asks for at once, then their way into memory, which is KVM's. */
static int string_in(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	int more = 1;
	while (more == 1) {
		if (v->run->exit_reason != KVM_EXIT_IO || v->run->io.direction != KVM_EXIT_IO_IN) {
			flight_abandon(v);
			return fail(EFAULT, "the destination of INS is no memory");
		}
		unsigned size = v->run->io.size, count = v->run->io.count;
		for (unsigned i = 0; i < count; i++) {
			uint8_t data[8] = {0};
			call(mach, vcpu, v, data);
			memcpy(flight_port_data(v) + i * size, data, size);
		}
		more = flight_step(v);
	}
	if (more < 0)
		return fail(EFAULT, "KVM could not finish INS at 0x%llx", (unsigned long long)v->shown.rip);
	show(v);
	return 0;
}

/* OUTS: KVM has read the element and moved on already. */
static int string_out(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	uint8_t data[8] = {0};
	memcpy(data, flight_port_data(v), v->exit.u.io.operand_size);
	call(mach, vcpu, v, data);
	v->shown = v->run->s.regs.regs;
	v->differs = false;
	show(v);
	return 0;
}

int nvmm_assist_io(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct vcpu *v;
	int result = 0;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	if (v->exit.reason != NVMM_VCPU_EXIT_IO)
		result = fail(EINVAL, "the last exit of vCPU %u is not IO", v->id);
	else if (!v->exit.u.io.str)
		plain(mach, vcpu, v);
	else if (v->exit.u.io.in)
		result = string_in(mach, vcpu, v);
	else
		result = string_out(mach, vcpu, v);
	vcpu_leave(v);
	return traced(result);
}
