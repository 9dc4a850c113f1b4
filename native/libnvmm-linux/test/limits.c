/*
 * When the host gives no more: machines, host ranges, descriptors, address space, locked memory, memory that is not
 * there. Each is an error with a sentence, and nothing stays behind: afterwards a machine works.
 */
#include "harness.h"

#include <sys/resource.h>
#include <sys/wait.h>

GUEST(spin)

#define MACHINES 128

static void refused(int result, int error)
{
	CHECK(result == -1 && errno == error);
	CHECK(nvmm_linux_reason()[0] != 0);
}

static void works(void)
{
	struct machine64 m;
	machine64_create(&m, true);
	load(&m, guest_spin, guest_spin_end);
	reset64(&m);
	CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0 && m.vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
	machine64_destroy(&m);
}

static void machines(void)
{
	struct nvmm_machine all[MACHINES], more;
	for (int i = 0; i < MACHINES; i++)
		CHECK(nvmm_machine_create(&all[i]) == 0);
	refused(nvmm_machine_create(&more), ENOBUFS);
	for (int i = 0; i < MACHINES; i++)
		CHECK(nvmm_machine_destroy(&all[i]) == 0);
	refused(nvmm_machine_destroy(&all[0]), ENOENT);
}

static void on_mem(struct nvmm_mem *mem)
{
	memset(mem->data, 7, mem->size);
}

/*
 * A destroyed vCPU can be made again, though KVM never gives up one before its machine: in the state after RESET, and
 * without the rest of what it was doing.
 */
static void again(void)
{
	/* mov eax, [0x1000], where no memory is; hlt */
	static const char code[] = {(char)0x8B, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, (char)0xF4};
	struct nvmm_assist_callbacks callbacks = {.mem = on_mem};
	struct machine64 m;
	machine64_create(&m, false);
	for (int i = 0; i < 4; i++) {
		struct nvmm_vcpu twin = {0};
		load(&m, code, code + sizeof(code));
		reset64(&m);
		CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
		CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0 && m.vcpu.exit->reason == NVMM_VCPU_EXIT_MEMORY);
		if (i % 2 == 0) {
			CHECK(nvmm_assist_mem(&m.mach, &m.vcpu) == 0);
			CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0 && m.vcpu.exit->reason == NVMM_VCPU_EXIT_HALTED);
		}
		CHECK(nvmm_vcpu_getstate(&m.mach, &m.vcpu, NVMM_X64_STATE_GPRS) == 0);
		CHECK(m.vcpu.state->gprs[NVMM_X64_GPR_RAX] == (i % 2 == 0 ? 0x07070707 : 0));
		refused(nvmm_vcpu_create(&m.mach, 0, &twin), EBUSY);
		CHECK(nvmm_vcpu_destroy(&m.mach, &m.vcpu) == 0);
		refused(nvmm_vcpu_run(&m.mach, &m.vcpu), ENOENT);
		memset(&m.vcpu, 0, sizeof(m.vcpu));
		CHECK(nvmm_vcpu_create(&m.mach, 0, &m.vcpu) == 0);
		CHECK(m.vcpu.state->gprs[NVMM_X64_GPR_RIP] == 0xFFF0);
	}
	machine64_destroy(&m);
}

static void set_limit(int resource, rlim_t now, struct rlimit *before)
{
	CHECK(getrlimit(resource, before) == 0);
	struct rlimit tight = {.rlim_cur = now, .rlim_max = before->rlim_max};
	CHECK(setrlimit(resource, &tight) == 0);
}

/* Descriptors: each machine and each vCPU has one. */
static void descriptors(void)
{
	struct nvmm_machine mach, other;
	struct nvmm_vcpu vcpu = {0};
	struct rlimit before;
	CHECK(nvmm_machine_create(&mach) == 0);
	int next = dup(0);
	close(next);
	set_limit(RLIMIT_NOFILE, (rlim_t)next, &before);
	refused(nvmm_machine_create(&other), EMFILE);
	refused(nvmm_vcpu_create(&mach, 0, &vcpu), EMFILE);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	CHECK(nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

/* Address space: a vCPU's run page has to be mapped. A sanitizer has reserved terabytes of it already. */
static void address_space(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu = {0};
	struct rlimit before;
	CHECK(nvmm_machine_create(&mach) == 0);
	set_limit(RLIMIT_AS, 0, &before);
	refused(nvmm_vcpu_create(&mach, 0, &vcpu), ENOMEM);
	CHECK(setrlimit(RLIMIT_AS, &before) == 0);
	CHECK(nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
#endif
}

/* Somebody whom the limit on locked memory holds for: it does not for root. 65534 is nobody. */
static void become_nobody(rlim_t lockable)
{
	struct rlimit limit = {.rlim_cur = lockable, .rlim_max = lockable};
	CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	if (geteuid() == 0)
		CHECK(setresuid(65534, 65534, 65534) == 0);
}

static void join(pid_t child)
{
	int status;
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/*
 * Locked memory. NVMM wires a guest's; KVM takes it page by page, so a machine works where nothing may be locked. A
 * program that locks all it maps (mlockall) is told when its limit leaves no room for a run page.
 */
static void locked_memory(void)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu = {0};
	pid_t child = fork();
	if (child == 0) {
		become_nobody(0);
		works();
		_exit(0);
	}
	join(child);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	child = fork();
	if (child == 0) {
		const size_t most = 16 * PAGE_SIZE;
		CHECK(nvmm_machine_create(&mach) == 0);
		become_nobody(most);
		CHECK(mlockall(MCL_FUTURE) == 0);
		/* The run page and its neighbours need more than what is left then. */
		CHECK(mmap(NULL, most, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
		refused(nvmm_vcpu_create(&mach, 0, &vcpu), EAGAIN);
		CHECK(strstr(nvmm_linux_reason(), "vCPU 0") != NULL);
		CHECK(munlockall() == 0);
		CHECK(nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
		_exit(0);
	}
	join(child);
#else
	(void)mach, (void)vcpu;
#endif
}

/* Host memory that is not there, or goes away under the guest. */
static void memory(void)
{
	struct machine64 m;
	machine64_create(&m, true);
	char *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	munmap(page, PAGE_SIZE);
	refused(nvmm_hva_map(&m.mach, (uintptr_t)page, PAGE_SIZE), EFAULT);
	refused(nvmm_hva_map(&m.mach, (uintptr_t)page + 1, PAGE_SIZE), EINVAL);
	refused(nvmm_gpa_map(&m.mach, (uintptr_t)page, 0x10000, PAGE_SIZE, PROT_READ), EINVAL);
	load(&m, guest_spin, guest_spin_end);
	reset64(&m);
	CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0);
	/* The page tables' memory goes: an exit that says so, or an endless one in the guest, but no hang here. */
	munmap(m.pages + 2 * PAGE_SIZE, 4 * PAGE_SIZE);
	reset64(&m);
	m.vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0x5000;
	for (int i = 0; i < 3; i++)
		CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0);
	CHECK(nvmm_vcpu_destroy(&m.mach, &m.vcpu) == 0);
	CHECK(nvmm_machine_destroy(&m.mach) == 0);
	munmap(m.pages, 2 * PAGE_SIZE);
}

int main(void)
{
	start("limits");
	machines();
	works();
	again();
	descriptors();
	works();
	address_space();
	works();
	locked_memory();
	works();
	memory();
	works();
	printf("limits: machines, a vCPU made again, descriptors, address space, locked memory, memory that is not there\n");
	return 0;
}
