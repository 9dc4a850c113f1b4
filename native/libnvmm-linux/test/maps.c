/*
 * One host mapping seen through many guest-physical ones, as QEMU makes them: pieces, aliases, read-only views, and
 * pieces that are replaced while the guest has them in its TLB. (Haiku's port once ignored the offset
 * into the mapping, and QEMU died on it; no test of NVMM's own has such maps.)
 */
#include "harness.h"

#define PAGES 8

/* Guest-virtual pages; where they lead is set below. */
enum { VIEW_A = 0x10000, VIEW_B = 0x20000, PIECE = 0x30000, ROM = 0x40000, HOLE = 0x50000 };

/* mov rax, [rbx]; mov [rsi], rdi; rdmsr */
static const unsigned char code[] = {0x48, 0x8B, 0x03, 0x48, 0x89, 0x3E, 0x0F, 0x32};

static uint64_t block[PAGES * PAGE_SIZE / 8] __attribute__((aligned(PAGE_SIZE)));
static unsigned reads, writes;
static uint64_t written;

static void on_memory(struct nvmm_mem *mem)
{
	if (mem->write) {
		writes++;
		memcpy(&written, mem->data, mem->size);
	} else {
		reads++;
		memset(mem->data, 0xFF, mem->size);
	}
}

static uintptr_t host(unsigned page)
{
	return (uintptr_t)block + page * PAGE_SIZE;
}

/* The guest loads from one address and stores `value` to the other. */
static uint64_t touch(struct machine64 *m, uint64_t from, uint64_t to, uint64_t value)
{
	uint64_t *g = m->vcpu.state->gprs;
	CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, NVMM_X64_STATE_GPRS) == 0);
	g[NVMM_X64_GPR_RIP] = 0x2000;
	g[NVMM_X64_GPR_RBX] = from;
	g[NVMM_X64_GPR_RSI] = to;
	g[NVMM_X64_GPR_RDI] = value;
	g[NVMM_X64_GPR_RCX] = 0xFFFFFFFF;
	CHECK(nvmm_vcpu_setstate(&m->mach, &m->vcpu, NVMM_X64_STATE_GPRS) == 0);
	run_to_end(&m->mach, &m->vcpu);
	CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, NVMM_X64_STATE_GPRS) == 0);
	return g[NVMM_X64_GPR_RAX];
}

static void map(struct machine64 *m, unsigned page, gpaddr_t gpa, unsigned pages, int prot)
{
	CHECK(nvmm_gpa_map(&m->mach, host(page), gpa, pages * PAGE_SIZE, prot) == 0);
}

static void unmap(struct machine64 *m, unsigned page, gpaddr_t gpa, unsigned pages)
{
	CHECK(nvmm_gpa_unmap(&m->mach, host(page), gpa, pages * PAGE_SIZE) == 0);
}

static uint64_t word(unsigned page, unsigned offset)
{
	return block[(page * PAGE_SIZE + offset) / 8];
}

static void aliases(struct machine64 *m)
{
	map(m, 2, VIEW_A, 2, PROT_READ | PROT_WRITE);
	map(m, 2, VIEW_B, 2, PROT_READ | PROT_WRITE);
	CHECK(touch(m, VIEW_B + 0x1010, VIEW_A + 0x1010, 0x1111) == (3ULL << 32 | 0x1010));
	CHECK(touch(m, VIEW_B + 0x1010, VIEW_B + 8, 0x2222) == 0x1111);
	CHECK(touch(m, VIEW_A + 8, VIEW_A + 8, 0x3333) == 0x2222);
	CHECK(word(3, 0x10) == 0x1111 && word(2, 8) == 0x3333 && reads == 0 && writes == 0);
}

static void pieces(struct machine64 *m)
{
	uintptr_t hva;
	nvmm_prot_t prot;
	map(m, 4, PIECE, 3, PROT_READ | PROT_WRITE | PROT_EXEC);
	map(m, 5, ROM, 1, PROT_READ | PROT_EXEC);
	CHECK(touch(m, PIECE + 0x1018, PIECE + 0x1018, 0x4444) == (5ULL << 32 | 0x1018));
	CHECK(touch(m, ROM + 0x18, ROM + 0x18, 0x5555) == 0x4444);
	CHECK(word(5, 0x18) == 0x4444 && writes == 1 && written == 0x5555);
	CHECK(nvmm_gpa_to_hva(&m->mach, PIECE + 0x1018, &hva, &prot) == 0 && hva == host(5) + 0x18 && prot == 7);
	CHECK(nvmm_gpa_to_hva(&m->mach, ROM + 0x18, &hva, &prot) == 0 && hva == host(5) + 0x18 && prot == 5);
}

/* As a chipset switches shadow RAM: the whole goes, and comes back in parts, one of them another memory. */
static void replaced(struct machine64 *m)
{
	unmap(m, 4, PIECE, 3);
	map(m, 0, PIECE, 1, PROT_READ | PROT_EXEC);
	map(m, 5, PIECE + 0x1000, 2, PROT_READ | PROT_WRITE);
	CHECK(touch(m, PIECE + 0x20, PIECE + 0x1018, 0x6666) == (0ULL << 32 | 0x20));
	CHECK(touch(m, PIECE + 0x1018, PIECE + 0x20, 0x7777) == 0x6666);
	CHECK(word(5, 0x18) == 0x6666 && word(0, 0x20) == 0x20 && writes == 2 && written == 0x7777);
	unmap(m, 0, PIECE, 1);
	CHECK(touch(m, PIECE + 0x20, PIECE + 0x20, 0x8888) == ~0ULL && reads == 1 && writes == 3);
	map(m, 4, PIECE, 1, PROT_READ | PROT_WRITE);
	CHECK(touch(m, PIECE + 0x20, PIECE + 0x20, 0x9999) == (4ULL << 32 | 0x20) && word(4, 0x20) == 0x9999);
	CHECK(touch(m, HOLE, HOLE, 0xAAAA) == ~0ULL && reads == 2 && writes == 4);
}

static void refused(struct machine64 *m)
{
	CHECK(nvmm_gpa_map(&m->mach, host(0), VIEW_A + 0x1000, 2 * PAGE_SIZE, PROT_READ) == -1 && errno == EINVAL);
	CHECK(nvmm_gpa_map(&m->mach, host(7), HOLE, 2 * PAGE_SIZE, PROT_READ) == -1 && errno == EINVAL);
	CHECK(nvmm_gpa_unmap(&m->mach, host(3), VIEW_A, 2 * PAGE_SIZE) == -1 && errno == ESRCH);
	CHECK(nvmm_gpa_unmap(&m->mach, host(2), VIEW_A, PAGE_SIZE) == -1 && errno == ESRCH);
	CHECK(touch(m, VIEW_A + 8, VIEW_A + 8, 0x3333) == 0x3333);
}

int main(void)
{
	struct nvmm_assist_callbacks callbacks = {.mem = on_memory};
	struct machine64 m;
	start("maps");
	machine64_create(&m, false);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	load(&m, (const char *)code, (const char *)code + sizeof(code));
	reset64(&m);
	uint64_t *tables = (uint64_t *)(void *)(m.pages + 2 * PAGE_SIZE);
	for (uint64_t page = 0x10; page < 0x60; page++)
		tables[1536 + page] = page << 12 | 3;
	for (unsigned i = 0; i < PAGES * PAGE_SIZE / 8; i++)
		block[i] = (uint64_t)(i / (PAGE_SIZE / 8)) << 32 | (i * 8) % PAGE_SIZE;
	CHECK(nvmm_hva_map(&m.mach, host(0), sizeof(block)) == 0);
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
		block[3 * PAGE_SIZE / 8 + i] += 0x1000;
		block[5 * PAGE_SIZE / 8 + i] += 0x1000;
	}
	aliases(&m);
	pieces(&m);
	replaced(&m);
	refused(&m);
	machine64_destroy(&m);
	printf("maps: pieces and aliases of one mapping\n");
	return 0;
}
