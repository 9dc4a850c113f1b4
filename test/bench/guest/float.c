/* Five bodies under gravity, in double precision. Compiled twice: RUN is run_nbody_sse and run_nbody_x87. */
#include "bench.h"

#define BODIES 5

struct body {
	double at[3], speed[3], mass;
};

static const struct body start[BODIES] = {
	{ { 0, 0, 0 }, { 0, 0, 0 }, 40 },
	{ { 5, -1, 0.125 }, { 0.5, 2.75, -0.03125 }, 0.04 },
	{ { 8, 4, -0.25 }, { -1, 1.875, 0.0625 }, 0.0125 },
	{ { -12, 15, -0.375 }, { -1, -0.875, 0.03125 }, 0.0018 },
	{ { 15, -25, 0.1875 }, { 1, 0.5625, -0.0625 }, 0.002 },
};

static __attribute__((noinline)) void advance(struct body *bodies, double step)
{
	for (int i = 0; i < BODIES; i++) {
		struct body *a = &bodies[i];
		for (int j = i + 1; j < BODIES; j++) {
			struct body *b = &bodies[j];
			double x = a->at[0] - b->at[0], y = a->at[1] - b->at[1], z = a->at[2] - b->at[2];
			double square = x * x + y * y + z * z;
			double pull = step / (square * __builtin_sqrt(square));
			double of_a = b->mass * pull, of_b = a->mass * pull;
			a->speed[0] -= x * of_a, a->speed[1] -= y * of_a, a->speed[2] -= z * of_a;
			b->speed[0] += x * of_b, b->speed[1] += y * of_b, b->speed[2] += z * of_b;
		}
	}
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			bodies[i].at[k] += step * bodies[i].speed[k];
}

/* 1,000 steps each unit. */
uint64_t RUN(uint32_t units)
{
	struct body bodies[BODIES];
	for (int i = 0; i < BODIES; i++)
		bodies[i] = start[i];
	while (units--)
		for (int i = 0; i < 1000; i++)
			advance(bodies, 0.001);
	uint64_t sum = 1;
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++) {
			union {
				double number;
				uint64_t bits;
			} value = { .number = bodies[i].at[k] };
			sum = mix(sum, value.bits);
		}
	return sum;
}
