/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the pool share with each other and with nobody else. The lowest first, each
 * calls only those before it: shell.c, request.c, function.c, build.c, events.c, refill.c, pool.c.
 *
 * The states of a shell:
 *
 *           pool_build()              MESSAGE_SHELL
 *     FREE --------------> BUILDING ---------+---------> BARE
 *      ^                                     v            |
 *      |     .---------------------------> ARMED          |
 *      |     | reset                         |            |
 *      |     |                MESSAGE_INVOKE +<-----------'
 *      |     |                               v
 *      |  TURNING <----------------------- RUNNING -----> HELD
 *      |     |         MESSAGE_ANSWER        ^            ^ |
 *      |     | keep           MESSAGE_INVOKE |            | |
 *      |     '---------------------------> KEPT ----------' |
 *      | reaped                               idle_timeout  |
 *      '------ GOING <--------------------------------------'
 *
 * An answer leads to TURNING by policy reset or keep when the guest stands, else to HELD. BUILDING
 * and TURNING lead to HELD, too, when template or settings changed meanwhile. HELD ends when it is
 * quiet, when there are too many or when room is needed. Any but FREE may become GOING: let go when
 * nobody wants it (BARE, ARMED, KEPT), killed when it is late, dies, says what it must not or its
 * request is given up; and GOING itself is killed when it takes too long. With the spawner all end.
 */
#ifndef VIRGA_SERVE_POOL_STATE_H
#define VIRGA_SERVE_POOL_STATE_H

#include "serve/pool/pool.h"

#define POOL_QUIET_US    2000u   /* without a request: the moment to make and end shells */
#define POOL_OVERDUE_US  50000u  /* so long at most, then a little is done anyway */
#define POOL_BUILDS_MAX  4u      /* shells that are made at once while requests wait, */
#define POOL_REFILLS_MAX 2u      /* and while none does */
#define POOL_HELD_MAX    48u     /* shells that have answered and are still there; fewer where */
#define POOL_HELD_FILES  8u      /* that would be more than one of so many descriptors */
#define POOL_SPAWNER_US  500000u /* between two tries to start a spawner, */
#define POOL_SHORT_US    20000u  /* also when the one before lived no longer than that */
#define POOL_BUSY_US     5000u   /* until a spawner that is busy is asked again */
#define POOL_BUILD_MS    10000u
#define POOL_GO_MS       2000u /* for a shell to end that has nothing to do any more */
#define POOL_RESET_MS    5000u
#define POOL_MACHINE     (1ull << 20) /* bytes of a machine beside the pages of its guest */

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
	struct function *function;        /* NULL in a bare shell */
	struct function_version *version; /* has a use; NULL in a bare shell */
	struct shape *shape; /* of a shell that was made bare; NULL: it is gone, or armed */
	struct invocation *invocation; /* of POOL_RUNNING */
	uint32_t settings;             /* of its function, when it became its */
	struct timer timer;            /* what it may take; of POOL_KEPT how long it may stand */
	bool used;                     /* has run a request: is that tenant's */
	char *tenant;                  /* owned; NULL: nobody's in particular */
	bool kill_wanted;              /* the spawner could not be told yet */
	uint64_t since_us;             /* in this state */
	uint64_t memory;               /* bytes that it takes of the pool's */
};

/* --- shell.c --- */

/* Into another state, and the list that goes with it. */
void pool_set_state(struct pool_shell *s, enum pool_state state);

/* What a machine of that version takes before its guest runs; NULL: a bare one. */
uint64_t pool_memory_of(const struct function_version *version);

/* That it takes so much from now on. */
void pool_charge(struct pool_shell *s, uint64_t bytes);

/* Whether so many bytes more may be taken. */
bool pool_has_memory(const struct pool *pool, uint64_t bytes);

/* Lets a shell go that waits or has answered: it ends by itself, or is killed. */
void pool_let_go(struct pool_shell *shell);

/* Ends a shell whatever it does. */
void pool_kill(struct pool_shell *shell);

/* It has done its work; its VM stands until there is time to take it apart. */
void pool_hold(struct pool_shell *s);

/* Something is to be made or ended: sees to it at the next quiet moment. */
void pool_want_work(struct pool *pool);

/* Lets those go that have answered, all or half: ends at the same time wait for the kernel together. */
void pool_end_held(struct pool *pool, bool all);

/* --- request.c --- */

/* The end of those that wait for its function. */
void pool_queue(struct invocation *inv);

/*
 * The best shell there is for it, none that another tenant has used, nor a bare one whose template
 * would take memory that is not there; or NULL. Says its tier.
 */
struct pool_shell *pool_pick(struct invocation *inv);

/* Takes the invocation from whoever has it. */
void pool_forget(struct invocation *inv);

/* Gives the first request that waits to a shell. One of the two may turn out to be of no use. */
void pool_run(struct pool_shell *s, struct invocation *inv);

/* Ends an invocation, or all that wait for f: the host failed. */
void pool_fail(struct invocation *inv, const char *text);
void pool_fail_waiting(struct function *f, const char *text);

/* The shell is f's from now on. */
void pool_assign(struct pool_shell *s, struct function *f);

/* --- function.c --- */

/* One that shells of that shape can be made after; NULL: there is none. */
struct function_version *shape_model(const struct pool *pool, const struct shape *shape);

/* --- build.c --- */

/* The shell is no more, and what it used has a user less. */
void pool_free(struct pool_shell *s);

/*
 * Has a shell made: armed, of f, or bare, of shape (f NULL). 0; -ENOSPC when there are too many;
 * -EAGAIN when the spawner is busy with the orders before; -EPIPE when it has ended, which is about
 * to be noticed; or -errno; with a sentence.
 */
int pool_build(struct pool *pool, struct function *f, struct shape *shape);

/* There is none: starts one. 0 or -errno with a sentence; it is tried again later. */
int pool_start_spawner(struct pool *pool);

/* All shells are in use and a request can have none that waits: lets one go that can be spared. */
void pool_make_room(struct pool *pool);

/* Gives waiting requests of f to shells that are ready; has some made for those that are left. */
void pool_dispatch(struct pool *pool, struct function *f);

/* --- events.c --- */

/* Has shells and the spawner heard. */
void pool_events_init(struct pool *pool);

/* It said or did what it must not, or ended. */
void pool_died(struct pool_shell *s, const char *why);

/* --- refill.c --- */

void refill_init(struct pool *pool);

/* A request of f came: the controller counts it. */
void pool_arrived(struct pool *pool, struct function *f);

#endif
