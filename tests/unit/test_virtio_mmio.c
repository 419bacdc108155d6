/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport and the virtio core, with a made-up device behind them that
 * counts what it is told.
 */
/* wrap: vm_irq vm_wake vm_poll_add */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "arch/x86_64/layout.h"
#include "devices/virtio_mmio.h"
#include "tests/unit/ring.h"

#define RAM        (1ull << 20)
#define RING(i)    (0x10000u + 0x4000u * (i))
#define BUFFER     0x80000u
#define SIZE       16
#define OWN_BIT    (1ull << 3)
#define QUEUES     2
#define REG_STATUS 0x070

static struct {
	unsigned notified[QUEUES];
	unsigned resets, edges, wakes, polls;
	unsigned gsi;
	bool level;
} seen;

static struct vm vm;
static struct virtio virtio;
static struct virtio_mmio mmio;
static struct ring rings[QUEUES];

void __wrap_vm_irq(struct vm *m, unsigned gsi, bool level);
void __wrap_vm_irq(struct vm *m, unsigned gsi, bool level)
{
	(void)m;
	seen.edges += level && !seen.level;
	seen.level = level;
	seen.gsi = gsi;
}

void __wrap_vm_wake(struct vm *m);
void __wrap_vm_wake(struct vm *m)
{
	(void)m;
	seen.wakes++;
}

int __wrap_vm_poll_add(struct vm *m, void (*poll)(void *opaque), void *opaque);
int __wrap_vm_poll_add(struct vm *m, void (*poll)(void *opaque), void *opaque)
{
	m->polls[m->poll_count++] = (struct vm_poll){ .poll = poll, .opaque = opaque };
	return 0;
}

/* --- The device: returns every buffer as it is --- */

static void toy_notify(struct virtio *v, unsigned queue)
{
	struct virtqueue_chain chain;

	seen.notified[queue]++;
	do {
		while (virtqueue_pop(&v->queues[queue], &chain))
			virtqueue_push(&v->queues[queue], &chain, 0);
	} while (virtqueue_arm(&v->queues[queue]));
}

static void toy_reset(struct virtio *v)
{
	(void)v;
	seen.resets++;
}

static void toy_config_read(struct virtio *v, uint64_t offset, void *data, unsigned len)
{
	static const uint8_t config[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

	(void)v;
	for (unsigned i = 0; i < len && offset + i < sizeof(config); i++)
		((uint8_t *)data)[i] = config[offset + i];
}

static const struct virtio_class toy_class = {
	.name = "toy",
	.id = 42,
	.queue_count = QUEUES,
	.features = OWN_BIT,
	.notify = toy_notify,
	.reset = toy_reset,
	.config_read = toy_config_read,
};

static int setup(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	memset(&vm, 0, sizeof(vm));
	memset(&virtio, 0, sizeof(virtio));
	memset(&mmio, 0, sizeof(mmio));
	if (memory_create(&vm.memory, RAM))
		return -1;
	vm.virtio_slots = 3;
	if (virtio_mmio_create(&mmio, &virtio, &toy_class, &vm))
		return -1;
	virtio_start(&virtio);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	virtio_fini(&virtio);
	memory_destroy(&vm.memory);
	return 0;
}

/* --- The driver --- */

static uint64_t address(uint32_t offset)
{
	return LAYOUT_VIRTIO_MMIO + 3 * LAYOUT_VIRTIO_STRIDE + offset;
}

static uint32_t get(uint32_t offset)
{
	uint32_t value;

	assert_true(bus_io(&vm.mmio, address(offset), &value, sizeof(value), false));
	return value;
}

static void put(uint32_t offset, uint32_t value)
{
	assert_true(bus_io(&vm.mmio, address(offset), &value, sizeof(value), true));
}

static void set_features(uint64_t features)
{
	put(0x024, 0);
	put(0x020, (uint32_t)features);
	put(0x024, 1);
	put(0x020, (uint32_t)(features >> 32));
}

static bool negotiate(uint64_t features)
{
	put(0x070, 0);
	put(0x070, 1);
	put(0x070, 3);
	set_features(features);
	put(0x070, 11);
	return (get(0x070) & VIRTIO_STATUS_FEATURES_OK) != 0;
}

static void setup_queue(unsigned i)
{
	ring_init(&rings[i], &vm.memory, RING(i), SIZE);
	put(0x030, i);
	put(0x038, SIZE);
	put(0x080, (uint32_t)rings[i].desc);
	put(0x084, 0);
	put(0x090, (uint32_t)rings[i].avail);
	put(0x094, 0);
	put(0x0a0, (uint32_t)rings[i].used);
	put(0x0a4, 0);
	put(0x044, 1);
}

static void bring_up(uint64_t features)
{
	assert_true(negotiate(features | VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < QUEUES; i++) {
		setup_queue(i);
		assert_int_equal(get(0x044), 1);
	}
	put(0x070, 15);
	assert_int_equal(get(0x070), 15);
	memset(seen.notified, 0, sizeof(seen.notified));
	seen.wakes = 0;
}

static void offer(unsigned i)
{
	ring_desc(&rings[i], 0, BUFFER, 64, RING_WRITE, 0);
	ring_offer(&rings[i], 0);
}

/* --- Tests --- */

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(get(0x000), 0x74726976);
	assert_int_equal(get(0x004), 2);
	assert_int_equal(get(0x008), 42);
	assert_int_not_equal(get(0x00c), 0);
	put(0x014, 0);
	assert_int_equal(get(0x010), (uint32_t)(OWN_BIT | 3u << 28));
	put(0x014, 1);
	assert_int_equal(get(0x010), 1);
	put(0x014, 2);
	assert_int_equal(get(0x010), 0);
	put(0x030, 1);
	assert_int_equal(get(0x034), VIRTQUEUE_SIZE_MAX);
	put(0x030, QUEUES);
	assert_int_equal(get(0x034), 0);
	assert_int_equal(get(0x0b0), UINT32_MAX);
	assert_int_equal(get(0x020), 0);
	assert_int_equal(vm.virtio_slots, 4);
}

static void test_slots_run_out(void **state)
{
	static struct virtio other;
	static struct virtio_mmio front;

	(void)state;
	vm.virtio_slots = LAYOUT_VIRTIO_SLOTS;
	assert_true(virtio_mmio_create(&front, &other, &toy_class, &vm) < 0);
	assert_non_null(strstr(error_text(), "toy"));
}

static void test_register_width(void **state)
{
	uint8_t data[8];

	(void)state;
	for (unsigned len = 1; len <= 8; len *= 2) {
		if (len == 4)
			continue;
		memset(data, 0xee, sizeof(data));
		assert_true(bus_io(&vm.mmio, address(0), data, len, false));
		for (unsigned i = 0; i < len; i++)
			assert_int_equal(data[i], 0);
		memset(data, 1, sizeof(data));
		bus_io(&vm.mmio, address(REG_STATUS), data, len, true);
		assert_int_equal(get(0x070), 0);
	}
	memset(data, 1, sizeof(data));
	bus_io(&vm.mmio, address(REG_STATUS + 2), data, 4, true);
	assert_int_equal(get(0x070), 0);
}

static void test_config_width(void **state)
{
	uint64_t value = 0;
	uint8_t byte = 0;

	(void)state;
	bus_io(&vm.mmio, address(0x103), &byte, 1, false);
	assert_int_equal(byte, 4);
	bus_io(&vm.mmio, address(0x101), &value, 2, false);
	assert_int_equal(value, 0x0302);
	assert_int_equal(get(0x104), 0x08070605);
	bus_io(&vm.mmio, address(0x104), &value, 8, false);
	assert_true(value == 0x0c0b0a0908070605ull);
	bus_io(&vm.mmio, address(0x108), &value, 8, false);
	assert_true(value == 0x0c0b0a09ull);
	bus_io(&vm.mmio, address(0x1f8), &value, 8, false);
	assert_true(value == 0);
	put(0x100, 7); /* read-only here */
	assert_int_equal(get(0x100), 0x04030201);
}

static void test_features(void **state)
{
	(void)state;
	assert_false(negotiate(0));
	assert_false(negotiate(VIRTIO_F_EVENT_IDX));
	assert_false(negotiate(VIRTIO_F_VERSION_1 | 1));
	assert_false(negotiate(VIRTIO_F_VERSION_1 | 1ull << 33));
	put(0x070, 15); /* without FEATURES_OK there is no DRIVER_OK */
	assert_int_equal(get(0x070) & VIRTIO_STATUS_DRIVER_OK, 0);
	assert_true(negotiate(VIRTIO_F_VERSION_1 | OWN_BIT));
	set_features(0); /* too late */
	assert_true(virtio.state.driver_features == (VIRTIO_F_VERSION_1 | OWN_BIT));
}

static void test_status_only_adds(void **state)
{
	(void)state;
	put(0x070, 3);
	put(0x070, 1);
	assert_int_equal(get(0x070), 3);
	put(0x070, 0xffffff00);
	assert_int_equal(get(0x070), 3);
	put(0x070, VIRTIO_STATUS_NEEDS_RESET); /* the device's own */
	assert_int_equal(get(0x070), 3);
	put(0x070, VIRTIO_STATUS_FAILED);
	assert_int_equal(get(0x070), 3 | VIRTIO_STATUS_FAILED);
	seen.resets = 0;
	put(0x070, 0);
	assert_int_equal(get(0x070), 0);
	assert_int_equal(seen.resets, 1);
}

static void test_notify_and_interrupt(void **state)
{
	uint32_t id, len;

	(void)state;
	bring_up(0);
	offer(1);
	put(0x050, 1);
	assert_int_equal(seen.notified[0], 0);
	assert_int_equal(seen.notified[1], 1);
	assert_true(ring_take(&rings[1], &id, &len));
	assert_int_equal(get(0x060), VIRTIO_ISR_QUEUE);
	assert_int_equal(seen.edges, 1);
	assert_true(seen.level);
	assert_int_equal(seen.gsi, LAYOUT_VIRTIO_GSI + 3);
	assert_int_equal(seen.wakes, 1);

	/* An unacknowledged interrupt does not swallow the next edge. */
	offer(1);
	put(0x050, 1);
	assert_int_equal(seen.edges, 2);
	put(0x064, VIRTIO_ISR_QUEUE);
	assert_int_equal(get(0x060), 0);
	assert_false(seen.level);

	/* Nothing published, nothing said. */
	put(0x050, 1);
	put(0x050, 7);
	assert_int_equal(seen.edges, 2);
	assert_int_equal(seen.wakes, 2);
}

static void test_wake_without_interrupt(void **state)
{
	(void)state;
	bring_up(0);
	ring_set_avail_flags(&rings[0], 1);
	offer(0);
	put(0x050, 0);
	assert_int_equal(seen.edges, 0);
	assert_int_equal(get(0x060), 0);
	assert_int_equal(seen.wakes, 1);
}

static void test_poll_needs_no_kick(void **state)
{
	(void)state;
	bring_up(VIRTIO_F_EVENT_IDX);
	offer(0);
	offer(1);
	vm.polls[0].poll(vm.polls[0].opaque);
	assert_int_equal(ring_used_idx(&rings[0]), 1);
	assert_int_equal(ring_used_idx(&rings[1]), 1);
	assert_int_equal(seen.edges, 1); /* one for both */
	assert_int_equal(ring_avail_event(&rings[1]), 1);
}

/* With more vCPUs a device may ask to be called again, so that others get the lock. */
static void test_again(void **state)
{
	static struct virtio other;
	static struct virtio_mmio front;

	(void)state;
	assert_false(virtio_again(&virtio)); /* nobody is kept out: carry on */
	loop_init(&vm.loop);
	vm.vcpu_count = 2;
	assert_int_equal(virtio_mmio_create(&front, &other, &toy_class, &vm), 0);
	virtio_start(&other);
	other.state.status = VIRTIO_STATUS_DRIVER_OK;
	assert_true(virtio_again(&other));
	assert_int_equal(seen.notified[0], 0);
	loop_stop(&vm.loop); /* one round */
	assert_int_equal(loop_run(&vm.loop, &vm.lock), 0);
	assert_int_equal(seen.notified[0], 1);
	assert_int_equal(seen.notified[1], 1);
	virtio_fini(&other);
	assert_int_equal(vm.loop.count, 0);
	loop_fini(&vm.loop);
}

static void test_not_live(void **state)
{
	(void)state;
	assert_true(negotiate(VIRTIO_F_VERSION_1));
	setup_queue(0);
	offer(0);
	put(0x050, 0);
	assert_int_equal(seen.notified[0], 0);
	put(0x070, 15); /* what is there is found without a kick */
	assert_int_equal(ring_used_idx(&rings[0]), 1);

	/* Paused: guest memory rests; going on finds the rest. */
	virtio_stop(&virtio);
	offer(0);
	put(0x050, 0);
	assert_int_equal(ring_used_idx(&rings[0]), 1);
	virtio_start(&virtio);
	assert_int_equal(ring_used_idx(&rings[0]), 2);
}

static void test_ready_queue_is_fixed(void **state)
{
	(void)state;
	bring_up(0);
	put(0x030, 0);
	put(0x038, 4);
	put(0x080, 0xdead0000);
	put(0x0a4, 1);
	assert_int_equal(virtio.queues[0].state.size, SIZE);
	assert_true(virtio.queues[0].state.desc == rings[0].desc);
	assert_true(virtio.queues[0].state.used == rings[0].used);
	put(0x030, 99); /* no such queue */
	put(0x038, 4);
	put(0x044, 1);
	assert_int_equal(get(0x044), 0);
}

static void test_bad_queue(void **state)
{
	(void)state;
	assert_true(negotiate(VIRTIO_F_VERSION_1));
	put(0x030, 0);
	put(0x038, 70000); /* must not be cut to 16 bits */
	put(0x044, 1);
	assert_int_equal(get(0x044), 0);
	assert_true(get(0x070) & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(seen.edges, 0); /* before DRIVER_OK nobody listens */
	assert_true(negotiate(VIRTIO_F_VERSION_1));
	assert_false(get(0x070) & VIRTIO_STATUS_NEEDS_RESET);
}

static void test_broken_ring(void **state)
{
	uint32_t generation = get(0x0fc);

	(void)state;
	bring_up(0);
	ring_desc(&rings[0], 0, RAM, 1, 0, 0);
	ring_offer(&rings[0], 0);
	put(0x050, 0);
	assert_int_equal(get(0x070), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(get(0x060), VIRTIO_ISR_CONFIG);
	assert_int_equal(get(0x0fc), generation + 1);
	assert_int_equal(seen.edges, 1);
	assert_int_equal(virtio.notes.said, 1);

	/* It says so once, and does nothing more. */
	offer(1);
	put(0x050, 1);
	put(0x050, 0);
	vm.polls[0].poll(vm.polls[0].opaque);
	assert_int_equal(seen.notified[1], 0);
	assert_int_equal(seen.edges, 1);
	assert_int_equal(virtio.notes.said, 1);

	bring_up(0);
	offer(0);
	put(0x050, 0);
	assert_int_equal(ring_used_idx(&rings[0]), 1);
}

/* What of the machine is saved, as a device with such a core lists it. */
struct toy {
	struct virtio_mmio mmio;
	struct virtio virtio;
};

/* clang-format off */
static const struct field toy_fields[] = {
	VIRTIO_MMIO_FIELDS(struct toy, mmio),
	VIRTIO_FIELDS(struct toy, virtio),
	VIRTQUEUE_FIELDS(struct toy, virtio.queues[0]),
	VIRTQUEUE_FIELDS(struct toy, virtio.queues[1]),
	FIELD_END
};
/* clang-format on */

/* Loads what `saved` holds into a core that was never touched. */
static int load(struct toy *toy, const struct blob *saved)
{
	struct blob in = blob_reader(saved->data, saved->len);

	memset(toy, 0, sizeof(*toy));
	toy->virtio.class = &toy_class;
	toy->virtio.vm = &vm;
	for (unsigned i = 0; i < QUEUES; i++)
		virtqueue_init(&toy->virtio.queues[i], &vm.memory);
	fields_load(toy_fields, toy, &in);
	assert_false(in.failed);
	return virtio_restored(&toy->virtio);
}

static void test_save_and_load(void **state)
{
	static struct toy toy, copy;
	struct blob first = { 0 }, second = { 0 };

	(void)state;
	bring_up(VIRTIO_F_EVENT_IDX);
	offer(0);
	put(0x050, 0);
	put(0x014, 7);
	toy = (struct toy){ .mmio = mmio, .virtio = virtio };
	fields_save(toy_fields, &toy, &first);
	assert_int_equal(load(&copy, &first), 0);
	fields_save(toy_fields, &copy, &second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);

	/* Left in the ring at the moment of saving, never kicked: found at the start. */
	offer(0);
	virtio_start(&copy.virtio);
	assert_int_equal(ring_used_idx(&rings[0]), 2);
	assert_int_equal(ring_avail_event(&rings[0]), 2);
	blob_fini(&first);
	blob_fini(&second);
}

static void test_load_checks(void **state)
{
	static struct toy toy, copy;

	(void)state;
	bring_up(0);
	for (unsigned i = 0; i < 9; i++) {
		struct blob saved = { 0 };

		toy = (struct toy){ .mmio = mmio, .virtio = virtio };
		switch (i) {
		case 0:
			toy.virtio.state.status |= 16;
			break;
		case 1:
			toy.virtio.state.isr = 4;
			break;
		case 2:
			toy.virtio.state.driver_features = 0;
			break;
		case 3:
			toy.virtio.state.driver_features |= 1ull << 60;
			break;
		case 4:
			toy.virtio.state.status = 7; /* DRIVER_OK alone */
			break;
		case 5:
			toy.virtio.queues[0].state.size = 5;
			break;
		case 6:
			toy.virtio.queues[1].state.used = RAM;
			break;
		case 7:
			toy.virtio.queues[1].state.ready = 2;
			break;
		default:
			break;
		}
		fields_save(toy_fields, &toy, &saved);
		assert_int_equal(load(&copy, &saved), i < 8 ? -22 : 0);
		blob_fini(&saved);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_slots_run_out),
		TEST(test_register_width),
		TEST(test_config_width),
		TEST(test_features),
		TEST(test_status_only_adds),
		TEST(test_notify_and_interrupt),
		TEST(test_wake_without_interrupt),
		TEST(test_poll_needs_no_kick),
		TEST(test_again),
		TEST(test_not_live),
		TEST(test_ready_queue_is_fixed),
		TEST(test_bad_queue),
		TEST(test_broken_ring),
		TEST(test_save_and_load),
		TEST(test_load_checks),
	};

	return cmocka_run_group_tests_name("virtio_mmio", tests, NULL, NULL);
}
