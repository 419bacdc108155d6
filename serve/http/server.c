/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's life (serve/http/http.h): listening and accepting, draining, the end. When there are too many, or no descriptor is left, a client
 * is turned away with a word rather than left waiting.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/http/conn.h"

#define HTTP_ACCEPTS 16 /* connections that are accepted before others have their turn */

/* What a client is told that is turned away. */
static const char http_full[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
				"Content-Length: 0\r\n\r\n";

struct http_listener {
	struct http_listener *next;
	struct http_server *server;
	struct loop_watch *watch;
	int fd;
};

/* A few of those who wait. False when nobody does. */
static bool http_accept_some(struct http_listener *l)
{
	struct http_server *s = l->server;

	for (unsigned i = 0; i < HTTP_ACCEPTS; i++) {
		int fd = listener_accept(&s->spare, l->fd, http_full, sizeof(http_full) - 1);

		if (fd >= 0 && http_make_room(s)) {
			http_accept_one(s, fd);
			continue;
		}
		if (fd < 0 && fd != -ECONNREFUSED)
			return fd != -EAGAIN;
		s->turned_away++;
		if (fd >= 0)
			listener_turn_away(fd, http_full, sizeof(http_full) - 1);
	}
	return true;
}

static void http_accept(void *opaque, uint32_t events)
{
	(void)events;
	http_accept_some(opaque);
}

int http_listen(struct http_server *s, int fd)
{
	struct http_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return failf(ENOMEM, "out of memory");
	*l = (struct http_listener){ .next = s->listeners, .server = s, .fd = fd };
	l->watch = loop_add(s->loop, fd, EPOLLIN, http_accept, l);
	if (!l->watch) {
		free(l);
		return -ENOMEM;
	}
	s->listeners = l;
	return 0;
}

/* Accepts those who wait for it already. */
static void http_accept_rest(struct http_server *s)
{
	for (struct http_listener *l = s->listeners; l; l = l->next)
		for (unsigned i = 0; i < HTTP_CONNECTIONS_MAX / HTTP_ACCEPTS; i++)
			if (!http_accept_some(l))
				break;
}

static void http_stop_listening(struct http_server *s)
{
	while (s->listeners) {
		struct http_listener *l = s->listeners;

		s->listeners = l->next;
		loop_remove(s->loop, l->watch);
		free(l);
	}
}

int http_init(struct http_server *s, struct loop *loop, struct timers *timers,
	      const struct http_handler *handler)
{
	s->loop = loop;
	s->timers = timers;
	s->handler = handler;
	return listener_spare_init(&s->spare);
}

/* Whether a request of it waits in the socket. */
static bool http_has_more(const struct http_conn *c)
{
	char byte;

	return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

void http_drain(struct http_server *s)
{
	struct http_conn *next;

	http_accept_rest(s);
	http_stop_listening(s);
	s->draining = true;
	for (struct http_conn *c = s->first; c; c = next) {
		next = c->next;
		if (http_idle(c) && !http_has_more(c))
			http_close(c);
	}
}

void http_fini(struct http_server *s)
{
	struct http_conn *next;

	http_stop_listening(s);
	s->over = true;
	for (struct http_conn *c = s->first; c; c = next) {
		next = c->next;
		http_close(c);
	}
	listener_spare_fini(&s->spare);
}
