/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket (serve/control/socket.h). A client is read only while nothing waits to
 * be sent to it and no command of its is in hand: that bounds what it can make us hold.
 */
#include "serve/control/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"

#define CONTROL_READ_LEN 4096

struct control_client {
	struct control *control;
	struct control_client *next;
	struct qmp qmp;
	struct loop_watch *watch;
	int fd;
	uint32_t events; /* watched for */
	bool gone;       /* closed by the client, or failed */
};

static const char control_full[] =
	"{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients\"}}\r\n";

/* --- One client --- */

/* Sends what it takes now. */
static void control_client_flush(struct control_client *client)
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
static void control_client_update(struct control_client *client)
{
	struct qmp *q = &client->qmp;
	uint32_t events;
	size_t before;

	control_client_flush(client);
	/* Each round answers at least one command more, of input that does not grow. */
	do {
		before = q->in.len;
		if (!q->out.len && !client->gone)
			qmp_feed(q, NULL, 0);
		control_client_flush(client);
	} while (!q->out.len && !client->gone && q->in.len != before);
	events = q->out.len ? EPOLLOUT : q->waiting ? 0 : EPOLLIN;
	if (events != client->events)
		loop_modify(client->control->loop, client->watch, events);
	client->events = events;
}

static void control_client_free(struct control_client *client)
{
	loop_remove(client->control->loop, client->watch);
	shutdown(client->fd, SHUT_WR);
	close(client->fd);
	qmp_fini(&client->qmp);
	client->control->client_count--;
	free(client);
}

/* Frees the clients that are finished with. */
static void control_sweep(struct control *c)
{
	struct control_client **at = &c->clients;

	while (*at) {
		struct control_client *client = *at;
		struct qmp *q = &client->qmp;

		if (client->gone || q->dropped || (q->closing && !q->out.len)) {
			*at = client->next;
			control_client_free(client);
		} else {
			at = &client->next;
		}
	}
}

static void control_client_read(struct control_client *client)
{
	char data[CONTROL_READ_LEN];
	ssize_t len = recv(client->fd, data, sizeof(data), MSG_DONTWAIT);

	if (len > 0)
		qmp_feed(&client->qmp, data, (size_t)len);
	else if (len == 0 || (errno != EAGAIN && errno != EINTR))
		client->gone = true;
}

static void control_client_event(void *opaque, uint32_t events)
{
	struct control_client *client = opaque;
	struct control *c = client->control;

	if (events & EPOLLIN & client->events)
		control_client_read(client);
	else if (events & (EPOLLHUP | EPOLLERR))
		client->gone = true;
	control_client_update(client);
	control_sweep(c);
}

/* --- All of them --- */

static int control_add(struct control *c, int fd)
{
	struct control_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->watch = loop_add(c->loop, fd, EPOLLIN, control_client_event, client);
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
	control_client_update(client);
	return 0;
}

/* Out of descriptors: the spare one lets us take the client and send it away. */
static void control_turn_away(struct control *c)
{
	if (c->spare_fd < 0)
		return;
	close(c->spare_fd);
	c->spare_fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
	if (c->spare_fd >= 0)
		close(c->spare_fd);
	c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void control_accept(void *opaque, uint32_t events)
{
	struct control *c = opaque;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			control_turn_away(c);
		return;
	}
	if (c->client_count >= CONTROL_CLIENTS_MAX) {
		send(fd, control_full, sizeof(control_full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
	} else if (control_add(c, fd) < 0) {
		close(fd);
	}
	control_sweep(c);
}

int control_init(struct control *c, struct loop *loop, int fd, const struct view *view)
{
	*c = (struct control){ .loop = loop, .view = view, .fd = fd, .spare_fd = -1 };
	if (fd < 0)
		return 0;
	c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	c->watch = loop_add(loop, fd, EPOLLIN, control_accept, c);
	if (!c->watch) {
		control_fini(c);
		return -ENOMEM;
	}
	return 0;
}

void control_event(struct control *c, const char *name, const struct json_t *data)
{
	for (struct control_client *client = c->clients; client; client = client->next) {
		qmp_event(&client->qmp, name, data);
		control_client_update(client);
	}
	control_sweep(c);
}

void control_complete(struct control *c, uint64_t ticket, int error)
{
	for (struct control_client *client = c->clients; client; client = client->next) {
		qmp_complete(&client->qmp, ticket, error);
		control_client_update(client);
	}
	control_sweep(c);
}

void control_complete_all(struct control *c, int error)
{
	for (struct control_client *client = c->clients; client; client = client->next) {
		qmp_complete(&client->qmp, client->qmp.ticket, error);
		control_client_update(client);
	}
	control_sweep(c);
}

void control_fini(struct control *c)
{
	while (c->clients) {
		struct control_client *client = c->clients;

		control_client_flush(client);
		c->clients = client->next;
		control_client_free(client);
	}
	loop_remove(c->loop, c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(c->fd);
	if (c->spare_fd >= 0)
		close(c->spare_fd);
	c->fd = c->spare_fd = -1;
}
