/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model specific registers on real KVM: a guest in ring 0 sets all that it can, and nothing of it is
 * left when the state from before is loaded as a reset does it. What was set is found by asking KVM for every MSR that
 * there may be, not by virga's list.
 *
 * wrap: ioctl
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/bus.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"
#include "tests/unit/live_machine.h"

#define PORT           0x700 /* tests/guest/msrs.c */
#define BANKS          0x400u
#define BANKS_NR       32u
#define HYPERV_RUNTIME 0x40000010u
#define HYPERV_COUNT   0x40000020u
#define COUNT(a)       (sizeof(a) / sizeof((a)[0]))

static const struct range {
	uint32_t first, count;
} everywhere[] = {
	{ 0, 0x3000 },          { 0xc0000000, 0x3000 }, { 0xc0010000, 0x3000 },
	{ 0x40000000, 0x1000 }, { 0x4b564d00, 0x100 },
};

#define ALL (3 * 0x3000 + 0x1000 + 0x100)

/* Every MSR of those, in that order; absent ones are the same in all. */
static uint64_t before[ALL], set[ALL], after[ALL];

static void read_all(const struct live *m, uint64_t *values)
{
	for (size_t r = 0, at = 0; r < COUNT(everywhere); r++) {
		for (uint32_t i = 0; i < everywhere[r].count; i++, at++) {
			struct {
				struct kvm_msrs head;
				struct kvm_msr_entry entry;
			} one = { .head.nmsrs = 1, .entry.index = everywhere[r].first + i };

			values[at] = ioctl(m->vm.vcpus[0].fd, KVM_GET_MSRS, &one) == 1
					     ? one.entry.data
					     : 0xdeadbeef;
		}
	}
}

/* So many more in KVM's index list, as other hosts have: one of Hyper-V's, copies of the first. */
static unsigned more;

/* So long is a vCPU kept from this CPU after MSRs were read. */
static unsigned late_us;

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct kvm_msr_list *list;
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	list = arg = va_arg(args, void *);
	va_end(args);
	ret = __real_ioctl(fd, request, arg);
	if (request == KVM_GET_MSRS && late_us)
		usleep(late_us);
	for (unsigned i = 0; request == KVM_GET_MSR_INDEX_LIST && i < more; i++)
		list->indices[list->nmsrs++] = i ? list->indices[0] : HYPERV_COUNT;
	return ret;
}

static uint32_t index_of(size_t at)
{
	size_t r = 0;

	for (; at >= everywhere[r].count; r++)
		at -= everywhere[r].count;
	return everywhere[r].first + (uint32_t)at;
}

static void hold(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	(void)offset;
	(void)data;
	(void)len;
	(void)write;
	vm_hold(opaque);
}

/* Runs it until it writes to the port; SIGALRM ends a machine. */
static void run(struct live *m)
{
	alarm(100);
	if (vm_run(&m->vm) != VM_END_NONE)
		fail_msg("the guest ended: %s", m->vm.end.text);
}

static void check_nothing_is_left(void)
{
	struct live *m = live_boot("build/tests/guest/msrs.elf", "");
	struct blob saved = { 0 };
	unsigned skipped = 0, changed = 0;

	assert_int_equal(bus_claim(&m->vm.pio, PORT, 1, hold, &m->vm, "test"), 0);
	assert_int_equal(vm_threads_start(&m->vm), 0);
	run(m);
	read_all(m, before);
	assert_int_equal(vcpu_save(&m->vm.vcpus[0], &saved), 0);
	run(m);
	read_all(m, set);
	if (vcpu_load(&m->vm.vcpus[0], saved.data, saved.len, false, &skipped) < 0 ||
	    vcpu_flush(&m->vm.vcpus[0]) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(skipped, 0);
	read_all(m, after);
	for (size_t at = 0; at < ALL; at++) {
		uint32_t index = index_of(at);

		changed += set[at] != before[at];
		/* Three that run; Hyper-V's are not the guest's. */
		if (after[at] != before[at] && index != MSR_TSC && index != HYPERV_RUNTIME &&
		    index != HYPERV_COUNT)
			fail_msg("MSR 0x%x was 0x%llx, set to 0x%llx, and is 0x%llx after a load",
				 index, (unsigned long long)before[at], (unsigned long long)set[at],
				 (unsigned long long)after[at]);
	}
	/* ADDR and MISC of the banks at least. */
	for (uint32_t i = 0; i < BANKS_NR; i++)
		assert_true(set[BANKS + 4 * i + 2] && set[BANKS + 4 * i + 3]);
	assert_true(changed > 2 * BANKS_NR);
	blob_fini(&saved);
	live_destroy(m);
}

static void test_nothing_is_left(void **state)
{
	(void)state;
	check_nothing_is_left();
}

/* More than one call of KVM's takes. */
static void test_nothing_is_left_of_many(void **state)
{
	(void)state;
	more = 150;
	check_nothing_is_left();
	more = 0;
}

/* What is saved has none of Hyper-V's, which a guest cannot set, and the deadline last. */
static void test_list(void **state)
{
	struct live *m = live_boot(NULL, "");
	struct msr_table table;

	(void)state;
	more = 1;
	assert_int_equal(msr_list(&m->vm, &table), 0);
	more = 0;
	for (uint32_t i = 0; i < table.count; i++)
		assert_int_not_equal(table.entries[i].index >> 20, HYPERV_COUNT >> 20);
	assert_int_equal(table.entries[table.count - 1].index, MSR_TSC_DEADLINE);
	live_destroy(m);
}

/* The TSC that is saved does not depend on who else wants the CPU. */
static void test_tsc_of_a_busy_host(void **state)
{
	struct live *m = live_boot(NULL, "");
	struct vcpu *vcpu = &m->vm.vcpus[0];
	uint64_t ns, soon, late, offset = 1ull << 40;
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	(void)state;
	assert_int_equal(vm_clock_get(&m->vm, &ns), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vcpu_tsc_at_clock(vcpu, &soon), 0);
		late_us = 20000;
		assert_int_equal(vcpu_tsc_at_clock(vcpu, &late), 0);
		late_us = 0;
		assert_int_equal(late - soon, 0);
		/* Again with one of ours, which KVM may take without applying it. */
		assert_int_equal(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), 0);
	}
	live_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_tsc_of_a_busy_host),
		cmocka_unit_test(test_nothing_is_left),
		cmocka_unit_test(test_nothing_is_left_of_many),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("msr", tests, NULL, NULL);
}
