/*
 * Copies, compiled without loop idioms and vectorisation, so that each row stays what its name says. Buffers whose
 * distance is 16 MiB share the slots of a direct-mapped TLB, which costs QEMU a factor of ten: those are rows of their
 * own ("aliased"), and the plain ones are a page beside it.
 */
#include "bench.h"

#define FAR (16 * MIB)
#define PAGE (4 * KIB)

void prepare_copy(void)
{
	uint32_t *words = (uint32_t *)arena;
	for (uint32_t i = 0; i < FAR / 4; i += 16)
		words[i] = 2654435761u * i;
}

static uint64_t sample(const unsigned char *at, uint32_t size)
{
	uint64_t sum = 1;
	for (uint32_t i = 0; i < size; i += 4096)
		sum = mix(sum, *(const uint32_t *)(at + i));
	return sum;
}

/* 16 bytes at a time, four in flight, as libraries copy large blocks. `size` is a multiple of 64. */
static __attribute__((noinline)) void copy_sse(unsigned char *to, const unsigned char *from, uint32_t size)
{
	typedef long long vector __attribute__((vector_size(16)));
	for (uint32_t i = 0; i < size; i += 64) {
		const vector *s = (const vector *)(from + i);
		vector *d = (vector *)(to + i);
		vector a = s[0], b = s[1], c = s[2], e = s[3];
		d[0] = a, d[1] = b, d[2] = c, d[3] = e;
	}
}

/* 1 MiB of the 16 each unit. */
static uint64_t memcpy_units(uint32_t units, unsigned char *to)
{
	for (uint32_t unit = 0; unit < units; unit++) {
		uint32_t at = unit % 16 * MIB;
		*(uint32_t *)(arena + at) = unit;
		copy_sse(to + at, arena + at, MIB);
	}
	return sample(to, FAR);
}

uint64_t run_memcpy(uint32_t units)
{
	return memcpy_units(units, arena + FAR + PAGE);
}

uint64_t run_memcpy_aliased(uint32_t units)
{
	return memcpy_units(units, arena + FAR);
}

/* rep movsb of 4 KiB, 64 times each unit. */
static uint64_t repmovs_units(uint32_t units, unsigned char *to)
{
	for (uint32_t unit = 0; unit < units; unit++)
		for (uint32_t i = 0; i < 64; i++) {
			unsigned char *d = to + i * PAGE;
			const unsigned char *s = arena + i * PAGE;
			size_t n = PAGE;
			*(uint32_t *)s = unit;
			__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		}
	return sample(to, MIB);
}

uint64_t run_repmovs(uint32_t units)
{
	return repmovs_units(units, arena + FAR + PAGE);
}

uint64_t run_repmovs_aliased(uint32_t units)
{
	return repmovs_units(units, arena + FAR);
}

/* A plain loop over machine words, 256 KiB four times each unit. */
static __attribute__((noinline)) void copy_words(unsigned long *to, const unsigned long *from, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = from[i];
}

static uint64_t wordcopy_units(uint32_t units, unsigned char *to)
{
	for (uint32_t unit = 0; unit < units; unit++)
		for (uint32_t i = 0; i < 4; i++) {
			*(uint32_t *)(arena + i * PAGE) = unit;
			copy_words((unsigned long *)to, (unsigned long *)arena, 256 * KIB / sizeof(long));
		}
	return sample(to, MIB);
}

uint64_t run_wordcopy(uint32_t units)
{
	return wordcopy_units(units, arena + FAR + PAGE);
}

uint64_t run_wordcopy_aliased(uint32_t units)
{
	return wordcopy_units(units, arena + FAR);
}
