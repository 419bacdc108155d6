/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens when a shell says something, ends or takes too long, and when the spawner ends
 * (serve/pool/state.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/ipc/payload.h"
#include "serve/pool/state.h"

#define POOL_BACK_OFF_US 100000u /* after a shell that could not be made */

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

/* What follows for the shell, f's, that has answered. */
static void pool_turn(struct pool_shell *s, const struct function *f,
		      enum invocation_outcome outcome)
{
	bool stands = outcome == OUTCOME_RESPONSE || outcome == OUTCOME_ERROR ||
		      outcome == OUTCOME_ANSWER_JSON;

	/* One that says that it has not run goes too: it may lie, and it has seen the request. */
	if (stands && s->settings == f->settings && f->config.policy != POLICY_ONCE) {
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
		.outcome = (enum invocation_outcome)head->outcome,
		.head = head,
		.log = m->text + at,
		.log_len = head->log_len,
		.len = head->payload_len,
	};
	end->data = payload_at(m, at + head->log_len, head->payload_len,
			       m->fd_count ? m->fds[0] : -1, owned);
	return end->data != NULL;
}

/* What a shell's message means for its invocation. */
static void pool_answer(struct pool_shell *s, struct message *m)
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
	pool_turn(s, f, end.outcome);
	inv->done(inv, &end);
	free(owned);
	pool_dispatch(f->pool, f);
}

/* Limits what is said of machines that fail like this one, until one is made. */
static struct note_limit *pool_notes(const struct pool_shell *s)
{
	return s->function ? &s->function->build_notes
	       : s->shape  ? &s->shape->notes
			   : &s->pool->notes;
}

static void pool_note(const struct pool_shell *s, const char *text, const char *why)
{
	note_limited(pool_notes(s), "%s: %s%s",
		     s->function ? s->function->config.name : "bare shell", text, why);
}

/* One that was to be made could not be: those that waited for it are told if there is no other. */
static void pool_build_failed(struct pool_shell *s, const char *why)
{
	struct function *f = s->function;
	struct shape *shape = s->shape;

	pool_note(s, "no machine can be made: ", why);
	snprintf(s->pool->unable, sizeof(s->pool->unable), "%s", why);
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
	pool->unable[0] = '\0';
	pool->notes.said = 0;
	pool_notes(s)->said = 0;
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

/* It goes; why is said, but for what the guest did. */
static void pool_turn_failed(struct pool_shell *s, const struct message *m)
{
	if (s->function && m->value != ESHUTDOWN)
		note_limited(&s->function->turn_notes, "%s: a machine cannot be used again: %s",
			     s->function->config.name,
			     m->text_len ? m->text : "it does not say why");
	pool_died(s, "a shell does not get ready again");
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
	} else if (s->state == POOL_TURNING) {
		pool_turn_failed(s, m);
		return;
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

/* What it may take is over: while it is made, while it turns, or standing. */
static void pool_late(void *opaque)
{
	struct pool_shell *s = opaque;

	if (s->state == POOL_BUILDING) {
		pool_build_failed(s, "it takes too long");
	} else if (s->state == POOL_KEPT) {
		pool_hold(s);
	} else if (s->state == POOL_GOING) {
		pool_note(s, "a machine does not end by itself", "");
		pool_kill(s);
	} else {
		pool_died(s, "a shell does not get ready again");
	}
}

/* --- The spawner --- */

/* A shell's process is gone and reaped. */
static void pool_dead(void *opaque, uint64_t id, int status)
{
	struct pool *pool = opaque;
	struct pool_shell *s = &pool->shells[id % pool->limits.shells];
	const char *why = "the machine's process ended without an answer";
	char text[128];

	if (s->state == POOL_FREE || s->id != id)
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
		why = "the machine's process was killed by its system call filter (SIGSYS)";
	} else if (WIFSIGNALED(status)) {
		snprintf(text, sizeof(text), "the machine's process was killed by signal %d (%s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
		why = text;
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		pool_note(s, why, "");
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

/*
 * All shells are gone with it. They leave their lists first, so that no request is given to one of
 * them; those that ran have lost their machines; the rest gets others.
 */
static void pool_spawner_gone(void *opaque)
{
	struct pool *pool = opaque;
	bool at_once = monotonic_us() - pool->spawner_us >= POOL_SHORT_US;

	if (pool->spawner.ready)
		note_limited(&pool->notes,
			     "the spawner is gone, and all machines with it; starting another");
	else
		note_limited(&pool->notes, "no spawner can be started (%s); trying again",
			     pool->spawner.err ? strerror(pool->spawner.err) : "it ended at once");
	spawner_stop(&pool->spawner);
	for (unsigned i = 0; i < pool->limits.shells; i++) {
		struct pool_shell *s = &pool->shells[i];

		if (s->state == POOL_FREE || s->state == POOL_GOING)
			continue;
		pool->stats.died += s->state != POOL_HELD;
		pool_let_go(s);
	}
	if (at_once && pool_start_spawner(pool) < 0)
		note_limited(&pool->notes, "%s", error_text());
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

static void pool_spawner_ready(void *opaque)
{
	struct pool *pool = opaque;

	note_limited(&pool->notes, "the spawner runs again");
}

void pool_events_init(struct pool *pool)
{
	pool->spawner_events = (struct spawner_events){ .dead = pool_dead,
							.ready = pool_spawner_ready,
							.gone = pool_spawner_gone,
							.opaque = pool };
	pool->shell_event = pool_event;
	pool->shell_late = pool_late;
}
