/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reset (serve/machine/reset.h). Beyond memory and registers it has to see to what the CPU
 * and KVM derived from page tables: that is left alone only where they cannot have changed.
 */
#include "serve/machine/reset.h"

#include <string.h>

#include "arch/base/error.h"

/* Pages of a guest's tables that are watched, at most; the embedded guest has seven. */
#define RESET_FIXED_MAX 64

static int reset_init(struct reset *r, const struct snapshot *s, const struct vm *vm)
{
	const struct state_section *section = state_find(&s->state, "vcpu", 0);
	struct memory template = vm->memory;
	uint64_t pages[RESET_FIXED_MAX];
	int ret = rewind_init(&r->rewind, &vm->memory, &s->working_set), count = -1;

	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *vcpu = state_find(&s->state, "vcpu", i);

		ret = vcpu_check_whole_here(&vm->vcpus[i], vcpu->data, vcpu->len);
	}
	if (ret < 0)
		return ret;
	template.base = (uint8_t *)(uintptr_t)r->rewind.view;
	if (vm->vcpu_count == 1)
		count = vcpu_fixed_pages(section->data, section->len, &template, pages,
					 RESET_FIXED_MAX);
	r->fixed = count >= 0;
	if (r->fixed)
		rewind_watch(&r->rewind, pages, (unsigned)count);
	return 0;
}

int reset_machine(struct reset *r, struct snapshot *s, struct vm *vm, struct devices *devices)
{
	int ret = r->rewind.known ? 0 : reset_init(r, s, vm);

	devices_stop(devices);
	if (ret == 0)
		ret = rewind_memory(&r->rewind, &vm->memory);
	vm->remapped = !r->fixed || r->rewind.touched;
	if (ret == 0 && vm->remapped && vm->shadow)
		ret = vm_renew_memory(vm);
	return ret < 0 ? ret : snapshot_reload(s, vm, devices);
}
