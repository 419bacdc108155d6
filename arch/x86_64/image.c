/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A saved vCPU taken apart (the snapshot section "vcpu", docs/snapshot.md), and one part of it given
 * to KVM: what saving and loading (state.c) and time (time.c) both need.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/x86_64/machine.h"

int vcpu_parse(unsigned index, const void *state, size_t len, struct vcpu_image *image)
{
	struct blob in = blob_reader(state, len);

	image->host_key = blob_get_u64(&in);
	image->tsc = blob_get_u64(&in);
	image->tsc_khz = blob_get_u32(&in);
	image->mp_state = blob_take(&in, sizeof(struct kvm_mp_state));
	image->cpuid_count = blob_get_u32(&in);
	if (image->cpuid_count > CPUID_ENTRIES_MAX)
		return failf(EINVAL, "vcpu %u: %u CPUID entries are more than %d", index,
			     image->cpuid_count, CPUID_ENTRIES_MAX);
	image->cpuid = blob_take(&in, image->cpuid_count * sizeof(struct kvm_cpuid_entry2));
	image->regs = blob_take(&in, sizeof(struct kvm_regs));
	image->sregs = blob_take(&in, sizeof(struct kvm_sregs2));
	image->xsave_size = blob_get_u32(&in);
	image->xsave = blob_take(&in, image->xsave_size);
	image->xcrs = blob_take(&in, sizeof(struct kvm_xcrs));
	image->debug = blob_take(&in, sizeof(struct kvm_debugregs));
	image->events = blob_take(&in, sizeof(struct kvm_vcpu_events));
	image->lapic = blob_take(&in, sizeof(struct kvm_lapic_state));
	image->msr_count = blob_get_u32(&in);
	if (image->msr_count > MSRS_MAX)
		return failf(EINVAL, "vcpu %u: %u MSRs are more than %d", index, image->msr_count,
			     MSRS_MAX);
	image->msrs = blob_take(&in, image->msr_count * sizeof(struct kvm_msr_entry));
	if (in.failed || in.pos != in.len)
		return failf(EINVAL,
			     "vcpu %u: the saved state has %zu bytes, which do not fit its "
			     "own lengths",
			     index, len);
	return 0;
}

int vcpu_set(struct vcpu *vcpu, unsigned long request, const char *what, const void *data)
{
	if (ioctl(vcpu->fd, request, data) < 0)
		return failf(errno, "KVM refuses vCPU %u's %s: %s", vcpu->index, what,
			     strerror(errno));
	return 0;
}

void vcpu_cpuid_of(const struct vcpu_image *image, struct cpuid_table *table)
{
	table->head = (struct kvm_cpuid2){ .nent = image->cpuid_count };
	memcpy(table->entries, image->cpuid, image->cpuid_count * sizeof(table->entries[0]));
}

bool vcpu_image_msr(const struct vcpu_image *image, uint32_t index, uint64_t *value)
{
	struct kvm_msr_entry msr;

	for (uint32_t i = 0; i < image->msr_count; i++) {
		memcpy(&msr, (const uint8_t *)image->msrs + i * sizeof(msr), sizeof(msr));
		if (msr.index == index && value)
			*value = msr.data;
		if (msr.index == index)
			return true;
	}
	return false;
}

int vcpu_saved_cpuid(const void *state, size_t len, const void **cpuid, size_t *cpuid_len)
{
	struct vcpu_image image = { 0 };
	int ret = vcpu_parse(0, state, len, &image);

	*cpuid = image.cpuid;
	*cpuid_len = image.cpuid_count * sizeof(struct kvm_cpuid_entry2);
	return ret;
}

int vcpu_check_whole(const void *state, size_t len)
{
	const void *cpuid;
	size_t cpuid_len;
	int ret = vcpu_saved_cpuid(state, len, &cpuid, &cpuid_len);

	return ret < 0 ? ret : cpuid_check_allowed(cpuid, cpuid_len);
}

int vcpu_check_whole_here(const struct vcpu *vcpu, const void *state, size_t len)
{
	struct vcpu_image image = { 0 };
	struct msr_table here;
	int ret = vcpu_check_whole(state, len);

	if (ret < 0 || (ret = vcpu_parse(vcpu->index, state, len, &image)) < 0 ||
	    (ret = msr_read_all(vcpu, &here)) < 0)
		return ret;
	for (uint32_t i = 0; i < here.count; i++)
		if (!vcpu_image_msr(&image, here.entries[i].index, NULL))
			return failf(EINVAL,
				     "its guest may set MSR 0x%x on this host, and its state does "
				     "not have it; build it anew",
				     here.entries[i].index);
	return 0;
}
