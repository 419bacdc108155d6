/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving the vsock device and restoring it in another machine: the function channel
 * goes on, other connections are reset, no packet is lost, and the machine that was
 * saved does not notice.
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "devices/vsock/unix.h"
#include "tests/unit/devices/vsock/vsock_guest.h"

static struct vsock_guest first, second;
static unsigned answers;

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	(void)opaque;
	(void)type;
	(void)data;
	answers += len == 4;
}

static void make(struct vsock_guest *g)
{
	const struct channel_events events = { .answer = on_answer };

	guest_create(g, NULL);
	channel_set_events(g->channel, &events);
	assert_int_equal(guest_devices(g), 0);
}

static int setup(void **state)
{
	(void)state;
	answers = 0;
	make(&first);
	devices_start(&first.devices);
	guest_bring_up(&first, true);
	make(&second);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guest_destroy(&first);
	guest_destroy(&second);
	return 0;
}

/* --- Helpers --- */

static void answer(struct vsock_guest *g, uint64_t id)
{
	struct {
		struct channel_header header;
		char text[4];
	} frame = { { .magic = CHANNEL_MAGIC,
		      .version = CHANNEL_VERSION,
		      .type = CHANNEL_RESPONSE,
		      .id = id,
		      .length = 4 },
		    "yes" };

	guest_send(g, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, &frame, 36);
}

static void save(struct vsock_guest *g, struct blob *out)
{
	devices_stop(&g->devices);
	assert_int_equal(device_save(guest_device(g), out), 0);
}

/* The second machine becomes what the first one is; it is not started yet. */
static int load(const struct blob *saved)
{
	memcpy(second.vm.memory.base, first.vm.memory.base, GUEST_RAM);
	second.rx = first.rx;
	second.tx = first.tx;
	second.rx.memory = second.tx.memory = &second.vm.memory;
	second.hold_rx = first.hold_rx;
	return device_load(guest_device(&second), 1, saved->data, saved->len);
}

static void expect_channel_frame(struct vsock_guest *g, enum channel_type type)
{
	struct vsock_header h;
	uint8_t data[GUEST_BUFFER];
	struct channel_header frame;

	assert_true(guest_receive(g, &h, data));
	assert_int_equal(h.op, VSOCK_OP_RW);
	memcpy(&frame, data, sizeof(frame));
	assert_int_equal(frame.type, type);
	assert_int_equal(h.len, sizeof(frame) + frame.length);
}

/* --- Tests --- */

/* The request is in the clone's RX ring before its first instruction. */
static void test_channel_goes_on(void **state)
{
	static const uint8_t generation[16] = { 1, 2, 3 };
	struct blob saved = { 0 };
	struct vsock_header h;
	uint8_t data[GUEST_BUFFER];

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);
	channel_restored(second.channel, generation);
	assert_int_equal(channel_request(second.channel, 5, "what", 4, 0), 0);
	assert_false(second.vm.wake_pending); /* not before it is started */
	devices_start(&second.devices);
	assert_true(second.vm.wake_pending);
	assert_true(guest_receive(&second, &h, data));
	assert_int_equal(h.len, 32 + 16 + 32 + 4); /* RESTORED and REQUEST in one packet */
	answer(&second, 5);
	assert_int_equal(answers, 1);
	assert_false(guest_receive(&second, &h, NULL));

	/* The first machine goes on as if nothing had been. */
	devices_start(&first.devices);
	assert_int_equal(channel_request(first.channel, 6, "what", 4, 0), 0);
	expect_channel_frame(&first, CHANNEL_REQUEST);
	answer(&first, 6);
	assert_int_equal(answers, 2);
	blob_fini(&saved);
}

static void test_other_connections(void **state)
{
	struct blob saved = { 0 }, again = { 0 };
	struct vsock_header h;
	int a, b;
	char text[8];

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	a = guest_connect(&first, 2000);
	b = guest_connect(&first, 2001);
	guest_send(&first, VSOCK_OP_REQUEST, 52, 2002, 0, NULL, 0); /* not answered yet */
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);

	/* Loaded and not yet run is what was saved, byte for byte. */
	assert_int_equal(device_save(guest_device(&second), &again), 0);
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);

	devices_start(&second.devices);
	for (uint32_t port = 2000; port < 2003; port++) {
		assert_true(guest_receive(&second, &h, NULL));
		assert_int_equal(h.op, VSOCK_OP_RST);
		assert_int_equal(h.src_port, 52);
		assert_int_equal(h.dst_port, port);
	}
	assert_false(guest_receive(&second, &h, NULL));
	assert_true(channel_ready(second.channel));

	/* The first machine still has them all. */
	devices_start(&first.devices);
	assert_false(guest_receive(&first, &h, NULL));
	guest_send(&first, VSOCK_OP_RW, 52, 2000, 0, "on", 2);
	assert_int_equal(recv(a, text, sizeof(text), 0), 2);
	assert_int_equal(send(b, "back", 4, 0), 4);
	guest_turn(&first);
	assert_true(guest_receive(&first, &h, NULL));
	assert_int_equal(h.len, 4);
	close(a);
	close(b);
	blob_fini(&saved);
	blob_fini(&again);
}

/*
 * A packet lies in TX at the moment of saving and its kick is lost with the machine. With
 * EVENT_IDX the guest would not kick again for 65536 packets.
 */
static void test_packet_in_tx(void **state)
{
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = 8,
		.dst_port = 7,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RW,
	};
	struct blob saved = { 0 };

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	devices_stop(&first.devices);
	guest_post(&first, &h, NULL);
	guest_kick(&first); /* while it is paused */
	assert_int_not_equal(ring_used_idx(&first.tx), first.tx.avail_idx);
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);
	devices_start(&second.devices);
	assert_int_equal(ring_used_idx(&second.tx), second.tx.avail_idx);
	assert_int_equal(ring_avail_event(&second.tx), second.tx.avail_idx);
	assert_true(guest_receive(&second, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_RST);
	devices_start(&first.devices);
	assert_true(guest_receive(&first, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_RST);
	blob_fini(&saved);
}

/* Nothing to do at the start means nothing written: each page a clone writes is a copy. */
static void test_idle_start_writes_nothing(void **state)
{
	struct blob saved = { 0 }, again = { 0 };

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);
	devices_start(&second.devices);
	assert_memory_equal(second.vm.memory.base, first.vm.memory.base, GUEST_RAM);
	assert_false(second.vm.wake_pending);
	save(&second, &again); /* nor is a buffer lost */
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);
	blob_fini(&saved);
	blob_fini(&again);
}

/* Resets that the guest has not fetched, half a frame each way, no RX buffers. */
static void test_everything_waits(void **state)
{
	static char data[100000];
	struct blob saved = { 0 }, again = { 0 };
	struct vsock_header h;
	uint32_t got = 0;
	unsigned resets = 0;

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	first.hold_rx = true;
	assert_int_equal(channel_request(first.channel, 5, data, sizeof(data), 0), 0);
	for (unsigned i = 0; i < 60; i++)
		guest_send(&first, VSOCK_OP_RW, 7, 3000 + i, 0, NULL, 0);
	while (guest_receive(&first, &h, NULL))
		got += h.op == VSOCK_OP_RW ? h.len : 0;
	guest_send(&first, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, "VIRG\1", 5);
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);
	assert_int_equal(device_save(guest_device(&second), &again), 0);
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);

	devices_start(&second.devices);
	second.buf_alloc = 1u << 20;
	guest_send(&second, VSOCK_OP_CREDIT_UPDATE, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, NULL, 0);
	second.hold_rx = false;
	guest_offer_rx(&second, GUEST_SIZE);
	while (guest_receive(&second, &h, NULL)) {
		got += h.op == VSOCK_OP_RW ? h.len : 0;
		resets += h.op == VSOCK_OP_RST;
	}
	assert_int_equal(got, sizeof(data) + 32);
	assert_true(resets > 0 && resets <= 60);
	blob_fini(&saved);
	blob_fini(&again);
}

/* The device's counter of host ports. */
static uint32_t *next_port(struct vsock_guest *g)
{
	const struct device *dev = guest_device(g);

	for (const struct field *f = dev->class->fields; f->name; f++)
		if (strstr(f->name, "next_port"))
			return (uint32_t *)(void *)((char *)dev->state + f->offset);
	return NULL;
}

static void test_ports_are_not_reused(void **state)
{
	struct blob saved = { 0 };

	(void)state;
	*next_port(&first) = VSOCK_PORT_FIRST + 17;
	save(&first, &saved);
	assert_int_equal(load(&saved), 0);
	assert_int_equal(*next_port(&second), VSOCK_PORT_FIRST + 17);
	blob_fini(&saved);
}

static void test_truncated(void **state)
{
	struct blob saved = { 0 };

	(void)state;
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	close(guest_connect(&first, 2000));
	save(&first, &saved);
	for (size_t len = 0; len < saved.len; len++) {
		struct blob part = { .data = saved.data, .len = len };

		guest_destroy(&second);
		make(&second);
		assert_true(load(&part) < 0);
		assert_string_not_equal(error_text(), "");
	}
	blob_fini(&saved);
}

/* Any bytes changed: refused with a sentence, or a device that still keeps within its memory. */
static void test_noise(void **state)
{
	struct blob saved = { 0 };
	unsigned good = 0;

	(void)state;
	srandom(20261123);
	guest_open_channel(&first, CHANNEL_FLAG_WANT_RESTORED);
	close(guest_connect(&first, 2000));
	assert_int_equal(channel_request(first.channel, 5, "hello", 5, 0), 0);
	save(&first, &saved);
	for (unsigned n = 0; n < 1500; n++) {
		struct blob noisy = { 0 };

		blob_put(&noisy, saved.data, saved.len);
		for (long i = random() % 3; i >= 0; i--)
			noisy.data[random() % (long)noisy.len] =
				(uint8_t)(random() % 2 ? random() : random() % 8);
		guest_destroy(&second);
		make(&second);
		if (load(&noisy) == 0) {
			good++;
			devices_start(&second.devices);
			guest_kick(&second);
			second.vm.polls[0].poll(second.vm.polls[0].opaque);
		}
		blob_fini(&noisy);
	}
	assert_true(good > 20 && good < 1480);
	blob_fini(&saved);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_channel_goes_on),  TEST(test_other_connections),
		TEST(test_packet_in_tx),     TEST(test_idle_start_writes_nothing),
		TEST(test_everything_waits), TEST(test_ports_are_not_reused),
		TEST(test_truncated),        TEST(test_noise),
	};

	return cmocka_run_group_tests_name("vsock_restore", tests, NULL, NULL);
}
