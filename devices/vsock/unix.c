/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets behind vsock connections, and the clients that ask for one: devices/vsock/unix.h.
 * Whether a connection may send and how much is decided in devices/vsock/vsock.c.
 */
#include "devices/vsock/unix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/unix_path.h"
#include "devices/virtio/virtqueue.h"

#define UNIX_READS    64 /* packets from one socket before the loop looks at the others */
#define UNIX_LIST_MAX VIRTQUEUE_SIZE_MAX

/* --- Ends: epoll interest --- */

static void vsock_unix_update(struct vsock_conn *c)
{
	struct vsock_unix_end *e = c->opaque;
	uint32_t events = 0;

	if (!e->watch)
		return;
	if (e->len)
		events |= EPOLLOUT;
	if (!e->draining && !c->readable && vsock_wants_data(c))
		events |= EPOLLIN;
	if (events != e->events)
		loop_modify(e->owner->loop, e->watch, events);
	e->events = events;
}

/* Closes fd. If accept() ran out of descriptors, it may go on now. */
static void vsock_unix_close_fd(struct vsock_unix *u, int fd)
{
	close(fd);
	if (u->accept_paused) {
		u->accept_paused = false;
		loop_modify(u->loop, u->listen, EPOLLIN);
	}
}

static void vsock_unix_release(struct vsock_unix_end *e)
{
	struct vsock_unix *u = e->owner;

	loop_remove(u->loop, e->watch);
	vsock_unix_close_fd(u, e->fd);
	free(e->buffer);
	*e = (struct vsock_unix_end){ .fd = -1 };
}

static bool vsock_unix_close(struct vsock_conn *c, bool drain)
{
	struct vsock_unix_end *e = c->opaque;

	if (drain && e->len && e->watch) {
		e->draining = true;
		return true;
	}
	vsock_unix_release(e);
	return false;
}

/* --- Ends: bytes for the guest --- */

static ssize_t vsock_unix_read(struct vsock_conn *c, const struct iovec *iov, unsigned count)
{
	struct vsock_unix_end *e = c->opaque;
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
			      .msg_iovlen = (uint16_t)count };
	size_t room = 0;
	ssize_t n;

	/* A peer that has hung up has only so much left. */
	if (!e->hup && e->reads_left == 0)
		return -EAGAIN;
	e->reads_left -= !e->hup;
	n = recvmsg(e->fd, &msg, MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n == 0)
		return e->hup ? -EPIPE : 0;
	for (unsigned i = 0; i < count; i++)
		room += iov[i].iov_len;
	if ((size_t)n < room && !e->hup)
		c->readable = false;
	return n;
}

/* --- Ends: bytes for the host --- */

/* Bytes sent, 0 when the peer is slow, -EPIPE when it is gone. */
static ssize_t vsock_unix_send(struct vsock_unix_end *e, struct iovec *iov, unsigned count)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (uint16_t)count };
	ssize_t n = sendmsg(e->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -EPIPE;
}

/* Credit has made sure that it fits. */
static int vsock_unix_keep(struct vsock_unix_end *e, const struct iovec *iov, unsigned count)
{
	if (!e->buffer)
		e->buffer = malloc(VSOCK_BUF_ALLOC);
	if (!e->buffer)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *from = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		if (left > VSOCK_BUF_ALLOC - e->len)
			return -EPROTO;
		while (left > 0) {
			uint32_t at = (e->first + e->len) % VSOCK_BUF_ALLOC;
			uint32_t part = VSOCK_BUF_ALLOC - at;

			if (part > left)
				part = (uint32_t)left;
			memcpy(e->buffer + at, from, part);
			e->len += part;
			from += part;
			left -= part;
		}
	}
	return 0;
}

static ssize_t vsock_unix_write(struct vsock_conn *c, const struct iovec *iov, unsigned count)
{
	struct vsock_unix_end *e = c->opaque;
	struct iovec rest[UNIX_LIST_MAX];
	ssize_t n = 0;
	int ret;

	count = virtqueue_slice(iov, count, 0, SIZE_MAX, rest);
	if (e->len == 0)
		n = vsock_unix_send(e, rest, count);
	if (n < 0) {
		e->len = 0;
		return n;
	}
	count = virtqueue_slice(iov, count, (size_t)n, SIZE_MAX, rest);
	ret = count ? vsock_unix_keep(e, rest, count) : 0;
	return ret ? ret : n;
}

/* Everything that was in the buffer has been sent. */
static void vsock_unix_emptied(struct vsock_unix_end *e)
{
	struct vsock_conn *c = e->conn;

	if (e->draining) {
		vsock_unix_release(e);
		vsock_drained(c);
	} else if (c->guest_shut & VSOCK_SHUT_SEND) {
		shutdown(e->fd, SHUT_WR);
	}
}

static void vsock_unix_flush(struct vsock_unix_end *e)
{
	struct vsock_conn *c = e->conn;
	uint32_t to_end = VSOCK_BUF_ALLOC - e->first;
	struct iovec iov[2] = {
		{ e->buffer + e->first, e->len < to_end ? e->len : to_end },
		{ e->buffer, e->len < to_end ? 0 : e->len - to_end },
	};
	ssize_t n = vsock_unix_send(e, iov, 2);
	size_t gone = n < 0 ? e->len : (size_t)n;

	e->first = (uint32_t)((e->first + gone) % VSOCK_BUF_ALLOC);
	e->len -= (uint32_t)gone;
	if (n < 0 && !e->draining)
		vsock_host_shutdown(c, VSOCK_SHUT_RCV);
	if (!e->draining)
		vsock_forwarded(c, gone);
	/* Both may have ended the connection. */
	if (e->conn && e->len == 0)
		vsock_unix_emptied(e);
	if (e->conn)
		vsock_unix_update(c);
}

/* --- Ends: life --- */

static void vsock_unix_opened(struct vsock_conn *c)
{
	struct vsock_unix_end *e = c->opaque;
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);
	struct iovec iov = { line, (size_t)len };

	/* Its buffer is empty: it takes the line or it is gone, which the loop notices. */
	vsock_unix_send(e, &iov, 1);
}

static void vsock_unix_shutdown(struct vsock_conn *c, unsigned flags)
{
	struct vsock_unix_end *e = c->opaque;

	if (flags & VSOCK_SHUT_RCV)
		shutdown(e->fd, SHUT_RD);
	if ((flags & VSOCK_SHUT_SEND) && e->len == 0)
		shutdown(e->fd, SHUT_WR);
}

static const struct vsock_end vsock_unix_class = {
	.read = vsock_unix_read,
	.write = vsock_unix_write,
	.opened = vsock_unix_opened,
	.shutdown = vsock_unix_shutdown,
	.close = vsock_unix_close,
	.update = vsock_unix_update,
};

/* Nothing more can be waited for; what the peer has written can still be read. */
static void vsock_unix_hung_up(struct vsock_unix_end *e)
{
	struct vsock_conn *c = e->conn;

	loop_remove(e->owner->loop, e->watch);
	e->watch = NULL;
	e->hup = true;
	e->len = 0;
	if (e->draining) {
		vsock_unix_release(e);
		vsock_drained(c);
	} else if (c->state != VSOCK_OPEN) {
		vsock_reset(c);
	} else if ((c->guest_shut & VSOCK_SHUT_RCV) || (c->host_shut & VSOCK_SHUT_SEND)) {
		vsock_host_shutdown(c, VSOCK_SHUT_BOTH);
	} else {
		vsock_readable(c);
	}
}

static void vsock_unix_event(void *opaque, uint32_t events)
{
	struct vsock_unix_end *e = opaque;

	if ((events & EPOLLOUT) && e->len)
		vsock_unix_flush(e);
	if (!e->conn || !e->watch)
		return;
	if (events & (EPOLLHUP | EPOLLERR)) {
		vsock_unix_hung_up(e);
	} else if (events & EPOLLIN) {
		e->reads_left = UNIX_READS;
		vsock_readable(e->conn);
	}
}

/* Gives c its socket; on failure the socket is closed. */
static bool vsock_unix_attach(struct vsock_unix *u, struct vsock_conn *c, int fd)
{
	struct vsock_unix_end *e = &u->ends[vsock_conn_index(c)];

	*e = (struct vsock_unix_end){ .owner = u, .conn = c, .fd = fd };
	e->watch = loop_add(u->loop, fd, 0, vsock_unix_event, e);
	if (!e->watch) {
		vsock_unix_release(e);
		return false;
	}
	c->opaque = e;
	return true;
}

void vsock_unix_accept(struct vsock_unix *u, struct vsock_conn *c, int fd)
{
	if (vsock_unix_attach(u, c, fd))
		vsock_accept(c, &vsock_unix_class);
	else
		vsock_reset(c);
}

/* Asks the guest for a connection, or closes fd. */
static void vsock_unix_request(struct vsock_unix *u, uint32_t guest_port, int fd)
{
	struct vsock_conn *c = vsock_conn_new_host(u->vsock, guest_port);

	if (!c)
		vsock_unix_close_fd(u, fd);
	else if (vsock_unix_attach(u, c, fd))
		vsock_request(c, &vsock_unix_class);
}

/* --- Clients, and what they have to say first --- */

/* Sends a client away that has not said where to. */
static void vsock_unix_handshake_drop(struct vsock_unix_handshake *h)
{
	loop_remove(h->owner->loop, h->watch);
	h->watch = NULL;
	vsock_unix_close_fd(h->owner, h->fd);
}

/*
 * "CONNECT port\n" and nothing else, as Firecracker takes it: the word in any case, white space around
 * the number. The line's end is overwritten.
 */
static bool vsock_unix_parse(char *line, size_t len, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	char *digits = line + sizeof(word) - 1, *end;
	unsigned long value;

	line[--len] = '\0';
	if (strncasecmp(line, word, sizeof(word) - 1) != 0)
		return false;
	digits += strspn(digits, " \t");
	if (*digits < '0' || *digits > '9')
		return false;
	value = strtoul(digits, &end, 10);
	*port = (uint32_t)value;
	return value <= UINT32_MAX && end + strspn(end, " \t\r") == line + len;
}

/* Takes the line and hands the socket over to the connection that it asks for. */
static void vsock_unix_handshake_finish(struct vsock_unix_handshake *h, char *line, size_t len)
{
	uint32_t port;

	if (!vsock_unix_parse(line, len, &port) ||
	    recv(h->fd, line, len, MSG_DONTWAIT) != (ssize_t)len) {
		vsock_unix_handshake_drop(h);
		return;
	}
	loop_remove(h->owner->loop, h->watch);
	h->watch = NULL;
	vsock_unix_request(h->owner, port, h->fd);
}

/* The line is only looked at until it is whole: what follows it belongs to the guest. */
static void vsock_unix_handshake_event(void *opaque, uint32_t events)
{
	struct vsock_unix_handshake *h = opaque;
	char line[VSOCK_UNIX_LINE_MAX];
	ssize_t n = recv(h->fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
	const char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;

	if (end)
		vsock_unix_handshake_finish(h, line, (size_t)(end - line) + 1);
	else if (n == 0 || n == (ssize_t)sizeof(line) ||
		 (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		vsock_unix_handshake_drop(h);
}

/* A free entry, if need be the one whose client has been silent for longest. */
static struct vsock_unix_handshake *vsock_unix_handshake_new(struct vsock_unix *u)
{
	struct vsock_unix_handshake *oldest = &u->handshakes[0];

	for (unsigned i = 0; i < VSOCK_UNIX_HANDSHAKES_MAX; i++) {
		struct vsock_unix_handshake *h = &u->handshakes[i];

		if (!h->watch)
			return h;
		if (h->order < oldest->order)
			oldest = h;
	}
	vsock_unix_handshake_drop(oldest);
	return oldest;
}

/* Handler of the listening socket: a client is there. */
static void vsock_unix_client(void *opaque, uint32_t events)
{
	struct vsock_unix *u = opaque;
	struct vsock_unix_handshake *h;
	int fd = accept4(u->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		/* The client stays in the queue, so that waiting for it would be a busy loop. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			u->accept_paused = true;
			loop_modify(u->loop, u->listen, 0);
		}
		return;
	}
	h = vsock_unix_handshake_new(u);
	*h = (struct vsock_unix_handshake){ .owner = u, .fd = fd, .order = u->accepted++ };
	/* Edge-triggered: half a line stays readable and is not to be looked at all the time. */
	h->watch = loop_add(u->loop, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, vsock_unix_handshake_event,
			    h);
	if (!h->watch)
		vsock_unix_close_fd(u, fd);
}

/* --- Life --- */

int vsock_unix_create(struct vsock_unix *u, struct vsock *v, struct vm *vm, const char *path)
{
	u->vsock = v;
	u->loop = &vm->loop;
	u->listen_fd = -1;
	if (!path)
		return 0;
	u->listen_fd = unix_path_listen(path);
	if (u->listen_fd < 0)
		return u->listen_fd;
	u->listen = loop_add(u->loop, u->listen_fd, EPOLLIN, vsock_unix_client, u);
	if (u->listen)
		return 0;
	unlink(path);
	return -ENOMEM;
}

void vsock_unix_destroy(struct vsock_unix *u)
{
	if (!u->vsock)
		return;
	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		if (u->ends[i].conn)
			vsock_unix_release(&u->ends[i]);
	for (unsigned i = 0; i < VSOCK_UNIX_HANDSHAKES_MAX; i++)
		if (u->handshakes[i].watch)
			vsock_unix_handshake_drop(&u->handshakes[i]);
	loop_remove(u->loop, u->listen);
	if (u->listen_fd >= 0)
		close(u->listen_fd);
	*u = (struct vsock_unix){ .listen_fd = -1 };
}
