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

struct msr_one {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

struct msr_range {
	uint32_t first;
	uint32_t count;
};

/* State that KVM_GET_MSR_INDEX_LIST leaves out. */
static const struct msr_range msr_unlisted[] = {
	{ 0x200, 16 }, /* MTRR variable ranges */
	{ 0x250, 1 },  /* MTRR fixed 64K */
	{ 0x258, 2 },  /* MTRR fixed 16K */
	{ 0x268, 8 },  /* MTRR fixed 4K */
	{ 0x277, 1 },  /* PAT */
	{ MSR_MTRR_DEFTYPE, 1 },
	{ 0x11, 2 },           /* kvmclock by its first numbers: wall clock, system time */
	{ 0x4b564d00, 0x100 }, /* KVM's paravirtual MSRs, all that answer */
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

static bool msr_listed(const struct msr_table *table, uint32_t index)
{
	for (uint32_t i = 0; i < table->head.nmsrs; i++)
		if (table->entries[i].index == index)
			return true;
	return false;
}

static void msr_append(struct msr_table *table, uint32_t index, uint64_t value)
{
	if (table->head.nmsrs < MSRS_MAX)
		table->entries[table->head.nmsrs++] =
			(struct kvm_msr_entry){ .index = index, .data = value };
}

int msr_read(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct msr_one one = { .head.nmsrs = 1, .entry.index = index };

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &one) != 1)
		return -EINVAL;
	*value = one.entry.data;
	return 0;
}

int msr_write(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct msr_one one = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	return ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1 ? 0 : -EINVAL;
}

static int msr_list(const struct vm *vm, struct msr_table *table)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[MSRS_MAX];
	} known = { .head.nmsrs = MSRS_MAX };

	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &known.head) < 0)
		return failf(errno, "cannot list the MSRs of this KVM: %s", strerror(errno));
	*table = (struct msr_table){ 0 };
	for (uint32_t i = 0; i < known.head.nmsrs; i++)
		if (known.indices[i] != MSR_TSC && known.indices[i] != MSR_TSC_DEADLINE)
			msr_append(table, known.indices[i], 0);
	return 0;
}

/* Adds what the index list omits, each only if the vCPU answers for it. */
static void msr_read_unlisted(const struct vcpu *vcpu, struct msr_table *table)
{
	const size_t ranges = sizeof(msr_unlisted) / sizeof(msr_unlisted[0]);
	uint64_t value;

	for (size_t r = 0; r < ranges; r++) {
		for (uint32_t i = 0; i < msr_unlisted[r].count; i++) {
			uint32_t index = msr_unlisted[r].first + i;

			if (table->head.nmsrs == MSRS_MAX || msr_listed(table, index) ||
			    msr_read(vcpu, index, &value) < 0)
				continue;
			msr_append(table, index, value);
		}
	}
}

/* Reads the table's entries in as few calls as KVM allows, dropping the refused. */
static int msr_read_table(const struct vcpu *vcpu, struct msr_table *table)
{
	struct msr_table batch;
	uint32_t kept = 0, next = 0, total = table->head.nmsrs;

	while (next < total) {
		int n;

		batch.head = (struct kvm_msrs){ .nmsrs = total - next };
		memcpy(batch.entries, &table->entries[next],
		       (total - next) * sizeof(batch.entries[0]));
		n = ioctl(vcpu->fd, KVM_GET_MSRS, &batch);
		if (n < 0)
			return failf(errno, "cannot read MSRs: %s", strerror(errno));
		memcpy(&table->entries[kept], batch.entries, (size_t)n * sizeof(batch.entries[0]));
		kept += (uint32_t)n;
		next += (uint32_t)n + 1;
	}
	table->head.nmsrs = kept;
	return 0;
}

int msr_read_all(const struct vcpu *vcpu, struct msr_table *table)
{
	uint64_t deadline;
	int ret = msr_list(vcpu->vm, table);

	if (ret < 0 || (ret = msr_read_table(vcpu, table)) < 0)
		return ret;
	msr_read_unlisted(vcpu, table);
	/* Last, because setting it needs the TSC and the local APIC's timer mode. */
	if (msr_read(vcpu, MSR_TSC_DEADLINE, &deadline) == 0)
		msr_append(table, MSR_TSC_DEADLINE, deadline);
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
	struct msr_table held;
	uint32_t count = table->head.nmsrs, kept = 0;
	int n;

	held.head = (struct kvm_msrs){ .nmsrs = count };
	memcpy(held.entries, table->entries, count * sizeof(held.entries[0]));
	msr_append(&held, MSR_TSC, 0);
	n = ioctl(vcpu->fd, KVM_GET_MSRS, &held);
	if (n < 0)
		return failf(errno, "cannot read MSRs: %s", strerror(errno));
	vcpu->tsc_known = (uint32_t)n > count;
	if (vcpu->tsc_known)
		vcpu->tsc_ahead = held.entries[count].data - __rdtsc();
	for (uint32_t i = 0; i < table->head.nmsrs; i++)
		if (i >= (uint32_t)n || held.entries[i].data != table->entries[i].data)
			table->entries[kept++] = table->entries[i];
	table->head.nmsrs = kept;
	return 0;
}

int msr_write_all(struct vcpu *vcpu, struct msr_table *table, unsigned *skipped)
{
	int ret = msr_drop_held(vcpu, table);

	while (ret == 0 && table->head.nmsrs) {
		int n = ioctl(vcpu->fd, KVM_SET_MSRS, table);
		const struct kvm_msr_entry *refused = &table->entries[n < 0 ? 0 : n];

		if (n < 0)
			return failf(errno, "cannot set MSRs: %s", strerror(errno));
		if ((uint32_t)n == table->head.nmsrs)
			break;
		if (!msr_is_skippable(refused->index))
			return failf(
				EINVAL,
				"this host's KVM refuses MSR 0x%x = 0x%llx: the snapshot needs "
				"a host like the one it was made on",
				refused->index, (unsigned long long)refused->data);
		(*skipped)++;
		table->head.nmsrs -= (uint32_t)n + 1;
		memmove(table->entries, refused + 1, table->head.nmsrs * sizeof(table->entries[0]));
	}
	return ret;
}
