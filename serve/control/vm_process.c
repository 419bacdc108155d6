/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process as its supervisor sees it (serve/control/vm_process.h).
 */
#include "serve/control/vm_process.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "arch/vm.h"
#include "boot/snapshot/snapshot.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "vmm.h"

#define VM_PROCESS_PATH_MAX 256 /* more than a unix socket's path can have */

/* --- Its end --- */

/* Kills it; the sentence is what the user is told, unless it has said its own. */
static void vm_process_kill(struct vm_process *p, const char *sentence)
{
	if (!p->ended) {
		p->ended = true;
		p->status = STATUS_VIRGA;
		snprintf(p->verdict, sizeof(p->verdict), "%s", sentence);
	}
	if (!p->killed)
		kill(p->child, SIGKILL);
	p->killed = true;
}

static void vm_process_grace(struct vm_process *p)
{
	const struct itimerspec grace = { .it_value.tv_sec = VM_PROCESS_GRACE_S };

	timerfd_settime(p->timer_fd, 0, &grace, NULL);
}

static void vm_process_grace_over(void *opaque, uint32_t events)
{
	struct vm_process *p = opaque;
	char text[128];
	uint64_t count;

	(void)events;
	if (read(p->timer_fd, &count, sizeof(count)) < 0)
		return;
	snprintf(text, sizeof(text), "the VM process did not end within %d s and was killed",
		 VM_PROCESS_GRACE_S);
	vm_process_kill(p, text);
}

/* The machine runs no more: nobody needs to wait for it. */
static void vm_process_shutdown(struct vm_process *p, uint64_t reason)
{
	const char *name = reason == VM_END_POWEROFF || reason == VM_END_DEBUG_EXIT
				   ? "guest-shutdown"
			   : reason == VM_END_RESET  ? "guest-reset"
			   : reason == VM_END_CRASH  ? "guest-panic"
			   : reason == VM_END_QUIT   ? "host-qmp-quit"
			   : reason == VM_END_SIGNAL ? "host-signal"
						     : "host-error";
	json_t *data;

	if (p->view.state == VIEW_ENDED)
		return;
	p->view.state = VIEW_ENDED;
	snapshot_job_failed(&p->job, "the machine has ended");
	socket_complete_all(p->control, failf(ESRCH, "the machine has ended"));
	data = json_pack("{s:b,s:s}", "guest", !strncmp(name, "guest", 5), "reason", name);
	socket_event(p->control, "SHUTDOWN", data);
	json_decref(data);
}

void vm_process_quit(struct vm_process *p, int signal)
{
	struct message m;

	if (p->quitting)
		return;
	p->quitting = true;
	if (!p->child) {
		p->ended = true;
		vm_process_shutdown(p, signal ? VM_END_SIGNAL : VM_END_QUIT);
		loop_stop(p->loop);
		return;
	}
	vm_process_grace(p);
	message_init(&m, MESSAGE_QUIT);
	m.value = (uint32_t)signal;
	if (message_try(p->fd, &m) == -EAGAIN)
		vm_process_kill(p, "the VM process read no messages and was killed");
}

/* --- What it says --- */

static void vm_process_started(struct vm_process *p)
{
	if (p->started)
		return;
	p->started = true;
	if (p->view.state == VIEW_PRELAUNCH)
		p->view.state = VIEW_RUNNING;
}

static void vm_process_threads(struct vm_process *p, const char *text)
{
	char *end;

	vm_process_started(p);
	for (p->view.cpu_count = 0; p->view.cpu_count < VIEW_CPUS_MAX; text = end) {
		unsigned long id = strtoul(text, &end, 10);

		if (end == text)
			return;
		p->view.threads[p->view.cpu_count++] = (uint32_t)id;
	}
}

static void vm_process_ready(struct vm_process *p)
{
	vm_process_started(p);
	if (p->view.ready)
		return;
	p->view.ready = true;
	socket_event(p->control, QMP_READY_EVENT, NULL);
}

/* STOPPED and RUNNING: an event when something changed, then the reply to who asked. */
static void vm_process_changed(struct vm_process *p, enum view_state state, uint64_t ticket)
{
	vm_process_started(p);
	if (p->view.state != state && p->view.state != VIEW_ENDED) {
		p->view.state = state;
		socket_event(p->control, state == VIEW_PAUSED ? "STOP" : "RESUME", NULL);
	}
	socket_complete(p->control, ticket, 0);
}

/* The event first, as with STOP and RESUME; whether the guest obeys is its own business. */
static void vm_process_pressed(struct vm_process *p, const struct message *m)
{
	int ret = m->value ? failf(EIO, "%s", m->text) : 0;

	if (ret == 0 && p->view.state != VIEW_ENDED)
		socket_event(p->control, "POWERDOWN", NULL);
	socket_complete(p->control, m->id, ret);
}

static void vm_process_snapshot_done(struct vm_process *p, struct message *m)
{
	unsigned long long pause_us = 0;

	if (p->view.state == VIEW_SAVING)
		p->view.state = VIEW_RUNNING;
	if (m->value)
		snapshot_job_failed(&p->job, m->text);
	else if (sscanf(m->text, "pause_us %llu", &pause_us) == 1)
		snapshot_job_saved(&p->job, pause_us);
	else
		vm_process_kill(p, "the VM process did not say how long it paused and was killed");
}

/* What a device asked for: a descriptor, which is closed here, or -errno. */
static void vm_process_answer(struct vm_process *p, uint64_t id, int fd)
{
	struct message m;

	message_init(&m, MESSAGE_DEVICE_ANSWER);
	m.id = id;
	m.value = fd < 0 ? (uint32_t)-fd : 0;
	m.fd_count = fd >= 0;
	m.fds[0] = fd;
	/* Without room the answer is dropped: the VM process asks no more than it can be told. */
	message_try(p->fd, &m);
	if (fd >= 0)
		close(fd);
}

/* The path that the device has which asks, by the number in its question; NULL: it has none. */
static const char *vm_process_path(const struct vm_process *p, uint64_t number)
{
	const char *key;

	return number < p->devices->count
		       ? device_spec_answer(&p->devices->list[number], DEVICE_CONNECT, &key)
		       : NULL;
}

/* The guest connects to a port of the host: that is the unix socket PATH_PORT. */
static int vm_process_connect(const struct vm_process *p, uint64_t id, uint32_t port)
{
	const char *of_device = vm_process_path(p, id >> DEVICE_ASK_BITS);
	char path[VM_PROCESS_PATH_MAX];
	int len;

	if (!of_device)
		return -ECONNREFUSED;
	len = snprintf(path, sizeof(path), "%s_%u", of_device, port);
	return len < (int)sizeof(path) ? unix_path_connect(path, true) : -ENAMETOOLONG;
}

static void vm_process_ended(struct vm_process *p, struct message *m)
{
	if (!p->ended) {
		p->ended = true;
		p->status = m->value <= 255 ? (int)m->value : STATUS_VIRGA;
		snprintf(p->verdict, sizeof(p->verdict), "%.*s", (int)sizeof(p->verdict) - 1,
			 m->text);
	}
	vm_process_grace(p);
	vm_process_shutdown(p, m->id);
}

static void vm_process_handle(struct vm_process *p, struct message *m)
{
	text_clean(m->text);
	switch (m->type) {
	case MESSAGE_STOPPED:
		vm_process_changed(p, VIEW_PAUSED, m->id);
		break;
	case MESSAGE_RUNNING:
		vm_process_changed(p, VIEW_RUNNING, m->id);
		break;
	case MESSAGE_READY:
		vm_process_ready(p);
		break;
	case MESSAGE_SNAPSHOT_DONE:
		vm_process_snapshot_done(p, m);
		break;
	case MESSAGE_PRESSED:
		vm_process_pressed(p, m);
		break;
	case MESSAGE_CONNECT:
		vm_process_answer(p, m->id, vm_process_connect(p, m->id, m->value));
		break;
	case MESSAGE_THREADS:
		vm_process_threads(p, m->text);
		break;
	case MESSAGE_ANSWER: /* of no interest to a supervisor that asked for none */
	case MESSAGE_QUIESCED:
		break;
	case MESSAGE_ENDED:
		vm_process_ended(p, m);
		break;
	default:
		vm_process_kill(p, "the VM process sent a message of unknown type and was killed");
	}
	message_close_fds(m);
}

/* One message at a time: a VM process that sends many does not keep others waiting. */
static bool vm_process_receive(struct vm_process *p)
{
	struct message m;
	int ret = message_receive(p->fd, &m);

	if (ret == 1)
		vm_process_handle(p, &m);
	else if (ret == -EPROTO)
		vm_process_kill(p, "the VM process sent a malformed message and was killed");
	else if (ret != -EAGAIN && p->watch) {
		loop_remove(p->loop, p->watch);
		p->watch = NULL;
		vm_process_grace(p);
	}
	return ret == 1;
}

static void vm_process_event(void *opaque, uint32_t events)
{
	(void)events;
	vm_process_receive(opaque);
}

void vm_process_dead(struct vm_process *p)
{
	while (vm_process_receive(p))
		;
	vm_process_shutdown(p, VM_END_NONE);
}

/* --- What is asked of it --- */

static int vm_process_ask(struct vm_process *p, enum message_type type, uint64_t *ticket)
{
	struct message m;

	message_init(&m, type);
	m.id = *ticket = ++p->tickets;
	if (message_try(p->fd, &m) < 0)
		return failf(EIO, "the VM process does not listen");
	return -EINPROGRESS;
}

static int vm_process_snapshot(struct vm_process *p, const char *uri)
{
	char *text = config_print_saved(p->config);
	struct snapshot_config config;
	struct message m;
	int ret;

	if (!text)
		return failf(ENOMEM, "out of memory");
	ret = snapshot_job_start(&p->job, uri, text);
	if (ret == 0) {
		config = snapshot_config_of(text, strlen(text));
		message_init(&m, MESSAGE_SNAPSHOT);
		memcpy(m.text, &config, sizeof(config));
		m.text_len = sizeof(config);
		m.fd_count = 2;
		m.fds[0] = p->job.dir.state_fd;
		m.fds[1] = p->job.dir.memory_fd;
		if (message_try(p->fd, &m) < 0) {
			ret = failf(EIO, "the VM process does not listen");
			snapshot_job_failed(&p->job, error_text());
		} else if (p->view.state == VIEW_RUNNING) {
			p->view.state = VIEW_SAVING;
		}
	}
	free(text);
	return ret;
}

static int vm_process_request(void *opaque, enum view_request request, const char *uri,
			      uint64_t *ticket)
{
	struct vm_process *p = opaque;

	if (p->view.state == VIEW_ENDED)
		return failf(ESRCH, "the machine has ended");
	if (!p->child && request != VIEW_QUIT)
		return failf(ESRCH, "the machine has not been started");
	switch (request) {
	case VIEW_STOP:
		return vm_process_ask(p, MESSAGE_STOP, ticket);
	case VIEW_CONT:
		return vm_process_ask(p, MESSAGE_CONT, ticket);
	case VIEW_POWERDOWN:
		return vm_process_ask(p, MESSAGE_POWERDOWN, ticket);
	case VIEW_QUIT:
		vm_process_quit(p, 0);
		return 0;
	case VIEW_SNAPSHOT:
		return vm_process_snapshot(p, uri);
	}
	return failf(EINVAL, "unknown request");
}

/* --- Life --- */

int vm_process_init(struct vm_process *p, struct loop *loop, struct control_socket *control,
		    const struct config *config, const struct device_list *devices)
{
	*p = (struct vm_process){
		.config = config,
		.devices = devices,
		.loop = loop,
		.control = control,
		.fd = -1,
	};
	p->view.name = config->name;
	p->view.request = vm_process_request;
	p->view.opaque = p;
	snapshot_job_init(&p->job, loop, &p->view);
	p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (p->timer_fd < 0)
		return failf(errno, "cannot make a timer: %s", strerror(errno));
	p->timer_watch = loop_add(loop, p->timer_fd, EPOLLIN, vm_process_grace_over, p);
	return p->timer_watch ? 0 : -ENOMEM;
}

/* What runs in the VM's own process. */
struct vm_process_start {
	struct loop *loop;
	int (*vm)(void *opaque, int fd);
	void *opaque;
};

static int vm_process_main(void *opaque, int fd)
{
	const struct vm_process_start *start = opaque;

	loop_abandon(start->loop);
	return start->vm(start->opaque, fd);
}

int vm_process_start(struct vm_process *p, int (*vm)(void *opaque, int fd), void *opaque)
{
	struct vm_process_start start = { .loop = p->loop, .vm = vm, .opaque = opaque };
	struct child child;
	int ret = child_start(&child, vm_process_main, &start);

	if (ret < 0)
		return ret;
	p->child = child.pid;
	p->fd = child.fd;
	p->watch = loop_add(p->loop, p->fd, EPOLLIN, vm_process_event, p);
	return p->watch ? 0 : -ENOMEM;
}

void vm_process_fini(struct vm_process *p)
{
	snapshot_job_fini(&p->job);
	loop_remove(p->loop, p->watch);
	loop_remove(p->loop, p->timer_watch);
	if (p->timer_fd >= 0)
		close(p->timer_fd);
	if (p->fd >= 0)
		close(p->fd);
	for (unsigned i = 0; i < p->devices->count; i++)
		unix_path_remove_dead(vm_process_path(p, i));
}
