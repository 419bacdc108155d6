/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the load generator share: the plan of a run (load_plan.c), the
 * reading of one answer (load_answer.c), connections and samples (load_run.c). When a request is
 * sent, and what is printed, is decided in load.c. One thread; times are of CLOCK_MONOTONIC.
 */
#ifndef VIRGA_BENCH_LOAD_H
#define VIRGA_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "bench/address.h"

#define HEADERS_MAX      8
#define HEADER_VALUE_MAX 64 /* bytes kept of a header's value, with its 0 */
#define LINE_MAX_LEN     8192
#define GOT_MAX          64 /* bytes kept of a body, to show one that is wrong */

/* --- The plan --- */

enum mode { MODE_OPEN, MODE_CLOSED, MODE_BURST };

/* Strings belong to argv. What does not belong to the mode is 0. */
struct plan {
	enum mode mode;
	struct address to;
	const char *path;
	const char *body;   /* every %n is the number of the request */
	const char *expect; /* the same */
	uint64_t requests;  /* open: all; burst: those of a round */
	double rate;        /* open: requests a second */
	double seconds;     /* closed */
	unsigned connections;
	unsigned rounds;   /* burst */
	unsigned pause_ms; /* burst: before each round */
	unsigned timeout_ms;
	unsigned header_count;
	const char *headers[HEADERS_MAX]; /* collected from each answer */
};

/* Ends the process with a sentence and status 2 when the words make no plan. */
void plan_parse(struct plan *plan, int argc, char **argv);

/* --- One answer --- */

enum answer_state {
	ANSWER_STATUS,
	ANSWER_HEADER,
	ANSWER_BODY,
	ANSWER_CHUNK_SIZE,
	ANSWER_CHUNK,
	ANSWER_CHUNK_END,
	ANSWER_TRAILER,
	ANSWER_WHOLE,
	ANSWER_MALFORMED, /* why says how */
};

struct answer {
	enum answer_state state;
	unsigned status;
	bool has_length;
	bool chunked;
	bool closes;       /* the server said that it will close the connection */
	bool same;         /* the body so far is the beginning of what is expected */
	uint64_t left;     /* of the body or the chunk */
	uint64_t body_len; /* so far */
	const char *expect;
	size_t expect_len;
	const struct plan *plan; /* which headers */
	const char *why;
	size_t got_len;
	size_t line_len;
	char got[GOT_MAX];
	char values[HEADERS_MAX][HEADER_VALUE_MAX]; /* "" where the answer has no such header */
	char line[LINE_MAX_LEN];
};

/* expect is kept until the answer is whole. */
void answer_start(struct answer *a, const struct plan *plan, const char *expect, size_t len);

/* Takes bytes of the stream, cut anywhere. Afterwards state says whether the answer is whole. */
void answer_feed(struct answer *a, const char *bytes, size_t len);

/* Whether a whole answer has the expected body. */
bool answer_is_right(const struct answer *a);

/* --- A run --- */

enum outcome {
	OUTCOME_PENDING,
	OUTCOME_RIGHT,
	OUTCOME_STATUS,    /* not 200 */
	OUTCOME_BODY,      /* 200, and the wrong body */
	OUTCOME_MALFORMED, /* no HTTP answer, or more than one */
	OUTCOME_CLOSED,    /* the connection ended before the answer was whole */
	OUTCOME_TIMEOUT,
	OUTCOME_CONNECT, /* no connection could be made for it */
	OUTCOME_COUNT,
};

struct sample {
	uint64_t due_ns;
	uint64_t sent_ns;  /* just before the first write(2); 0 when it never came to that */
	uint64_t first_ns; /* just after the read(2) of the first byte */
	enum outcome outcome;
};

enum connection_state { CONNECTION_NONE, CONNECTION_OPENING, CONNECTION_IDLE, CONNECTION_BUSY };

struct connection {
	int fd;
	enum connection_state state;
	bool has_request;
	uint64_t number; /* of its request */
	uint64_t deadline_ns;
	TAILQ_ENTRY(connection) link; /* in run.none, idle or busy */
	size_t out_len;
	size_t out_sent;
	char *out;    /* the request */
	char *expect; /* the body of its answer */
	struct answer answer;
};

TAILQ_HEAD(connections, connection);

struct run {
	const struct plan *plan;
	int epoll_fd;
	struct connections none;
	struct connections idle; /* the one used last comes first */
	struct connections busy; /* opening, or with a request; in the order of their deadlines */
	unsigned opened;         /* connections, in all */
	unsigned refused;        /* attempts to connect that failed since one succeeded */
	uint64_t full_ns;        /* since when the server's queue of connections is full, or 0 */
	uint64_t next;           /* number of the next request */
	uint64_t done;           /* requests that have an outcome */
	uint64_t last_ns;        /* when the last answer was whole */
	uint64_t sample_room;
	struct sample *samples;
	char (*values)[HEADER_VALUE_MAX]; /* plan->header_count for each sample */
	uint64_t *bursts_ns; /* plan->rounds: first write to last byte; 0 when a request failed */
	uint64_t outcomes[OUTCOME_COUNT];
	uint64_t unasked; /* times that an idle connection got bytes */
	uint64_t statuses[1000];
	char failure[512]; /* the first error as a sentence */
};

uint64_t now_ns(void);

/* Ends the process with a sentence and status 1. */
void die(const char *what) __attribute__((noreturn));

/* All memory that the run needs, but for a closed loop of more requests than `room`. */
void run_init(struct run *run, const struct plan *plan, uint64_t room);

/* Waits until so many connections are open; 0 or an errno. */
int run_connect(struct run *run, unsigned count);

/*
 * Sends the next request, due at due_ns, on an idle connection or on one that it opens; false
 * when that must wait: the connections that the plan permits are all taken, or the server's queue
 * is full.
 */
bool run_send(struct run *run, uint64_t due_ns);

/*
 * Sleeps until something happens, max_ms at most (-1: no limit), and deals with it: answers,
 * connections that end, requests whose time is out. Other events of epoll_fd (data.ptr NULL) wake it.
 */
void run_wait(struct run *run, int max_ms);

#endif
