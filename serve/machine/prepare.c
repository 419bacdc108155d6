/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preparing a shell (serve/machine/prepare.h).
 */
#include "serve/machine/prepare.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"

int prepare_vcpus(struct vm *vm, const struct snapshot *shape)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < vm->vcpu_count; i++) {
		const struct state_section *section = state_find(&shape->state, "vcpu", i);

		if (!section)
			return failf(EINVAL, "%s: its state has no section vcpu %u", shape->path,
				     i);
		ret = vcpu_check(&vm->vcpus[i], section->data, section->len);
		if (ret == 0)
			ret = vcpu_load_cpuid(&vm->vcpus[i], section->data, section->len);
	}
	return ret < 0 ? ret : vcpu_run_stub(&vm->vcpus[0]);
}

/* The state in pages of its own, which can be written to, and the pages behind it gone. */
static int prepare_own(struct snapshot *shape)
{
	struct blob *raw = &shape->raw;
	uint8_t *first = raw->data - (uintptr_t)raw->data % LAYOUT_PAGE_SIZE;
	size_t size = ((size_t)(raw->data + raw->len - first) + LAYOUT_PAGE_SIZE - 1) &
		      ~(size_t)(LAYOUT_PAGE_SIZE - 1);

	if (mprotect(first, size, PROT_READ | PROT_WRITE) < 0 ||
	    (size < raw->mapped && munmap(first + size, raw->mapped - size) < 0))
		return failf(errno, "a shape's state cannot be kept: %s", strerror(errno));
	raw->mapped = size;
	explicit_bzero(raw->data + raw->len, (size_t)(first + size - raw->data) - raw->len);
	return 0;
}

int prepare_strip(struct snapshot *shape)
{
	int ret = prepare_own(shape);

	for (unsigned i = 0; ret == 0 && i < shape->state.count; i++) {
		const struct state_section *section = &shape->state.sections[i];
		uint8_t *data = shape->raw.data + (section->data - shape->raw.data);
		const void *cpuid = data;
		size_t len = 0, at;

		if (strcmp(section->name, "vcpu") == 0)
			vcpu_saved_cpuid(data, section->len, &cpuid, &len);
		at = (size_t)((const uint8_t *)cpuid - data);
		explicit_bzero(data, at);
		explicit_bzero(data + at + len, section->len - at - len);
	}
	working_set_fini(&shape->working_set);
	close(shape->memory_fd);
	shape->memory_fd = -1;
	return ret;
}
