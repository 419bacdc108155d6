/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vsock connections over unix sockets, both ways: the client's line, data, slow
 * peers, shutdown of one side and of both.
 * wrap: vm_irq vm_irq_want vm_wake vm_poll_add
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "devices/vsock/unix.h"
#include "tests/unit/devices/vsock/vsock_guest.h"

#define GUEST_PORT 5000u

static struct vsock_guest guest;
static char path[108];

static int setup(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/virga-test-vsock.%d", (int)getpid());
	unlink(path);
	guest_create(&guest, path);
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
	unlink(path);
	return 0;
}

/* --- Helpers --- */

static int dial(const char *line)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	guest_turn(&guest);
	guest_turn(&guest);
	return fd;
}

/* A connection that the host begins, as far as its OK. */
static int connect_in(uint32_t *host_port)
{
	struct vsock_header h;
	char text[32] = "", want[32];
	int fd = dial("CONNECT 5000\n");

	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, GUEST_PORT);
	*host_port = h.src_port;
	assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
	guest_send(&guest, VSOCK_OP_RESPONSE, h.src_port, GUEST_PORT, 0, NULL, 0);
	assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
	snprintf(want, sizeof(want), "OK %u\n", h.src_port);
	assert_string_equal(text, want);
	return fd;
}

static bool is_closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

/* --- Connections that the guest begins --- */

static void test_guest_to_host(void **state)
{
	struct vsock_header h;
	char data[GUEST_BUFFER] = "";
	int fd = guest_connect(&guest, 2000);

	(void)state;
	guest_send(&guest, VSOCK_OP_RW, GUEST_HOST_PORT, 2000, 0, "hello", 5);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 5);
	assert_memory_equal(data, "hello", 5);
	assert_int_equal(send(fd, "world!", 6, 0), 6);
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, data));
	assert_int_equal(h.op, VSOCK_OP_RW);
	assert_int_equal(h.len, 6);
	assert_memory_equal(data, "world!", 6);
	close(fd);
}

static void test_refused(void **state)
{
	uint64_t id;

	(void)state;
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	id = guest.question_id;
	devices_answered(&guest.devices, id, ECONNREFUSED, -1);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);

	guest.refuse = -EAGAIN;
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2001, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2001);
	assert_silent(&guest);
}

/* An answer that comes when the guest has given up, or twice, or was never asked for. */
static void test_late_answer(void **state)
{
	int pair[2];
	uint64_t id;

	(void)state;
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	id = guest.question_id;
	guest_send(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		devices_answered(&guest.devices, i ? UINT64_MAX : id, 0, pair[0]);
		assert_true(is_closed(pair[1]));
		close(pair[1]);
	}
	assert_silent(&guest);
}

/* Questions whose asker has gone count until they are answered; those beyond are refused. */
static void test_unanswered(void **state)
{
	unsigned asked;

	(void)state;
	for (unsigned i = 0; i < 1000 && guest.questions == i; i++) {
		guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
		guest_send(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	}
	asked = guest.questions;
	assert_true(asked > 64 && asked < 200); /* the pair of sockets takes 278 answers */
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	guest_put(&guest, 0x070, 0); /* no reset makes up for answers */
	guest_bring_up(&guest, true);
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	assert_int_equal(guest.questions, asked);

	devices_answered(&guest.devices, guest.question_id, ECONNREFUSED, -1);
	close(guest_connect(&guest, 2000));
	assert_int_equal(guest.questions, asked + 1);
}

/* A host program that does not read: bytes wait, then the guest has no credit; nothing is lost. */
static void test_back_pressure(void **state)
{
	static uint8_t data[16384], back[16384];
	struct vsock_header h;
	int fd = guest_connect(&guest, 2000);
	uint32_t sent = 0, fwd = 0, got = 0;

	(void)state;
	while (sent - fwd + sizeof(data) <= VSOCK_BUF_ALLOC) {
		for (unsigned i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)((sent + i) * 7);
		guest_send(&guest, VSOCK_OP_RW, GUEST_HOST_PORT, 2000, 0, data, sizeof(data));
		sent += (uint32_t)sizeof(data);
		while (guest_receive(&guest, &h, NULL)) {
			assert_int_equal(h.op, VSOCK_OP_CREDIT_UPDATE);
			fwd = h.fwd_cnt;
		}
	}
	assert_true(sent > VSOCK_BUF_ALLOC);
	while (got < sent) {
		ssize_t n = recv(fd, back, sizeof(back), 0);

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(back[i], (uint8_t)((got + (uint32_t)i) * 7));
		got += (uint32_t)n;
		guest_turn(&guest);
	}
	while (guest_receive(&guest, &h, NULL))
		fwd = h.fwd_cnt;
	assert_true(sent - fwd < VSOCK_BUF_ALLOC / 2);

	guest_send(&guest, VSOCK_OP_CREDIT_REQUEST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(h.fwd_cnt, sent);
	assert_int_equal(h.buf_alloc, VSOCK_BUF_ALLOC);
	close(fd);
}

/* More than its credit: the connection is reset. */
static void test_credit_violation(void **state)
{
	static uint8_t data[16384];
	struct vsock_header h = { 0 };
	int fd = guest_connect(&guest, 2000);

	(void)state;
	for (unsigned i = 0; i < 100 && h.op != VSOCK_OP_RST; i++) {
		guest_send(&guest, VSOCK_OP_RW, GUEST_HOST_PORT, 2000, 0, data, sizeof(data));
		while (guest_receive(&guest, &h, NULL))
			;
	}
	assert_int_equal(h.op, VSOCK_OP_RST);
	close(fd);
}

/* --- Connections that the host begins --- */

static void test_host_to_guest(void **state)
{
	struct vsock_header h;
	char data[GUEST_BUFFER] = "";
	uint32_t host_port;
	int fd = connect_in(&host_port);

	(void)state;
	guest_send(&guest, VSOCK_OP_RW, host_port, GUEST_PORT, 0, "hello", 5);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 5);
	assert_int_equal(send(fd, "you", 3, 0), 3);
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, data));
	assert_int_equal(h.len, 3);
	guest_send(&guest, VSOCK_OP_RST, host_port, GUEST_PORT, 0, NULL, 0);
	assert_true(is_closed(fd));
	close(fd);
}

/* What a client writes behind its line reaches the guest after it has accepted. */
static void test_data_behind_the_line(void **state)
{
	struct vsock_header h;
	char data[GUEST_BUFFER] = "";
	int fd = dial("CONNECT 5000\nearly");

	(void)state;
	assert_true(guest_receive(&guest, &h, NULL));
	assert_silent(&guest);
	guest_send(&guest, VSOCK_OP_RESPONSE, h.src_port, GUEST_PORT, 0, NULL, 0);
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, data));
	assert_int_equal(h.len, 5);
	assert_memory_equal(data, "early", 5);
	close(fd);
}

static void test_refused_by_guest(void **state)
{
	struct vsock_header h;
	int fd = dial("CONNECT 5000\n");

	(void)state;
	assert_true(guest_receive(&guest, &h, NULL));
	guest_send(&guest, VSOCK_OP_RST, h.src_port, GUEST_PORT, 0, NULL, 0);
	assert_true(is_closed(fd));
	close(fd);
}

static void test_bad_lines(void **state)
{
	static const char *const bad[] = {
		"CONNECT\n",        "CONNECT \n",
		"connects 5\n",     "CONNECT 4294967296\n",
		"CONNECT -1\n",     "CONNECT +5\n",
		"CONNECT 5 5\n",    "CONNECT 0x5\n",
		"GET / HTTP/1.1\n", "\n",
		"CONNECT 5\r5\n",   "CONNECT 55555555555555555555555555555555",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = dial(bad[i]);

		assert_true(is_closed(fd));
		close(fd);
	}
	assert_silent(&guest);
}

/* Kata writes it in lower case, which Firecracker and Cloud Hypervisor take. */
static void test_word_in_any_case(void **state)
{
	static const char *const lines[] = { "connect 5000\n", "Connect 5000\n" };
	int fds[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		fds[i] = dial(lines[i]);
		assert_hears(&guest, VSOCK_OP_REQUEST, VSOCK_PORT_FIRST + i, GUEST_PORT);
	}
	close(fds[0]);
	close(fds[1]);
}

static void test_line_in_pieces(void **state)
{
	int fd = dial("CONN");

	(void)state;
	assert_false(is_closed(fd));
	assert_int_equal(send(fd, "ECT 50", 6, 0), 6);
	guest_turn(&guest);
	assert_int_equal(send(fd, "00\n", 3, 0), 3);
	guest_turn(&guest);
	assert_hears(&guest, VSOCK_OP_REQUEST, VSOCK_PORT_FIRST, GUEST_PORT);
	close(fd);
}

/* Silent clients push each other out, never one that speaks. */
static void test_silent_clients(void **state)
{
	int fds[VSOCK_UNIX_HANDSHAKES_MAX + 4];
	unsigned count = sizeof(fds) / sizeof(fds[0]);
	uint32_t host_port;

	(void)state;
	for (unsigned i = 0; i < count; i++)
		fds[i] = dial("CONNECT 50");
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(is_closed(fds[i]), i < 4);
	close(connect_in(&host_port));
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

static void test_no_driver(void **state)
{
	int fd;

	(void)state;
	guest_put(&guest, 0x070, 0);
	fd = dial("CONNECT 5000\n");
	assert_true(is_closed(fd));
	close(fd);
}

/* --- Shutdown --- */

static void test_host_half_close(void **state)
{
	struct vsock_header h;
	char data[8];
	uint32_t host_port;
	int fd = connect_in(&host_port);

	(void)state;
	assert_int_equal(send(fd, "last", 4, 0), 4);
	shutdown(fd, SHUT_WR);
	guest_turn(&guest);
	assert_hears(&guest, VSOCK_OP_RW, host_port, GUEST_PORT);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_SEND);

	/* The other direction still works. */
	guest_send(&guest, VSOCK_OP_RW, host_port, GUEST_PORT, 0, "reply", 5);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 5);
	close(fd);
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_BOTH);
	guest_send(&guest, VSOCK_OP_RST, host_port, GUEST_PORT, 0, NULL, 0);
	assert_silent(&guest);
}

static void test_host_close_with_data(void **state)
{
	struct vsock_header h;
	uint32_t host_port;
	int fd = connect_in(&host_port);
	uint32_t got = 0;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(send(fd, (char[4000]){ 0 }, 4000, 0), 4000);
	close(fd);
	guest_turn(&guest);
	while (guest_receive(&guest, &h, NULL) && h.op == VSOCK_OP_RW)
		got += h.len;
	assert_int_equal(got, 20000);
	assert_int_equal(h.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_BOTH);

	/* What was under way is dropped; the guest's RST ends it. */
	guest_send(&guest, VSOCK_OP_RW, host_port, GUEST_PORT, 0, "x", 1);
	guest_send(&guest, VSOCK_OP_RST, host_port, GUEST_PORT, 0, NULL, 0);
	guest_send(&guest, VSOCK_OP_RW, host_port, GUEST_PORT, 0, "x", 1);
	assert_hears(&guest, VSOCK_OP_RST, host_port, GUEST_PORT);
	assert_silent(&guest);
}

static void test_guest_half_close(void **state)
{
	char data[8];
	struct vsock_header h;
	int fd = guest_connect(&guest, 2000);

	(void)state;
	guest_send(&guest, VSOCK_OP_RW, GUEST_HOST_PORT, 2000, 0, "end", 3);
	guest_send(&guest, VSOCK_OP_SHUTDOWN, GUEST_HOST_PORT, 2000, VSOCK_SHUT_SEND, NULL, 0);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 3);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 0);
	assert_int_equal(send(fd, "late", 4, 0), 4);
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.len, 4);
	guest_send(&guest, VSOCK_OP_SHUTDOWN, GUEST_HOST_PORT, 2000, VSOCK_SHUT_RCV, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	assert_true(is_closed(fd));
	close(fd);
}

/* Closed by the guest while a slow host still has bytes to come: it gets them all. */
static void test_close_drains(void **state)
{
	static uint8_t data[16384];
	struct vsock_header h;
	int fd = guest_connect(&guest, 2000);
	uint32_t sent = 0, fwd = 0, got = 0;
	ssize_t n;

	(void)state;
	while (sent - fwd + sizeof(data) <= VSOCK_BUF_ALLOC) {
		guest_send(&guest, VSOCK_OP_RW, GUEST_HOST_PORT, 2000, 0, data, sizeof(data));
		sent += (uint32_t)sizeof(data);
		while (guest_receive(&guest, &h, NULL))
			fwd = h.fwd_cnt;
	}
	guest_send(&guest, VSOCK_OP_SHUTDOWN, GUEST_HOST_PORT, 2000, VSOCK_SHUT_BOTH, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	close(guest_connect(&guest, 2000)); /* the ports are free at once */
	while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
		got += (uint32_t)n;
		guest_turn(&guest);
	}
	assert_int_equal(n, 0);
	assert_int_equal(got, sent);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1); /* closed, not only half */
	close(fd);
}

/* All connections taken: the next is refused, and those the host has left make room. */
static void test_table_full(void **state)
{
	unsigned open = 0;
	struct vsock_header h;
	int fds[VSOCK_CONNS_MAX - 1];

	(void)state;
	for (unsigned i = 0; i < VSOCK_CONNS_MAX - 1; i++) {
		fds[i] = guest_connect(&guest, 2000 + i);
		open += guest.questions == i + 1;
	}
	assert_int_equal(open, VSOCK_CONNS_MAX - 1);
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 9999, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 9999);
	guest_open_channel(&guest, 0); /* has a place of its own */
	close(dial("CONNECT 5000\n"));
	assert_silent(&guest);

	guest_send(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000, 0, NULL, 0);
	close(guest_connect(&guest, 2000));
	guest_turn(&guest);
	assert_true(guest_receive(&guest, &h, NULL));
	assert_int_equal(h.op, VSOCK_OP_SHUTDOWN);
	/* The guest says no RST; its place is taken all the same. */
	guest_send(&guest, VSOCK_OP_REQUEST, GUEST_HOST_PORT, 9999, 0, NULL, 0);
	assert_hears(&guest, VSOCK_OP_RST, GUEST_HOST_PORT, 2000);
	assert_int_equal(guest.questions, VSOCK_CONNS_MAX + 1);
	for (unsigned i = 0; i < VSOCK_CONNS_MAX - 1; i++)
		close(fds[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_guest_to_host),    TEST(test_refused),
		TEST(test_late_answer),      TEST(test_unanswered),
		TEST(test_back_pressure),    TEST(test_credit_violation),
		TEST(test_host_to_guest),    TEST(test_data_behind_the_line),
		TEST(test_refused_by_guest), TEST(test_bad_lines),
		TEST(test_word_in_any_case), TEST(test_line_in_pieces),
		TEST(test_silent_clients),   TEST(test_no_driver),
		TEST(test_host_half_close),  TEST(test_host_close_with_data),
		TEST(test_guest_half_close), TEST(test_close_drains),
		TEST(test_table_full),
	};

	return cmocka_run_group_tests_name("vsock_unix", tests, NULL, NULL);
}
