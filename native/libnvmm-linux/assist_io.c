/* nvmm_assist_io: finishes an IN, OUT, INS or OUTS with what the io callback says. */
#include "internal.h"

#include <string.h>

/* One element. Callbacks get eight bytes, whatever the size: some write more than they should. */
static void call(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v, void *element)
{
	struct comm *comm = v->comm;
	const struct nvmm_x86_exit_io *io = &comm->exit.u.io;
	uint8_t size = io->operand_size;
	bool in = io->in;
	comm->access.io = (struct nvmm_io){
		.mach = mach, .vcpu = vcpu, .port = io->port, .in = in, .size = size, .data = comm->data};
	memset(comm->data, 0, 8);
	if (!in)
		memcpy(comm->data, element, size);
	if (vcpu->cbs.io != NULL)
		vcpu->cbs.io(&comm->access.io);
	if (tracing)
		trace_port(v, &comm->access.io);
	if (in)
		memcpy(element, comm->data, size);
}

static void plain(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, struct vcpu *v)
{
	uint64_t *g = v->comm->state.gprs;
	const struct nvmm_x86_exit_io *io = &v->comm->exit.u.io;
	uint64_t element = g[NVMM_X64_GPR_RAX];
	call(mach, vcpu, v, &element);
	if (io->in) {
		if (io->operand_size == 4)
			g[NVMM_X64_GPR_RAX] = 0;
		memcpy(&g[NVMM_X64_GPR_RAX], &element, io->operand_size);
	}
	g[NVMM_X64_GPR_RIP] = io->npc;
	(void)nvmm_vcpu_setstate(mach, vcpu, NVMM_X64_STATE_GPRS);
}

/* The registers after a string instruction; KVM leaves it to the next run to find a count of zero. */
static void show(struct vcpu *v)
{
	const struct nvmm_x86_exit_io *io = &v->comm->exit.u.io;
	if (io->rep && (v->shown.rcx & size_mask(io->address_size)) == 0 && v->shown.rip != io->npc) {
		v->shown.rip = io->npc;
		v->differs = true;
	}
	regs_to_state(&v->shown, &v->comm->state);
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
		for (unsigned i = 0; i < count; i++)
			call(mach, vcpu, v, flight_port_data(v) + i * size);
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
	call(mach, vcpu, v, flight_port_data(v));
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
	if (v->comm->exit.reason != NVMM_VCPU_EXIT_IO)
		result = fail(EINVAL, "the last exit of vCPU %u is not IO", v->id);
	else if (!v->comm->exit.u.io.str)
		plain(mach, vcpu, v);
	else if (v->comm->exit.u.io.in)
		result = string_in(mach, vcpu, v);
	else
		result = string_out(mach, vcpu, v);
	vcpu_leave(v);
	return traced(result);
}
