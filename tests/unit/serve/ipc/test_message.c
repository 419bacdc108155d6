/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between supervisor and VM process: round trips, descriptors, and what a
 * hostile peer may send.
 */
#include "serve/ipc/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
	int pair[2];
	int free_fd; /* the lowest: the same at the end, or one leaked */
	struct message in;
	struct message out;
};

static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static int fixture_setup(void **state)
{
	struct fixture *f = malloc(sizeof(*f));

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->pair), 0);
	f->free_fd = lowest_free();
	/* Nothing may be taken over from what was there. */
	memset(&f->in, 0xa5, sizeof(f->in));
	memset(&f->out, 0x5a, sizeof(f->out));
	*state = f;
	return 0;
}

static int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(lowest_free(), f->free_fd);
	close(f->pair[0]);
	close(f->pair[1]);
	free(f);
	return 0;
}

static void test_round_trip(void **state)
{
	struct fixture *f = *state;

	message_init(&f->out, MESSAGE_CONNECT);
	f->out.value = 0xfffffffe;
	f->out.id = 0x1122334455667788;
	message_set_text(&f->out, "four words of text");
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(f->in.type, MESSAGE_CONNECT);
	assert_int_equal(f->in.value, 0xfffffffe);
	assert_int_equal(f->in.id, 0x1122334455667788);
	assert_int_equal(f->in.text_len, 18);
	assert_string_equal(f->in.text, "four words of text");
	assert_int_equal(f->in.fd_count, 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EAGAIN);
}

static void test_longest_text(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(MESSAGE_TEXT_MAX + 100);

	memset(text, 'x', MESSAGE_TEXT_MAX + 99);
	text[MESSAGE_TEXT_MAX + 99] = '\0';
	message_init(&f->out, MESSAGE_SNAPSHOT);
	message_set_text(&f->out, text);
	assert_int_equal(f->out.text_len, MESSAGE_TEXT_MAX);
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(strlen(f->in.text), MESSAGE_TEXT_MAX);
	f->out.text_len = MESSAGE_TEXT_MAX + 1;
	assert_int_equal(message_send(f->pair[0], &f->out), -EMSGSIZE);
	free(text);
}

static void test_descriptors(void **state)
{
	struct fixture *f = *state;
	char byte = 0;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	message_init(&f->out, MESSAGE_SNAPSHOT);
	f->out.fd_count = 2;
	f->out.fds[0] = ends[0];
	f->out.fds[1] = ends[1];
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(f->in.fd_count, 2);
	assert_int_equal(fcntl(f->in.fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(f->in.fds[1], "!", 1), 1);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(byte, '!');
	message_close_fds(&f->in);
	assert_int_equal(f->in.fd_count, 0);
	close(ends[0]);
	close(ends[1]);
}

/* As many as a message may have, each where it was; one more is refused before it is sent. */
static void test_most_descriptors(void **state)
{
	struct fixture *f = *state;
	int ends[2 * MESSAGE_FDS_MAX];

	message_init(&f->out, MESSAGE_INVOKE);
	f->out.fd_count = MESSAGE_FDS_MAX;
	for (unsigned i = 0; i < MESSAGE_FDS_MAX; i++) {
		assert_int_equal(pipe2(&ends[2 * i], O_CLOEXEC), 0);
		f->out.fds[i] = ends[2 * i + 1];
	}
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(f->in.fd_count, MESSAGE_FDS_MAX);
	for (unsigned i = 0; i < MESSAGE_FDS_MAX; i++) {
		char number = (char)i, back = -1;

		assert_int_equal(write(f->in.fds[i], &number, 1), 1);
		assert_int_equal(read(ends[2 * i], &back, 1), 1);
		assert_int_equal(back, number);
		close(ends[2 * i]);
		close(ends[2 * i + 1]);
	}
	message_close_fds(&f->in);
	f->out.fd_count++;
	assert_int_equal(message_send(f->pair[0], &f->out), -EMSGSIZE);
}

static void test_peer_gone(void **state)
{
	struct fixture *f = *state;

	message_init(&f->out, MESSAGE_READY);
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	/* Dies with a message unread: that is no error to us. */
	assert_int_equal(message_send(f->pair[1], &f->out), 0);
	close(f->pair[0]);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(message_receive(f->pair[1], &f->in), 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 0);
	assert_int_equal(message_send(f->pair[1], &f->out), -EPIPE);
	f->pair[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* A peer that does not read: message_try says so at once. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	int ret = 0;

	message_init(&f->out, MESSAGE_READY);
	for (unsigned i = 0; i < 100000 && ret == 0; i++)
		ret = message_try(f->pair[0], &f->out);
	assert_int_equal(ret, -EAGAIN);
}

/* Sends raw bytes with `count` copies of a descriptor. */
static void send_raw(struct fixture *f, const void *data, size_t len, unsigned count)
{
	struct iovec part = { .iov_base = (void *)data, .iov_len = len };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int) * 2 * MESSAGE_FDS_MAX)];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	int *fds = (int *)(void *)CMSG_DATA(&control.head);

	if (count) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int) * count);
		for (unsigned i = 0; i < count; i++)
			fds[i] = f->pair[0];
	}
	assert_int_equal(sendmsg(f->pair[0], &msg, 0), len);
}

static void test_malformed(void **state)
{
	static const char zeros[MESSAGE_TEXT_MAX + 1000];
	struct fixture *f = *state;

	send_raw(f, zeros, 15, 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EPROTO);
	send_raw(f, zeros, 1, 3);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EPROTO);
	assert_int_equal(f->in.fd_count, 0);
	send_raw(f, zeros, sizeof(zeros), 1);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EPROTO);
	send_raw(f, zeros, 0, 2);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EPROTO);
	/* The kernel may find room for one more than fits; none of them may stay open. */
	send_raw(f, zeros, 16, MESSAGE_FDS_MAX + 1);
	if (message_receive(f->pair[1], &f->in) == 1) {
		assert_int_equal(f->in.fd_count, MESSAGE_FDS_MAX);
		message_close_fds(&f->in);
	}
	send_raw(f, zeros, 16, 2 * MESSAGE_FDS_MAX);
	assert_int_equal(message_receive(f->pair[1], &f->in), -EPROTO);
	send_raw(f, zeros, 16, 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(f->in.type, 0);
	assert_int_equal(f->in.text_len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		TEST(test_round_trip),       TEST(test_longest_text), TEST(test_descriptors),
		TEST(test_most_descriptors), TEST(test_peer_gone),    TEST(test_full),
		TEST(test_malformed),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
