/* The exit trace: what a short guest does is in it, in order; a full file gives way to the next. */
#include "harness.h"

#include <sys/stat.h>

/* out 0x7b, al; in al, 0x7b; mov [0x1000], al; hlt; a port per round, for ever */
static const unsigned char once[] = {0xE6, 0x7B, 0xE4, 0x7B, 0x88, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00, 0xF4};
static const unsigned char forever[] = {0xE6, 0x7B, 0xEB, 0xFC};

/* What must be found, each after the one before. */
static const char *const wanted[] = {
	"\"map\":\"0x2000\",\"size\":\"0x1000\"",
	"\"set\":\"SEGS GPRS CRS DRS MSRS INTR FPU\",\"rip\":\"0x2000\"",
	"\"exit\":\"IO\",\"cs\":\"0x0\",\"rip\":\"0x2000\",\"cpl\":0,\"port\":\"0x7b\",\"in\":false,\"size\":1,\"data\":\"41\"",
	"\"access\":\"out\",\"port\":\"0x7b\",\"data\":\"41\"",
	"\"exit\":\"IO\",\"cs\":\"0x0\",\"rip\":\"0x2002\",\"cpl\":0,\"port\":\"0x7b\",\"in\":true,\"size\":1",
	"\"access\":\"in\",\"port\":\"0x7b\",\"data\":\"5a\"",
	"\"exit\":\"MEMORY\",\"cs\":\"0x0\",\"rip\":\"0x2004\",\"cpl\":0,\"gpa\":\"0x1000\",\"kind\":\"write\",\"size\":1,\"data\":\"5a\"",
	"\"access\":\"write\",\"gpa\":\"0x1000\",\"data\":\"5a\"",
	"\"exit\":\"HALTED\"",
	"\"error\":22,\"reason\":\"the last exit of vCPU 0 is not MEMORY\"",
	"\"inject\":\"EXCP\",\"vector\":6",
	"\"exit\":\"SHUTDOWN\"",
};

static void on_io(struct nvmm_io *io)
{
	io->data[0] = io->in ? 0x5A : io->data[0];
}

static void on_memory(struct nvmm_mem *mem)
{
	(void)mem;
}

static uint64_t step(struct machine64 *m)
{
	do
		CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
	while (m->vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
	if (m->vcpu.exit->reason == NVMM_VCPU_EXIT_IO)
		CHECK(nvmm_assist_io(&m->mach, &m->vcpu) == 0);
	else if (m->vcpu.exit->reason == NVMM_VCPU_EXIT_MEMORY)
		CHECK(nvmm_assist_mem(&m->mach, &m->vcpu) == 0);
	return m->vcpu.exit->reason;
}

static char *read_all(const char *path)
{
	struct stat info;
	CHECK(stat(path, &info) == 0);
	char *text = calloc(1, (size_t)info.st_size + 1);
	FILE *file = fopen(path, "r");
	CHECK(file != NULL && fread(text, 1, (size_t)info.st_size, file) == (size_t)info.st_size);
	fclose(file);
	return text;
}

static void story(struct machine64 *m, const char *path)
{
	reset64(m);
	m->vcpu.state->gprs[NVMM_X64_GPR_RAX] = 0x41;
	while (step(m) != NVMM_VCPU_EXIT_HALTED)
		;
	CHECK(nvmm_assist_mem(&m->mach, &m->vcpu) == -1);
	*m->vcpu.event = (struct nvmm_x86_event){.type = NVMM_VCPU_EVENT_EXCP, .vector = 6};
	CHECK(nvmm_vcpu_inject(&m->mach, &m->vcpu) == 0);
	CHECK(step(m) == NVMM_VCPU_EXIT_SHUTDOWN);
	char *text = read_all(path), *at = text;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		at = strstr(at, wanted[i]);
		if (at == NULL)
			fprintf(stderr, "not in the trace, or not in order: %s\n%s", wanted[i], text);
		CHECK(at != NULL);
	}
	free(text);
}

/* The two files together stay within bounds, and begin with whole lines. */
static void full(struct machine64 *m, const char *path, const char *old)
{
	struct stat info;
	load(m, (const char *)forever, (const char *)forever + sizeof(forever));
	reset64(m);
	for (unsigned i = 0; i < 2000; i++)
		CHECK(step(m) == NVMM_VCPU_EXIT_IO);
	CHECK(stat(path, &info) == 0 && info.st_size <= 100000);
	CHECK(stat(old, &info) == 0 && info.st_size > 100000 && info.st_size < 101000);
	char *text = read_all(old);
	CHECK(strncmp(text, "{\"t\":", 5) == 0 && text[strlen(text) - 1] == '\n');
	free(text);
}

int main(void)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io, .mem = on_memory};
	char path[] = "/tmp/nvmm-trace-XXXXXX", old[sizeof(path) + 4];
	struct machine64 m;
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	close(fd);
	snprintf(old, sizeof(old), "%s.old", path);
	setenv("NVMM_TRACE", path, 1);
	setenv("NVMM_TRACE_BYTES", "100000", 1);
	start("trace");
	machine64_create(&m, false);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	load(&m, (const char *)once, (const char *)once + sizeof(once));
	story(&m, path);
	full(&m, path, old);
	machine64_destroy(&m);
	unlink(path);
	unlink(old);
	printf("trace: a guest's story, and a full file\n");
	return 0;
}
