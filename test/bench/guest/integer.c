/* The integer rows. */
#include "bench.h"

#define NOINLINE __attribute__((noinline))

/* Primes below 1,000,000: byte stores at growing strides. */
#define SIEVE 1000000u

static NOINLINE uint32_t sieve(unsigned char *composite)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < SIEVE; i++)
		composite[i] = 0;
	for (uint32_t i = 2; i < SIEVE; i++) {
		if (composite[i])
			continue;
		count++;
		for (uint32_t j = 2 * i; j < SIEVE; j += i)
			composite[j] = 1;
	}
	return count;
}

uint64_t run_sieve(uint32_t units)
{
	uint64_t sum = 1;
	while (units--)
		sum = mix(sum, sieve(arena));
	return sum;
}

/* Bytes that look random, 1 MiB. */
void prepare_bytes(void)
{
	uint32_t x = 2463534242u;
	for (uint32_t i = 0; i < MIB; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		arena[i] = (unsigned char)x;
	}
}

/* CRC-32 with a table of 256 words, which lies behind the data: 1 MiB each unit. */
static uint32_t *crc_table(void)
{
	return (uint32_t *)(arena + MIB);
}

void prepare_crc32(void)
{
	prepare_bytes();
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		crc_table()[i] = c;
	}
}

static NOINLINE uint32_t crc32(uint32_t crc, const unsigned char *data, uint32_t size)
{
	const uint32_t *table = crc_table();
	while (size--)
		crc = table[(crc ^ *data++) & 0xff] ^ crc >> 8;
	return crc;
}

uint64_t run_crc32(uint32_t units)
{
	uint32_t crc = ~0u;
	while (units--)
		crc = crc32(crc, arena, MIB);
	return ~crc;
}

/* SHA-256 (FIPS 180-4), a quarter of a MiB each unit. */
static const uint32_t sha_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static NOINLINE void sha256_block(uint32_t h[8], const unsigned char *data)
{
	uint32_t w[64];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 |
		       (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	uint32_t v[8];
	for (int i = 0; i < 8; i++)
		v[i] = h[i];
	uint32_t a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], k = v[7];
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = ror(e, 6) ^ ror(e, 11) ^ ror(e, 25);
		uint32_t t1 = k + s1 + ((e & f) ^ (~e & g)) + sha_constants[i] + w[i];
		uint32_t s0 = ror(a, 2) ^ ror(a, 13) ^ ror(a, 22);
		uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
		k = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += k;
}

uint64_t run_sha256(uint32_t units)
{
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	for (uint32_t unit = 0; unit < units; unit++) {
		const unsigned char *data = arena + (unit & 3) * 256 * KIB;
		for (uint32_t at = 0; at < 256 * KIB; at += 64)
			sha256_block(h, data + at);
	}
	uint64_t sum = 1;
	for (int i = 0; i < 8; i++)
		sum = mix(sum, h[i]);
	return sum;
}

/* Quicksort with a comparison function, as libraries have it: 20,000 words each unit. */
#define SORTED 20000

typedef int (*compare)(const uint32_t *, const uint32_t *);

static NOINLINE int ascending(const uint32_t *a, const uint32_t *b)
{
	return *a < *b ? -1 : *a > *b;
}

static inline void swap(uint32_t *a, uint32_t *b)
{
	uint32_t t = *a;
	*a = *b;
	*b = t;
}

static NOINLINE void quicksort(uint32_t *low, uint32_t *high, compare order)
{
	while (high - low > 8) {
		uint32_t *i = low, *j = high;
		swap(low, low + (high - low) / 2);
		for (;;) {
			while (++i < high && order(i, low) < 0)
				;
			while (order(--j, low) > 0)
				;
			if (i >= j)
				break;
			swap(i, j);
		}
		swap(low, j);
		quicksort(low, j, order);
		low = j + 1;
	}
	for (uint32_t *i = low + 1; i < high; i++)
		for (uint32_t *j = i; j > low && order(j - 1, j) > 0; j--)
			swap(j - 1, j);
}

uint64_t run_qsort(uint32_t units)
{
	uint32_t *words = (uint32_t *)arena, x = 88172645u;
	compare volatile order = ascending;
	uint64_t sum = 1;
	while (units--) {
		for (int i = 0; i < SORTED; i++)
			words[i] = x = 1664525u * x + 1013904223u;
		quicksort(words, words + SORTED, order);
		for (int i = 0; i < SORTED; i += 1000)
			sum = mix(sum, words[i]);
		for (int i = 1; i < SORTED; i++)
			if (words[i - 1] > words[i])
				return 0;
	}
	return sum;
}

/* Recursive calls: 832,040 each unit and a few more. */
static NOINLINE uint32_t fib(uint32_t n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t run_fib(uint32_t units)
{
	uint64_t sum = 1;
	while (units--)
		sum = mix(sum, fib(27));
	return sum;
}

/*
 * An interpreter of a small stack machine with computed gotos: indirect jumps that no branch predictor of an
 * emulator foresees. The program counts the steps of Collatz sequences, those of 500 numbers each unit.
 */
enum { PUSH, LOAD, STORE, ADD, MUL, SHR, ODD, JZ, JMP, SUB, HALT };

static const unsigned char program[] = {
	/*  0 */ LOAD, 0, JZ, 38, /* for (n = limit; n; n--) */
	/*  4 */ LOAD, 0, STORE, 1, /* x = n */
	/*  8 */ LOAD, 1, PUSH, 1, SUB, JZ, 29, /* while (x != 1) */
	/* 15 */ LOAD, 2, PUSH, 1, ADD, STORE, 2, /* steps++ */
	/* 22 */ LOAD, 1, ODD, JZ, 39, JMP, 46, /* x is even: 39, odd: 46 */
	/* 29 */ LOAD, 0, PUSH, 1, SUB, STORE, 0, /* n-- */
	/* 36 */ JMP, 0,
	/* 38 */ HALT,
	/* 39 */ LOAD, 1, SHR, STORE, 1, JMP, 8, /* x /= 2 */
	/* 46 */ LOAD, 1, PUSH, 3, MUL, PUSH, 1, ADD, STORE, 1, JMP, 8, /* x = 3x + 1 */
};

static NOINLINE uint32_t interpret(const unsigned char *code, uint32_t limit)
{
	static const void *const labels[] = { &&push, &&load, &&store, &&add, &&mul, &&shr,
					      &&odd,  &&jz,   &&jmp,   &&sub, &&halt };
	uint32_t variables[4] = { limit, 0, 0, 0 }, stack[8], *top = stack;
	const unsigned char *pc = code;
#define NEXT goto *labels[*pc++]
	NEXT;
push:
	*top++ = *pc++;
	NEXT;
load:
	*top++ = variables[*pc++];
	NEXT;
store:
	variables[*pc++] = *--top;
	NEXT;
add:
	top--;
	top[-1] += top[0];
	NEXT;
sub:
	top--;
	top[-1] -= top[0];
	NEXT;
mul:
	top--;
	top[-1] *= top[0];
	NEXT;
shr:
	top[-1] >>= 1;
	NEXT;
odd:
	top[-1] &= 1;
	NEXT;
jz:
	pc = *--top ? pc + 1 : code + *pc;
	NEXT;
jmp:
	pc = code + *pc;
	NEXT;
halt:
	return variables[2];
}

uint64_t run_bytecode(uint32_t units)
{
	uint64_t sum = 1;
	for (uint32_t unit = 0; unit < units; unit++)
		sum = mix(sum, interpret(program, 500 + unit % 7));
	return sum;
}

/* Shifts, products and quotients of 64 bits: 100,000 rounds each unit. */
uint64_t run_mix64(uint32_t units)
{
	uint64_t x = 88172645463325252u, sum = 1;
	while (units--)
		for (int i = 0; i < 100000; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			sum += x * 0x9e3779b97f4a7c15u;
			if ((i & 15) == 0)
				sum ^= x / (sum | 1 << 20);
		}
	return sum;
}

/* A walk through 8 MiB in random order, one cache line each step: 100,000 steps each unit. */
#define NODES (8 * MIB / 64)

static uint32_t *node(uint32_t i)
{
	return (uint32_t *)(arena + 64 * (size_t)i);
}

void prepare_chase(void)
{
	uint32_t *order = (uint32_t *)(arena + 8 * MIB), x = 123456789u;
	for (uint32_t i = 0; i < NODES; i++)
		order[i] = i;
	/* One cycle through all of them (Sattolo's shuffle). */
	for (uint32_t i = NODES - 1; i > 0; i--) {
		x = 1664525u * x + 1013904223u;
		swap(&order[i], &order[(uint32_t)((uint64_t)x * i >> 32)]);
	}
	for (uint32_t i = 0; i < NODES; i++)
		*node(i) = 64 * order[i];
}

uint64_t run_chase(uint32_t units)
{
	uint32_t at = 0;
	while (units--)
		for (int i = 0; i < 100000; i++)
			at = *(const uint32_t *)(arena + at);
	return at;
}

/* Code that is changed before each call: 1,000 times each unit. */
uint64_t run_smc(uint32_t units)
{
	/* mov eax, imm32; ret */
	unsigned char *code = arena;
	code[0] = 0xb8;
	code[5] = 0xc3;
	uint32_t (*volatile call)(void) = (uint32_t(*)(void))(uintptr_t)code;
	uint64_t sum = 1;
	for (uint32_t unit = 0; unit < units; unit++)
		for (uint32_t i = 0; i < 1000; i++) {
			*(volatile uint32_t *)(code + 1) = 1000 * unit + i;
			sum += call() ^ sum << 1;
		}
	return sum;
}
