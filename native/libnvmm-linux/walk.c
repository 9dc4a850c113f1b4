/* Guest-virtual addresses: the page walk of nvmm_gva_to_gpa (Intel SDM volume 3, chapter 4), and reading through it. */
#include "internal.h"

#include <string.h>

#define PTE_P 1ULL
#define PTE_W 2ULL
#define PTE_U 4ULL
#define PTE_PS (1ULL << 7)
#define PTE_NX (1ULL << 63)
#define FRAME 0x000FFFFFFFFFF000ULL

/* What decides about paging: the caller's values where it has set or fetched them, else KVM's. */
void paging_of(struct vcpu *v, struct paging *p)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	uint64_t cached = atomic_load(&v->comm->state_cached);
	bool crs = (cached & NVMM_X64_STATE_CRS) != 0;
	const struct nvmm_x64_state *state = &v->comm->state;
	p->cr0 = crs ? state->crs[NVMM_X64_CR_CR0] : s->cr0;
	p->cr3 = crs ? state->crs[NVMM_X64_CR_CR3] : s->cr3;
	p->cr4 = crs ? state->crs[NVMM_X64_CR_CR4] : s->cr4;
	p->efer = (cached & NVMM_X64_STATE_MSRS) != 0 ? state->msrs[NVMM_X64_MSR_EFER] : s->efer;
}

static bool entry(struct machine *m, gpaddr_t at, unsigned size, uint64_t *value)
{
	const struct area *area = area_at(m, at);
	if (area == NULL)
		return false;
	*value = 0;
	memcpy(value, (const void *)(area->hva + (at - area->gpa)), size);
	return (*value & PTE_P) != 0;
}

static void narrow(nvmm_prot_t *prot, uint64_t pte)
{
	if ((pte & PTE_W) == 0)
		*prot &= ~(nvmm_prot_t)NVMM_PROT_WRITE;
	if ((pte & PTE_U) == 0)
		*prot &= ~(nvmm_prot_t)NVMM_PROT_USER;
	if ((pte & PTE_NX) != 0)
		*prot &= ~(nvmm_prot_t)NVMM_PROT_EXEC;
}

/* Two levels of 32-bit entries; 4 MB pages with PSE. */
static bool walk32(struct machine *m, const struct paging *p, uint32_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	uint64_t pte;
	if (!entry(m, (p->cr3 & 0xFFFFF000) + (gva >> 22) * 4, 4, &pte))
		return false;
	narrow(prot, pte);
	if ((p->cr4 & CR4_PSE) != 0 && (pte & PTE_PS) != 0) {
		*gpa = (pte & 0xFFC00000) | (gva & 0x3FFFFF);
		return true;
	}
	if (!entry(m, (pte & 0xFFFFF000) + ((gva >> 12) & 0x3FF) * 4, 4, &pte))
		return false;
	narrow(prot, pte);
	*gpa = (pte & 0xFFFFF000) | (gva & 0xFFF);
	return true;
}

/* Three (PAE) or four levels of 64-bit entries; 2 MB pages, and 1 GB pages with four levels. */
static bool walk64(struct machine *m, uint64_t table, int levels, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	for (int level = levels; level >= 1; level--) {
		unsigned shift = 12 + 9 * (unsigned)(level - 1);
		bool pointer = levels == 3 && level == 3; /* has no permission bits */
		uint64_t pte, index = (gva >> shift) & (pointer ? 3 : 0x1FF);
		if (!entry(m, table + index * 8, 8, &pte))
			return false;
		if (!pointer)
			narrow(prot, pte);
		bool large = (pte & PTE_PS) != 0 && (level == 2 || (level == 3 && !pointer));
		if (level == 1 || large) {
			uint64_t offset = (1ULL << shift) - 1;
			*gpa = (pte & FRAME & ~offset) | (gva & offset);
			return true;
		}
		table = pte & FRAME;
	}
	return false;
}

/* Under the machine's lock. */
bool walk(struct machine *m, const struct paging *p, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	bool pae = (p->cr4 & CR4_PAE) != 0, lma = (p->efer & EFER_LMA) != 0;
	*prot = NVMM_PROT_ALL;
	if ((p->cr0 & CR0_PG) == 0) {
		*gpa = gva;
		return true;
	}
	if (!pae)
		return !lma && walk32(m, p, (uint32_t)gva, gpa, prot);
	if (!lma)
		return walk64(m, p->cr3 & 0xFFFFFFE0, 3, (uint32_t)gva, gpa, prot);
	return (uint64_t)((int64_t)(gva << 16) >> 16) == gva && walk64(m, p->cr3 & FRAME, 4, gva, gpa, prot);
}

int nvmm_gva_to_gpa(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
{
	struct vcpu *v;
	struct paging p;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	paging_of(v, &p);
	pthread_rwlock_rdlock(&v->machine->lock);
	bool found = walk(v->machine, &p, gva, gpa, prot);
	pthread_rwlock_unlock(&v->machine->lock);
	vcpu_leave(v);
	return found ? 0 : fail(EFAULT, "guest-virtual address 0x%llx is not mapped", (unsigned long long)gva);
}

/*
 * Copies between memory and a linear address of the guest, in pieces of a page. Gives the number of bytes up to the
 * first that is not there.
 */
static size_t guest_copy(struct vcpu *v, gvaddr_t linear, char *bytes, size_t size, bool write)
{
	struct machine *m = v->machine;
	struct paging p;
	size_t done = 0;
	paging_of(v, &p);
	pthread_rwlock_rdlock(&m->lock);
	while (done < size) {
		const struct area *area;
		gpaddr_t gpa;
		nvmm_prot_t prot;
		if (!walk(m, &p, linear + done, &gpa, &prot) || (area = area_at(m, gpa)) == NULL)
			break;
		size_t piece = PAGE - (gpa & (PAGE - 1));
		if (piece > size - done)
			piece = size - done;
		char *there = (char *)(area->hva + (gpa - area->gpa));
		memcpy(write ? there : bytes + done, write ? bytes + done : there, piece);
		done += piece;
	}
	pthread_rwlock_unlock(&m->lock);
	return done;
}

size_t guest_read(struct vcpu *v, gvaddr_t linear, void *into, size_t size)
{
	return guest_copy(v, linear, into, size, false);
}

/* What a debugger changes behind the guest's back: whatever the page's protection. */
size_t guest_write(struct vcpu *v, gvaddr_t linear, const void *from, size_t size)
{
	char bytes[16];
	if (size > sizeof(bytes))
		return 0;
	memcpy(bytes, from, size);
	return guest_copy(v, linear, bytes, size, true);
}
