/*
 * The NVMM interface, as libnvmm of NetBSD 10 has it (kernel interface version 2), for Linux over KVM.
 * Names, numbers and layouts are those of the original, so that programs written for it compile unchanged.
 * What differs in behaviour is listed in README.md.
 */
#ifndef _NVMM_H_
#define _NVMM_H_

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------
 * What NetBSD's headers supply to includers of this one, and Linux's don't.
 */

#ifndef EPROGMISMATCH
#define EPROGMISMATCH EPROTO /* the library speaks another version than the kernel */
#endif
#ifndef __BIT
#define __BIT(n) (((uintmax_t)(n) >= sizeof(uintmax_t) * 8) ? 0 : ((uintmax_t)1 << ((n) & 63)))
#endif
#ifndef __BITS
#define __BITS(m, n) ((__BIT(((m) > (n) ? (m) : (n)) + 1) - 1) ^ (__BIT((m) > (n) ? (n) : (m)) - 1))
#endif
#ifndef __LOWEST_SET_BIT
#define __LOWEST_SET_BIT(mask) ((((mask)-1) & (mask)) ^ (mask))
#endif
#ifndef __SHIFTOUT
#define __SHIFTOUT(x, mask) (((x) & (mask)) / __LOWEST_SET_BIT(mask))
#endif
#ifndef __SHIFTIN
#define __SHIFTIN(x, mask) ((x)*__LOWEST_SET_BIT(mask))
#endif
#ifndef __SHIFTOUT_MASK
#define __SHIFTOUT_MASK(mask) __SHIFTOUT((mask), (mask))
#endif

/* ------------------------------------------------------------------------------------------------
 * Versions and plain types.
 */

#define NVMM_KERN_VERSION 2
#define NVMM_USER_VERSION 2

typedef uint32_t nvmm_machid_t;
typedef uint32_t nvmm_cpuid_t;
typedef uint64_t gpaddr_t; /* guest-physical address */
typedef uint64_t gvaddr_t; /* guest-virtual address */
typedef uint64_t nvmm_prot_t;

#define NVMM_PROT_READ 0x01
#define NVMM_PROT_WRITE 0x02
#define NVMM_PROT_EXEC 0x04
#define NVMM_PROT_USER 0x08
#define NVMM_PROT_ALL 0x0F

/* ------------------------------------------------------------------------------------------------
 * The state of a virtual CPU.
 */

#define NVMM_X64_SEG_ES 0
#define NVMM_X64_SEG_CS 1
#define NVMM_X64_SEG_SS 2
#define NVMM_X64_SEG_DS 3
#define NVMM_X64_SEG_FS 4
#define NVMM_X64_SEG_GS 5
#define NVMM_X64_SEG_GDT 6
#define NVMM_X64_SEG_IDT 7
#define NVMM_X64_SEG_LDT 8
#define NVMM_X64_SEG_TR 9
#define NVMM_X64_NSEG 10

#define NVMM_X64_GPR_RAX 0
#define NVMM_X64_GPR_RCX 1
#define NVMM_X64_GPR_RDX 2
#define NVMM_X64_GPR_RBX 3
#define NVMM_X64_GPR_RSP 4
#define NVMM_X64_GPR_RBP 5
#define NVMM_X64_GPR_RSI 6
#define NVMM_X64_GPR_RDI 7
#define NVMM_X64_GPR_R8 8
#define NVMM_X64_GPR_R9 9
#define NVMM_X64_GPR_R10 10
#define NVMM_X64_GPR_R11 11
#define NVMM_X64_GPR_R12 12
#define NVMM_X64_GPR_R13 13
#define NVMM_X64_GPR_R14 14
#define NVMM_X64_GPR_R15 15
#define NVMM_X64_GPR_RIP 16
#define NVMM_X64_GPR_RFLAGS 17
#define NVMM_X64_NGPR 18

#define NVMM_X64_CR_CR0 0
#define NVMM_X64_CR_CR2 1
#define NVMM_X64_CR_CR3 2
#define NVMM_X64_CR_CR4 3
#define NVMM_X64_CR_CR8 4
#define NVMM_X64_CR_XCR0 5
#define NVMM_X64_NCR 6

#define NVMM_X64_DR_DR0 0
#define NVMM_X64_DR_DR1 1
#define NVMM_X64_DR_DR2 2
#define NVMM_X64_DR_DR3 3
#define NVMM_X64_DR_DR6 4
#define NVMM_X64_DR_DR7 5
#define NVMM_X64_NDR 6

#define NVMM_X64_MSR_EFER 0
#define NVMM_X64_MSR_STAR 1
#define NVMM_X64_MSR_LSTAR 2
#define NVMM_X64_MSR_CSTAR 3
#define NVMM_X64_MSR_SFMASK 4
#define NVMM_X64_MSR_KERNELGSBASE 5
#define NVMM_X64_MSR_SYSENTER_CS 6
#define NVMM_X64_MSR_SYSENTER_ESP 7
#define NVMM_X64_MSR_SYSENTER_EIP 8
#define NVMM_X64_MSR_PAT 9
#define NVMM_X64_MSR_TSC 10
#define NVMM_X64_NMSR 11

/* Segment register with its hidden part. The limit counts bytes, whatever G is. */
struct nvmm_x64_state_seg {
	uint16_t selector;
	struct {
		uint16_t type : 4;
		uint16_t s : 1;
		uint16_t dpl : 2;
		uint16_t p : 1;
		uint16_t avl : 1;
		uint16_t l : 1;
		uint16_t def : 1;
		uint16_t g : 1;
		uint16_t rsvd : 4;
	} attrib;
	uint32_t limit;
	uint64_t base;
};

struct nvmm_x64_state_intr {
	uint64_t int_shadow : 1;
	uint64_t int_window_exiting : 1;
	uint64_t nmi_window_exiting : 1;
	uint64_t evt_pending : 1;
	uint64_t rsvd : 60;
};

union nvmm_x64_state_fpu_addr {
	uint64_t fa_64;
	struct {
		uint32_t fa_off;
		uint16_t fa_seg;
		uint16_t fa_opcode;
	} fa_32;
};

struct nvmm_x64_state_fpu_mmreg {
	uint64_t mm_significand;
	uint16_t mm_exp_sign;
	uint8_t mm_rsvd[6];
};

struct nvmm_x64_state_fpu_xmmreg {
	uint8_t xmm_bytes[16];
};

/* x87 and SSE, as FXSAVE writes them. */
struct nvmm_x64_state_fpu {
	uint16_t fx_cw;
	uint16_t fx_sw;
	uint8_t fx_tw;
	uint8_t fx_zero;
	uint16_t fx_opcode;
	union nvmm_x64_state_fpu_addr fx_ip;
	union nvmm_x64_state_fpu_addr fx_dp;
	uint32_t fx_mxcsr;
	uint32_t fx_mxcsr_mask;
	struct nvmm_x64_state_fpu_mmreg fx_87_ac[8];
	struct nvmm_x64_state_fpu_xmmreg fx_xmm[16];
	uint8_t fx_rsvd[96];
} __attribute__((aligned(16)));

#define NVMM_X64_STATE_SEGS 0x01
#define NVMM_X64_STATE_GPRS 0x02
#define NVMM_X64_STATE_CRS 0x04
#define NVMM_X64_STATE_DRS 0x08
#define NVMM_X64_STATE_MSRS 0x10
#define NVMM_X64_STATE_INTR 0x20
#define NVMM_X64_STATE_FPU 0x40
#define NVMM_X64_STATE_ALL 0x7F

struct nvmm_x64_state {
	struct nvmm_x64_state_seg segs[NVMM_X64_NSEG];
	uint64_t gprs[NVMM_X64_NGPR];
	uint64_t crs[NVMM_X64_NCR];
	uint64_t drs[NVMM_X64_NDR];
	uint64_t msrs[NVMM_X64_NMSR];
	struct nvmm_x64_state_intr intr;
	struct nvmm_x64_state_fpu fpu;
};
#define nvmm_vcpu_state nvmm_x64_state

/* ------------------------------------------------------------------------------------------------
 * Exits.
 */

#define NVMM_VCPU_EXIT_NONE 0x0000000000000000ULL
#define NVMM_VCPU_EXIT_STOPPED 0xFFFFFFFFFFFFFFFEULL
#define NVMM_VCPU_EXIT_INVALID 0xFFFFFFFFFFFFFFFFULL
#define NVMM_VCPU_EXIT_MEMORY 0x0000000000000001ULL
#define NVMM_VCPU_EXIT_IO 0x0000000000000002ULL
#define NVMM_VCPU_EXIT_SHUTDOWN 0x0000000000001000ULL
#define NVMM_VCPU_EXIT_INT_READY 0x0000000000001001ULL
#define NVMM_VCPU_EXIT_NMI_READY 0x0000000000001002ULL
#define NVMM_VCPU_EXIT_HALTED 0x0000000000001003ULL
#define NVMM_VCPU_EXIT_TPR_CHANGED 0x0000000000001004ULL
#define NVMM_VCPU_EXIT_RDMSR 0x0000000000002000ULL
#define NVMM_VCPU_EXIT_WRMSR 0x0000000000002001ULL
#define NVMM_VCPU_EXIT_MONITOR 0x0000000000002002ULL
#define NVMM_VCPU_EXIT_MWAIT 0x0000000000002003ULL
#define NVMM_VCPU_EXIT_CPUID 0x0000000000002004ULL
#define NVMM_VCPU_EXIT_DEBUG 0x0000000000010000ULL /* Linux only */

struct nvmm_x86_exit_memory {
	int prot; /* exactly one of PROT_READ, PROT_WRITE, PROT_EXEC */
	gpaddr_t gpa;
	uint8_t inst_len;
	uint8_t inst_bytes[15];
};

struct nvmm_x86_exit_io {
	bool in;
	uint16_t port;
	int8_t seg; /* of the string forms; -1: unknown */
	uint8_t address_size;
	uint8_t operand_size;
	bool rep;
	bool str;
	uint64_t npc;
};

struct nvmm_x86_exit_rdmsr {
	uint32_t msr;
	uint64_t npc;
};

struct nvmm_x86_exit_wrmsr {
	uint32_t msr;
	uint64_t val;
	uint64_t npc;
};

struct nvmm_x86_exit_insn {
	uint64_t npc;
};

struct nvmm_x86_exit_invalid {
	uint64_t hwcode;
};

/* Linux only: what NVMM_VCPU_CONF_DEBUG asked for. */
#define NVMM_VCPU_DEBUG_STEP 0
#define NVMM_VCPU_DEBUG_BREAKPOINT 1
#define NVMM_VCPU_DEBUG_WATCHPOINT 2

struct nvmm_x86_exit_debug {
	uint32_t kind;
	uint32_t index; /* of the point, as it was configured */
	gvaddr_t address;
	bool write; /* the watchpoint is for writes alone */
	uint8_t vector;
	int32_t error;
};

struct nvmm_x86_exit {
	uint64_t reason;
	union {
		struct nvmm_x86_exit_memory mem;
		struct nvmm_x86_exit_io io;
		struct nvmm_x86_exit_rdmsr rdmsr;
		struct nvmm_x86_exit_wrmsr wrmsr;
		struct nvmm_x86_exit_insn insn;
		struct nvmm_x86_exit_invalid inv;
		struct nvmm_x86_exit_debug debug;
	} u;
	struct {
		uint64_t rflags;
		uint64_t cr8;
		uint64_t int_shadow : 1;
		uint64_t int_window_exiting : 1;
		uint64_t nmi_window_exiting : 1;
		uint64_t evt_pending : 1;
		uint64_t rsvd : 60;
	} exitstate;
};
#define nvmm_vcpu_exit nvmm_x86_exit

/* ------------------------------------------------------------------------------------------------
 * Events.
 */

#define NVMM_VCPU_EVENT_EXCP 0
#define NVMM_VCPU_EVENT_INTR 1

struct nvmm_x86_event {
	unsigned int type;
	uint8_t vector;
	union {
		struct {
			uint64_t error;
		} excp;
	} u;
};
#define nvmm_vcpu_event nvmm_x86_event

/* ------------------------------------------------------------------------------------------------
 * Capability and configuration.
 */

#define NVMM_CAP_ARCH_VCPU_CONF_CPUID __BIT(0)
#define NVMM_CAP_ARCH_VCPU_CONF_TPR __BIT(1)
#define NVMM_CAP_ARCH_VCPU_CONF_DEBUG __BIT(30) /* Linux only */

struct nvmm_cap_md {
	uint64_t mach_conf_support;
	uint64_t vcpu_conf_support;
	uint64_t xcr0_mask;
	uint32_t mxcsr_mask;
	uint32_t conf_cpuid_maxops;
	uint64_t rsvd[6];
};

struct nvmm_capability {
	uint32_t version;
	uint32_t state_size;
	uint32_t max_machines;
	uint32_t max_vcpus;
	uint64_t max_ram;
	struct nvmm_cap_md arch;
};

#define NVMM_MACH_CONF_LIBNVMM_BEGIN 0
#define NVMM_MACH_CONF_MI_BEGIN 100
#define NVMM_MACH_CONF_MD_BEGIN 200
#define NVMM_VCPU_CONF_LIBNVMM_BEGIN 0
#define NVMM_VCPU_CONF_MI_BEGIN 100
#define NVMM_VCPU_CONF_MD_BEGIN 200
#define NVMM_VCPU_CONF_CALLBACKS NVMM_VCPU_CONF_LIBNVMM_BEGIN
#define NVMM_VCPU_CONF_CPUID NVMM_VCPU_CONF_MD_BEGIN
#define NVMM_VCPU_CONF_TPR (NVMM_VCPU_CONF_MD_BEGIN + 1)
#define NVMM_VCPU_CONF_DEBUG 1000 /* Linux only */

struct nvmm_vcpu_conf_cpuid {
	uint32_t mask : 1; /* change what the leaf reports */
	uint32_t exit : 1; /* exit to user space instead */
	uint32_t rsvd : 30;
	uint32_t leaf;
	union {
		struct {
			struct {
				uint32_t eax;
				uint32_t ebx;
				uint32_t ecx;
				uint32_t edx;
			} set;
			struct {
				uint32_t eax;
				uint32_t ebx;
				uint32_t ecx;
				uint32_t edx;
			} del;
		} mask;
	} u;
};

struct nvmm_vcpu_conf_tpr {
	uint32_t exit_changed : 1;
	uint32_t rsvd : 31;
};

/*
 * Linux only: a debugger outside of the guest. With `step`, each run executes one instruction, or delivers one event. A
 * point that neither reads nor writes is a breakpoint: the run ends before the instruction at that linear address, at
 * once if it begins there. After a watched access the run ends behind the instruction. Holds until configured again.
 */
#define NVMM_VCPU_CONF_DEBUG_POINTS 16

struct nvmm_vcpu_conf_debug_point {
	gvaddr_t address;
	uint64_t length; /* bytes; of watchpoints */
	uint32_t index;	 /* for exit.u.debug.index */
	bool read;
	bool write;
	uint16_t rsvd;
};

struct nvmm_vcpu_conf_debug {
	uint32_t step : 1;
	uint32_t rsvd : 31;
	uint32_t exceptions; /* vectors that end a run before they are delivered: none can, EOPNOTSUPP */
	uint32_t count;
	uint32_t rsvd2;
	struct nvmm_vcpu_conf_debug_point points[NVMM_VCPU_CONF_DEBUG_POINTS];
};

/* ------------------------------------------------------------------------------------------------
 * Machines and virtual CPUs.
 */

struct nvmm_io;
struct nvmm_mem;

struct nvmm_assist_callbacks {
	void (*io)(struct nvmm_io *);
	void (*mem)(struct nvmm_mem *);
};

struct nvmm_machine {
	nvmm_machid_t machid;
	void *pages;
	void *areas;
};

struct nvmm_vcpu {
	nvmm_cpuid_t cpuid;
	struct nvmm_assist_callbacks cbs;
	struct nvmm_vcpu_state *state;
	struct nvmm_vcpu_event *event;
	struct nvmm_vcpu_exit *exit;
	volatile int *stop;
};

/* One access of the I/O assist. */
struct nvmm_io {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	uint16_t port;
	bool in;
	size_t size;
	uint8_t *data;
};

/* One access of the memory assist. */
struct nvmm_mem {
	struct nvmm_machine *mach;
	struct nvmm_vcpu *vcpu;
	gpaddr_t gpa;
	bool write;
	size_t size;
	uint8_t *data;
};

#define NVMM_CTL_MACH_INFO 0

struct nvmm_ctl_mach_info {
	nvmm_machid_t machid; /* in */
	uint32_t nvcpus;
	uint64_t nram;
	pid_t pid;
	time_t time;
};

/* ------------------------------------------------------------------------------------------------
 * The verbs. Each returns 0, or -1 with errno.
 */

int nvmm_init(void);
int nvmm_root_init(void);

int nvmm_capability(struct nvmm_capability *);

int nvmm_machine_create(struct nvmm_machine *);
int nvmm_machine_destroy(struct nvmm_machine *);
int nvmm_machine_configure(struct nvmm_machine *, uint64_t, void *);

int nvmm_vcpu_create(struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *);
int nvmm_vcpu_destroy(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_configure(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, void *);
int nvmm_vcpu_setstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_getstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_inject(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_run(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_stop(struct nvmm_vcpu *);
int nvmm_vcpu_dump(struct nvmm_machine *, struct nvmm_vcpu *);

int nvmm_gpa_map(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t, int);
int nvmm_gpa_unmap(struct nvmm_machine *, uintptr_t, gpaddr_t, size_t);
int nvmm_hva_map(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_hva_unmap(struct nvmm_machine *, uintptr_t, size_t);

int nvmm_gva_to_gpa(struct nvmm_machine *, struct nvmm_vcpu *, gvaddr_t, gpaddr_t *, nvmm_prot_t *);
int nvmm_gpa_to_hva(struct nvmm_machine *, gpaddr_t, uintptr_t *, nvmm_prot_t *);

int nvmm_assist_io(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_assist_mem(struct nvmm_machine *, struct nvmm_vcpu *);

int nvmm_ctl(int, void *, size_t);

/*
 * Linux only: one sentence about the last verb that failed on this thread, with the way out where there is one.
 * Never NULL; valid until this thread's next call.
 */
const char *nvmm_linux_reason(void);

/*
 * Linux only, for callers whose memory C can't hand out, such as a JavaScript engine: nvmm_vcpu_create with state,
 * event and exit in the caller's page, aligned to 16 bytes, at these offsets. It must stay as long as verbs of this
 * vCPU are called, but for nvmm_vcpu_stop and the destroying ones. Its owner may do by itself what nvmm_vcpu_getstate
 * does when all wanted bits are in CACHED (nothing), and what nvmm_vcpu_setstate (set the bits in CACHED and COMMIT) and
 * nvmm_vcpu_inject (INJECT = 1) do. The assists describe an access in ACCESS, a struct nvmm_io or nvmm_mem whose `data`
 * points to DATA. When ANSWER is not 0 after a MEMORY exit, they do so already: instead of calling nvmm_assist_mem, the
 * owner may read or write DATA and set ANSWER to 2. Where ANSWER was 1, the access is all that the instruction does, and
 * the owner takes the bits that are not in COMMIT out of CACHED; where it was 3, the owner calls nvmm_linux_go_on, after
 * which ANSWER is 0 when the instruction is done, or there is another access. DEADLINE, a double, is the time in nanoseconds of CLOCK_MONOTONIC at which a run shall come back at
 * the latest, if that is before the time slice ends; 0 means none.
 */
#define NVMM_LINUX_PAGE_SIZE 1200
#define NVMM_LINUX_PAGE_CACHED 0
#define NVMM_LINUX_PAGE_COMMIT 8
#define NVMM_LINUX_PAGE_INJECT 16 /* 32 bits */
#define NVMM_LINUX_PAGE_ANSWER 20 /* 32 bits */
#define NVMM_LINUX_PAGE_DEADLINE 24
#define NVMM_LINUX_PAGE_STATE 32
#define NVMM_LINUX_PAGE_EVENT 1040
#define NVMM_LINUX_PAGE_EXIT 1056
#define NVMM_LINUX_PAGE_ACCESS 1120
#define NVMM_LINUX_PAGE_DATA 1168 /* 16 bytes */
#define NVMM_LINUX_PAGE_RESULT 1184 /* 32 bits */
int nvmm_linux_vcpu_create(struct nvmm_machine *, nvmm_cpuid_t, struct nvmm_vcpu *, void *page);

/*
 * Linux only, for callers to whom each argument and result costs as much as the call: nvmm_vcpu_run of the vCPU that
 * this thread chose last, and the next access of its instruction, as said above. Both put 0 or -1 into RESULT, and leave
 * it as it is when the vCPU is gone. What was chosen must stay in memory until something else is.
 */
void nvmm_linux_choose(struct nvmm_machine *, struct nvmm_vcpu *);
void nvmm_linux_run(void);
void nvmm_linux_go_on(void);

/* A child that holds this process's memory as it is now, to be read through /proc/PID/mem; and its end. */
int nvmm_linux_freeze(void);
int nvmm_linux_thaw(int child);

#ifdef __cplusplus
}
#endif

#endif /* _NVMM_H_ */
