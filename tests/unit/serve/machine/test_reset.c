/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reset asks of KVM, and what it forgets, where a guest cannot show it: a TLB that the CPU
 * flushes anyway, a TSC that KVM sets and does not apply. A shell's calls are looked at from within.
 *
 * wrap: confine_process fstat reset_machine ioctl
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include "serve/machine/reset.h"
#include "tests/unit/serve/machine/shell_bed.h"

#define CR0_WP   (1ull << 16)
#define CR0S_MAX 4u
#define TSC_AT   8u /* in a saved vCPU */

/* Shared with the shell: what it is to find, and what the last reset did. */
struct view {
	bool shadow; /* vm->shadow is to be that */
	bool inside; /* reset_machine() */
	unsigned resets, taken, given, regions, cr0_count;
	uint64_t cr0s[CR0S_MAX]; /* that were set, in order */
	bool wake, poll, parked; /* left after it */
	unsigned offsets;        /* of the TSC, that were set since the reset before it */
	uint64_t offset;         /* the last */
};

static struct view *view;

/* --- In the shell --- */

static void view_call(unsigned long request, const void *data)
{
	const struct kvm_userspace_memory_region *slot = data;
	const char *sregs = data; /* in the bytes of a state, aligned to nothing */

	if (request == KVM_SET_USER_MEMORY_REGION && slot->memory_size == 0)
		view->taken++;
	else if (request == KVM_SET_USER_MEMORY_REGION)
		view->given += view->taken > 0;
	else if (request == KVM_SET_SREGS2 && view->cr0_count < CR0S_MAX)
		memcpy(&view->cr0s[view->cr0_count++], sregs + offsetof(struct kvm_sregs2, cr0),
		       sizeof(view->cr0s[0]));
}

static void view_attribute(const struct kvm_device_attr *attr)
{
	if (attr->group != KVM_VCPU_TSC_CTRL || attr->attr != KVM_VCPU_TSC_OFFSET)
		return;
	memcpy(&view->offset, (const void *)(uintptr_t)attr->addr, sizeof(view->offset));
	view->offsets++;
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	void *data;

	va_start(list, request);
	data = va_arg(list, void *);
	va_end(list);
	if (view && view->inside)
		view_call(request, data);
	if (view && request == KVM_SET_DEVICE_ATTR)
		view_attribute(data);
	return __real_ioctl(fd, request, data);
}

int __real_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices);
int __wrap_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices);
int __wrap_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices)
{
	int ret;

	view->taken = view->given = view->cr0_count = 0;
	view->regions = vm->memory.region_count;
	vm->shadow = view->shadow;
	vm->wake_pending = vm->poll_pending = vm->vcpus[0].parked = true;
	view->inside = true;
	ret = __real_reset_machine(r, s, vm, devices);
	view->inside = false;
	view->wake = vm->wake_pending;
	view->poll = vm->poll_pending;
	view->parked = vm->vcpus[0].parked;
	view->resets++;
	return ret;
}

/* --- The test --- */

static int setup(void **state)
{
	(void)state;
	view = mmap(NULL, sizeof(*view), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shell_bed_open = true;
	return view == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	munmap(view, sizeof(*view));
	return 0;
}

static void ask(struct shell_process *s, const char *request)
{
	unsigned resets = view->resets;

	shell_expect(s, POLICY_RESET, request, OUTCOME_RESPONSE, NULL);
	shell_await(s);
	assert_int_equal(view->resets, resets + 1);
	/* Waits and wake-ups of the last request are never the next one's. */
	assert_false(view->wake || view->poll || view->parked);
}

/* In ring 3, with tables as they were: nothing has to be forgotten. */
static void test_tables_untouched(void **state)
{
	struct sealed template = template_make(16, NULL, 0, false);
	struct shell_process s = shell_start(&template, SHELL_ARMED);

	(void)state;
	view->shadow = true;
	for (unsigned i = 0; i < 3; i++) {
		ask(&s, "echo x");
		assert_int_equal(view->taken, 0);
		assert_int_equal(view->cr0_count, 1);
	}
	assert_int_equal(shell_end(&s), 0);
	sealed_close(&template);
}

/*
 * A page table was written. CR0.WP is another and then right, whatever the CPU has for a second level
 * of tables; only without that is RAM taken from KVM and given back.
 */
static void test_tables_written(void **state)
{
	struct sealed template = template_make(16, NULL, 0, false);

	(void)state;
	for (unsigned shadow = 0; shadow < 2; shadow++) {
		struct shell_process s = shell_start(&template, SHELL_ARMED);
		uint64_t cr0;

		view->shadow = shadow;
		ask(&s, "echo x");
		cr0 = view->cr0s[0];
		ask(&s, "remap 1");
		assert_int_equal(view->taken, shadow ? view->regions : 0);
		assert_int_equal(view->given, view->taken);
		assert_int_equal(view->cr0_count, 2);
		assert_int_equal(view->cr0s[0], cr0 ^ CR0_WP);
		assert_int_equal(view->cr0s[1], cr0);
		assert_int_equal(shell_end(&s), 0);
	}
	sealed_close(&template);
}

/* What the template's TSC was. */
static uint64_t template_tsc(const struct sealed *template)
{
	struct snapshot snapshot;
	uint64_t tsc;

	template_open(template, &snapshot);
	memcpy(&tsc, (const uint8_t *)state_find(&snapshot.state, "vcpu", 0)->data + TSC_AT,
	       sizeof(tsc));
	snapshot_close(&snapshot);
	return tsc;
}

/*
 * Whatever a guest in ring 0 has written to the TSC, each request begins with the template's: that, less
 * the host's at the moment, is the offset that KVM gets.
 */
static void test_tsc(void **state)
{
	struct sealed template = template_make(16, NULL, 0, false);
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	uint64_t tsc = template_tsc(&template), start;

	(void)state;
	ask(&s, "remap 1");
	for (unsigned i = 0; i < 3; i++) {
		view->offsets = 0;
		start = __rdtsc();
		ask(&s, "remap 1");
		assert_int_equal(view->offsets, 1);
		assert_in_range(tsc - view->offset, start, __rdtsc());
	}
	assert_int_equal(shell_end(&s), 0);
	sealed_close(&template);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_untouched),
		cmocka_unit_test(test_tables_written),
		cmocka_unit_test(test_tsc),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("reset", tests, setup, teardown);
}
