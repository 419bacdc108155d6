/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests in the pool (serve/pool/state.h): waiting, given to a shell, ended. This is the path that
 * everything else here keeps clear.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/ipc/payload.h"
#include "serve/pool/state.h"

/* --- Waiting --- */

void pool_queue(struct invocation *inv)
{
	struct function *f = inv->function;

	inv->next = NULL;
	inv->previous = f->last;
	*(f->last ? &f->last->next : &f->first) = inv;
	f->last = inv;
	f->waiting++;
	f->pool->waiting++;
}

static void pool_unqueue(struct invocation *inv)
{
	struct function *f = inv->function;

	*(inv->previous ? &inv->previous->next : &f->first) = inv->next;
	*(inv->next ? &inv->next->previous : &f->last) = inv->previous;
	f->waiting--;
	f->pool->waiting--;
}

/* --- Ends --- */

void pool_forget(struct invocation *inv)
{
	struct function *f = inv->function;

	timer_clear(f->pool->timers, &inv->timer);
	if (inv->shell) {
		inv->shell->invocation = NULL;
		inv->shell = NULL;
		f->active--;
		f->pool->active--;
	} else {
		pool_unqueue(inv);
	}
	f->pool->last_us = monotonic_us();
}

void pool_fail(struct invocation *inv, const char *text)
{
	const struct invocation_end end = { .outcome = OUTCOME_HOST,
					    .data = text,
					    .len = strlen(text) };

	pool_forget(inv);
	inv->done(inv, &end);
}

void pool_fail_waiting(struct function *f, const char *text)
{
	while (f->first)
		pool_fail(f->first, text);
}

/* --- To a shell --- */

/* The first of a list that no other tenant has used, by policy reset or keep. */
static struct pool_shell *pool_pick_from(struct pool_shell *s, const struct invocation *inv)
{
	while (s && s->used &&
	       (s->tenant ? !inv->tenant || strlen(s->tenant) != inv->tenant_len ||
				    memcmp(s->tenant, inv->tenant, inv->tenant_len) != 0
			  : inv->tenant != NULL))
		s = s->next;
	return s;
}

struct pool_shell *pool_pick(struct invocation *inv)
{
	struct function *f = inv->function;
	struct shape *shape = f->version ? f->version->shape : NULL;
	struct pool_shell *s = pool_pick_from(f->kept, inv);

	inv->tier = TIER_KEPT;
	if (s)
		return s;
	s = pool_pick_from(f->armed, inv);
	inv->tier = inv->waited ? TIER_BUILT : TIER_ARMED;
	if (s)
		return s;
	inv->tier = TIER_BARE;
	s = shape ? shape->ready : NULL;
	return s && pool_has_memory(f->pool, pool_memory_of(f->version) - s->memory) ? s : NULL;
}

/* It is this tenant's from now on. */
static int pool_use(struct pool_shell *s, const struct invocation *inv)
{
	if (!s->used && inv->tenant && !(s->tenant = strndup(inv->tenant, inv->tenant_len)))
		return failf(ENOMEM, "out of memory");
	s->used = true;
	return 0;
}

/* 0; -EPIPE: the shell is not there any more; or -errno with a sentence. */
static int pool_send(struct pool_shell *s, const struct invocation *inv)
{
	const struct function *f = inv->function;
	uint64_t now_us = monotonic_us();
	struct message *m = &s->pool->out;
	struct invoke_head head = {
		.policy = f->config.policy,
		.flags = !f->config.json                          ? 0
			 : inv->payload_len > INVOCATION_LOOK_MAX ? INVOKE_JSON | INVOKE_LOOK
								  : INVOKE_JSON,
		.number = (uint32_t)inv->id,
		.environment_len = (uint32_t)f->config.environment_len,
		.payload_len = (uint32_t)inv->payload_len,
		.deadline_us = inv->deadline_us > now_us ? inv->deadline_us - now_us : 1,
	};
	int ret, put;

	message_init(m, MESSAGE_INVOKE);
	m->id = inv->id;
	if (s->state == POOL_BARE) {
		head.flags |= INVOKE_TEMPLATE;
		m->fds[0] = f->version->sealed.memory_fd;
		m->fds[1] = f->version->sealed.parts_fd;
		m->fd_count = 2;
	}
	m->text_len = sizeof(head);
	if (head.environment_len)
		payload_put(m, f->config.environment, f->config.environment_len);
	put = payload_put(m, inv->payload, inv->payload_len);
	if (put < 0)
		return put;
	head.flags |= put ? INVOKE_MEMFD : 0;
	memcpy(m->text, &head, sizeof(head));
	ret = message_try(s->fd, m);
	if (put)
		close(m->fds[m->fd_count - 1]);
	if (ret == 0 || ret == -EPIPE || ret == -ECONNRESET)
		return ret ? -EPIPE : 0;
	return failf(-ret, "a request cannot be given to a machine: %s", strerror(-ret));
}

/* What it means that this shell takes this request. */
static void pool_count_tier(const struct invocation *inv)
{
	struct function *f = inv->function;

	f->stats.tiers[inv->tier]++;
	if (inv->waited)
		f->stats.fallbacks[FALLBACK_NO_SHELL]++;
	if (inv->tier == TIER_BARE && f->config.pool_max)
		f->stats.fallbacks[FALLBACK_BARE]++;
	if (inv->tier != TIER_KEPT && !f->version->written_pages)
		f->stats.fallbacks[FALLBACK_NO_WORKING_SET]++;
}

void pool_assign(struct pool_shell *s, struct function *f)
{
	s->function = f;
	s->version = f->version;
	s->version->users++;
	s->settings = f->settings;
	pool_charge(s, pool_memory_of(s->version));
	f->alive++;
}

void pool_run(struct pool_shell *s, struct invocation *inv)
{
	struct function *f = inv->function;
	int ret;

	inv->sent_ns = monotonic_ns();
	ret = pool_use(s, inv);
	if (ret == 0)
		ret = pool_send(s, inv);
	if (ret == -EPIPE) {
		inv->sent_ns = 0;
		s->pool->stats.died++;
		pool_kill(s);
		return;
	}
	if (ret < 0) {
		pool_fail(inv, error_text());
		return;
	}
	pool_unqueue(inv);
	pool_count_tier(inv);
	timer_clear(s->pool->timers, &s->timer);
	pool_set_state(s, POOL_RUNNING);
	if (!s->function)
		pool_assign(s, f);
	s->settings = f->settings;
	memcpy(inv->version, s->version->tag, sizeof(inv->version));
	s->invocation = inv;
	inv->shell = s;
	f->active++;
	s->pool->active++;
}
