/* The twelve cases of libnvmm's own test of the I/O assist, and two more. */
#include "harness.h"

GUEST(inb) GUEST(inw) GUEST(inl) GUEST(rep_insb) GUEST(rep_insw) GUEST(rep_insl)
GUEST(outb) GUEST(outw) GUEST(outl) GUEST(rep_outsb) GUEST(rep_outsw) GUEST(rep_outsl)
GUEST(backwards) GUEST(outs_twice)

#define CASE(name, text, in) {#name, guest_##name, guest_##name##_end, text, in}

static const struct {
	const char *name, *code, *end, *text;
	bool in;
} cases[] = {
	CASE(inb, "12", true),
	CASE(inw, "1234", true),
	CASE(inl, "12345678", true),
	CASE(rep_insb, "12345", true),
	CASE(rep_insw, "Comment est votre blanquette", true),
	CASE(rep_insl, "123456789abcdefghijklmnopqrs", true),
	CASE(outb, "12", false),
	CASE(outw, "1234", false),
	CASE(outl, "12345678", false),
	CASE(rep_outsb, "12345", false),
	CASE(rep_outsw, "Ah, Herr Bramard", false),
	CASE(rep_outsl, "123456789abcdefghijklmnopqrs", false),
};

static char stream[64];
static size_t position;

static void on_io(struct nvmm_io *io)
{
	CHECK(io->port == 123 && position + io->size <= sizeof(stream));
	if (io->in)
		memcpy(io->data, stream + position, io->size);
	else
		memcpy(stream + position, io->data, io->size);
	position += io->size;
}

static void on_mem(struct nvmm_mem *mem)
{
	fprintf(stderr, "unexpected access to 0x%llx\n", (unsigned long long)mem->gpa);
	exit(1);
}

static void begin(struct machine64 *m, const char *code, const char *end)
{
	position = 0;
	memset(stream, 0, sizeof(stream));
	memset(m->pages, 0, PAGE_SIZE);
	reset64(m);
	load(m, code, end);
}

static void both_ways(struct machine64 *m)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text = cases[i].text;
		begin(m, cases[i].code, cases[i].end);
		strcpy(cases[i].in ? stream : m->pages, text);
		run_to_end(&m->mach, &m->vcpu);
		if (strcmp(cases[i].in ? m->pages : stream, text) == 0 && position == strlen(text))
			continue;
		fprintf(stderr, "%s: \"%.40s\" instead of \"%s\"\n", cases[i].name, cases[i].in ? m->pages : stream, text);
		exit(1);
	}
}

/* At each exit RIP is at the instruction and npc behind it, also where the same OUT follows. */
static void addresses(struct machine64 *m)
{
	begin(m, guest_outs_twice, guest_outs_twice_end);
	for (uint64_t at = 0x2006; at < 0x2009; at++) {
		do
			CHECK(nvmm_vcpu_run(&m->mach, &m->vcpu) == 0);
		while (m->vcpu.exit->reason == NVMM_VCPU_EXIT_NONE);
		CHECK(m->vcpu.exit->reason == NVMM_VCPU_EXIT_IO);
		CHECK(m->vcpu.state->gprs[NVMM_X64_GPR_RIP] == at && m->vcpu.exit->u.io.npc == at + 1);
		CHECK(nvmm_assist_io(&m->mach, &m->vcpu) == 0);
		CHECK(m->vcpu.state->gprs[NVMM_X64_GPR_RIP] == at + 1);
	}
	run_to_end(&m->mach, &m->vcpu);
}

static void backwards(struct machine64 *m)
{
	begin(m, guest_backwards, guest_backwards_end);
	strcpy(m->pages, "4321");
	run_to_end(&m->mach, &m->vcpu);
	CHECK(strcmp(stream, "1234") == 0);
	CHECK(nvmm_vcpu_getstate(&m->mach, &m->vcpu, NVMM_X64_STATE_GPRS) == 0);
	CHECK(m->vcpu.state->gprs[NVMM_X64_GPR_RSI] == 0xFFF);
}

int main(void)
{
	struct nvmm_assist_callbacks callbacks = {.io = on_io, .mem = on_mem};
	struct machine64 m;
	start("io_assist");
	machine64_create(&m, true);
	CHECK(nvmm_vcpu_configure(&m.mach, &m.vcpu, NVMM_VCPU_CONF_CALLBACKS, &callbacks) == 0);
	both_ways(&m);
	addresses(&m);
	backwards(&m);
	CHECK(nvmm_assist_io(&m.mach, &m.vcpu) == -1 && errno == EINVAL);
	machine64_destroy(&m);
	printf("io_assist: %zu cases, addresses, direction\n", sizeof(cases) / sizeof(cases[0]));
	return 0;
}
