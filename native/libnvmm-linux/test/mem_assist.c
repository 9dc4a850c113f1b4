/*
 * The twenty-two cases of libnvmm's own test of the memory assist, with their sequences of accesses, and what that
 * test leaves out: sign extension, instructions beyond the original's, accesses half in memory.
 */
#include "harness.h"

GUEST(mov) GUEST(or) GUEST(and) GUEST(xor) GUEST(address_size) GUEST(moffs) GUEST(stos) GUEST(lods) GUEST(movs)
GUEST(movzxb) GUEST(movzxw) GUEST(cmp) GUEST(sub) GUEST(test) GUEST(xchg) GUEST(xchg32)
GUEST(sign) GUEST(arithmetic) GUEST(straddle) GUEST(push_pop)
GUEST(r_mov) GUEST(r_dual) GUEST(r_disp) GUEST(r_mixed) GUEST(r_direct) GUEST(r_xchg)

#define CASE(name, wanted, at, accesses) {#name, guest_##name, guest_##name##_end, wanted, at, accesses}

struct memory_case {
	const char *name, *code, *end;
	uint64_t wanted;
	unsigned at;
	const char *accesses; /* R or W, size; @ and the address where it isn't 0x1000 */
};

static const struct memory_case long_cases[] = {
	CASE(mov, 0x3004, 0x1000, "W8 W8@1008 R8 R8@1008 W8 W1"),
	CASE(or, 0x16FF, 0x1000, "W8 R1 W1 R2 W2 R8 W8"),
	CASE(and, 0x1FC0, 0x1000, "W8 R8 W8 R1 W1"),
	CASE(xor, 0x10CF, 0x1000, "W8 R8 W8 R2 W2"),
	CASE(address_size, 0x1F00, 0x1000, "W8 W1"),
	CASE(moffs, 0xFFAB, 0x1000, "W8 R1 W1"),
	CASE(stos, 0x123456, 0x1000, "W1 W2@1001"),
	CASE(lods, 0x12345678, 0x1000, "W8@1008 R2@1008 W2 R1@100a W1@1002 R1@100b W1@1003"),
	CASE(movs, 0x12345678, 0x1000,
	     "W8@1008 R1@1008 W1 R1@1009 W1@1001 R1@100a W1@1002 R1@100b W1@1003 R2@100c W2@1004 R2@100e W2@1006"),
	CASE(movzxb, 0x78, 0x1000, "W8 R1 W8"),
	CASE(movzxw, 0x5678, 0x1000, "W8 R2 W8"),
	CASE(cmp, 1, 0x1000, "W8 R1 R1 R1 R2 R2 R2 R4 R4 R4 R8 R8 R8 W8"),
	CASE(sub, 0xF0000A0FF, 0x1000, "W8 R1 W1 R2 W2 R8 W8"),
	CASE(test, 1, 0x1000, "W8 R1 R2 R4 W8"),
	CASE(xchg, 0x123456, 0x1000, "R8 W8 R2 W2 R1 W1"),
	CASE(xchg32, 0x123456, 0x1000, "W8 R8 W8 W8 R8 W8"),
	CASE(sign, 0xFFFFFFFFFFFFFFFE, 0x1000, "W8 R4 W4 W4@1004 R8"),
	CASE(push_pop, 0x1234, 0x1800, "W8@17f8 R8@17f8 W8@1800"),
};

static const struct memory_case real_cases[] = {
	CASE(r_mov, 0x23, 0x10F1, "W1@10f1"),
	CASE(r_dual, 0x123, 0x10F3, "W2@10f3"),
	CASE(r_disp, 0x678, 0x10F1, "W2@10f1"),
	CASE(r_mixed, 0x1011, 0x10F6, "W2@10f6 R4@10f6 W4@10f6 R2@10f6 W2@10f6 R4@10f6 W4@10f6"),
	CASE(r_direct, 0x12, 0x1234, "W1@1234"),
	CASE(r_xchg, 0x1234, 0x1234, "R2@1234 W2@1234 R1@1234 W1@1234"),
};

static char device[PAGE_SIZE + 8];
static char seen[512];

static void on_mem(struct nvmm_mem *mem)
{
	size_t at = mem->gpa - 0x1000, length = strlen(seen);
	CHECK(mem->gpa >= 0x1000 && at + mem->size <= sizeof(device));
	if (mem->write)
		memcpy(device + at, mem->data, mem->size);
	else
		memcpy(mem->data, device + at, mem->size);
	int more = snprintf(seen + length, sizeof(seen) - length, "%s%c%zu", length > 0 ? " " : "", mem->write ? 'W' : 'R',
			    mem->size);
	if (at != 0)
		snprintf(seen + length + more, sizeof(seen) - length - (size_t)more, "@%llx", (unsigned long long)mem->gpa);
}

static void on_io(struct nvmm_io *io)
{
	fprintf(stderr, "unexpected access to port %u\n", io->port);
	exit(1);
}

static void check(const struct memory_case *c)
{
	uint64_t got;
	memcpy(&got, device + (c->at - 0x1000), sizeof(got));
	if (got == c->wanted && strcmp(seen, c->accesses) == 0)
		return;
	fprintf(stderr, "%s: 0x%llx by \"%s\"\n  instead of 0x%llx by \"%s\"\n", c->name, (unsigned long long)got, seen,
		(unsigned long long)c->wanted, c->accesses);
	exit(1);
}

static void begin(void)
{
	memset(device, 0, sizeof(device));
	seen[0] = '\0';
}

/* RIP at each exit is at an instruction: running from there once more does the same. */
static void each_start(struct machine64 *m, const struct memory_case *c)
{
	begin();
	reset64(m);
	load(m, c->code, c->end);
	for (unsigned guard = 0; guard < 100; guard++) {
		CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
		if (m->vcpu.exit->reason == NVMM_VCPU_EXIT_RDMSR)
			break;
		if (m->vcpu.exit->reason != NVMM_VCPU_EXIT_MEMORY)
			continue;
		struct nvmm_x64_state before = *m->vcpu.state;
		gpaddr_t gpa = m->vcpu.exit->u.mem.gpa;
		int prot = m->vcpu.exit->u.mem.prot;
		do
			CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
		while (m->vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
		if (m->vcpu.exit->reason != NVMM_VCPU_EXIT_MEMORY || m->vcpu.exit->u.mem.gpa != gpa ||
		    m->vcpu.exit->u.mem.prot != prot ||
		    memcmp(before.gprs, m->vcpu.state->gprs, sizeof(before.gprs)) != 0) {
			fprintf(stderr, "%s: the exit at 0x%llx does not come again\n", c->name,
				(unsigned long long)before.gprs[NVMM_X64_GPR_RIP]);
			exit(1);
		}
		CHECK(nvmm_assist_mem(&m->mach, &m->vcpu) == 0);
	}
	check(c);
}

static void long_mode(struct machine64 *m)
{
	for (size_t i = 0; i < sizeof(long_cases) / sizeof(long_cases[0]); i++) {
		begin();
		reset64(m);
		load(m, long_cases[i].code, long_cases[i].end);
		run_to_end(&m->mach, &m->vcpu);
		check(&long_cases[i]);
		each_start(m, &long_cases[i]);
	}
	CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, NVMM_X64_STATE_GPRS) == 0);
}

static void beyond(struct machine64 *m)
{
	uint64_t value;
	begin();
	reset64(m);
	load(m, guest_arithmetic, guest_arithmetic_end);
	run_to_end(&m->mach, &m->vcpu);
	memcpy(&value, device, sizeof(value));
	/* 16 inverted in 16 bits is 0xFFEF; its negative ends in 0x11, which the exchange puts there. */
	CHECK(value == 0x11);

	/* The upper half of the access lies in the code page, which is read-only: KVM exits for each piece. */
	begin();
	reset64(m);
	load(m, guest_straddle, guest_straddle_end);
	char *last = m->pages + PAGE_SIZE;
	uint32_t code;
	memcpy(&code, last, 4);
	run_to_end(&m->mach, &m->vcpu);
	memcpy(&value, device + 0xFFC, sizeof(value));
	CHECK(value == 0x1122334455667788);
	CHECK(memcmp(last, &code, 4) == 0);
	CHECK(strncmp(seen, "W4@1ffc W4@2000 R4@1ffc", 23) == 0);
}

static int32_t *word(char *page, unsigned offset)
{
	return (int32_t *)(void *)(page + offset);
}

/* A MEMORY exit, without the assist: each access is answered in the page. */
static void answer(char *page)
{
	int32_t *answer = word(page, NVMM_LINUX_PAGE_ANSWER), offer = *answer;
	while (offer != 0) {
		struct nvmm_mem mem = *(struct nvmm_mem *)(void *)(page + NVMM_LINUX_PAGE_ACCESS);
		CHECK(mem.data == (uint8_t *)page + NVMM_LINUX_PAGE_DATA && (offer == 1 || offer == 3));
		on_mem(&mem);
		*answer = 2;
		if (offer == 1) {
			*word(page, NVMM_LINUX_PAGE_CACHED) &= *word(page, NVMM_LINUX_PAGE_COMMIT);
			return;
		}
		*word(page, NVMM_LINUX_PAGE_RESULT) = -1;
		nvmm_linux_go_on();
		CHECK(*word(page, NVMM_LINUX_PAGE_RESULT) == 0);
		offer = *answer;
	}
}

/* With state, exits and accesses in memory of ours, and calls without arguments. */
static void lent(void)
{
	static char page[NVMM_LINUX_PAGE_SIZE] __attribute__((aligned(64)));
	struct machine64 m, other;
	machine64_create(&m, false);
	machine64_create(&other, false);
	CHECK(nvmm_vcpu_destroy(&m.mach, &m.vcpu) == 0);
	CHECK(nvmm_linux_vcpu_create(&m.mach, 0, &m.vcpu, page) == 0);
	int32_t *result = word(page, NVMM_LINUX_PAGE_RESULT);
	for (size_t i = 0; i < sizeof(long_cases) / sizeof(long_cases[0]); i++) {
		begin();
		reset64(&m);
		load(&m, long_cases[i].code, long_cases[i].end);
		do {
			nvmm_linux_choose(&other.mach, &other.vcpu);
			nvmm_linux_choose(&m.mach, &m.vcpu);
			*result = -1;
			nvmm_linux_run();
			CHECK(*result == 0);
			if (m.vcpu.exit->reason == NVMM_VCPU_EXIT_MEMORY)
				answer(page);
		} while (m.vcpu.exit->reason != NVMM_VCPU_EXIT_RDMSR);
		check(&long_cases[i]);
	}
	/* No access was answered. */
	*result = 0;
	nvmm_linux_go_on();
	CHECK(*result == -1 && errno == EINVAL);
	machine64_destroy(&other);
	CHECK(nvmm_vcpu_destroy(&m.mach, &m.vcpu) == 0);
	/* Nobody is there to say anything. */
	*result = 1;
	nvmm_linux_run();
	CHECK(*result == 1 && errno == ENOENT);
	CHECK(nvmm_machine_destroy(&m.mach) == 0);
	munmap(m.pages, 6 * PAGE_SIZE);
}

static void real_mode(void)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io, .mem = on_mem};
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	memset(&vcpu, 0, sizeof(vcpu));
	CHECK(nvmm_machine_create(&mach) == 0 && nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
	CHECK(nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	char *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(nvmm_hva_map(&mach, (uintptr_t)page, PAGE_SIZE) == 0);
	CHECK(nvmm_gpa_map(&mach, (uintptr_t)page, 0x2000, PAGE_SIZE, PROT_READ | PROT_EXEC) == 0);
	for (size_t i = 0; i < sizeof(real_cases) / sizeof(real_cases[0]); i++) {
		begin();
		memcpy(page, real_cases[i].code, (size_t)(real_cases[i].end - real_cases[i].code));
		CHECK(nvmm_vcpu_getstate(&mach, &vcpu, NVMM_X64_STATE_ALL) == 0);
		vcpu.state->segs[NVMM_X64_SEG_CS].base = 0;
		vcpu.state->segs[NVMM_X64_SEG_CS].limit = 0x2FFF;
		vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x2000;
		CHECK(nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_ALL) == 0);
		run_to_end(&mach, &vcpu);
		check(&real_cases[i]);
	}
	CHECK(nvmm_machine_destroy(&mach) == 0);
	munmap(page, PAGE_SIZE);
}

int main(void)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io, .mem = on_mem};
	struct machine64 m;
	start("mem_assist");
	machine64_create(&m, false);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	long_mode(&m);
	beyond(&m);
	machine64_destroy(&m);
	lent();
	real_mode();
	printf("mem_assist: %zu cases\n",
	       sizeof(long_cases) / sizeof(long_cases[0]) + sizeof(real_cases) / sizeof(real_cases[0]) + 2);
	return 0;
}
