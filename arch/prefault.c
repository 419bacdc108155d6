/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling KVM's second-level tables ahead of the guest (KVM_PRE_FAULT_MEMORY, Linux
 * 6.11, virt/kvm/api.rst 4.143).
 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "arch/vm.h"

/* linux/kvm.h of 6.11; older headers lack it. */
struct prefault_range {
	uint64_t gpa;
	uint64_t size;
	uint64_t flags;
	uint64_t padding[5];
};

#define PREFAULT_CAP   236
#define PREFAULT_IOCTL _IOWR(KVMIO, 0xd5, struct prefault_range)

/* KVM says in the range how far it came when a signal stops it. */
static int prefault_range(const struct vcpu *vcpu, struct prefault_range *range)
{
	while (range->size)
		if (ioctl(vcpu->fd, PREFAULT_IOCTL, range) < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
	return 0;
}

int vm_prefault(struct vm *vm, uint64_t offset, uint64_t len)
{
	/* Which tables is for the registers to say. */
	if (vm->vcpus[0].run->kvm_dirty_regs &&
	    (ioctl(vm->fd, KVM_CHECK_EXTENSION, PREFAULT_CAP) <= 0 ||
	     vcpu_flush(&vm->vcpus[0]) < 0))
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < vm->memory.region_count; i++) {
		const struct memory_region *r = &vm->memory.regions[i];
		uint64_t start = offset > r->offset ? offset : r->offset;
		uint64_t end =
			offset + len < r->offset + r->size ? offset + len : r->offset + r->size;
		struct prefault_range range = { .gpa = r->gpa + (start - r->offset) };
		int ret;

		if (start >= end)
			continue;
		range.size = end - start;
		ret = prefault_range(&vm->vcpus[0], &range);
		if (ret < 0)
			return ret;
	}
	return 0;
}
