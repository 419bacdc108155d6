/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket (serve/control/socket.h). A client is read only while nothing waits to
 * be sent to it and no command of its is in hand: that bounds what it can make us hold.
 */
#include "serve/control/socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"

#define SOCKET_READ_LEN 4096

struct socket_client {
	struct control_socket *control;
	struct socket_client *next;
	struct qmp qmp;
	struct loop_watch *watch;
	int fd;
	uint32_t events; /* watched for */
	bool gone;       /* closed by the client, or failed */
};

static const char socket_full[] =
	"{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients\"}}\r\n";

/* --- One client --- */

/* Sends what it takes now. */
static void socket_client_flush(struct socket_client *client)
{
	struct blob *out = &client->qmp.out;
	ssize_t sent;

	if (!out->len || client->gone)
		return;
	do
		sent = send(client->fd, out->data, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0) {
		client->gone = errno != EAGAIN;
		return;
	}
	out->len -= (size_t)sent;
	memmove(out->data, out->data + sent, out->len);
}

/* Sends, goes on with input that waited for room, and watches for what comes next. */
static void socket_client_update(struct socket_client *client)
{
	struct qmp *q = &client->qmp;
	uint32_t events;
	size_t before;

	socket_client_flush(client);
	/* Each round answers at least one command more, of input that does not grow. */
	do {
		before = q->in.len;
		if (!q->out.len && !client->gone)
			qmp_feed(q, NULL, 0);
		socket_client_flush(client);
	} while (!q->out.len && !client->gone && q->in.len != before);
	events = q->out.len ? EPOLLOUT : q->waiting ? 0 : EPOLLIN;
	if (events != client->events)
		loop_modify(client->control->loop, client->watch, events);
	client->events = events;
}

static void socket_client_free(struct socket_client *client)
{
	loop_remove(client->control->loop, client->watch);
	shutdown(client->fd, SHUT_WR);
	close(client->fd);
	qmp_fini(&client->qmp);
	client->control->client_count--;
	free(client);
}

/* Frees the clients that are finished with. */
static void socket_sweep(struct control_socket *c)
{
	struct socket_client **at = &c->clients;

	while (*at) {
		struct socket_client *client = *at;
		struct qmp *q = &client->qmp;

		if (client->gone || q->dropped || (q->closing && !q->out.len)) {
			*at = client->next;
			socket_client_free(client);
		} else {
			at = &client->next;
		}
	}
}

static void socket_client_read(struct socket_client *client)
{
	char data[SOCKET_READ_LEN];
	ssize_t len = recv(client->fd, data, sizeof(data), MSG_DONTWAIT);

	if (len > 0)
		qmp_feed(&client->qmp, data, (size_t)len);
	else if (len == 0 || (errno != EAGAIN && errno != EINTR))
		client->gone = true;
}

static void socket_client_event(void *opaque, uint32_t events)
{
	struct socket_client *client = opaque;
	struct control_socket *c = client->control;

	if (events & EPOLLIN & client->events)
		socket_client_read(client);
	else if (events & (EPOLLHUP | EPOLLERR))
		client->gone = true;
	socket_client_update(client);
	socket_sweep(c);
}

/* --- All of them --- */

static int socket_add(struct control_socket *c, int fd)
{
	struct socket_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->watch = loop_add(c->loop, fd, EPOLLIN, socket_client_event, client);
	if (!client->watch) {
		free(client);
		return -ENOMEM;
	}
	client->control = c;
	client->fd = fd;
	client->events = EPOLLIN;
	client->next = c->clients;
	c->clients = client;
	c->client_count++;
	qmp_init(&client->qmp, c->view);
	socket_client_update(client);
	return 0;
}

static void socket_accept(void *opaque, uint32_t events)
{
	struct control_socket *c = opaque;
	int fd = listener_accept(&c->spare, c->fd, socket_full, sizeof(socket_full) - 1);

	(void)events;
	if (fd < 0)
		return;
	if (c->client_count >= SOCKET_CLIENTS_MAX)
		listener_turn_away(fd, socket_full, sizeof(socket_full) - 1);
	else if (socket_add(c, fd) < 0)
		close(fd);
	socket_sweep(c);
}

int socket_init(struct control_socket *c, struct loop *loop, int fd, const struct view *view)
{
	*c = (struct control_socket){ .loop = loop, .view = view, .fd = fd, .spare.fd = -1 };
	if (fd < 0)
		return 0;
	listener_spare_init(&c->spare);
	c->watch = loop_add(loop, fd, EPOLLIN, socket_accept, c);
	if (!c->watch) {
		socket_fini(c);
		return -ENOMEM;
	}
	return 0;
}

void socket_event(struct control_socket *c, const char *name, const struct json_t *data)
{
	for (struct socket_client *client = c->clients; client; client = client->next) {
		qmp_event(&client->qmp, name, data);
		socket_client_update(client);
	}
	socket_sweep(c);
}

void socket_complete(struct control_socket *c, uint64_t ticket, int error)
{
	for (struct socket_client *client = c->clients; client; client = client->next) {
		qmp_complete(&client->qmp, ticket, error);
		socket_client_update(client);
	}
	socket_sweep(c);
}

void socket_complete_all(struct control_socket *c, int error)
{
	for (struct socket_client *client = c->clients; client; client = client->next) {
		qmp_complete(&client->qmp, client->qmp.ticket, error);
		socket_client_update(client);
	}
	socket_sweep(c);
}

void socket_fini(struct control_socket *c)
{
	while (c->clients) {
		struct socket_client *client = c->clients;

		socket_client_flush(client);
		c->clients = client->next;
		socket_client_free(client);
	}
	loop_remove(c->loop, c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	listener_spare_fini(&c->spare);
}
