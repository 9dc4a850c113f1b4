/*
 * A process that is killed with -9 in the middle of a run, or that just ends while another thread runs: it is gone at
 * once, its machines with it.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

GUEST(spin)

#define ROUNDS 20

static void *run_for_ever(void *argument)
{
	struct machine64 *m = argument;
	for (;;)
		CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
	return NULL;
}

/* Says through the pipe that the guest runs. */
static void child(int ready, bool ends)
{
	struct machine64 m;
	pthread_t thread;
	CHECK(nvmm_init() == 0);
	machine64_create(&m, true);
	load(&m, guest_spin, guest_spin_end);
	reset64(&m);
	CHECK(nvmm_vcpu_run(&m.mach, &m.vcpu) == 0);
	CHECK(pthread_create(&thread, NULL, run_for_ever, &m) == 0);
	usleep(2000);
	CHECK(write(ready, "r", 1) == 1);
	if (ends)
		_exit(7);
	pthread_join(thread, NULL);
}

int main(void)
{
	/* Whether KVM is there is asked in a child: a machine of the parent's would be shared over fork. */
	for (int i = 0; i < ROUNDS; i++) {
		int ready[2], status;
		char byte;
		bool ends = i % 2 == 1;
		CHECK(pipe(ready) == 0);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			if (nvmm_init() != 0)
				_exit(3);
			child(ready[1], ends);
			_exit(1);
		}
		close(ready[1]);
		if (read(ready[0], &byte, 1) == 1 && !ends)
			CHECK(kill(pid, SIGKILL) == 0);
		/* A hang is ended by SIGALRM, and so a failure. */
		alarm(10);
		CHECK(waitpid(pid, &status, 0) == pid);
		alarm(0);
		close(ready[0]);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
			printf("killed: skipped: %s\n", nvmm_init() != 0 ? nvmm_linux_reason() : "no KVM in a child");
			return 0;
		}
		CHECK(ends ? WIFEXITED(status) && WEXITSTATUS(status) == 7
			   : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	printf("killed: %d processes ended in the middle of a run\n", ROUNDS);
	return 0;
}
