/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's kvmclock, with the host's TSC of the same moment (arch/vm.h).
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "arch/base/error.h"
#include "arch/vm.h"

int vm_clock_get(struct vm *vm, uint64_t *ns)
{
	struct kvm_clock_data data = { 0 };

	if (ioctl(vm->fd, KVM_GET_CLOCK, &data) < 0)
		return failf(errno, "cannot read the guest's clock: %s", strerror(errno));
	*ns = data.clock;
	vm->clock_tsc = data.flags & KVM_CLOCK_HOST_TSC ? data.host_tsc : __rdtsc();
	return 0;
}

/* Without KVM_CLOCK_REALTIME: guest time goes on from where it was saved, with no jump. */
int vm_clock_set(struct vm *vm, uint64_t ns)
{
	struct kvm_clock_data data = { .clock = ns };

	if (ioctl(vm->fd, KVM_SET_CLOCK, &data) < 0)
		return failf(errno, "cannot set the guest's clock: %s", strerror(errno));
	vm->clock_tsc = __rdtsc();
	return 0;
}
