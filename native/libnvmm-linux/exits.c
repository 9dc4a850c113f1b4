/* From KVM's exits to NVMM's: the registers before the instruction, and the address of the next one. */
#include "internal.h"

#include <string.h>
#include <sys/mman.h>

/* Longest IN or OUT that is looked for behind RIP: a few prefixes, opcode, immediate port. */
#define MOST_PORT_BYTES 5
#define MOST_BYTES 15 /* of any instruction */

/* The code around RIP, as far as it can be read: it is taken once for each exit. */
struct code {
	struct insn_mode mode;
	uint8_t bytes[MOST_BYTES + INSN_BYTES]; /* RIP is in the middle */
	size_t before;
	size_t after;
};

/* At most `before` bytes in front of RIP, and an instruction from there on. */
static void code_take(struct vcpu *v, size_t before, struct code *code)
{
	uint64_t rip = v->shown.rip;
	uint8_t *middle = code->bytes + MOST_BYTES;
	insn_mode_of(v, &code->mode);
	size_t count = guest_read(v, code_address(v, rip - before), middle - before, before + MOST_BYTES);
	if (count > before) {
		code->before = before;
		code->after = count - before;
		return;
	}
	/* The first of them lie on a page that can't be read. */
	while (before > 0 && guest_read(v, code_address(v, rip - before), middle - before, before) != before)
		before--;
	code->before = before;
	code->after = guest_read(v, code_address(v, rip), middle, MOST_BYTES);
}

static bool decode_ahead(struct vcpu *v, const struct code *code, struct insn *insn)
{
	return insn_decode(v, code->bytes + MOST_BYTES, code->after, code->mode, insn);
}

/* An instruction of exactly `length` bytes that ends at RIP. */
static bool decode_behind(struct vcpu *v, const struct code *code, size_t length, struct insn *insn)
{
	return length <= code->before && insn_decode(v, code->bytes + MOST_BYTES - length, length, code->mode, insn) &&
	       insn->length == length;
}

/* ------------------------------------------------------------------------------------------------ ports */

static bool port_matches(struct vcpu *v, const struct insn *insn)
{
	const struct kvm_run *run = v->run;
	const struct kvm_regs *regs = &run->s.regs.regs;
	if (insn->class != INSN_PORT && insn->class != INSN_STRING_PORT)
		return false;
	uint16_t port = insn->immediate_port >= 0 ? (uint16_t)insn->immediate_port : (uint16_t)regs->rdx;
	if (insn->in != (run->io.direction == KVM_EXIT_IO_IN) || insn->operand_size != run->io.size ||
	    port != run->io.port)
		return false;
	if (insn->in || insn->class != INSN_PORT)
		return true;
	uint32_t data;
	memcpy(&data, flight_port_data(v), sizeof(data));
	return ((data ^ regs->rax) & size_mask(run->io.size)) == 0;
}

static bool port_before(struct vcpu *v, const struct code *code, struct insn *insn)
{
	for (unsigned length = 1; length <= MOST_PORT_BYTES; length++)
		if (decode_behind(v, code, length, insn) && port_matches(v, insn) &&
		    (insn->class == INSN_PORT || !insn->rep))
			return true;
	return false;
}

/* An OUTS whose element KVM has taken: back to before it. */
static void undo_outs(struct vcpu *v, const struct insn *insn)
{
	int64_t step = (v->shown.rflags & RFLAGS_DF) != 0 ? -(int64_t)insn->operand_size : insn->operand_size;
	add_low(&v->shown.rsi, insn->address_size, -step);
	if (insn->rep)
		add_low(&v->shown.rcx, insn->address_size, 1);
	v->differs = true;
}

/*
 * OUT: hardware stops at the instruction, KVM's emulator behind it (but for REP OUTS, which it stops at, one element
 * further). When both readings fit, as between two equal OUTs, KVM is asked to finish: a RIP that moves was at the
 * instruction.
 */
static void place_out(struct vcpu *v, struct insn *insn)
{
	uint64_t rip = v->shown.rip;
	struct code code;
	struct insn ahead, behind;
	code_take(v, MOST_PORT_BYTES, &code);
	bool at = decode_ahead(v, &code, &ahead) && port_matches(v, &ahead);
	bool after = port_before(v, &code, &behind);
	if (at && ahead.class == INSN_STRING_PORT && ahead.rep && !after) {
		*insn = ahead;
		v->flight.npc = rip + ahead.length;
		undo_outs(v, insn);
		return;
	}
	if (at && after && ahead.class == INSN_PORT) {
		struct kvm_regs before = v->shown;
		(void)flight_step(v);
		after = v->shown.rip == rip;
		v->flight = (struct flight){.kind = FLIGHT_NONE, .npc = v->shown.rip};
		if (!after) {
			*insn = ahead;
			v->shown = before;
			v->differs = true;
			return;
		}
	}
	if (after) {
		*insn = behind;
		v->flight = (struct flight){.kind = FLIGHT_NONE, .npc = rip};
		if (insn->class == INSN_STRING_PORT)
			undo_outs(v, insn);
		v->shown.rip = rip - insn->length;
		v->differs = true;
		return;
	}
	if (at) {
		*insn = ahead;
		v->flight = (struct flight){.kind = FLIGHT_OUT, .npc = rip + ahead.length};
		return;
	}
	/* Code that can't be read. Whatever KVM does next is right; only the exit's addresses are not exact. */
	*insn = (struct insn){.class = INSN_PORT, .operand_size = v->run->io.size};
	v->flight = (struct flight){.kind = FLIGHT_OUT, .npc = 0};
}

static void place_in(struct vcpu *v, struct insn *insn)
{
	uint64_t rip = v->shown.rip;
	struct code code;
	code_take(v, 0, &code);
	bool found = decode_ahead(v, &code, insn) && port_matches(v, insn);
	if (!found)
		*insn = (struct insn){.class = INSN_PORT, .in = true, .operand_size = v->run->io.size};
	v->flight.kind = insn->class == INSN_STRING_PORT ? FLIGHT_STRING_IN : FLIGHT_IN;
	v->flight.npc = found ? rip + insn->length : 0;
}

void exit_io(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	struct nvmm_x86_exit_io *io = &exit->u.io;
	struct insn insn;
	exit->reason = NVMM_VCPU_EXIT_IO;
	io->in = v->run->io.direction == KVM_EXIT_IO_IN;
	io->port = v->run->io.port;
	if (io->in)
		place_in(v, &insn);
	else
		place_out(v, &insn);
	io->str = insn.class == INSN_STRING_PORT;
	io->rep = io->str && insn.rep;
	io->seg = (int8_t)(!io->str ? -1 : io->in ? NVMM_X64_SEG_ES : insn.segment);
	io->address_size = insn.address_size;
	io->operand_size = insn.operand_size;
	io->npc = v->flight.npc != 0 ? v->flight.npc : v->shown.rip;
}

/* ------------------------------------------------------------------------------------------------ memory */

/* Does the operand at this offset lie where KVM saw the access? */
static bool hits(struct vcpu *v, int segment, uint64_t offset)
{
	struct paging p;
	gpaddr_t gpa;
	nvmm_prot_t prot;
	paging_of(v, &p);
	pthread_rwlock_rdlock(&v->machine->lock);
	bool found = walk(v->machine, &p, linear_address(v, segment, offset), &gpa, &prot);
	pthread_rwlock_unlock(&v->machine->lock);
	return found && gpa == v->run->mmio.phys_addr;
}

/* A string store whose element KVM has written: its registers before, if the addresses fit. */
static bool undo_string(struct vcpu *v, const struct insn *insn)
{
	struct kvm_regs before = v->shown;
	int64_t step = (before.rflags & RFLAGS_DF) != 0 ? -(int64_t)insn->operand_size : insn->operand_size;
	add_low(&before.rdi, insn->address_size, -step);
	if (insn->class == INSN_MOVS)
		add_low(&before.rsi, insn->address_size, -step);
	if (insn->rep)
		add_low(&before.rcx, insn->address_size, 1);
	if (!hits(v, NVMM_X64_SEG_ES, before.rdi & size_mask(insn->address_size)))
		return false;
	v->shown = before;
	v->differs = true;
	return true;
}

/* A store from a general register writes what the register holds. */
static bool same_value(struct vcpu *v, const struct insn *insn)
{
	bool from_register = insn->opcode == 0x88 || insn->opcode == 0x89 || insn->opcode == 0xA2 || insn->opcode == 0xA3;
	if (!from_register || insn->operand_size > v->run->mmio.len)
		return true;
	uint64_t value = *gpr_of(&v->shown, insn->high_byte ? insn->reg - 4 : insn->reg) >> (insn->high_byte ? 8 : 0);
	return memcmp(&value, v->run->mmio.data, insn->operand_size) == 0;
}

/* KVM hands out wide accesses eight bytes at a time, and none that crosses a page. */
static bool right_size(const struct kvm_run *run, unsigned size)
{
	bool split = run->mmio.len == 8 || ((run->mmio.phys_addr + run->mmio.len) & (PAGE - 1)) == 0;
	return size == run->mmio.len || (size > run->mmio.len && split);
}

static bool undo_store(struct vcpu *v, const struct insn *insn)
{
	uint64_t rip = v->shown.rip;
	switch (insn->class) {
	case INSN_STOS:
	case INSN_MOVS:
		if (insn->rep || insn->operand_size != v->run->mmio.len || !undo_string(v, insn))
			return false;
		break;
	case INSN_PUSH:
		if (!hits(v, NVMM_X64_SEG_SS, v->shown.rsp))
			return false;
		v->shown.rsp += insn->operand_size;
		break;
	case INSN_STORE:
		if (!insn->has_memory || !right_size(v->run, insn->operand_size) || !same_value(v, insn) ||
		    !hits(v, insn->segment, insn_offset(insn, &v->shown, rip)))
			return false;
		break;
	default:
		return false;
	}
	v->shown.rip = rip - insn->length;
	v->differs = true;
	return true;
}

/*
 * KVM has stepped over an instruction that stored to what is no memory. Its start is found by reading backwards: the
 * shortest bytes that end at RIP, and store what was stored to where it was stored.
 */
static void place_store(struct vcpu *v)
{
	struct code code;
	struct insn insn;
	code_take(v, MOST_BYTES, &code);
	if (decode_ahead(v, &code, &insn) && insn.rep && (insn.class == INSN_STOS || insn.class == INSN_MOVS) &&
	    insn.operand_size == v->run->mmio.len && undo_string(v, &insn))
		return;
	for (size_t length = 1; length <= code.before; length++)
		if (decode_behind(v, &code, length, &insn) && undo_store(v, &insn))
			return;
}

void exit_memory(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	exit->reason = NVMM_VCPU_EXIT_MEMORY;
	exit->u.mem.prot = v->run->mmio.is_write ? PROT_WRITE : PROT_READ;
	exit->u.mem.gpa = v->run->mmio.phys_addr;
	v->flight.kind = FLIGHT_MEMORY;
	if (v->run->mmio.is_write)
		place_store(v);
	if (v->comm != &v->own_comm)
		assist_offer(v);
}

/* ------------------------------------------------------------------------------------------------ the others */

static uint64_t next_of_msr(struct vcpu *v)
{
	struct code code;
	struct insn insn;
	code_take(v, 0, &code);
	bool found = decode_ahead(v, &code, &insn) && insn.class == INSN_MSR;
	return v->shown.rip + (found ? insn.length : 2);
}

void exit_rdmsr(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	exit->reason = NVMM_VCPU_EXIT_RDMSR;
	exit->u.rdmsr.msr = v->run->msr.index;
	exit->u.rdmsr.npc = next_of_msr(v);
	v->flight = (struct flight){.kind = FLIGHT_RDMSR, .npc = exit->u.rdmsr.npc};
}

void exit_wrmsr(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	exit->reason = NVMM_VCPU_EXIT_WRMSR;
	exit->u.wrmsr.msr = v->run->msr.index;
	exit->u.wrmsr.val = v->run->msr.data;
	exit->u.wrmsr.npc = next_of_msr(v);
	v->flight = (struct flight){.kind = FLIGHT_WRMSR, .npc = exit->u.wrmsr.npc};
}

/* MONITOR and MWAIT, which KVM's emulator does not know. */
static bool monitor_at(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	uint8_t bytes[3];
	if (guest_read(v, code_address(v, v->shown.rip), bytes, sizeof(bytes)) != sizeof(bytes) || bytes[0] != 0x0F ||
	    bytes[1] != 0x01 || (bytes[2] != 0xC8 && bytes[2] != 0xC9))
		return false;
	exit->reason = bytes[2] == 0xC8 ? NVMM_VCPU_EXIT_MONITOR : NVMM_VCPU_EXIT_MWAIT;
	exit->u.insn.npc = v->shown.rip + sizeof(bytes);
	return true;
}

/* KVM gave up. Code outside of memory is an access that NVMM reports; anything else it calls invalid. */
void exit_failure(struct vcpu *v, struct nvmm_vcpu_exit *exit)
{
	struct paging p;
	gpaddr_t gpa;
	nvmm_prot_t prot;
	paging_of(v, &p);
	pthread_rwlock_rdlock(&v->machine->lock);
	bool outside = walk(v->machine, &p, code_address(v, v->shown.rip), &gpa, &prot) &&
		       area_at(v->machine, gpa) == NULL;
	pthread_rwlock_unlock(&v->machine->lock);
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && outside) {
		exit->reason = NVMM_VCPU_EXIT_MEMORY;
		exit->u.mem.prot = PROT_EXEC;
		exit->u.mem.gpa = gpa;
		return;
	}
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && monitor_at(v, exit))
		return;
	exit->reason = NVMM_VCPU_EXIT_INVALID;
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		exit->u.inv.hwcode = v->run->internal.suberror;
	else if (v->run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		exit->u.inv.hwcode = ~0ULL; /* as for every state that no processor can be in */
	else
		exit->u.inv.hwcode = v->run->hw.hardware_exit_reason;
	(void)fail(EIO, "KVM gave up at 0x%llx: exit %u, code 0x%llx", (unsigned long long)v->shown.rip,
		   v->run->exit_reason, (unsigned long long)exit->u.inv.hwcode);
}
