/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and answering on the front's connections (serve/http/http.h), and their time-outs. What the
 * parser finds is put in its place by serve/http/request.c.
 */
#include "serve/http/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/http/conn.h"

/* A request begins. */
static void http_first_byte(struct http_conn *c)
{
	c->first_ns = monotonic_ns();
	http_wait(c, HTTP_HEAD_MS);
}

/* Ready for the next request; what came of it already lies at the start of `in`. */
static void http_begin(struct http_conn *c)
{
	size_t left = c->in_len - c->in_at;

	memmove(c->in, c->in + c->in_at, left);
	c->in_len = left;
	http_request_begin(c);
	c->state = HTTP_READING;
	http_expect_events(c, EPOLLIN | EPOLLRDHUP);
	/* Not from here, which may be deep in the handling of others. */
	c->due = left && !c->pumping;
	if (left)
		http_first_byte(c);
	else
		http_wait(c, HTTP_IDLE_MS);
	if (c->due)
		http_wait(c, 0);
	http_unlink(c);
	http_link(c);
}

/* --- Answers --- */

/* Sends what waits. */
static void http_flush(struct http_conn *c)
{
	ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		c->server->broken++;
		http_close(c);
		return;
	}
	c->out_at += n > 0 ? (size_t)n : 0;
	if (c->out_at < c->out_len)
		return;
	c->server->held_bytes -= c->out_len;
	free(c->out);
	c->out = NULL;
	if (c->close)
		http_close(c);
	else
		http_begin(c);
}

/* Keeps the rest of an answer until the client takes it. */
static void http_keep(struct http_conn *c, const struct iovec parts[2], size_t sent)
{
	size_t total = parts[0].iov_len + parts[1].iov_len, at = 0;

	c->out = http_make_memory(c, total - sent) ? malloc(total - sent) : NULL;
	if (!c->out) {
		c->server->broken++;
		http_close(c);
		return;
	}
	for (int i = 0; i < 2; i++) {
		size_t skip = sent < parts[i].iov_len ? sent : parts[i].iov_len;

		memcpy(c->out + at, (const char *)parts[i].iov_base + skip,
		       parts[i].iov_len - skip);
		at += parts[i].iov_len - skip;
		sent -= skip;
	}
	c->out_len = at;
	c->out_at = 0;
	c->server->held_bytes += at;
	http_expect_events(c, EPOLLOUT | EPOLLRDHUP);
	http_wait(c, HTTP_WRITE_MS);
}

/* RFC 9110, 5.6.7; made once a second. */
static const char *http_date(struct http_server *s)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != s->date_s && gmtime_r(&now.tv_sec, &tm)) {
		s->date_s = now.tv_sec;
		strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	}
	return s->date;
}

void http_respond(struct http_conn *c, unsigned status, const char *head, const void *data,
		  size_t len)
{
	struct http_server *s = c->server;
	/* Before the headers are whole, the method is what the first letters look like. */
	bool no_body = status == 204 || (c->head_done && c->parser.method == HTTP_HEAD);
	struct iovec parts[2] = { { .iov_base = NULL },
				  { .iov_base = (void *)(uintptr_t)data,
				    .iov_len = no_body ? 0 : len } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 2 };
	char text[HTTP_HEAD_MAX], length[40] = "";
	const char *connection = "";
	ssize_t sent;
	int n;

	c->opaque = NULL;
	c->state = HTTP_WRITING;
	/* One that goes may take others along, that waited for the same: http_fini() closes all. */
	if (s->over)
		return;
	c->close |= s->draining || !http_should_keep_alive(&c->parser);
	if (status != 204)
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n", len);
	/* A client that speaks HTTP/1.0 takes a connection for kept only when it is told so. */
	if (c->close || !c->parser.http_minor)
		connection = c->close ? "Connection: close\r\n" : "Connection: keep-alive\r\n";
	n = snprintf(text, sizeof(text), "HTTP/1.1 %u %s\r\nDate: %s\r\n%s%s%s\r\n", status,
		     http_status_str((enum http_status)status), http_date(s), length, connection,
		     head);
	parts[0] = (struct iovec){ text, n < (int)sizeof(text) ? (size_t)n : 0 };
	sent = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if ((sent < 0 && errno != EAGAIN && errno != EINTR) || parts[0].iov_len == 0) {
		s->broken++;
		http_close(c);
	} else if (sent < 0 || (size_t)sent < parts[0].iov_len + parts[1].iov_len) {
		http_keep(c, parts, sent < 0 ? 0 : (size_t)sent);
	} else if (c->close) {
		http_close(c);
	} else {
		http_begin(c);
	}
}

/* --- Requests --- */

static void http_handle(struct http_conn *c)
{
	struct http_server *s = c->server;

	timer_clear(s->timers, &c->timer);
	c->state = HTTP_HANDLING;
	if (c->refuse)
		c->close = true;
	s->handler->request(s->handler->opaque, c);
}

/* The client waits for a word before it sends the body (RFC 9110, 10.1.1). */
static void http_continue(struct http_conn *c)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

	c->expects = false;
	if (send(c->fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		c->server->broken += errno != EAGAIN;
}

/* Handles what lies in `in`: requests that came together are answered one after the other. */
static void http_pump(struct http_conn *c)
{
	if (c->pumping)
		return;
	c->pumping = true;
	while (c->state == HTTP_READING && c->in_at < c->in_len) {
		c->in_at += http_request_parse(c, c->in + c->in_at, c->in_len - c->in_at);
		if (!c->whole && !c->refuse)
			break;
		http_handle(c);
	}
	c->pumping = false;
	if (c->state == HTTP_DEAD)
		http_free(c);
	else if (c->state == HTTP_READING && c->expects)
		http_continue(c);
}

/* More of a body than fits into `in`. */
static ssize_t http_read_body(struct http_conn *c)
{
	struct http_server *s = c->server;
	size_t want = sizeof(s->scratch);
	ssize_t n;

	if (!(c->parser.flags & F_CHUNKED) && c->parser.content_length < want)
		want = (size_t)c->parser.content_length;
	n = recv(c->fd, s->scratch, want, MSG_DONTWAIT);
	if (n <= 0)
		return n;
	/* A request that follows the last chunk is not kept: its sender has to send it again. */
	c->close |= http_request_parse(c, s->scratch, (size_t)n) < (size_t)n;
	if (c->whole || c->refuse)
		http_handle(c);
	return n;
}

static ssize_t http_read_head(struct http_conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);

	if (n > 0) {
		if (c->in_len == 0)
			http_first_byte(c);
		c->in_len += (size_t)n;
		http_pump(c);
	}
	return n;
}

static void http_readable(struct http_conn *c)
{
	bool full = c->in_len == sizeof(c->in);
	ssize_t n;

	if (full && !c->head_done) {
		c->refuse = 431;
		http_handle(c);
		return;
	}
	n = full ? http_read_body(c) : http_read_head(c);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	c->server->broken += !http_idle(c);
	http_close(c);
}

/* Of requests that came together the next one has its turn. */
static void http_resume(struct http_conn *c)
{
	c->due = false;
	http_first_byte(c);
	http_pump(c);
}

static void http_event(void *opaque, uint32_t events)
{
	struct http_conn *c = opaque;

	if (c->due) {
		http_resume(c);
	} else if (events & EPOLLIN && c->state == HTTP_READING) {
		http_readable(c);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		c->server->broken += c->state != HTTP_READING;
		http_close(c);
	} else if (events & EPOLLRDHUP) {
		/* It has said all and waits for its answers, as far as one can know (RFC 9112, 9.6). */
		http_expect_events(c, c->state == HTTP_WRITING ? EPOLLOUT : 0);
	} else if (events & EPOLLOUT) {
		if (c->state == HTTP_WRITING)
			http_flush(c);
	} else if (events & EPOLLIN) {
		/* It was answered nothing yet: the next request waits in the socket. */
		http_expect_events(c, EPOLLRDHUP);
	}
}

static void http_timeout(void *opaque)
{
	struct http_conn *c = opaque;

	if (c->due) {
		http_resume(c);
		return;
	}
	if (http_idle(c) || c->state == HTTP_WRITING) {
		c->server->broken += c->state == HTTP_WRITING;
		http_close(c);
		return;
	}
	c->refuse = 408;
	http_handle(c);
}

/* --- New ones --- */

void http_accept_one(struct http_server *s, int fd)
{
	struct http_conn *c = malloc(sizeof(*c));
	int one = 1;

	if (!c) {
		close(fd);
		return;
	}
	memset(c, 0, offsetof(struct http_conn, in));
	c->server = s;
	c->fd = fd;
	c->timer = (struct timer){ .expired = http_timeout, .opaque = c };
	c->events = EPOLLIN | EPOLLRDHUP;
	/* Fails for unix sockets, which need none. */
	c->tcp = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0;
	c->watch = loop_add(s->loop, fd, c->events, http_event, c);
	if (!c->watch) {
		close(fd);
		free(c);
		return;
	}
	s->count++;
	s->accepted++;
	http_link(c);
	http_begin(c);
}

/* --- Life of the server --- */
