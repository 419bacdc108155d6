/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a machine, in the order that KVM makes cheap, and taking it apart (arch/vm.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "arch/vm.h"

static int vm_open_kvm(struct vm *vm)
{
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0 && errno == EACCES)
		return failf(EACCES, "/dev/kvm: permission denied; run as a member of the group "
				     "that owns it (usermod -aG kvm USER, then log in again)");
	if (vm->kvm_fd < 0 && errno == ENOENT)
		return failf(ENOENT, "/dev/kvm: not there; load the module (modprobe kvm_intel or "
				     "kvm_amd) and switch virtualization on in the firmware");
	if (vm->kvm_fd < 0)
		return failf(errno, "/dev/kvm: %s", strerror(errno));
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return failf(ENODEV, "/dev/kvm: not KVM API version %d", KVM_API_VERSION);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return failf(errno, "cannot create a VM: %s", strerror(errno));
	return 0;
}

/* Tells KVM where RAM is, or (present false) that there is none any more. */
static int vm_set_memory(struct vm *vm, bool present)
{
	for (unsigned i = 0; i < vm->memory.region_count; i++) {
		const struct memory_region *r = &vm->memory.regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = present ? r->size : 0,
			.userspace_addr = (uintptr_t)vm->memory.base + r->offset,
		};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return failf(errno, "cannot give KVM %llu MiB of guest memory: %s",
				     (unsigned long long)(r->size >> 20), strerror(errno));
	}
	return 0;
}

/* The VM's ioctl (Linux 5.18): a vCPU's would load the vCPU, 4 us where MSRs trap. */
static int vm_read_tsc_khz(struct vm *vm)
{
	int khz = ioctl(vm->fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return failf(ENOTSUP,
			     "this KVM does not say its TSC frequency; Linux 5.18 or later does");
	vm->tsc_khz = (uint32_t)khz;
	return 0;
}

/*
 * KVM fetches a page that is not there in a worker, for writing whatever the guest wants, while
 * the vCPU sleeps. It does not where it cannot make a vCPU sleep. Advice: a failure only makes a
 * trial clone look as if it wrote more.
 */
static void vm_wait_in_place(struct vm *vm)
{
	struct kvm_enable_cap halt = { .cap = KVM_CAP_X86_DISABLE_EXITS,
				       .args = { KVM_X86_DISABLE_EXITS_HLT } };

	(void)ioctl(vm->fd, KVM_ENABLE_CAP, &halt);
}

/*
 * Slots first, split irqchip after: an in-kernel device registered before a slot change makes
 * the change wait for an SRCU grace period (7 ms on Linux 6.18). A filter of MSRs waits for one when
 * there are slots (14 ms; else 0.02).
 */
static int vm_set_up(struct vm *vm, unsigned vcpu_count, bool saved)
{
	uint64_t identity_map = LAYOUT_KVM_IDENTITY;
	struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	int ret = vm_open_kvm(vm);

	if (ret < 0 || (ret = vcpu_limits(vm, saved)) < 0 || (ret = vm_set_memory(vm, true)) < 0)
		return ret;
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS) < 0)
		return failf(errno, "cannot place KVM's private pages: %s", strerror(errno));
	/* Without it KVM saves an exception that is pending as one that was injected (Linux 4.20). */
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &payload) < 0)
		return failf(errno, "this KVM cannot save pending exceptions: %s", strerror(errno));
	if (vm->memory.on_demand)
		vm_wait_in_place(vm);
	ret = vm_read_tsc_khz(vm);
	if (ret == 0)
		ret = irqchip_create(vm);
	while (ret == 0 && vm->vcpu_count < vcpu_count) {
		ret = vcpu_create(&vm->vcpus[vm->vcpu_count], vm, vm->vcpu_count);
		if (ret == 0)
			vm->vcpu_count++;
	}
	return ret;
}

int vm_create(struct vm *vm, struct memory *memory, unsigned vcpu_count, bool saved)
{
	int ret;

	*vm = (struct vm){ .kvm_fd = -1, .fd = -1, .memory = *memory };
	*memory = (struct memory){ .fd = -1, .pagemap_fd = -1 };
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	loop_init(&vm->loop);
	ret = vm_set_up(vm, vcpu_count, saved);
	if (ret < 0)
		vm_destroy(vm);
	return ret;
}

/* Whether a module parameter is there and on. */
static bool vm_parameter_is_on(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char value = 'N';

	if (fd < 0)
		return false;
	if (read(fd, &value, 1) != 1)
		value = 'N';
	close(fd);
	return value == 'Y' || value == '1';
}

void vm_find_paging(struct vm *vm)
{
	vm->shadow = !vm_parameter_is_on("/sys/module/kvm_intel/parameters/ept") &&
		     !vm_parameter_is_on("/sys/module/kvm_amd/parameters/npt");
}

int vm_set_hosted(struct vm *vm)
{
	vm->hosted = true;
	return vcpu_set_signal_mask(&vm->vcpus[0]);
}

int vm_renew_memory(struct vm *vm)
{
	int ret = vm_set_memory(vm, false);

	return ret < 0 ? ret : vm_set_memory(vm, true);
}

void vm_destroy(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_destroy(&vm->vcpus[i]);
	vm->vcpu_count = 0;
	irqchip_destroy(vm);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->fd = vm->kvm_fd = -1;
	memory_destroy(&vm->memory);
	loop_fini(&vm->loop);
}
