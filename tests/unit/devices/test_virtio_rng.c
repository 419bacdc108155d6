/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entropy device in slot 3 of a machine, by its own class: what it fills, how much, and that a
 * restored one goes on.
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add getrandom */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "devices/device.h"
#include "tests/unit/arch/vm_calls.h"
#include "tests/unit/devices/virtio/virtio_toy.h"

#define BUFFER(i) (TOY_BUFFER + 0x10000u * (i))

extern const struct device_class virtio_rng_class;

static struct devices devices;
static uint8_t next; /* what "random" bytes count up from */
static bool refused;

ssize_t __wrap_getrandom(void *data, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t len, unsigned flags)
{
	uint8_t *bytes = data;

	assert_int_equal(flags, 0);
	if (refused) {
		errno = EFAULT;
		return -1;
	}
	for (size_t i = 0; i < len; i++)
		bytes[i] = next++;
	return (ssize_t)len;
}

static int make(void)
{
	const struct device_host host = { .ask = NULL };
	struct device_list list = { 0 };
	int ret;

	toy.vm.virtio_slots = 3;
	toy.vm.mmio.count = 0;
	toy.vm.polls = NULL;
	ret = device_list_add(&list, &virtio_rng_class, NULL);
	if (ret == 0)
		ret = devices_create(&devices, &toy.vm, &list, &host);
	device_list_fini(&list);
	return ret < 0 ? ret : devices_start(&devices);
}

static int setup(void **state)
{
	(void)state;
	memset(&toy, 0, sizeof(toy));
	memset(&vm_calls, 0, sizeof(vm_calls));
	next = 1;
	refused = false;
	if (memory_create(&toy.vm.memory, TOY_RAM) || make())
		return -1;
	assert_true(toy_negotiate(VIRTIO_F_VERSION_1));
	toy_setup_queue(0);
	toy_put(TOY_REG_STATUS, 15);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	devices_stop(&devices);
	devices_destroy(&devices);
	memory_destroy(&toy.vm.memory);
	return 0;
}

static const uint8_t *bytes_at(uint64_t gpa)
{
	return memory_at(&toy.vm.memory, gpa, 1);
}

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(toy_get(0x008), 4);
	assert_int_equal(toy_get(0x100), 0); /* it has no configuration */
	toy_put(0x030, 1);
	assert_int_equal(toy_get(0x034), 0); /* and one queue */
}

/* Parts to write are filled one after the other; one to read is left alone. */
static void test_fill(void **state)
{
	struct ring *r = &toy.rings[0];
	uint32_t id, len;

	(void)state;
	ring_desc(r, 0, BUFFER(0), 5, RING_NEXT, 1);
	ring_desc(r, 1, BUFFER(1), 3, RING_NEXT | RING_WRITE, 2);
	ring_desc(r, 2, BUFFER(2), 4, RING_WRITE, 0);
	ring_offer(r, 0);
	assert_false(ring_take(r, &id, &len));
	toy_put(0x050, 0);
	assert_true(ring_take(r, &id, &len));
	assert_int_equal(len, 7);
	assert_int_equal(vm_calls.edges, 1);
	assert_memory_equal(bytes_at(BUFFER(0)), "\0\0\0\0\0", 5);
	assert_memory_equal(bytes_at(BUFFER(1)), "\1\2\3\0", 4);
	assert_memory_equal(bytes_at(BUFFER(2)), "\4\5\6\7\0", 5);
}

/* A large buffer gets a page's worth, in however many parts. */
static void test_limit(void **state)
{
	struct ring *r = &toy.rings[0];
	uint32_t id, len;

	(void)state;
	ring_desc(r, 0, BUFFER(0), 4000, RING_NEXT | RING_WRITE, 1);
	ring_desc(r, 1, BUFFER(1), 4000, RING_WRITE, 0);
	ring_offer(r, 0);
	toy_put(0x050, 0);
	assert_true(ring_take(r, &id, &len));
	assert_int_equal(len, 4096);
	assert_int_equal(bytes_at(BUFFER(1))[95], (uint8_t)4096);
	assert_int_equal(bytes_at(BUFFER(1))[96], 0);
}

/* Nothing to write, and memory that cannot be written: the buffer comes back empty. */
static void test_empty(void **state)
{
	struct ring *r = &toy.rings[0];
	uint32_t id, len;

	(void)state;
	ring_desc(r, 0, BUFFER(0), 16, 0, 0);
	ring_offer(r, 0);
	toy_put(0x050, 0);
	assert_true(ring_take(r, &id, &len));
	assert_int_equal(len, 0);
	refused = true;
	ring_desc(r, 0, BUFFER(0), 16, RING_WRITE, 0);
	ring_offer(r, 0);
	toy_put(0x050, 0);
	assert_true(ring_take(r, &id, &len));
	assert_int_equal(len, 0);
	assert_int_equal(toy_get(TOY_REG_STATUS), 15);
}

/* A queue that fills itself is left after a share of it: others get the lock. */
static void test_budget(void **state)
{
	(void)state;
	ring_desc(&toy.rings[0], 0, BUFFER(0), 1, RING_WRITE, 0);
	for (unsigned i = 0; i < TOY_SIZE; i++)
		ring_offer(&toy.rings[0], 0);
	toy_put(0x050, 0);
	assert_int_equal(ring_used_idx(&toy.rings[0]), TOY_SIZE);
	assert_false(toy.vm.poll_pending);
	/* Its bytes land on the available index: there is always more, until it breaks the ring. */
	ring_desc(&toy.rings[0], 0, toy.rings[0].avail + 2, 2, RING_WRITE, 0);
	ring_offer(&toy.rings[0], 0);
	toy_put(0x050, 0);
	assert_true(toy.vm.poll_pending || (toy_get(TOY_REG_STATUS) & VIRTIO_STATUS_NEEDS_RESET));
}

/* Saved with a buffer that nobody has kicked for: the restored one fills it when it starts. */
static void test_restore(void **state)
{
	struct ring *r = &toy.rings[0];
	struct blob saved = { 0 };
	uint32_t id, len;

	(void)state;
	ring_desc(r, 0, BUFFER(0), 2, RING_WRITE, 0);
	ring_offer(r, 0);
	devices_stop(&devices);
	assert_int_equal(device_save(&devices.list[0], &saved), 0);
	devices_destroy(&devices);
	assert_int_equal(make(), 0);
	assert_false(ring_take(r, &id, &len));
	devices_stop(&devices);
	assert_int_equal(device_load(&devices.list[0], 1, saved.data, saved.len), 0);
	assert_int_equal(devices_start(&devices), 0);
	assert_true(ring_take(r, &id, &len));
	assert_int_equal(len, 2);
	devices_clear(&devices);
	assert_int_equal(toy_get(TOY_REG_STATUS), 0);
	blob_fini(&saved);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity), TEST(test_fill),   TEST(test_limit),
		TEST(test_empty),    TEST(test_budget), TEST(test_restore),
	};

	return cmocka_run_group_tests_name("virtio_rng", tests, NULL, NULL);
}
