/*
 * Preloaded into a service and its VMs: makes one chosen call on the files of snapshots fail. FAILING_CALLS names a file
 * of two int32: the number of calls until then (0: none fails; it counts down), and the errno.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int32_t *chosen;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("FAILING_CALLS");
	int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	void *map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	chosen = map == MAP_FAILED ? NULL : map;
}

/* Whether this call is the one. Only what is written for snapshots counts. */
static int fails(const char *path)
{
	if (chosen == NULL || *chosen == 0)
		return 0;
	if (strstr(path, "/snapshots/") == NULL && strstr(path, "/layers/") == NULL && strstr(path, "/state.json") == NULL)
		return 0;
	if (__atomic_sub_fetch(chosen, 1, __ATOMIC_SEQ_CST) != 0)
		return 0;
	errno = chosen[1];
	return 1;
}

static int fails_fd(int fd)
{
	char name[64], path[4096];
	if (chosen == NULL || *chosen == 0)
		return 0;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(name, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return fails(path);
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

static int opened(const char *name, const char *path, int flags, mode_t mode)
{
	if ((flags & O_CREAT) != 0 && fails(path))
		return -1;
	return REAL(name, int (*)(const char *, int, ...))(path, flags, mode);
}

static mode_t mode_of(int flags, va_list more)
{
	return (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = mode_of(flags, more);
	va_end(more);
	return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = mode_of(flags, more);
	va_end(more);
	return opened("open64", path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
	if (fails_fd(fd))
		return -1;
	return REAL("write", ssize_t (*)(int, const void *, size_t))(fd, bytes, size);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
	if (fails_fd(fd))
		return -1;
	return REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t))(fd, bytes, size, at);
}

int ftruncate64(int fd, off64_t size)
{
	if (fails_fd(fd))
		return -1;
	return REAL("ftruncate64", int (*)(int, off64_t))(fd, size);
}

int fsync(int fd)
{
	if (fails_fd(fd))
		return -1;
	return REAL("fsync", int (*)(int))(fd);
}

int mkdir(const char *path, mode_t mode)
{
	if (fails(path))
		return -1;
	return REAL("mkdir", int (*)(const char *, mode_t))(path, mode);
}

int rename(const char *from, const char *to)
{
	if (fails(to))
		return -1;
	return REAL("rename", int (*)(const char *, const char *))(from, to);
}
