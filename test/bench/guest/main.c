/*
 * The benchmark: goes through the rows and prints, for each repetition,
 *
 *   BENCH row start
 *   BENCH row done UNITS CHECKSUM CLOCK
 *
 * Whoever reads it measures the time between the two lines. Words of the command line:
 *
 *   rows=sieve,crc32   only these (default: all)
 *   scale=100          percent of each row's usual number of units; at least one is done
 *   repeat=1           repetitions of each row
 *   ack=0              1: after each of the two lines, go on only when a byte has arrived
 */
#include "bench.h"

static const struct row rows[] = {
	{ "sieve", run_sieve, 70, NULL, MIB, 0 },
	{ "crc32", run_crc32, 110, prepare_crc32, MIB + 4 * KIB, 0 },
	{ "sha256", run_sha256, 120, prepare_bytes, MIB, 0 },
	{ "qsort", run_qsort, 70, NULL, MIB, 0 },
	{ "fib", run_fib, 100, NULL, 0, 0 },
	{ "bytecode", run_bytecode, 100, NULL, 0, 0 },
	{ "mix64", run_mix64, 600, NULL, 0, 0 },
	{ "chase", run_chase, 40, prepare_chase, 9 * MIB, 0 },
	{ "nbody-sse", run_nbody_sse, 100, NULL, 0, 0 },
	{ "nbody-x87", run_nbody_x87, 50, NULL, 0, 0 },
	{ "memcpy", run_memcpy, 1000, prepare_copy, 34 * MIB, 0 },
	{ "repmovs", run_repmovs, 1500, prepare_copy, 34 * MIB, 0 },
	{ "wordcopy", run_wordcopy, 700, prepare_copy, 34 * MIB, 0 },
	{ "memcpy-aliased", run_memcpy_aliased, 160, prepare_copy, 34 * MIB, 0 },
	{ "repmovs-aliased", run_repmovs_aliased, 100, prepare_copy, 34 * MIB, 0 },
	{ "wordcopy-aliased", run_wordcopy_aliased, 70, prepare_copy, 34 * MIB, 0 },
	{ "smc", run_smc, 100, NULL, MIB, 0 },
};

unsigned char *arena;

static size_t length(const char *text)
{
	size_t n = 0;
	while (text[n])
		n++;
	return n;
}

static char *put(char *at, const char *text)
{
	while (*text)
		*at++ = *text++;
	return at;
}

static char *put_number(char *at, uint64_t value, unsigned base)
{
	char digits[24];
	int n = 0;
	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		*at++ = digits[--n];
	return at;
}

/* The value of `name=value`, or NULL. */
static const char *value_of(const char *word, const char *name)
{
	while (*name)
		if (*word++ != *name++)
			return NULL;
	return *word == '=' ? word + 1 : NULL;
}

static uint32_t number_of(const char *digits)
{
	uint32_t value = 0;
	for (; *digits >= '0' && *digits <= '9'; digits++)
		value = 10 * value + (uint32_t)(*digits - '0');
	return value;
}

static int listed(const char *name, const char *list)
{
	size_t size = length(name);
	while (list) {
		size_t n = 0;
		while (n < size && list[n] == name[n])
			n++;
		if (n == size && (list[n] == 0 || list[n] == ','))
			return 1;
		while (*list && *list != ',')
			list++;
		list = *list ? list + 1 : NULL;
	}
	return 0;
}

/* Prints a line; whoever measures may look around before it is answered. */
static void say(const char *line, uint32_t ack)
{
	print(line);
	print_flush();
	if (ack)
		await_byte();
}

static void run_row(const struct row *row, uint32_t scale, uint32_t repeat, uint32_t ack)
{
	uint32_t units = (uint32_t)((uint64_t)row->units * scale / 100);
	if (units == 0)
		units = 1;
	arena = row->memory ? arena_get(row->memory) : NULL;
	if (row->prepare)
		row->prepare();
	for (; repeat; repeat--) {
		char line[160], *at = put(put(put(line, "BENCH "), row->name), " start\n");
		*at = 0;
		say(line, ack);
		uint64_t from = clock_now();
		uint64_t sum = row->run(units);
		uint64_t time = clock_now() - from;
		at = put(put(put(line, "BENCH "), row->name), " done ");
		at = put(put_number(at, units, 10), " ");
		at = put(put_number(at, sum, 16), " ");
		at = put(put_number(at, time, 10), "\n");
		*at = 0;
		say(line, ack);
	}
	if (row->memory)
		arena_release(arena, row->memory);
}

int bench_main(const char *const *words, int count)
{
	const char *only = NULL, *value;
	uint32_t scale = 100, repeat = 1, ack = 0;
	for (int i = 0; i < count; i++) {
		if ((value = value_of(words[i], "rows")))
			only = value;
		if ((value = value_of(words[i], "scale")))
			scale = number_of(value);
		if ((value = value_of(words[i], "repeat")))
			repeat = number_of(value);
		if ((value = value_of(words[i], "ack")))
			ack = number_of(value);
	}
	print("BENCH begin\n");
	print_flush();
	for (size_t i = 0; i < COUNT(rows); i++)
		if (only == NULL || listed(rows[i].name, only))
			run_row(&rows[i], scale, repeat, ack);
	for (const struct row *row = system_rows; row->name; row++)
		if (only == NULL || listed(row->name, only))
			run_row(row, scale, repeat, ack);
	print("BENCH end\n");
	print_flush();
	return 0;
}

/* What the compiler calls of its own accord. */
void *memcpy(void *to, const void *from, size_t size)
{
	unsigned char *d = to;
	const unsigned char *s = from;
	while (size--)
		*d++ = *s++;
	return to;
}

void *memset(void *at, int value, size_t size)
{
	unsigned char *d = at;
	while (size--)
		*d++ = (unsigned char)value;
	return at;
}
