/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shells of the front and the requests on them (serve/pool.h): what happens when one of them says
 * something, ends or takes too long. When shells are made and ended: serve/pool_control.c.
 */
#include "serve/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/vm.h"
#include "serve/payload.h"

#define POOL_BACK_OFF_US 100000u /* after a shell that could not be made */

/* --- Lists --- */

static struct pool_shell **pool_list(struct pool_shell *s)
{
	switch (s->state) {
	case POOL_BARE:
		return &s->shape->ready;
	case POOL_ARMED:
		return &s->function->armed;
	case POOL_KEPT:
		return &s->function->kept;
	case POOL_HELD:
		return &s->pool->held;
	default:
		return NULL;
	}
}

/* How many of the state's kind there are, by whoever counts them. */
static void pool_count(struct pool_shell *s, int by)
{
	unsigned *count = NULL;

	switch (s->state) {
	case POOL_BARE:
		count = &s->shape->ready_count;
		break;
	case POOL_ARMED:
		count = &s->function->armed_count;
		break;
	case POOL_KEPT:
		count = &s->function->kept_count;
		break;
	case POOL_HELD:
		count = &s->pool->held_count;
		break;
	case POOL_BUILDING:
		count = s->function ? &s->function->building
			: s->shape  ? &s->shape->building
				    : NULL;
		s->pool->building += (unsigned)by;
		break;
	default:
		break;
	}
	if (count)
		*count += (unsigned)by;
}

void pool_set_state(struct pool_shell *s, enum pool_state state)
{
	struct pool_shell **list = pool_list(s);

	if (list) {
		*(s->previous ? &s->previous->next : list) = s->next;
		if (s->next)
			s->next->previous = s->previous;
		else if (s->state == POOL_HELD)
			s->pool->held_last = s->previous;
	}
	pool_count(s, -1);
	s->state = state;
	s->since_us = monotonic_us();
	pool_count(s, 1);
	s->next = s->previous = NULL;
	list = pool_list(s);
	if (!list)
		return;
	if (state == POOL_HELD) { /* oldest first, the others newest first */
		s->previous = s->pool->held_last;
		*(s->previous ? &s->previous->next : list) = s;
		s->pool->held_last = s;
		return;
	}
	s->next = *list;
	if (s->next)
		s->next->previous = s;
	*list = s;
}

/* --- Life of a shell --- */

static void pool_free(struct pool_shell *s)
{
	struct pool *pool = s->pool;

	timer_clear(pool->timers, &s->timer);
	loop_remove(pool->loop, s->watch);
	if (s->fd >= 0)
		close(s->fd);
	if (s->function)
		s->function->alive--;
	if (s->version)
		version_put(pool, s->version);
	pool->alive--;
	*s = (struct pool_shell){ .pool = pool, .fd = -1 };
}

static struct pool_shell *pool_alloc(struct pool *pool)
{
	for (unsigned i = 0; i < pool->limits.shells; i++) {
		unsigned place = pool->cursor++ % pool->limits.shells;

		if (pool->shells[place].state != POOL_FREE)
			continue;
		pool->alive++;
		pool->shells[place].id = ++pool->ids * pool->limits.shells + place;
		return &pool->shells[place];
	}
	return NULL;
}

void pool_let_go(struct pool_shell *s)
{
	timer_clear(s->pool->timers, &s->timer);
	loop_remove(s->pool->loop, s->watch);
	s->watch = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	pool_set_state(s, POOL_GOING);
	timer_set(s->pool->timers, &s->timer, s->since_us + POOL_GO_MS * 1000ull);
}

void pool_kill(struct pool_shell *s)
{
	if (s->state != POOL_GOING)
		pool_let_go(s);
	s->kill_wanted = spawner_kill(&s->pool->spawner, s->id) < 0;
	if (s->kill_wanted) {
		s->pool->orders_wanted = true;
		pool_want_work(s->pool);
	} else
		s->pool->stats.killed++;
}

void pool_hold(struct pool_shell *s)
{
	struct pool *pool = s->pool;

	timer_clear(pool->timers, &s->timer);
	pool_set_state(s, POOL_HELD);
	pool_want_work(pool);
	if (pool->held_count > pool->held_max) /* soon, not before this answer */
		timer_set(pool->timers, &pool->work, monotonic_us());
}

/* --- What shells say --- */

void pool_died(struct pool_shell *s, const char *why)
{
	struct pool *pool = s->pool;
	struct invocation *inv = s->invocation;
	struct function *f = s->function;

	pool->stats.died += s->state != POOL_HELD;
	pool_kill(s);
	if (inv)
		pool_fail(inv, why);
	if (f)
		pool_dispatch(pool, f);
	pool_want_work(pool);
}

/* One that was to be made could not be: those that waited for it are told if there is no other. */
static void pool_build_failed(struct pool_shell *s, const char *why)
{
	struct function *f = s->function;
	struct shape *shape = s->shape;

	notef("%s: no machine can be made: %s", f ? f->config.name : "bare shell", why);
	pool_kill(s);
	pool_end_held(s->pool, true); /* they take memory and processes */
	if (!f) {
		if (shape)
			shape->refused_until_us = monotonic_us() + POOL_BACK_OFF_US;
		return;
	}
	f->stats.build_failures++;
	f->refused_until_us = monotonic_us() + POOL_BACK_OFF_US;
	if (!f->building)
		pool_fail_waiting(f, why);
}

static void pool_built(struct pool_shell *s)
{
	struct pool *pool = s->pool;
	struct function *f = s->function;
	uint64_t us = monotonic_us() - s->since_us;

	timer_clear(pool->timers, &s->timer);
	if (!f)
		pool->stats.bare_builds++;
	if (f) {
		f->stats.builds++;
		histogram_add(&f->stats.build, us);
	}
	/* Its template, or the last one of its shape, went meanwhile. */
	if (f ? s->version != f->version : !s->shape)
		pool_hold(s);
	else
		pool_set_state(s, f ? POOL_ARMED : POOL_BARE);
}

/* After an invocation by policy reset or keep. */
static void pool_turned(struct pool_shell *s, bool renewed)
{
	struct pool *pool = s->pool;
	struct function *f = s->function;

	timer_clear(pool->timers, &s->timer);
	if (s->version != f->version || s->settings != f->settings) {
		pool_hold(s);
		return;
	}
	f->stats.resets += f->config.policy == POLICY_RESET;
	f->stats.resets_renewed += f->config.policy == POLICY_RESET && renewed;
	pool_set_state(s, f->config.policy == POLICY_RESET ? POOL_ARMED : POOL_KEPT);
	if (s->state == POOL_KEPT)
		timer_set(pool->timers, &s->timer,
			  monotonic_us() + f->config.idle_timeout_ms * 1000ull);
}

static void pool_shell_ready(struct pool_shell *s, const struct message *m)
{
	struct pool *pool = s->pool;
	struct function *f = s->function;

	if (m->value && s->state == POOL_BUILDING) {
		pool_build_failed(s, m->text_len ? m->text : "it does not say why");
		return;
	}
	if (s->state == POOL_BUILDING) {
		pool_built(s);
	} else if (s->state == POOL_TURNING && !m->value) {
		pool_turned(s, m->id != 0);
	} else {
		pool_died(s, "a shell spoke out of turn");
		return;
	}
	if (f)
		pool_dispatch(pool, f);
	pool_want_work(pool);
}

/* Takes one message: 1, or what message_receive() says. */
static int pool_receive(struct pool_shell *s)
{
	struct message *m = &s->pool->in;
	int ret = message_receive(s->fd, m);

	if (ret != 1)
		return ret;
	if (m->type == MESSAGE_SHELL)
		pool_shell_ready(s, m);
	else if (m->type == MESSAGE_ANSWER)
		pool_answer(s, m);
	else
		pool_died(s, "a shell sent a message of an unknown kind");
	message_close_fds(m);
	return 1;
}

static void pool_event(void *opaque, uint32_t events)
{
	struct pool_shell *s = opaque;
	int ret = pool_receive(s);

	(void)events;
	if (ret == 1 || ret == -EAGAIN)
		return;
	if (s->state == POOL_BUILDING)
		pool_build_failed(s, "its process ended while it was made");
	else
		pool_died(s, "the machine's process ended without an answer");
}

/* --- Making one --- */

/* What it may take is over: while it is made, while it turns, or standing. */
static void pool_late(void *opaque)
{
	struct pool_shell *s = opaque;

	if (s->state == POOL_BUILDING) {
		pool_build_failed(s, "it takes too long");
	} else if (s->state == POOL_KEPT) {
		pool_hold(s);
	} else if (s->state == POOL_GOING) {
		notef("%s: a machine does not end by itself",
		      s->function ? s->function->config.name : "bare shell");
		pool_kill(s);
	} else {
		pool_died(s, "a shell does not get ready again");
	}
}

/* Each spawner is told of a template when it first makes a shell of it. */
static int pool_tell(struct pool *pool, struct version *v)
{
	int ret = v->told_at == pool->stats.spawner_starts
			  ? 0
			  : spawner_template(&pool->spawner, v->id, &v->sealed, v->name);

	if (ret == 0)
		v->told_at = pool->stats.spawner_starts;
	return ret;
}

static int pool_spawn(struct pool *pool, struct pool_shell *s, struct version *model)
{
	enum shell_kind kind = !s->function         ? SHELL_BARE
			       : s->function->first ? SHELL_HURRIED
						    : SHELL_ARMED;
	int pair[2], ret;

	if (pool->spawner.fd < 0)
		return failf(ECHILD, "the process that makes machines cannot be started now");
	while (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		if (!pool->held)
			return failf(errno, "no descriptor left (ulimit -n): %s", strerror(errno));
		pool_end_held(pool, true); /* which have some */
	}
	s->fd = pair[0];
	s->watch = loop_add(pool->loop, s->fd, EPOLLIN, pool_event, s);
	ret = s->watch ? pool_tell(pool, model) : -ENOMEM;
	if (ret == 0)
		ret = spawner_spawn(&pool->spawner, s->id, model->id, kind, pair[1]);
	close(pair[1]);
	if (ret == -EPIPE || ret == -ECONNRESET) /* it ended, which is about to be noticed */
		ret = -EAGAIN;
	return ret < 0 ? failf(-ret, "the spawner takes no order: %s", strerror(-ret)) : 0;
}

int pool_build(struct pool *pool, struct function *f, struct shape *shape)
{
	struct version *model = f ? f->version : shape_model(pool, shape);
	struct pool_shell *s = model ? pool_alloc(pool) : NULL;
	int ret;

	if (!s)
		return failf(EAGAIN, "all %u shells are in use", pool->limits.shells);
	s->shape = f ? NULL : shape;
	if (f)
		pool_assign(s, f);
	s->timer = (struct timer){ .expired = pool_late, .opaque = s };
	ret = pool_spawn(pool, s, model);
	if (ret < 0) {
		pool_free(s);
		return ret;
	}
	pool_set_state(s, POOL_BUILDING);
	timer_set(pool->timers, &s->timer, s->since_us + POOL_BUILD_MS * 1000ull);
	return 0;
}

/* --- The spawner --- */

/* A shell's process is gone and reaped. */
static void pool_dead(void *opaque, uint64_t id, int status)
{
	struct pool *pool = opaque;
	struct pool_shell *s = &pool->shells[id % pool->limits.shells];
	char why[128] = "the machine's process ended without an answer";

	if (s->state == POOL_FREE || s->id != id)
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		snprintf(why, sizeof(why), "%s",
			 "the machine's process was killed by its system call filter (SIGSYS)");
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "the machine's process was killed by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		notef("%s: %s", s->function ? s->function->config.name : "bare shell", why);
	/* What it said last is heard before its end is. */
	while (s->watch && (s->state == POOL_RUNNING || s->state == POOL_BUILDING) &&
	       pool_receive(s) == 1)
		;
	if (s->state == POOL_BUILDING)
		pool_build_failed(s, why);
	else if (s->state != POOL_GOING && s->state != POOL_HELD)
		pool_died(s, why);
	if (s->state == POOL_HELD)
		pool_let_go(s);
	pool_free(s);
	pool_want_work(pool);
}

int pool_start_spawner(struct pool *pool)
{
	int ret = spawner_start(&pool->spawner, pool->loop, &pool->spawner_events);

	pool->stats.spawner_starts += ret == 0;
	pool->spawner_us = monotonic_us();
	return ret;
}

/*
 * All shells are gone with it. They leave their lists first, so that no request is given to one of
 * them; those that ran have lost their machines; the rest gets others.
 */
static void pool_spawner_gone(void *opaque)
{
	struct pool *pool = opaque;
	bool at_once = monotonic_us() - pool->spawner_us >= POOL_SHORT_US;

	notef("the spawner is gone, and all machines with it; starting another");
	spawner_stop(&pool->spawner);
	for (unsigned i = 0; i < pool->limits.shells; i++) {
		struct pool_shell *s = &pool->shells[i];

		if (s->state == POOL_FREE || s->state == POOL_GOING)
			continue;
		pool->stats.died += s->state != POOL_HELD;
		pool_let_go(s);
	}
	if (at_once && pool_start_spawner(pool) < 0)
		notef("%s", error_text());
	for (unsigned i = 0; i < pool->limits.shells; i++) {
		struct pool_shell *s = &pool->shells[i];

		if (s->state != POOL_GOING)
			continue;
		if (s->invocation)
			pool_fail(s->invocation, "the machine ended with the spawner");
		pool_free(s);
	}
	for (struct function *f = pool->functions; f; f = f->next)
		pool_dispatch(pool, f);
	pool_want_work(pool);
}

/* --- Life of the pool --- */

int pool_init(struct pool *pool, struct loop *loop, struct timers *timers,
	      const struct pool_limits *limits)
{
	*pool = (struct pool){
		.loop = loop,
		.timers = timers,
		.limits = *limits,
		.spawner = { .fd = -1 },
		.spawner_events = { .dead = pool_dead, .gone = pool_spawner_gone, .opaque = pool },
	};
	pool->shells = calloc(limits->shells, sizeof(*pool->shells));
	if (!pool->shells)
		return failf(ENOMEM, "out of memory for %u shells", limits->shells);
	for (unsigned i = 0; i < limits->shells; i++)
		pool->shells[i] = (struct pool_shell){ .pool = pool, .fd = -1 };
	pool_control_init(pool);
	return pool_start_spawner(pool);
}

void pool_fini(struct pool *pool)
{
	pool->draining = true;
	for (struct function *f = pool->functions; f; f = f->next)
		pool_fail_waiting(f, "the host ends");
	for (unsigned i = 0; pool->shells && i < pool->limits.shells; i++) {
		struct pool_shell *s = &pool->shells[i];

		if (s->state != POOL_FREE) {
			pool_died(s, "the host ends");
			pool_free(s);
		}
	}
	spawner_stop(&pool->spawner);
	for (struct function *f = pool->functions; f; f = f->next)
		function_remove(pool, f);
	function_sweep(pool);
	timer_clear(pool->timers, &pool->work);
	timer_clear(pool->timers, &pool->tick);
	free(pool->shells);
}
