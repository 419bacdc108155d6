/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/unit/arch/old_vcpu.h. */
#include "tests/unit/arch/old_vcpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "arch/x86_64/machine.h"

#define MSR_TSC_AUX 0xc0000103u

/* Machine-check banks, XSS, TSC_AUX, OSVW. */
static bool msr_came_later(uint32_t index)
{
	return (index >= 0x400 && index < 0x480) || index == 0xda0 || index == MSR_TSC_AUX ||
	       index == 0xc0010140 || index == 0xc0010141;
}

void old_vcpu_save(struct vcpu *vcpu, struct blob *out)
{
	struct vcpu_image image = { 0 };
	struct blob now = { 0 };
	uint32_t kept = 0;

	assert_int_equal(msr_write(vcpu, MSR_TSC_AUX, 5), 0);
	assert_int_equal(vcpu_save(vcpu, &now), 0);
	assert_int_equal(vcpu_parse(0, now.data, now.len, &image), 0);
	for (uint32_t i = 0; i < image.msr_count; i++) {
		uint8_t *msrs = now.data + now.len - image.msr_count * sizeof(struct kvm_msr_entry);
		struct kvm_msr_entry msr; /* they are not aligned */

		memcpy(&msr, msrs + i * sizeof(msr), sizeof(msr));
		if (!msr_came_later(msr.index))
			memcpy(msrs + kept++ * sizeof(msr), &msr, sizeof(msr));
	}
	assert_true(kept < image.msr_count);
	now.len -= image.msr_count * sizeof(struct kvm_msr_entry);
	memcpy(now.data + now.len - sizeof(kept), &kept, sizeof(kept));
	blob_put(out, now.data, now.len + kept * sizeof(struct kvm_msr_entry));
	blob_fini(&now);
}

void old_vcpu_expect_later(const struct vcpu *loaded, const struct vcpu *fresh)
{
	struct msr_table a, b;
	unsigned later = 0;

	assert_int_equal(msr_read_all(loaded, &a), 0);
	assert_int_equal(msr_read_all(fresh, &b), 0);
	assert_int_equal(a.count, b.count);
	for (uint32_t i = 0; i < a.count; i++) {
		assert_int_equal(a.entries[i].index, b.entries[i].index);
		if (!msr_came_later(a.entries[i].index))
			continue;
		assert_int_equal(a.entries[i].data, b.entries[i].data);
		later++;
	}
	assert_true(later > 0);
}
