/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a VM process (serve/machine/process.h), in the order of machine_main().
 */
#include "serve/machine/process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/io.h"
#include "arch/irqchip.h"
#include "boot/pages/read_ahead.h"
#include "devices/channel/channel.h"
#include "serve/machine/link.h"
#include "serve/machine/machine.h"
#include "vmm.h"

/* Stages of a start, in order; each is the time when it was over. */
enum process_stage {
	STAGE_PROCESS,
	STAGE_MEMORY,
	STAGE_COLD,
	STAGE_KVM,
	STAGE_DEVICES,
	STAGE_STATE,
	STAGE_POPULATE,
	STAGE_PREFAULT,
	STAGE_FIRST_EXIT,
	STAGE_READY,
	STAGE_FIRST_RESPONSE,
	STAGE_COUNT,
};

struct process {
	const struct machine_options *options;
	struct machine machine;
	struct link link;
	bool answered;
	struct note_rate log_rate;
	uint64_t stages[STAGE_COUNT]; /* monotonic us; 0: not reached */
};

static void process_stage(struct process *p, enum process_stage stage)
{
	if (!p->stages[stage])
		p->stages[stage] = monotonic_us();
}

/* Microseconds from the start of the process, CPU time before main included. */
static void process_print_stages(struct process *p)
{
	static const char *const names[STAGE_COUNT] = {
		"process",  "memory",   "cold",       "kvm",   "devices",        "state",
		"populate", "prefault", "first_exit", "ready", "first_response",
	};
	uint64_t start = p->options->main_us - p->options->process_us;
	char text[512];
	size_t at = 0;

	p->stages[STAGE_PROCESS] = p->options->main_us;
	p->stages[STAGE_FIRST_EXIT] = p->machine.vm.first_exit_us;
	for (unsigned i = 0; i < STAGE_COUNT; i++)
		if (p->stages[i])
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s %" PRIu64 "\n",
					       names[i], p->stages[i] - start);
	if (write(STDERR_FILENO, text, at) < 0)
		return;
}

/* --- Channel events, VM lock held --- */

static void process_ready(void *opaque)
{
	struct process *p = opaque;

	process_stage(p, STAGE_READY);
	if (p->options->supervisor_fd >= 0)
		link_ready(&p->link);
}

static void process_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct process *p = opaque;
	const struct machine_request *request = p->options->request;
	int ret;

	if (!request) {
		link_answer(&p->link, type, data, len);
		return;
	}
	p->answered = true;
	ret = request->answer(request->opaque, type, data, len);
	if (!request->deliver)
		process_stage(p, STAGE_FIRST_RESPONSE);
	if (ret < 0)
		vm_end(&p->machine.vm, VM_END_HOST, 0, "%s", error_text());
	else if (request->keep)
		setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	else if (type == CHANNEL_ERROR)
		vm_end(&p->machine.vm, VM_END_ANSWER_ERROR, 0,
		       "the guest answered with an error: %.*s", (int)(len < 160 ? len : 160),
		       (const char *)data);
	else
		vm_end(&p->machine.vm, VM_END_ANSWER, 0, "%s", "");
}

static void process_log(void *opaque, const void *data, size_t len)
{
	struct process *p = opaque;

	note_text(&p->log_rate, monotonic_us(), "guest", data, len);
}

static void process_quiesced(void *opaque)
{
	struct process *p = opaque;

	link_quiesced(&p->link);
}

static void process_broken(void *opaque, int err, const char *why)
{
	struct process *p = opaque;

	(void)err;
	if (p->options->request && p->machine.vm.state != VM_ENDED && !p->answered)
		vm_end(&p->machine.vm, VM_END_ANSWER_ERROR, 0,
		       "the guest ended the function channel before its answer: %s", why);
	link_broken(&p->link, why);
}

/* --- Building --- */

static void process_step(void *opaque, enum machine_step step)
{
	process_stage(opaque, step == MACHINE_KVM ? STAGE_KVM : STAGE_DEVICES);
}

static int process_memory(void *opaque, struct memory *memory)
{
	struct process *p = opaque;
	const struct machine_options *o = p->options;
	int ret = !o->snapshot    ? memory_create(memory, o->config->memory)
		  : o->map_memory ? o->map_memory(o->map_opaque, o->snapshot, memory)
				  : snapshot_map_memory(o->snapshot, memory);

	if (ret < 0)
		return ret;
	process_stage(p, STAGE_MEMORY);
	if (o->snapshot && memory->cow && read_ahead_if_cold(&o->snapshot->working_set, memory))
		process_stage(p, STAGE_COLD);
	return 0;
}

/* A stage that --timing does not show was not done: no working set, or a KVM that cannot. */
static void process_fetch_working_set(struct process *p)
{
	const struct working_set *ws = &p->options->snapshot->working_set;

	if (!ws->count)
		return;
	if (working_set_populate(ws, &p->machine.vm.memory))
		process_stage(p, STAGE_POPULATE);
	if (working_set_prefault(ws, &p->machine.vm))
		process_stage(p, STAGE_PREFAULT);
}

static int process_load_snapshot(struct process *p)
{
	int ret = machine_load(&p->machine, p->options->snapshot);

	if (ret < 0)
		return ret;
	process_stage(p, STAGE_STATE);
	process_fetch_working_set(p);
	if (p->options->clone)
		return machine_identify(&p->machine, p->options->clone_number);
	channel_restored(p->machine.channel, NULL);
	return 0;
}

static int process_boot_kernel(struct process *p, const struct machine_plan *plan)
{
	struct host_cpuid *host = host_cpuid_start();
	int ret = host ? machine_build(&p->machine, plan) : failf(ENOMEM, "out of memory");

	if (ret == 0)
		ret = machine_boot(&p->machine, p->options->config, host);
	host_cpuid_free(host);
	if (ret == 0)
		process_stage(p, STAGE_STATE);
	return ret;
}

/* The request is in the guest's queue before its first instruction. */
static int process_send_request(struct process *p)
{
	const struct machine_request *request = p->options->request;
	struct itimerval timer = { 0 };
	int ret;

	if (!request)
		return 0;
	ret = channel_request(p->machine.channel, 1, request->data, request->len,
			      (uint64_t)request->timeout_ms * 1000);
	if (ret < 0)
		return ret;
	timer.it_value.tv_sec = request->timeout_ms / 1000;
	timer.it_value.tv_usec = (suseconds_t)(request->timeout_ms % 1000) * 1000;
	setitimer(ITIMER_REAL, &timer, NULL);
	return 0;
}

static int process_make(struct process *p)
{
	const struct machine_options *options = p->options;
	const struct config *config = options->config;
	const struct channel_events events = {
		.ready = process_ready,
		.answer = process_answer,
		.log = process_log,
		.quiesced = process_quiesced,
		.broken = process_broken,
		.opaque = p,
	};
	const struct machine_plan plan = {
		.config = config,
		.snapshot = options->snapshot,
		.host = {
			.stdio = options->stdio,
			.ask = options->supervisor_fd >= 0 ? link_ask : NULL,
			.ask_opaque = &p->link,
		},
		/* Without a supervisor it is neither saved nor loaded again, and need not pay. */
		.saved = options->supervisor_fd >= 0,
		.events = &events,
		.memory = process_memory,
		.step = process_step,
		.opaque = p,
	};
	int ret;

	if (options->snapshot) {
		ret = machine_build(&p->machine, &plan);
		if (ret == 0)
			ret = process_load_snapshot(p);
	} else {
		ret = process_boot_kernel(p, &plan);
	}
	if (ret < 0 || options->supervisor_fd < 0)
		return ret;
	if (p->machine.vm.memory.cow)
		memory_open_pagemap(&p->machine.vm.memory);
	return link_init(&p->link, &p->machine.vm, &p->machine.devices, p->machine.channel,
			 options->supervisor_fd);
}

/* Passes the answer on; why it could not becomes the end of the machine. */
static void process_deliver(struct process *p)
{
	const struct machine_request *request = p->options->request;
	struct vm_end *end = &p->machine.vm.end;
	int ret = request->deliver ? request->deliver(request->opaque) : 0;

	process_stage(p, STAGE_FIRST_RESPONSE);
	if (ret == 0)
		return;
	end->reason = ret == -ETIMEDOUT ? VM_END_TIMEOUT
		      : ret == -EINTR   ? VM_END_SIGNAL
					: VM_END_HOST;
	snprintf(end->text, sizeof(end->text), "%s", error_text());
}

/* The last host resource is open: start the threads, close the door, run. */
static int process_run(struct process *p)
{
	int ret;

	io_close_inherited();
	ret = machine_confine(&p->machine,
			      p->options->supervisor_fd >= 0 ? CONFINE_SUPERVISED : CONFINE_ALONE);
	if (ret < 0)
		return ret;
	/* From here on what the guest wrote is read: rings of a restored machine, to begin with. */
	pthread_mutex_lock(&p->machine.vm.lock);
	ret = devices_start(&p->machine.devices);
	if (ret == 0)
		ret = process_send_request(p);
	pthread_mutex_unlock(&p->machine.vm.lock);
	if (ret < 0)
		return ret;
	if (p->options->supervisor_fd >= 0) {
		link_threads(&p->link);
		if (p->options->snapshot && channel_ready(p->machine.channel))
			link_ready(&p->link);
	}
	if (vm_run(&p->machine.vm) == VM_END_ANSWER)
		process_deliver(p);
	return 0;
}

/* One sentence, by the supervisor where there is one. */
static void process_say_end(struct process *p, int status)
{
	const struct machine_options *options = p->options;
	const struct vm_end *end = &p->machine.vm.end;

	if (options->supervisor_fd >= 0)
		link_ended(&p->link, status);
	else if (!end->text[0] || (options->one_of_many && end->reason == VM_END_SIGNAL))
		return;
	else if (options->one_of_many)
		notef("clone %u: %s", options->clone_number, end->text);
	else
		notef("%s", end->text);
}

int machine_status(const struct vm_end *end)
{
	switch (end->reason) {
	case VM_END_NONE:
	case VM_END_HOST:
		return STATUS_VIRGA;
	case VM_END_ANSWER_ERROR:
		return STATUS_ERROR;
	case VM_END_DEBUG_EXIT:
		return end->code;
	case VM_END_TIMEOUT:
		return STATUS_TIMEOUT;
	case VM_END_CRASH:
		return STATUS_CRASH;
	case VM_END_POWEROFF:
	case VM_END_RESET:
	case VM_END_QUIT:
	case VM_END_SIGNAL:
	case VM_END_ANSWER:
		return 0;
	}
	return STATUS_VIRGA;
}

int machine_main(const struct machine_options *options)
{
	struct process p = {
		.options = options,
		.machine = { .vm = { .kvm_fd = -1, .fd = -1 } },
		.link = { .fd = options->supervisor_fd },
	};
	int status, ret;

	vm_block_signals();
	ret = process_make(&p);
	if (ret == 0)
		ret = process_run(&p);
	if (ret < 0) {
		p.machine.vm.end = (struct vm_end){ .reason = VM_END_HOST };
		snprintf(p.machine.vm.end.text, sizeof(p.machine.vm.end.text), "%s", error_text());
	}
	status = machine_status(&p.machine.vm.end);
	devices_stop(&p.machine.devices);
	if (options->timing)
		process_print_stages(&p);
	note_rate_end(&p.log_rate, "guest");
	process_say_end(&p, status);
	devices_destroy(&p.machine.devices);
	channel_free(p.machine.channel);
	/* The rest goes with the process; after a failed start a thread may still use the loop. */
	if (ret == 0) {
		loop_fini(&p.machine.vm.loop);
		irqchip_destroy(&p.machine.vm);
	}
	return status;
}
