/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine saved, destroyed, built anew and loaded has what was saved, field by field,
 * on real KVM, at many stops of guests that are doing something. Running counters are
 * excepted: TSC, kvmclock and the local APIC timer's count may have advanced, by no more
 * than the gap, and never back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "tests/unit/boot/snapshot/compare_snapshots.h"
#include "tests/unit/live_machine.h"

#define STOPS 8

static char directory[] = "/tmp/virga-equality.XXXXXX";

static void remove_snapshot(const char *path)
{
	static const char *const files[] = { "config", "state", "memory" };
	char name[300];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, files[i]);
		unlink(name);
	}
	rmdir(path);
}

/* Saves a stopped machine, destroys it, loads it, saves again, compares. Returns the loaded one. */
static struct live *check_stop(struct live *m)
{
	char first[300], second[300];
	struct snapshot a, b;
	uint64_t begin = monotonic_us();

	snprintf(first, sizeof(first), "%s/first", directory);
	snprintf(second, sizeof(second), "%s/second", directory);
	remove_snapshot(first); /* what a failed test left */
	remove_snapshot(second);
	live_save(m, first);
	live_end(m);
	m = live_load(first);
	live_save(m, second);
	assert_int_equal(snapshot_open(&a, first), 0);
	assert_int_equal(snapshot_open(&b, second), 0);
	compare_snapshots(&a, &b, monotonic_us() - begin);
	snapshot_close(&a);
	snapshot_close(&b);
	remove_snapshot(second);
	remove_snapshot(first);
	return m;
}

/* Stops at STOPS sync points; each time the loaded machine is the one that goes on. */
static void check_guest(const char *kernel, const char *cmdline, unsigned step_us)
{
	struct live *m = live_boot(kernel, cmdline);

	for (unsigned i = 0; i < STOPS; i++) {
		if (!live_run_for(m, step_us * (i % 3 + 1)))
			fail_msg("the guest ended at stop %u: %s", i, m->vm.end.text);
		m = check_stop(m);
	}
	live_destroy(m);
}

static void test_builtin(void **state)
{
	(void)state;
	check_guest(NULL, "", 300);
}

static void test_fpu(void **state)
{
	(void)state;
	check_guest("build/tests/guest/fpu.elf", "ticks=0", 2000);
}

static void test_tick(void **state)
{
	(void)state;
	check_guest("build/tests/guest/tick.elf", "ticks=0 period_ms=1", 2000);
}

static void test_serial_flood(void **state)
{
	(void)state;
	check_guest("build/tests/guest/serial_flood.elf", "", 1500);
}

static void test_interrupt_pending(void **state)
{
	(void)state;
	check_guest("build/tests/guest/pending.elf", "", 3000);
}

/*
 * Live AVX registers. They are set from outside, because not every KVM that runs them lists them
 * in CPUID; the guest does not touch them.
 */
static void test_avx(void **state)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 7 } } };
	struct kvm_xsave set = { 0 }, found = { 0 };
	struct live *m = live_boot("build/tests/guest/spin.elf", "");
	uint8_t *bytes = (uint8_t *)set.region;
	int fd;

	(void)state;
	assert_true(live_run_for(m, 2000));
	fd = m->vm.vcpus[0].fd;
	if (ioctl(fd, KVM_SET_XCRS, &xcrs) < 0) {
		live_end(m);
		print_message("needs a CPU with AVX\n");
		skip();
	}
	assert_int_equal(ioctl(fd, KVM_GET_XSAVE, &set), 0);
	for (unsigned i = 160; i < 416; i++) /* xmm0-15 */
		bytes[i] = (uint8_t)(i * 7);
	for (unsigned i = 576; i < 832; i++) /* the upper halves of ymm0-15 */
		bytes[i] = (uint8_t)(i * 13);
	bytes[512] = 7; /* XSTATE_BV: x87, SSE, AVX */
	assert_int_equal(ioctl(fd, KVM_SET_XSAVE, &set), 0);
	for (unsigned i = 0; i < 3; i++) {
		m = check_stop(m);
		assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_GET_XSAVE, &found), 0);
		assert_memory_equal((uint8_t *)found.region + 160, bytes + 160, 256);
		assert_memory_equal((uint8_t *)found.region + 576, bytes + 576, 256);
		assert_true(live_run_for(m, 2000));
	}
	live_end(m);
}

/* In the middle of a request of a MiB, both ways. */
static void test_device_transfer(void **state)
{
	const size_t len = 1 * MIB;
	char *data = malloc(len);
	struct live *m = live_boot(NULL, "");
	struct vm *vm = &m->vm;
	bool ready = false;

	(void)state;
	memset(data, 'x', len);
	live_start(m);
	for (unsigned i = 0; i < 2000 && !ready; i++) {
		usleep(1000);
		pthread_mutex_lock(&vm->lock);
		ready = channel_ready(m->channel) && live_stop(m);
		pthread_mutex_unlock(&vm->lock);
	}
	assert_true(ready);
	assert_int_equal(channel_request(m->channel, 1, data, len, 0), 0);
	m = check_stop(m);
	for (unsigned i = 0; i < STOPS; i++) {
		assert_true(live_run_for(m, 200 * (i + 1)));
		m = check_stop(m);
	}
	live_destroy(m);
	free(data);
}

static int make_directory(void **state)
{
	(void)state;
	vm_block_signals();
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_builtin),
		cmocka_unit_test(test_fpu),
		cmocka_unit_test(test_tick),
		cmocka_unit_test(test_serial_flood),
		cmocka_unit_test(test_interrupt_pending),
		cmocka_unit_test(test_avx),
		cmocka_unit_test(test_device_transfer),
	};

	return cmocka_run_group_tests_name("equality", tests, make_directory, remove_directory);
}
