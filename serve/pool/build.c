/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Having shells made (serve/pool/state.h): by the spawner, at once for requests that wait, which get
 * what is ready first.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/pool/state.h"

void pool_free(struct pool_shell *s)
{
	struct pool *pool = s->pool;

	timer_clear(pool->timers, &s->timer);
	loop_remove(pool->loop, s->watch);
	if (s->fd >= 0)
		close(s->fd);
	if (s->function)
		s->function->alive--;
	if (s->version)
		function_version_put(pool, s->version);
	pool_charge(s, 0);
	pool->alive--;
	free(s->tenant);
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

int pool_start_spawner(struct pool *pool)
{
	int ret = spawner_start(&pool->spawner, pool->loop, &pool->spawner_events);

	pool->stats.spawner_starts += ret == 0;
	pool->spawner_us = monotonic_us();
	return ret;
}

/* Each spawner is told of a template when it first makes a shell of it. */
static int pool_tell(struct pool *pool, struct function_version *v)
{
	int ret = v->told_at == pool->stats.spawner_starts
			  ? 0
			  : spawner_template(&pool->spawner, v->id, &v->sealed, v->name);

	if (ret == 0)
		v->told_at = pool->stats.spawner_starts;
	return ret;
}

static int pool_spawn(struct pool *pool, struct pool_shell *s, struct function_version *model)
{
	enum shell_kind kind = !s->function         ? SHELL_BARE
			       : s->function->first ? SHELL_HURRIED
						    : SHELL_ARMED;
	int pair[2], ret;

	if (pool->spawner.child.fd < 0)
		return failf(ECHILD, "the process that makes machines cannot be started now");
	while (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		if (!pool->held)
			return failf(errno, "no descriptor left (ulimit -n): %s", strerror(errno));
		pool_end_held(pool, true); /* which have some */
	}
	s->fd = pair[0];
	s->watch = loop_add(pool->loop, s->fd, EPOLLIN, pool->shell_event, s);
	ret = s->watch ? pool_tell(pool, model) : -ENOMEM;
	if (ret == 0)
		ret = spawner_spawn(&pool->spawner, s->id, model->id, kind, pair[1]);
	close(pair[1]);
	if (ret == -ECONNRESET)
		ret = -EPIPE;
	return ret < 0 ? failf(-ret, "the spawner takes no order: %s", strerror(-ret)) : 0;
}

/* Whether there is memory for one more that takes so much. */
static int pool_check_memory(const struct pool *pool, uint64_t bytes)
{
	const uint64_t limit = pool->limits.memory;

	if (pool_has_memory(pool, bytes))
		return 0;
	return failf(bytes > limit ? ENOMEM : ENOSPC,
		     "a machine takes %llu MiB before it runs, and of the %llu MiB of key "
		     "'memory_total' %llu are taken",
		     (unsigned long long)bytes >> 20, (unsigned long long)limit >> 20,
		     (unsigned long long)pool->memory >> 20);
}

int pool_build(struct pool *pool, struct function *f, struct shape *shape)
{
	struct function_version *model = f ? f->version : shape_model(pool, shape);
	const uint64_t bytes = pool_memory_of(f ? model : NULL);
	struct pool_shell *s;
	int ret = pool_check_memory(pool, bytes);

	if (ret < 0)
		return ret;
	s = model ? pool_alloc(pool) : NULL;
	if (!s)
		return failf(ENOSPC, "all %u shells are in use", pool->limits.shells);
	s->shape = f ? NULL : shape;
	pool_charge(s, bytes);
	if (f)
		pool_assign(s, f);
	s->timer = (struct timer){ .expired = pool->shell_late, .opaque = s };
	ret = pool_spawn(pool, s, model);
	if (ret < 0) {
		if (ret != -EAGAIN && ret != -EPIPE)
			snprintf(pool->unable, sizeof(pool->unable), "%s", error_text());
		pool_free(s);
		return ret;
	}
	pool_set_state(s, POOL_BUILDING);
	timer_set(pool->timers, &s->timer, s->since_us + POOL_BUILD_MS * 1000ull);
	return 0;
}

void pool_make_room(struct pool *pool)
{
	const struct shape *shape = pool->shapes;
	const struct function *most = NULL;

	if (pool->held) {
		pool_end_held(pool, true);
		return;
	}
	for (const struct function *other = pool->functions; other; other = other->next)
		if (other->armed_count + other->kept_count &&
		    (!most ||
		     other->armed_count + other->kept_count > most->armed_count + most->kept_count))
			most = other;
	if (most) {
		pool_let_go(most->armed ? most->armed : most->kept);
		return;
	}
	while (shape && !shape->ready)
		shape = shape->next;
	if (shape)
		pool_let_go(shape->ready);
}

/* As many shells are on their way as requests wait. */
static void pool_build_for_waiting(struct pool *pool, struct function *f)
{
	unsigned wanted = f->waiting, room = f->config.concurrency - f->active;
	int ret = 0;

	if (!f->version) {
		pool_fail_waiting(f, "its template is not there");
		return;
	}
	if (monotonic_us() < f->refused_until_us) {
		pool_want_work(pool);
		return;
	}
	wanted = wanted < room ? wanted : room;
	while (ret == 0 && f->building < wanted && pool->building < POOL_BUILDS_MAX)
		ret = pool_build(pool, f, NULL);
	if (ret == -ENOSPC) {
		pool_make_room(pool);
	} else if (ret == -EAGAIN) {
		f->refused_until_us = monotonic_us() + POOL_BUSY_US;
		pool_want_work(pool);
	} else if (ret < 0 && ret != -EPIPE && !f->building) {
		pool_fail_waiting(f, error_text());
	}
}

void pool_dispatch(struct pool *pool, struct function *f)
{
	while (f->first && f->active < f->config.concurrency) {
		struct pool_shell *s = pool_pick(f->first);

		if (!s)
			break;
		pool_run(s, f->first);
	}
	if (!f->first || f->active >= f->config.concurrency)
		return;
	f->first->waited = true;
	pool_build_for_waiting(pool, f);
}
