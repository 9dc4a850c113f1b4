/* The library as a whole: opening /dev/kvm, what it can do, and the reason of the last failure. */
#include "internal.h"

#include <cpuid.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct library library = {.fd = -1};

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread char reason[256];

/* Sets errno and the reason, and gives -1. */
int fail(int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	errno = error;
	return -1;
}

const char *nvmm_linux_reason(void)
{
	return reason;
}

/* What is asked of KVM, each with what it is needed for. */
static const struct {
	int capability;
	int least;
	const char *name;
} needed[] = {
	{KVM_CAP_USER_MEMORY, 1, "guest memory in user space (KVM_CAP_USER_MEMORY)"},
	{KVM_CAP_READONLY_MEM, 1, "read-only guest memory (KVM_CAP_READONLY_MEM)"},
	{KVM_CAP_IMMEDIATE_EXIT, 1, "exits without races (KVM_CAP_IMMEDIATE_EXIT)"},
	{KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS, "registers in the run page (KVM_CAP_SYNC_REGS)"},
	{KVM_CAP_X86_USER_SPACE_MSR, 1, "MSR exits (KVM_CAP_X86_USER_SPACE_MSR, Linux 5.10)"},
	{KVM_CAP_X86_MSR_FILTER, 1, "the MSR filter (KVM_CAP_X86_MSR_FILTER, Linux 5.10)"},
	{KVM_CAP_VCPU_EVENTS, 1, "event injection (KVM_CAP_VCPU_EVENTS)"},
	{KVM_CAP_DEBUGREGS, 1, "debug registers (KVM_CAP_DEBUGREGS)"},
	{KVM_CAP_XSAVE, 1, "the FPU's state (KVM_CAP_XSAVE)"},
};

static bool host_is_amd(void)
{
	unsigned eax, ebx, ecx, edx;
	__cpuid(0, eax, ebx, ecx, edx);
	return ebx == 0x68747541 || ebx == 0x6F677948; /* "Auth"enticAMD, "Hygo"nGenuine */
}

static uint32_t host_mxcsr_mask(void)
{
	struct nvmm_x64_state_fpu image;
	memset(&image, 0, sizeof(image));
	__asm__ volatile("fxsave64 %0" : "+m"(image));
	return image.fx_mxcsr_mask != 0 ? image.fx_mxcsr_mask : 0xFFBF;
}

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		int error = errno;
		if (error == ENOENT)
			return fail(error, "/dev/kvm does not exist: switch virtualization on in the firmware and "
					   "load kvm_intel or kvm_amd");
		if (error == EACCES || error == EPERM)
			return fail(error, "/dev/kvm: permission denied: add yourself to the group kvm");
		return fail(error, "/dev/kvm: %s", strerror(error));
	}
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		close(fd);
		return fail(EPROGMISMATCH, "/dev/kvm speaks version %d, not %d", version, KVM_API_VERSION);
	}
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		int got = ioctl(fd, KVM_CHECK_EXTENSION, needed[i].capability);
		if (got < needed[i].least) {
			close(fd);
			return fail(ENXIO, "this KVM lacks %s: a newer kernel is needed", needed[i].name);
		}
	}
	return fd;
}

static int init(void)
{
	if (library.fd >= 0)
		return 0;
	int fd = open_kvm();
	if (fd < 0)
		return -1;
	int size = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int ids = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);
	int slots = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	if (size < (int)sizeof(struct kvm_run) || tick_init() != 0) {
		close(fd);
		return fail(ENXIO, "no run page or no free real-time signal");
	}
	library.run_size = (size_t)size;
	library.max_vcpus = ids > 0 && ids < MAX_VCPUS ? (uint32_t)ids : MAX_VCPUS;
	library.max_slots = slots > 0 ? (uint32_t)slots : 32;
	library.mxcsr_mask = host_mxcsr_mask();
	library.xcr0_mask = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0 ? 3 : 0;
	library.amd = host_is_amd();
	library.software = is_software();
	if (trace_init() != 0) {
		int error = errno;
		close(fd);
		return fail(error, "NVMM_TRACE: %s: %s", getenv("NVMM_TRACE"), strerror(error));
	}
	library.fd = fd;
	return 0;
}

int nvmm_init(void)
{
	pthread_mutex_lock(&init_lock);
	int result = init();
	pthread_mutex_unlock(&init_lock);
	return result;
}

/* There is no kernel that would know other processes' machines: this is nvmm_init. */
int nvmm_root_init(void)
{
	return nvmm_init();
}

int nvmm_capability(struct nvmm_capability *cap)
{
	if (library.fd < 0)
		return fail(EBADF, "nvmm_init has not been called, or failed");
	memset(cap, 0, sizeof(*cap));
	cap->version = NVMM_KERN_VERSION;
	cap->state_size = sizeof(struct nvmm_x64_state);
	cap->max_machines = MAX_MACHINES;
	cap->max_vcpus = library.max_vcpus;
	cap->max_ram = MAX_RAM;
	cap->arch.vcpu_conf_support = NVMM_CAP_ARCH_VCPU_CONF_CPUID | NVMM_CAP_ARCH_VCPU_CONF_TPR;
	if (ioctl(library.fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG) > 0)
		cap->arch.vcpu_conf_support |= NVMM_CAP_ARCH_VCPU_CONF_DEBUG;
	cap->arch.xcr0_mask = library.xcr0_mask;
	cap->arch.mxcsr_mask = library.mxcsr_mask;
	cap->arch.conf_cpuid_maxops = MAX_CPUID_CONFS;
	return 0;
}

int nvmm_ctl(int op, void *data, size_t size)
{
	struct nvmm_ctl_mach_info *info = data;
	if (op != NVMM_CTL_MACH_INFO || size != sizeof(*info))
		return fail(EINVAL, "nvmm_ctl knows operation 0 with %zu bytes only", sizeof(*info));
	struct nvmm_machine mach = {.machid = info->machid};
	struct machine *m;
	if (machine_find(&mach, &m) != 0)
		return -1;
	pthread_rwlock_rdlock(&m->lock);
	info->nvcpus = m->vcpu_count;
	info->nram = 0;
	for (unsigned i = 0; i < m->hva_count; i++)
		info->nram += m->hvas[i].size;
	info->pid = getpid();
	info->time = m->created;
	pthread_rwlock_unlock(&m->lock);
	return 0;
}
