/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest is kept from (vcpu_limits() in arch/vcpu.h): setting MSRs that a saved vCPU does not
 * have, so that msr_list() is what a guest can set, and holding up CPUs that are not its own. All
 * of it is KVM's to do, before there is a vCPU.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

struct limits_range {
	uint32_t base, count;
};

/* Where KVM has MSRs. The local APIC's, 0x800 to 0x8ff, are never filtered; it is saved. */
static const struct limits_range limits_msrs[] = {
	{ 0, 0x3000 },          { 0x40000000, 0x1000 }, { 0x4b564d00, 0x100 },
	{ 0xc0000000, 0x3000 }, { 0xc0010000, 0x3000 },
};

#define LIMITS_MSRS (sizeof(limits_msrs) / sizeof(limits_msrs[0]))

/*
 * What else a guest may write: TSC, APIC base, EFER, bases of FS and GS, which are saved elsewhere; and
 * the commands PRED_CMD and FLUSH_CMD.
 */
static const uint32_t limits_also[] = {
	MSR_TSC, 0x1b, MSR_EFER, 0xc0000100, 0xc0000101, 0x49, 0x10b,
};

/* What KVM takes and forgets, which Linux writes when it boots; and DEBUGCTL where it is not saved. */
static const uint32_t limits_dropped[] = {
	0x79,       /* load microcode */
	0x11e,      /* BBL_CR_CTL3 */
	0x1d9,      /* DEBUGCTL */
	0xc001001f, /* AMD NB_CFG */
	0xc0010020, /* AMD PATCH_LOADER */
	0xc0011022, /* AMD DC_CFG */
	0xc001102a, /* AMD BU_CFG2 */
	0xc001102c, /* AMD EX_CFG */
};

struct limits_filter {
	struct kvm_msr_filter filter;
	uint8_t bits[LIMITS_MSRS][KVM_MSR_FILTER_MAX_BITMAP_SIZE];
};

static void limits_allow(struct limits_filter *f, uint32_t index)
{
	for (size_t r = 0; r < LIMITS_MSRS; r++) {
		uint32_t at = index - limits_msrs[r].base;

		if (at < limits_msrs[r].count)
			f->bits[r][at / 8] |= (uint8_t)(1u << at % 8);
	}
}

static int limits_set_filter(const struct vm *vm)
{
	struct kvm_enable_cap exits = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
					.args = { KVM_MSR_EXIT_REASON_FILTER } };
	struct limits_filter f = { .filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	struct msr_table saved;
	int ret = msr_list(vm, &saved);

	if (ret < 0)
		return ret;
	for (size_t r = 0; r < LIMITS_MSRS; r++)
		f.filter.ranges[r] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_WRITE,
			.base = limits_msrs[r].base,
			.nmsrs = limits_msrs[r].count,
			.bitmap = f.bits[r],
		};
	for (uint32_t i = 0; i < saved.count; i++)
		limits_allow(&f, saved.entries[i].index);
	for (size_t i = 0; i < sizeof(limits_also) / sizeof(limits_also[0]); i++)
		limits_allow(&f, limits_also[i]);
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &exits) < 0 ||
	    ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f.filter) < 0)
		return failf(errno,
			     "this KVM cannot forbid a guest MSRs (Linux 5.10 or later can): %s",
			     strerror(errno));
	return 0;
}

bool limits_drops_write(uint32_t index)
{
	for (size_t i = 0; i < sizeof(limits_dropped) / sizeof(limits_dropped[0]); i++)
		if (limits_dropped[i] == index)
			return true;
	return false;
}

/* Capabilities that are switched on where KVM offers them: what is asked for is also what is offered. */
static const struct limits_cap {
	uint32_t cap;
	uint32_t flag;
} limits_caps[] = {
	/* The PMU: its MSRs are then none. */
	{ KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE },
	/* A locked access across cache lines holds up every CPU; vcpu_brake(). */
	{ KVM_CAP_X86_BUS_LOCK_EXIT, KVM_BUS_LOCK_DETECTION_EXIT },
	/* A guest that lets no interrupt in, not even the host's, leaves all the same. */
	{ KVM_CAP_X86_NOTIFY_VMEXIT, KVM_X86_NOTIFY_VMEXIT_ENABLED },
};

int vcpu_limits(struct vm *vm, bool saved)
{
	for (size_t i = 0; i < sizeof(limits_caps) / sizeof(limits_caps[0]); i++) {
		const struct limits_cap *c = &limits_caps[i];
		struct kvm_enable_cap cap = { .cap = c->cap, .args = { c->flag } };
		int offered = ioctl(vm->fd, KVM_CHECK_EXTENSION, c->cap);

		if (offered < 0 ||
		    ((uint32_t)offered & c->flag && ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0))
			return failf(errno, "KVM refuses capability %u, which it offers: %s",
				     c->cap, strerror(errno));
	}
	return saved ? limits_set_filter(vm) : 0;
}
