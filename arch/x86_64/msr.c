/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model specific registers: which ones make up a vCPU's state, and reading and
 * writing them when KVM stops at the first it does not like.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

/* One less than KVM takes in a call (MAX_IO_MSRS). */
#define MSRS_PER_CALL 255u

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSRS_PER_CALL];
};

struct msr_range {
	uint32_t first;
	uint32_t count;
};

/* State of a guest that KVM_GET_MSR_INDEX_LIST leaves out, on some kernels or on all. */
static const struct msr_range msr_unlisted[] = {
	{ 0x48, 1 },   /* SPEC_CTRL */
	{ 0x200, 16 }, /* MTRR variable ranges */
	{ 0x250, 1 },  /* MTRR fixed 64K */
	{ 0x258, 2 },  /* MTRR fixed 16K */
	{ 0x268, 8 },  /* MTRR fixed 4K */
	{ 0x277, 1 },  /* PAT */
	{ MSR_MTRR_DEFTYPE, 1 },
	{ 0x400, 128 },       /* machine-check banks: CTL, STATUS, ADDR, MISC of 32 */
	{ 0xda0, 1 },         /* XSS */
	{ 0xc0000103, 1 },    /* TSC_AUX */
	{ 0xc0010140, 2 },    /* OSVW */
	{ 0xc0011029, 1 },    /* AMD DE_CFG */
	{ 0x11, 2 },          /* kvmclock by its first numbers: wall clock, system time */
	{ 0x4b564d00, 0x10 }, /* KVM's paravirtual MSRs */
};

/*
 * What a host may refuse to set because it describes the host's CPU and a guest cannot have
 * changed it (docs/snapshot.md).
 */
static const uint32_t msr_skippable[] = {
	0x8b,       /* microcode revision */
	0x10a,      /* IA32_ARCH_CAPABILITIES */
	0x345,      /* IA32_PERF_CAPABILITIES */
	0xc0011029, /* AMD DE_CFG */
};

/* Whether it is among the first `count`. */
static bool msr_listed(const struct msr_table *table, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (table->entries[i].index == index)
			return true;
	return false;
}

static void msr_append(struct msr_table *table, uint32_t index, uint64_t value)
{
	if (table->count < MSRS_MAX)
		table->entries[table->count++] =
			(struct kvm_msr_entry){ .index = index, .data = value };
}

/*
 * KVM_GET_MSRS or KVM_SET_MSRS of entries, in as many calls as they need. How many it took, in order:
 * it stops at the first that it does not like; -errno without a sentence.
 */
static int msr_call(const struct vcpu *vcpu, unsigned long request, struct kvm_msr_entry *entries,
		    uint32_t count)
{
	struct msr_batch batch;
	uint32_t done = 0, asked;
	int n;

	do {
		asked = count - done < MSRS_PER_CALL ? count - done : MSRS_PER_CALL;
		batch.head = (struct kvm_msrs){ .nmsrs = asked };
		memcpy(batch.entries, entries + done, asked * sizeof(*entries));
		n = ioctl(vcpu->fd, request, &batch);
		if (n < 0)
			return -errno;
		if (request == KVM_GET_MSRS)
			memcpy(entries + done, batch.entries, (uint32_t)n * sizeof(*entries));
		done += (uint32_t)n;
	} while ((uint32_t)n == asked && done < count);
	return (int)done;
}

int msr_read(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct kvm_msr_entry one = { .index = index };

	if (msr_call(vcpu, KVM_GET_MSRS, &one, 1) != 1)
		return -EINVAL;
	*value = one.data;
	return 0;
}

int msr_write(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct kvm_msr_entry one = { .index = index, .data = value };

	return msr_call(vcpu, KVM_SET_MSRS, &one, 1) == 1 ? 0 : -EINVAL;
}

/* Has a place of its own, or is Hyper-V's, which a guest is not shown and cannot set; some count. */
static bool msr_is_left_out(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_DEADLINE || index >> 20 == 0x400;
}

int msr_list(const struct vm *vm, struct msr_table *table)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[MSRS_MAX];
	} known = { .head.nmsrs = MSRS_MAX };
	uint32_t listed;

	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &known.head) < 0)
		return failf(errno, "cannot list the MSRs of this KVM: %s", strerror(errno));
	table->count = 0;
	for (uint32_t i = 0; i < known.head.nmsrs; i++)
		if (!msr_is_left_out(known.indices[i]))
			msr_append(table, known.indices[i], 0);
	listed = table->count;
	for (size_t r = 0; r < sizeof(msr_unlisted) / sizeof(msr_unlisted[0]); r++)
		for (uint32_t i = 0; i < msr_unlisted[r].count; i++)
			if (!msr_listed(table, listed, msr_unlisted[r].first + i))
				msr_append(table, msr_unlisted[r].first + i, 0);
	/* Last, because setting it needs the TSC and the local APIC's timer mode. */
	msr_append(table, MSR_TSC_DEADLINE, 0);
	return 0;
}

int msr_read_all(const struct vcpu *vcpu, struct msr_table *table)
{
	uint32_t kept = 0, next = 0, total;
	int n, ret = msr_list(vcpu->vm, table);

	if (ret < 0)
		return ret;
	/* Drops those that this vCPU does not answer for. */
	for (total = table->count; next < total; next += (uint32_t)n + 1) {
		n = msr_call(vcpu, KVM_GET_MSRS, &table->entries[next], total - next);
		if (n < 0)
			return failf(-n, "cannot read MSRs: %s", strerror(-n));
		memmove(&table->entries[kept], &table->entries[next],
			(uint32_t)n * sizeof(table->entries[0]));
		kept += (uint32_t)n;
	}
	table->count = kept;
	return 0;
}

static bool msr_is_skippable(uint32_t index)
{
	for (size_t i = 0; i < sizeof(msr_skippable) / sizeof(msr_skippable[0]); i++)
		if (msr_skippable[i] == index)
			return true;
	return false;
}

/*
 * Drops from the table what the vCPU holds already: most of it on a new vCPU, and with it what
 * KVM would refuse to set on any host. One call for all, and for the TSC too, which the identity
 * needs; an MSR that cannot be read stays.
 */
static int msr_drop_held(struct vcpu *vcpu, struct msr_table *table)
{
	struct msr_table held = *table;
	uint32_t kept = 0;
	int n;

	msr_append(&held, MSR_TSC, 0);
	n = msr_call(vcpu, KVM_GET_MSRS, held.entries, held.count);
	if (n < 0)
		return failf(-n, "cannot read MSRs: %s", strerror(-n));
	vcpu->tsc_known = (uint32_t)n > table->count;
	if (vcpu->tsc_known)
		vcpu->tsc_ahead = held.entries[table->count].data - __rdtsc();
	for (uint32_t i = 0; i < table->count; i++)
		if (i >= (uint32_t)n || held.entries[i].data != table->entries[i].data)
			table->entries[kept++] = table->entries[i];
	table->count = kept;
	return 0;
}

int msr_write_all(struct vcpu *vcpu, struct msr_table *table, unsigned *skipped)
{
	int ret = msr_drop_held(vcpu, table);

	while (ret == 0 && table->count) {
		int n = msr_call(vcpu, KVM_SET_MSRS, table->entries, table->count);
		const struct kvm_msr_entry *refused = &table->entries[n < 0 ? 0 : n];

		if (n < 0)
			return failf(-n, "cannot set MSRs: %s", strerror(-n));
		if ((uint32_t)n == table->count)
			break;
		if (!msr_is_skippable(refused->index))
			return failf(
				EINVAL,
				"this host's KVM refuses MSR 0x%x = 0x%llx: the snapshot needs "
				"a host like the one it was made on",
				refused->index, (unsigned long long)refused->data);
		(*skipped)++;
		table->count -= (uint32_t)n + 1;
		memmove(table->entries, refused + 1, table->count * sizeof(table->entries[0]));
	}
	return ret;
}
