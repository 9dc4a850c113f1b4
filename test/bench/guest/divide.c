/* Division of 64 bits for i386, which compilers call: the library that has it isn't everywhere. */
#include <stdint.h>

static inline uint32_t divide_step(uint32_t *high, uint32_t low, uint32_t by)
{
	uint32_t quotient;
	__asm__("divl %4" : "=a"(quotient), "=d"(*high) : "a"(low), "d"(*high), "r"(by) : "cc");
	return quotient;
}

uint64_t __udivdi3(uint64_t n, uint64_t by)
{
	uint32_t rest;
	if (by >> 32 == 0) {
		rest = 0;
		uint32_t high = divide_step(&rest, (uint32_t)(n >> 32), (uint32_t)by);
		uint32_t low = divide_step(&rest, (uint32_t)n, (uint32_t)by);
		return (uint64_t)high << 32 | low;
	}
	/* An estimate from the leading 32 bits of the divisor, at most one too large. */
	int shift = __builtin_clz((uint32_t)(by >> 32));
	rest = (uint32_t)(n >> 33);
	uint64_t quotient = divide_step(&rest, (uint32_t)(n >> 1), (uint32_t)(by << shift >> 32));
	quotient = quotient << shift >> 31;
	if (quotient)
		quotient--;
	return n - quotient * by >= by ? quotient + 1 : quotient;
}

uint64_t __umoddi3(uint64_t n, uint64_t by)
{
	return n - __udivdi3(n, by) * by;
}
