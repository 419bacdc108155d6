/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's first entry ahead of its guest (arch/vcpu.h): one port write in real mode.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/layout.h"

/* out LAYOUT_PORT_PARK, al; hlt */
static const uint8_t stub_code[] = { 0xe6, LAYOUT_PORT_PARK, 0xf4 };

static int stub_set_registers(const struct vcpu *vcpu)
{
	struct kvm_regs regs = { .rip = LAYOUT_STUB, .rflags = 2 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

int vcpu_run_stub(struct vcpu *vcpu)
{
	uint8_t *page = memory_at(&vcpu->vm->memory, LAYOUT_STUB, LAYOUT_PAGE_SIZE);
	int ret;

	if (!page)
		return failf(ENOMEM, "guest memory ends below 0x%x", LAYOUT_STUB);
	vcpu->fresh = false;
	memcpy(page, stub_code, sizeof(stub_code));
	ret = stub_set_registers(vcpu);
	if (ret == 0 && ioctl(vcpu->fd, KVM_RUN, 0) < 0)
		ret = -errno;
	if (ret == 0 && vcpu->run->exit_reason != KVM_EXIT_IO)
		ret = -EIO;
	/* The port write is complete only when KVM has been entered again. */
	vcpu->run->immediate_exit = 1;
	if (ret == 0 && ioctl(vcpu->fd, KVM_RUN, 0) < 0 && errno != EINTR)
		ret = -errno;
	vcpu->run->immediate_exit = 0;
	if (ret == 0 && madvise(page, LAYOUT_PAGE_SIZE, MADV_DONTNEED) < 0)
		ret = -errno;
	return ret < 0 ? failf(-ret, "a new vCPU does not run: %s", strerror(-ret)) : 0;
}
