/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/ipc/payload.c: payloads of every length over real sockets, in the text or beside it; those that
 * are shorter than they say, too long or no file; and no descriptor is left. serve/ipc/message.c: what
 * another process may send at random.
 */
#include "serve/ipc/payload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "devices/channel/protocol.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/seed.h"

#define GARBAGE 20000u

struct fixture {
	int pair[2];
	unsigned descriptors;
	struct message in, out;
	uint8_t *data; /* of the longest payload and some more */
};

static struct seed seed;

static int setup(void **state)
{
	struct fixture *f = malloc(sizeof(*f));
	int size = 1 << 20;

	memset(f, 0xa5, sizeof(*f));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->pair), 0);
	setsockopt(f->pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	f->descriptors = descriptors_open();
	f->data = malloc(CHANNEL_PAYLOAD_MAX + 1);
	for (size_t i = 0; i <= CHANNEL_PAYLOAD_MAX; i++)
		f->data[i] = (uint8_t)(i * 7 + i / 251);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(descriptors_open(), f->descriptors);
	close(f->pair[0]);
	close(f->pair[1]);
	free(f->data);
	free(f);
	return 0;
}

/* --- A payload alone --- */

static void check_round_trip(struct fixture *f, size_t len)
{
	void *data;
	size_t got;

	message_init(&f->out, MESSAGE_ANSWER);
	f->out.id = len;
	assert_int_equal(payload_send(f->pair[0], &f->out, f->data, len), 0);
	assert_int_equal(f->out.fd_count, 0);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	assert_int_equal(f->in.id, len);
	assert_int_equal(f->in.fd_count, len > MESSAGE_TEXT_MAX);
	assert_int_equal(payload_take(&f->in, &data, &got), 0);
	assert_int_equal(got, len);
	assert_memory_equal(data, f->data, len);
	free(data);
	message_close_fds(&f->in);
}

static void test_every_length(void **state)
{
	struct fixture *f = *state;

	for (size_t len = 0; len <= MESSAGE_TEXT_MAX + 300; len++)
		check_round_trip(f, len);
	check_round_trip(f, 1000000);
	check_round_trip(f, CHANNEL_PAYLOAD_MAX);
}

/* --- Several in one message --- */

/* A head of `at` bytes, then two payloads. */
static void check_two(struct fixture *f, uint32_t at, size_t first, size_t second)
{
	bool fits[2] = { first <= MESSAGE_TEXT_MAX - at, true };
	void *owned[2] = { NULL, NULL };
	const void *got[2];
	unsigned fds = !fits[0];
	size_t place = at + (fits[0] ? first : 0);

	message_init(&f->out, MESSAGE_ANSWER);
	f->out.text_len = at;
	assert_int_equal(payload_put(&f->out, f->data, first), !fits[0]);
	fits[1] = second <= MESSAGE_TEXT_MAX - place;
	assert_int_equal(payload_put(&f->out, f->data + 3, second), !fits[1]);
	assert_int_equal(f->out.fd_count, fds + !fits[1]);
	assert_int_equal(message_send(f->pair[0], &f->out), 0);
	message_close_fds(&f->out);
	assert_int_equal(message_receive(f->pair[1], &f->in), 1);
	got[0] = payload_at(&f->in, at, first, fits[0] ? -1 : f->in.fds[0], &owned[0]);
	got[1] = payload_at(&f->in, place, second, fits[1] ? -1 : f->in.fds[fds], &owned[1]);
	assert_memory_equal(got[0], f->data, first);
	assert_memory_equal(got[1], f->data + 3, second);
	assert_int_equal(owned[0] == NULL, fits[0]);
	assert_int_equal(owned[1] == NULL, fits[1]);
	free(owned[0]);
	free(owned[1]);
	message_close_fds(&f->in);
}

static void test_two(void **state)
{
	static const size_t edges[] = { 0,
					1,
					100,
					MESSAGE_TEXT_MAX - 41,
					MESSAGE_TEXT_MAX - 40,
					MESSAGE_TEXT_MAX - 39,
					MESSAGE_TEXT_MAX,
					70000 };

	for (unsigned i = 0; i < 8; i++)
		for (unsigned k = 0; k < 8; k++)
			check_two(*state, 40, edges[i], edges[k]);
	for (unsigned n = 0; n < 2000; n++)
		check_two(*state, (uint32_t)seed_below(&seed, MESSAGE_TEXT_MAX + 1),
			  seed_below(&seed, 20000), seed_below(&seed, 20000));
}

static void test_no_room_for_a_descriptor(void **state)
{
	struct fixture *f = *state;

	message_init(&f->out, MESSAGE_INVOKE);
	f->out.fd_count = MESSAGE_FDS_MAX;
	for (unsigned i = 0; i < MESSAGE_FDS_MAX; i++)
		f->out.fds[i] = f->pair[0];
	assert_int_equal(payload_put(&f->out, f->data, MESSAGE_TEXT_MAX), 0);
	assert_int_equal(payload_put(&f->out, f->data, 1), -EMSGSIZE);
	assert_string_equal(error_text(), "a message has no room for one more descriptor");
	assert_int_equal(f->out.fd_count, MESSAGE_FDS_MAX);
}

/* The peer is gone: said, and the memfd is closed. */
static void test_peer_gone(void **state)
{
	struct fixture *f = *state;

	close(f->pair[1]);
	message_init(&f->out, MESSAGE_ANSWER);
	assert_int_equal(payload_send(f->pair[0], &f->out, f->data, 100000), -EPIPE);
	assert_non_null(strstr(error_text(), "cannot send a message on: Broken pipe"));
	f->pair[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* --- What is not as it says --- */

static void check_not_at(struct fixture *f, size_t offset, size_t len, int fd, const char *words)
{
	void *owned = f;

	if (payload_at(&f->in, offset, len, fd, &owned))
		fail_msg("%zu bytes at %zu of %u are none", len, offset, f->in.text_len);
	assert_null(owned);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

static void test_shorter_than_said(void **state)
{
	struct fixture *f = *state;
	void *owned;

	message_init(&f->in, MESSAGE_ANSWER);
	f->in.text_len = 100;
	for (size_t offset = 0; offset <= 100; offset++) {
		assert_ptr_equal(payload_at(&f->in, offset, 100 - offset, -1, &owned),
				 f->in.text + offset);
		check_not_at(f, offset, 101 - offset, -1, "shorter than it says");
		check_not_at(f, offset, CHANNEL_PAYLOAD_MAX, -1, "shorter than it says");
		check_not_at(f, offset, SIZE_MAX - offset, -1, "at most 6291456");
	}
	check_not_at(f, 101, 0, -1, "shorter than it says");
	check_not_at(f, SIZE_MAX, 1, -1, "shorter than it says");
	check_not_at(f, SIZE_MAX - 5, 100, -1, "shorter than it says");
	check_not_at(f, 0, CHANNEL_PAYLOAD_MAX + 1, -1, "at most 6291456");
}

/* Descriptors that are no memfd of that length. */
static void test_wrong_descriptors(void **state)
{
	struct fixture *f = *state;
	void *data;
	size_t len;
	int ends[2], fd = memfd_create("short", MFD_CLOEXEC);

	message_init(&f->in, MESSAGE_ANSWER);
	assert_int_equal(write(fd, f->data, 999), 999);
	check_not_at(f, 0, 1000, fd, "without its payload");
	check_not_at(f, 0, CHANNEL_PAYLOAD_MAX + 1, fd, "at most 6291456");
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	check_not_at(f, 0, 10, ends[0], "without its payload");
	check_not_at(f, 0, 10, ends[1], "without its payload");
	check_not_at(f, 0, 10, f->pair[0], "without its payload");
	check_not_at(f, 0, 10, 999999, "without its payload");
	f->in.fd_count = 1;
	f->in.fds[0] = ends[0];
	assert_int_equal(payload_take(&f->in, &data, &len), -EPROTO);
	assert_null(data);
	f->in.fds[0] = 999999;
	assert_int_equal(payload_take(&f->in, &data, &len), -EBADF);
	f->in.fds[0] = fd;
	assert_int_equal(ftruncate(fd, CHANNEL_PAYLOAD_MAX + 1), 0);
	assert_int_equal(payload_take(&f->in, &data, &len), -EPROTO);
	assert_non_null(strstr(error_text(), "at most 6291456"));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(payload_take(&f->in, &data, &len), 0);
	assert_int_equal(len, 0);
	free(data);
	close(fd);
	close(ends[0]);
	close(ends[1]);
}

/* --- Garbage from another process --- */

/* Random bytes of random length, with random descriptors in one control message or two. */
static void send_garbage(int fd, struct seed *s, const int *fds)
{
	static uint8_t bytes[MESSAGE_TEXT_MAX + 400];
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int) * 8)];
	} control = { .bytes = { 0 } };
	size_t len = seed_below(s, 3) ? seed_below(s, 64) : seed_below(s, sizeof(bytes));
	struct iovec part = { .iov_base = bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	unsigned count = seed_below(s, 2) ? (unsigned)seed_below(s, 9) : 0;

	seed_bytes(s, bytes, len < 64 ? len : 64);
	if (count) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS,
						 .cmsg_len = CMSG_LEN(sizeof(int) * count) };
		memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * count);
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) < 0)
		_exit(1);
}

static void garbage_child(int fd, struct seed s)
{
	int fds[8];

	for (unsigned i = 0; i < 8; i++)
		fds[i] = i & 1 ? memfd_create("x", 0) : dup(0);
	for (unsigned n = 0; n < GARBAGE; n++)
		send_garbage(fd, &s, fds);
	_exit(0);
}

/* What was received is used as a message is: none of it may crash, or leave a descriptor. */
static void test_garbage(void **state)
{
	struct fixture *f = *state;
	unsigned good = 0, bad = 0, before = descriptors_open();
	int status, ret;
	pid_t pid = fork();

	if (pid == 0) {
		close(f->pair[1]);
		garbage_child(f->pair[0], seed);
	}
	while (good + bad < GARBAGE) {
		void *data = NULL;
		size_t len = 0;

		ret = message_wait(f->pair[1], &f->in);
		assert_true(ret == 1 || ret == -EPROTO || ret == 0);
		assert_true(f->in.fd_count <= MESSAGE_FDS_MAX);
		good += ret == 1;
		bad += ret != 1;
		if (ret != 1) {
			assert_int_equal(f->in.fd_count, 0);
			continue;
		}
		assert_true(f->in.text_len <= MESSAGE_TEXT_MAX);
		assert_int_equal(f->in.text[f->in.text_len], 0);
		if (payload_take(&f->in, &data, &len) == 0)
			assert_true(len <= CHANNEL_PAYLOAD_MAX);
		free(data);
		message_close_fds(&f->in);
		if (good % 100 == 0)
			assert_int_equal(descriptors_open(), before);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_in_range(good, GARBAGE / 4, GARBAGE);
	assert_in_range(bad, GARBAGE / 8, GARBAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_length),
		TEST(test_two),
		TEST(test_no_room_for_a_descriptor),
		TEST(test_peer_gone),
		TEST(test_shorter_than_said),
		TEST(test_wrong_descriptors),
		TEST(test_garbage),
	};

	signal(SIGPIPE, SIG_IGN);
	seed = seed_begin(4013);
	return cmocka_run_group_tests_name("payload", tests, NULL, NULL);
}
