/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions as the front knows them: configuration, the version of the template that new
 * requests get, the requests that run and wait, counters. Made, changed and removed here; what
 * runs on them is serve/pool/pool.h's. The front's one thread.
 */
#ifndef VIRGA_SERVE_POOL_FUNCTION_H
#define VIRGA_SERVE_POOL_FUNCTION_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "arch/base/blob.h"
#include "arch/base/bucket.h"
#include "arch/base/error.h"
#include "arch/base/histogram.h"
#include "arch/base/timers.h"
#include "boot/snapshot/sealed.h"
#include "serve/ipc/invocation.h"
#include "serve/pool/function_config.h"

struct invocation;
struct pool;
struct pool_shell;

/* What the machines of a template have in common with those of others: a bare shell fits all. */
struct shape {
	struct shape *next;
	struct blob content;      /* what that is, owned */
	struct pool_shell *ready; /* bare shells that wait */
	unsigned ready_count;
	unsigned building;
	uint64_t refused_until_us; /* none is built before: the last one failed */
	struct note_limit notes;   /* bare shells that could not be made */
};

#define VERSION_TAG_LEN 16 /* bytes with the NUL */

/* A template in memory. Freed with its last user: a function, a shell. */
struct function_version {
	struct function_version *next;
	uint32_t id;      /* the spawner's name for it */
	uint64_t told_at; /* the ordinal of the spawner that was told; 0: none */
	unsigned users;
	bool unwanted; /* has no user but who is to tell the spawner to forget it */
	struct sealed sealed;
	struct shape *shape;
	char name[80];             /* of the template, for sentences */
	char tag[VERSION_TAG_LEN]; /* for X-Amz-Executed-Version */
	time_t loaded_s;           /* since 1970 */
	uint64_t memory_size;
	unsigned vcpu_count;
	uint32_t written_pages; /* of its working set; 0: it has none */
	uint32_t read_pages;
	char no_reset[200]; /* why it is not for policy reset, a sentence; "" */
};

/* Why a request did not go the way that its function was set up for. */
enum invocation_fallback {
	FALLBACK_NO_SHELL,       /* none was ready: it waited for one to be made */
	FALLBACK_BARE,           /* no armed clone was ready, but a bare shell */
	FALLBACK_NO_WORKING_SET, /* the template has none: pages are copied one fault at a time */
	FALLBACK_NOT_COPIED,     /* it has one, but the kernel did not copy it in bulk */
	FALLBACK_COUNT,
};

/* What served a request. */
enum invocation_tier { TIER_ARMED, TIER_BARE, TIER_BUILT, TIER_KEPT, TIER_COUNT };

/* How a request ended, as counted and logged. */
enum invocation_result {
	RESULT_OK,
	RESULT_FUNCTION_ERROR, /* the guest's fault: 200 with X-Amz-Function-Error */
	RESULT_TIMEOUT,
	RESULT_THROTTLED,   /* 429 */
	RESULT_BAD_REQUEST, /* 400: no JSON */
	RESULT_HOST_ERROR,  /* 500 */
	RESULT_CANCELLED,   /* the client hung up */
	RESULT_COUNT,
};

struct function_stats {
	uint64_t results[RESULT_COUNT];
	uint64_t fallbacks[FALLBACK_COUNT];
	uint64_t tiers[TIER_COUNT];
	uint64_t builds; /* armed clones made */
	uint64_t build_failures;
	uint64_t resets;
	uint64_t resets_renewed;              /* those that had to forget translations too */
	uint64_t retired;                     /* armed clones that nobody needed */
	struct histogram latency[TIER_COUNT]; /* first byte to answer, of results OK */
	struct histogram build;
};

struct function {
	struct function *next;
	struct pool *pool;
	struct function_config config;    /* owned */
	struct function_version *version; /* NULL: its template is not there (any more) */
	bool removed;                     /* goes when nothing runs any more */
	bool stale;                       /* its template may have changed, */
	bool loading;                     /* or is being loaded */
	bool listed;       /* in the configuration; else it is there for its template */
	uint32_t settings; /* counts changes of what shells were told: policy, environment */

	struct invocation *first, *last; /* that wait, oldest first */
	unsigned waiting;
	unsigned active; /* that run */

	struct pool_shell *armed; /* that wait, newest first */
	unsigned armed_count;
	struct pool_shell *kept; /* by policy keep, last used first */
	unsigned kept_count;
	unsigned building;
	unsigned alive; /* shells in all states that are this function's */
	uint64_t refused_until_us;
	struct note_limit turn_notes;  /* machines that could not be used again, */
	struct note_limit build_notes; /* or made */

	/* The controller (serve/pool/refill.c). */
	unsigned target;        /* armed clones wanted now */
	unsigned arrived;       /* requests in this tick */
	double rate;            /* requests a second, smoothed */
	struct bucket refill;   /* at config.pool_refill */
	uint64_t retry_us;      /* none is built for later before: there was no room */
	uint64_t used_until_us; /* the target is not lowered before */

	struct function_stats stats;
};

/* How an invocation ended. What it points to is there for the call. */
struct invocation_end {
	enum invocation_outcome outcome;
	const struct answer_head *head; /* NULL: no shell answered */
	const char *log;
	size_t log_len;
	const void *data;
	size_t len;
	bool timed_out; /* while it ran */
	bool throttled; /* its time was over before it could run */
};

/* A request on its way through the host. Owned by whoever asked for it (serve/host/lambda.c). */
struct invocation {
	struct invocation *next, *previous; /* of those that wait */
	struct function *function;
	struct pool_shell *shell; /* NULL: it waits */
	struct timer timer;       /* its time-out */
	uint64_t id;
	uint64_t deadline_us;
	const void *payload; /* borrowed, */
	size_t payload_len;
	const char *tenant; /* so is this; NULL: of nobody in particular */
	size_t tenant_len;
	enum invocation_tier tier;
	char version[VERSION_TAG_LEN]; /* of the template that it was given to; empty before */
	bool waited;                   /* no shell was ready */
	uint64_t sent_ns;              /* CLOCK_MONOTONIC: given to a shell */
	/* Called once, with its answer or with what went wrong. The invocation is not used after. */
	void (*done)(struct invocation *inv, const struct invocation_end *end);
	void *opaque;
};

const char *tier_name(enum invocation_tier tier);
const char *result_name(enum invocation_result result);
const char *fallback_name(enum invocation_fallback fallback);

/*
 * A version of a template, from its sealed memfds, which are moved into it. One use is the
 * caller's. NULL with a sentence.
 */
struct function_version *function_version_new(struct pool *pool, struct sealed *sealed,
					      const char *name);
void function_version_put(struct pool *pool, struct function_version *version);

/*
 * A function of that configuration (moved), without a version yet. NULL with a sentence.
 * function_set_version() takes over a use of the version: requests that run finish on the old one,
 * those that come get the new one.
 */
struct function *function_new(struct pool *pool, struct function_config *config);
void function_set_version(struct pool *pool, struct function *f, struct function_version *version);

/* Other settings (config is moved) for the requests that come from now on. */
void function_configure(struct pool *pool, struct function *f, struct function_config *config);

/* Takes it out of service; what runs finishes, then function_sweep() frees it. */
void function_remove(struct pool *pool, struct function *f);
void function_sweep(struct pool *pool); /* frees those that are done with; not within a callback */
struct function *function_find(const struct pool *pool, const char *name, size_t len);

#endif
