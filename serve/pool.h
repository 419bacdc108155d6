/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells, and requests to shells: which are ready, which run what, which are being made and which
 * are to go. Everything runs on the front's one thread and waits for nothing. Making and ending
 * shells waits for a quiet moment unless a request waits for it (serve/pool_control.c).
 */
#ifndef VIRGA_SERVE_POOL_H
#define VIRGA_SERVE_POOL_H

#include "arch/loop.h"
#include "serve/bucket.h"
#include "serve/function.h"
#include "serve/message.h"
#include "serve/spawner.h"

#define POOL_QUIET_US    2000u   /* without a request: the moment to make and end shells */
#define POOL_OVERDUE_US  50000u  /* so long at most, then a little is done anyway */
#define POOL_BUILDS_MAX  4u      /* shells that are made at once while requests wait, */
#define POOL_REFILLS_MAX 2u      /* and while none does */
#define POOL_HELD_MAX    48u     /* shells that have answered and are still there; fewer where */
#define POOL_HELD_FILES  8u      /* that would be more than one of so many descriptors */
#define POOL_SPAWNER_US  500000u /* between two tries to start a spawner, */
#define POOL_SHORT_US    20000u  /* also when the one before lived no longer than that */
#define POOL_BUILD_MS    10000u
#define POOL_GO_MS       2000u /* for a shell to end that has nothing to do any more */
#define POOL_RESET_MS    5000u

enum pool_state {
	POOL_FREE,     /* no shell */
	POOL_BUILDING, /* MESSAGE_SHELL is awaited */
	POOL_BARE,     /* waits in its shape's list */
	POOL_ARMED,    /* waits in its function's */
	POOL_RUNNING,  /* an invocation */
	POOL_TURNING,  /* after one, by policy reset or keep: MESSAGE_SHELL is awaited */
	POOL_KEPT,     /* waits in its function's list of those */
	POOL_HELD,     /* has answered and is to go when it is quiet */
	POOL_GOING,    /* let go or killed: its end is awaited */
};

struct pool_shell {
	struct pool *pool;
	struct pool_shell *next, *previous; /* of the list that its state says */
	enum pool_state state;
	uint64_t id;
	int fd; /* owned; -1: let go */
	struct loop_watch *watch;
	struct function *function; /* NULL in a bare shell */
	struct version *version;   /* has a use; NULL in a bare shell */
	struct shape *shape;       /* of a shell that was made bare; NULL: it is gone, or armed */
	struct invocation *invocation; /* of POOL_RUNNING */
	uint32_t settings;             /* of its function, when it became its */
	struct timer timer;            /* what it may take; of POOL_KEPT how long it may stand */
	bool kill_wanted;              /* the spawner could not be told yet */
	uint64_t since_us;             /* in this state */
};

/* Of all functions together. */
struct pool_limits {
	unsigned shells; /* VM processes, at most */
	unsigned bare;   /* bare shells that wait, of each shape */
	unsigned refill; /* shells that are made a second while no request waits, at most */
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
	struct version *versions;
	struct shape *shapes;
	struct spawner spawner;
	struct spawner_events spawner_events;
	struct pool_shell
		*shells; /* owned: limits.shells of them; id % limits.shells is the place */
	struct pool_limits limits;
	struct bucket refill; /* at limits.refill */
	unsigned alive;       /* not POOL_FREE */
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
	bool draining;      /* nothing is made for the future any more */
	struct message in, out;
	struct pool_stats stats;
};

/* 0 or -errno with a sentence. timers has room for limits->shells + 8 more. */
int pool_init(struct pool *pool, struct loop *loop, struct timers *timers,
	      const struct pool_limits *limits);

/* Ends all shells and their invocations. */
void pool_fini(struct pool *pool);

/*
 * A version of a template, from its sealed memfds, which are moved into it. One use is the
 * caller's. NULL with a sentence.
 */
struct version *version_new(struct pool *pool, struct sealed *sealed, const char *name);
void version_put(struct pool *pool, struct version *version);

/* One that shells of that shape can be made after; NULL: there is none. */
struct version *shape_model(const struct pool *pool, const struct shape *shape);

/*
 * A function of that configuration (moved), without a version yet. NULL with a sentence.
 * function_set_version() takes over a use of the version: requests that run finish on the old one,
 * those that come get the new one.
 */
struct function *function_new(struct pool *pool, struct function_config *config);
void function_set_version(struct pool *pool, struct function *f, struct version *version);

/* Other settings (config is moved) for the requests that come from now on. */
void function_configure(struct pool *pool, struct function *f, struct function_config *config);

/* Takes it out of service; what runs finishes, then function_sweep() frees it. */
void function_remove(struct pool *pool, struct function *f);
void function_sweep(struct pool *pool); /* frees those that are done with; not within a callback */
struct function *function_find(const struct pool *pool, const char *name, size_t len);

/*
 * Runs an invocation, or queues it. Filled in: function, payload, deadline_us (with `timer` unset),
 * done, opaque. False when the queue is full: done is not called. done may be called from within.
 */
bool pool_invoke(struct pool *pool, struct invocation *inv);

/* Whoever asked does not want it any more; done is not called. */
void pool_cancel(struct pool *pool, struct invocation *inv);

/* Nothing is made for later from here on; requests that come are still served. */
void pool_drain(struct pool *pool);

/* --- Between pool.c, pool_request.c and pool_control.c --- */

void pool_set_state(struct pool_shell *s, enum pool_state state);

/* Gives waiting requests of f to shells that are ready; has some made for those that are left. */
void pool_dispatch(struct pool *pool, struct function *f);

/* What a shell's message means for its invocation. */
void pool_answer(struct pool_shell *s, struct message *m);

/* Ends an invocation, or all that wait for f: the host failed. */
void pool_fail(struct invocation *inv, const char *text);
void pool_fail_waiting(struct function *f, const char *text);

/* The shell is f's from now on. */
void pool_assign(struct pool_shell *s, struct function *f);

/* It has done its work; its VM stands until there is time to take it apart. */
void pool_hold(struct pool_shell *s);

/* It said or did what it must not, or ended. */
void pool_died(struct pool_shell *s, const char *why);

/*
 * Has a shell made: armed, of f, or bare, of shape (f NULL). 0; -EAGAIN when there are too many; or
 * -errno; with a sentence.
 */
int pool_build(struct pool *pool, struct function *f, struct shape *shape);

/* Lets a shell go that waits or has answered: it ends by itself, or is killed. */
void pool_let_go(struct pool_shell *shell);

/* Ends a shell whatever it does. */
void pool_kill(struct pool_shell *shell);

/* Something is to be made or ended: sees to it at the next quiet moment. */
void pool_want_work(struct pool *pool);

/* There is none: starts one. 0 or -errno with a sentence; it is tried again by and by. */
int pool_start_spawner(struct pool *pool);

/* All shells are in use and f wants one: lets one go that can be spared. */
void pool_make_room(struct pool *pool, const struct function *f);

/* Lets those go that have answered, all or half: ends at the same time wait for the kernel together. */
void pool_end_held(struct pool *pool, bool all);

void pool_control_init(struct pool *pool);

/* A request of f came: the controller counts it. */
void pool_arrived(struct pool *pool, struct function *f);

#endif
