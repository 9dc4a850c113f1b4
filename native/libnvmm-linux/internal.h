/* What the sources of libnvmm for Linux share. Nothing of this is visible outside the library. */
#ifndef INTERNAL_H
#define INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include "nvmm.h"

#define MAX_MACHINES 128
#define MAX_VCPUS 256
#define MAX_HVA_MAPPINGS 32
#define MAX_CPUID_CONFS 32
#define MAX_RAM (128ULL << 30) /* exclusive end of guest-physical address space */
#define PAGE 4096ULL

#define CR0_PG (1ULL << 31)
#define CR4_PSE (1ULL << 4)
#define CR4_PAE (1ULL << 5)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_IF (1ULL << 9)
#define RFLAGS_DF (1ULL << 10)
#define RFLAGS_RF (1ULL << 16)

#define MSR_TSC 0x10
#define MSR_PAT 0x277

/*
 * The page that NVMM's kernel shares with its library: here, between the verbs of this library, and with whoever has
 * lent it (nvmm_linux_vcpu_create).
 */
struct comm {
	_Atomic uint64_t state_cached;
	_Atomic uint64_t state_commit;
	_Atomic uint32_t event_commit;
	_Atomic uint32_t answer;
	double deadline;
	struct nvmm_x64_state state;
	struct nvmm_x86_event event;
	struct nvmm_vcpu_exit exit;
	union {
		struct nvmm_io io;
		struct nvmm_mem mem;
	} access; /* what a callback is called for */
	uint8_t data[16];
	int32_t result; /* of nvmm_linux_run and nvmm_linux_go_on */
};

_Static_assert(offsetof(struct comm, state_cached) == NVMM_LINUX_PAGE_CACHED, "nvmm.h says so");
_Static_assert(offsetof(struct comm, state_commit) == NVMM_LINUX_PAGE_COMMIT, "nvmm.h says so");
_Static_assert(offsetof(struct comm, event_commit) == NVMM_LINUX_PAGE_INJECT, "nvmm.h says so");
_Static_assert(offsetof(struct comm, answer) == NVMM_LINUX_PAGE_ANSWER, "nvmm.h says so");
_Static_assert(offsetof(struct comm, deadline) == NVMM_LINUX_PAGE_DEADLINE, "nvmm.h says so");
_Static_assert(offsetof(struct comm, state) == NVMM_LINUX_PAGE_STATE, "nvmm.h says so");
_Static_assert(offsetof(struct comm, event) == NVMM_LINUX_PAGE_EVENT, "nvmm.h says so");
_Static_assert(offsetof(struct comm, exit) == NVMM_LINUX_PAGE_EXIT, "nvmm.h says so");
_Static_assert(offsetof(struct comm, access) == NVMM_LINUX_PAGE_ACCESS, "nvmm.h says so");
_Static_assert(offsetof(struct comm, data) == NVMM_LINUX_PAGE_DATA, "nvmm.h says so");
_Static_assert(offsetof(struct comm, result) == NVMM_LINUX_PAGE_RESULT, "nvmm.h says so");
_Static_assert(sizeof(struct comm) <= NVMM_LINUX_PAGE_SIZE, "nvmm.h says so");

/* A piece of guest-physical memory: one KVM slot. */
struct area {
	gpaddr_t gpa;
	uintptr_t hva;
	size_t size;
	int prot;
	uint32_t slot;
};

struct hva_mapping {
	uintptr_t hva;
	size_t size;
};

struct vcpu;

/* Machines live in a fixed table and are never freed, so that a stale machid is an error and nothing worse. */
struct machine {
	pthread_rwlock_t lock; /* guards all that follows; `used` and `vcpus` are also looked at without it */
	_Atomic bool used;
	nvmm_machid_t id;
	int fd;
	time_t created;
	struct hva_mapping hvas[MAX_HVA_MAPPINGS];
	unsigned hva_count;
	struct area *areas; /* sorted by gpa */
	size_t area_count;
	size_t area_room;
	uint32_t *free_slots;
	size_t free_count;
	uint32_t next_slot;
	unsigned generation; /* tells machines of the same number apart */
	struct vcpu *_Atomic vcpus[MAX_VCPUS];
	/* Destroyed ones: KVM never gives up a vCPU before its machine, so they wait for their number to come again. */
	struct vcpu *parked[MAX_VCPUS];
	unsigned vcpu_count;
};

/*
 * What KVM has begun and NVMM shows as not yet begun. KVM goes on with it in the next KVM_RUN, whatever the
 * registers are set to meanwhile, so it must be finished or called off first.
 */
enum flight_kind {
	FLIGHT_NONE,
	FLIGHT_IN,	  /* IN: KVM wants the data */
	FLIGHT_OUT,	  /* OUT with RIP still at the instruction: KVM will step over it */
	FLIGHT_STRING_IN, /* INS: KVM wants data for `count` elements */
	FLIGHT_MEMORY,	  /* access to what is no memory */
	FLIGHT_RDMSR,
	FLIGHT_WRMSR,
};

struct flight {
	enum flight_kind kind;
	bool answered; /* the data is there: the next KVM_RUN finishes the instruction */
	uint64_t npc;  /* address of the next instruction; 0 when unknown */
};

/* NVMM_VCPU_CONF_DEBUG: as it was asked for, by debug registers. */
struct debug_point {
	gvaddr_t address;
	uint8_t code; /* of the length, as in DR7 */
	uint8_t rw;
	uint16_t index;
};

struct debug {
	bool step;
	unsigned count;
	struct debug_point points[4];
	uint32_t control; /* KVM_GUESTDBG_*: what KVM was told last */
	bool applied;	  /* KVM has these points, and: */
	gvaddr_t watch;	  /* the handler that syscall.c watches; 0: none */
	bool passing;	  /* its first instruction is stepped over */
};

/* The handler of page faults, as syscall.c found it last. */
struct syscall_gate {
	bool fresh;
	gvaddr_t idt;
	gvaddr_t handler;
};

/* A step that is being made. */
struct stepping {
	bool active;
	bool delivering; /* an event, not an instruction */
	bool trap_flag;	 /* the guest's own */
	bool pushf, popf, syscall, hlt;
	bool loads_trap_flag; /* POPF or IRET, of an image with TF */
	unsigned count;
	struct debug_point points[4]; /* handlers */
	uint8_t vectors[4];
};

/* As much of an instruction as is needed to know where it starts, ends, and what it addresses */
enum insn_class {
	INSN_OTHER,
	INSN_LOAD,  /* reads its memory operand once, into a register */
	INSN_STORE, /* writes its memory operand without reading it first */
	INSN_STOS,
	INSN_MOVS,
	INSN_PUSH,
	INSN_PORT,   /* IN, OUT */
	INSN_STRING_PORT, /* INS, OUTS */
	INSN_MSR,
};

struct insn {
	enum insn_class class;
	uint8_t length;
	uint8_t opcode;	      /* the byte after prefixes and escapes */
	uint8_t operand_size; /* bytes */
	uint8_t address_size;
	int8_t segment; /* of the memory operand, NVMM_X64_SEG_* */
	bool rep;
	bool in;	 /* INSN_PORT, INSN_STRING_PORT */
	int immediate_port; /* -1: DX */
	bool has_memory;
	bool rip_relative;
	int8_t base, index, reg; /* GPRs of NVMM_X64_GPR_*, -1: none; reg: the register operand */
	uint8_t scale;
	bool high_byte; /* reg names AH, CH, DH, BH */
	int64_t displacement;
};

struct insn_mode {
	bool long_mode; /* 64-bit code */
	bool def32;	/* CS.D */
};

/* Instructions that were decoded last, by their first byte: a guest's accesses come from few places. */
#define DECODED 8
struct decoded {
	struct insn_mode mode;
	uint64_t bytes[2];
	uint64_t mask[2]; /* of those that belong to it; 0: there is none */
	struct insn insn;
};

#define MSR_COUNT 10 /* those of nvmm_x64_state without EFER, which travels with the segments */

/* Virtual CPUs are recycled, never freed: nvmm_vcpu_stop may come from any thread at any time. */
struct vcpu {
	struct comm own_comm;
	struct comm *comm; /* that, or what the caller has lent */
	volatile int stop; /* not lent: a stop may come when the lender is gone */
	pthread_mutex_t lock; /* recursive: the assists' callbacks call back into the library */
	unsigned depth;	      /* of verbs in progress */
	struct vcpu *next_free;
	struct machine *machine; /* NULL: not in use */
	nvmm_cpuid_t id;
	int fd;
	struct kvm_run *run;

	_Atomic bool dying;
	_Atomic bool running; /* in or about to enter KVM_RUN */
	_Atomic pid_t tid;    /* of the thread that runs it */
	bool has_timer;
	pid_t timer_tid;
	timer_t timer;
	_Atomic bool ticking; /* the timer is armed, for: */
	uint64_t tick_due;    /* ns, CLOCK_MONOTONIC */
	bool tick_for_window;

	struct nvmm_vcpu_conf_cpuid cpuid_confs[MAX_CPUID_CONFS];
	unsigned cpuid_conf_count;
	bool started; /* CPUID is installed and can't change any more */
	bool tpr_exits;
	bool int_window;
	bool nmi_window;

	struct debug debug;
	struct stepping stepping;
	struct syscall_gate gate;

	struct kvm_regs shown; /* the registers as NVMM shows them */
	bool differs;	       /* KVM's own are others */
	struct flight flight;
	struct decoded decoded[DECODED];
	bool xcr0_known; /* since the last run */
	uint64_t xcr0;
	bool msrs_known;
	uint64_t msrs[MSR_COUNT];
	uint64_t tsc_reported;
	uint32_t *msr_page; /* scratch of KVM_GET_MSRS and KVM_SET_MSRS */
};

/* library.c */
struct library {
	int fd; /* /dev/kvm, or -1 */
	size_t run_size;
	uint32_t max_vcpus;
	uint32_t max_slots;
	uint32_t mxcsr_mask;
	uint64_t xcr0_mask;
	bool amd;
	bool software; /* KVM has no hardware support */
};
extern struct library library;
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct machine *machine_slot(nvmm_machid_t id);
int machine_find(const struct nvmm_machine *mach, struct machine **found);

/* trace.c */
extern _Atomic bool tracing;
int trace_init(void);
void trace_exit(struct vcpu *v, const struct nvmm_vcpu_exit *exit);
void trace_port(struct vcpu *v, const struct nvmm_io *io);
void trace_memory(struct vcpu *v, const struct nvmm_mem *mem);
void trace_set(struct vcpu *v, uint64_t flags);
void trace_inject(struct vcpu *v, const struct nvmm_vcpu_event *event);
void trace_map(const struct machine *m, const char *verb, const struct area *area);
void trace_failure(int error, const char *reason);

/* What a verb is about to return. */
static inline int traced(int result)
{
	if (__builtin_expect(tracing, false) && result != 0)
		trace_failure(errno, nvmm_linux_reason());
	return result;
}

/* vcpu.c */
int vcpu_enter(const struct nvmm_machine *mach, const struct nvmm_vcpu *vcpu, struct vcpu **found);
void vcpu_leave(struct vcpu *v);
void vcpu_retire(struct vcpu *v);

/* tick.c */
int tick_init(void);
void tick_enter(struct vcpu *v);
void tick_leave(struct vcpu *v);
void tick_destroy(struct vcpu *v);
void tick_kick(struct vcpu *v);

/* cpuid.c, msr.c */
int cpuid_configure(struct vcpu *v, const struct nvmm_vcpu_conf_cpuid *conf);
int cpuid_install(struct vcpu *v);
int msr_filter(int vm);
bool msr_handle(struct vcpu *v);
int msr_fetch(struct vcpu *v);
int msr_commit(struct vcpu *v);
int tsc_start(struct vcpu *v);

/* state.c */
extern const struct nvmm_x64_state reset_state;
int state_fetch(struct vcpu *v, uint64_t flags);
int state_commit(struct vcpu *v, uint64_t flags);
void regs_to_state(const struct kvm_regs *from, struct nvmm_x64_state *to);
void state_to_regs(const struct nvmm_x64_state *from, struct kvm_regs *to);

/* debug.c */
int debug_configure(struct vcpu *v, const struct nvmm_vcpu_conf_debug *conf);
int debug_prepare(struct vcpu *v);
bool debug_exit(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void debug_end(struct vcpu *v);

/* syscall.c */
bool is_software(void);
gvaddr_t syscall_watch(struct vcpu *v);
bool syscall_mend(struct vcpu *v);

/* event.c */
int event_commit(struct vcpu *v);
bool event_pending(const struct kvm_vcpu_events *events);

/* flight.c */
int flight_step(struct vcpu *v);
void flight_landed(struct vcpu *v);
void flight_abandon(struct vcpu *v);
void flight_finish(struct vcpu *v);
void flight_resolve(struct vcpu *v, uint64_t commit);
uint8_t *flight_port_data(struct vcpu *v);

/* assist_mem.c */
#define ANSWER_OFFERED 1
#define ANSWER_GIVEN 2
#define ANSWER_PART 3
void assist_offer(struct vcpu *v);
void assist_answered(struct vcpu *v);
int assist_go_on(const struct nvmm_machine *mach, const struct nvmm_vcpu *vcpu);

/* exits.c */
void exit_halted(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void exit_io(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void exit_memory(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void exit_rdmsr(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void exit_wrmsr(struct vcpu *v, struct nvmm_vcpu_exit *exit);
void exit_failure(struct vcpu *v, struct nvmm_vcpu_exit *exit);

/* memory.c */
const struct area *area_at(const struct machine *m, gpaddr_t gpa);
void memory_destroy(struct machine *m);

/* walk.c */
struct paging {
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
};
void paging_of(struct vcpu *v, struct paging *paging);
bool walk(struct machine *m, const struct paging *p, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot);
size_t guest_read(struct vcpu *v, gvaddr_t linear, void *into, size_t size);
size_t guest_write(struct vcpu *v, gvaddr_t linear, const void *from, size_t size);

/* insn.c */
#define INSN_BYTES 16 /* readable ones at `bytes`; those that count are 15 at most */
bool insn_decode(struct vcpu *v, const uint8_t bytes[INSN_BYTES], size_t count, struct insn_mode mode, struct insn *insn);
void insn_mode_of(struct vcpu *v, struct insn_mode *mode);
gvaddr_t linear_address(struct vcpu *v, int segment, uint64_t offset);
uint64_t code_address(struct vcpu *v, uint64_t rip);
__u64 *gpr_of(struct kvm_regs *regs, int index);
uint64_t insn_offset(const struct insn *insn, struct kvm_regs *regs, uint64_t next_rip);

static inline uint64_t size_mask(unsigned bytes)
{
	return bytes >= 8 ? ~0ULL : (1ULL << (8 * bytes)) - 1;
}

/* `add` in the low `bytes` bytes of a register. */
static inline void add_low(__u64 *reg, unsigned bytes, int64_t add)
{
	uint64_t mask = size_mask(bytes);
	*reg = (*reg & ~mask) | ((*reg + (uint64_t)add) & mask);
}

#endif
