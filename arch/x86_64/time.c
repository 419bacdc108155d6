/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's time: the TSC, relative to the machine's clock (arch/x86_64/clock.c), the local
 * APIC's timer, and kvmclock's flag that it stood still.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

/* A guest tolerates this much difference in TSC frequency (parts per million). */
#define TSC_TOLERANCE_PPM 250

/* Registers of the local APIC (Intel SDM 3A, 11.4.1 and 11.5.1). */
#define LAPIC_LVTT        0x320u
#define LAPIC_TMICT       0x380u
#define LAPIC_MASKED      (1u << 16)

static struct kvm_device_attr vcpu_tsc_attr(uint64_t *offset)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};
}

int vcpu_tsc_at_clock(struct vcpu *vcpu, uint64_t *tsc)
{
	uint64_t exact, offset, now, before = __rdtsc(), took;
	struct kvm_device_attr attr = vcpu_tsc_attr(&exact);

	if (msr_read(vcpu, MSR_TSC, &now) < 0)
		return failf(EIO, "cannot read vCPU %u's TSC", vcpu->index);
	took = __rdtsc() - before;
	offset = now - before - took;
	/* However long that took, what KVM applies lies between the one and the other. */
	if (ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) == 0 && exact - offset <= took)
		offset = exact;
	*tsc = vcpu->vm->clock_tsc + offset;
	return 0;
}

int vcpu_check_tsc(const struct vcpu *vcpu, uint32_t khz, bool *scale)
{
	int64_t host_khz = vcpu->vm->tsc_khz, off;

	if (khz == 0)
		return failf(EINVAL, "vcpu %u: has no TSC frequency", vcpu->index);
	off = ((int64_t)khz - host_khz) * 1000000 / host_khz;
	*scale = off > TSC_TOLERANCE_PPM || off < -TSC_TOLERANCE_PPM;
	if (*scale && ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
		return failf(EINVAL,
			     "the snapshot's TSC runs at %u kHz, this host's at %u kHz, and "
			     "this host cannot scale it: restore it on a host like its own",
			     khz, vcpu->vm->tsc_khz);
	return 0;
}

/*
 * The offset attribute (Linux 5.16) is exact; a plain MSR write is taken by KVM before 6.7 as an attempt to synchronise when the
 * value is less than a second from the running one, and then changes nothing.
 */
int vcpu_set_tsc(struct vcpu *vcpu, const struct vcpu_image *image)
{
	uint64_t offset;
	struct kvm_device_attr attr = vcpu_tsc_attr(&offset);
	uint32_t khz;
	bool scale;
	int ret = vcpu_check_tsc(vcpu, image->tsc_khz, &scale);

	if (ret < 0)
		return ret;
	khz = scale ? image->tsc_khz : vcpu->vm->tsc_khz;
	if (khz != vcpu->tsc_khz && ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz) < 0)
		return failf(errno, "cannot run the TSC at %u kHz: %s", khz, strerror(errno));
	vcpu->tsc_khz = khz;
	offset = image->tsc - vcpu->vm->clock_tsc;
	if (!scale && ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr) == 0)
		return 0;
	if (msr_write(vcpu, MSR_TSC, image->tsc) < 0)
		return failf(EINVAL, "cannot set the TSC");
	return 0;
}

static uint32_t vcpu_lapic_register(const struct vcpu_image *image, unsigned at)
{
	uint32_t value;

	memcpy(&value, (const uint8_t *)image->lapic + at, sizeof(value));
	return value;
}

/* An MSR of a saved state; 0 for one that it does not have. */
static uint64_t vcpu_saved_msr(const struct vcpu_image *image, uint32_t index)
{
	uint64_t value = 0;

	vcpu_image_msr(image, index, &value);
	return value;
}

bool vcpu_keeps_time(const void *state, size_t len)
{
	struct vcpu_image image = { 0 };

	if (vcpu_parse(0, state, len, &image) < 0)
		return true;
	return vcpu_saved_msr(&image, MSR_KVMCLOCK) & 1 ||
	       vcpu_saved_msr(&image, MSR_KVMCLOCK_OLD) & 1 ||
	       vcpu_saved_msr(&image, MSR_TSC_DEADLINE) ||
	       (vcpu_lapic_register(&image, LAPIC_TMICT) &&
		!(vcpu_lapic_register(&image, LAPIC_LVTT) & LAPIC_MASKED));
}

int vcpu_load_time(struct vcpu *vcpu, const void *state, size_t len)
{
	struct vcpu_image image = { 0 };
	uint64_t deadline;
	int ret = vcpu_parse(vcpu->index, state, len, &image);

	if (ret < 0 || (ret = vcpu_set(vcpu, KVM_SET_LAPIC, "local APIC", image.lapic)) < 0 ||
	    (ret = vcpu_set_tsc(vcpu, &image)) < 0)
		return ret;
	vcpu->tsc_known = false;
	deadline = vcpu_saved_msr(&image, MSR_TSC_DEADLINE);
	if (deadline && msr_write(vcpu, MSR_TSC_DEADLINE, deadline) < 0)
		return failf(EINVAL, "KVM refuses vCPU %u's timer deadline", vcpu->index);
	return 0;
}

void vcpu_clock_paused(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		notef("vCPU %u: KVM_KVMCLOCK_CTRL: %s", vcpu->index, strerror(errno));
}

int vcpu_tsc(struct vcpu *vcpu, uint64_t *tsc, uint32_t *khz)
{
	*khz = vcpu->tsc_khz;
	*tsc = __rdtsc() + vcpu->tsc_ahead;
	/* Asked for, not computed: there are KVMs that take an offset and do not apply it. */
	if (!vcpu->tsc_known && msr_read(vcpu, MSR_TSC, tsc) < 0)
		return failf(EIO, "cannot read vCPU %u's TSC", vcpu->index);
	return 0;
}
