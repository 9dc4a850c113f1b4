/* Machines: a KVM virtual machine each, in a fixed table. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct machine machines[MAX_MACHINES];
static pthread_once_t machines_once = PTHREAD_ONCE_INIT;

static void machines_init(void)
{
	for (unsigned i = 0; i < MAX_MACHINES; i++) {
		pthread_rwlock_init(&machines[i].lock, NULL);
		machines[i].id = i;
	}
}

/* Finds a machine in use. It may be destroyed right afterwards: whoever takes its lock looks at `used` again. */
int machine_find(const struct nvmm_machine *mach, struct machine **found)
{
	if (library.fd < 0)
		return fail(EBADF, "nvmm_init has not been called, or failed");
	if (mach->machid >= MAX_MACHINES)
		return fail(EINVAL, "machine %u: the highest number is %d", mach->machid, MAX_MACHINES - 1);
	struct machine *m = &machines[mach->machid];
	if (!atomic_load(&m->used))
		return fail(ENOENT, "machine %u does not exist", mach->machid);
	*found = m;
	return 0;
}

/*
 * Quirks off: KVM must not patch the other vendor's VMCALL in guest memory, MWAIT without CPUID's permission is #UD,
 * and CR0 and the local APIC start as they do in hardware.
 */
static void disable_quirks(int vm)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DISABLE_QUIRKS2};
	int known = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);
	uint64_t wanted = 0;
#ifdef KVM_X86_QUIRK_FIX_HYPERCALL_INSN
	wanted |= KVM_X86_QUIRK_FIX_HYPERCALL_INSN;
#endif
#ifdef KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS
	wanted |= KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS;
#endif
	if (known <= 0)
		return;
	cap.args[0] = wanted & (uint64_t)known;
	/* A kernel that refuses keeps its quirks: README.md says what they do. */
	(void)ioctl(vm, KVM_ENABLE_CAP, &cap);
}

/*
 * What KVM's emulator lacks ends the run, in every ring, and leaves the guest where it was. Otherwise KVM gives the guest
 * an #UD of its own making, beside the exit or in place of it. (Linux 5.14; without it that is so.)
 */
static void exit_on_failure(int vm)
{
#ifdef KVM_CAP_EXIT_ON_EMULATION_FAILURE
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
	(void)ioctl(vm, KVM_ENABLE_CAP, &cap);
#else
	(void)vm;
#endif
}

static int create_vm(void)
{
	/* A tick that another vCPU has left to this thread may end it: there is one at most. */
	int vm = ioctl(library.fd, KVM_CREATE_VM, 0);
	while (vm < 0 && errno == EINTR)
		vm = ioctl(library.fd, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail(errno, "KVM makes no virtual machine: %s", strerror(errno));
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR};
	cap.args[0] = KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
	if (ioctl(vm, KVM_ENABLE_CAP, &cap) != 0 || msr_filter(vm) != 0) {
		int error = errno;
		close(vm);
		return fail(error, "KVM takes no MSR filter: %s", strerror(error));
	}
	disable_quirks(vm);
	exit_on_failure(vm);
	return vm;
}

int nvmm_machine_create(struct nvmm_machine *mach)
{
	if (library.fd < 0)
		return fail(EBADF, "nvmm_init has not been called, or failed");
	pthread_once(&machines_once, machines_init);
	int vm = create_vm();
	if (vm < 0)
		return -1;
	for (unsigned i = 0; i < MAX_MACHINES; i++) {
		struct machine *m = &machines[i];
		pthread_rwlock_wrlock(&m->lock);
		if (m->used) {
			pthread_rwlock_unlock(&m->lock);
			continue;
		}
		m->fd = vm;
		m->created = time(NULL);
		m->hva_count = m->vcpu_count = 0;
		m->next_slot = 0;
		m->generation++;
		atomic_store(&m->used, true);
		pthread_rwlock_unlock(&m->lock);
		memset(mach, 0, sizeof(*mach));
		mach->machid = i;
		return 0;
	}
	close(vm);
	return fail(ENOBUFS, "all %d machines are in use", MAX_MACHINES);
}

int nvmm_machine_destroy(struct nvmm_machine *mach)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0)
		return -1;
	/* First the vCPUs, each of which may have to be fetched out of the guest. */
	for (unsigned id = 0; id < MAX_VCPUS; id++) {
		pthread_rwlock_wrlock(&m->lock);
		struct vcpu *v = atomic_exchange(&m->vcpus[id], NULL);
		m->vcpu_count -= v != NULL;
		struct vcpu *parked = m->parked[id];
		m->parked[id] = NULL;
		pthread_rwlock_unlock(&m->lock);
		if (v != NULL)
			vcpu_retire(v);
		if (parked != NULL)
			vcpu_retire(parked);
	}
	pthread_rwlock_wrlock(&m->lock);
	if (!m->used) {
		pthread_rwlock_unlock(&m->lock);
		return fail(ENOENT, "machine %u does not exist", mach->machid);
	}
	memory_destroy(m);
	close(m->fd);
	m->used = false;
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

/* No machine-wide options exist. */
int nvmm_machine_configure(struct nvmm_machine *mach, uint64_t op, void *conf)
{
	struct machine *m;
	(void)conf;
	if (machine_find(mach, &m) != 0)
		return -1;
	return fail(EINVAL, "machines have no option %llu", (unsigned long long)op);
}
