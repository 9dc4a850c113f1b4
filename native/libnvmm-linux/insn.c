/*
 * Lengths and memory operands of instructions (Intel SDM volume 2, chapter 2 and appendix A): as much as is needed to
 * find the address of the next instruction, and the one where an instruction that KVM has already stepped over began.
 * KVM itself executes; nothing here does.
 */
#include "internal.h"

#include <string.h>

/* Where decoding stands. Reading beyond the bytes sets `short_of`, and the instruction is not one. */
struct cursor {
	const uint8_t *bytes;
	size_t count;
	size_t at;
	bool short_of;
};

static uint64_t take(struct cursor *c, unsigned size)
{
	uint64_t value = 0;
	if (c->at + size > c->count || c->at + size > 15) {
		c->short_of = true;
		return 0;
	}
	memcpy(&value, c->bytes + c->at, size);
	c->at += size;
	return value;
}

static int64_t take_signed(struct cursor *c, unsigned size)
{
	uint64_t value = take(c, size);
	unsigned shift = 64 - 8 * size;
	return (int64_t)(value << shift) >> shift;
}

struct prefixes {
	bool operand; /* 66 */
	bool address; /* 67 */
	bool rep;     /* F2, F3 */
	int segment;  /* -1: none */
	uint8_t rex;
};

static void take_prefixes(struct cursor *c, bool long_mode, struct prefixes *p)
{
	*p = (struct prefixes){.segment = -1};
	for (; c->at < c->count && c->at < 15; c->at++) {
		switch (c->bytes[c->at]) {
		case 0x66:
			p->operand = true;
			continue;
		case 0x67:
			p->address = true;
			continue;
		case 0xF2: case 0xF3:
			p->rep = true;
			continue;
		case 0xF0:
			continue;
		case 0x26:
			p->segment = NVMM_X64_SEG_ES;
			continue;
		case 0x2E:
			p->segment = NVMM_X64_SEG_CS;
			continue;
		case 0x36:
			p->segment = NVMM_X64_SEG_SS;
			continue;
		case 0x3E:
			p->segment = NVMM_X64_SEG_DS;
			continue;
		case 0x64:
			p->segment = NVMM_X64_SEG_FS;
			continue;
		case 0x65:
			p->segment = NVMM_X64_SEG_GS;
			continue;
		default:
			break;
		}
		break;
	}
	if (long_mode && c->at < c->count && (c->bytes[c->at] & 0xF0) == 0x40)
		p->rex = c->bytes[c->at++];
}

static bool in_range(unsigned value, unsigned low, unsigned high)
{
	return value >= low && value <= high;
}

static bool has_modrm(unsigned map, unsigned op)
{
	if (map >= 2)
		return true;
	if (map == 1)
		return !(op == 0x05 || op == 0x06 || op == 0x08 || op == 0x09 || op == 0x0B || op == 0x77 ||
			 in_range(op, 0x30, 0x37) || in_range(op, 0x80, 0x8F) || in_range(op, 0xA0, 0xA2) ||
			 in_range(op, 0xA8, 0xAA) || in_range(op, 0xC8, 0xCF));
	if (op < 0x40)
		return (op & 7) < 4;
	return op == 0x62 || op == 0x63 || op == 0x69 || op == 0x6B || in_range(op, 0x80, 0x8F) || op == 0xC0 ||
	       op == 0xC1 || op == 0xC6 || op == 0xC7 || in_range(op, 0xD0, 0xD3) || in_range(op, 0xD8, 0xDF) ||
	       op == 0xF6 || op == 0xF7 || op == 0xFE || op == 0xFF;
}

/* Bytes of immediate. `z` is 2 or 4, after the operand size. */
static unsigned immediate_size(unsigned map, unsigned op, unsigned ext, unsigned z, bool wide)
{
	if (map == 3)
		return 1;
	if (map == 2)
		return 0;
	if (map == 1) {
		if (in_range(op, 0x80, 0x8F))
			return z;
		return in_range(op, 0x70, 0x73) || op == 0xA4 || op == 0xAC || op == 0xBA || op == 0xC2 ||
		       in_range(op, 0xC4, 0xC6);
	}
	if (op < 0x40)
		return (op & 7) == 4 ? 1 : (op & 7) == 5 ? z : 0;
	if (in_range(op, 0x70, 0x7F) || in_range(op, 0xB0, 0xB7) || in_range(op, 0xE0, 0xE7))
		return 1;
	if (in_range(op, 0xB8, 0xBF))
		return wide ? 8 : z;
	switch (op) {
	case 0x6A: case 0x6B: case 0x80: case 0x82: case 0x83: case 0xA8: case 0xC0: case 0xC1: case 0xC6:
	case 0xCD: case 0xD4: case 0xD5: case 0xEB:
		return 1;
	case 0x68: case 0x69: case 0x81: case 0xA9: case 0xC7: case 0xE8: case 0xE9:
		return z;
	case 0xC2: case 0xCA:
		return 2;
	case 0xC8:
		return 3;
	case 0x9A: case 0xEA:
		return z + 2;
	case 0xF6:
		return ext < 2 ? 1 : 0;
	case 0xF7:
		return ext < 2 ? z : 0;
	default:
		return 0;
	}
}

static enum insn_class class_of(unsigned map, unsigned op, unsigned ext)
{
	if (map == 0) {
		switch (op) {
		case 0x88: case 0x89: case 0x8C: case 0xA2: case 0xA3:
			return INSN_STORE;
		case 0xC6: case 0xC7:
			return ext == 0 ? INSN_STORE : INSN_OTHER;
		case 0x8A: case 0x8B: case 0xA0: case 0xA1:
			return INSN_LOAD;
		case 0xAA: case 0xAB:
			return INSN_STOS;
		case 0xA4: case 0xA5:
			return INSN_MOVS;
		case 0x68: case 0x6A: case 0x9C:
			return INSN_PUSH;
		case 0x6C: case 0x6D: case 0x6E: case 0x6F:
			return INSN_STRING_PORT;
		default:
			if (in_range(op, 0x50, 0x57))
				return INSN_PUSH;
			return in_range(op, 0xE4, 0xE7) || in_range(op, 0xEC, 0xEF) ? INSN_PORT : INSN_OTHER;
		}
	}
	if (map != 1)
		return INSN_OTHER;
	switch (op) {
	case 0xB6: case 0xB7: case 0xBE: case 0xBF:
		return INSN_LOAD;
	case 0x11: case 0x13: case 0x17: case 0x29: case 0x2B: case 0x7E: case 0x7F: case 0xC3: case 0xD6: case 0xE7:
		return INSN_STORE;
	case 0x30: case 0x32:
		return INSN_MSR;
	default:
		return in_range(op, 0x90, 0x9F) ? INSN_STORE : INSN_OTHER;
	}
}

static void memory16(struct cursor *c, unsigned mod, unsigned rm, struct insn *insn)
{
	static const int8_t bases[8] = {NVMM_X64_GPR_RBX, NVMM_X64_GPR_RBX, NVMM_X64_GPR_RBP, NVMM_X64_GPR_RBP,
					NVMM_X64_GPR_RSI, NVMM_X64_GPR_RDI, NVMM_X64_GPR_RBP, NVMM_X64_GPR_RBX};
	static const int8_t indexes[8] = {NVMM_X64_GPR_RSI, NVMM_X64_GPR_RDI, NVMM_X64_GPR_RSI, NVMM_X64_GPR_RDI,
					  -1, -1, -1, -1};
	insn->base = bases[rm];
	insn->index = indexes[rm];
	if (mod == 0 && rm == 6) {
		insn->base = -1;
		insn->displacement = take_signed(c, 2);
	} else if (mod != 0) {
		insn->displacement = take_signed(c, mod);
	}
}

static void memory32(struct cursor *c, unsigned mod, unsigned rm, uint8_t rex, bool long_mode, struct insn *insn)
{
	/* Encoding order of the GPRs is NVMM's but for 1..7: RAX RCX RDX RBX RSP RBP RSI RDI, which is the same. */
	if (rm == 4) {
		uint8_t sib = (uint8_t)take(c, 1);
		unsigned index = ((sib >> 3) & 7) | ((rex & 2) << 2);
		unsigned base = (sib & 7) | ((rex & 1) << 3);
		insn->scale = sib >> 6;
		insn->index = index == 4 ? -1 : (int8_t)index;
		insn->base = (sib & 7) == 5 && mod == 0 ? -1 : (int8_t)base;
		if (insn->base < 0)
			insn->displacement = take_signed(c, 4);
	} else if (rm == 5 && mod == 0) {
		insn->base = -1;
		insn->rip_relative = long_mode;
		insn->displacement = take_signed(c, 4);
	} else {
		insn->base = (int8_t)(rm | (unsigned)(rex & 1) << 3);
	}
	if (mod == 1 || mod == 2)
		insn->displacement = take_signed(c, mod == 1 ? 1 : 4);
}

static void take_modrm(struct cursor *c, const struct prefixes *p, bool long_mode, struct insn *insn, unsigned *ext)
{
	uint8_t modrm = (uint8_t)take(c, 1);
	unsigned mod = modrm >> 6, rm = modrm & 7;
	*ext = (modrm >> 3) & 7;
	insn->reg = (int8_t)(*ext | (unsigned)(p->rex & 4) << 1);
	if (mod == 3)
		return;
	insn->has_memory = true;
	if (insn->address_size == 2)
		memory16(c, mod, rm, insn);
	else
		memory32(c, mod, rm, p->rex, long_mode, insn);
}

static unsigned data_size(unsigned map, const struct insn *insn, bool operand_prefix, bool rep, unsigned z, bool wide)
{
	unsigned op = insn->opcode, normal = wide ? 8 : z;
	if (map == 0) {
		if (op == 0x8C)
			return 2;
		if (insn->class == INSN_PORT || insn->class == INSN_STRING_PORT)
			return (op & 1) != 0 ? z : 1;
		if (insn->class == INSN_OTHER || insn->class == INSN_PUSH)
			return normal;
		return (op & 1) != 0 ? normal : 1;
	}
	switch (op) {
	case 0xB6: case 0xBE:
		return 1;
	case 0xB7: case 0xBF:
		return 2;
	case 0x11:
		return rep ? (operand_prefix ? 8 : 4) : 16;
	case 0x13: case 0x17: case 0xD6:
		return 8;
	case 0x29: case 0x2B: case 0xE7: case 0x7F:
		return 16;
	case 0x7E:
		return wide ? 8 : 4;
	default:
		return in_range(op, 0x90, 0x9F) ? 1 : normal;
	}
}

static bool decode(const uint8_t *bytes, size_t count, struct insn_mode mode, struct insn *insn)
{
	struct cursor c = {.bytes = bytes, .count = count};
	struct prefixes p;
	unsigned map = 0, ext = 0;
	memset(insn, 0, sizeof(*insn));
	insn->base = insn->index = insn->reg = -1;
	insn->immediate_port = -1;
	take_prefixes(&c, mode.long_mode, &p);
	bool wide = (p.rex & 8) != 0;
	bool big = mode.long_mode || mode.def32;
	unsigned z = big != p.operand || wide ? 4 : 2;
	insn->address_size = mode.long_mode ? (p.address ? 4 : 8) : (mode.def32 != p.address ? 4 : 2);
	insn->rep = p.rep;
	insn->opcode = (uint8_t)take(&c, 1);
	if (insn->opcode == 0x0F) {
		map = 1;
		insn->opcode = (uint8_t)take(&c, 1);
		if (insn->opcode == 0x38 || insn->opcode == 0x3A) {
			map = insn->opcode == 0x38 ? 2 : 3;
			insn->opcode = (uint8_t)take(&c, 1);
		}
	}
	if (map == 0 && (insn->opcode == 0xC4 || insn->opcode == 0xC5))
		return false; /* VEX, LES, LDS */
	if (has_modrm(map, insn->opcode))
		take_modrm(&c, &p, mode.long_mode, insn, &ext);
	insn->class = class_of(map, insn->opcode, ext);
	if (map == 0 && in_range(insn->opcode, 0xA0, 0xA3)) {
		insn->has_memory = true;
		insn->displacement = (int64_t)take(&c, insn->address_size);
		insn->reg = NVMM_X64_GPR_RAX;
	}
	unsigned immediate = immediate_size(map, insn->opcode, ext, z, wide);
	uint64_t value = immediate > 0 && immediate <= 8 ? take(&c, immediate) : 0;
	insn->operand_size = (uint8_t)data_size(map, insn, p.operand, p.rep, z, wide);
	insn->high_byte = insn->operand_size == 1 && p.rex == 0 && map == 0 && in_range((unsigned)insn->reg, 4, 7);
	if (insn->class == INSN_PUSH)
		insn->operand_size = mode.long_mode ? (p.operand ? 2 : 8) : (uint8_t)z;
	if (insn->class == INSN_PORT || insn->class == INSN_STRING_PORT)
		insn->in = (insn->opcode & 2) == 0;
	if (insn->class == INSN_PORT && insn->opcode < 0xE8)
		insn->immediate_port = (int)value;
	insn->segment = NVMM_X64_SEG_DS;
	if (insn->base == NVMM_X64_GPR_RBP || insn->base == NVMM_X64_GPR_RSP)
		insn->segment = NVMM_X64_SEG_SS;
	if (p.segment >= 0)
		insn->segment = (int8_t)p.segment;
	insn->length = (uint8_t)c.at;
	return !c.short_of;
}

static uint64_t first_bytes(unsigned count)
{
	return count >= 8 ? ~0ULL : (1ULL << (8 * count)) - 1;
}

bool insn_decode(struct vcpu *v, const uint8_t bytes[INSN_BYTES], size_t count, struct insn_mode mode, struct insn *insn)
{
	if (count == 0)
		return false;
	struct decoded *known = &v->decoded[bytes[0] % DECODED];
	uint64_t there[2];
	memcpy(there, bytes, sizeof(there));
	if (known->mask[0] != 0 && known->insn.length <= count && known->mode.long_mode == mode.long_mode &&
	    known->mode.def32 == mode.def32 && ((known->bytes[0] ^ there[0]) & known->mask[0]) == 0 &&
	    ((known->bytes[1] ^ there[1]) & known->mask[1]) == 0) {
		*insn = known->insn;
		return true;
	}
	if (!decode(bytes, count, mode, insn))
		return false;
	unsigned length = insn->length;
	*known = (struct decoded){.mode = mode, .bytes = {there[0], there[1]}, .insn = *insn,
				  .mask = {first_bytes(length), first_bytes(length > 8 ? length - 8 : 0)}};
	return true;
}

__u64 *gpr_of(struct kvm_regs *r, int index)
{
	__u64 *const low[8] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi};
	return index < 8 ? low[index] : &r->r8 + (index - 8);
}

/* Offset of the memory operand in its segment. */
uint64_t insn_offset(const struct insn *insn, struct kvm_regs *regs, uint64_t next_rip)
{
	uint64_t offset = (uint64_t)insn->displacement;
	if (insn->rip_relative)
		offset += next_rip;
	if (insn->base >= 0)
		offset += *gpr_of(regs, insn->base);
	if (insn->index >= 0)
		offset += *gpr_of(regs, insn->index) << insn->scale;
	return offset & size_mask(insn->address_size);
}

void insn_mode_of(struct vcpu *v, struct insn_mode *mode)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	mode->long_mode = (s->efer & EFER_LMA) != 0 && s->cs.l != 0;
	mode->def32 = s->cs.db != 0;
}

gvaddr_t linear_address(struct vcpu *v, int segment, uint64_t offset)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	const struct kvm_segment *const order[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs};
	struct insn_mode mode;
	insn_mode_of(v, &mode);
	if (mode.long_mode)
		return segment >= NVMM_X64_SEG_FS ? order[segment]->base + offset : offset;
	return (uint32_t)(order[segment]->base + offset);
}

uint64_t code_address(struct vcpu *v, uint64_t rip)
{
	return linear_address(v, NVMM_X64_SEG_CS, rip);
}
