/* Injection of exceptions, interrupts and NMIs. */
#include "internal.h"

#include <string.h>

#define VECTOR_NMI 2

/* Exceptions that push an error code: DF, TS, NP, SS, GP, PF, AC, CP, SX. */
#define WITH_ERROR \
	(1U << 8 | 1U << 10 | 1U << 11 | 1U << 12 | 1U << 13 | 1U << 14 | 1U << 17 | 1U << 21 | 1U << 30)
/* Traps and aborts, which leave RF alone: DB, OF, DF, MC. */
#define WITHOUT_RF (1U << 1 | 1U << 4 | 1U << 8 | 1U << 18)

bool event_pending(const struct kvm_vcpu_events *events)
{
	return events->exception.injected || events->interrupt.injected || events->nmi.injected;
}

static int commit_exception(struct vcpu *v, struct kvm_vcpu_events *events, const struct nvmm_x86_event *event)
{
	unsigned vector = event->vector;
	if (vector == 0 || vector == 2 || vector == 3 || vector >= 32)
		return fail(EINVAL, "exception %u can't be injected", vector);
	events->exception.injected = 1;
	events->exception.nr = (uint8_t)vector;
	events->exception.has_error_code = (WITH_ERROR >> vector) & 1;
	events->exception.error_code = events->exception.has_error_code ? (uint32_t)event->u.excp.error : 0;
	if (((WITHOUT_RF >> vector) & 1) == 0 && (v->shown.rflags & RFLAGS_RF) == 0) {
		v->shown.rflags |= RFLAGS_RF;
		v->differs = true;
	}
	return 0;
}

/* Hands the event of the shared page to KVM. It replaces whatever was still waiting for delivery. */
int event_commit(struct vcpu *v)
{
	const struct nvmm_x86_event *event = &v->comm->event;
	struct kvm_vcpu_events *events = &v->run->s.regs.events;
	bool nmi = event->type == NVMM_VCPU_EVENT_INTR && event->vector == VECTOR_NMI;
	if (event->type != NVMM_VCPU_EVENT_INTR && event->type != NVMM_VCPU_EVENT_EXCP)
		return fail(EINVAL, "event type %u is neither EXCP nor INTR", event->type);
	if (tracing)
		trace_inject(v, event);
	memset(&events->exception, 0, sizeof(events->exception));
	events->interrupt.injected = events->interrupt.nr = events->interrupt.soft = 0;
	events->nmi.injected = 0;
	if (event->type == NVMM_VCPU_EVENT_EXCP) {
		if (commit_exception(v, events, event) != 0)
			return -1;
	} else if (nmi) {
		events->nmi.pending = 1;
		v->nmi_window = true;
	} else {
		events->interrupt.injected = 1;
		events->interrupt.nr = event->vector;
	}
	v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
	return 0;
}
