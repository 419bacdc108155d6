/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells, and requests to shells: which are ready, which run what, which are being made and which
 * are to go. Everything runs on the front's one thread and waits for nothing. Making and ending
 * shells waits for a quiet moment unless a request waits for it (serve/pool/refill.c).
 *
 * What stands in the structs is for others to read, none of it to write.
 */
#ifndef VIRGA_SERVE_POOL_POOL_H
#define VIRGA_SERVE_POOL_POOL_H

#include "arch/base/bucket.h"
#include "arch/base/loop.h"
#include "serve/ipc/message.h"
#include "serve/pool/function.h"
#include "serve/pool/spawner.h"

struct pool_shell;

/* Of all functions together. */
struct pool_limits {
	unsigned shells; /* VM processes, at most */
	unsigned bare;   /* bare shells that wait, of each shape */
	unsigned refill; /* shells that are made a second while no request waits, at most */
	uint64_t memory; /* bytes that they may take before their guests run; 0: no limit */
};

struct pool_stats {
	uint64_t spawner_starts;
	uint64_t killed;
	uint64_t bare_builds;
	uint64_t died; /* shells that ended unasked */
};

struct pool {
	struct loop *loop;
	struct timers *timers;
	struct function *functions;
	struct function_version *versions;
	struct shape *shapes;
	struct spawner spawner;
	struct spawner_events spawner_events;
	/* Handlers of a shell's socket and timer (serve/pool/events.c), for those that make shells. */
	void (*shell_event)(void *shell, uint32_t events);
	void (*shell_late)(void *shell);
	struct pool_shell
		*shells; /* owned: limits.shells of them; id % limits.shells is the place */
	struct pool_limits limits;
	struct bucket refill; /* at limits.refill */
	unsigned alive;       /* not POOL_FREE */
	uint64_t memory;      /* what they take, of limits.memory */
	unsigned cursor;
	unsigned building;
	struct pool_shell *held, *held_last; /* oldest first */
	unsigned held_count, held_max;
	unsigned waiting, active; /* invocations of all functions */
	uint64_t ids;             /* given out to shells */
	uint64_t invocations;     /* begun so far */
	uint32_t version_ids;
	uint64_t last_us;    /* a request came or was answered */
	uint64_t since_us;   /* when something first wanted a quiet moment; 0: nothing does */
	struct timer work;   /* pool_work() */
	struct timer tick;   /* the controller's */
	uint64_t spawner_us; /* when the last one was started, or that was tried */
	bool orders_wanted; /* of the spawner, which could not take them: kills, versions to forget */
	char unable[200];   /* why the last machine could not be made; empty: it could */
	struct note_limit notes; /* what is said of the spawner, until a machine is made */
	bool draining;           /* nothing is made for the future any more */
	struct message in, out;
	struct pool_stats stats;
};

/* Waits for the spawner. 0 or -errno with a sentence. timers has room for limits->shells + 8 more. */
int pool_init(struct pool *pool, struct loop *loop, struct timers *timers,
	      const struct pool_limits *limits);

/* Ends all shells and their invocations. */
void pool_fini(struct pool *pool);

/*
 * Runs an invocation, or queues it. Filled in: function, payload, tenant, deadline_us (with `timer`
 * unset), done, opaque. False when the queue is full: done is not called. done may be called from within.
 */
bool pool_invoke(struct pool *pool, struct invocation *inv);

/* Whoever asked does not want it any more; done is not called. */
void pool_cancel(struct pool *pool, struct invocation *inv);

/*
 * Why a function cannot be served: none waits for it and the last that was tried could not be made. NULL:
 * as far as is known all can.
 */
const char *pool_unable(const struct pool *pool);

/* Nothing is made for later from here on; requests that come are still served. */
void pool_drain(struct pool *pool);

#endif
