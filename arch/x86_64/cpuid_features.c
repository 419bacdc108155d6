/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPUID features a guest is shown: an allow list, bit by bit, of those that have no state or
 * whose state a saved vCPU has (docs/snapshot.md). What a later KVM offers is off until it is known to
 * be saved. And the check that a saved table fits a host, which goes by the same list.
 *
 * Bits: Intel SDM 2A (CPUID), AMD APM 3 (appendix E), KVM's Documentation/virt/kvm/x86/cpuid.rst.
 */
#include <errno.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/x86_64/machine.h"

#define CPUID_1_ECX_OSXSAVE  (1u << 27)
#define CPUID_7_ECX_OSPKE    (1u << 4)
#define CPUID_LEAF_XSAVE     0xdu
#define CPUID_LEAF_ADDRESSES 0x80000008u

/* A register with features and the bits of it that are allowed; eax, ebx, ecx, edx are 0 to 3. */
struct cpuid_features {
	uint32_t function;
	uint8_t index;
	uint8_t reg;
	uint32_t allowed;
};

static const struct cpuid_features cpuid_features[] = {
	/* Not VMX, SMX, PDCM (PMU), DTES64, TM2. */
	{ 0x1, 0, 2, 0xfffa320b },
	/* Not PSN, DS, ACPI, TM, PBE. */
	{ 0x1, 0, 3, 0x1f8bfbff },
	/* ARAT alone: nothing that manages power. */
	{ 0x6, 0, 0, 0x00000004 },
	{ 0x6, 0, 1, 0 },
	{ 0x6, 0, 2, 0 },
	{ 0x6, 0, 3, 0 },
	/* Not SGX, PQM, PQE, PT. */
	{ 0x7, 0, 1, 0xfdbf6ffb },
	/* Not SHSTK, TME, ENQCMD, SGX_LC, PKS. */
	{ 0x7, 0, 2, 0x1b415f7f },
	/* Not UINTR, HYBRID, PCONFIG, ARCH_LBR, IBT, CORE_CAPABILITIES. */
	{ 0x7, 0, 3, 0xbfc14f1c },
	/* Not FRED, LASS. */
	{ 0x7, 1, 0, 0x04a81cb7 },
	{ 0x7, 1, 1, 0 },
	{ 0x7, 1, 2, 0x00000020 },
	{ 0x7, 1, 3, 0x00084530 },
	{ 0x7, 2, 0, 0 },
	{ 0x7, 2, 1, 0 },
	{ 0x7, 2, 2, 0 },
	{ 0x7, 2, 3, 0x0000003f },
	/* XCR0: x87, SSE, AVX, MPX, AVX-512, PKRU, AMX; IA32_XSS: nothing (not PT, CET). */
	{ 0xd, 0, 0, 0x000602ff },
	{ 0xd, 0, 3, 0 },
	{ 0xd, 1, 0, 0x0000001f },
	{ 0xd, 1, 2, 0 },
	{ 0xd, 1, 3, 0 },
	/* KVM's: all with MSRs of the range that is saved; not what encrypted memory needs. */
	{ 0x40000001, 0, 0, 0x0100feff },
	{ 0x40000001, 0, 3, 0x00000001 },
	/* Not SVM, EXTAPIC, IBS, SKINIT, WDT, LWP, PERFCTR_*, BPEXT. */
	{ 0x80000001, 0, 2, 0x20630bf3 },
	{ 0x80000001, 0, 3, 0xefd3fbff },
	{ 0x80000007, 0, 1, 0 },
	{ 0x80000007, 0, 3, 0x00000100 },
	/* Not IRPERF, RDPRU, PPIN. */
	{ 0x80000008, 0, 1, 0x370ad205 },
	/* Not SMM_CTL's lock and what manages power. */
	{ 0x80000021, 0, 0, 0x78100347 },
	{ 0x80000021, 0, 2, 0x00000006 },
	{ 0x80000021, 0, 3, 0 },
};

/*
 * Leaves that a guest is shown, a bit each, of those from 0, 0x40000000 and 0x80000000 on: with
 * features, above, and with numbers (names, caches, topology, where parts of the FPU's state lie,
 * tiles, AVX10). Not those of PMU, SGX, PT, LBR, SVM, IBS, SEV, and not what a later CPU has.
 */
#define CPUID_BASIC    0x00000010e06028d7ull
#define CPUID_KVM      0x3ull
#define CPUID_EXTENDED 0x00000002660001ffull

static uint32_t *cpuid_register(struct kvm_cpuid_entry2 *e, unsigned reg)
{
	uint32_t *const registers[] = { &e->eax, &e->ebx, &e->ecx, &e->edx };

	return registers[reg];
}

static bool cpuid_is_shown(uint32_t function)
{
	static const uint64_t shown[4] = { CPUID_BASIC, CPUID_KVM, CPUID_EXTENDED, 0 };
	uint32_t leaf = function & 0x3fffffff;

	return leaf < 64 && shown[function >> 30] >> leaf & 1;
}

void cpuid_allow(struct kvm_cpuid_entry2 *e)
{
	if (!cpuid_is_shown(e->function))
		e->eax = e->ebx = e->ecx = e->edx = 0;
	for (size_t i = 0; i < sizeof(cpuid_features) / sizeof(cpuid_features[0]); i++)
		if (cpuid_features[i].function == e->function &&
		    cpuid_features[i].index == e->index)
			*cpuid_register(e, cpuid_features[i].reg) &= cpuid_features[i].allowed;
}

static int cpuid_not_allowed(const struct kvm_cpuid_entry2 *e, unsigned reg, uint32_t bits)
{
	static const char *const names[] = { "eax", "ebx", "ecx", "edx" };

	return failf(
		EINVAL,
		"its guest was shown CPU features whose state is not saved: CPUID 0x%x.%u %s bits "
		"0x%x; build it anew",
		e->function, e->index, names[reg], bits);
}

int cpuid_check_allowed(const void *cpuid, size_t len)
{
	struct kvm_cpuid_entry2 saved, allowed;

	for (size_t at = 0; at + sizeof(saved) <= len; at += sizeof(saved)) {
		memcpy(&saved, (const uint8_t *)cpuid + at, sizeof(saved));
		allowed = saved;
		cpuid_allow(&allowed);
		for (unsigned reg = 0; reg < 4; reg++) {
			uint32_t bits =
				*cpuid_register(&saved, reg) & ~*cpuid_register(&allowed, reg);

			if (bits)
				return cpuid_not_allowed(&saved, reg, bits);
		}
	}
	return 0;
}

/* --- Whether a saved table fits a host --- */

static bool cpuid_find(const struct cpuid_table *table, const struct kvm_cpuid_entry2 *like,
		       struct kvm_cpuid_entry2 *found)
{
	for (uint32_t i = 0; i < table->head.nent; i++) {
		*found = table->entries[i];
		if (found->function == like->function && found->index == like->index)
			return true;
	}
	*found = (struct kvm_cpuid_entry2){ 0 };
	return false;
}

/* Features of one leaf, also those that are no longer allowed. */
static int cpuid_check_features(const struct kvm_cpuid_entry2 *saved, struct kvm_cpuid_entry2 *have)
{
	static const char *const names[] = { "eax", "ebx", "ecx", "edx" };
	struct kvm_cpuid_entry2 want = *saved;

	/* CR4's word, not the CPU's. */
	if (want.function == 1)
		want.ecx &= ~CPUID_1_ECX_OSXSAVE;
	if (want.function == 7 && want.index == 0)
		want.ecx &= ~CPUID_7_ECX_OSPKE;
	for (size_t i = 0; i < sizeof(cpuid_features) / sizeof(cpuid_features[0]); i++) {
		const struct cpuid_features *f = &cpuid_features[i];
		uint32_t lacking;

		if (f->function != want.function || f->index != want.index)
			continue;
		lacking = *cpuid_register(&want, f->reg) & ~*cpuid_register(have, f->reg);
		if (lacking)
			return failf(EINVAL,
				     "the snapshot uses CPU features this host has not: "
				     "CPUID 0x%x.%u %s bits 0x%x; restore it on a host like "
				     "its own",
				     f->function, f->index, names[f->reg], lacking);
	}
	return 0;
}

/* By ebx, ecx and edx: the vendor, tiles and how they are multiplied, AVX10. */
static bool cpuid_is_exact(uint32_t function)
{
	return function == 0 || function == 0x1d || function == 0x1e || function == 0x24;
}

/*
 * Numbers that the guest computes with: where the FPU's parts lie, how wide an address is, whose
 * CPU it is. All others describe, such as caches, and may differ.
 */
static int cpuid_check_numbers(const struct kvm_cpuid_entry2 *saved,
			       const struct kvm_cpuid_entry2 *have)
{
	if (saved->function == CPUID_LEAF_XSAVE && saved->index > 1 && saved->eax &&
	    (saved->eax != have->eax || saved->ebx != have->ebx))
		return failf(
			EINVAL,
			"the snapshot has part %u of the FPU state in %u bytes at %u, this host "
			"in %u at %u; restore it on a host like its own",
			saved->index, saved->eax, saved->ebx, have->eax, have->ebx);
	if (cpuid_is_exact(saved->function) &&
	    memcmp(&saved->ebx, &have->ebx, 3 * sizeof(saved->ebx)) != 0)
		return failf(EINVAL,
			     "the snapshot's CPU is another than this host's (CPUID 0x%x.%u); "
			     "restore it on a host like its own",
			     saved->function, saved->index);
	if (saved->function == CPUID_LEAF_ADDRESSES && (saved->eax & 0xff) > (have->eax & 0xff))
		return failf(EINVAL,
			     "the snapshot's physical addresses have %u bits, this host's %u; "
			     "restore it on a host like its own",
			     saved->eax & 0xff, have->eax & 0xff);
	return 0;
}

int cpuid_check(const struct cpuid_table *saved, const struct cpuid_table *host)
{
	for (uint32_t i = 0; i < saved->head.nent; i++) {
		struct kvm_cpuid_entry2 have;
		int ret;

		cpuid_find(host, &saved->entries[i], &have);
		ret = cpuid_check_features(&saved->entries[i], &have);
		if (ret == 0)
			ret = cpuid_check_numbers(&saved->entries[i], &have);
		if (ret < 0)
			return ret;
	}
	return 0;
}
