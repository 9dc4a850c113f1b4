/*
 * What the parts of the benchmark share: the rows, and what they need of the world they run in, of which there are
 * two: linux.c (a static program without a libc, which is also /init) and bare.c (ring 0, no operating system).
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

/* A row does `units` units of work, always the same for the same number, and returns a checksum of the results. */
struct row {
	const char *name;
	uint64_t (*run)(uint32_t units);
	/* Units at scale 100: half a second or so on QEMU's translator. */
	uint32_t units;
	/* Prepares what is not measured; bytes of memory that it and run() want. */
	void (*prepare)(void);
	size_t memory;
	/* Needs an operating system. */
	int system;
};

/* The memory of the row that runs, zeroed, on a boundary of 1 MiB. */
extern unsigned char *arena;

/* The world. */
unsigned char *arena_get(size_t size);
void arena_release(unsigned char *memory, size_t size);
void print(const char *text);
/* Returns when everything printed has left the machine. */
void print_flush(void);
/* Sleeps until a byte arrives where people type. */
void await_byte(void);
/* Nanoseconds, or whatever the world counts: only ratios of differences are used. */
uint64_t clock_now(void);
extern const struct row system_rows[];

int bench_main(const char *const *words, int count);

#define KIB 1024u
#define MIB (1024u * 1024u)
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
	sum ^= value;
	sum ^= sum << 13;
	sum ^= sum >> 7;
	return sum ^ sum << 17;
}

/* integer.c, memory.c, float.c (compiled twice) */
uint64_t run_sieve(uint32_t units);
void prepare_crc32(void);
uint64_t run_crc32(uint32_t units);
void prepare_bytes(void);
uint64_t run_sha256(uint32_t units);
uint64_t run_qsort(uint32_t units);
uint64_t run_fib(uint32_t units);
uint64_t run_bytecode(uint32_t units);
uint64_t run_mix64(uint32_t units);
void prepare_chase(void);
uint64_t run_chase(uint32_t units);
uint64_t run_nbody_sse(uint32_t units);
uint64_t run_nbody_x87(uint32_t units);
void prepare_copy(void);
uint64_t run_memcpy(uint32_t units);
uint64_t run_memcpy_aliased(uint32_t units);
uint64_t run_repmovs(uint32_t units);
uint64_t run_repmovs_aliased(uint32_t units);
uint64_t run_wordcopy(uint32_t units);
uint64_t run_wordcopy_aliased(uint32_t units);
uint64_t run_smc(uint32_t units);

#endif
