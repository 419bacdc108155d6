/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/serve/pool/pool_bed.h. What must always hold of a pool is in tests/unit/serve/pool/pool_check.c.
 */
#include "tests/unit/serve/pool/pool_bed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "tests/unit/arch/own_time.h"
#include "tests/unit/descriptors.h"

#define FAKE_PID  99999
#define STEPS_MAX 20000u

uint64_t pool_bed_memory = 128ull << 20;
uint32_t pool_bed_instances[2];
uint32_t pool_bed_written_pages = 10;

static struct pool_bed *the_bed; /* for what is wrapped */
static int last_pair[2] = { -1, -1 };

/* --- What the pool calls --- */

int __real_socketpair(int domain, int type, int protocol, int pair[2]);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2]);
pid_t __real_fork(void);
pid_t __wrap_fork(void);
int __real_kill(pid_t pid, int signal);
int __wrap_kill(pid_t pid, int signal);
pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_sealed_open(struct sealed *sealed, const char *name, struct snapshot *s);

int __wrap_socketpair(int domain, int type, int protocol, int pair[2])
{
	int ret = __real_socketpair(domain, type, protocol, pair);

	memcpy(last_pair, pair, sizeof(last_pair));
	return ret;
}

/* The new spawner is the test, on the pair that was made last. */
pid_t __wrap_fork(void)
{
	struct message hello;

	if (the_bed->no_forks) {
		the_bed->no_forks--;
		errno = EAGAIN;
		return -1;
	}
	assert_int_equal(the_bed->fd, -1);
	message_init(&hello, MESSAGE_SPAWNER);
	assert_int_equal(message_try(last_pair[1], &hello), 0);
	the_bed->fd = dup(last_pair[1]);
	the_bed->forks++;
	the_bed->template_count = 0;
	return FAKE_PID;
}

int __wrap_kill(pid_t pid, int signal)
{
	if (pid != FAKE_PID)
		return __real_kill(pid, signal);
	assert_int_equal(signal, SIGKILL);
	fake_spawner_dies(the_bed);
	return 0;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	return pid == FAKE_PID ? pid : __real_waitpid(pid, status, options);
}

/* A snapshot without vCPUs: its shape is its memory and two devices. */
int __wrap_sealed_open(struct sealed *sealed, const char *name, struct snapshot *s)
{
	*s = (struct snapshot){ .memory_fd = sealed->memory_fd, .path = strdup(name) };
	sealed->memory_fd = -1;
	blob_put_u64(&s->raw, pool_bed_memory);
	s->memory_size = pool_bed_memory;
	s->state.count = 2;
	for (unsigned i = 0; i < 2; i++)
		s->state.sections[i] = (struct state_section){ .name = "device",
							       .instance = pool_bed_instances[i] };
	s->working_set.written_pages = pool_bed_written_pages;
	return 0;
}

/* --- The fake spawner --- */

static struct fake_shell *fake_by_id(struct pool_bed *bed, uint64_t id)
{
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		if (bed->shells[i].state != FAKE_NONE && bed->shells[i].id == id)
			return &bed->shells[i];
	return NULL;
}

static bool fake_knows(const struct pool_bed *bed, uint32_t template)
{
	for (unsigned i = 0; i < bed->template_count; i++)
		if (bed->templates[i] == template)
			return true;
	return false;
}

static void fake_template(struct pool_bed *bed, const struct message *m)
{
	assert_int_equal(m->fd_count, 2);
	assert_true(m->text_len > 0);
	assert_true(bed->template_count < FAKE_TEMPLATES_MAX);
	assert_false(fake_knows(bed, (uint32_t)m->id));
	bed->templates[bed->template_count++] = (uint32_t)m->id;
}

static void fake_forget(struct pool_bed *bed, const struct message *m)
{
	for (unsigned i = 0; i < bed->template_count; i++)
		if (bed->templates[i] == m->id)
			bed->templates[i] = bed->templates[--bed->template_count];
}

static void fake_spawn(struct pool_bed *bed, struct message *m)
{
	struct fake_shell *s = bed->shells;

	assert_int_equal(m->fd_count, 1);
	assert_true(fake_knows(bed, m->value));
	assert_null(fake_by_id(bed, m->id));
	while (s->state != FAKE_NONE)
		s++;
	assert_true(s < bed->shells + FAKE_SHELLS_MAX);
	*s = (struct fake_shell){
		.id = m->id,
		.template = m->value,
		.armed = m->text[0] != SHELL_BARE,
		.fd = m->fds[0],
		.state = FAKE_MADE,
	};
	assert_int_equal(m->text_len, 1);
	assert_in_range(m->text[0], SHELL_BARE, SHELL_HURRIED);
	m->fds[0] = -1;
	bed->spawned++;
	if (!bed->manual)
		fake_ready(s, NULL);
}

void fake_tell_dead(struct pool_bed *bed, uint64_t id, int status)
{
	struct message m;

	message_init(&m, MESSAGE_DEAD);
	m.id = id;
	m.value = (uint32_t)status;
	if (bed->fd >= 0)
		assert_int_equal(message_try(bed->fd, &m), 0);
}

void fake_dies(struct pool_bed *bed, struct fake_shell *s, int status)
{
	close(s->fd);
	s->fd = -1;
	s->state = FAKE_NONE;
	fake_tell_dead(bed, s->id, status);
}

void fake_spawner_dies(struct pool_bed *bed)
{
	if (bed->fd >= 0)
		close(bed->fd);
	bed->fd = -1;
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++) {
		struct fake_shell *s = &bed->shells[i];

		if (s->state != FAKE_NONE)
			close(s->fd);
		s->state = FAKE_NONE;
	}
}

/* One order. */
static bool fake_order(struct pool_bed *bed)
{
	struct fake_shell *s;
	struct message m;

	if (bed->fd < 0 || bed->deaf || message_receive(bed->fd, &m) != 1)
		return false;
	switch (m.type) {
	case MESSAGE_TEMPLATE:
		fake_template(bed, &m);
		break;
	case MESSAGE_FORGET:
		fake_forget(bed, &m);
		break;
	case MESSAGE_SPAWN:
		fake_spawn(bed, &m);
		break;
	case MESSAGE_KILL:
		s = fake_by_id(bed, m.id);
		bed->killed += s != NULL;
		if (s)
			fake_dies(bed, s, SIGKILL);
		break;
	default:
		fail_msg("an order of type %u", m.type);
	}
	message_close_fds(&m);
	return true;
}

/* --- The fake shells --- */

/* Whoever has let it go does not hear it. */
static void fake_say(struct fake_shell *s, const struct message *m)
{
	int ret = message_try(s->fd, m);

	assert_true(ret == 0 || ret == -EPIPE || ret == -ECONNRESET);
}

void fake_ready(struct fake_shell *s, const char *text)
{
	struct message m;

	message_init(&m, MESSAGE_SHELL);
	m.value = text ? ENOMEM : 0;
	if (text)
		message_set_text(&m, text);
	fake_say(s, &m);
	s->state = text ? FAKE_OVER : FAKE_WAITS;
}

void fake_answer(struct fake_shell *s, enum invocation_outcome outcome, const char *text)
{
	struct answer_head head = { .outcome = outcome,
				    .log_len = 4,
				    .payload_len = (uint32_t)strlen(text) };
	struct message m;

	assert_int_equal(s->state, FAKE_RUNS);
	message_init(&m, MESSAGE_ANSWER);
	m.id = s->invocation;
	memcpy(m.text, &head, sizeof(head));
	memcpy(m.text + sizeof(head), "log\n", 4);
	memcpy(m.text + sizeof(head) + 4, text, strlen(text));
	m.text_len = (uint32_t)(sizeof(head) + 4 + strlen(text));
	fake_say(s, &m);
	if (s->head.policy == POLICY_ONCE || outcome == OUTCOME_NOT_JSON ||
	    outcome == OUTCOME_BROKEN || outcome == OUTCOME_ENDED || outcome == OUTCOME_CRASHED ||
	    outcome == OUTCOME_HOST || outcome == OUTCOME_TOO_LARGE) {
		s->state = FAKE_OVER;
	} else {
		s->state = FAKE_TURNS;
	}
}

/* As serve/machine/shell.c would take it: a template comes to a shell that has none, and to no other. */
static void fake_invoke(struct fake_shell *s, const struct message *m)
{
	size_t at = sizeof(s->head);

	assert_int_equal(m->type, MESSAGE_INVOKE);
	assert_int_equal(s->state, FAKE_WAITS);
	assert_true(m->text_len >= at);
	memcpy(&s->head, m->text, at);
	assert_int_equal(s->head.flags & INVOKE_TEMPLATE ? 1 : 0, !s->armed && !s->laid);
	assert_int_equal(m->fd_count, s->head.flags & INVOKE_TEMPLATE ? 2 : 0);
	assert_int_equal(m->text_len, at + s->head.environment_len + s->head.payload_len);
	assert_true(s->head.payload_len < sizeof(s->text));
	assert_true(s->head.deadline_us > 0);
	memcpy(s->text, m->text + at + s->head.environment_len, s->head.payload_len);
	s->text[s->head.payload_len] = '\0';
	s->laid = true;
	s->invocation = m->id;
	s->state = FAKE_RUNS;
}

/* What one has to do. */
static bool fake_shell_turn(struct pool_bed *bed, struct fake_shell *s)
{
	struct message m;
	int ret;

	if (s->state == FAKE_NONE || s->state == FAKE_RUNS) /* it does not listen while it runs */
		return false;
	ret = message_receive(s->fd, &m);
	if (ret == 1) {
		fake_invoke(s, &m);
		message_close_fds(&m);
		return true;
	}
	if (ret != -EAGAIN && bed->stubborn)
		return false;
	if (ret != -EAGAIN) {
		bed->let_go++;
		fake_dies(bed, s, 0);
		return true;
	}
	if (s->state == FAKE_TURNS && !bed->manual) {
		fake_ready(s, NULL);
		return true;
	}
	return false;
}

bool fake_turn(struct pool_bed *bed)
{
	bool more = false;

	while (fake_order(bed))
		more = true;
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		more |= fake_shell_turn(bed, &bed->shells[i]);
	return more;
}

unsigned fake_count(const struct pool_bed *bed, int state)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		count += bed->shells[i].state == (unsigned)state;
	return count;
}

struct fake_shell *fake_find(struct pool_bed *bed, int state, unsigned n)
{
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		if (bed->shells[i].state == (unsigned)state && n-- == 0)
			return &bed->shells[i];
	fail_msg("no shell is in state %d", state);
	return NULL;
}

struct fake_shell *fake_of(struct pool_bed *bed, const struct request *r)
{
	for (unsigned i = 0; i < FAKE_SHELLS_MAX; i++)
		if (bed->shells[i].state == FAKE_RUNS && bed->shells[i].invocation == r->inv.id)
			return &bed->shells[i];
	fail_msg("request %u runs nowhere", r->number);
	return NULL;
}

/* --- The pool --- */

struct pool_bed *pool_bed_open(unsigned shells_max, unsigned bare)
{
	const struct pool_limits limits = { .shells = shells_max, .bare = bare, .refill = 100000 };
	struct pool_bed *bed = calloc(1, sizeof(*bed));

	the_bed = bed;
	bed->fd = -1;
	bed->descriptors = descriptors_open();
	pthread_mutex_init(&bed->lock, NULL);
	loop_init(&bed->loop);
	assert_int_equal(timers_reserve(&bed->timers, shells_max + 8 + 2000), 0);
	if (pool_init(&bed->pool, &bed->loop, &bed->timers, &limits) < 0)
		fail_msg("%s", error_text());
	return bed;
}

void pool_bed_close(struct pool_bed *bed)
{
	pool_fini(&bed->pool);
	assert_null(bed->pool.functions);
	assert_null(bed->pool.versions);
	assert_null(bed->pool.shapes);
	assert_int_equal(bed->pool.alive, 0);
	assert_int_equal(bed->pool.waiting, 0);
	assert_int_equal(bed->pool.active, 0);
	assert_int_equal(bed->timers.count, 0);
	assert_int_equal(bed->fd, -1);
	loop_fini(&bed->loop);
	timers_fini(&bed->timers);
	assert_int_equal(descriptors_open(), bed->descriptors);
	free(bed);
}

struct function_version *pool_bed_version(struct pool_bed *bed, const char *name)
{
	struct sealed sealed = { .memory_fd = memfd_create("memory", MFD_CLOEXEC),
				 .parts_fd = memfd_create("parts", MFD_CLOEXEC) };
	struct function_version *v = function_version_new(&bed->pool, &sealed, name);

	if (!v)
		fail_msg("%s", error_text());
	return v;
}

struct function *pool_bed_function(struct pool_bed *bed, const char *name, bool version)
{
	struct function_config config;
	struct function *f;

	assert_int_equal(function_config_init(&config, name, name), 0);
	f = function_new(&bed->pool, &config);
	if (version)
		function_set_version(&bed->pool, f, pool_bed_version(bed, name));
	return f;
}

void pool_bed_step(struct pool_bed *bed)
{
	bool more = true;

	for (unsigned steps = 0; more; steps++) {
		if (steps > STEPS_MAX)
			fail_msg("the pool finds no rest");
		more = loop_step(&bed->loop, &bed->lock, 0) > 0;
		timers_run(&bed->timers, own_time_us);
		more |= fake_turn(bed);
		more |= bed->timers.count && bed->timers.heap[1]->at_us <= own_time_us;
		pool_bed_check(bed);
	}
}

void pool_bed_advance(struct pool_bed *bed, uint64_t us)
{
	uint64_t end_us = own_time_us + us;

	pool_bed_step(bed);
	while (bed->timers.count && bed->timers.heap[1]->at_us <= end_us) {
		own_time_us = bed->timers.heap[1]->at_us;
		pool_bed_step(bed);
	}
	own_time_us = end_us;
	pool_bed_step(bed);
}

/* --- Requests --- */

static void request_done(struct invocation *inv, const struct invocation_end *end)
{
	struct request *r = inv->opaque;

	r->done++;
	r->outcome = end->outcome;
	r->timed_out = end->timed_out;
	r->throttled = end->throttled;
	snprintf(r->data, sizeof(r->data), "%.*s", (int)end->len, (const char *)end->data);
	snprintf(r->log, sizeof(r->log), "%.*s", (int)end->log_len, end->log);
}

bool request_begin(struct pool_bed *bed, struct request *r, struct function *f, uint64_t us)
{
	unsigned number = r->number;
	const char *tenant = r->tenant;

	*r = (struct request){ .bed = bed, .number = number, .tenant = tenant };
	snprintf(r->payload, sizeof(r->payload), "request %u", number);
	r->inv = (struct invocation){
		.function = f,
		.deadline_us = own_time_us + us,
		.payload = r->payload,
		.payload_len = strlen(r->payload),
		.tenant = tenant,
		.tenant_len = tenant ? strlen(tenant) : 0,
		.done = request_done,
		.opaque = r,
	};
	r->accepted = true;
	if (!pool_invoke(&bed->pool, &r->inv)) {
		assert_int_equal(r->done, 0);
		r->accepted = false;
	}
	return r->accepted;
}

void request_cancel(struct request *r)
{
	assert_int_equal(r->done, 0);
	r->cancelled = true;
	pool_cancel(&r->bed->pool, &r->inv);
}

void request_expect(const struct request *r, enum invocation_outcome outcome, const char *part)
{
	if (r->done != 1 || r->outcome != outcome)
		fail_msg("request %u: done %u times, outcome %d: %s", r->number, r->done,
			 (int)r->outcome, r->data);
	if (!strstr(r->data, part))
		fail_msg("request %u: '%s' does not say '%s'", r->number, r->data, part);
}
