/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests in the pool (serve/pool.h): waiting, given to a shell, answered, timed out, given up.
 * This is the path that everything else here keeps clear.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/vm.h"
#include "serve/payload.h"
#include "serve/pool.h"

/* --- Waiting --- */

static void pool_queue(struct invocation *inv)
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

/* Takes the invocation from whoever has it. */
static void pool_forget(struct invocation *inv)
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

void pool_cancel(struct pool *pool, struct invocation *inv)
{
	struct pool_shell *s = inv->shell;
	struct function *f = inv->function;

	pool_forget(inv);
	if (s)
		pool_kill(s);
	pool_dispatch(pool, f);
}

/* A request that could not even run in its time is one too many. */
static void pool_timeout(void *opaque)
{
	struct invocation *inv = opaque;
	struct function *f = inv->function;
	struct pool_shell *s = inv->shell;
	const struct invocation_end end = { .outcome = OUTCOME_HOST,
					    .timed_out = s != NULL,
					    .throttled = s == NULL };

	pool_forget(inv);
	if (s)
		pool_kill(s);
	inv->done(inv, &end);
	pool_dispatch(f->pool, f);
}

/* --- To a shell --- */

/* The best there is, or NULL. */
static struct pool_shell *pool_pick(struct invocation *inv)
{
	struct function *f = inv->function;
	struct shape *shape = f->version ? f->version->shape : NULL;

	if (f->kept) {
		inv->tier = TIER_KEPT;
		return f->kept;
	}
	if (f->armed) {
		inv->tier = inv->waited ? TIER_BUILT : TIER_ARMED;
		return f->armed;
	}
	inv->tier = TIER_BARE;
	return shape ? shape->ready : NULL;
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
	f->alive++;
}

/* Gives the first request that waits to a shell. One of the two may turn out to be of no use. */
static void pool_run(struct pool_shell *s, struct invocation *inv)
{
	struct function *f = inv->function;
	int ret;

	inv->sent_ns = monotonic_ns();
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
	if (ret == -EAGAIN)
		pool_make_room(pool, f);
	else if (ret < 0 && !f->building)
		pool_fail_waiting(f, error_text());
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

bool pool_invoke(struct pool *pool, struct invocation *inv)
{
	struct function *f = inv->function;

	pool->last_us = monotonic_us();
	pool_arrived(pool, f);
	if (f->active + f->waiting >= f->config.concurrency + f->config.queue)
		return false;
	inv->id = ++pool->invocations;
	inv->shell = NULL;
	inv->waited = f->active < f->config.concurrency && !pool_pick(inv);
	inv->timer = (struct timer){ .expired = pool_timeout, .opaque = inv };
	timer_set(pool->timers, &inv->timer, inv->deadline_us);
	pool_queue(inv);
	pool_dispatch(pool, f);
	return true;
}

/* --- From a shell --- */

/* What follows an answer for the shell. */
static void pool_turn(struct pool_shell *s, enum outcome outcome)
{
	bool stands = outcome == OUTCOME_RESPONSE || outcome == OUTCOME_ERROR ||
		      outcome == OUTCOME_ANSWER_JSON;

	/* One that says that it has not run goes too: it may lie, and it has seen the request. */
	if (stands && s->settings == s->function->settings &&
	    s->function->config.policy != POLICY_ONCE) {
		pool_set_state(s, POOL_TURNING);
		timer_set(s->pool->timers, &s->timer, s->since_us + POOL_RESET_MS * 1000ull);
	} else {
		pool_hold(s);
	}
}

/* What the head counts, out of the message; false when it does not fit. */
static bool pool_parse_answer(const struct message *m, struct answer_head *head,
			      struct invocation_end *end, void **owned)
{
	const size_t at = sizeof(*head);

	*owned = NULL;
	if (m->text_len < at)
		return false;
	memcpy(head, m->text, at);
	if (head->outcome >= OUTCOME_COUNT || head->log_len > INVOCATION_LOG_MAX ||
	    head->log_len > m->text_len - at)
		return false;
	*end = (struct invocation_end){
		.outcome = (enum outcome)head->outcome,
		.head = head,
		.log = m->text + at,
		.log_len = head->log_len,
		.len = head->payload_len,
	};
	end->data = payload_at(m, at + head->log_len, head->payload_len,
			       m->fd_count ? m->fds[0] : -1, owned);
	return end->data != NULL;
}

void pool_answer(struct pool_shell *s, struct message *m)
{
	struct invocation *inv = s->invocation;
	struct invocation_end end;
	struct answer_head head;
	void *owned = NULL;
	struct function *f;

	if (s->state != POOL_RUNNING || !inv || m->id != inv->id ||
	    !pool_parse_answer(m, &head, &end, &owned)) {
		pool_died(s, "a shell sent what is no answer");
		return;
	}
	f = inv->function;
	f->stats.fallbacks[FALLBACK_NOT_COPIED] +=
		inv->tier != TIER_KEPT && head.flags & ANSWER_NOT_COPIED;
	pool_forget(inv);
	pool_turn(s, end.outcome);
	inv->done(inv, &end);
	free(owned);
	pool_dispatch(f->pool, f);
}
