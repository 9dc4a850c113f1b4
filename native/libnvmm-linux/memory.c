/* Host memory lent to a machine, and where it appears in guest-physical space: one KVM slot for each map. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static bool unaligned(uint64_t value)
{
	return (value & (PAGE - 1)) != 0;
}

static int check_hva(uintptr_t hva, size_t size)
{
	if (hva == 0 || size == 0 || unaligned(hva) || unaligned(size) || hva + size < hva)
		return fail(EINVAL, "host range 0x%lx + 0x%zx: neither zero, nor unaligned, nor wrapping is allowed",
			    (unsigned long)hva, size);
	return 0;
}

/*
 * NVMM would put fresh zeroed memory here. KVM takes any memory as it is, so what the caller has there stays: its
 * contents, its file, its sharing.
 */
int nvmm_hva_map(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0 || check_hva(hva, size) != 0)
		return -1;
	if (msync((void *)hva, size, MS_ASYNC) != 0 && errno == ENOMEM)
		return fail(EFAULT, "host range 0x%lx + 0x%zx is not all mapped", (unsigned long)hva, size);
	int result = 0;
	bool nested = false;
	pthread_rwlock_wrlock(&m->lock);
	for (unsigned i = 0; i < m->hva_count && result == 0; i++) {
		const struct hva_mapping *h = &m->hvas[i];
		if (hva >= h->hva && hva + size <= h->hva + h->size)
			nested = true;
		else if (hva < h->hva + h->size && h->hva < hva + size && !nested)
			result = fail(EEXIST, "host range 0x%lx + 0x%zx overlaps one that is mapped", (unsigned long)hva,
				      size);
	}
	if (result == 0 && m->hva_count == MAX_HVA_MAPPINGS)
		result = fail(ENOBUFS, "a machine has at most %d host ranges", MAX_HVA_MAPPINGS);
	if (result == 0)
		m->hvas[m->hva_count++] = (struct hva_mapping){hva, size};
	pthread_rwlock_unlock(&m->lock);
	return result;
}

/* The memory stays the caller's, and stays mapped in the process. Guest-physical maps of it go on to work. */
int nvmm_hva_unmap(struct nvmm_machine *mach, uintptr_t hva, size_t size)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0 || check_hva(hva, size) != 0)
		return -1;
	int result = fail(ENOENT, "host range 0x%lx + 0x%zx is not one that was mapped", (unsigned long)hva, size);
	pthread_rwlock_wrlock(&m->lock);
	for (unsigned i = 0; i < m->hva_count; i++) {
		if (m->hvas[i].hva != hva || m->hvas[i].size != size)
			continue;
		m->hvas[i] = m->hvas[--m->hva_count];
		result = 0;
		break;
	}
	pthread_rwlock_unlock(&m->lock);
	return result;
}

static int set_slot(struct machine *m, const struct area *area, size_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = area->slot,
		.flags = (area->prot & PROT_WRITE) == 0 ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = area->gpa,
		.memory_size = size,
		.userspace_addr = area->hva,
	};
	if (ioctl(m->fd, KVM_SET_USER_MEMORY_REGION, &region) == 0)
		return 0;
	return fail(errno, "KVM refuses the map of guest 0x%llx + 0x%zx: %s", (unsigned long long)area->gpa, area->size,
		    strerror(errno));
}

/* Index of the first area that ends behind gpa. */
static size_t area_index(const struct machine *m, gpaddr_t gpa)
{
	size_t low = 0, high = m->area_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (m->areas[middle].gpa + m->areas[middle].size <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int check_gpa(uintptr_t hva, gpaddr_t gpa, size_t size)
{
	if (check_hva(hva, size) != 0)
		return -1;
	if (unaligned(gpa) || gpa >= MAX_RAM || size > MAX_RAM - gpa)
		return fail(EINVAL, "guest range 0x%llx + 0x%zx is unaligned or ends beyond 0x%llx",
			    (unsigned long long)gpa, size, MAX_RAM);
	return 0;
}

static int grow(struct machine *m)
{
	if (m->area_count < m->area_room)
		return 0;
	size_t room = m->area_room == 0 ? 16 : 2 * m->area_room;
	struct area *areas = realloc(m->areas, room * sizeof(*areas));
	if (areas == NULL)
		return fail(ENOMEM, "no memory for another map");
	m->areas = areas;
	uint32_t *slots = realloc(m->free_slots, room * sizeof(*slots));
	if (slots == NULL)
		return fail(ENOMEM, "no memory for another map");
	m->free_slots = slots;
	m->area_room = room;
	return 0;
}

static int map_locked(struct machine *m, const struct area *wanted)
{
	bool inside = false;
	for (unsigned i = 0; i < m->hva_count; i++) {
		const struct hva_mapping *h = &m->hvas[i];
		inside |= wanted->hva >= h->hva && wanted->hva + wanted->size <= h->hva + h->size;
	}
	if (!inside)
		return fail(EINVAL, "host range 0x%lx + 0x%zx lies in no range given to nvmm_hva_map",
			    (unsigned long)wanted->hva, wanted->size);
	size_t at = area_index(m, wanted->gpa);
	if (at < m->area_count && m->areas[at].gpa < wanted->gpa + wanted->size)
		return fail(EINVAL, "guest range 0x%llx + 0x%zx overlaps one that is mapped",
			    (unsigned long long)wanted->gpa, wanted->size);
	if (grow(m) != 0)
		return -1;
	struct area area = *wanted;
	bool recycled = m->free_count > 0;
	if (!recycled && m->next_slot >= library.max_slots)
		return fail(ENOBUFS, "this KVM has %u memory slots for a machine", library.max_slots);
	area.slot = recycled ? m->free_slots[m->free_count - 1] : m->next_slot;
	if (set_slot(m, &area, area.size) != 0)
		return -1;
	if (recycled)
		m->free_count--;
	else
		m->next_slot++;
	memmove(&m->areas[at + 1], &m->areas[at], (m->area_count - at) * sizeof(area));
	m->areas[at] = area;
	m->area_count++;
	if (tracing)
		trace_map(m, "map", &area);
	return 0;
}

int nvmm_gpa_map(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa, size_t size, int prot)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0)
		return -1;
	if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0 || (prot & PROT_READ) == 0)
		return fail(EINVAL, "protection 0x%x: PROT_READ, with or without PROT_WRITE and PROT_EXEC, is possible",
			    (unsigned)prot);
	if (check_gpa(hva, gpa, size) != 0)
		return -1;
	struct area area = {.gpa = gpa, .hva = hva, .size = size, .prot = prot};
	pthread_rwlock_wrlock(&m->lock);
	int result = m->used ? map_locked(m, &area) : fail(ENOENT, "machine %u does not exist", mach->machid);
	pthread_rwlock_unlock(&m->lock);
	return traced(result);
}

static int unmap_locked(struct machine *m, uintptr_t hva, gpaddr_t gpa, size_t size)
{
	size_t at = area_index(m, gpa);
	struct area *area = &m->areas[at];
	if (at == m->area_count || area->gpa != gpa || area->hva != hva || area->size != size)
		return fail(ESRCH, "guest range 0x%llx + 0x%zx at host 0x%lx is not one that was mapped",
			    (unsigned long long)gpa, size, (unsigned long)hva);
	if (set_slot(m, area, 0) != 0)
		return -1;
	if (tracing)
		trace_map(m, "unmap", area);
	m->free_slots[m->free_count++] = area->slot;
	m->area_count--;
	memmove(area, area + 1, (m->area_count - at) * sizeof(*area));
	return 0;
}

int nvmm_gpa_unmap(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa, size_t size)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0 || check_gpa(hva, gpa, size) != 0)
		return -1;
	pthread_rwlock_wrlock(&m->lock);
	int result = unmap_locked(m, hva, gpa, size);
	pthread_rwlock_unlock(&m->lock);
	return traced(result);
}

/* The area that holds gpa, or NULL. Under the machine's lock. */
const struct area *area_at(const struct machine *m, gpaddr_t gpa)
{
	size_t at = area_index(m, gpa);
	return at < m->area_count && m->areas[at].gpa <= gpa ? &m->areas[at] : NULL;
}

int nvmm_gpa_to_hva(struct nvmm_machine *mach, gpaddr_t gpa, uintptr_t *hva, nvmm_prot_t *prot)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0)
		return -1;
	pthread_rwlock_rdlock(&m->lock);
	const struct area *area = area_at(m, gpa);
	if (area != NULL) {
		*hva = area->hva + (gpa - area->gpa);
		*prot = (nvmm_prot_t)area->prot; /* PROT_* and NVMM_PROT_* are the same bits */
	}
	pthread_rwlock_unlock(&m->lock);
	return area != NULL ? 0 : fail(ENOENT, "nothing is mapped at guest 0x%llx", (unsigned long long)gpa);
}

/* Under the machine's lock. KVM's slots go with the machine's descriptor. */
void memory_destroy(struct machine *m)
{
	free(m->areas);
	free(m->free_slots);
	m->areas = NULL;
	m->free_slots = NULL;
	m->area_count = m->area_room = m->free_count = 0;
	m->hva_count = 0;
}
