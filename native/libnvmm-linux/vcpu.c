/* Virtual CPUs: making, finding, configuring and destroying them, and the verbs that only touch the shared page. */
#include "internal.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vcpu *pool;

static struct vcpu *pool_take(void)
{
	pthread_mutex_lock(&pool_lock);
	struct vcpu *v = pool;
	if (v != NULL)
		pool = v->next_free;
	pthread_mutex_unlock(&pool_lock);
	if (v != NULL)
		return v;
	v = aligned_alloc(PAGE, (sizeof(*v) + PAGE - 1) & ~(PAGE - 1));
	if (v == NULL)
		return NULL;
	memset(v, 0, sizeof(*v));
	v->fd = -1;
	v->msr_page = calloc(1, PAGE);
	pthread_mutexattr_t recursive;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&v->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	if (v->msr_page != NULL)
		return v;
	free(v);
	return NULL;
}

static void pool_give(struct vcpu *v)
{
	pthread_mutex_lock(&pool_lock);
	v->next_free = pool;
	pool = v;
	pthread_mutex_unlock(&pool_lock);
}

/* Finds a vCPU and locks it. What comes back is in use, and stays so until vcpu_leave. */
int vcpu_enter(const struct nvmm_machine *mach, const struct nvmm_vcpu *vcpu, struct vcpu **found)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0)
		return -1;
	if (vcpu->cpuid >= library.max_vcpus)
		return fail(EINVAL, "vCPU %u: the highest number is %u", vcpu->cpuid, library.max_vcpus - 1);
	struct vcpu *v = atomic_load(&m->vcpus[vcpu->cpuid]);
	if (v != NULL) {
		pthread_mutex_lock(&v->lock);
		if (v->machine == m && v->id == vcpu->cpuid && !atomic_load(&v->dying)) {
			v->depth++;
			*found = v;
			if (atomic_load(&v->comm->answer) == ANSWER_GIVEN)
				assist_answered(v);
			return 0;
		}
		pthread_mutex_unlock(&v->lock);
	}
	return fail(ENOENT, "vCPU %u of machine %u does not exist", vcpu->cpuid, mach->machid);
}

void vcpu_leave(struct vcpu *v)
{
	v->depth--;
	pthread_mutex_unlock(&v->lock);
}

static int open_vcpu(struct vcpu *v, struct machine *m, nvmm_cpuid_t id)
{
	while (v->fd < 0) {
		v->fd = ioctl(m->fd, KVM_CREATE_VCPU, (unsigned long)id);
		if (v->fd < 0 && errno != EINTR)
			return fail(errno == EEXIST ? EBUSY : errno, "KVM makes no vCPU %u: %s", id, strerror(errno));
	}
	if (v->run == NULL) {
		void *run = mmap(NULL, library.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		if (run == MAP_FAILED)
			return fail(errno, "the run page of vCPU %u can't be mapped: %s", id, strerror(errno));
		v->run = run;
	}
	return 0;
}

static void close_vcpu(struct vcpu *v)
{
	if (v->run != NULL)
		munmap(v->run, library.run_size);
	if (v->fd >= 0)
		close(v->fd);
	v->run = NULL;
	v->fd = -1;
	v->started = false;
	pool_give(v);
}

/* All but the lock, the scratch page and the place in the pool. */
static void reset_vcpu(struct vcpu *v, nvmm_cpuid_t id, void *page)
{
	v->comm = page != NULL ? page : &v->own_comm;
	memset(v->comm, 0, sizeof(*v->comm));
	__atomic_store_n(&v->stop, 0, __ATOMIC_SEQ_CST);
	v->id = id;
	atomic_store(&v->dying, false);
	atomic_store(&v->running, false);
	v->has_timer = false;
	/* What has run keeps its CPUID: KVM takes one once. */
	if (!v->started)
		v->cpuid_conf_count = 0;
	v->tpr_exits = v->int_window = v->nmi_window = false;
	v->differs = v->xcr0_known = v->msrs_known = false;
	v->tsc_reported = 0;
	memset(&v->flight, 0, sizeof(v->flight));
	memset(&v->debug, 0, sizeof(v->debug));
	memset(&v->stepping, 0, sizeof(v->stepping));
	memset(&v->gate, 0, sizeof(v->gate));
	memset(&v->shown, 0, sizeof(v->shown));
	v->comm->state = reset_state;
	state_to_regs(&reset_state, &v->shown);
	atomic_store(&v->comm->state_cached, NVMM_X64_STATE_ALL);
	atomic_store(&v->comm->state_commit, NVMM_X64_STATE_ALL);
}

/* The registers in the run page are KVM's word on its state; before the first run there is none yet. */
static int prime(struct vcpu *v)
{
	struct kvm_sync_regs *sync = &v->run->s.regs;
	struct kvm_vcpu_events none = {.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW};
	v->run->kvm_dirty_regs = 0;
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &none) != 0 || ioctl(v->fd, KVM_GET_SREGS, &sync->sregs) != 0 || ioctl(v->fd, KVM_GET_VCPU_EVENTS, &sync->events) != 0)
		return fail(errno, "KVM gives no state of a new vCPU: %s", strerror(errno));
	/* Without a local APIC in the kernel CPUID's APIC bit follows this. */
	sync->sregs.apic_base = 0xFEE00800 | (v->id == 0 ? 0x100 : 0);
	v->run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
	return tsc_start(v);
}

int nvmm_linux_vcpu_create(struct nvmm_machine *mach, nvmm_cpuid_t id, struct nvmm_vcpu *vcpu, void *page)
{
	struct machine *m;
	if (((uintptr_t)page & 15) != 0)
		return fail(EINVAL, "the page at %p is not aligned to 16 bytes", page);
	if (machine_find(mach, &m) != 0)
		return -1;
	if (id >= library.max_vcpus)
		return fail(EINVAL, "vCPU %u: the highest number is %u", id, library.max_vcpus - 1);
	pthread_rwlock_wrlock(&m->lock);
	struct vcpu *v = m->parked[id];
	m->parked[id] = NULL;
	pthread_rwlock_unlock(&m->lock);
	if (v == NULL)
		v = pool_take();
	if (v == NULL)
		return fail(ENOMEM, "no memory for a vCPU");
	/* Somebody with an old handle may look at it meanwhile. */
	pthread_mutex_lock(&v->lock);
	reset_vcpu(v, id, page);
	pthread_rwlock_wrlock(&m->lock);
	int result = 0;
	bool parked = false;
	if (!m->used)
		result = fail(ENOENT, "machine %u does not exist", mach->machid);
	else if (m->vcpus[id] != NULL)
		result = fail(EBUSY, "vCPU %u of machine %u exists already", id, mach->machid);
	else if (open_vcpu(v, m, id) != 0 || prime(v) != 0) {
		/* KVM may have made it: then it is this number's, whatever failed afterwards. */
		result = -1;
		if (v->fd >= 0) {
			m->parked[id] = v;
			parked = true;
		}
	} else {
		v->machine = m;
		atomic_store(&m->vcpus[id], v);
		m->vcpu_count++;
	}
	pthread_rwlock_unlock(&m->lock);
	pthread_mutex_unlock(&v->lock);
	if (result != 0) {
		if (!parked)
			close_vcpu(v);
		return -1;
	}
	vcpu->cpuid = id;
	vcpu->state = &v->comm->state;
	vcpu->event = &v->comm->event;
	vcpu->exit = &v->comm->exit;
	vcpu->stop = &v->stop;
	return 0;
}

int nvmm_vcpu_create(struct nvmm_machine *mach, nvmm_cpuid_t id, struct nvmm_vcpu *vcpu)
{
	return nvmm_linux_vcpu_create(mach, id, vcpu, NULL);
}

/* Ends a vCPU that its machine no longer lists, fetching it out of the guest if it must. KVM still has it. */
static void end_vcpu(struct vcpu *v)
{
	atomic_store(&v->dying, true);
	/* The run loop looks at `dying` whenever it is turned back, but its thread may be just about to enter. */
	while (pthread_mutex_trylock(&v->lock) != 0) {
		tick_kick(v);
		sched_yield();
	}
	tick_destroy(v);
	/* Who lent the page may be gone. */
	v->comm = &v->own_comm;
	memset(v->comm, 0, sizeof(*v->comm));
	flight_abandon(v);
	debug_end(v);
	v->machine = NULL;
	pthread_mutex_unlock(&v->lock);
}

/* With its machine. */
void vcpu_retire(struct vcpu *v)
{
	if (v->machine != NULL)
		end_vcpu(v);
	close_vcpu(v);
}

int nvmm_vcpu_destroy(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct machine *m;
	if (machine_find(mach, &m) != 0)
		return -1;
	if (vcpu->cpuid >= library.max_vcpus)
		return fail(EINVAL, "vCPU %u: the highest number is %u", vcpu->cpuid, library.max_vcpus - 1);
	pthread_rwlock_wrlock(&m->lock);
	struct vcpu *v = atomic_exchange(&m->vcpus[vcpu->cpuid], NULL);
	m->vcpu_count -= v != NULL;
	unsigned generation = m->generation;
	pthread_rwlock_unlock(&m->lock);
	if (v == NULL)
		return fail(ENOENT, "vCPU %u of machine %u does not exist", vcpu->cpuid, mach->machid);
	end_vcpu(v);
	pthread_rwlock_wrlock(&m->lock);
	bool there = m->used && m->generation == generation;
	if (there)
		m->parked[vcpu->cpuid] = v;
	pthread_rwlock_unlock(&m->lock);
	if (!there)
		vcpu_retire(v);
	return 0;
}

int nvmm_vcpu_configure(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t op, void *conf)
{
	struct vcpu *v;
	if (op == NVMM_VCPU_CONF_CALLBACKS) {
		vcpu->cbs = *(const struct nvmm_assist_callbacks *)conf;
		return 0;
	}
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	int result = 0;
	if (op == NVMM_VCPU_CONF_CPUID)
		result = cpuid_configure(v, conf);
	else if (op == NVMM_VCPU_CONF_TPR)
		v->tpr_exits = ((const struct nvmm_vcpu_conf_tpr *)conf)->exit_changed;
	else if (op == NVMM_VCPU_CONF_DEBUG)
		result = debug_configure(v, conf);
	else
		result = fail(EINVAL, "vCPUs have no option %llu", (unsigned long long)op);
	vcpu_leave(v);
	return result;
}

static struct vcpu *owner_of(const struct nvmm_vcpu *vcpu)
{
	return (struct vcpu *)((char *)(uintptr_t)vcpu->stop - offsetof(struct vcpu, stop));
}

/* Takes effect in the next run, which begins at once when another thread calls. Nothing is checked, as in NVMM. */
int nvmm_vcpu_setstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t flags)
{
	struct vcpu *v = owner_of(vcpu);
	(void)mach;
	atomic_fetch_or(&v->comm->state_commit, flags);
	atomic_fetch_or(&v->comm->state_cached, flags);
	tick_kick(v);
	return 0;
}

int nvmm_vcpu_getstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t flags)
{
	struct vcpu *v;
	if ((flags & ~atomic_load(&owner_of(vcpu)->comm->state_cached)) == 0)
		return 0;
	if (vcpu_enter(mach, vcpu, &v) != 0)
		return -1;
	int result = state_fetch(v, flags & ~atomic_load(&v->comm->state_cached) & NVMM_X64_STATE_ALL);
	vcpu_leave(v);
	return result;
}

int nvmm_vcpu_inject(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	struct vcpu *v = owner_of(vcpu);
	(void)mach;
	atomic_store(&v->comm->event_commit, 1);
	tick_kick(v);
	return 0;
}

/* Async-signal-safe, from any thread. */
int nvmm_vcpu_stop(struct nvmm_vcpu *vcpu)
{
	struct vcpu *v = owner_of(vcpu);
	__atomic_store_n(&v->stop, 1, __ATOMIC_SEQ_CST);
	tick_kick(v);
	return 0;
}

int nvmm_vcpu_dump(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
{
	static const char *const segments[] = {"es", "cs", "ss", "ds", "fs", "gs", "gdt", "idt", "ldt", "tr"};
	static const char *const registers[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"};
	if (nvmm_vcpu_getstate(mach, vcpu, NVMM_X64_STATE_ALL) != 0)
		return -1;
	const struct nvmm_x64_state *s = vcpu->state;
	printf("vcpu %u\n", vcpu->cpuid);
	for (unsigned i = 0; i < 8; i++)
		printf("  %-6s %016llx\n", registers[i], (unsigned long long)s->gprs[i]);
	printf("  rip    %016llx\n", (unsigned long long)s->gprs[NVMM_X64_GPR_RIP]);
	printf("  rflags %016llx\n", (unsigned long long)s->gprs[NVMM_X64_GPR_RFLAGS]);
	for (unsigned i = 0; i < NVMM_X64_NSEG; i++) {
		uint16_t attrib;
		memcpy(&attrib, &s->segs[i].attrib, sizeof(attrib));
		printf("  %-4s %04x base %016llx limit %08x attrib %04x\n", segments[i], s->segs[i].selector,
		       (unsigned long long)s->segs[i].base, s->segs[i].limit, attrib);
	}
	printf("  efer %llx cr0 %llx cr3 %llx cr4 %llx cr8 %llx\n",
	       (unsigned long long)s->msrs[NVMM_X64_MSR_EFER], (unsigned long long)s->crs[NVMM_X64_CR_CR0],
	       (unsigned long long)s->crs[NVMM_X64_CR_CR3], (unsigned long long)s->crs[NVMM_X64_CR_CR4],
	       (unsigned long long)s->crs[NVMM_X64_CR_CR8]);
	return 0;
}
