/* Model-specific registers: which of them the guest reaches without an exit, and those of the vCPU's state. */
#include "internal.h"

#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

/* The guest's own: no exit. Everything else is denied to KVM and comes to us. */
static const struct {
	uint32_t first;
	uint32_t count;
} direct[] = {
	{MSR_TSC, 1},
	{0x174, 3},	 /* SYSENTER_CS, ESP, EIP */
	{MSR_PAT, 1},
	{0xC0000080, 5}, /* EFER, STAR, LSTAR, CSTAR, SFMASK */
	{0xC0000100, 3}, /* FS.base, GS.base, KERNELGSBASE */
};

int msr_filter(int vm)
{
	static uint8_t all[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
	struct kvm_msr_filter filter;
	memset(&filter, 0, sizeof(filter));
	filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	for (size_t i = 0; i < sizeof(direct) / sizeof(direct[0]); i++) {
		filter.ranges[i].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
		filter.ranges[i].base = direct[i].first;
		filter.ranges[i].nmsrs = direct[i].count;
		filter.ranges[i].bitmap = all;
	}
	return ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

/* What NVMM's kernel answers by itself; writes go nowhere. */
static const struct {
	uint32_t msr;
	bool amd;
	uint64_t value;
} answered[] = {
	{0x17, false, 0},	    /* PLATFORM_ID */
	{0x8B, false, 0},	    /* BIOS_SIGN */
	{0x1A0, false, 0x1801},	    /* MISC_ENABLE: fast strings; no branch trace, no PEBS */
	{0x8B, true, 0},	    /* PATCHLEVEL */
	{0xC001001F, true, 1ULL << 54}, /* NB_CFG: the initial APIC id is the core's number */
	{0xC0010055, true, 0},	    /* CMPHALT */
	{0xC0011021, true, 0},	    /* IC_CFG */
	{0xC0011029, true, 0},	    /* DE_CFG */
};

/* True when the RDMSR or WRMSR exit in the run page has been answered here and the guest can go on. */
bool msr_handle(struct vcpu *v)
{
	for (size_t i = 0; i < sizeof(answered) / sizeof(answered[0]); i++) {
		if (answered[i].msr != v->run->msr.index || answered[i].amd != library.amd)
			continue;
		v->run->msr.error = 0;
		v->run->msr.data = answered[i].value;
		return true;
	}
	return false;
}

/* In the order of nvmm_x64_state, EFER left out. */
static const uint32_t numbers[MSR_COUNT] = {
	0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0x174, 0x175, 0x176, MSR_PAT, MSR_TSC,
};
#define TSC_AT (MSR_COUNT - 1)

int msr_fetch(struct vcpu *v)
{
	struct kvm_msrs *list = (struct kvm_msrs *)(void *)v->msr_page;
	memset(list, 0, sizeof(*list) + MSR_COUNT * sizeof(list->entries[0]));
	list->nmsrs = MSR_COUNT;
	for (unsigned i = 0; i < MSR_COUNT; i++)
		list->entries[i].index = numbers[i];
	int got = ioctl(v->fd, KVM_GET_MSRS, list);
	if (got != MSR_COUNT)
		return fail(got < 0 ? errno : EINVAL, "KVM_GET_MSRS gives %d of %d registers", got, MSR_COUNT);
	for (unsigned i = 0; i < MSR_COUNT; i++)
		v->comm->state.msrs[i + 1] = v->msrs[i] = list->entries[i].data;
	v->comm->state.msrs[NVMM_X64_MSR_EFER] = v->run->s.regs.sregs.efer;
	v->tsc_reported = v->msrs[TSC_AT];
	v->msrs_known = true;
	return 0;
}

/* The guest's counter runs at an offset to the host's. */
static int set_tsc(struct vcpu *v, uint64_t value)
{
	uint64_t offset = value - __rdtsc();
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)&offset,
	};
	if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attribute) == 0)
		return 0;
	struct kvm_msrs *list = (struct kvm_msrs *)(void *)v->msr_page;
	memset(list, 0, sizeof(*list) + sizeof(list->entries[0]));
	list->nmsrs = 1;
	list->entries[0].index = MSR_TSC;
	list->entries[0].data = value;
	if (ioctl(v->fd, KVM_SET_MSRS, list) != 1)
		return fail(errno, "KVM does not take the time stamp counter: %s", strerror(errno));
	return 0;
}

/* A new vCPU counts as the host does, so that all of a machine agree. */
int tsc_start(struct vcpu *v)
{
	uint64_t zero = 0;
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uint64_t)(uintptr_t)&zero,
	};
	if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attribute) == 0)
		return 0;
	return set_tsc(v, __rdtsc());
}

int msr_commit(struct vcpu *v)
{
	const uint64_t *wanted = &v->comm->state.msrs[1];
	struct kvm_msrs *list = (struct kvm_msrs *)(void *)v->msr_page;
	uint32_t count = 0;
	memset(list, 0, sizeof(*list) + MSR_COUNT * sizeof(list->entries[0]));
	for (unsigned i = 0; i < TSC_AT; i++) {
		if (v->msrs_known && v->msrs[i] == wanted[i])
			continue;
		list->entries[count].index = numbers[i];
		list->entries[count].data = wanted[i];
		count++;
	}
	list->nmsrs = count;
	if (count > 0) {
		int set = ioctl(v->fd, KVM_SET_MSRS, list);
		if (set < 0 || (uint32_t)set != count)
			return fail(EINVAL, "KVM refuses 0x%llx for MSR 0x%x",
				    (unsigned long long)list->entries[set < 0 ? 0 : set].data,
				    list->entries[set < 0 ? 0 : set].index);
	}
	/* A TSC of 0, or the one last read, means: as it is. */
	if (wanted[TSC_AT] == 0 || wanted[TSC_AT] == v->tsc_reported)
		return 0;
	return set_tsc(v, wanted[TSC_AT]);
}
