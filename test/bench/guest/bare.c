/* The world without an operating system: ring 0, the first serial port, the time-stamp counter. */
#include "bench.h"

#define COM1 0x3f8
#define INTERRUPT_ENABLE (COM1 + 1)
#define MODEM_CONTROL (COM1 + 4)
#define LINE_STATUS (COM1 + 5)
#define DATA_READY 1
#define TRANSMITTER_EMPTY 0x20
#define ALL_SENT 0x40
/* PM1a control of the chip set that QEMU and Vitrine have: SLP_EN with the sleep type of "off", 0 and 5. */
#define PM_CONTROL 0x604
#define POWER_OFF_QEMU 0x2000
#define POWER_OFF_VITRINE 0x3400

#define WORDS 16

const struct row system_rows[] = { { .name = NULL } };

static unsigned char memory[34 * MIB] __attribute__((aligned(1 << 20)));

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

unsigned char *arena_get(size_t size)
{
	uint32_t *words = (uint32_t *)memory;
	for (size_t i = 0; i < size / 4; i++)
		words[i] = 0;
	return memory;
}

void arena_release(unsigned char *at, size_t size)
{
	(void)at;
	(void)size;
}

/* The serial port's interrupt, IRQ 4, at vector 0x24; boot.S has the handler, which does nothing. */
#define VECTOR 0x24

extern char interrupt[];

static void enable_interrupt(void)
{
	static struct gate {
		uint16_t low, selector, type, high;
#ifdef __x86_64__
		uint32_t top, reserved;
#endif
	} gates[VECTOR + 1];
	static struct __attribute__((packed)) {
		uint16_t limit;
		uintptr_t base;
	} pointer = { sizeof gates - 1, (uintptr_t)gates };
	uintptr_t entry = (uintptr_t)interrupt;
	gates[VECTOR].low = (uint16_t)entry;
	gates[VECTOR].selector = 8;
	gates[VECTOR].type = 0x8e00;
	gates[VECTOR].high = (uint16_t)(entry >> 16);
	__asm__ volatile("lidt %0" : : "m"(pointer));
	/* The first interrupt controller: edge-triggered, at vector 0x20, a second one on line 2; line 4 is open. */
	out8(0x20, 0x11);
	out8(0x21, 0x20);
	out8(0x21, 1 << 2);
	out8(0x21, 1);
	out8(0x21, 0xff ^ 1 << 4);
	out8(0xa1, 0xff);
	/* DTR, RTS, OUT2 (which lets interrupts out); received data interrupts. */
	out8(MODEM_CONTROL, 0x0b);
	out8(INTERRUPT_ENABLE, 1);
}

void await_byte(void)
{
	while (!(in8(LINE_STATUS) & DATA_READY))
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	in8(COM1);
}

void print(const char *text)
{
	for (; *text; text++) {
		while (!(in8(LINE_STATUS) & TRANSMITTER_EMPTY))
			;
		out8(COM1, (uint8_t)*text);
	}
}

void print_flush(void)
{
	while (!(in8(LINE_STATUS) & ALL_SENT))
		;
}

uint64_t clock_now(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

void bare_main(const uint32_t *information)
{
	static char line[1024];
	const char *words[WORDS];
	int count = 0;
	/* Flag 2 of the Multiboot Specification: the command line. */
	if (information[0] & 4) {
		const char *from = (const char *)(uintptr_t)information[4];
		size_t n = 0;
		for (; from[n] && n < sizeof line - 1; n++)
			line[n] = from[n] == ' ' ? 0 : from[n];
		for (size_t i = 0; i < n && count < WORDS; i++)
			if (line[i] && (i == 0 || line[i - 1] == 0))
				words[count++] = line + i;
	}
	enable_interrupt();
	bench_main(words, count);
	__asm__ volatile("outw %w0, %w1" : : "a"(POWER_OFF_QEMU), "Nd"(PM_CONTROL));
	__asm__ volatile("outw %w0, %w1" : : "a"(POWER_OFF_VITRINE), "Nd"(PM_CONTROL));
}
