/* A thousand machines made, run and destroyed leave no descriptor, no mapping and no timer behind. */
#include "harness.h"

#include <dirent.h>

#define ROUNDS 1000
#define WARM_UP 10

static const unsigned char code[] = {0xF4};

static unsigned lines_of(const char *path)
{
	unsigned lines = 0;
	FILE *file = fopen(path, "r");
	CHECK(file != NULL);
	for (int c = getc(file); c != EOF; c = getc(file))
		lines += c == '\n';
	fclose(file);
	return lines;
}

static unsigned descriptors(void)
{
	unsigned count = 0;
	DIR *directory = opendir("/proc/self/fd");
	CHECK(directory != NULL);
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

static void round_of(char *page, bool tidy)
{
	struct nvmm_machine mach;
	struct nvmm_vcpu vcpu;
	memset(&vcpu, 0, sizeof(vcpu));
	CHECK(nvmm_machine_create(&mach) == 0 && nvmm_vcpu_create(&mach, 0, &vcpu) == 0);
	CHECK(nvmm_hva_map(&mach, (uintptr_t)page, PAGE_SIZE) == 0);
	CHECK(nvmm_gpa_map(&mach, (uintptr_t)page, 0xFFFF0000, PAGE_SIZE, PROT_READ | PROT_EXEC) == 0);
	vcpu.state->gprs[NVMM_X64_GPR_RIP] = 0;
	CHECK(nvmm_vcpu_setstate(&mach, &vcpu, NVMM_X64_STATE_GPRS) == 0);
	do
		CHECK(nvmm_vcpu_run(&mach, &vcpu) == 0);
	while (vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
	CHECK(vcpu.exit->reason == NVMM_VCPU_EXIT_HALTED);
	if (tidy)
		CHECK(nvmm_vcpu_destroy(&mach, &vcpu) == 0);
	CHECK(nvmm_machine_destroy(&mach) == 0);
}

int main(void)
{
	unsigned fds = 0, maps = 0;
	start("rounds");
	char *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(page, code, sizeof(code));
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (i == WARM_UP) {
			fds = descriptors();
			maps = lines_of("/proc/self/maps");
		}
		round_of(page, i % 2 == 0);
	}
	CHECK(descriptors() == fds);
	/* The allocator, and more so a sanitizer's, takes and gives back pieces; a leak would be a thousand. */
	CHECK(lines_of("/proc/self/maps") <= maps + 16);
	printf("rounds: %d machines leave nothing behind\n", ROUNDS);
	return 0;
}
