/* The smallest program for NVMM: ADD, HLT at the end of a read-only page, in the state that vcpu_create leaves. */
#include "harness.h"

int main(void)
{
	static const struct {
		uint64_t a, b, sum;
	} cases[] = {{1, 2, 3}, {3, (uint32_t)-1, 0xFFFF0002}, {65535, 1, 0}, {0, 0, 0}};
	static const unsigned char code[] = {0x01, 0xC3, 0xF4};
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	start("calc");
	CHECK(nvmm_machine_create(&mach) == 0);
	memset(&vcpu, 0, sizeof(vcpu));
	CHECK(nvmm_vcpu_create(&mach, 120, &vcpu) == 0);
	void *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(nvmm_hva_map(&mach, (uintptr_t)page, PAGE_SIZE) == 0);
	CHECK(nvmm_gpa_map(&mach, (uintptr_t)page, 0xFFFF0000, PAGE_SIZE, PROT_READ | PROT_EXEC) == 0);
	memcpy(page, code, sizeof(code));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(nvmm_vcpu_getstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
		vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0;
		vcpu.state->gprs[NVMM_X64_GPR_RAX] = cases[i].a;
		vcpu.state->gprs[NVMM_X64_GPR_RBX] = cases[i].b;
		CHECK(nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
		do
			CHECK(nvmm_vcpu_run(&mach, &vcpu) == 0);
		while (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
		CHECK(vcpu.exit->reason == NVMM_VCPU_EXIT_HALTED);
		CHECK(nvmm_vcpu_getstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
		CHECK(vcpu.state->gprs[NVMM_X64_GPR_RIP] == 3);
		CHECK(vcpu.state->gprs[NVMM_X64_GPR_RBX] == cases[i].sum);
	}
	CHECK(nvmm_machine_destroy(&mach) == 0);
	printf("calc: %zu sums are right\n", sizeof(cases) / sizeof(cases[0]));
	return 0;
}
