/* CPUID as NVMM shows it: what this KVM supports, less what NVMM hides, and the vCPU's own changes on top. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_LEAVES 256

/* Features that guests see. FMA and F16C go with AVX: without its state they only fault. */
#define MASK_1_ECX (0x6ED83203U & ~(1U << 12) & ~(1U << 29))
#define MASK_1_EDX 0x9F8BAB7FU
#define MASK_7_EBX 0x019C23C9U
#define MASK_7_ECX 0x1A000705U
#define MASK_7_EDX 0x20004410U
#define MASK_80000001_ECX 0x006309F3U
#define MASK_80000001_EDX 0xE7D3AB7FU
#define HYPERVISOR (1U << 31)
#define PCID (1U << 17)
#define INVPCID (1U << 10)

static uint32_t log2_up(uint32_t value)
{
	uint32_t bits = 0;
	while ((1U << bits) < value)
		bits++;
	return bits;
}

static bool zero_leaf(uint32_t leaf)
{
	switch (leaf) {
	case 3: case 5: case 6: case 8: case 9: case 0xA: case 0xC:
		return true;
	case 2: case 4: case 0xB: case 0x15: case 0x16:
		return library.amd;
	default:
		return (leaf >= 0xE && leaf <= 0x14) || (leaf > 0x16 && leaf < 0x40000000) ||
		       (leaf >= 0x80000009 && leaf <= 0x80000018) || leaf == 0x8000001B || leaf == 0x8000001C ||
		       leaf >= 0x8000001F;
	}
}

static void zero(struct kvm_cpuid_entry2 *e)
{
	e->eax = e->ebx = e->ecx = e->edx = 0;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Leaf 4 of Intel: levels 1 and 2 private, the others shared by all. */
static void share_caches(struct kvm_cpuid_entry2 *e, uint32_t vcpus)
{
	uint32_t level = (e->eax >> 5) & 7;
	e->eax &= 0x00003FFF;
	e->eax |= (least(vcpus, 64) - 1) << 26;
	if (level >= 3)
		e->eax |= (vcpus - 1) << 14;
}

static void topology(struct kvm_cpuid_entry2 *e, uint32_t id, uint32_t vcpus)
{
	uint32_t type = e->index == 0 ? 1 : e->index == 1 ? 2 : 0;
	e->ecx = e->index | type << 8;
	e->eax = type == 2 ? log2_up(vcpus) : 0;
	e->ebx = type == 2 ? vcpus : 0;
	e->edx = id;
}

static void transform(struct kvm_cpuid_entry2 *e, uint32_t id, uint32_t vcpus)
{
	uint32_t xcr0 = (uint32_t)library.xcr0_mask;
	if (zero_leaf(e->function)) {
		zero(e);
		return;
	}
	switch (e->function) {
	case 0:
		e->eax = least(e->eax, library.amd ? 0xD : 0x16);
		break;
	case 1:
		e->ebx = (e->ebx & 0xFFFF) | least(vcpus, 255) << 16 | id << 24;
		e->ecx = (e->ecx & (library.amd ? MASK_1_ECX : MASK_1_ECX | PCID)) | HYPERVISOR;
		e->edx &= MASK_1_EDX;
		break;
	case 4:
		share_caches(e, vcpus);
		break;
	case 7:
		if (e->index != 0) {
			zero(e);
			break;
		}
		e->eax = 0;
		e->ebx &= library.amd ? MASK_7_EBX : MASK_7_EBX | INVPCID;
		e->ecx &= MASK_7_ECX;
		e->edx &= MASK_7_EDX;
		break;
	case 0xB:
		topology(e, id, vcpus);
		break;
	case 0xD:
		if (e->index == 0) {
			e->eax = xcr0;
			e->edx = 0;
			e->ebx = e->ecx = 64 + 512;
		} else if (e->index == 1) {
			e->eax &= 7;
			e->ebx = e->ecx = e->edx = 0;
		} else {
			zero(e);
		}
		break;
	case 0x80000000:
		e->eax = least(e->eax, library.amd ? 0x8000001F : 0x80000008);
		break;
	case 0x80000001:
		e->ecx &= MASK_80000001_ECX;
		e->edx &= MASK_80000001_EDX;
		break;
	case 0x80000007:
		e->eax = e->ebx = e->ecx = 0;
		e->edx &= 1U << 8;
		break;
	case 0x80000008:
		e->ebx &= 0x205;
		e->ecx = library.amd ? (vcpus - 1) | log2_up(library.max_vcpus) << 12 : 0;
		e->edx = 0;
		break;
	default:
		break;
	}
}

/* Clears, then sets, what the vCPU's own entry says; a leaf that is not there is added. */
static void apply(struct kvm_cpuid2 *list, const struct nvmm_vcpu_conf_cpuid *conf)
{
	bool found = false;
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *e = &list->entries[i];
		if (e->function != conf->leaf)
			continue;
		found = true;
		e->eax = (e->eax & ~conf->u.mask.del.eax) | conf->u.mask.set.eax;
		e->ebx = (e->ebx & ~conf->u.mask.del.ebx) | conf->u.mask.set.ebx;
		e->ecx = (e->ecx & ~conf->u.mask.del.ecx) | conf->u.mask.set.ecx;
		e->edx = (e->edx & ~conf->u.mask.del.edx) | conf->u.mask.set.edx;
	}
	if (found || list->nent >= MAX_LEAVES)
		return;
	struct kvm_cpuid_entry2 *e = &list->entries[list->nent++];
	memset(e, 0, sizeof(*e));
	e->function = conf->leaf;
	e->eax = conf->u.mask.set.eax;
	e->ebx = conf->u.mask.set.ebx;
	e->ecx = conf->u.mask.set.ecx;
	e->edx = conf->u.mask.set.edx;
}

static void add_signature(struct kvm_cpuid2 *list)
{
	struct kvm_cpuid_entry2 *e = &list->entries[list->nent++];
	memset(e, 0, sizeof(*e));
	e->function = 0x40000000;
	e->eax = 0x40000000;
	memcpy(&e->ebx, "___ ", 4);
	memcpy(&e->ecx, "NVMM", 4);
	memcpy(&e->edx, " ___", 4);
}

/* Once, before the first run: KVM takes no other CPUID afterwards. */
int cpuid_install(struct vcpu *v)
{
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + (MAX_LEAVES + 1) * sizeof(list->entries[0]));
	if (list == NULL)
		return fail(ENOMEM, "no memory for the CPUID table");
	list->nent = MAX_LEAVES - MAX_CPUID_CONFS;
	if (ioctl(library.fd, KVM_GET_SUPPORTED_CPUID, list) != 0) {
		int error = errno;
		free(list);
		return fail(error, "KVM_GET_SUPPORTED_CPUID: %s", strerror(error));
	}
	pthread_rwlock_rdlock(&v->machine->lock);
	uint32_t vcpus = v->machine->vcpu_count;
	pthread_rwlock_unlock(&v->machine->lock);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 e = list->entries[i];
		/* KVM's own offers to guests are not NVMM's. */
		if (e.function >= 0x40000000 && e.function < 0x80000000)
			continue;
		transform(&e, v->id, vcpus);
		list->entries[kept++] = e;
	}
	list->nent = kept;
	add_signature(list);
	for (unsigned i = 0; i < v->cpuid_conf_count; i++)
		apply(list, &v->cpuid_confs[i]);
	int result = ioctl(v->fd, KVM_SET_CPUID2, list);
	if (result != 0)
		result = fail(errno, "KVM_SET_CPUID2: %s", strerror(errno));
	free(list);
	return result;
}

static bool contradicts(const struct nvmm_vcpu_conf_cpuid *c)
{
	return (c->u.mask.set.eax & c->u.mask.del.eax) != 0 || (c->u.mask.set.ebx & c->u.mask.del.ebx) != 0 ||
	       (c->u.mask.set.ecx & c->u.mask.del.ecx) != 0 || (c->u.mask.set.edx & c->u.mask.del.edx) != 0;
}

int cpuid_configure(struct vcpu *v, const struct nvmm_vcpu_conf_cpuid *conf)
{
	if (conf->mask && conf->exit)
		return fail(EINVAL, "CPUID leaf 0x%x: mask and exit exclude each other", conf->leaf);
	if (conf->mask && contradicts(conf))
		return fail(EINVAL, "CPUID leaf 0x%x: a bit is both set and deleted", conf->leaf);
	if (conf->exit)
		return fail(EOPNOTSUPP, "CPUID leaf 0x%x: KVM answers CPUID itself and can't exit for it", conf->leaf);
	if (v->started)
		return fail(EBUSY, "CPUID leaf 0x%x: KVM takes changes before the first run only", conf->leaf);
	unsigned at = 0;
	while (at < v->cpuid_conf_count && v->cpuid_confs[at].leaf != conf->leaf)
		at++;
	bool known = at < v->cpuid_conf_count;
	if (!conf->mask) {
		if (known)
			v->cpuid_confs[at] = v->cpuid_confs[--v->cpuid_conf_count];
		return 0;
	}
	if (!known && v->cpuid_conf_count == MAX_CPUID_CONFS)
		return fail(ENOBUFS, "a vCPU changes at most %d CPUID leaves", MAX_CPUID_CONFS);
	v->cpuid_confs[at] = *conf;
	v->cpuid_conf_count += !known;
	return 0;
}
