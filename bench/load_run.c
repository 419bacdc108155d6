/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections and what becomes of the requests on them (bench/load.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/load.h"

#define EVENTS_MAX     256
#define READ_SIZE      65536
#define QUEUE_RETRY_MS 1

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- Texts with %n --- */

/* The room that a text takes at most, with its 0. */
static size_t text_room(const char *template)
{
	size_t room = strlen(template) + 1;

	for (const char *mark = template; (mark = strstr(mark, "%n")); mark += 2)
		room += 20;
	return room;
}

static size_t text_render(char *to, const char *template, uint64_t number)
{
	const char *mark;
	char *start = to;

	for (; (mark = strstr(template, "%n")); template = mark + 2) {
		to = mempcpy(to, template, (size_t)(mark - template));
		to += sprintf(to, "%" PRIu64, number);
	}
	return (size_t)(stpcpy(to, template) - start);
}

/* --- Memory --- */

static void *allocate(void *old, size_t size)
{
	void *memory = realloc(old, size ? size : 1);

	if (!memory)
		die("memory");
	return memory;
}

/* What is written here is not faulted in while the run measures. */
static void run_make_room(struct run *run, uint64_t room)
{
	size_t values = run->plan->header_count * sizeof(*run->values);
	uint64_t more = room - run->sample_room;

	run->samples = allocate(run->samples, room * sizeof(*run->samples));
	memset(run->samples + run->sample_room, 0, more * sizeof(*run->samples));
	run->values = allocate(run->values, room * values);
	memset((char *)run->values + run->sample_room * values, 0, more * values);
	run->sample_room = room;
}

/* As many descriptors as the system lets us have: a connection is one. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void run_init(struct run *run, const struct plan *plan, uint64_t room)
{
	struct connection *all = calloc(plan->connections, sizeof(*all));

	raise_descriptor_limit();
	*run = (struct run){ .plan = plan };
	TAILQ_INIT(&run->none);
	TAILQ_INIT(&run->idle);
	TAILQ_INIT(&run->busy);
	run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (run->epoll_fd < 0 || !all)
		die("cannot begin");
	for (unsigned i = 0; i < plan->connections; i++) {
		/* The head: the path, a length, and less than 200 bytes. */
		all[i].out = allocate(NULL, strlen(plan->path) + text_room(plan->body) + 200);
		all[i].expect = allocate(NULL, text_room(plan->expect));
		TAILQ_INSERT_TAIL(&run->none, &all[i], link);
	}
	run_make_room(run, room);
	run->bursts_ns = calloc(plan->rounds, sizeof(*run->bursts_ns));
	if (!run->bursts_ns)
		die("memory");
}

/* --- Outcomes --- */

/* Keeps the first error. */
static void run_note_failure(struct run *run, const struct connection *c, const char *what)
{
	const struct answer *a = &c->answer;
	size_t size = sizeof(run->failure);

	if (run->failure[0])
		return;
	if (a->state == ANSWER_WHOLE)
		snprintf(run->failure, size,
			 "request %" PRIu64 ": %s: status %u, body of %" PRIu64
			 " bytes '%.*s', expected '%.*s'",
			 c->number, what, a->status, a->body_len, (int)a->got_len, a->got, GOT_MAX,
			 c->expect);
	else
		snprintf(run->failure, size, "request %" PRIu64 ": %s", c->number, what);
}

/* The request of c is over. */
static void request_end(struct run *run, struct connection *c, enum outcome outcome,
			const char *what)
{
	c->has_request = false;
	run->samples[c->number].outcome = outcome;
	run->outcomes[outcome]++;
	run->done++;
	if (outcome != OUTCOME_RIGHT)
		run_note_failure(run, c, what);
}

static struct connections *connection_list(struct run *run, const struct connection *c)
{
	return c->state == CONNECTION_NONE   ? &run->none
	       : c->state == CONNECTION_IDLE ? &run->idle
					     : &run->busy;
}

static void connection_move(struct run *run, struct connection *c, enum connection_state state)
{
	TAILQ_REMOVE(connection_list(run, c), c, link);
	c->state = state;
	if (state == CONNECTION_OPENING || state == CONNECTION_BUSY)
		TAILQ_INSERT_TAIL(&run->busy, c, link);
	else
		TAILQ_INSERT_HEAD(connection_list(run, c), c, link);
}

/* Closes it; a request that it has ends so. */
static void connection_close(struct run *run, struct connection *c, enum outcome outcome,
			     const char *what)
{
	close(c->fd);
	connection_move(run, c, CONNECTION_NONE);
	if (c->has_request)
		request_end(run, c, outcome, what);
}

static void connection_watch(struct run *run, struct connection *c, int operation, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = c };

	if (epoll_ctl(run->epoll_fd, operation, c->fd, &event) < 0)
		die("epoll_ctl");
}

/* --- Opening --- */

/* 0 or an errno; EAGAIN while the server has not accepted enough of those before (unix only). */
static int connection_open(struct run *run, struct connection *c)
{
	const struct address *to = &run->plan->to;
	int err = 0;

	c->fd = address_socket(to, SOCK_NONBLOCK);
	if (c->fd < 0)
		return errno;
	if (connect(c->fd, (const struct sockaddr *)&to->name, to->len) < 0)
		err = errno;
	if (err && err != EINPROGRESS) {
		close(c->fd);
		run->refused += err != EAGAIN;
		return err;
	}
	run->opened++;
	run->full_ns = 0;
	if (!err)
		run->refused = 0;
	c->deadline_ns = now_ns() + run->plan->timeout_ms * 1000000ull;
	connection_move(run, c, err ? CONNECTION_OPENING : CONNECTION_IDLE);
	connection_watch(run, c, EPOLL_CTL_ADD, err ? EPOLLOUT : EPOLLIN);
	return 0;
}

/* The end of an attempt to connect: 0 or an errno. Without a request it is idle afterwards. */
static int connection_opened(struct run *run, struct connection *c)
{
	socklen_t size = sizeof(int);
	int err = 0;

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &size);
	if (err) {
		run->refused++;
		connection_close(run, c, OUTCOME_CONNECT, strerror(err));
		return err;
	}
	run->refused = 0;
	connection_watch(run, c, EPOLL_CTL_MOD, EPOLLIN);
	if (c->has_request)
		c->state = CONNECTION_BUSY;
	else
		connection_move(run, c, CONNECTION_IDLE);
	return 0;
}

static int connection_open_wait(struct run *run, struct connection *c)
{
	uint64_t end_ns = now_ns() + run->plan->timeout_ms * 1000000ull;
	struct pollfd p = { .events = POLLOUT };
	int err;

	while ((err = connection_open(run, c)) == EAGAIN && now_ns() < end_ns)
		poll(NULL, 0, QUEUE_RETRY_MS);
	if (err || c->state == CONNECTION_IDLE)
		return err;
	p.fd = c->fd;
	if (poll(&p, 1, (int)run->plan->timeout_ms) == 1)
		return connection_opened(run, c);
	connection_close(run, c, OUTCOME_CONNECT, "time-out");
	return ETIMEDOUT;
}

int run_connect(struct run *run, unsigned count)
{
	struct connection *c;
	int err = 0;

	TAILQ_FOREACH(c, &run->idle, link)
	count--;
	for (; count && !err; count--)
		err = connection_open_wait(run, TAILQ_FIRST(&run->none));
	return err;
}

/* --- Sending --- */

static void connection_write(struct run *run, struct connection *c)
{
	struct sample *sample = &run->samples[c->number];
	ssize_t len;

	if (!sample->sent_ns)
		sample->sent_ns = now_ns();
	len = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);
	if (len < 0 && errno != EAGAIN) {
		connection_close(run, c, OUTCOME_CLOSED, strerror(errno));
		return;
	}
	c->out_sent += len < 0 ? 0 : (size_t)len;
	if (c->out_sent < c->out_len)
		connection_watch(run, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

static void request_start(struct run *run, struct connection *c, uint64_t due_ns)
{
	const struct plan *plan = run->plan;
	size_t expect_len, body_len;

	if (run->next == run->sample_room)
		run_make_room(run, run->sample_room * 2);
	c->has_request = true;
	c->number = run->next++;
	c->deadline_ns = now_ns() + plan->timeout_ms * 1000000ull;
	run->samples[c->number].due_ns = due_ns;
	expect_len = text_render(c->expect, plan->expect, c->number);
	answer_start(&c->answer, plan, c->expect, expect_len);
	body_len = text_render(c->out, plan->body, c->number); /* its length stands before it */
	c->out_len = (size_t)sprintf(c->out,
				     "POST %s HTTP/1.1\r\nHost: localhost\r\n"
				     "Content-Type: application/octet-stream\r\n"
				     "Content-Length: %zu\r\n\r\n",
				     plan->path, body_len);
	c->out_len += text_render(c->out + c->out_len, plan->body, c->number);
	c->out_sent = 0;
}

/* Whether it is worth waiting for room in the server's queue; run_wait() then does. */
static bool run_queue_is_full(struct run *run)
{
	uint64_t now = now_ns();

	if (!run->full_ns)
		run->full_ns = now;
	if (now - run->full_ns < run->plan->timeout_ms * 1000000ull)
		return true;
	run->refused++;
	return false;
}

bool run_send(struct run *run, uint64_t due_ns)
{
	struct connection *c = TAILQ_FIRST(&run->idle);
	int err = 0;

	if (!c) {
		c = TAILQ_FIRST(&run->none);
		if (!c)
			return false;
		err = connection_open(run, c);
		if (err == EAGAIN && run_queue_is_full(run))
			return false;
	}
	request_start(run, c, due_ns);
	if (err) {
		request_end(run, c, OUTCOME_CONNECT, strerror(err));
	} else if (c->state == CONNECTION_IDLE) {
		connection_move(run, c, CONNECTION_BUSY);
		connection_write(run, c);
	}
	return true;
}

/* --- Answers --- */

static void connection_answered(struct run *run, struct connection *c)
{
	const struct answer *a = &c->answer;
	bool right = answer_is_right(a);

	run->last_ns = now_ns();
	run->statuses[a->status]++;
	for (unsigned i = 0; i < run->plan->header_count; i++)
		memcpy(run->values[c->number * run->plan->header_count + i], a->values[i],
		       HEADER_VALUE_MAX);
	if (a->status != 200)
		request_end(run, c, OUTCOME_STATUS, "refused");
	else
		request_end(run, c, right ? OUTCOME_RIGHT : OUTCOME_BODY, "wrong answer");
	if (a->closes || c->out_sent < c->out_len)
		connection_close(run, c, OUTCOME_CLOSED, "");
	else
		connection_move(run, c, CONNECTION_IDLE);
}

static void connection_read(struct run *run, struct connection *c)
{
	static char bytes[READ_SIZE];
	ssize_t len = read(c->fd, bytes, sizeof(bytes));
	uint64_t read_ns = now_ns();

	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0) {
		connection_close(run, c, OUTCOME_CLOSED,
				 len ? strerror(errno) : "the connection was closed");
		return;
	}
	if (!c->has_request) {
		run->unasked++;
		run_note_failure(run, c, "bytes behind its end, on an idle connection");
		connection_close(run, c, OUTCOME_CLOSED, "");
		return;
	}
	if (!run->samples[c->number].first_ns)
		run->samples[c->number].first_ns = read_ns;
	answer_feed(&c->answer, bytes, (size_t)len);
	if (c->answer.state == ANSWER_WHOLE)
		connection_answered(run, c);
	else if (c->answer.state == ANSWER_MALFORMED)
		connection_close(run, c, OUTCOME_MALFORMED, c->answer.why);
}

static void connection_event(struct run *run, struct connection *c, uint32_t events)
{
	if (c->state == CONNECTION_OPENING) {
		if (connection_opened(run, c) == 0 && c->has_request)
			connection_write(run, c);
		return;
	}
	if (events & EPOLLOUT) {
		connection_watch(run, c, EPOLL_CTL_MOD, EPOLLIN);
		connection_write(run, c);
	}
	if (c->state != CONNECTION_NONE && (events & ~(uint32_t)EPOLLOUT))
		connection_read(run, c);
}

static void run_expire(struct run *run)
{
	uint64_t now = now_ns();
	struct connection *c;

	while ((c = TAILQ_FIRST(&run->busy)) && c->deadline_ns <= now)
		connection_close(run, c, OUTCOME_TIMEOUT, "time-out");
}

/* ms until the first deadline, at most max_ms; -1 for ever. */
static int run_patience_ms(const struct run *run, int max_ms)
{
	const struct connection *first = TAILQ_FIRST(&run->busy);
	uint64_t now = now_ns(), ms;

	if (run->full_ns && max_ms)
		max_ms = QUEUE_RETRY_MS;
	if (!first || max_ms == 0)
		return max_ms;
	ms = first->deadline_ns <= now ? 0 : (first->deadline_ns - now) / 1000000 + 1;
	return max_ms >= 0 && (uint64_t)max_ms < ms ? max_ms : (int)ms;
}

void run_wait(struct run *run, int max_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(run->epoll_fd, events, EVENTS_MAX, run_patience_ms(run, max_ms));

	if (count < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < count; i++)
		if (events[i].data.ptr)
			connection_event(run, events[i].data.ptr, events[i].events);
	run_expire(run);
}
