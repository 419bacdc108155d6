/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each message of the channel and each event of the worker leads to. An answer
 * is sent exactly once for each request, but for those that were cancelled.
 */
#include "guest/agent/serve.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/init.h"

#define SHELL_TEXT_MAX 131071u /* Linux: the longest single argument, less its NUL */
#define LOG_SIZE       4096u
#define DRAIN_ROUNDS   32         /* of LOG_SIZE: more than a pipe holds */
#define LOG_QUEUE_MAX  (1u << 20) /* what waits for the host before stderr is left alone */

/* Says QUIESCED if it was asked for and nothing is under way. */
static void agent_settle(struct agent *a)
{
	if (!a->quiesce_wanted || a->busy || a->waiting)
		return;
	a->quiesce_wanted = false;
	sync();
	(void)channel_send(&a->channel, CHANNEL_QUIESCED, 0, a->quiesce_id, NULL, 0);
}

/* The request is over; what waited for its end happens. */
static void agent_idle(struct agent *a)
{
	a->busy = false;
	a->deadline_us = 0;
	agent_settle(a);
}

static void agent_error(struct agent *a, uint64_t id, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void agent_error(struct agent *a, uint64_t id, const char *fmt, ...)
{
	char text[512 + WORKER_TAIL_MAX];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if ((size_t)len >= sizeof(text))
		len = sizeof(text) - 1;
	(void)channel_send(&a->channel, CHANNEL_ERROR, 0, id, text, (size_t)len);
}

static void agent_answer(struct agent *a, const void *data, size_t len)
{
	if (channel_send(&a->channel, CHANNEL_RESPONSE, 0, a->request_id, data, len) != 0)
		agent_error(a, a->request_id, "the guest has no memory for its answer");
	agent_idle(a);
}

static const char *agent_name(const struct agent *a)
{
	return a->options.argv ? a->options.argv[0] : "the shell";
}

/* Nothing is waited for any more: says READY, once on each channel. */
static void agent_ready(struct agent *a)
{
	a->waiting = false;
	if (!a->ready)
		(void)channel_send(&a->channel, CHANNEL_READY, CHANNEL_FLAG_WANT_RESTORED, 0, NULL,
				   0);
	a->ready = true;
	agent_settle(a);
}

int agent_start_handler(struct agent *a)
{
	int ret;

	if (!a->options.handler || a->worker.pid != 0)
		return 0;
	ret = worker_start(&a->worker, a->options.argv, true);
	if (ret)
		fprintf(stderr, "virga-agent: %s: %s\n", agent_name(a), strerror(-ret));
	a->waiting = ret == 0 && a->options.wait;
	a->asked = 0;
	a->stale = false;
	return ret;
}

void agent_opened(struct agent *a)
{
	a->ready = false;
	if (agent_start_handler(a) != 0 || !a->waiting)
		agent_ready(a);
}

static void agent_stop_worker(struct agent *a)
{
	worker_kill(&a->worker);
	a->waiting = false;
}

void agent_abandon(struct agent *a)
{
	if (!a->busy)
		return;
	agent_stop_worker(a);
	(void)agent_start_handler(a);
	agent_idle(a);
}

/* Gives up the request with a sentence, and the worker with it. */
static void agent_give_up(struct agent *a, const char *why)
{
	agent_error(a, a->request_id, "%s %s", agent_name(a), why);
	agent_abandon(a);
}

/* The request goes to the handler, which may know of others, with an id of its own. */
static int agent_ask_handler(struct agent *a, const struct message *message)
{
	struct handler_header header = { .length = (uint32_t)message->len };
	int ret;

	if (a->stale)
		agent_stop_worker(a);
	ret = agent_start_handler(a);
	header.id = ++a->asked ? a->asked : ++a->asked;
	if (ret == 0)
		ret = buffer_append(&a->worker.input, &header, sizeof(header));
	if (ret == 0)
		ret = buffer_append(&a->worker.input, message->data, message->len);
	return ret;
}

static int agent_run_command(struct agent *a, const struct message *message)
{
	static char shell[] = "/bin/sh", minus_c[] = "-c";
	char text[SHELL_TEXT_MAX + 1], *argv[] = { shell, minus_c, text, NULL };
	int ret;

	if (a->options.argv) {
		ret = buffer_append(&a->worker.input, message->data, message->len);
		return ret ? ret : worker_start(&a->worker, a->options.argv, true);
	}
	if (message->len > SHELL_TEXT_MAX)
		return -E2BIG;
	memcpy(text, message->data, message->len);
	text[message->len] = '\0';
	if (strlen(text) != message->len)
		return -EILSEQ;
	return worker_start(&a->worker, argv, false);
}

static void agent_request(struct agent *a, const struct message *message)
{
	int ret;

	if (a->busy) {
		agent_error(a, message->id, "the guest still works on request %llu",
			    (unsigned long long)a->request_id);
		return;
	}
	if (message->too_long) {
		agent_error(a, message->id, "the request is longer than 6 MiB, or than memory");
		return;
	}
	a->busy = true;
	a->request_id = message->id;
	a->deadline_us = message->deadline_us;
	ret = a->options.handler ? agent_ask_handler(a, message) : agent_run_command(a, message);
	if (ret == -E2BIG)
		agent_error(a, message->id, "a shell command has at most %u bytes (see --exec)",
			    SHELL_TEXT_MAX);
	else if (ret == -EILSEQ)
		agent_error(a, message->id, "a shell command holds no NUL byte (see --exec)");
	else if (ret)
		agent_error(a, message->id, "%s cannot be started: %s", agent_name(a),
			    strerror(-ret));
	if (ret) {
		agent_stop_worker(a);
		agent_idle(a);
		return;
	}
	worker_feed(&a->worker, a->options.handler);
}

/*
 * Variables for what is started from now on. A handler that has others is started anew: at once,
 * so that a template has the new one, or before the next request if it works on one.
 */
static void agent_environment(struct agent *a, const struct message *message)
{
	static const char ignored[] = "the environment is ignored: longer than 64 KiB or than "
				      "memory, or without a NUL byte at its end\n";
	size_t len = message->len;
	bool whole = !message->too_long && (len == 0 || message->data[len - 1] == '\0'), changed;

	if (environment_set(&a->environment, message->data, whole ? len : 0, &changed) != 0)
		whole = changed = false;
	if (!whole)
		(void)channel_send(&a->channel, CHANNEL_LOG, 0, 0, ignored, sizeof(ignored) - 1);
	if (!a->options.handler || !changed)
		return;
	a->stale = true;
	if (a->busy)
		return;
	agent_stop_worker(a);
	(void)agent_start_handler(a);
	agent_settle(a);
}

void agent_message(void *opaque, const struct message *message)
{
	struct agent *a = opaque;

	switch (message->type) {
	case CHANNEL_REQUEST:
		agent_request(a, message);
		break;
	case CHANNEL_CANCEL:
		if (a->busy && a->request_id == message->id)
			agent_abandon(a);
		break;
	case CHANNEL_QUIESCE:
		a->quiesce_wanted = true;
		a->quiesce_id = message->id;
		agent_settle(a);
		break;
	case CHANNEL_ENVIRONMENT:
		agent_environment(a, message);
		break;
	case CHANNEL_RESTORED:
		/* Who asked for what is under way asked the machine that was snapshotted. */
		agent_abandon(a);
		init_reseed(message->data, message->len);
		break;
	default:
		break;
	}
}

/* A whole message of the handler: an answer too many must not be the next request's. */
static void agent_handler_said(struct agent *a, const struct handler_header *header,
			       const uint8_t *data)
{
	char text[128];
	int len;

	if (a->waiting && header->id == 0) {
		agent_ready(a);
	} else if (a->busy && !a->waiting && header->id == a->asked) {
		agent_answer(a, data, header->length);
	} else {
		len = snprintf(text, sizeof(text),
			       "the handler's message %u is dropped: nobody waits for it\n",
			       header->id);
		(void)channel_send(&a->channel, CHANNEL_LOG, 0, 0, text, (size_t)len);
	}
}

/* Takes whole messages from the handler's output. */
static void agent_handler_output(struct agent *a)
{
	struct buffer *output = &a->worker.output;
	struct handler_header header;

	while (buffer_len(output) >= sizeof(header)) {
		memcpy(&header, buffer_data(output), sizeof(header));
		if (header.length > CHANNEL_PAYLOAD_MAX) {
			agent_give_up(a, "announced an answer longer than 6 MiB");
			return;
		}
		if (buffer_len(output) < sizeof(header) + header.length)
			return;
		agent_handler_said(a, &header, buffer_data(output) + sizeof(header));
		buffer_consume(output, sizeof(header) + header.length);
	}
}

void agent_output(struct agent *a)
{
	size_t max =
		CHANNEL_PAYLOAD_MAX + (a->options.handler ? 2 * sizeof(struct handler_header) : 0);
	ssize_t n = worker_read(&a->worker, max);

	if (n == -EMSGSIZE && !a->options.handler)
		agent_give_up(a, "answered more than 6 MiB");
	else if (n == -ENOMEM)
		agent_give_up(a, "answered more than the guest has memory for");
	else if (a->options.handler)
		agent_handler_output(a);
}

void agent_errors(struct agent *a)
{
	char text[LOG_SIZE];
	size_t n;

	if (buffer_len(&a->channel.out) > LOG_QUEUE_MAX)
		return;
	n = worker_read_errors(&a->worker, text, sizeof(text));
	if (n > 0)
		(void)channel_send(&a->channel, CHANNEL_LOG, 0, a->busy ? a->request_id : 0, text,
				   n);
}

/*
 * What the worker wrote before it ended is still in the pipes; what its own children may go on
 * writing is not waited for.
 */
static void agent_drain(struct agent *a)
{
	char text[LOG_SIZE];
	size_t n;

	for (int i = 0; i < DRAIN_ROUNDS; i++) {
		n = worker_read_errors(&a->worker, text, sizeof(text));
		if (n == 0)
			break;
		(void)channel_send(&a->channel, CHANNEL_LOG, 0, a->busy ? a->request_id : 0, text,
				   n);
	}
	while (worker_read(&a->worker, CHANNEL_PAYLOAD_MAX) > 0)
		;
}

void agent_worker_ended(struct agent *a)
{
	struct worker *w = &a->worker;
	char how[128 + WORKER_TAIL_MAX];

	agent_drain(a);
	if (a->options.handler)
		agent_handler_output(a);
	worker_describe(w, how, sizeof(how));
	if (a->busy && !a->options.handler && w->status == 0 &&
	    buffer_len(&w->output) <= CHANNEL_PAYLOAD_MAX)
		agent_answer(a, buffer_data(&w->output), buffer_len(&w->output));
	else if (a->busy && !a->options.handler && w->status == 0)
		agent_error(a, a->request_id, "%s answered more than 6 MiB", agent_name(a));
	else if (a->busy)
		agent_error(a, a->request_id, "%s %s", agent_name(a), how);
	else if (a->options.handler)
		fprintf(stderr, "virga-agent: %s %s\n", agent_name(a), how);
	agent_stop_worker(a);
	agent_idle(a);
	/* A handler that ends before it is ready must not hold up READY: requests say why. */
	if (!a->ready)
		agent_ready(a);
}

void agent_check_deadline(struct agent *a)
{
	if (a->busy && a->deadline_us != 0 && channel_now_us() >= a->deadline_us)
		agent_give_up(a, "was not done when its time was over, and was killed");
}
