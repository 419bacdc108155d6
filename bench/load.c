/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A precise HTTP load generator: one thread, one epoll set, nothing printed while it
 * measures; `load --help`. Here is when each request is sent, and what is printed at the end.
 *
 * It never spins: the server may need the CPU. An open loop waits for a timerfd with an absolute
 * time, which has none of the slack that a time-out of epoll_wait(2) has.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/load.h"

#define LEAD_NS     1000000 /* from the set-up to the first request of an open loop */
#define CLOSED_ROOM 65536   /* samples of a closed loop, to begin with */
#define REFUSED_MAX 3       /* attempts to connect; then a closed loop has no server left */

/* --- The modes; each returns when its first request was due --- */

static int open_timer(struct run *run)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("timerfd");
	return fd;
}

/* 0: never. Setting it takes back an expiration, so that it need not be read. */
static void open_set_timer(int fd, uint64_t at_ns)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ns / 1000000000),
					       .tv_nsec = (long)(at_ns % 1000000000) } };

	timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* When request `number` is due; 0 when there is none. */
static uint64_t open_due_ns(const struct run *run, uint64_t start_ns, uint64_t number)
{
	if (number >= run->plan->requests)
		return 0;
	return start_ns + (uint64_t)((double)number * 1e9 / run->plan->rate);
}

/*
 * The timer is set before a request goes out: what is done between its write(2) and epoll_wait(2)
 * keeps the server from a CPU that they share.
 */
static uint64_t run_open(struct run *run)
{
	uint64_t start_ns = now_ns() + LEAD_NS, due_ns = start_ns;
	int timer_fd = open_timer(run);

	open_set_timer(timer_fd, due_ns);
	while (run->done < run->plan->requests) {
		while (due_ns && due_ns <= now_ns()) {
			uint64_t next_ns = open_due_ns(run, start_ns, run->next + 1);

			open_set_timer(timer_fd, next_ns);
			if (!run_send(run, due_ns)) {
				open_set_timer(timer_fd, 0); /* it waits for a connection */
				break;
			}
			due_ns = next_ns;
		}
		run_wait(run, -1);
	}
	close(timer_fd);
	return start_ns;
}

static uint64_t run_closed(struct run *run)
{
	uint64_t start_ns = now_ns(), end_ns = start_ns + (uint64_t)(run->plan->seconds * 1e9);

	do {
		while (now_ns() < end_ns &&
		       (!TAILQ_EMPTY(&run->idle) || run->refused < REFUSED_MAX) &&
		       run_send(run, now_ns()))
			;
		if (!TAILQ_EMPTY(&run->busy) || run->full_ns)
			run_wait(run, -1);
	} while (!TAILQ_EMPTY(&run->busy) || (now_ns() < end_ns && run->refused < REFUSED_MAX));
	return start_ns;
}

/* ns from the first write to the last byte; 0 when a request failed. */
static uint64_t run_one_burst(struct run *run)
{
	uint64_t first = run->next, right = run->outcomes[OUTCOME_RIGHT], start_ns;

	start_ns = now_ns();
	for (uint64_t i = 0; i < run->plan->requests; i++)
		while (!run_send(run, start_ns))
			run_wait(run, -1);
	while (run->done < run->next)
		run_wait(run, -1);
	if (run->outcomes[OUTCOME_RIGHT] - right < run->plan->requests)
		return 0;
	return run->last_ns - run->samples[first].sent_ns;
}

static uint64_t run_bursts(struct run *run)
{
	for (unsigned i = 0; i < run->plan->rounds; i++) {
		poll(NULL, 0, (int)run->plan->pause_ms);
		run_wait(run, 0); /* those that the server closed meanwhile */
		run_connect(run, run->plan->connections);
		run->bursts_ns[i] = run_one_burst(run);
	}
	return run->samples[0].due_ns;
}

/* --- Output --- */

static void print_us(uint64_t *count, uint64_t ns)
{
	printf("%s%.1f", (*count)++ ? ", " : "", (double)ns / 1e3);
}

static void print_times(const struct run *run)
{
	uint64_t count = 0;

	printf("\"latencies_us\": [");
	for (uint64_t i = 0; i < run->next; i++)
		if (run->samples[i].outcome == OUTCOME_RIGHT)
			print_us(&count, run->samples[i].first_ns - run->samples[i].sent_ns);
	printf("],\n\"late_us\": [");
	count = 0;
	for (uint64_t i = 0; i < run->next && run->plan->mode != MODE_CLOSED; i++)
		if (run->samples[i].sent_ns)
			print_us(&count, run->samples[i].sent_ns - run->samples[i].due_ns);
	printf("],\n\"bursts_us\": [");
	count = 0;
	for (unsigned i = 0; run->plan->mode == MODE_BURST && i < run->plan->rounds; i++) {
		if (run->bursts_ns[i])
			print_us(&count, run->bursts_ns[i]);
		else
			printf("%snull", count++ ? ", " : "");
	}
	printf("],\n");
}

static void print_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\' || c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_headers(const struct run *run)
{
	unsigned headers = run->plan->header_count;

	printf("\"headers\": {");
	for (unsigned h = 0; h < headers; h++) {
		const char *comma = "";

		printf("%s", h ? ", " : "");
		print_text(run->plan->headers[h]);
		printf(": [");
		for (uint64_t i = 0; i < run->next; i++) {
			if (run->samples[i].outcome != OUTCOME_RIGHT)
				continue;
			printf("%s", comma);
			print_text(run->values[i * headers + h]);
			comma = ", ";
		}
		printf("]");
	}
	printf("},\n");
}

/* Returns how many errors there were. */
static uint64_t print_errors(const struct run *run)
{
	static const char *const names[OUTCOME_COUNT] = {
		[OUTCOME_STATUS] = "status",       [OUTCOME_BODY] = "body",
		[OUTCOME_MALFORMED] = "malformed", [OUTCOME_CLOSED] = "closed",
		[OUTCOME_TIMEOUT] = "timeout",     [OUTCOME_CONNECT] = "connect",
	};
	uint64_t sum = run->unasked;
	const char *comma = "";

	printf("\"statuses\": {");
	for (unsigned i = 0; i < 1000; i++) {
		if (!run->statuses[i])
			continue;
		printf("%s\"%u\": %" PRIu64, comma, i, run->statuses[i]);
		comma = ", ";
	}
	printf("},\n\"errors\": {");
	for (unsigned i = 0; i < OUTCOME_COUNT; i++) {
		if (!names[i])
			continue;
		printf("\"%s\": %" PRIu64 ", ", names[i], run->outcomes[i]);
		sum += run->outcomes[i];
	}
	printf("\"unasked\": %" PRIu64 "}", run->unasked);
	return sum;
}

static int print_run(const struct run *run, uint64_t start_ns)
{
	uint64_t right = run->outcomes[OUTCOME_RIGHT], errors;
	double seconds = run->last_ns ? (double)(run->last_ns - start_ns) / 1e9 : 0;

	printf("{\"requests\": %" PRIu64 ", \"right\": %" PRIu64 ", \"connections\": %u, "
	       "\"seconds\": %.6f, \"rate\": %.2f,\n",
	       run->next, right, run->opened, seconds, seconds > 0 ? (double)right / seconds : 0);
	print_times(run);
	print_headers(run);
	errors = print_errors(run);
	printf("}\n");
	if (errors)
		fprintf(stderr, "load: %" PRIu64 " errors in %" PRIu64 " requests; the first: %s\n",
			errors, run->next, run->failure);
	return fflush(stdout) || errors ? 1 : 0;
}

/* What is open before the first request. */
static unsigned first_connections(const struct plan *plan)
{
	return plan->mode == MODE_OPEN ? 1 : plan->connections;
}

static uint64_t first_room(const struct plan *plan)
{
	if (plan->mode == MODE_CLOSED)
		return CLOSED_ROOM;
	return plan->mode == MODE_BURST ? plan->requests * plan->rounds : plan->requests;
}

int main(int argc, char **argv)
{
	struct run run;
	struct plan plan;
	uint64_t start_ns;
	int err;

	plan_parse(&plan, argc, argv);
	run_init(&run, &plan, first_room(&plan));
	err = run_connect(&run, first_connections(&plan));
	if (err) {
		fprintf(stderr, "load: cannot connect to %s: %s\n", plan.to.text, strerror(err));
		return 1;
	}
	start_ns = plan.mode == MODE_OPEN     ? run_open(&run)
		   : plan.mode == MODE_CLOSED ? run_closed(&run)
					      : run_bursts(&run);
	return print_run(&run, start_ns);
}
