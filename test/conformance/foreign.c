/*
 * A library with NVMM's names that is not the one that is wanted: foreign.test.ts compiles it with what it says of
 * itself. VERSION and CAPABILITY_SIZE are those of nvmm_capability, INIT what nvmm_init fails with, 0 for success.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

int nvmm_init(void)
{
	errno = INIT;
	return INIT == 0 ? 0 : -1;
}

int nvmm_capability(void *cap)
{
	uint32_t head[2] = {VERSION, STATE_SIZE};
	memset(cap, 0, CAPABILITY_SIZE);
	memcpy(cap, head, sizeof(head));
	return 0;
}

#define VERB(name) \
	int name(void) \
	{ \
		errno = EINVAL; \
		return -1; \
	}
VERB(nvmm_machine_create)
VERB(nvmm_machine_destroy)
VERB(nvmm_machine_configure)
VERB(nvmm_vcpu_create)
VERB(nvmm_vcpu_destroy)
VERB(nvmm_vcpu_configure)
VERB(nvmm_vcpu_setstate)
VERB(nvmm_vcpu_getstate)
VERB(nvmm_vcpu_inject)
VERB(nvmm_vcpu_run)
#ifdef WITH_STOP
VERB(nvmm_vcpu_stop)
#endif
VERB(nvmm_hva_map)
VERB(nvmm_hva_unmap)
VERB(nvmm_gpa_map)
VERB(nvmm_gpa_unmap)
VERB(nvmm_gva_to_gpa)
VERB(nvmm_gpa_to_hva)
VERB(nvmm_assist_io)
VERB(nvmm_assist_mem)
VERB(nvmm_ctl)
