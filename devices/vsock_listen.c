/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of the unix socket where host programs ask for a connection to the guest,
 * and what they have to say first: devices/vsock_unix.h.
 */
#include "devices/vsock_unix.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void vsock_unix_handshake_drop(struct vsock_unix_handshake *h)
{
	loop_remove(h->owner->loop, h->watch);
	h->watch = NULL;
	vsock_unix_close_fd(h->owner, h->fd);
}

/* "CONNECT port\n" and nothing else; digits only. */
static bool vsock_unix_parse(const char *line, size_t len, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	const size_t skip = sizeof(word) - 1;
	uint64_t value = 0;

	if (len <= skip + 1 || memcmp(line, word, skip) != 0)
		return false;
	for (size_t i = skip; i < len - 1; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(line[i] - '0');
		if (value > UINT32_MAX)
			return false;
	}
	*port = (uint32_t)value;
	return true;
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

void vsock_unix_client(void *opaque, uint32_t events)
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
