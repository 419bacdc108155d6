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
#include "arch/layout.h"
#include "boot/boot.h"
#include "boot/devices.h"
#include "boot/identity.h"
#include "boot/pages/read_ahead.h"
#include "devices/channel/channel.h"
#include "devices/device.h"
#include "seccomp/confine.h"
#include "serve/machine/link.h"
#include "vmm.h"

/* Stages of a start, in order; each is the time when it was over. */
enum machine_stage {
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

struct machine {
	const struct machine_options *options;
	struct vm vm;
	struct devices devices;
	struct channel *channel;
	struct link link;
	bool answered;
	struct note_rate log_rate;
	uint64_t stages[STAGE_COUNT]; /* monotonic us; 0: not reached */
};

static void machine_stage(struct machine *m, enum machine_stage stage)
{
	if (!m->stages[stage])
		m->stages[stage] = monotonic_us();
}

/* Microseconds from the start of the process, CPU time before main included. */
static void machine_print_stages(struct machine *m)
{
	static const char *const names[STAGE_COUNT] = {
		"process",  "memory",   "cold",       "kvm",   "devices",        "state",
		"populate", "prefault", "first_exit", "ready", "first_response",
	};
	uint64_t start = m->options->main_us - m->options->process_us;
	char text[512];
	size_t at = 0;

	m->stages[STAGE_PROCESS] = m->options->main_us;
	m->stages[STAGE_FIRST_EXIT] = m->vm.first_exit_us;
	for (unsigned i = 0; i < STAGE_COUNT; i++)
		if (m->stages[i])
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s %" PRIu64 "\n",
					       names[i], m->stages[i] - start);
	if (write(STDERR_FILENO, text, at) < 0)
		return;
}

/* --- Channel events, VM lock held --- */

static void machine_ready(void *opaque)
{
	struct machine *m = opaque;

	machine_stage(m, STAGE_READY);
	if (m->options->supervisor_fd >= 0)
		link_ready(&m->link);
}

static void machine_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct machine *m = opaque;
	const struct machine_request *request = m->options->request;
	int ret;

	if (!request) {
		link_answer(&m->link, type, data, len);
		return;
	}
	m->answered = true;
	ret = request->answer(request->opaque, type, data, len);
	if (!request->deliver)
		machine_stage(m, STAGE_FIRST_RESPONSE);
	if (ret < 0)
		vm_end(&m->vm, VM_END_HOST, 0, "%s", error_text());
	else if (request->keep)
		setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	else if (type == CHANNEL_ERROR)
		vm_end(&m->vm, VM_END_ANSWER_ERROR, 0, "the guest answered with an error: %.*s",
		       (int)(len < 160 ? len : 160), (const char *)data);
	else
		vm_end(&m->vm, VM_END_ANSWER, 0, "%s", "");
}

static void machine_log(void *opaque, const void *data, size_t len)
{
	struct machine *m = opaque;

	note_text(&m->log_rate, monotonic_us(), "guest", data, len);
}

static void machine_quiesced(void *opaque)
{
	struct machine *m = opaque;

	link_quiesced(&m->link);
}

static void machine_broken(void *opaque, int err, const char *why)
{
	struct machine *m = opaque;

	(void)err;
	if (m->options->request && m->vm.state != VM_ENDED && !m->answered)
		vm_end(&m->vm, VM_END_ANSWER_ERROR, 0,
		       "the guest ended the function channel before its answer: %s", why);
	link_broken(&m->link, why);
}

/* --- Building --- */

static int machine_devices(struct machine *m, const char *serial_default)
{
	const struct config *config = m->options->config;
	const struct device_host host = {
		.serial = config->serial ? config->serial : serial_default,
		.vsock = config->vsock,
		.ask = m->options->supervisor_fd >= 0 ? link_connect : NULL,
		.ask_opaque = &m->link,
		.channel = m->channel,
	};
	struct device_list list;
	int ret = m->options->snapshot ? snapshot_devices(m->options->snapshot, &list)
				       : boot_devices(config, &list);

	if (ret == 0)
		ret = devices_create(&m->devices, &m->vm, &list, &host);
	device_list_fini(&list);
	machine_stage(m, STAGE_DEVICES);
	return ret;
}

static int machine_load_kernel(struct machine *m, struct host_cpuid *host)
{
	const struct config *config = m->options->config;
	struct image kernel = image_builtin(), initrd = { 0 };
	struct boot_regs regs;
	struct boot_source source = {
		.kernel = &kernel,
		.cmdline = config->cmdline ? config->cmdline : "",
		.vcpu_count = config->cpus,
		.devices = &m->devices,
	};
	int ret = config->kernel ? image_open(&kernel, config->kernel) : 0;

	if (ret < 0)
		return ret;
	if (config->initrd) {
		ret = image_open(&initrd, config->initrd);
		if (ret < 0)
			goto close_kernel;
		source.initrd = &initrd;
	}
	ret = boot_load(&m->vm.memory, &source, &regs);
	for (unsigned i = 0; ret == 0 && i < config->cpus; i++)
		ret = vcpu_boot(&m->vm.vcpus[i], &regs, host);
	if (ret == 0)
		ret = identity_write(&m->vm, 0);
	if (source.initrd)
		image_close(&initrd);
close_kernel:
	image_close(&kernel);
	return ret;
}

static int machine_boot_with(struct machine *m, struct host_cpuid *host)
{
	const struct config *config = m->options->config;
	struct memory memory;
	int ret = memory_create(&memory, config->memory);

	if (ret < 0)
		return ret;
	machine_stage(m, STAGE_MEMORY);
	ret = vm_create(&m->vm, &memory, config->cpus);
	if (ret < 0)
		return ret;
	machine_stage(m, STAGE_KVM);
	if ((ret = machine_devices(m, "stdio")) < 0 || (ret = machine_load_kernel(m, host)) < 0)
		return ret;
	machine_stage(m, STAGE_STATE);
	return 0;
}

static int machine_boot(struct machine *m)
{
	struct host_cpuid *host = host_cpuid_start();
	int ret = host ? machine_boot_with(m, host) : failf(ENOMEM, "out of memory");

	host_cpuid_free(host);
	return ret;
}

/* A stage that --timing does not show was not done: no working set, or a KVM that cannot. */
static void machine_fetch_working_set(struct machine *m)
{
	const struct working_set *ws = &m->options->snapshot->working_set;

	if (!ws->count)
		return;
	if (working_set_populate(ws, &m->vm.memory))
		machine_stage(m, STAGE_POPULATE);
	if (working_set_prefault(ws, &m->vm))
		machine_stage(m, STAGE_PREFAULT);
}

static int machine_load_snapshot(struct machine *m)
{
	struct snapshot *snapshot = m->options->snapshot;
	const struct identity *identity = NULL;
	struct memory memory;
	int ret = m->options->map_memory
			  ? m->options->map_memory(m->options->map_opaque, snapshot, &memory)
			  : snapshot_map_memory(snapshot, &memory);

	if (ret < 0)
		return ret;
	machine_stage(m, STAGE_MEMORY);
	if (memory.cow && read_ahead_if_cold(&snapshot->working_set, &memory))
		machine_stage(m, STAGE_COLD);
	ret = vm_create(&m->vm, &memory, snapshot->vcpu_count);
	if (ret < 0)
		return ret;
	machine_stage(m, STAGE_KVM);
	if ((ret = machine_devices(m, "none")) < 0 ||
	    (ret = snapshot_load(snapshot, &m->vm, &m->devices)) < 0)
		return ret;
	machine_stage(m, STAGE_STATE);
	machine_fetch_working_set(m);
	if (m->options->clone) {
		ret = identity_write(&m->vm, m->options->clone_number);
		if (ret < 0)
			return ret;
		identity = memory_at(&m->vm.memory, LAYOUT_IDENTITY, sizeof(*identity));
	}
	channel_restored(m->channel, identity ? identity->generation_id : NULL);
	return 0;
}

/* The request is in the guest's queue before its first instruction. */
static int machine_send_request(struct machine *m)
{
	const struct machine_request *request = m->options->request;
	struct itimerval timer = { 0 };
	int ret;

	if (!request)
		return 0;
	ret = channel_request(m->channel, 1, request->data, request->len,
			      (uint64_t)request->timeout_ms * 1000);
	if (ret < 0)
		return ret;
	timer.it_value.tv_sec = request->timeout_ms / 1000;
	timer.it_value.tv_usec = (suseconds_t)(request->timeout_ms % 1000) * 1000;
	setitimer(ITIMER_REAL, &timer, NULL);
	return 0;
}

static int machine_build(struct machine *m)
{
	const struct channel_events events = {
		.ready = machine_ready,
		.answer = machine_answer,
		.log = machine_log,
		.quiesced = machine_quiesced,
		.broken = machine_broken,
		.opaque = m,
	};
	int ret;

	m->channel = channel_new();
	if (!m->channel)
		return failf(ENOMEM, "out of memory");
	channel_set_events(m->channel, &events);
	ret = m->options->snapshot ? machine_load_snapshot(m) : machine_boot(m);
	if (ret < 0 || m->options->supervisor_fd < 0)
		return ret;
	if (m->vm.memory.cow)
		memory_open_pagemap(&m->vm.memory);
	return link_init(&m->link, &m->vm, &m->devices, m->channel, m->options->supervisor_fd);
}

/* Passes the answer on; why it could not becomes the end of the machine. */
static void machine_deliver(struct machine *m)
{
	const struct machine_request *request = m->options->request;
	struct vm_end *end = &m->vm.end;
	int ret = request->deliver ? request->deliver(request->opaque) : 0;

	machine_stage(m, STAGE_FIRST_RESPONSE);
	if (ret == 0)
		return;
	end->reason = ret == -ETIMEDOUT ? VM_END_TIMEOUT
		      : ret == -EINTR   ? VM_END_SIGNAL
					: VM_END_HOST;
	snprintf(end->text, sizeof(end->text), "%s", error_text());
}

/* The last host resource is open: start the threads, close the door, run. */
static int machine_run(struct machine *m)
{
	/* Capabilities belong to a thread: dropped before there is a second one. */
	int ret = confine_privileges();

	if (ret < 0 || (ret = vm_threads_start(&m->vm)) < 0)
		return ret;
	ret = confine_process(m->options->supervisor_fd >= 0 ? CONFINE_SUPERVISED : CONFINE_ALONE);
	if (ret < 0)
		return ret;
	/* From here on what the guest wrote is read: rings of a restored machine, to begin with. */
	pthread_mutex_lock(&m->vm.lock);
	ret = devices_start(&m->devices);
	if (ret == 0)
		ret = machine_send_request(m);
	pthread_mutex_unlock(&m->vm.lock);
	if (ret < 0)
		return ret;
	if (m->options->supervisor_fd >= 0) {
		link_threads(&m->link);
		if (m->options->snapshot && channel_ready(m->channel))
			link_ready(&m->link);
	}
	if (vm_run(&m->vm) == VM_END_ANSWER)
		machine_deliver(m);
	return 0;
}

/* One sentence, by the supervisor where there is one. */
static void machine_say_end(struct machine *m, int status)
{
	const struct machine_options *options = m->options;
	const struct vm_end *end = &m->vm.end;

	if (options->supervisor_fd >= 0)
		link_ended(&m->link, status);
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
	struct machine m = {
		.options = options,
		.vm = { .kvm_fd = -1, .fd = -1 },
		.link = { .fd = options->supervisor_fd },
	};
	int status, ret;

	vm_block_signals();
	ret = machine_build(&m);
	if (ret == 0)
		ret = machine_run(&m);
	if (ret < 0) {
		m.vm.end = (struct vm_end){ .reason = VM_END_HOST };
		snprintf(m.vm.end.text, sizeof(m.vm.end.text), "%s", error_text());
	}
	status = machine_status(&m.vm.end);
	devices_stop(&m.devices);
	if (options->timing)
		machine_print_stages(&m);
	note_rate_end(&m.log_rate, "guest");
	machine_say_end(&m, status);
	devices_destroy(&m.devices);
	channel_free(m.channel);
	/* The rest goes with the process; after a failed start a thread may still use the loop. */
	if (ret == 0)
		loop_fini(&m.vm.loop);
	return status;
}
