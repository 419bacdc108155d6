/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front's pool with its loop, its timers and its side of the spawner, and in place of the
 * spawner's process and of the shells the test itself, at the other ends of their sockets. Time is the
 * test's. The program that includes it wraps monotonic_us fork kill waitpid socketpair sealed_open.
 */
#ifndef VIRGA_TESTS_UNIT_POOL_BED_H
#define VIRGA_TESTS_UNIT_POOL_BED_H

#include "serve/ipc/message.h"
#include "serve/machine/shell.h"
#include "serve/pool/state.h"

#define FAKE_SHELLS_MAX    512u
#define FAKE_TEMPLATES_MAX 1024u
#define MS                 1000ull /* in us */

struct request;

/* A shell as its own process would know it. */
struct fake_shell {
	uint64_t id;
	uint32_t template;
	bool armed;
	int fd; /* -1: none */
	enum { FAKE_NONE, FAKE_MADE, FAKE_WAITS, FAKE_RUNS, FAKE_TURNS, FAKE_OVER } state;
	bool laid; /* a bare one has a template */
	uint64_t invocation;
	struct invoke_head head;
	char text[64];               /* payload */
	const struct request *owner; /* for the test: one like those that it has run */
};

struct pool_bed {
	struct loop loop;
	pthread_mutex_t lock;
	struct timers timers;
	struct pool pool;
	unsigned descriptors;

	/* The fake spawner. */
	int fd;            /* -1: it is gone */
	unsigned forks;    /* spawners so far */
	unsigned no_forks; /* so many from now on fail */
	bool deaf;         /* takes no orders */
	bool manual;       /* shells are made ready by the test only */
	bool stubborn;     /* they do not end when they are let go */
	uint32_t templates[FAKE_TEMPLATES_MAX];
	unsigned template_count;
	struct fake_shell shells[FAKE_SHELLS_MAX];
	unsigned spawned, killed, let_go;
};

/* What a caller wants, and what it got. */
struct request {
	struct invocation inv;
	struct pool_bed *bed;
	unsigned number;
	const char *tenant; /* set before it begins; NULL: nobody in particular */
	unsigned done;      /* how often */
	bool accepted;
	bool cancelled;
	enum invocation_outcome outcome;
	bool timed_out, throttled;
	char data[200], log[64];
	char payload[32];
};

/* For function_version_new(): the shape of the next template. */
extern uint64_t pool_bed_memory;
extern uint32_t pool_bed_instances[2]; /* of its devices */
extern uint32_t pool_bed_written_pages;

struct pool_bed *pool_bed_open(unsigned shells_max, unsigned bare);

/* Ends the pool; fails when anything of it is left. */
void pool_bed_close(struct pool_bed *bed);

/* A function of defaults, to be changed before the first request; with a version or without. */
struct function *pool_bed_function(struct pool_bed *bed, const char *name, bool version);

/* A version of a template, one use the caller's. */
struct function_version *pool_bed_version(struct pool_bed *bed, const char *name);

/* Runs loop, timers and fakes until nothing is to be done at once; checks what must always hold. */
void pool_bed_step(struct pool_bed *bed);

/* The same from timer to timer for so long. */
void pool_bed_advance(struct pool_bed *bed, uint64_t us);

/* The sums and lists of the pool agree with its shells. */
void pool_bed_check(struct pool_bed *bed);

/* One turn of the fakes' own: orders, ends, and what comes of them. Whether there was anything. */
bool fake_turn(struct pool_bed *bed);

/* --- The fake spawner and its shells --- */

/* The spawner's process is gone, with all shells. */
void fake_spawner_dies(struct pool_bed *bed);

/* How many are in that state; the n-th of them. */
unsigned fake_count(const struct pool_bed *bed, int state);
struct fake_shell *fake_find(struct pool_bed *bed, int state, unsigned n);

/* The one that runs the request. */
struct fake_shell *fake_of(struct pool_bed *bed, const struct request *r);

/* Says MESSAGE_SHELL; text NULL: that it waits, else why it cannot. */
void fake_ready(struct fake_shell *s, const char *text);

/* Answers its request; of policy once it is of no more use then. */
void fake_answer(struct fake_shell *s, enum invocation_outcome outcome, const char *text);

/* Its process ends; the spawner tells of it with that wait status. The latter alone. */
void fake_dies(struct pool_bed *bed, struct fake_shell *s, int status);
void fake_tell_dead(struct pool_bed *bed, uint64_t id, int status);

/* --- Requests --- */

/* Makes one that may take that long. False: the queue is full. */
bool request_begin(struct pool_bed *bed, struct request *r, struct function *f, uint64_t us);
void request_cancel(struct request *r);

/* It was answered, once, in that way; part: of the answer or the sentence. */
void request_expect(const struct request *r, enum invocation_outcome outcome, const char *part);

#endif
