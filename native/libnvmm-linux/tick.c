/*
 * Getting a vCPU out of the guest. KVM_RUN ends for signals only, so there is one real-time signal, whose handler
 * makes the KVM_RUN that this thread is in, or is about to enter, return at once. It is sent by nvmm_vcpu_stop and
 * by a timer, since NVMM gives control back about once per time slice and programs rely on it.
 */
#include "internal.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * NVMM gives control back about once per time slice, which is 100 ms on NetBSD and DragonFly. Each costs a guest that
 * computes some tens of microseconds, and as much again until the caches are warm: at a tenth of this length 1 %. Whoever
 * needs it earlier says so (DEADLINE in nvmm.h).
 */
#define SLICE_NS 100000000ULL
/*
 * KVM does not say when the handler of an NMI ends, and one without hardware finds an interrupt window only between long
 * pieces of ring 0: while somebody waits for it, it is looked for this often. Nor does such a KVM say when a guest lowers
 * CR8, which may be what an interrupt waits for.
 */
#define WINDOW_SLICE_NS 1000000ULL

static int tick_signal;

/* Initial-exec: the handler may not be the one that allocates thread-local storage. */
static __thread struct kvm_run *volatile current __attribute__((tls_model("initial-exec")));
static __thread pid_t own_tid __attribute__((tls_model("initial-exec")));

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	/* Virtual CPUs are never freed. A tick of one that another thread has by now only arms its timer once more. */
	if (info->si_code == SI_TIMER)
		atomic_store(&((struct vcpu *)info->si_value.sival_ptr)->ticking, false);
	struct kvm_run *run = current;
	if (run != NULL)
		__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

/* The one thread that a forked process begins with has another number than the one it was forked by. */
static void forget_thread(void)
{
	own_tid = 0;
}

/* Takes the highest real-time signal that nobody handles. */
int tick_init(void)
{
	if (tick_signal != 0)
		return 0;
	if (pthread_atfork(NULL, NULL, forget_thread) != 0)
		return -1;
	for (int number = SIGRTMAX - 1; number > SIGRTMIN; number--) {
		struct sigaction action;
		if (sigaction(number, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
			continue;
		memset(&action, 0, sizeof(action));
		action.sa_sigaction = on_signal;
		action.sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO;
		sigemptyset(&action.sa_mask);
		if (sigaction(number, &action, NULL) != 0)
			continue;
		tick_signal = number;
		return 0;
	}
	return -1;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void make_timer(struct vcpu *v)
{
	struct sigevent event;
	memset(&event, 0, sizeof(event));
	tick_destroy(v);
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = tick_signal;
	event.sigev_value.sival_ptr = v;
#ifdef sigev_notify_thread_id
	event.sigev_notify_thread_id = own_tid;
#else
	event._sigev_un._tid = own_tid;
#endif
	v->has_timer = timer_create(CLOCK_MONOTONIC, &event, &v->timer) == 0;
	v->timer_tid = own_tid;
	atomic_store(&v->ticking, false);
}

static bool window_awaited(const struct vcpu *v)
{
	return v->nmi_window || (library.software && (v->int_window || v->run->cr8 != 0));
}

/* Sees to it that a tick comes in time: by the end of the slice, or earlier where that is wanted. */
static void arm(struct vcpu *v)
{
	double deadline = v->comm->deadline;
	uint64_t due = deadline > 0 && deadline < 0x1p63 ? (uint64_t)deadline : ~0ULL;
	bool armed = atomic_load(&v->ticking);
	if (armed && v->tick_due <= due && (!window_awaited(v) || v->tick_for_window))
		return;
	uint64_t last = now_ns() + (window_awaited(v) ? WINDOW_SLICE_NS : SLICE_NS);
	if (due > last)
		due = last;
	v->tick_due = due;
	v->tick_for_window = window_awaited(v);
	atomic_store(&v->ticking, true);
	struct itimerspec once = {
		.it_value = {.tv_sec = (time_t)(due / 1000000000ULL), .tv_nsec = (long)(due % 1000000000ULL)}};
	timer_settime(v->timer, TIMER_ABSTIME, &once, NULL);
}

/*
 * From now until tick_leave a signal ends KVM_RUN. The timer is armed once for many exits, and not at all while the
 * vCPU is idle.
 */
void tick_enter(struct vcpu *v)
{
	if (own_tid == 0) {
		sigset_t set;
		own_tid = (pid_t)syscall(SYS_gettid);
		sigemptyset(&set);
		sigaddset(&set, tick_signal);
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	}
	/* For the handler, which this thread itself runs. */
	current = v->run;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_RELAXED);
	atomic_signal_fence(memory_order_seq_cst);
	/* Before this thread looks at the stop word: who sets that looks at `running` afterwards, and then at `tid`. */
	atomic_store_explicit(&v->tid, own_tid, memory_order_relaxed);
	atomic_store(&v->running, true);
	if (!v->has_timer || v->timer_tid != own_tid)
		make_timer(v);
	/* A tick that came before the flag was cleared has left the timer unarmed; a later one sets the flag. */
	if (v->has_timer)
		arm(v);
}

void tick_leave(struct vcpu *v)
{
	current = NULL;
	/* A kick that comes late sends a signal for nothing. */
	atomic_store_explicit(&v->running, false, memory_order_release);
}

void tick_destroy(struct vcpu *v)
{
	if (v->has_timer)
		timer_delete(v->timer);
	v->has_timer = false;
}

/*
 * Async-signal-safe, from any thread. Either the vCPU's thread has not looked at its stop word yet, and will, or it
 * is on its way into KVM_RUN, and the flag or the signal turns it back.
 */
void tick_kick(struct vcpu *v)
{
	if (!atomic_load(&v->running))
		return;
	int saved = errno;
	syscall(SYS_tgkill, getpid(), atomic_load(&v->tid), tick_signal);
	errno = saved;
}
