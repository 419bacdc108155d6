/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of arch/x86_64/ share with each other and with nobody else: CPUID
 * tables, MSR lists, registers for a crash report.
 */
#ifndef VIRGA_ARCH_X86_64_MACHINE_H
#define VIRGA_ARCH_X86_64_MACHINE_H

#include <linux/kvm.h>
#include <stdint.h>

#include "arch/vcpu.h"

#define CPUID_ENTRIES_MAX 128
#define MSRS_MAX          512

struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

struct msr_table {
	uint32_t count;
	struct kvm_msr_entry entries[MSRS_MAX];
};

/* The parts of a saved vCPU, pointing into the section. */
struct vcpu_image {
	uint32_t tsc_khz;
	uint32_t cpuid_count;
	uint64_t host_key;
	uint64_t tsc;
	const void *cpuid, *regs, *sregs, *xsave, *xcrs, *debug, *events, *mp_state, *lapic, *msrs;
	uint32_t xsave_size;
	uint32_t msr_count;
};

/* Takes a saved vCPU apart; index is for sentences. 0 or -EINVAL with a sentence. */
int vcpu_parse(unsigned index, const void *state, size_t len, struct vcpu_image *image);

/* Whether it has that MSR, and its value (NULL: not wanted), which is left alone where it has not. */
bool vcpu_image_msr(const struct vcpu_image *image, uint32_t index, uint64_t *value);

/* The CPUID table of a saved vCPU. */
void vcpu_cpuid_of(const struct vcpu_image *image, struct cpuid_table *table);

/* One KVM_SET_* of a saved part. 0 or -errno with a sentence that says what. */
int vcpu_set(struct vcpu *vcpu, unsigned long request, const char *what, const void *data);

/*
 * The guest's TSC at the moment the clock was read. The offset attribute gives it exactly, and so
 * the same for every vCPU; where KVM has none, or does not apply the one it has, it is measured.
 */
int vcpu_tsc_at_clock(struct vcpu *vcpu, uint64_t *tsc);

/* Could the guest's TSC run at the saved frequency here? *scale: only by scaling it. */
int vcpu_check_tsc(const struct vcpu *vcpu, uint32_t khz, bool *scale);

/* Sets the guest's TSC so that it goes on from the saved value. */
int vcpu_set_tsc(struct vcpu *vcpu, const struct vcpu_image *image);

/* MSRs that are named in more than one file. */
#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_MTRR_DEFTYPE 0x2ffu
#define MSR_KVMCLOCK     0x4b564d01u
#define MSR_KVMCLOCK_OLD 0x12u
#define MSR_ASYNC_PF     0x4b564d02u
#define MSR_SYSENTER_CS  0x174u
#define MSR_EFER         0xc0000080u

/*
 * What KVM supports on this host, for vCPU `index` of `count`: topology and APIC ids filled in. What a
 * saved table is compared with. 0 or -errno with a sentence.
 */
int cpuid_host(const struct vm *vm, unsigned index, unsigned count, struct cpuid_table *table);

/* What a guest that boots is shown of it: from what host_cpuid_start() asked for; waits for it. */
int host_cpuid_take(struct host_cpuid *host, unsigned index, unsigned count,
		    struct cpuid_table *table);

/* Takes from an entry what a guest is not to be shown. */
void cpuid_allow(struct kvm_cpuid_entry2 *entry);

/*
 * Whether a saved table (len bytes of entries, of any alignment) has nothing that a guest is no longer
 * shown. 0, or -EINVAL with a sentence that names the first.
 */
int cpuid_check_allowed(const void *cpuid, size_t len);

/*
 * Compares a saved table's features with what this host offers, and the numbers that a guest computes
 * with: 0, or -EINVAL with a sentence that names the first leaf and register with a bit this host
 * lacks.
 */
int cpuid_check(const struct cpuid_table *saved, const struct cpuid_table *host);

/* A number that changes with the host's kernel and CPU features: equal means no check is needed. */
uint64_t cpuid_host_key(void);

/*
 * The MSRs that are a guest's state, in the order in which they are saved and loaded: KVM's index list
 * and those that it omits, the TSC deadline last. Without the TSC, which has a field of its own, what
 * is among the system registers, and Hyper-V's. Values are 0. 0 or -errno with a sentence.
 */
int msr_list(const struct vm *vm, struct msr_table *table) __attribute__((cold));

/* Reads those of them that the vCPU has. */
int msr_read_all(const struct vcpu *vcpu, struct msr_table *table);

/* Whether a write to an MSR that a guest may not write is passed over; else it is a fault. */
bool limits_drops_write(uint32_t index);

/* One MSR; 0 or -errno without a sentence. */
int msr_read(const struct vcpu *vcpu, uint32_t index, uint64_t *value);
int msr_write(const struct vcpu *vcpu, uint32_t index, uint64_t value);

/*
 * Writes, in order, those whose value the vCPU does not hold already (and uses up the table). One
 * that KVM refuses is an error that names it, unless it is on the skip list; *skipped counts. The
 * TSC, which is set before, is read on the way (tsc_ahead).
 */
int msr_write_all(struct vcpu *vcpu, struct msr_table *table, unsigned *skipped);

/*
 * The parts of a saved vCPU that may be left for the next KVM_RUN, as KVM_SYNC_X86_* bits, and that
 * leave them there. vcpu_flush() and vcpu_refused() are arch/vcpu.h's.
 */
uint64_t vcpu_sync_parts(const struct vcpu *vcpu, const struct vcpu_image *image);
void vcpu_sync(struct vcpu *vcpu, const struct vcpu_image *image, uint64_t parts);

#endif
