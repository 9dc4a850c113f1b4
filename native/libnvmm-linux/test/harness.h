/* What the tests share: a check that names its line, and the 64-bit machine that the assist tests run on. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nvmm.h"

#define CHECK(condition)                                                                                   \
	do {                                                                                               \
		if (!(condition)) {                                                                        \
			fprintf(stderr, "%s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, errno, \
				nvmm_linux_reason());                                                      \
			exit(1);                                                                           \
		}                                                                                          \
	} while (0)

#define PAGE_SIZE 4096
#define GUEST(name)                       \
	extern const char guest_##name[]; \
	extern const char guest_##name##_end[];

/* Ends the test as skipped where KVM can't be used. */
static inline void start(const char *name)
{
	if (nvmm_init() == 0)
		return;
	printf("%s: skipped: %s\n", name, nvmm_linux_reason());
	exit(0);
}

struct machine64 {
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	char *pages; /* guest 0x1000 to 0x6FFF */
};

static inline void segment(struct nvmm_x64_state_seg *seg, unsigned type, unsigned system)
{
	memset(seg, 0, sizeof(*seg));
	seg->attrib.type = type & 0xF;
	seg->attrib.s = !system;
	seg->attrib.p = 1;
	seg->attrib.avl = 1;
	seg->attrib.l = 1;
	seg->attrib.g = 1;
	seg->limit = 0xFFFF;
}

/* Long mode, ring 0, RIP 0x2000, code read-only, virtual 0x1000 to 0x6FFF the same as physical. */
static inline void reset64(struct machine64 *m)
{
	struct nvmm_x64_state *s = m->vcpu.state;
	memset(s, 0, sizeof(*s));
	for (int i = 0; i < NVMM_X64_NSEG; i++)
		segment(&s->segs[i], 3, 0);
	segment(&s->segs[NVMM_X64_SEG_CS], 11, 0);
	segment(&s->segs[NVMM_X64_SEG_LDT], 2, 1);
	segment(&s->segs[NVMM_X64_SEG_TR], 11, 1);
	s->gprs[NVMM_X64_GPR_RFLAGS] = 2;
	s->gprs[NVMM_X64_GPR_RIP] = 0x2000;
	s->crs[NVMM_X64_CR_CR0] = 0x8005003B & ~0x20ULL;
	s->crs[NVMM_X64_CR_CR0] |= 0x20;
	s->crs[NVMM_X64_CR_CR3] = 0x3000;
	s->crs[NVMM_X64_CR_CR4] = 0x20;
	s->msrs[NVMM_X64_MSR_EFER] = 0x501;
	s->msrs[NVMM_X64_MSR_PAT] = 0x0007040600070406;
	CHECK(nvmm_vcpu_setstate(&m->mach, &m->vcpu, NVMM_X64_STATE_ALL) == 0);
}

static inline void machine64_create(struct machine64 *m, bool data_page)
{
	memset(m, 0, sizeof(*m));
	CHECK(nvmm_machine_create(&m->mach) == 0);
	CHECK(nvmm_vcpu_create(&m->mach, 0, &m->vcpu) == 0);
	m->pages = mmap(NULL, 6 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(m->pages != MAP_FAILED);
	uintptr_t hva = (uintptr_t)m->pages;
	CHECK(nvmm_hva_map(&m->mach, hva, 6 * PAGE_SIZE) == 0);
	if (data_page)
		CHECK(nvmm_gpa_map(&m->mach, hva, 0x1000, PAGE_SIZE, PROT_READ | PROT_WRITE) == 0);
	CHECK(nvmm_gpa_map(&m->mach, hva + PAGE_SIZE, 0x2000, PAGE_SIZE, PROT_READ | PROT_EXEC) == 0);
	CHECK(nvmm_gpa_map(&m->mach, hva + 2 * PAGE_SIZE, 0x3000, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE) == 0);
	uint64_t *tables = (uint64_t *)(void *)(m->pages + 2 * PAGE_SIZE);
	tables[0] = 0x4003;
	tables[512] = 0x5003;
	tables[1024] = 0x6003;
	for (uint64_t page = 1; page <= 6; page++)
		tables[1536 + page] = page << 12 | 3;
}

static inline void machine64_destroy(struct machine64 *m)
{
	CHECK(nvmm_vcpu_destroy(&m->mach, &m->vcpu) == 0);
	CHECK(nvmm_machine_destroy(&m->mach) == 0);
	munmap(m->pages, 6 * PAGE_SIZE);
}

static inline void load(struct machine64 *m, const char *code, const char *end)
{
	memset(m->pages + PAGE_SIZE, 0, PAGE_SIZE);
	memcpy(m->pages + PAGE_SIZE, code, (size_t)(end - code));
}

/* Runs with the assists until an RDMSR, which ends every guest. */
static inline void run_to_end(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	for (;;) {
		CHECK(nvmm_vcpu_run(mach, vcpu) == 0);
		switch (vcpu->exit->reason) {
		case NVMM_VCPU_EXIT_NONE:
			break;
		case NVMM_VCPU_EXIT_IO:
			CHECK(nvmm_assist_io(mach, vcpu) == 0);
			break;
		case NVMM_VCPU_EXIT_MEMORY:
			CHECK(nvmm_assist_mem(mach, vcpu) == 0);
			break;
		case NVMM_VCPU_EXIT_RDMSR:
			return;
		default:
			fprintf(stderr, "exit 0x%llx: %s\n", (unsigned long long)vcpu->exit->reason, nvmm_linux_reason());
			nvmm_vcpu_dump(mach, vcpu);
			exit(1);
		}
	}
}

#endif
