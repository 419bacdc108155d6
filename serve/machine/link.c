/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process's end of the pair to its supervisor (serve/machine/link.h). Everything here
 * runs confined: it opens nothing, and every path is the supervisor's business.
 */
#include "serve/machine/link.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "boot/snapshot/snapshot.h"
#include "serve/ipc/message.h"
#include "serve/ipc/payload.h"

/* --- Stop and go --- */

static void link_pause(struct link *link)
{
	vm_pause(link->vm);
	if (link->vm->state == VM_STOPPED)
		devices_stop(link->devices);
}

static void link_resume(struct link *link)
{
	if (link->vm->state != VM_STOPPED)
		return;
	if (devices_start(link->devices) < 0)
		vm_end(link->vm, VM_END_HOST, 0, "%s", error_text());
	else
		vm_resume(link->vm);
}

static void link_stop(struct link *link, struct message *m)
{
	if (!link->paused) {
		link_pause(link);
		link->paused = link->vm->state == VM_STOPPED;
	}
	if (!link->paused)
		return;
	m->type = MESSAGE_STOPPED;
	message_send(link->fd, m);
}

static void link_cont(struct link *link, struct message *m)
{
	if (link->paused) {
		link_resume(link);
		link->paused = false;
	}
	if (link->vm->state == VM_ENDED)
		return;
	m->type = MESSAGE_RUNNING;
	message_send(link->fd, m);
}

static void link_powerdown(struct link *link, struct message *m)
{
	int ret = devices_press(link->devices);

	m->type = MESSAGE_PRESSED;
	m->value = (uint32_t)-ret;
	message_set_text(m, ret < 0 ? error_text() : "");
	message_send(link->fd, m);
}

static void link_quit(struct link *link, uint32_t signal)
{
	const char *name = signal_name((int)signal);

	if (name)
		vm_end(link->vm, VM_END_SIGNAL, 0, "ended by %s", name);
	else
		vm_end(link->vm, VM_END_QUIT, 0, "ended by quit on the control socket");
}

/* --- Snapshot --- */

/* Pauses the machine, unless it is, and saves it. */
static int link_save(struct link *link, const struct message *m, uint64_t *pause_us)
{
	struct snapshot_config config;
	struct vm *vm = link->vm;
	uint64_t start_us;
	int ret;

	if (m->fd_count != 2 || m->text_len != sizeof(config))
		return failf(EPROTO, "the supervisor did not say what to save, or where");
	memcpy(&config, m->text, sizeof(config));
	start_us = monotonic_us();
	if (!link->paused)
		link_pause(link);
	if (vm->state != VM_STOPPED)
		return failf(ESRCH, "the machine has ended");
	ret = snapshot_save(vm, link->devices, &config, m->fds[0], m->fds[1]);
	*pause_us = monotonic_us() - start_us;
	return ret;
}

/* It is answered before the machine goes on: nothing the guest does then can hold the answer back. */
static void link_snapshot(struct link *link, struct message *m)
{
	uint64_t pause_us = 0;
	char text[64];
	int ret = link_save(link, m, &pause_us);

	message_close_fds(m);
	m->type = MESSAGE_SNAPSHOT_DONE;
	m->value = (uint32_t)-ret;
	if (ret == 0)
		snprintf(text, sizeof(text), "pause_us %llu", (unsigned long long)pause_us);
	message_set_text(m, ret == 0 ? text : error_text());
	message_send(link->fd, m);
	if (!link->paused)
		link_resume(link);
}

/* --- Requests through the supervisor --- */

void link_answer(struct link *link, enum channel_type type, const void *data, size_t len)
{
	struct message m;

	if (!link->asked)
		return;
	link->asked = false;
	message_init(&m, MESSAGE_ANSWER);
	m.value = type;
	if (payload_send(link->fd, &m, data, len) < 0)
		notef("%s", error_text());
}

void link_broken(struct link *link, const char *why)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "it ended the function channel: %s", why);

	link_answer(link, CHANNEL_ERROR, text, (size_t)len < sizeof(text) ? (size_t)len : 0);
}

void link_quiesced(struct link *link)
{
	struct message m;

	if (link->fd < 0)
		return;
	message_init(&m, MESSAGE_QUIESCED);
	message_send(link->fd, &m);
}

/* A request that cannot be sent is answered by its sentence. */
static void link_request(struct link *link, const struct message *m)
{
	void *data = NULL;
	size_t len;
	int ret = payload_take(m, &data, &len);

	link->asked = true;
	if (ret == 0)
		ret = channel_request(link->channel, m->id, data, len, m->value * 1000ull);
	if (ret < 0)
		link_answer(link, CHANNEL_ERROR, error_text(), strlen(error_text()));
	free(data);
}

static void link_quiesce(struct link *link)
{
	if (channel_quiesce(link->channel) < 0)
		notef("%s", error_text());
}

/* --- What devices ask --- */

int link_ask(void *opaque, uint64_t id, enum device_question kind, uint32_t value)
{
	static const enum message_type types[DEVICE_QUESTIONS] = {
		[DEVICE_CONNECT] = MESSAGE_CONNECT,
	};
	struct link *link = opaque;
	struct message m;

	message_init(&m, types[kind]);
	m.id = id;
	m.value = value;
	return message_try(link->fd, &m);
}

static void link_device_answer(struct link *link, struct message *m)
{
	int fd = m->fd_count ? m->fds[0] : -1;

	if (fd >= 0)
		m->fds[0] = -1;
	devices_answered(link->devices, m->id, (int)m->value, fd);
}

/* --- Messages --- */

static void link_handle(struct link *link, struct message *m)
{
	switch (m->type) {
	case MESSAGE_STOP:
		link_stop(link, m);
		break;
	case MESSAGE_CONT:
		link_cont(link, m);
		break;
	case MESSAGE_POWERDOWN:
		link_powerdown(link, m);
		break;
	case MESSAGE_QUIT:
		link_quit(link, m->value);
		break;
	case MESSAGE_SNAPSHOT:
		link_snapshot(link, m);
		break;
	case MESSAGE_DEVICE_ANSWER:
		link_device_answer(link, m);
		break;
	case MESSAGE_REQUEST:
		link_request(link, m);
		break;
	case MESSAGE_QUIESCE:
		link_quiesce(link);
		break;
	default:
		notef("message of unknown type %u from the supervisor", m->type);
	}
	message_close_fds(m);
}

/* Takes one message, or notices that the supervisor is gone. False when there was none. */
static bool link_receive(struct link *link)
{
	struct message m;
	int ret = message_receive(link->fd, &m);

	if (ret == 1) {
		link_handle(link, &m);
	} else if (ret != -EAGAIN) {
		loop_remove(&link->vm->loop, link->watch);
		link->watch = NULL;
		vm_end(link->vm, VM_END_HOST, 0, "the supervisor is gone");
	}
	return ret == 1;
}

static void link_event(void *opaque, uint32_t events)
{
	struct link *link = opaque;

	(void)events;
	while (link->watch && link_receive(link))
		;
}

int link_init(struct link *link, struct vm *vm, struct devices *devices, struct channel *channel,
	      int fd)
{
	*link = (struct link){ .vm = vm, .devices = devices, .channel = channel, .fd = fd };
	link->watch = loop_add(&vm->loop, fd, EPOLLIN, link_event, link);
	if (!link->watch) {
		link_fini(link);
		return -ENOMEM;
	}
	return 0;
}

void link_fini(struct link *link)
{
	loop_remove(&link->vm->loop, link->watch);
	link->watch = NULL;
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
}

/* --- Reports --- */

void link_ready(struct link *link)
{
	struct message m;

	message_init(&m, MESSAGE_READY);
	message_send(link->fd, &m);
}

void link_threads(struct link *link)
{
	char text[VM_VCPUS_MAX * 12];
	struct message m;
	size_t at = 0;

	for (unsigned i = 0; i < link->vm->vcpu_count; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%d", i ? " " : "",
				       i ? 0 : (int)gettid());
	message_init(&m, MESSAGE_THREADS);
	message_set_text(&m, text);
	message_send(link->fd, &m);
}

void link_ended(struct link *link, int status)
{
	const struct vm *vm = link->vm;
	struct message m;

	message_init(&m, MESSAGE_ENDED);
	m.id = vm ? vm->end.reason : VM_END_HOST;
	m.value = (uint32_t)status;
	message_set_text(&m, vm ? vm->end.text : error_text());
	message_send(link->fd, &m);
}
