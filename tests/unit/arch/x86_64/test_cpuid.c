/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest is shown of the CPU (arch/x86_64/cpuid.c, cpuid_features.c): nothing whose state is not
 * saved, the topology of one package, and which saved table fits which host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

#define MIB (1ull << 20)

enum { EAX, EBX, ECX, EDX };

/* One feature: its bit in a register of a leaf. */
struct bit {
	uint32_t function, index, reg, bit;
};

/* Features with state of their own that a saved vCPU lacks. */
static const struct bit forbidden[] = {
	{ 1, 0, ECX, 5 },           /* VMX */
	{ 1, 0, ECX, 6 },           /* SMX */
	{ 1, 0, ECX, 15 },          /* PDCM */
	{ 1, 0, EDX, 21 },          /* DS */
	{ 7, 0, EBX, 2 },           /* SGX */
	{ 7, 0, EBX, 25 },          /* PT */
	{ 7, 0, ECX, 7 },           /* CET shadow stacks */
	{ 7, 0, ECX, 31 },          /* PKS */
	{ 7, 0, EDX, 5 },           /* user interrupts */
	{ 7, 0, EDX, 19 },          /* architectural LBR */
	{ 7, 0, EDX, 20 },          /* CET IBT */
	{ 7, 1, EAX, 17 },          /* FRED */
	{ 7, 1, EBX, 0 },           /* PPIN */
	{ 7, 2, EAX, 0 },           /* nothing yet, */
	{ 6, 0, ECX, 0 },           /* APERF and MPERF */
	{ 0xd, 1, ECX, 8 },         /* IA32_XSS: PT, */
	{ 0xd, 1, ECX, 11 },        /* CET */
	{ 0x80000001, 0, ECX, 2 },  /* SVM */
	{ 0x80000001, 0, ECX, 10 }, /* IBS */
	{ 0x80000001, 0, ECX, 23 }, /* PerfCtrExtCore */
};

/* What no 64-bit guest does without, or expects. */
static const struct bit expected[] = {
	{ 1, 0, EDX, 26 },          /* SSE2 */
	{ 1, 0, ECX, 26 },          /* XSAVE */
	{ 1, 0, ECX, 28 },          /* AVX */
	{ 1, 0, ECX, 31 },          /* hypervisor */
	{ 7, 0, EBX, 5 },           /* AVX2 */
	{ 7, 0, EBX, 16 },          /* AVX512F */
	{ 7, 0, EDX, 26 },          /* SPEC_CTRL */
	{ 0xd, 0, EAX, 2 },         /* AVX's state */
	{ 0xd, 0, EAX, 9 },         /* PKRU's */
	{ 0x40000001, 0, EAX, 3 },  /* kvmclock */
	{ 0x80000001, 0, EDX, 11 }, /* SYSCALL */
	{ 0x80000001, 0, EDX, 29 }, /* long mode */
	{ 0x80000007, 0, EDX, 8 },  /* invariant TSC */
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static struct kvm_cpuid_entry2 entry(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
				     uint32_t ecx, uint32_t edx)
{
	return (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, uint32_t reg)
{
	return reg == EAX ? &e->eax : reg == EBX ? &e->ebx : reg == ECX ? &e->ecx : &e->edx;
}

/* A leaf of ones, and what is left of it. */
static void test_allow_list(void **state)
{
	static const uint32_t empty[] = { 0xa,        0x12,       0x14,       0x1c,
					  0x29,       0x100,      0x40000100, 0x8000000a,
					  0x8000001f, 0x80000022, 0x80000026, 0xc0000001 };
	struct kvm_cpuid_entry2 e;

	(void)state;
	for (size_t i = 0; i < COUNT(forbidden); i++) {
		e = entry(forbidden[i].function, forbidden[i].index, ~0u, ~0u, ~0u, ~0u);
		cpuid_allow(&e);
		assert_false(*reg_of(&e, forbidden[i].reg) >> forbidden[i].bit & 1);
	}
	for (size_t i = 0; i < COUNT(expected); i++) {
		e = entry(expected[i].function, expected[i].index, ~0u, ~0u, ~0u, ~0u);
		cpuid_allow(&e);
		assert_true(*reg_of(&e, expected[i].reg) >> expected[i].bit & 1);
	}
	for (size_t i = 0; i < COUNT(empty); i++) {
		e = entry(empty[i], 0, ~0u, ~0u, ~0u, ~0u);
		cpuid_allow(&e);
		assert_int_equal(e.eax | e.ebx | e.ecx | e.edx, 0);
	}
	/* Numbers stay. */
	e = entry(0x15, 0, 1, 2, 3, 4);
	cpuid_allow(&e);
	assert_int_equal(e.eax << 12 | e.ebx << 8 | e.ecx << 4 | e.edx, 0x1234);
}

static void boot(struct vm *vm, unsigned cpus)
{
	const struct boot_regs regs = { .entry = BOOT_ENTRY_PVH, .ip = 0x100000, .info = 0x6000 };
	struct host_cpuid *host = host_cpuid_start();
	struct memory memory;

	assert_int_equal(memory_create(&memory, 16 * MIB), 0);
	assert_int_equal(vm_create(vm, &memory, cpus, true), 0);
	for (unsigned i = 0; i < cpus; i++)
		assert_int_equal(vcpu_boot(&vm->vcpus[i], &regs, host), 0);
	host_cpuid_free(host);
}

/* The leaves that old guests count CPUs by; supported: that leaf as KVM has it. */
static void check_topology(const struct kvm_cpuid_entry2 *e,
			   const struct kvm_cpuid_entry2 *supported, unsigned cpu, unsigned count)
{
	if (e->function == 1) {
		assert_int_equal(e->ebx >> 16, count | cpu << 8);
		assert_true(count == 1 || e->edx >> 28 & 1);
	} else if (e->function == 4 && e->eax & 0x1f) {
		assert_int_equal(e->eax >> 14, (count - 1) << 12);
	} else if (e->function == 0x80000008) {
		assert_int_equal(e->ecx & 0xff, count - 1);
		assert_true(1u << (e->ecx >> 12 & 0xf) >= count);
		assert_int_equal(e->ecx & ~0xf0ffu & ~supported->ecx, 0);
	} else if (e->function == 0x8000001d) {
		assert_int_equal(e->eax >> 14, 0);
	} else if (e->function == 0x8000001e) {
		assert_int_equal(e->eax, cpu);
		assert_int_equal(e->ebx, cpu);
		assert_int_equal(e->ecx, 0);
	}
}

static const struct kvm_cpuid_entry2 *find(const struct cpuid_table *table,
					   const struct kvm_cpuid_entry2 *e)
{
	for (uint32_t i = 0; i < table->head.nent; i++)
		if (table->entries[i].function == e->function &&
		    table->entries[i].index == e->index)
			return &table->entries[i];
	fail_msg("leaf 0x%x is not KVM's", e->function);
	return NULL;
}

/* A real machine's vCPUs: nothing forbidden, and N cores of one thread in one package. */
static void test_booted(void **state)
{
	static const unsigned counts[] = { 1, 2, 5 };
	struct cpuid_table supported = { .head.nent = CPUID_ENTRIES_MAX };
	struct vm vm;

	(void)state;
	for (size_t n = 0; n < COUNT(counts); n++) {
		boot(&vm, counts[n]);
		supported.head.nent = CPUID_ENTRIES_MAX;
		assert_return_code(ioctl(vm.kvm_fd, KVM_GET_SUPPORTED_CPUID, &supported.head), 0);
		for (unsigned cpu = 0; cpu < counts[n]; cpu++) {
			struct cpuid_table table = { .head.nent = CPUID_ENTRIES_MAX };
			unsigned levels = 0;

			assert_return_code(ioctl(vm.vcpus[cpu].fd, KVM_GET_CPUID2, &table.head), 0);
			assert_int_equal(
				cpuid_check_allowed(table.entries,
						    table.head.nent * sizeof(table.entries[0])),
				0);
			for (uint32_t i = 0; i < table.head.nent; i++) {
				const struct kvm_cpuid_entry2 *e = &table.entries[i];

				if (e->function == 0)
					assert_true(e->eax >= 0xb);
				if (e->function == 0x80000008)
					check_topology(e, find(&supported, e), cpu, counts[n]);
				else
					check_topology(e, NULL, cpu, counts[n]);
				if (e->function != 0xb)
					continue;
				levels |= 1u << e->index;
				assert_int_equal(e->edx, cpu);
				if (e->index == 0)
					assert_int_equal(e->eax << 16 | e->ebx, 1);
				if (e->index == 1) {
					assert_int_equal(e->ebx, counts[n]);
					assert_true(1u << e->eax >= counts[n]);
					assert_int_equal(e->ecx >> 8, 2);
				}
				if (e->index == 2)
					assert_int_equal(e->ecx >> 8, 0);
			}
			assert_int_equal(levels, 7);
		}
		vm_destroy(&vm);
	}
}

/* Each register of features is compared, bit by bit, and what the guest has switched on is not. */
static void test_fits(void **state)
{
	struct cpuid_table saved = { .head.nent = 1 }, host = { .head.nent = 1 };

	(void)state;
	for (size_t i = 0; i < COUNT(forbidden) + COUNT(expected); i++) {
		const struct bit *b =
			i < COUNT(forbidden) ? &forbidden[i] : &expected[i - COUNT(forbidden)];

		saved.entries[0] = entry(b->function, b->index, 0, 0, 0, 0);
		host.entries[0] = saved.entries[0];
		*reg_of(&saved.entries[0], b->reg) = 1u << b->bit;
		assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
		assert_non_null(strstr(error_text(), "features this host has not"));
		*reg_of(&host.entries[0], b->reg) = 1u << b->bit;
		assert_int_equal(cpuid_check(&saved, &host), 0);
		host.head.nent = 0; /* the host has no such leaf */
		assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
		host.head.nent = 1;
	}
	saved.entries[0] = entry(1, 0, 0, 0, 1u << 27, 0);
	host.entries[0] = entry(1, 0, 0, 0, 0, 0);
	assert_int_equal(cpuid_check(&saved, &host), 0); /* OSXSAVE */
	saved.entries[0] = entry(7, 0, 0, 0, 1u << 4, 0);
	host.entries[0] = entry(7, 0, 0, 0, 0, 0);
	assert_int_equal(cpuid_check(&saved, &host), 0); /* OSPKE */
}

/* Where the FPU's parts lie, how wide addresses are, whose CPU it is. */
static void test_numbers(void **state)
{
	static const uint32_t exact[] = { 0x1d, 0x1e, 0x24 };
	struct cpuid_table saved = { .head.nent = 1 }, host = { .head.nent = 1 };

	(void)state;
	saved.entries[0] = entry(0xd, 2, 256, 576, 0, 0);
	host = saved;
	assert_int_equal(cpuid_check(&saved, &host), 0);
	host.entries[0].ebx = 832;
	assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
	host.entries[0].ebx = 576;
	host.entries[0].eax = 0;
	assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
	saved.entries[0].eax = 0; /* the saved guest has no such part */
	host.entries[0].eax = 256;
	assert_int_equal(cpuid_check(&saved, &host), 0);
	saved.entries[0] = entry(0, 0, 0x1c, 0x68747541, 0x444d4163, 0x69746e65);
	host.entries[0] = entry(0, 0, 0x0d, 0x68747541, 0x444d4163, 0x69746e65);
	assert_int_equal(cpuid_check(&saved, &host), 0);
	host.entries[0] = entry(0, 0, 0x1c, 0x756e6547, 0x6c65746e, 0x49656e69);
	assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
	assert_non_null(strstr(error_text(), "CPU is another than this host's (CPUID 0x0.0)"));
	for (size_t i = 0; i < COUNT(exact); i++) {
		saved.entries[0] = host.entries[0] = entry(exact[i], 1, 1, 2, 3, 4);
		assert_int_equal(cpuid_check(&saved, &host), 0);
		for (uint32_t reg = EBX; reg <= EDX; reg++) {
			*reg_of(&host.entries[0], reg) += 1;
			assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
			*reg_of(&host.entries[0], reg) -= 1;
		}
	}
	/* Caches. */
	saved.entries[0] = entry(4, 1, 1, 2, 3, 4);
	host.entries[0] = entry(4, 1, 5, 6, 7, 8);
	assert_int_equal(cpuid_check(&saved, &host), 0);
	saved.entries[0] = entry(0x80000008, 0, 0x3030, 0, 0, 0);
	host.entries[0] = entry(0x80000008, 0, 0x3034, 0, 0, 0);
	assert_int_equal(cpuid_check(&saved, &host), 0);
	host.entries[0].eax = 0x302f;
	assert_int_equal(cpuid_check(&saved, &host), -EINVAL);
	assert_non_null(strstr(error_text(), "48 bits, this host's 47"));
}

/* A saved vCPU whose guest was shown what is off the list by now. */
static void test_whole(void **state)
{
	struct vm vm;
	struct blob saved = { 0 };
	uint32_t count;
	size_t at;

	(void)state;
	boot(&vm, 1);
	assert_int_equal(vcpu_save(&vm.vcpus[0], &saved), 0);
	assert_int_equal(vcpu_check_whole(saved.data, saved.len), 0);
	at = 20 + sizeof(struct kvm_mp_state);
	memcpy(&count, saved.data + at, sizeof(count));
	at += sizeof(count);
	for (uint32_t i = 0; i < count; i++, at += sizeof(struct kvm_cpuid_entry2)) {
		struct kvm_cpuid_entry2 e;

		memcpy(&e, saved.data + at, sizeof(e));
		if (e.function != 0x80000001)
			continue;
		e.ecx |= 4;
		memcpy(saved.data + at, &e, sizeof(e));
		assert_int_equal(vcpu_check_whole(saved.data, saved.len), -EINVAL);
		assert_non_null(strstr(error_text(), "0x80000001.0 ecx bits 0x4; build it anew"));
		e.ecx &= ~4u;
		memcpy(saved.data + at, &e, sizeof(e));
		assert_int_equal(vcpu_check_whole(saved.data, saved.len), 0);
		count = 0;
	}
	assert_int_equal(count, 0);
	assert_int_equal(vcpu_check_whole(saved.data, 10), -EINVAL);
	blob_fini(&saved);
	vm_destroy(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow_list), cmocka_unit_test(test_booted),
		cmocka_unit_test(test_fits),       cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_whole),
	};

	return cmocka_run_group_tests_name("cpuid", tests, NULL, NULL);
}
