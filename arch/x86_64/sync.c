/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers that KVM takes from the run page at the next KVM_RUN instead of by a call
 * each (KVM_CAP_SYNC_REGS, virt/kvm/api.rst 5). A call costs 5 us where MSR reads trap.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

/* The APIC base of a new vCPU 0: its usual place, on, of the boot CPU. */
#define APIC_BASE_NEW 0xfee00900ull
#define LAPIC_TPR     0x80

/*
 * Not where another vCPU could send this one an INIT or NMI before, which setting the events would
 * undo. System registers only where the local APIC may come before them: the APIC base is what it
 * will be and the task priority is the one that cr8 sets; and never with PDPTRs, which the run page
 * has no place for.
 */
uint64_t vcpu_sync_parts(const struct vcpu *vcpu, const struct vcpu_image *image)
{
	struct kvm_sregs2 sregs;
	struct kvm_mp_state mp;
	uint8_t tpr = ((const uint8_t *)image->lapic)[LAPIC_TPR];
	uint64_t parts;
	int offered;

	memcpy(&mp, image->mp_state, sizeof(mp));
	/* KVM_RUN of one that was never started looks at nothing else. */
	if (vcpu->vm->vcpu_count > 1 || mp.mp_state == KVM_MP_STATE_UNINITIALIZED)
		return 0;
	offered = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
	parts = KVM_SYNC_X86_REGS | KVM_SYNC_X86_EVENTS;
	if (offered < 0 || (parts & ~(uint64_t)offered))
		return 0;
	memcpy(&sregs, image->sregs, sizeof(sregs));
	if (vcpu->fresh && offered & KVM_SYNC_X86_SREGS && sregs.apic_base == APIC_BASE_NEW &&
	    sregs.flags == 0 && sregs.cr8 << 4 == tpr)
		parts |= KVM_SYNC_X86_SREGS;
	return parts;
}

void vcpu_sync(struct vcpu *vcpu, const struct vcpu_image *image, uint64_t parts)
{
	struct kvm_sync_regs *page = &vcpu->run->s.regs;
	const size_t sregs_len = offsetof(struct kvm_sregs, interrupt_bitmap);

	_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) ==
			       offsetof(struct kvm_sregs2, flags),
		       "both begin alike");
	memcpy(&page->regs, image->regs, sizeof(page->regs));
	/* An interrupt that was being injected is among the events. */
	page->sregs = (struct kvm_sregs){ 0 };
	memcpy(&page->sregs, image->sregs, sregs_len);
	memcpy(&page->events, image->events, sizeof(page->events));
	vcpu->run->kvm_dirty_regs = parts;
}

bool vcpu_refused(const struct vcpu *vcpu, int err)
{
	uint64_t left = vcpu->run->kvm_dirty_regs;

	if (!left || err == EINTR || err == EAGAIN)
		return false;
	/* KVM takes them in this order and clears the bit of each. */
	failf(err, "KVM refuses vCPU %u's %s: %s", vcpu->index,
	      left & KVM_SYNC_X86_REGS    ? "registers"
	      : left & KVM_SYNC_X86_SREGS ? "system registers"
					  : "pending events",
	      strerror(err));
	return true;
}

int vcpu_flush(struct vcpu *vcpu)
{
	int ret, err;

	if (!vcpu->run->kvm_dirty_regs)
		return 0;
	vcpu->run->immediate_exit = 1;
	ret = ioctl(vcpu->fd, KVM_RUN, 0);
	err = ret < 0 ? errno : EIO;
	vcpu->run->immediate_exit = 0;
	return vcpu_refused(vcpu, err) ? -err : 0;
}
