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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "arch/vm.h"
#include "serve/ipc/message.h"
#include "vmm.h"

#define REMOTE_PATH_MAX 256 /* more than a unix socket's path can have */

/* --- Its end --- */

/* Kills it; the sentence is what the user is told, unless it has said its own. */
static void remote_kill(struct remote *r, const char *sentence)
{
	if (!r->ended) {
		r->ended = true;
		r->status = STATUS_VIRGA;
		snprintf(r->verdict, sizeof(r->verdict), "%s", sentence);
	}
	if (!r->killed)
		kill(r->child, SIGKILL);
	r->killed = true;
}

static void remote_grace(struct remote *r)
{
	const struct itimerspec grace = { .it_value.tv_sec = REMOTE_GRACE_S };

	timerfd_settime(r->timer_fd, 0, &grace, NULL);
}

static void remote_grace_over(void *opaque, uint32_t events)
{
	struct remote *r = opaque;
	char text[128];
	uint64_t count;

	(void)events;
	if (read(r->timer_fd, &count, sizeof(count)) < 0)
		return;
	snprintf(text, sizeof(text), "the VM process did not end within %d s and was killed",
		 REMOTE_GRACE_S);
	remote_kill(r, text);
}

/* The machine runs no more: nobody needs to wait for it. */
static void remote_shutdown(struct remote *r, uint64_t reason)
{
	const char *name = reason == VM_END_POWEROFF || reason == VM_END_DEBUG_EXIT
				   ? "guest-shutdown"
			   : reason == VM_END_RESET  ? "guest-reset"
			   : reason == VM_END_CRASH  ? "guest-panic"
			   : reason == VM_END_QUIT   ? "host-qmp-quit"
			   : reason == VM_END_SIGNAL ? "host-signal"
						     : "host-error";
	json_t *data;

	if (r->view.state == VIEW_ENDED)
		return;
	r->view.state = VIEW_ENDED;
	snapshot_job_failed(&r->job, "the machine has ended");
	control_complete_all(r->control, failf(ESRCH, "the machine has ended"));
	data = json_pack("{s:b,s:s}", "guest", !strncmp(name, "guest", 5), "reason", name);
	control_event(r->control, "SHUTDOWN", data);
	json_decref(data);
}

void remote_quit(struct remote *r, int signal)
{
	struct message m;

	if (r->quitting)
		return;
	r->quitting = true;
	if (!r->child) {
		r->ended = true;
		remote_shutdown(r, signal ? VM_END_SIGNAL : VM_END_QUIT);
		loop_stop(r->loop);
		return;
	}
	remote_grace(r);
	message_init(&m, MESSAGE_QUIT);
	m.value = (uint32_t)signal;
	if (message_try(r->fd, &m) == -EAGAIN)
		remote_kill(r, "the VM process read no messages and was killed");
}

/* --- What it says --- */

/* Text of the VM process on its way to a terminal or into JSON. */
static void remote_clean(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			*text = '?';
	}
}

static void remote_started(struct remote *r)
{
	if (r->started)
		return;
	r->started = true;
	if (r->view.state == VIEW_PRELAUNCH)
		r->view.state = VIEW_RUNNING;
}

static void remote_threads(struct remote *r, const char *text)
{
	char *end;

	remote_started(r);
	for (r->view.cpu_count = 0; r->view.cpu_count < VIEW_CPUS_MAX; text = end) {
		unsigned long id = strtoul(text, &end, 10);

		if (end == text)
			return;
		r->view.threads[r->view.cpu_count++] = (uint32_t)id;
	}
}

static void remote_ready(struct remote *r)
{
	remote_started(r);
	if (r->view.ready)
		return;
	r->view.ready = true;
	control_event(r->control, "VIRGA_READY", NULL);
}

/* STOPPED and RUNNING: an event when something changed, then the reply to who asked. */
static void remote_changed(struct remote *r, enum view_state state, uint64_t ticket)
{
	remote_started(r);
	if (r->view.state != state && r->view.state != VIEW_ENDED) {
		r->view.state = state;
		control_event(r->control, state == VIEW_PAUSED ? "STOP" : "RESUME", NULL);
	}
	control_complete(r->control, ticket, 0);
}

static void remote_snapshot_done(struct remote *r, struct message *m)
{
	unsigned long long pause_us = 0;

	if (r->view.state == VIEW_SAVING)
		r->view.state = VIEW_RUNNING;
	if (m->value)
		snapshot_job_failed(&r->job, m->text);
	else if (sscanf(m->text, "pause_us %llu", &pause_us) == 1)
		snapshot_job_saved(&r->job, pause_us);
	else
		remote_kill(r, "the VM process did not say how long it paused and was killed");
}

/* What a device asked for: a descriptor, which is closed here, or -errno. */
static void remote_answer(struct remote *r, uint64_t id, int fd)
{
	struct message m;

	message_init(&m, MESSAGE_DEVICE_ANSWER);
	m.id = id;
	m.value = fd < 0 ? (uint32_t)-fd : 0;
	m.fd_count = fd >= 0;
	m.fds[0] = fd;
	/* Without room the answer is dropped: the VM process asks no more than it can be told. */
	message_try(r->fd, &m);
	if (fd >= 0)
		close(fd);
}

/* The guest connects to a port of the host: that is the unix socket VSOCK_PORT. */
static int remote_connect(const struct remote *r, uint32_t port)
{
	char path[REMOTE_PATH_MAX];
	int len;

	if (!r->config->vsock)
		return -ECONNREFUSED;
	len = snprintf(path, sizeof(path), "%s_%u", r->config->vsock, port);
	return len < (int)sizeof(path) ? unix_path_connect(path, true) : -ENAMETOOLONG;
}

static void remote_ended(struct remote *r, struct message *m)
{
	if (!r->ended) {
		r->ended = true;
		r->status = m->value <= 255 ? (int)m->value : STATUS_VIRGA;
		snprintf(r->verdict, sizeof(r->verdict), "%.*s", (int)sizeof(r->verdict) - 1,
			 m->text);
	}
	remote_grace(r);
	remote_shutdown(r, m->id);
}

static void remote_handle(struct remote *r, struct message *m)
{
	remote_clean(m->text);
	switch (m->type) {
	case MESSAGE_STOPPED:
		remote_changed(r, VIEW_PAUSED, m->id);
		break;
	case MESSAGE_RUNNING:
		remote_changed(r, VIEW_RUNNING, m->id);
		break;
	case MESSAGE_READY:
		remote_ready(r);
		break;
	case MESSAGE_SNAPSHOT_DONE:
		remote_snapshot_done(r, m);
		break;
	case MESSAGE_CONNECT:
		remote_answer(r, m->id, remote_connect(r, m->value));
		break;
	case MESSAGE_THREADS:
		remote_threads(r, m->text);
		break;
	case MESSAGE_ANSWER: /* of no interest to a supervisor that asked for none */
	case MESSAGE_QUIESCED:
		break;
	case MESSAGE_ENDED:
		remote_ended(r, m);
		break;
	default:
		remote_kill(r, "the VM process sent a message of unknown type and was killed");
	}
	message_close_fds(m);
}

/* One message at a time: a VM process that sends many does not keep others waiting. */
static bool remote_receive(struct remote *r)
{
	struct message m;
	int ret = message_receive(r->fd, &m);

	if (ret == 1)
		remote_handle(r, &m);
	else if (ret == -EPROTO)
		remote_kill(r, "the VM process sent a malformed message and was killed");
	else if (ret != -EAGAIN && r->watch) {
		loop_remove(r->loop, r->watch);
		r->watch = NULL;
		remote_grace(r);
	}
	return ret == 1;
}

static void remote_event(void *opaque, uint32_t events)
{
	(void)events;
	remote_receive(opaque);
}

void remote_dead(struct remote *r)
{
	while (remote_receive(r))
		;
	remote_shutdown(r, VM_END_NONE);
}

/* --- What is asked of it --- */

static int remote_ask(struct remote *r, enum message_type type, uint64_t *ticket)
{
	struct message m;

	message_init(&m, type);
	m.id = *ticket = ++r->tickets;
	if (message_try(r->fd, &m) < 0)
		return failf(EIO, "the VM process does not listen");
	return -EINPROGRESS;
}

static int remote_snapshot(struct remote *r, const char *uri)
{
	char *config = config_print(r->config);
	struct message m;
	int ret;

	message_init(&m, MESSAGE_SNAPSHOT);
	if (!config)
		return failf(ENOMEM, "out of memory");
	if (strlen(config) > MESSAGE_TEXT_MAX)
		ret = failf(E2BIG,
			    "the configuration has %zu bytes, a snapshot holds %d: "
			    "use shorter paths",
			    strlen(config), MESSAGE_TEXT_MAX);
	else
		ret = snapshot_job_start(&r->job, uri, config);
	if (ret == 0) {
		message_set_text(&m, config);
		m.fd_count = 2;
		m.fds[0] = r->job.dir.state_fd;
		m.fds[1] = r->job.dir.memory_fd;
		if (message_try(r->fd, &m) < 0) {
			ret = failf(EIO, "the VM process does not listen");
			snapshot_job_failed(&r->job, error_text());
		} else if (r->view.state == VIEW_RUNNING) {
			r->view.state = VIEW_SAVING;
		}
	}
	free(config);
	return ret;
}

static int remote_request(void *opaque, enum view_request request, const char *uri,
			  uint64_t *ticket)
{
	struct remote *r = opaque;

	if (r->view.state == VIEW_ENDED)
		return failf(ESRCH, "the machine has ended");
	if (!r->child && request != VIEW_QUIT)
		return failf(ESRCH, "the machine has not been started");
	switch (request) {
	case VIEW_STOP:
		return remote_ask(r, MESSAGE_STOP, ticket);
	case VIEW_CONT:
		return remote_ask(r, MESSAGE_CONT, ticket);
	case VIEW_QUIT:
		remote_quit(r, 0);
		return 0;
	case VIEW_SNAPSHOT:
		return remote_snapshot(r, uri);
	}
	return failf(EINVAL, "unknown request");
}

/* --- Life --- */

int remote_init(struct remote *r, struct loop *loop, struct control *control,
		const struct config *config)
{
	*r = (struct remote){ .config = config, .loop = loop, .control = control, .fd = -1 };
	r->view.name = config->name;
	r->view.request = remote_request;
	r->view.opaque = r;
	snapshot_job_init(&r->job, loop, &r->view);
	r->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->timer_fd < 0)
		return failf(errno, "cannot make a timer: %s", strerror(errno));
	r->timer_watch = loop_add(loop, r->timer_fd, EPOLLIN, remote_grace_over, r);
	return r->timer_watch ? 0 : -ENOMEM;
}

/* In the child: it must not outlive its supervisor. */
static int remote_vm(struct remote *r, pid_t parent, int (*vm)(void *opaque, int fd), void *opaque,
		     int fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return STATUS_VIRGA;
	loop_abandon(r->loop);
	return vm(opaque, fd);
}

int remote_start(struct remote *r, int (*vm)(void *opaque, int fd), void *opaque)
{
	const pid_t parent = getpid();
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return failf(errno, "cannot make a socket pair: %s", strerror(errno));
	r->child = fork();
	if (r->child == 0) {
		close(pair[0]);
		_exit(remote_vm(r, parent, vm, opaque, pair[1]));
	}
	ret = r->child < 0 ? failf(errno, "cannot fork: %s", strerror(errno)) : 0;
	close(pair[1]);
	r->fd = pair[0];
	if (ret < 0) {
		r->child = 0;
		return ret;
	}
	r->watch = loop_add(r->loop, r->fd, EPOLLIN, remote_event, r);
	return r->watch ? 0 : -ENOMEM;
}

void remote_fini(struct remote *r)
{
	snapshot_job_fini(&r->job);
	loop_remove(r->loop, r->watch);
	loop_remove(r->loop, r->timer_watch);
	if (r->timer_fd >= 0)
		close(r->timer_fd);
	if (r->fd >= 0)
		close(r->fd);
	unix_path_remove_dead(r->config->vsock);
}
