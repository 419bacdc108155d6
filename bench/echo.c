/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest HTTP server that the load generator can ask, one thread and one epoll set:
 * what a request costs when nobody does anything for it, which is in every figure of load.c.
 * Answers `echo TEXT` with TEXT and anything else with itself. Prints its address once it listens.
 *
 *   echo unix:PATH | IP:PORT          port 0: one that is free
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/address.h"

#define EVENTS_MAX   256
#define REQUEST_SIZE 65536
#define HEAD_ROOM    128 /* for the head of the answer */

struct connection {
	int fd;
	size_t len;
	char request[REQUEST_SIZE + 1];
};

static void die(const char *what)
{
	fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int server_listen(struct address *address)
{
	struct sockaddr_in *name = (struct sockaddr_in *)&address->name;
	int fd = address_socket(address, SOCK_NONBLOCK);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address->name, address->len) < 0 ||
	    listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address->name, &address->len) < 0)
		die(address->text);
	if (name->sin_family == AF_INET)
		printf("%s:%u\n", inet_ntoa(name->sin_addr), ntohs(name->sin_port));
	else
		printf("%s\n", address->text);
	fflush(stdout);
	return fd;
}

static void server_accept(int epoll_fd, int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
	struct epoll_event event = { .events = EPOLLIN };
	struct connection *c;

	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		die("memory");
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	event.data.ptr = c;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

/* The whole request's body; NULL while it is not there. */
static const char *connection_body(struct connection *c, size_t *len)
{
	const char *length, *body;

	c->request[c->len] = 0;
	body = strstr(c->request, "\r\n\r\n");
	length = body ? strcasestr(c->request, "\r\nContent-Length:") : NULL;
	*len = length ? strtoul(length + strlen("\r\nContent-Length:"), NULL, 10) : 0;
	if (!body || c->len < (size_t)(body + 4 - c->request) + *len)
		return NULL;
	return body + 4;
}

static void connection_answer(struct connection *c, const char *body, size_t len)
{
	static char answer[HEAD_ROOM + REQUEST_SIZE];
	size_t skip = len >= 5 && !memcmp(body, "echo ", 5) ? 5 : 0;
	int head = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len - skip);

	memcpy(answer + head, body + skip, len - skip);
	if (send(c->fd, answer, (size_t)head + len - skip, MSG_NOSIGNAL) < 0)
		fprintf(stderr, "echo: an answer was not sent: %s\n", strerror(errno));
	c->len = 0;
}

static void connection_read(struct connection *c)
{
	ssize_t len = read(c->fd, c->request + c->len, REQUEST_SIZE - c->len);
	const char *body;
	size_t body_len;

	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0) {
		close(c->fd);
		free(c);
		return;
	}
	c->len += (size_t)len;
	body = connection_body(c, &body_len);
	if (body)
		connection_answer(c, body, body_len);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_MAX], event = { .events = EPOLLIN };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC), listen_fd, count;
	struct address address;

	if (argc != 2 || !address_parse(&address, argv[1])) {
		fputs("usage: echo unix:PATH | IP:PORT\n", stderr);
		return 2;
	}
	listen_fd = server_listen(&address);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
		die("epoll");
	for (;;) {
		count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr)
				connection_read(events[i].data.ptr);
			else
				server_accept(epoll_fd, listen_fd);
		}
	}
}
