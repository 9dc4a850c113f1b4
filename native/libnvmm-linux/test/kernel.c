/*
 * A small kernel with interrupt handlers: injection of interrupts, NMIs and exceptions, from the thread that runs the
 * guest and from another; windows; stopping a guest that spins.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>

GUEST(handlers) GUEST(spin)

#define ROUNDS 200

static char ports[8192];
static atomic_uint port_count;
static uint32_t error_code;

static void on_io(struct nvmm_io *io)
{
	CHECK(port_count < sizeof(ports));
	ports[port_count] = (char)('0' + io->port);
	if (io->port == 4)
		memcpy(&error_code, io->data, 4);
	atomic_fetch_add(&port_count, 1);
}

static void gate(uint64_t *idt, unsigned vector, uint64_t handler)
{
	idt[2 * vector] = (handler & 0xFFFF) | 8ULL << 16 | 0x8EULL << 40 | (handler >> 16 & 0xFFFF) << 48;
	idt[2 * vector + 1] = handler >> 32;
}

/* GDT at 0x1000, IDT at 0x1100, stack below 0x1800, all in the data page. */
static void boot(struct machine64 *m)
{
	uint64_t *gdt = (uint64_t *)(void *)m->pages, *idt = (uint64_t *)(void *)(m->pages + 0x100);
	struct nvmm_x64_state *s = m->vcpu.state;
	memset(m->pages, 0, PAGE_SIZE);
	gdt[1] = 0x00AF9B000000FFFF;
	gate(idt, 32, 0x2040);
	gate(idt, 2, 0x2080);
	gate(idt, 13, 0x20C0);
	gate(idt, 6, 0x2100);
	load(m, guest_handlers, guest_handlers_end);
	reset64(m);
	s->segs[NVMM_X64_SEG_CS].selector = 8;
	s->segs[NVMM_X64_SEG_GDT].base = 0x1000;
	s->segs[NVMM_X64_SEG_GDT].limit = 0xFF;
	s->segs[NVMM_X64_SEG_IDT].base = 0x1100;
	s->segs[NVMM_X64_SEG_IDT].limit = 33 * 16 - 1;
	s->gprs[NVMM_X64_GPR_RSP] = 0x1800;
	port_count = 0;
}

static void step(struct machine64 *m)
{
	CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
	if (m->vcpu.exit->reason == NVMM_VCPU_EXIT_IO)
		CHECK(nvmm_assist_io(&m->mach, &m->vcpu) == 0);
}

static void until_port(struct machine64 *m, char port)
{
	unsigned before = port_count;
	for (unsigned guard = 0; guard < 1000 && port_count == before; guard++)
		step(m);
	if (port_count != before + 1 || ports[before] != port)
		fprintf(stderr, "port %c, not %c; exit 0x%llx\n", port_count > before ? ports[before] : 0x2D, port,
			(unsigned long long)m->vcpu.exit->reason);
	CHECK(port_count == before + 1 && ports[before] == port);
}

static void inject(struct machine64 *m, unsigned type, uint8_t vector, uint64_t error)
{
	*m->vcpu.event = (struct nvmm_x86_event){.type = type, .vector = vector, .u.excp.error = error};
	CHECK(nvmm_vcpu_inject(&m->mach, &m->vcpu) == 0);
}

static void injection(struct machine64 *m)
{
	struct nvmm_vcpu_exit *last = m->vcpu.exit;
	boot(m);
	until_port(m, '1');
	do
		step(m);
	while (last->reason == NVMM_VCPU_EXIT_NONE && (last->exitstate.rflags & 0x200) == 0);
	inject(m, NVMM_VCPU_EVENT_INTR, 32, 0);
	until_port(m, '2');
	inject(m, NVMM_VCPU_EVENT_EXCP, 13, 0x1238);
	until_port(m, '4');
	CHECK(error_code == 0x1238);
	inject(m, NVMM_VCPU_EVENT_EXCP, 6, 0);
	until_port(m, '5');
	inject(m, NVMM_VCPU_EVENT_INTR, 2, 0);
	until_port(m, '3');
	CHECK(last->exitstate.nmi_window_exiting);
	do
		step(m);
	while (last->reason == NVMM_VCPU_EXIT_NONE);
	CHECK(last->reason == NVMM_VCPU_EXIT_NMI_READY && !last->exitstate.nmi_window_exiting);
	inject(m, NVMM_VCPU_EVENT_INTR, 32, 0);
	until_port(m, '2');
	/* In the handler interrupts are off: the window opens at its IRET. */
	CHECK((last->exitstate.rflags & 0x200) == 0);
	CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, NVMM_X64_STATE_INTR) == 0);
	m->vcpu.state->intr.int_window_exiting = 1;
	CHECK(nvmm_vcpu_setstate(&m->mach, &m->vcpu, NVMM_X64_STATE_INTR) == 0);
	do
		step(m);
	while (last->reason == NVMM_VCPU_EXIT_NONE);
	CHECK(last->reason == NVMM_VCPU_EXIT_INT_READY && (last->exitstate.rflags & 0x200) != 0);
	CHECK(!last->exitstate.int_window_exiting);
	static const uint8_t refused[] = {0, 2, 3, 32, 255};
	for (size_t i = 0; i < sizeof(refused); i++) {
		inject(m, NVMM_VCPU_EVENT_EXCP, refused[i], 0);
		CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == -1 && errno == EINVAL);
	}
	inject(m, NVMM_VCPU_EVENT_INTR, 32, 0);
	until_port(m, '2');
}

struct runner {
	struct machine64 *m;
	atomic_bool done;
	atomic_uint stops;
};

static void *run_until_done(void *argument)
{
	struct runner *r = argument;
	while (!atomic_load(&r->done)) {
		CHECK(nvmm_vcpu_run(&r->m->mach, &r->m->vcpu) == 0);
		uint64_t reason = r->m->vcpu.exit->reason;
		CHECK(reason == NVMM_VCPU_EXIT_NONE || reason == NVMM_VCPU_EXIT_STOPPED || reason == NVMM_VCPU_EXIT_IO);
		if (reason == NVMM_VCPU_EXIT_IO)
			CHECK(nvmm_assist_io(&r->m->mach, &r->m->vcpu) == 0);
		if (reason == NVMM_VCPU_EXIT_STOPPED)
			atomic_fetch_add(&r->stops, 1);
	}
	return NULL;
}

/* No stop is lost, whether it comes while the guest runs, before, or between. */
static void stopping(struct machine64 *m)
{
	struct runner r = {.m = m};
	pthread_t thread;
	boot(m);
	CHECK(pthread_create(&thread, NULL, run_until_done, &r) == 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned before = atomic_load(&r.stops);
		CHECK(nvmm_vcpu_stop(&m->vcpu) == 0);
		while (atomic_load(&r.stops) == before)
			usleep(20);
		usleep(i % 7 * 100);
	}
	atomic_store(&r.done, true);
	CHECK(nvmm_vcpu_stop(&m->vcpu) == 0);
	pthread_join(thread, NULL);
	CHECK(nvmm_vcpu_stop(&m->vcpu) == 0);
	CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0 && m->vcpu.exit->reason == NVMM_VCPU_EXIT_STOPPED);
}

/* toyvirt's way: the event is written and injected by another thread; the guest must come to it by itself. */
static void from_outside(struct machine64 *m)
{
	struct runner r = {.m = m};
	pthread_t thread;
	boot(m);
	until_port(m, '1');
	CHECK(pthread_create(&thread, NULL, run_until_done, &r) == 0);
	for (unsigned i = 0; i < 20; i++) {
		unsigned before = atomic_load(&port_count);
		inject(m, NVMM_VCPU_EVENT_EXCP, 6, 0);
		while (atomic_load(&port_count) == before)
			usleep(100);
	}
	atomic_store(&r.done, true);
	CHECK(nvmm_vcpu_stop(&m->vcpu) == 0);
	pthread_join(thread, NULL);
	CHECK(port_count == 21);
}

static void *stop_until_done(void *argument)
{
	struct runner *r = argument;
	for (unsigned i = 0; !atomic_load(&r->done); i++) {
		CHECK(nvmm_vcpu_stop(&r->m->vcpu) == 0);
		usleep(i % 5 * 10);
	}
	return NULL;
}

/* An interrupt is delivered once, although stops come before, in and after its delivery, and all state is set again. */
static void once(struct machine64 *m)
{
	const uint64_t parts = NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS;
	struct runner r = {.m = m};
	pthread_t thread;
	boot(m);
	until_port(m, '1');
	CHECK(pthread_create(&thread, NULL, stop_until_done, &r) == 0);
	for (unsigned i = 0; i < 10 * ROUNDS; i++) {
		do
			step(m);
		while ((m->vcpu.exit->exitstate.rflags & 0x200) == 0);
		unsigned before = port_count;
		inject(m, NVMM_VCPU_EVENT_INTR, 32, 0);
		while (port_count == before)
			step(m);
		CHECK(port_count == i + 2 && ports[i + 1] == '2');
		CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, parts) == 0);
		CHECK(nvmm_vcpu_setstate(&m->mach, &m->vcpu, parts) == 0);
	}
	atomic_store(&r.done, true);
	pthread_join(thread, NULL);
}

static void *run_to_error(void *argument)
{
	struct machine64 *m = argument;
	while (nvmm_vcpu_run(&m->mach, &m->vcpu) == 0)
		;
	CHECK(errno == ENOENT);
	return NULL;
}

/* A vCPU that is destroyed while it runs ends with an error. */
static void destroyed_in_run(void)
{
	for (unsigned i = 0; i < 20; i++) {
		struct machine64 m;
		pthread_t thread;
		machine64_create(&m, true);
		boot(&m);
		load(&m, guest_spin, guest_spin_end);
		CHECK(pthread_create(&thread, NULL, run_to_error, &m) == 0);
		usleep(i * 200);
		CHECK(nvmm_machine_destroy(&m.mach) == 0);
		pthread_join(thread, NULL);
		munmap(m.pages, 6 * PAGE_SIZE);
	}
}

int main(void)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io};
	struct machine64 m;
	start("kernel");
	machine64_create(&m, true);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	injection(&m);
	stopping(&m);
	once(&m);
	machine64_destroy(&m);
	machine64_create(&m, true);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	from_outside(&m);
	machine64_destroy(&m);
	destroyed_in_run();
	printf("kernel: injection, windows, %d stops, another thread's events, destruction in a run\n", ROUNDS);
	return 0;
}
