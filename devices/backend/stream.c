/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes between a character device and the host (devices/backend/stream.h).
 */
#include "devices/backend/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

#define STREAM_ESCAPE      0x01u /* Ctrl-A */
#define STREAM_ESCAPE_QUIT 'x'

static bool stream_end_ready(const struct stream_end *end, short events, int timeout_ms)
{
	struct pollfd p = { .fd = end->fd, .events = events };

	return poll(&p, 1, timeout_ms) == 1;
}

static void stream_end_close(struct stream *s, struct stream_end *end)
{
	loop_remove(&s->vm->loop, end->watch);
	end->watch = NULL;
	if (end->fd >= 0)
		close(end->fd);
	end->fd = -1;
}

/* --- Output --- */

/* Bytes written, 0 when the host takes none now, or -1 when it never will again. */
static ssize_t stream_put(struct stream *s, const uint8_t *data, size_t len)
{
	struct stream_end *out = &s->out;
	ssize_t n;

	if (!out->nonblock && !stream_end_ready(out, POLLOUT, 0))
		return 0;
	n = write(out->fd, data, len < out->chunk ? len : out->chunk);
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	if (errno != EPIPE)
		notef("%s: cannot write, output is dropped from here on: %s", s->name,
		      write_error(errno));
	stream_end_close(s, out);
	return -1;
}

static void stream_flush(struct stream *s)
{
	while (s->ring_len && s->out.fd >= 0) {
		size_t run = STREAM_RING_SIZE - s->ring_pos;
		ssize_t n =
			stream_put(s, s->ring + s->ring_pos, run < s->ring_len ? run : s->ring_len);

		if (n <= 0)
			break;
		s->ring_pos = (s->ring_pos + (size_t)n) % STREAM_RING_SIZE;
		s->ring_len -= (size_t)n;
	}
	if (s->out.fd < 0)
		s->ring_len = 0;
	if (!s->ring_len) {
		loop_remove(&s->vm->loop, s->out.watch);
		s->out.watch = NULL;
	}
}

static void stream_out_event(void *opaque, uint32_t events)
{
	(void)events;
	stream_flush(opaque);
}

static void stream_keep(struct stream *s, const uint8_t *data, size_t len)
{
	size_t room;

	if (!s->ring)
		s->ring = malloc(STREAM_RING_SIZE);
	room = s->ring ? STREAM_RING_SIZE - s->ring_len : 0;
	if (len > room) {
		if (!s->dropped)
			notef("%s: nobody reads the output; what does not fit is dropped", s->name);
		s->dropped += len - room;
		len = room;
	}
	for (size_t i = 0; i < len; i++)
		s->ring[(s->ring_pos + s->ring_len++) % STREAM_RING_SIZE] = data[i];
	/* Without a loop thread the next write and stream_close() are the occasions to go on. */
	if (s->ring_len && !s->out.watch && s->vm->has_loop_thread)
		s->out.watch = loop_add(&s->vm->loop, s->out.fd, EPOLLOUT, stream_out_event, s);
}

void stream_write(struct stream *s, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	if (s->ring_len)
		stream_flush(s);
	while (len && !s->ring_len && s->out.fd >= 0) {
		ssize_t n = stream_put(s, bytes, len);

		if (n <= 0)
			break;
		bytes += n;
		len -= (size_t)n;
	}
	if (len && s->out.fd >= 0)
		stream_keep(s, bytes, len);
}

/* --- Input --- */

static void stream_push(struct stream *s, uint8_t byte)
{
	if (s->input_len < STREAM_INPUT_SIZE)
		s->input[s->input_len++] = byte;
}

static void stream_key(struct stream *s, uint8_t key)
{
	bool escaped = s->escaped;

	s->escaped = !escaped && key == STREAM_ESCAPE;
	if (s->escaped)
		return;
	if (escaped && key == STREAM_ESCAPE_QUIT) {
		vm_end(s->vm, VM_END_QUIT, 0, "ended by Ctrl-A x");
		return;
	}
	if (escaped && key != STREAM_ESCAPE)
		stream_push(s, STREAM_ESCAPE);
	stream_push(s, key);
}

static ssize_t stream_get(struct stream *s, uint8_t *bytes, size_t max)
{
	struct stream_end *in = &s->in;
	ssize_t n;

	if (in->watch && !in->nonblock && !stream_end_ready(in, POLLIN, 0))
		return -EAGAIN;
	n = read(in->fd, bytes, max < in->chunk ? max : in->chunk);
	return n < 0 ? -errno : n;
}

/* Reads once, at most max bytes. A terminal's keys that find no room are lost, as on a wire. */
static void stream_fill(struct stream *s, size_t max)
{
	uint8_t bytes[STREAM_INPUT_SIZE];
	ssize_t n = stream_get(s, bytes, max);

	for (ssize_t i = 0; i < n; i++) {
		if (s->keys)
			stream_key(s, bytes[i]);
		else
			stream_push(s, bytes[i]);
	}
	/* A terminal says EIO while another process group is in the foreground. */
	if (n == -EAGAIN || (n == -EIO && s->keys)) {
		s->readable = false;
	} else if (n <= 0 && n != -EINTR) {
		s->readable = false;
		stream_end_close(s, &s->in);
	}
}

size_t stream_read(struct stream *s, void *out, size_t max)
{
	size_t n;

	while (max > s->input_len && s->readable)
		stream_fill(s, max - s->input_len);
	n = max < s->input_len ? max : s->input_len;
	memcpy(out, s->input, n);
	s->input_len -= n;
	memmove(s->input, s->input + n, s->input_len);
	return n;
}

void stream_look(struct stream *s)
{
	if (s->in.watch && !s->readable)
		s->readable = stream_end_ready(&s->in, POLLIN, 0);
}

void stream_unread(struct stream *s, const void *data, size_t len)
{
	if (len > STREAM_INPUT_SIZE)
		len = STREAM_INPUT_SIZE;
	if (s->input_len > STREAM_INPUT_SIZE - len)
		s->input_len = STREAM_INPUT_SIZE - len;
	memmove(s->input + len, s->input, s->input_len);
	memcpy(s->input, data, len);
	s->input_len += len;
}

static void stream_in_event(void *opaque, uint32_t events)
{
	struct stream *s = opaque;

	(void)events;
	s->readable = true;
	/* The escape key must work when the guest does not read. */
	while (s->keys && s->readable)
		stream_fill(s, STREAM_INPUT_SIZE);
	s->arrived(s->opaque);
}

/* --- Opening --- */

/* A descriptor of our own for what fd stands for; -1 when there is nothing. */
static struct stream_end stream_end_own(int fd, int access)
{
	struct stream_end end = { .fd = -1, .chunk = SSIZE_MAX };
	struct stat st;
	char path[32];

	if (fstat(fd, &st) < 0)
		return end;
	if (S_ISREG(st.st_mode)) {
		end.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		return end;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	end.fd = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	end.nonblock = end.fd >= 0;
	if (!end.nonblock) {
		end.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		end.chunk = S_ISFIFO(st.st_mode) ? PIPE_BUF : 1;
	}
	return end;
}

/*
 * Edge-triggered: input that the guest does not take yet, or an end that was reported once, must
 * not make the loop spin, and the watch stays where it is from before confinement on.
 */
static int stream_watch(struct stream *s)
{
	s->in.watch = loop_add(&s->vm->loop, s->in.fd, EPOLLIN | EPOLLET, stream_in_event, s);
	return s->in.watch ? 0 : failf(EIO, "%s: cannot watch its input", s->name);
}

static int stream_open_stdio(struct stream *s)
{
	struct stat st;

	s->out = stream_end_own(STDOUT_FILENO, O_WRONLY);
	s->in = stream_end_own(STDIN_FILENO, O_RDONLY);
	if (s->in.fd < 0 || fstat(s->in.fd, &st) < 0)
		return 0;
	s->keys = isatty(s->in.fd);
	if (s->keys)
		signal(SIGTTIN, SIG_IGN); /* in the background a read fails and does not stop us */
	if (s->keys || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))
		return stream_watch(s);
	s->readable = true; /* a file, /dev/null: read whenever the guest has room */
	return 0;
}

static int stream_open_file(struct stream *s, const char *path)
{
	s->out.fd = open(
		path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		0644);
	if (s->out.fd < 0 && errno == ENXIO)
		return failf(ENXIO, "%s: %s: nobody has this pipe open for reading", s->name, path);
	if (s->out.fd < 0)
		return failf(errno, "%s: cannot write %s: %s", s->name, path, strerror(errno));
	s->out.nonblock = true;
	return 0;
}

static int stream_open_pty(struct stream *s)
{
	struct termios raw;
	char path[64];
	int err;

	s->out.fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (s->out.fd < 0 || grantpt(s->out.fd) < 0 || unlockpt(s->out.fd) < 0)
		return failf(errno, "%s: cannot make a pseudo-terminal: %s", s->name,
			     strerror(errno));
	err = ptsname_r(s->out.fd, path, sizeof(path));
	if (err)
		return failf(err, "%s: a pseudo-terminal without a name: %s", s->name,
			     strerror(err));
	s->peer_fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s->peer_fd < 0 || tcgetattr(s->peer_fd, &raw) < 0)
		return failf(errno, "%s: cannot open %s: %s", s->name, path, strerror(errno));
	cfmakeraw(&raw);
	tcsetattr(s->peer_fd, TCSANOW, &raw);
	s->out.nonblock = s->in.nonblock = true;
	/* A descriptor of its own: epoll takes each only once. */
	s->in.fd = fcntl(s->out.fd, F_DUPFD_CLOEXEC, 3);
	if (s->in.fd < 0)
		return failf(errno, "%s: %s", s->name, strerror(errno));
	notef("%s: %s", s->name, path);
	return stream_watch(s);
}

int stream_open(struct stream *s, struct vm *vm, const char *name, const char *spec,
		void (*arrived)(void *opaque), void *opaque)
{
	int ret;

	*s = (struct stream){
		.vm = vm,
		.name = name,
		.arrived = arrived,
		.opaque = opaque,
		.in = { .fd = -1, .chunk = SSIZE_MAX },
		.out = { .fd = -1, .chunk = SSIZE_MAX },
		.peer_fd = -1,
	};
	if (!spec || !strcmp(spec, "none"))
		ret = 0;
	else if (!strcmp(spec, "stdio"))
		ret = stream_open_stdio(s);
	else if (!strcmp(spec, "pty"))
		ret = stream_open_pty(s);
	else if (!strncmp(spec, "file:", 5) && spec[5])
		ret = stream_open_file(s, spec + 5);
	else
		ret = failf(EINVAL, "%s: '%s' is none of stdio, file:PATH, pty, none", name, spec);
	if (ret)
		stream_close(s);
	return ret;
}

void stream_close(struct stream *s)
{
	uint64_t deadline_us = monotonic_us() + STREAM_FLUSH_MS * 1000ull;

	if (s->ring_len)
		stream_flush(s);
	while (s->ring_len && monotonic_us() < deadline_us) {
		stream_end_ready(&s->out, POLLOUT, STREAM_FLUSH_MS / 10);
		stream_flush(s);
	}
	s->dropped += s->ring_len;
	if (s->dropped)
		notef("%s: %llu bytes of output were dropped", s->name,
		      (unsigned long long)s->dropped);
	stream_end_close(s, &s->in);
	stream_end_close(s, &s->out);
	if (s->peer_fd >= 0)
		close(s->peer_fd);
	s->peer_fd = -1;
	free(s->ring);
	s->ring = NULL;
	s->ring_len = 0;
}
