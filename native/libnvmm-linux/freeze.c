/*
 * A picture of this process's memory, for snapshots of a running guest: a child that shares every page until one side
 * writes it, and does nothing. The parent reads it through /proc/PID/mem and then ends it.
 */
#include "internal.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* After fork only system calls are allowed: other threads may have held any lock of the C library. */
static _Noreturn void stand_still(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	/* What the parent has open ends when it closes it, not when this does. */
	syscall(SYS_close_range, 0U, ~0U, 0U);
	for (;;)
		pause();
}

/* The child's process id, or -1. Signals stay blocked in it: a handler of ours would run in the wrong process. */
int nvmm_linux_freeze(void)
{
	sigset_t all, before;
	pid_t parent = getpid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Without an exit signal: nobody who waits for other children is told of it. */
	long child = syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);
	if (child == 0)
		stand_still(parent);
	int error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (child < 0)
		return fail(error, "the process's memory can't be shared with a child: %s", strerror(error));
	return (int)child;
}

int nvmm_linux_thaw(int child)
{
	int status;
	if (child <= 0 || kill(child, SIGKILL) != 0)
		return fail(EINVAL, "%d is no frozen child", child);
	while (waitpid(child, &status, __WALL) < 0)
		if (errno != EINTR)
			return fail(errno, "waitpid: %s", strerror(errno));
	return 0;
}
