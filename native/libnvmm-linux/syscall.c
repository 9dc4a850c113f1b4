/*
 * SYSCALL on a KVM without hardware support. It runs 64-bit ring 3 on the processor itself, and takes SYSCALL there to
 * LSTAR with RCX, R11 and RFLAGS as they should be, but leaves CS and SS: the guest is at its kernel's entry in ring 3,
 * and gets a page fault for that, if the page is the kernel's. So the handler of page faults is watched, by KVM's
 * breakpoints for debuggers, and a fault that is such a SYSCALL becomes one. Where the entry's page is open to ring 3,
 * nothing can be seen, nor mended.
 */
#include "internal.h"

#include <cpuid.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define EFER_SCE 1ULL
#define MSR_STAR 0xC0000081
#define MSR_LSTAR 0xC0000082
#define MSR_SFMASK 0xC0000084
#define PF 14
#define PF_USER 4

/* Whether the processor shows us no virtualization of its own: then KVM has none to use. */
bool is_software(void)
{
	unsigned a, b, c = 0, d;
	bool vmx = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1U << 5)) != 0;
	bool svm = __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & (1U << 2)) != 0;
	return !vmx && !svm;
}

/* A gate of 64-bit mode. It is looked for before the guest runs, when its memory may have gone: nothing here faults. */
static bool read_gate(struct vcpu *v, gvaddr_t linear, uint32_t gate[4])
{
	struct kvm_translation where = {.linear_address = linear};
	/* KVM walks by the state that it has. What it refuses, it refuses in the run, too. */
	if ((v->run->kvm_dirty_regs & KVM_SYNC_X86_SREGS) != 0 && ioctl(v->fd, KVM_SET_SREGS, &v->run->s.regs.sregs) == 0)
		v->run->kvm_dirty_regs &= ~(__u64)KVM_SYNC_X86_SREGS;
	if ((linear & 15) != 0 || ioctl(v->fd, KVM_TRANSLATE, &where) != 0 || where.valid == 0)
		return false;
	pthread_rwlock_rdlock(&v->machine->lock);
	const struct area *area = area_at(v->machine, where.physical_address);
	uintptr_t host = area != NULL ? area->hva + (where.physical_address - area->gpa) : 0;
	pthread_rwlock_unlock(&v->machine->lock);
	struct iovec to = {gate, 16}, from = {(void *)host, 16};
	return host != 0 && process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 16;
}

/*
 * Where to watch: linear address of the handler of page faults; 0 where there is nothing to mend. It is found again when
 * the IDT is another one, and with every time slice, since kernels write gates without a word.
 */
gvaddr_t syscall_watch(struct vcpu *v)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	struct syscall_gate *known = &v->gate;
	uint32_t gate[4];
	if (!library.software || (s->efer & EFER_SCE) == 0 || (s->efer & EFER_LMA) == 0)
		return 0;
	if (known->fresh && known->idt == s->idt.base)
		return known->handler;
	known->fresh = true;
	known->idt = s->idt.base;
	known->handler = 0;
	if (PF * 16 + 15 <= s->idt.limit && read_gate(v, s->idt.base + PF * 16, gate) && (gate[1] & 0x8000) != 0)
		known->handler = (gate[0] & 0xFFFF) | (gate[1] & 0xFFFF0000) | (gvaddr_t)gate[2] << 32;
	return known->handler;
}

struct frame {
	uint64_t error, rip, cs, rflags, rsp, ss;
};

static bool read_msrs(struct vcpu *v, uint64_t *star, uint64_t *lstar, uint64_t *sfmask)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[3];
	} get = {.header = {.nmsrs = 3},
		 .entries = {{.index = MSR_STAR}, {.index = MSR_LSTAR}, {.index = MSR_SFMASK}}};
	if (ioctl(v->fd, KVM_GET_MSRS, &get) != 3)
		return false;
	*star = get.entries[0].data;
	*lstar = get.entries[1].data;
	*sfmask = get.entries[2].data;
	return true;
}

/* Flat, of ring 0: what SYSCALL makes of CS and SS (SDM volume 2, SYSCALL). */
static void flat(struct kvm_segment *segment, uint16_t selector, bool code)
{
	memset(segment, 0, sizeof(*segment));
	segment->selector = selector;
	segment->limit = 0xFFFFFFFF;
	segment->type = code ? 11 : 3;
	segment->s = segment->present = segment->g = 1;
	segment->l = code;
	segment->db = !code;
}

/*
 * With the guest at the first instruction of its handler of page faults: whether that is where a SYSCALL has ended, and
 * if so, what SYSCALL does is done. Ring 3 jumping to LSTAR by itself is told from it by the flags that SYSCALL clears,
 * above all IF, and by the instruction in front of RCX.
 */
bool syscall_mend(struct vcpu *v)
{
	struct kvm_sregs *s = &v->run->s.regs.sregs;
	struct kvm_regs *regs = &v->run->s.regs.regs;
	struct frame frame;
	uint64_t star, lstar, sfmask;
	uint8_t code[2];
	if (guest_read(v, v->shown.rsp, &frame, sizeof(frame)) != sizeof(frame))
		return false;
	if ((frame.error & PF_USER) == 0 || (frame.cs & 3) != 3 || frame.rip != s->cr2)
		return false;
	if (!read_msrs(v, &star, &lstar, &sfmask) || frame.rip != lstar)
		return false;
	uint64_t flags = frame.rflags & ~RFLAGS_RF;
	if (flags != (((v->shown.r11 & ~sfmask) | 2) & ~RFLAGS_RF))
		return false;
	if (guest_read(v, v->shown.rcx - sizeof(code), code, sizeof(code)) != sizeof(code) || code[0] != 0x0F ||
	    code[1] != 0x05)
		return false;
	uint16_t selector = (uint16_t)(star >> 32) & 0xFFFC;
	flat(&s->cs, selector, true);
	flat(&s->ss, (uint16_t)(selector + 8), false);
	v->shown.rip = lstar;
	v->shown.rsp = frame.rsp;
	v->shown.rflags = flags;
	*regs = v->shown;
	memset(s->interrupt_bitmap, 0, sizeof(s->interrupt_bitmap));
	v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	return true;
}
