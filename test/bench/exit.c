/*
 * The loops of bench:exit in C: the same guest on raw KVM, and on libnvmm, with a device that is one register; and
 * ring-3 code without any guest. Called by exit.ts, which runs them in turn with its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "nvmm.h"

#define PAGE 4096
#define MARK_GPA 0xD0000000
#define PAGES 6

/* A VMM has a lock around its devices. */
static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile uint64_t device;

/* When the guest stored to MARK_GPA. */
static double marks[2];
static unsigned mark_count;

/* CPU time of this thread in nanoseconds, so that what else the host does is left out as far as it can be. */
double bench_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* True at the second. */
static bool mark(void)
{
	marks[mark_count++ & 1] = bench_time();
	return mark_count == 2;
}

/* `memory` is the guest's: physical 0x1000 to 0x6FFF, as exit.ts lays it out. */
static int map_raw(int vm, uint8_t *memory)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = 0x1000,
		.memory_size = PAGES * PAGE,
		.userspace_addr = (uintptr_t)memory,
	};
	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int filter_msrs(int vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = {KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER},
	};
	struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
	static uint8_t none[8];
	filter.ranges[0] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = 0x1B, .bitmap = none};
	return ioctl(vm, KVM_ENABLE_CAP, &cap) != 0 ? -1 : ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static struct kvm_segment to_kvm(const struct nvmm_x64_state_seg *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .type = s->attrib.type & 0xF,
		.s = s->attrib.s & 1, .dpl = s->attrib.dpl & 3, .present = s->attrib.p & 1, .l = s->attrib.l & 1,
		.db = s->attrib.def & 1, .g = s->attrib.g & 1, .unusable = !s->attrib.p,
	};
}

static int state_raw(int vcpu, const struct nvmm_x64_state *s)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {0};
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0)
		return -1;
	sregs.es = to_kvm(&s->segs[NVMM_X64_SEG_ES]);
	sregs.cs = to_kvm(&s->segs[NVMM_X64_SEG_CS]);
	sregs.ss = to_kvm(&s->segs[NVMM_X64_SEG_SS]);
	sregs.ds = to_kvm(&s->segs[NVMM_X64_SEG_DS]);
	sregs.fs = to_kvm(&s->segs[NVMM_X64_SEG_FS]);
	sregs.gs = to_kvm(&s->segs[NVMM_X64_SEG_GS]);
	sregs.ldt = to_kvm(&s->segs[NVMM_X64_SEG_LDT]);
	sregs.tr = to_kvm(&s->segs[NVMM_X64_SEG_TR]);
	sregs.cr0 = s->crs[NVMM_X64_CR_CR0];
	sregs.cr3 = s->crs[NVMM_X64_CR_CR3];
	sregs.cr4 = s->crs[NVMM_X64_CR_CR4];
	sregs.efer = s->msrs[NVMM_X64_MSR_EFER];
	regs.rip = s->gprs[NVMM_X64_GPR_RIP];
	regs.rflags = s->gprs[NVMM_X64_GPR_RFLAGS];
	return ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0 ? -1 : ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* One exit of the guest. 1: the guest has ended, -1: what it did is not what it should. */
static int serve_raw(struct kvm_run *run)
{
	int result = 0;
	pthread_mutex_lock(&device_lock);
	switch (run->exit_reason) {
	case KVM_EXIT_IO: {
		uint8_t *data = (uint8_t *)run + run->io.data_offset;
		if (run->io.direction == KVM_EXIT_IO_IN)
			memcpy(data, (const void *)&device, run->io.size);
		else
			memcpy((void *)&device, data, run->io.size);
		break;
	}
	case KVM_EXIT_MMIO:
		if (run->mmio.phys_addr == MARK_GPA)
			result = mark();
		else if (run->mmio.is_write)
			memcpy((void *)&device, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, (const void *)&device, run->mmio.len);
		break;
	case KVM_EXIT_X86_RDMSR:
		run->msr.data = device;
		run->msr.error = 0;
		break;
	case KVM_EXIT_X86_WRMSR:
		device = run->msr.data;
		run->msr.error = 0;
		break;
	default:
		result = -1;
	}
	pthread_mutex_unlock(&device_lock);
	return result;
}

/* A tick that a vCPU of libnvmm has left to this thread may end it: there is one at most. */
static int make(int fd, unsigned long request)
{
	int made = ioctl(fd, request, 0);
	return made < 0 && errno == EINTR ? ioctl(fd, request, 0) : made;
}

/* Nanoseconds that the guest took, or -1. */
double bench_raw(uint8_t *memory, const struct nvmm_x64_state *state)
{
	double ns = -1;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : make(kvm, KVM_CREATE_VM);
	int vcpu = vm < 0 ? -1 : make(vm, KVM_CREATE_VCPU);
	int size = kvm < 0 ? 0 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = vcpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run != MAP_FAILED && map_raw(vm, memory) == 0 && filter_msrs(vm) == 0 && state_raw(vcpu, state) == 0) {
		int done = 0;
		mark_count = 0;
		while (done == 0) {
			if (ioctl(vcpu, KVM_RUN, 0) == 0)
				done = serve_raw(run);
			else if (errno != EINTR)
				done = -1;
		}
		if (done > 0)
			ns = marks[1] - marks[0];
	}
	if (run != MAP_FAILED)
		munmap(run, (size_t)size);
	close(vcpu);
	close(vm);
	close(kvm);
	return ns;
}

static bool ended;

static void on_io(struct nvmm_io *io)
{
	pthread_mutex_lock(&device_lock);
	if (io->in)
		memcpy(io->data, (const void *)&device, io->size);
	else
		memcpy((void *)&device, io->data, io->size);
	pthread_mutex_unlock(&device_lock);
}

static void on_mem(struct nvmm_mem *mem)
{
	pthread_mutex_lock(&device_lock);
	if (mem->gpa == MARK_GPA)
		ended = mark();
	else if (mem->write)
		memcpy((void *)&device, mem->data, mem->size);
	else
		memcpy(mem->data, (const void *)&device, mem->size);
	pthread_mutex_unlock(&device_lock);
}

/* MSRs have no assist: the VMM completes the instruction. */
static int complete_msr(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	uint64_t *gprs = vcpu->state->gprs;
	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_GPRS) != 0)
		return -1;
	pthread_mutex_lock(&device_lock);
	if (vcpu->exit->reason == NVMM_VCPU_EXIT_RDMSR) {
		gprs[NVMM_X64_GPR_RAX] = (uint32_t)device;
		gprs[NVMM_X64_GPR_RDX] = device >> 32;
		gprs[NVMM_X64_GPR_RIP] = vcpu->exit->u.rdmsr.npc;
	} else {
		device = vcpu->exit->u.wrmsr.val;
		gprs[NVMM_X64_GPR_RIP] = vcpu->exit->u.wrmsr.npc;
	}
	pthread_mutex_unlock(&device_lock);
	return nvmm_vcpu_setstate(mach, vcpu, NVMM_X64_STATE_GPRS);
}

static int serve_nvmm(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	switch (vcpu->exit->reason) {
	case NVMM_VCPU_EXIT_NONE:
		return 0;
	case NVMM_VCPU_EXIT_IO:
		return nvmm_assist_io(mach, vcpu);
	case NVMM_VCPU_EXIT_MEMORY:
		return nvmm_assist_mem(mach, vcpu);
	case NVMM_VCPU_EXIT_RDMSR:
	case NVMM_VCPU_EXIT_WRMSR:
		return complete_msr(mach, vcpu);
	default:
		return -1;
	}
}

/* The same on libnvmm. */
double bench_nvmm(uint8_t *memory, const struct nvmm_x64_state *state)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io, .mem = on_mem};
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu = {0};
	double ns = -1;
	if (nvmm_init() != 0 || nvmm_machine_create(&mach) != 0)
		return -1;
	if (nvmm_vcpu_create(&mach, 0, &vcpu) == 0 &&
	    nvmm_vcpu_configure(&mach, &vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0 &&
	    nvmm_hva_map(&mach, (uintptr_t)memory, PAGES * PAGE) == 0 &&
	    nvmm_gpa_map(&mach, (uintptr_t)memory, 0x1000, PAGES * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) {
		*vcpu.state = *state;
		nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_ALL);
		ended = false;
		mark_count = 0;
		while (!ended && nvmm_vcpu_run(&mach, &vcpu) == 0 && serve_nvmm(&mach, &vcpu) == 0)
			;
		if (ended)
			ns = marks[1] - marks[0];
	}
	nvmm_machine_destroy(&mach);
	return ns;
}

/* Code that ends with RET, called with RDI at a page of data. */
double bench_native(const uint8_t *code, size_t size)
{
	uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return -1;
	void (*call)(uint8_t *);
	memcpy(pages, code, size);
	memcpy(&call, &pages, sizeof(call));
	double from = bench_time();
	call(pages + PAGE);
	double ns = bench_time() - from;
	munmap(pages, 2 * PAGE);
	return ns;
}
