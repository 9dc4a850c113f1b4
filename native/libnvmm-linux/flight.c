/*
 * Instructions that KVM has begun. At an IO, MEMORY or MSR exit NVMM shows the registers before the instruction, and
 * the VMM finishes it, by an assist or by itself. KVM waits for data at that point, and goes on with the instruction
 * in the next KVM_RUN, even when all registers were replaced meanwhile. The three ways out:
 *
 * - the data that KVM waits for is what the VMM decided: the next KVM_RUN finishes the instruction and runs on, which
 *   costs nothing (flight_resolve);
 * - the result must be seen now: a KVM_RUN that does not enter the guest (flight_step);
 * - the VMM did something else: the instruction is finished with data of no consequence, and the registers are
 *   written over it (flight_abandon).
 */
#include "internal.h"

#include <string.h>
#include <sys/ioctl.h>

/* More pieces than any instruction has, except REP forms, which KVM ends after 1024 elements. */
#define MOST_STEPS 4096

uint8_t *flight_port_data(struct vcpu *v)
{
	return (uint8_t *)v->run + v->run->io.data_offset;
}

/* KVM_RUN without entering the guest. 1: KVM wants more data, 0: the instruction is done, -1: it failed. */
static int enter_briefly(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	int result = ioctl(v->fd, KVM_RUN, 0);
	int error = result != 0 ? errno : 0;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (result != 0)
		return error == EINTR || error == EAGAIN ? 0 : -1;
	switch (v->run->exit_reason) {
	case KVM_EXIT_MMIO:
	case KVM_EXIT_IO:
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		return 1;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_DEBUG: /* of the last step's TF: the instruction is done */
		return 0;
	default:
		return -1;
	}
}

/* KVM is done with the instruction: its registers are the ones to show. */
void flight_landed(struct vcpu *v)
{
	memset(&v->flight, 0, sizeof(v->flight));
	v->shown = v->run->s.regs.regs;
	v->differs = false;
}

/* One step further with the data that is in the run page. 1: KVM wants more, 0: done, -1: failed. */
int flight_step(struct vcpu *v)
{
	int result = enter_briefly(v);
	if (result <= 0)
		flight_landed(v);
	if (result < 0)
		return fail(ENODEV, "KVM can't finish the instruction at 0x%llx (exit %u)",
			    (unsigned long long)v->shown.rip, v->run->exit_reason);
	return result;
}

/* Where string instructions put what they read. */
static gvaddr_t destination(struct vcpu *v, const struct insn *insn)
{
	struct kvm_regs *regs = &v->run->s.regs.regs;
	return linear_address(v, NVMM_X64_SEG_ES, regs->rdi & size_mask(insn->address_size));
}

static bool insn_at(struct vcpu *v, uint64_t rip, struct insn *insn)
{
	uint8_t bytes[INSN_BYTES];
	struct insn_mode mode;
	insn_mode_of(v, &mode);
	size_t count = guest_read(v, code_address(v, rip), bytes, INSN_BYTES - 1);
	return insn_decode(v, bytes, count, mode, insn);
}

/* Data that changes nothing: string instructions write to memory, so they get what is there. */
static void harmless_data(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct insn insn;
	bool string = insn_at(v, run->s.regs.regs.rip, &insn);
	if (run->exit_reason == KVM_EXIT_IO) {
		uint8_t *data = flight_port_data(v);
		size_t size = (size_t)run->io.size * run->io.count;
		memset(data, 0, size);
		if (run->io.direction == KVM_EXIT_IO_IN && string && insn.class == INSN_STRING_PORT)
			(void)guest_read(v, destination(v, &insn), data, size);
	} else if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write) {
		memset(run->mmio.data, 0, sizeof(run->mmio.data));
		if (string && insn.class == INSN_MOVS)
			(void)guest_read(v, destination(v, &insn), run->mmio.data, run->mmio.len);
	} else {
		run->msr.error = 0;
		run->msr.data = 0;
	}
}

/* Gets rid of the instruction; the registers that are shown are to be written back. */
void flight_abandon(struct vcpu *v)
{
	struct kvm_regs shown = v->shown;
	if (v->flight.kind == FLIGHT_NONE)
		return;
	for (int step = 0; step < MOST_STEPS; step++) {
		if (!v->flight.answered)
			harmless_data(v);
		v->flight.answered = false;
		if (enter_briefly(v) <= 0)
			break;
	}
	flight_landed(v);
	v->shown = shown;
	v->differs = true;
}

/* Gets rid of the instruction one way or the other, so that the next KVM_RUN begins with one. */
void flight_finish(struct vcpu *v)
{
	if (v->flight.answered)
		(void)flight_step(v);
	else
		flight_abandon(v);
}

/* True when what the VMM set is exactly what KVM will do with the data put into the run page. */
static bool agrees(struct vcpu *v, const uint64_t *g)
{
	struct kvm_run *run = v->run;
	uint64_t rax = g[NVMM_X64_GPR_RAX], rdx = g[NVMM_X64_GPR_RDX];
	if (v->flight.npc == 0 || g[NVMM_X64_GPR_RIP] != v->flight.npc ||
	    g[NVMM_X64_GPR_RFLAGS] != v->shown.rflags)
		return false;
	switch (v->flight.kind) {
	case FLIGHT_IN:
		if (run->io.size == 4 && rax >> 32 != 0)
			return false;
		memcpy(flight_port_data(v), &rax, run->io.size);
		return true;
	case FLIGHT_RDMSR:
		if ((rax | rdx) >> 32 != 0)
			return false;
		run->msr.data = rax | rdx << 32;
		run->msr.error = 0;
		return true;
	case FLIGHT_WRMSR:
		run->msr.error = 0;
		return true;
	case FLIGHT_OUT:
		return true;
	default:
		return false;
	}
}

/*
 * Before a run: sees to it that what KVM still does with the instruction and what the VMM has set come to the same.
 * `commit` are the parts of the state that the VMM has set.
 */
void flight_resolve(struct vcpu *v, uint64_t commit)
{
	const uint64_t plain = NVMM_X64_STATE_GPRS | NVMM_X64_STATE_INTR;
	const uint64_t *g = v->comm->state.gprs;
	if (v->flight.kind == FLIGHT_NONE)
		return;
	if (v->flight.answered && commit == 0) {
		/* The next KVM_RUN finishes it. */
		memset(&v->flight, 0, sizeof(v->flight));
		return;
	}
	if ((commit & NVMM_X64_STATE_GPRS) != 0 && (commit & ~plain) == 0 && agrees(v, g)) {
		/* The other registers as set, RIP as it was: KVM moves it, and takes the data. */
		uint64_t rip = v->shown.rip;
		state_to_regs(&v->comm->state, &v->shown);
		v->run->s.regs.regs = v->shown;
		v->run->s.regs.regs.rip = rip;
		v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
		atomic_fetch_and(&v->comm->state_commit, ~(uint64_t)NVMM_X64_STATE_GPRS);
		v->differs = false;
		memset(&v->flight, 0, sizeof(v->flight));
		return;
	}
	if (v->flight.answered) {
		(void)flight_step(v);
		return;
	}
	flight_abandon(v);
}
