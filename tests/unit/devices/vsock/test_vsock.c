/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device as a guest sees it: the function channel, its credit, resets, and
 * what a hostile guest tries.
 * wrap: vm_irq vm_irq_want vm_wake vm_poll_add
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock/unix.h"
#include "tests/unit/arch/vm_calls.h"
#include "tests/unit/devices/vsock/vsock_guest.h"

static struct vsock_guest guest;
static struct {
	unsigned ready, answers, broken;
	char answer[16384];
	size_t answer_len;
} seen;

static void on_ready(void *opaque)
{
	(void)opaque;
	seen.ready++;
}

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	(void)opaque;
	(void)type;
	seen.answers++;
	seen.answer_len = len;
	if (len)
		memcpy(seen.answer, data, len < sizeof(seen.answer) ? len : sizeof(seen.answer));
}

static void on_broken(void *opaque, int err, const char *why)
{
	(void)opaque;
	(void)err;
	assert_string_not_equal(why, "");
	seen.broken++;
}

static int setup(void **state)
{
	const struct channel_events events = { .ready = on_ready,
					       .answer = on_answer,
					       .broken = on_broken };

	(void)state;
	memset(&seen, 0, sizeof(seen));
	memset(&vm_calls, 0, sizeof(vm_calls));
	guest_create(&guest, NULL);
	channel_set_events(guest.channel, &events);
	if (guest_devices(&guest))
		return -1;
	devices_start(&guest.devices);
	guest_bring_up(&guest, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	guest_destroy(&guest);
	return 0;
}

/* --- Helpers --- */

static bool is_closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

/* --- The function channel --- */

static void test_device(void **state)
{
	(void)state;
	assert_int_equal(guest_get(&guest, 0x008), 19);
	assert_int_equal(guest_get(&guest, 0x100), VSOCK_CID_GUEST);
	assert_int_equal(guest_get(&guest, 0x104), 0);
}

static void test_channel_round_trip(void **state)
{
	struct vsock_header h;
	uint8_t data[GUEST_BUFFER];
	struct channel_header frame;

	(void)state;
	guest_open_channel(&guest, 0);
	assert_int_equal(channel_request(guest.channel, 9, "ping", 4, 0), 0);
	assert_true(guest_receive(&guest, &h, data));
	assert_int_equal(h.op, VSOCK_OP_RW);
	assert_int_equal(h.len, 36);
	assert_int_equal(h.fwd_cnt, 32);
	memcpy(&frame, data, sizeof(frame));
	assert_int_equal(frame.type, CHANNEL_REQUEST);
	assert_memory_equal(data + 32, "ping", 4);

	frame.type = CHANNEL_RESPONSE;
	memcpy(data, &frame, sizeof(frame));
	guest_send(&guest, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, data, 36);
	assert_int_equal(seen.answers, 1);
	assert_memory_equal(seen.answer, "ping", 4);
	assert_int_equal(guest.questions, 0);
	assert_silent(&guest);
}

/* A parked guest rings nothing: polling finds its packet, and one pass answers it. */
static void test_poll(void **state)
{
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = GUEST_CHANNEL_PORT,
		.dst_port = CHANNEL_PORT,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_REQUEST,
	};

	(void)state;
	guest_post(&guest, &h, NULL);
	assert_silent(&guest);
	vm_calls.wakes = 0;
	guest.vm.polls[0].poll(guest.vm.polls[0].opaque);
	assert_int_equal(vm_calls.wakes, 1);
	assert_hears(&guest, VSOCK_OP_RESPONSE, CHANNEL_PORT, 1025);
	assert_int_equal(ring_avail_event(&guest.tx), guest.tx.avail_idx);
}

static void test_second_channel_is_refused(void **state)
{
	(void)state;
	guest_open_channel(&guest, 0);
	guest_send(&guest, VSOCK_OP_REQUEST, CHANNEL_PORT, 1026, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, CHANNEL_PORT, 1026);
	assert_true(channel_ready(guest.channel));
	guest_send(&guest, VSOCK_OP_RST, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, NULL, 0);
	assert_int_equal(seen.broken, 1);
	seen.ready = 0;
	guest_open_channel(&guest, 0);
}

static void test_channel_protocol_error(void **state)
{
	static const char junk[64] = "this is not a frame";

	(void)state;
	guest_open_channel(&guest, 0);
	guest_send(&guest, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, junk, sizeof(junk));
	assert_int_equal(seen.broken, 1);
	assert_hears(&guest, VSOCK_OP_RST, CHANNEL_PORT, 1025);
	seen.ready = 0;
	guest_open_channel(&guest, 0);
}

static void test_channel_half_close(void **state)
{
	(void)state;
	guest_open_channel(&guest, 0);
	guest_send(&guest, VSOCK_OP_SHUTDOWN, CHANNEL_PORT, GUEST_CHANNEL_PORT, VSOCK_SHUT_SEND,
		   NULL, 0);
	assert_int_equal(seen.broken, 1);
	assert_hears(&guest, VSOCK_OP_RST, CHANNEL_PORT, 1025);
}

static void test_device_reset(void **state)
{
	int out;

	(void)state;
	guest_open_channel(&guest, 0);
	out = guest_connect(&guest, 2000);
	guest_put(&guest, 0x070, 0);
	assert_int_equal(seen.broken, 1);
	assert_true(is_closed(out));
	close(out);
	guest_bring_up(&guest, false);
	seen.ready = 0;
	guest_open_channel(&guest, 0);
	assert_silent(&guest);
}

/* A large request takes as many buffers as there are, then waits for more and for credit. */
static void test_channel_credit(void **state)
{
	static char data[200000];
	struct vsock_header h;
	uint32_t got = 0;
	bool asked = false;

	(void)state;
	guest_open_channel(&guest, 0);
	guest.hold_rx = true;
	assert_int_equal(channel_request(guest.channel, 9, data, sizeof(data), 0), 0);
	while (guest_receive(&guest, &h, NULL)) {
		if (h.op == VSOCK_OP_CREDIT_REQUEST)
			asked = true;
		else
			assert_int_equal(h.op, VSOCK_OP_RW);
		got += h.len;
		guest_offer_rx(&guest, 1);
	}
	assert_int_equal(got, GUEST_BUF_ALLOC); /* not a byte more than the guest allows */
	assert_true(asked);

	guest.fwd_cnt = 1;
	guest_send(&guest, VSOCK_OP_CREDIT_UPDATE, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, NULL, 0);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.len, 1);
	guest.fwd_cnt = GUEST_BUF_ALLOC + 1;
	guest.buf_alloc = 100; /* a smaller buffer than before */
	guest_send(&guest, VSOCK_OP_CREDIT_UPDATE, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, NULL, 0);
	for (got = 0; guest_receive(&guest, &h, NULL); got += h.len)
		;
	assert_int_equal(got, 100);
}

/* The guest's own buffer is smaller than ours: it hears of room before that one is full. */
static void test_channel_tells_credit(void **state)
{
	static uint8_t log[8192];
	const struct channel_header header = { .magic = CHANNEL_MAGIC,
					       .version = CHANNEL_VERSION,
					       .type = CHANNEL_LOG,
					       .length = sizeof(log) - sizeof(header) };
	struct vsock_header h;
	uint32_t told = 0, sent = 32; /* READY */

	(void)state;
	guest_open_channel(&guest, 0);
	memcpy(log, &header, sizeof(header));
	for (unsigned i = 0; i < 64; i++) {
		assert_true(sent - told + sizeof(log) <= GUEST_BUF_ALLOC);
		guest_send(&guest, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, log,
			   sizeof(log));
		sent += (uint32_t)sizeof(log);
		while (guest_receive(&guest, &h, NULL)) {
			assert_int_equal(h.op, VSOCK_OP_CREDIT_UPDATE);
			told = h.fwd_cnt;
		}
	}
}

/* --- Many connections --- */

/* With one buffer at a time and data for all, each connection gets its turn. */
static void test_fair(void **state)
{
	unsigned turns[4] = { 0 };
	struct vsock_header h;
	int fds[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		fds[i] = guest_connect(&guest, 2000 + i);
	guest.hold_rx = true;
	for (unsigned i = 0; i < GUEST_SIZE; i++) {
		guest_send(&guest, VSOCK_OP_SHUTDOWN, 7, 8, 0, NULL, 0);
		assert_true(guest_receive(&guest, &h, NULL));
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(send(fds[i], (char[60000]){ 0 }, 60000, 0), 60000);
	guest_turn(&guest);
	assert_silent(&guest); /* no buffers */
	for (unsigned n = 0; n < 40; n++) {
		guest_offer_rx(&guest, 1);
		assert_true(guest_receive(&guest, &h, NULL));
		assert_int_equal(h.op, VSOCK_OP_RW);
		turns[h.dst_port - 2000]++;
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(turns[i], 10);
		close(fds[i]);
	}
}

/* --- Reset and abuse --- */

static void test_resets(void **state)
{
	static const enum vsock_op ops[] = { VSOCK_OP_RESPONSE,
					     VSOCK_OP_SHUTDOWN,
					     VSOCK_OP_RW,
					     VSOCK_OP_CREDIT_UPDATE,
					     VSOCK_OP_CREDIT_REQUEST,
					     0,
					     8 };
	int fd;

	(void)state;
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		guest_send(&guest, ops[i], 7, 8, 0, NULL, 0);
		assert_hears(&guest, VSOCK_OP_RST, 7, 8);
	}
	guest_send(&guest, VSOCK_OP_RST, 7, 8, 0, NULL, 0);
	assert_silent(&guest);

	fd = guest_connect(&guest, 2000);
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	assert_true(is_closed(fd));
	close(fd);
}

static void test_bad_packets(void **state)
{
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = 77,
		.src_port = 8,
		.dst_port = CHANNEL_PORT,
		.type = 1,
		.op = VSOCK_OP_REQUEST,
	};
	uint32_t id, len;

	(void)state;
	guest_post(&guest, &h, NULL); /* to nobody */
	guest_kick(&guest);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_RST);
	assert_true(h.src_cid == 77);

	h = (struct vsock_header){ .src_cid = 3,
				   .dst_cid = 2,
				   .src_port = 8,
				   .dst_port = CHANNEL_PORT,
				   .type = 2,
				   .op = VSOCK_OP_REQUEST };
	guest_post(&guest, &h, NULL); /* not a stream */
	guest_kick(&guest);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_RST);
	assert_int_equal(h.type, 2);

	h = (struct vsock_header){
		.src_cid = 99, .dst_cid = 2, .dst_port = 1024, .type = 1, .op = VSOCK_OP_REQUEST
	};
	guest_post(&guest, &h, NULL); /* from somebody else */
	guest_kick(&guest);
	assert_silent(&guest);

	h = (struct vsock_header){ .src_cid = 3,
				   .dst_cid = 2,
				   .src_port = 8,
				   .dst_port = 7,
				   .type = 1,
				   .op = VSOCK_OP_RW,
				   .len = UINT32_MAX };
	guest_post(&guest, &h, NULL); /* longer than its buffer */
	guest_kick(&guest);
	assert_hears(&guest, VSOCK_OP_RST, 7, 8);

	while (ring_take(&guest.tx, &id, &len))
		assert_int_equal(len, 0);
	ring_desc(&guest.tx, 0, 0x200000, 20, 0, 0); /* less than a header */
	ring_offer(&guest.tx, 0);
	guest_kick(&guest);
	assert_true(ring_take(&guest.tx, &id, &len));
	assert_silent(&guest);
	assert_int_equal(guest_get(&guest, 0x070), 15);
}

/* RX buffers with no room for data are given back; one that is too small for a header too. */
static void test_small_rx_buffers(void **state)
{
	uint32_t id, len;

	(void)state;
	guest_open_channel(&guest, 0);
	guest.hold_rx = true;
	while (guest.rx.avail_idx != (uint16_t)(guest.rx.used_seen + GUEST_SIZE))
		guest_offer_rx(&guest, 1);
	for (unsigned i = 0; i < GUEST_SIZE; i++)
		ring_desc(&guest.rx, i, 0x100000u + i * GUEST_BUFFER,
			  i == 9  ? 45
			  : i % 2 ? 44
				  : 10,
			  RING_WRITE, 0);
	assert_int_equal(channel_request(guest.channel, 1, "x", 1, 0), 0);
	for (unsigned i = 0, bytes = 0; i < GUEST_SIZE; i++) {
		assert_true(ring_take(&guest.rx, &id, &len));
		assert_int_equal(len, id == 9 ? 45 : 0);
		bytes += len;
	}
}

/* A guest that asks for resets and never fetches them stops only itself. */
static void test_reset_flood(void **state)
{
	struct vsock_header h;
	unsigned resets = 0, sent = 0;

	(void)state;
	guest.hold_rx = true;
	while (sent < 400 &&
	       (uint16_t)(guest.tx.avail_idx - ring_used_idx(&guest.tx)) < GUEST_SIZE / 2) {
		guest_send(&guest, VSOCK_OP_RW, 7, 10000 + sent, 0, NULL, 0);
		sent++;
	}
	/* Those in RX, those held back, and those that wait in TX. */
	assert_int_equal(sent, GUEST_SIZE + VSOCK_RESETS_MAX + GUEST_SIZE / 2);
	while (guest_receive(&guest, &h, NULL)) {
		assert_int_equal(h.op, VSOCK_OP_RST);
		assert_int_equal(h.dst_port, 10000 + resets);
		resets++;
		guest_offer_rx(&guest, 1);
	}
	assert_int_equal(resets, sent);
}

/* Each packet brings the next, as if somebody filled TX as fast as it is drained. */
static void feed(struct vsock_guest *g)
{
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = 2000,
		.dst_port = GUEST_HOST_PORT,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RST,
	};

	devices_answered(&g->devices, g->question_id, ECONNREFUSED, -1);
	guest_post(g, &h, NULL);
	h.op = VSOCK_OP_REQUEST;
	if (g->questions < 10000)
		guest_post(g, &h, NULL);
}

/* It comes in shares, each of a bounded number, and after one kick all of it. */
static void test_fed_queue(void **state)
{
	unsigned shares = 0, before = 0;

	(void)state;
	guest.on_question = feed;
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	while (guest.vm.poll_pending) {
		assert_true(guest.questions - before < 2048);
		before = guest.questions;
		guest.vm.poll_pending = false;
		guest.vm.polls[0].poll(guest.vm.polls[0].opaque);
		shares++;
	}
	assert_true(shares > 4);
	assert_int_equal(guest.questions, 10001);
	assert_int_equal(ring_used_idx(&guest.tx), guest.tx.avail_idx);
	assert_silent(&guest);
}

/* Packets of noise, some to ports that exist. */
static void test_noise(void **state)
{
	static uint8_t data[1024];
	int fds[4];
	struct vsock_header h;
	unsigned answered;

	(void)state;
	srandom(20261123);
	guest_open_channel(&guest, 0);
	for (unsigned i = 0; i < 4; i++)
		fds[i] = guest_connect(&guest, 2000 + i);
	answered = guest.questions;
	for (unsigned n = 0; n < 20000; n++) {
		static const uint32_t ports[] = {
			CHANNEL_PORT, GUEST_HOST_PORT, GUEST_CHANNEL_PORT, 2000, 2001, 2003, 1
		};

		h = (struct vsock_header){
			.src_cid = random() % 16 ? 3 : (uint64_t)random(),
			.dst_cid = random() % 16 ? 2 : (uint64_t)random(),
			.src_port = ports[random() % 7],
			.dst_port = ports[random() % 7],
			.len = (uint32_t)(random() % 16 ? random() % 1024 : random()),
			.type = random() % 16 ? 1 : (uint16_t)random(),
			.op = (uint16_t)(random() % 16 ? random() % 9 : random()),
			.flags = (uint32_t)random(),
			.buf_alloc = (uint32_t)random(),
			.fwd_cnt = (uint32_t)random(),
		};
		guest_post(&guest, &h, h.len <= sizeof(data) ? data : NULL);
		guest_kick(&guest);
		while (guest_receive(&guest, &h, NULL))
			;
		if (n % 64 == 0)
			guest_turn(&guest);
		for (; n % 128 == 0 && answered < guest.questions; answered++)
			devices_answered(&guest.devices, guest.question_id, ECONNREFUSED, -1);
	}
	assert_int_equal(guest_get(&guest, 0x070), 15);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_device),
		TEST(test_channel_round_trip),
		TEST(test_poll),
		TEST(test_second_channel_is_refused),
		TEST(test_channel_protocol_error),
		TEST(test_channel_half_close),
		TEST(test_device_reset),
		TEST(test_channel_credit),
		TEST(test_channel_tells_credit),
		TEST(test_fair),
		TEST(test_resets),
		TEST(test_bad_packets),
		TEST(test_small_rx_buffers),
		TEST(test_reset_flood),
		TEST(test_fed_queue),
		TEST(test_noise),
	};

	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
