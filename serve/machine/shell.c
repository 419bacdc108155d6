/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a shell (serve/machine/shell.h), in the order of shell_main(): built, confined,
 * then one invocation after the other.
 */
#include "serve/machine/shell.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/json_text.h"
#include "arch/layout.h"
#include "boot/snapshot/sealed.h"
#include "devices/channel/protocol.h"
#include "serve/ipc/invocation.h"
#include "serve/ipc/payload.h"
#include "serve/machine/machine.h"
#include "serve/machine/prepare.h"
#include "serve/machine/reset.h"

/* NOLINTNEXTLINE(misc-redundant-expression) */
_Static_assert(PAYLOAD_MAX == CHANNEL_PAYLOAD_MAX, "what a message holds, the guest takes");

#define SHELL_BUILD_STACK (64u << 10) /* what building one may use of the stack */

/* What is used lies together, so that an idle shell has few pages; the rest is never touched. */
struct shell {
	struct machine machine;
	struct snapshot *snapshot; /* that is loaded; NULL in a bare shell */
	struct reset reset;        /* for policy reset */
	bool late;                 /* it was loaded before the request, and its guest keeps time */
	bool copied;               /* its write set, in bulk */
	int fd;

	/* The invocation. */
	uint64_t id;
	enum policy policy;
	uint32_t flags;
	bool busy;         /* it waits for its answer */
	uint32_t reset_us; /* of the last reset; 0: there was none */
	uint64_t stages_ns[SHELL_STAGES];
	uint32_t log_len; /* bytes said so far; the last INVOCATION_LOG_MAX of them are in log */

	struct message message; /* the one that came or goes */
	struct snapshot laid;   /* of a bare shell that was given one */
	char log[INVOCATION_LOG_MAX];
};

static void shell_stage(struct shell *s, enum shell_stage stage)
{
	s->stages_ns[stage] = monotonic_ns();
}

/* --- Answers --- */

/* The log's last bytes, oldest first. */
static void shell_put_log(const struct shell *s, struct message *m, struct answer_head *head)
{
	uint32_t len = s->log_len < INVOCATION_LOG_MAX ? s->log_len : INVOCATION_LOG_MAX;
	uint32_t first = (s->log_len - len) % INVOCATION_LOG_MAX;
	uint32_t part = len < INVOCATION_LOG_MAX - first ? len : INVOCATION_LOG_MAX - first;

	head->log_len = (uint16_t)len;
	payload_put(m, s->log + first, part);
	payload_put(m, s->log, len - part);
}

/* Sends what became of the invocation. A front that is gone is noticed when waiting for the next. */
static void shell_send(struct shell *s, enum invocation_outcome outcome, const void *data,
		       size_t len)
{
	struct message *m = &s->message;
	struct answer_head head = { .outcome = outcome,
				    .flags = s->copied ? 0 : ANSWER_NOT_COPIED,
				    .reset_us = s->reset_us };
	int put;

	if (!s->busy)
		return;
	s->busy = false;
	shell_stage(s, SHELL_ANSWERED);
	memcpy(head.stages_ns, s->stages_ns, sizeof(head.stages_ns));
	message_init(m, MESSAGE_ANSWER);
	m->id = s->id;
	m->text_len = sizeof(head);
	shell_put_log(s, m, &head);
	put = payload_put(m, data, len);
	if (put < 0) {
		head.outcome = OUTCOME_HOST;
		len = strlen(error_text());
		payload_put(m, error_text(), len);
	}
	head.payload_len = (uint32_t)len;
	memcpy(m->text, &head, sizeof(head));
	message_send(s->fd, m);
	message_close_fds(m);
}

static void shell_send_text(struct shell *s, enum invocation_outcome outcome, const char *text)
{
	shell_send(s, outcome, text, strlen(text));
}

/* --- Channel events, VM lock held --- */

static void shell_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct shell *s = opaque;

	if (type == CHANNEL_ERROR)
		shell_send(s, OUTCOME_ERROR, data, len);
	else if (s->flags & INVOKE_JSON && !json_text_valid(data, len))
		shell_send_text(s, OUTCOME_ANSWER_JSON, "the answer is not JSON");
	else
		shell_send(s, OUTCOME_RESPONSE, data, len);
	if (s->policy == POLICY_ONCE) {
		vm_end(&s->machine.vm, VM_END_ANSWER, 0, "%s", "");
		return;
	}
	/* The front, woken on this CPU because a sender mostly sleeps next, answers before we go on. */
	sched_yield();
	vm_hold(&s->machine.vm);
}

static void shell_log(void *opaque, const void *data, size_t len)
{
	struct shell *s = opaque;
	const char *text = data;

	for (size_t i = 0; i < len; i++)
		s->log[s->log_len++ % INVOCATION_LOG_MAX] = text[i];
	/* Only the place in the ring and whether it is full count. */
	if (s->log_len >= 2 * INVOCATION_LOG_MAX)
		s->log_len -= INVOCATION_LOG_MAX;
}

static void shell_broken(void *opaque, int err, const char *why)
{
	struct shell *s = opaque;

	if (!s->busy)
		return;
	shell_send_text(s, err == EMSGSIZE ? OUTCOME_TOO_LARGE : OUTCOME_BROKEN, why);
	vm_end(&s->machine.vm, VM_END_ANSWER_ERROR, 0, "%s", why);
}

/* --- Building --- */

static void shell_fetch_working_set(struct shell *s)
{
	const struct working_set *ws = &s->snapshot->working_set;

	s->copied = working_set_populate(ws, &s->machine.vm.memory);
	shell_stage(s, SHELL_POPULATED);
}

/* State into the vCPUs and devices; then what needs that state. */
static int shell_load(struct shell *s)
{
	int ret = machine_load(&s->machine, s->snapshot);

	if (ret == 0)
		working_set_prefault(&s->snapshot->working_set, &s->machine.vm);
	shell_stage(s, SHELL_LOADED);
	return ret;
}

/* What a shell is built of while it is. */
struct shell_plan {
	struct snapshot *snapshot;
	bool bare;
};

static int shell_memory(void *opaque, struct memory *memory)
{
	const struct shell_plan *plan = opaque;
	int ret = plan->bare ? memory_reserve(memory, plan->snapshot->memory_size)
			     : snapshot_map_memory(plan->snapshot, memory);

	if (ret == 0)
		memory_open_pagemap(memory); /* for policy reset */
	return ret;
}

static int shell_build(struct shell *s, const struct shell_options *options)
{
	const struct channel_events events = {
		.answer = shell_answer,
		.log = shell_log,
		.broken = shell_broken,
		.opaque = s,
	};
	struct snapshot *snapshot = options->snapshot;
	struct shell_plan own = { .snapshot = snapshot, .bare = options->kind == SHELL_BARE };
	const struct machine_plan plan = {
		.snapshot = snapshot,
		.saved = true, /* policy reset */
		.events = &events,
		.memory = shell_memory,
		.opaque = &own,
	};
	int ret = machine_build(&s->machine, &plan);

	if (ret == 0)
		ret = vm_set_hosted(&s->machine.vm);
	if (ret < 0)
		return ret;
	vm_find_paging(&s->machine.vm);
	if (options->kind != SHELL_HURRIED)
		ret = prepare_vcpus(&s->machine.vm, snapshot);
	if (ret == 0 && own.bare)
		ret = prepare_strip(snapshot);
	if (ret < 0 || own.bare)
		return ret;
	s->snapshot = snapshot;
	s->late = snapshot_keeps_time(snapshot);
	shell_fetch_working_set(s);
	return shell_load(s);
}

/* --- An invocation --- */

/* The template that came with the invocation, over the reserved addresses. */
static int shell_lay(struct shell *s, struct message *m)
{
	struct sealed sealed = { .memory_fd = -1, .parts_fd = -1 };
	int ret;

	if (m->fd_count < 2 || s->snapshot)
		return failf(EPROTO, "a template came to a shell that has one, or without its "
				     "descriptors");
	sealed = (struct sealed){ .memory_fd = m->fds[0], .parts_fd = m->fds[1] };
	m->fds[0] = m->fds[1] = -1;
	ret = sealed_open(&sealed, "template", &s->laid);
	sealed_close(&sealed);
	if (ret < 0)
		return ret;
	s->snapshot = &s->laid;
	if (s->laid.memory_size != s->machine.vm.memory.size ||
	    s->laid.vcpu_count != s->machine.vm.vcpu_count)
		return failf(EINVAL, "a template of another shape came to a shell");
	ret = memory_lay(&s->machine.vm.memory, s->laid.memory_fd);
	s->laid.memory_fd = -1;
	return ret;
}

static int shell_arm(struct shell *s, struct message *m)
{
	int ret = shell_lay(s, m);

	if (ret < 0)
		return ret;
	shell_stage(s, SHELL_MAPPED);
	shell_fetch_working_set(s);
	return shell_load(s);
}

/* Identity, environment and request are in the guest's queue before its next instruction. */
static int shell_queue(struct shell *s, const struct invoke_head *head, const char *environment,
		       const void *payload)
{
	int ret;

	if (!channel_ready(s->machine.channel))
		return failf(ENOTCONN, "the template's guest had not said READY");
	if (s->late) {
		ret = snapshot_load_time(s->snapshot, &s->machine.vm);
		if (ret < 0)
			return ret;
		s->late = false;
	}
	if (s->policy != POLICY_KEEP || s->machine.vm.state == VM_CREATED) {
		ret = machine_identify(&s->machine, head->number);
		if (ret == 0 && head->environment_len)
			ret = channel_environment(s->machine.channel, environment,
						  head->environment_len);
		if (ret < 0)
			return ret;
	}
	ret = channel_request(s->machine.channel, s->id, payload, head->payload_len,
			      head->deadline_us);
	if (ret == 0)
		ret = devices_start(&s->machine.devices);
	shell_stage(s, SHELL_ENTERED);
	return ret;
}

/* Runs the guest until it has answered or ended. */
static void shell_run(struct shell *s)
{
	enum vm_end_reason reason = vm_run(&s->machine.vm);
	const char *text = s->machine.vm.end.text;

	if (!s->busy)
		return;
	if (reason == VM_END_CRASH)
		shell_send_text(s, OUTCOME_CRASHED, text);
	else if (reason == VM_END_POWEROFF || reason == VM_END_RESET || reason == VM_END_DEBUG_EXIT)
		shell_send_text(s, OUTCOME_ENDED, text[0] ? text : "the guest ended");
	else
		shell_send_text(s, OUTCOME_HOST, text);
}

static void shell_begin(struct shell *s, const struct message *m)
{
	s->id = m->id;
	s->busy = true;
	s->log_len = 0;
	shell_stage(s, SHELL_RECEIVED);
	s->stages_ns[SHELL_MAPPED] = s->stages_ns[SHELL_POPULATED] = s->stages_ns[SHELL_LOADED] =
		s->stages_ns[SHELL_ENTERED] = s->stages_ns[SHELL_RECEIVED];
}

static int shell_prepare(struct shell *s, struct message *m, const struct invoke_head *head,
			 const char *environment, const void *payload)
{
	int ret = 0;

	s->policy = head->policy;
	s->flags = head->flags;
	if (head->flags & INVOKE_TEMPLATE)
		ret = shell_arm(s, m);
	else if (!s->snapshot)
		ret = failf(EPROTO, "an invocation came to a bare shell without a template");
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->machine.vm.lock);
	ret = shell_queue(s, head, environment, payload);
	pthread_mutex_unlock(&s->machine.vm.lock);
	return ret;
}

/* False when it did not come to that. */
static bool shell_invoke(struct shell *s, struct message *m)
{
	const char *environment;
	struct invoke_head head;
	const void *payload;
	void *owned;
	bool used;
	int ret;

	shell_begin(s, m);
	payload = invocation_parse(m, &head, &environment, &owned);
	if (payload && head.flags & INVOKE_LOOK && !json_text_valid(payload, head.payload_len))
		shell_send_text(s, OUTCOME_NOT_JSON, "the request is not JSON");
	used = s->busy;
	ret = payload ? 0 : -EPROTO;
	if (ret == 0 && used)
		ret = shell_prepare(s, m, &head, environment, payload);
	if (owned)
		explicit_bzero(owned, head.payload_len);
	free(owned);
	message_close_fds(m);
	if (ret < 0)
		shell_send_text(s, ret == -ENOTCONN ? OUTCOME_BROKEN : OUTCOME_HOST, error_text());
	else if (used)
		shell_run(s);
	return used;
}

/* --- After it --- */

/* Memory, vCPUs and devices as the template has them, and nothing else left of the request. */
static int shell_reset(struct shell *s)
{
	uint64_t start_us = monotonic_us();
	int ret;

	pthread_mutex_lock(&s->machine.vm.lock);
	ret = reset_machine(&s->reset, s->snapshot, &s->machine.vm, &s->machine.devices);
	pthread_mutex_unlock(&s->machine.vm.lock);
	/* In ring 0 a guest can set a TSC that it does not look at. */
	s->late = s->machine.vm.remapped || snapshot_keeps_time(s->snapshot);
	explicit_bzero(&s->message, sizeof(s->message));
	explicit_bzero(s->log, sizeof(s->log));
	s->reset_us = (uint32_t)(monotonic_us() - start_us);
	return ret;
}

/* Tells the front that the shell waits, or why it does not. False when it cannot go on. */
static bool shell_report(struct shell *s, int ret)
{
	message_init(&s->message, MESSAGE_SHELL);
	s->message.id = s->machine.vm.remapped;
	s->message.value = (uint32_t)-ret;
	if (ret < 0)
		message_set_text(&s->message, error_text());
	return message_send(s->fd, &s->message) == 0 && ret == 0;
}

/* Makes the shell ready for the next invocation. False when it is of no more use. */
static bool shell_again(struct shell *s)
{
	int ret = 0;

	if (s->policy == POLICY_ONCE)
		return false;
	if (s->machine.vm.state != VM_STOPPED)
		return shell_report(s, failf(ESHUTDOWN, "its guest ended after its answer"));
	if (s->policy == POLICY_RESET) {
		ret = shell_reset(s);
	} else {
		pthread_mutex_lock(&s->machine.vm.lock);
		devices_stop(&s->machine.devices);
		pthread_mutex_unlock(&s->machine.vm.lock);
	}
	return shell_report(s, ret);
}

/* Nothing more will be asked of it. The VM stands until the front finds the time to let it go. */
static void shell_linger(struct shell *s)
{
	while (message_wait(s->fd, &s->message) == 1)
		message_close_fds(&s->message);
}

/* Pages of the stack that only building a machine has used are given back. */
static void shell_trim_stack(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(LAYOUT_PAGE_SIZE - 1);

	/* Below are pages that were never used, too: no failure counts. */
	madvise((void *)(here - LAYOUT_PAGE_SIZE - SHELL_BUILD_STACK), SHELL_BUILD_STACK,
		MADV_DONTNEED);
}

static void shell_serve(struct shell *s, const struct shell_options *options)
{
	int ret = shell_build(s, options);

	if (ret == 0)
		ret = machine_confine(&s->machine, CONFINE_SHELL);
	if (!shell_report(s, ret))
		return;
	shell_trim_stack();
	while (message_wait(s->fd, &s->message) == 1) {
		if (s->message.type != MESSAGE_INVOKE) {
			message_close_fds(&s->message);
			continue;
		}
		if (!shell_invoke(s, &s->message) || !shell_again(s))
			break;
	}
	shell_linger(s);
}

void shell_main(const struct shell_options *options)
{
	/* Not on the stack: most of it is never touched, and then takes no memory. */
	struct shell *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return;
	s->machine.vm.kvm_fd = s->machine.vm.fd = -1;
	s->fd = options->fd;
	vm_block_signals();
	shell_serve(s, options);
}
