/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and loading a vCPU (arch/vcpu.h): the layout of the snapshot section
 * "vcpu" (docs/snapshot.md) and the order in which KVM wants it set. KVM's own
 * structs are stored as they are: they are fixed-width kernel ABI.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

#define CR0_WP         (1ull << 16)

/* Offsets in the FPU state (Intel SDM 1, 13.4). */
#define XSAVE_FCW      0u
#define XSAVE_MXCSR    24u
#define XSAVE_SOFTWARE 464u
#define XSAVE_HEADER   512u

/* --- Save --- */

/* Appends the struct that a KVM_GET_* ioctl fills. */
static int vcpu_put(struct vcpu *vcpu, struct blob *out, unsigned long request, const char *what,
		    size_t size)
{
	uint8_t buffer[sizeof(struct kvm_xsave)] __attribute__((aligned(64))) = { 0 };

	if (ioctl(vcpu->fd, request, buffer) < 0)
		return failf(errno, "cannot read vCPU %u's %s: %s", vcpu->index, what,
			     strerror(errno));
	blob_put(out, buffer, size);
	return 0;
}

static int vcpu_put_cpuid(struct vcpu *vcpu, struct blob *out)
{
	struct cpuid_table table = { .head.nent = CPUID_ENTRIES_MAX };

	if (ioctl(vcpu->fd, KVM_GET_CPUID2, &table.head) < 0)
		return failf(errno, "cannot read vCPU %u's CPUID: %s", vcpu->index,
			     strerror(errno));
	blob_put_u32(out, table.head.nent);
	blob_put(out, table.entries, table.head.nent * sizeof(table.entries[0]));
	return 0;
}

/* KVM_GET_XSAVE2 when the state is larger than the classic 4 KiB. */
static int vcpu_put_xsave(struct vcpu *vcpu, struct blob *out)
{
	int size = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	void *buffer;
	int ret = 0;

	if (size <= (int)sizeof(struct kvm_xsave)) {
		blob_put_u32(out, sizeof(struct kvm_xsave));
		return vcpu_put(vcpu, out, KVM_GET_XSAVE, "FPU state", sizeof(struct kvm_xsave));
	}
	buffer = calloc(1, (size_t)size);
	if (!buffer)
		return failf(ENOMEM, "out of memory");
	blob_put_u32(out, (uint32_t)size);
	if (ioctl(vcpu->fd, KVM_GET_XSAVE2, buffer) < 0)
		ret = failf(errno, "cannot read vCPU %u's FPU state: %s", vcpu->index,
			    strerror(errno));
	blob_put(out, buffer, (size_t)size);
	free(buffer);
	return ret;
}

static int vcpu_put_msrs(struct vcpu *vcpu, struct blob *out)
{
	struct msr_table table;
	int ret = msr_read_all(vcpu, &table);

	if (ret < 0)
		return ret;
	blob_put_u32(out, table.count);
	blob_put(out, table.entries, table.count * sizeof(table.entries[0]));
	return 0;
}

int vcpu_save(struct vcpu *vcpu, struct blob *out)
{
	uint64_t tsc = 0;
	int ret = vcpu_flush(vcpu);

	if (ret < 0 || (ret = vcpu_tsc_at_clock(vcpu, &tsc)) < 0)
		return ret;
	blob_put_u64(out, cpuid_host_key());
	blob_put_u64(out, tsc);
	blob_put_u32(out, vcpu->tsc_khz);
	/* MP_STATE first: reading it makes KVM settle pending INIT and SIPI events. */
	if ((ret = vcpu_put(vcpu, out, KVM_GET_MP_STATE, "MP state", sizeof(struct kvm_mp_state))) <
		    0 ||
	    (ret = vcpu_put_cpuid(vcpu, out)) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_REGS, "registers", sizeof(struct kvm_regs))) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_SREGS2, "system registers",
			    sizeof(struct kvm_sregs2))) < 0 ||
	    (ret = vcpu_put_xsave(vcpu, out)) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_XCRS, "XCR0", sizeof(struct kvm_xcrs))) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_DEBUGREGS, "debug registers",
			    sizeof(struct kvm_debugregs))) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_VCPU_EVENTS, "pending events",
			    sizeof(struct kvm_vcpu_events))) < 0 ||
	    (ret = vcpu_put(vcpu, out, KVM_GET_LAPIC, "local APIC",
			    sizeof(struct kvm_lapic_state))) < 0)
		return ret;
	return vcpu_put_msrs(vcpu, out);
}

/* --- Load --- */

/* Whether that CPUID was set already, so that KVM has taken it. */
static bool vcpu_has_cpuid(const struct vcpu *vcpu, const struct vcpu_image *image)
{
	return vcpu->cpuid && vcpu->cpuid_count == image->cpuid_count &&
	       memcmp(vcpu->cpuid, image->cpuid,
		      image->cpuid_count * sizeof(struct kvm_cpuid_entry2)) == 0;
}

int vcpu_check(struct vcpu *vcpu, const void *state, size_t len)
{
	struct cpuid_table saved, host;
	struct vcpu_image image = { 0 };
	int xsave_size, ret = vcpu_parse(vcpu->index, state, len, &image);
	bool scale;

	if (ret < 0 || (ret = vcpu_check_tsc(vcpu, image.tsc_khz, &scale)) < 0)
		return ret;
	xsave_size = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	if (xsave_size < (int)sizeof(struct kvm_xsave))
		xsave_size = sizeof(struct kvm_xsave);
	if (image.xsave_size < (uint32_t)xsave_size)
		return failf(EINVAL,
			     "vcpu %u: %u bytes of FPU state, this host needs %d: restore it "
			     "on a host like its own",
			     vcpu->index, image.xsave_size, xsave_size);
	if (!vcpu->vm->host_key)
		vcpu->vm->host_key = cpuid_host_key();
	if (image.host_key == vcpu->vm->host_key || vcpu_has_cpuid(vcpu, &image))
		return 0;
	vcpu_cpuid_of(&image, &saved);
	ret = cpuid_host(vcpu->vm, vcpu->index, vcpu->vm->vcpu_count, &host);
	return ret < 0 ? ret : cpuid_check(&saved, &host);
}

/*
 * Without EFER, which is among the system registers and may come after the MSRs. A kvmclock page
 * that the guest has registered is told at once that the machine stood still.
 */
static int vcpu_load_msrs(struct vcpu *vcpu, const struct vcpu_image *image, unsigned *skipped)
{
	struct blob in = blob_reader(image->msrs, image->msr_count * sizeof(struct kvm_msr_entry));
	struct msr_table msrs;
	bool kvmclock = false;
	int ret;

	msrs.count = 0;
	for (uint32_t i = 0; i < image->msr_count; i++) {
		struct kvm_msr_entry *msr = &msrs.entries[msrs.count];

		blob_get(&in, msr, sizeof(*msr));
		msrs.count += msr->index != MSR_EFER;
		kvmclock |= (msr->index == MSR_KVMCLOCK || msr->index == MSR_KVMCLOCK_OLD) &&
			    msr->data & 1;
	}
	ret = msr_write_all(vcpu, &msrs, skipped);
	if (ret == 0 && kvmclock)
		vcpu_clock_paused(vcpu);
	vcpu->clock_told = true;
	return ret;
}

/* What a new vCPU has; setting it again would cost a call each. */
static bool vcpu_is_new_xcrs(const void *saved)
{
	struct kvm_xcrs xcrs;

	memcpy(&xcrs, saved, sizeof(xcrs));
	return xcrs.nr_xcrs == 1 && xcrs.xcrs[0].xcr == 0 && xcrs.xcrs[0].value == 1;
}

/*
 * Of a guest that has not used the FPU: FCW and MXCSR as after reset, all else 0, whether XSTATE_BV
 * calls x87, SSE and AVX in use or not. MXCSR's mask and the bytes for software are KVM's.
 */
static bool vcpu_is_new_fpu(const struct vcpu_image *image)
{
	struct blob in = blob_reader(image->xsave, image->xsave_size);
	uint64_t other = 0;

	for (size_t at = 0; at < image->xsave_size; at += sizeof(uint64_t)) {
		uint64_t word = blob_get_u64(&in);

		if (at == XSAVE_FCW)
			word ^= 0x37f;
		else if (at == XSAVE_MXCSR)
			word = (uint32_t)word ^ 0x1f80;
		else if (at == XSAVE_HEADER)
			word &= ~7ull;
		else if (at >= XSAVE_SOFTWARE && at < XSAVE_HEADER)
			word = 0;
		other |= word;
	}
	return other == 0 && !in.failed;
}

static bool vcpu_is_new_debugregs(const void *saved)
{
	static const struct kvm_debugregs fresh = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };

	return memcmp(saved, &fresh, sizeof(fresh)) == 0;
}

static bool vcpu_is_new_mp_state(const struct vcpu *vcpu, const void *saved)
{
	struct kvm_mp_state mp;

	memcpy(&mp, saved, sizeof(mp));
	return vcpu->index == 0 && mp.mp_state == KVM_MP_STATE_RUNNABLE;
}

/*
 * A call for each part that differs from what a fresh vCPU has and is not among `later`, in an
 * order that vcpu_load() explains.
 */
static int vcpu_load_late(struct vcpu *vcpu, const struct vcpu_image *image, uint64_t later)
{
	int ret = 0;

	if (!(vcpu->fresh && vcpu_is_new_xcrs(image->xcrs)) &&
	    (ret = vcpu_set(vcpu, KVM_SET_XCRS, "XCR0", image->xcrs)) < 0)
		return ret;
	if (!(vcpu->fresh && vcpu_is_new_fpu(image)) &&
	    (ret = vcpu_set(vcpu, KVM_SET_XSAVE, "FPU state", image->xsave)) < 0)
		return ret;
	if (!(vcpu->fresh && vcpu_is_new_debugregs(image->debug)) &&
	    (ret = vcpu_set(vcpu, KVM_SET_DEBUGREGS, "debug registers", image->debug)) < 0)
		return ret;
	if (!(later & KVM_SYNC_X86_REGS) &&
	    (ret = vcpu_set(vcpu, KVM_SET_REGS, "registers", image->regs)) < 0)
		return ret;
	if (!(later & KVM_SYNC_X86_EVENTS) &&
	    (ret = vcpu_set(vcpu, KVM_SET_VCPU_EVENTS, "pending events", image->events)) < 0)
		return ret;
	if (!(vcpu->fresh && vcpu_is_new_mp_state(vcpu, image->mp_state)))
		ret = vcpu_set(vcpu, KVM_SET_MP_STATE, "MP state", image->mp_state);
	return ret;
}

/*
 * The CPU may still know translations of what ran before, and the saved registers may be the same as
 * those that are set, so that setting them changes nothing. Another CR0 first makes KVM begin anew.
 */
static int vcpu_forget_translations(struct vcpu *vcpu, const struct vcpu_image *image)
{
	struct kvm_sregs2 sregs;

	memcpy(&sregs, image->sregs, sizeof(sregs));
	sregs.cr0 ^= CR0_WP;
	return vcpu_set(vcpu, KVM_SET_SREGS2, "system registers", &sregs);
}

static int vcpu_set_cpuid(struct vcpu *vcpu, const struct vcpu_image *image)
{
	struct cpuid_table cpuid;
	int ret;

	if (vcpu_has_cpuid(vcpu, image))
		return 0;
	vcpu_cpuid_of(image, &cpuid);
	ret = vcpu_set(vcpu, KVM_SET_CPUID2, "CPUID", &cpuid);
	if (ret < 0)
		return ret;
	vcpu->cpuid = image->cpuid;
	vcpu->cpuid_count = image->cpuid_count;
	return 0;
}

int vcpu_load_cpuid(struct vcpu *vcpu, const void *state, size_t len)
{
	struct vcpu_image image = { 0 };
	int ret = vcpu_parse(vcpu->index, state, len, &image);

	return ret < 0 ? ret : vcpu_set_cpuid(vcpu, &image);
}

/*
 * The order KVM wants: CPUID decides what may be set at all; the APIC base is among the system
 * registers, so the local APIC follows them unless it is right already; the TSC comes before its
 * deadline, which also needs the local APIC's timer mode; pending events come late and MP_STATE last.
 */
int vcpu_load(struct vcpu *vcpu, const void *state, size_t len, bool time, unsigned *skipped)
{
	struct vcpu_image image = { 0 };
	uint64_t later;
	int ret = vcpu_parse(vcpu->index, state, len, &image);

	if (ret < 0)
		return ret;
	vcpu->run->kvm_dirty_regs = 0; /* of an earlier load */
	later = vcpu_sync_parts(vcpu, &image);
	ret = vcpu_set_cpuid(vcpu, &image);
	if (ret < 0)
		return ret;
	if (vcpu->loaded && vcpu->vm->remapped &&
	    (ret = vcpu_forget_translations(vcpu, &image)) < 0)
		return ret;
	if (!(later & KVM_SYNC_X86_SREGS) &&
	    (ret = vcpu_set(vcpu, KVM_SET_SREGS2, "system registers", image.sregs)) < 0)
		return ret;
	if ((ret = vcpu_set(vcpu, KVM_SET_LAPIC, "local APIC", image.lapic)) < 0 ||
	    (time && (ret = vcpu_set_tsc(vcpu, &image)) < 0) ||
	    (ret = vcpu_load_msrs(vcpu, &image, skipped)) < 0)
		return ret;
	ret = vcpu_load_late(vcpu, &image, later);
	if (ret == 0 && later)
		vcpu_sync(vcpu, &image, later);
	vcpu->fresh = false;
	vcpu->loaded = true;
	/* With vm_wait_in_place(): a page that is not there is not told to the guest either. */
	if (ret == 0 && vcpu->vm->memory.on_demand)
		msr_write(vcpu, MSR_ASYNC_PF, 0);
	return ret;
}
