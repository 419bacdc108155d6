/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `virga snapshot` (serve/control/supervisor.h): a small QMP client over the control
 * socket. It waits with a time limit wherever it waits for the guest, and says on
 * stderr what it waits for once that has taken a second.
 */
#include "serve/cli/command.h"
#include "vmm.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/blob.h"
#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/base/unix_path.h"
#include "boot/snapshot/dir.h"
#include "serve/control/qmp.h"

#define CLIENT_LINE_MAX    (256u << 10)
#define CLIENT_NOTE_US     1000000u /* of waiting, then a note */
#define CLIENT_POLL_MIN_US 500u
#define CLIENT_POLL_MAX_US 50000u

struct qmp_client {
	const char *socket;
	int fd;
	uint32_t reply_ms;    /* until the guest is ready, then until it is being saved */
	uint64_t deadline_us; /* the end of that */
	struct blob in;
	bool ready;       /* QMP_READY_EVENT has come */
	bool shutdown;    /* SHUTDOWN has come */
	const char *what; /* it waits for, as a note says it; NULL once said */
	uint64_t note_us; /* when to say it */
};

/* --- Lines --- */

/* Begins a wait that is said on stderr when it lasts. */
static void qmp_client_waiting_for(struct qmp_client *c, const char *what)
{
	c->what = what;
	c->note_us = monotonic_us() + CLIENT_NOTE_US;
}

static int qmp_client_stranger(const struct qmp_client *c)
{
	return failf(EPROTO, "control socket %s: what answers there is not virga", c->socket);
}

/* Says what it waits for, once that has taken long. */
static void qmp_client_note(struct qmp_client *c)
{
	if (!c->what || monotonic_us() < c->note_us)
		return;
	notef("waiting for %s ...", c->what);
	c->what = NULL;
}

/* The whole time again. */
static void qmp_client_renew(struct qmp_client *c)
{
	c->deadline_us = monotonic_us() + c->reply_ms * 1000ull;
}

/* Waits until the deadline for bytes. -ETIMEDOUT without a sentence, -ECONNRESET at the end. */
static int qmp_client_fill(struct qmp_client *c)
{
	uint8_t data[4096];
	ssize_t len;

	for (;;) {
		struct pollfd in = { .fd = c->fd, .events = POLLIN };
		uint64_t now = monotonic_us();
		uint64_t until =
			c->what && c->note_us < c->deadline_us ? c->note_us : c->deadline_us;
		uint64_t wait_us = until > now ? until - now : 0;
		int n = poll(&in, 1, (int)((wait_us + 999) / 1000));

		if (n < 0 && errno != EINTR)
			return failf(errno, "control socket %s: %s", c->socket, strerror(errno));
		if (n > 0)
			break;
		qmp_client_note(c);
		if (monotonic_us() >= c->deadline_us)
			return -ETIMEDOUT;
	}
	len = recv(c->fd, data, sizeof(data), 0);
	if (len <= 0)
		return failf(ECONNRESET, "control socket %s: the connection was closed", c->socket);
	if (c->in.len + (size_t)len > CLIENT_LINE_MAX)
		return qmp_client_stranger(c);
	blob_put(&c->in, data, (size_t)len);
	return c->in.failed ? failf(ENOMEM, "out of memory") : 0;
}

/* The next message, owned by the caller; events are noted on the way. */
static int qmp_client_read(struct qmp_client *c, json_t **message)
{
	const uint8_t *end;
	json_t *event;
	size_t len;
	int ret;

	while (!c->in.len || !(end = memchr(c->in.data, '\n', c->in.len))) {
		ret = qmp_client_fill(c);
		if (ret < 0)
			return ret;
	}
	len = (size_t)(end - c->in.data) + 1;
	*message = json_loadb((const char *)c->in.data, len, 0, NULL);
	c->in.len -= len;
	memmove(c->in.data, c->in.data + len, c->in.len);
	if (!json_is_object(*message)) {
		json_decref(*message);
		return qmp_client_stranger(c);
	}
	event = json_object_get(*message, "event");
	if (json_is_string(event)) {
		c->ready = c->ready || !strcmp(json_string_value(event), QMP_READY_EVENT);
		c->shutdown = c->shutdown || !strcmp(json_string_value(event), "SHUTDOWN");
	}
	return 0;
}

/* The sentence of an error reply, borrowed from it; NULL when it is none. */
static const char *qmp_client_error(const json_t *message)
{
	return json_string_value(json_object_get(json_object_get(message, "error"), "desc"));
}

/* Sends a command (released here) and waits for its reply, whose "return" the caller owns. */
static int qmp_client_call(struct qmp_client *c, json_t *command, json_t **value)
{
	char *text = json_dumps(command, JSON_COMPACT);
	json_t *message = NULL;
	const char *error;
	ssize_t sent = -1;
	int ret = 0;

	json_decref(command);
	if (text)
		sent = send(c->fd, text, strlen(text), MSG_NOSIGNAL);
	free(text);
	if (sent < 0)
		return failf(ECONNRESET, "control socket %s: the connection was closed", c->socket);
	while (!ret) {
		ret = qmp_client_read(c, &message);
		if (ret < 0)
			break;
		*value = json_incref(json_object_get(message, "return"));
		error = qmp_client_error(message);
		if (error)
			ret = failf(EREMOTEIO, "%s", error);
		json_decref(message);
		if (*value)
			return 0;
	}
	if (ret == -ETIMEDOUT)
		failf(ETIMEDOUT, "control socket %s: no answer within %g s", c->socket,
		      c->reply_ms / 1e3);
	return ret;
}

static int qmp_client_execute(struct qmp_client *c, const char *name, json_t **value)
{
	return qmp_client_call(c, json_pack("{s:s}", "execute", name), value);
}

/* --- The steps of a snapshot --- */

static int qmp_client_connect(struct qmp_client *c)
{
	const char *error, *ready = NULL;
	json_t *greeting, *value = NULL;
	int ret;

	c->fd = unix_path_connect(c->socket, false);
	if (c->fd < 0)
		return failf(-c->fd, "control socket %s: %s; is a virga with --control %s running?",
			     c->socket, strerror(-c->fd), c->socket);
	ret = qmp_client_read(c, &value);
	if (ret == -ETIMEDOUT)
		return failf(ETIMEDOUT,
			     "control socket %s: no greeting within %g s; is the virga there "
			     "stopped?",
			     c->socket, c->reply_ms / 1e3);
	if (ret < 0)
		return ret;
	greeting = json_object_get(value, "QMP");
	/* One that is older offers none. */
	if (json_array_size(json_object_get(greeting, "capabilities")))
		ready = QMP_READY_CAPABILITY;
	error = qmp_client_error(value);
	if (!greeting)
		ret = error ? failf(EPROTO, "control socket %s: %s", c->socket, error)
			    : qmp_client_stranger(c);
	json_decref(value);
	value = NULL;
	if (ret == 0)
		ret = qmp_client_call(c,
				      json_pack("{s:s,s:{s:[s*]}}", "execute", "qmp_capabilities",
						"arguments", "enable", ready),
				      &value);
	if (ret == 0)
		json_decref(value);
	return ret;
}

static int qmp_client_wait_ready(struct qmp_client *c)
{
	json_t *value = NULL;
	int ret = qmp_client_execute(c, "query-status", &value);

	if (ret < 0)
		return ret;
	c->ready = c->ready || json_is_true(json_object_get(value, "ready"));
	json_decref(value);
	qmp_client_waiting_for(c, "the guest to say READY");
	while (!c->ready && !c->shutdown) {
		ret = qmp_client_read(c, &value);
		if (ret == -ETIMEDOUT)
			return failf(ETIMEDOUT,
				     "the guest did not say READY within %g s; --ready-timeout S "
				     "waits longer, --now does not wait",
				     c->reply_ms / 1e3);
		if (ret < 0)
			return ret;
		json_decref(value);
	}
	c->what = NULL;
	return c->ready ? 0 : failf(ESRCH, "the machine ended before the guest said READY");
}

/* One look at the state of the snapshot: 1 while it is being written. */
static int qmp_client_poll(struct qmp_client *c)
{
	json_t *value = NULL;
	int ret = qmp_client_execute(c, "query-migrate", &value);
	const char *status, *why;

	if (ret < 0)
		return ret;
	status = json_string_value(json_object_get(value, "status"));
	why = json_string_value(json_object_get(value, "error-desc"));
	if (!status)
		ret = failf(EPROTO, "control socket %s: the snapshot's state is not told",
			    c->socket);
	else if (!strcmp(status, "failed"))
		ret = failf(EREMOTEIO, "%s", why ? why : "the snapshot failed");
	else
		ret = strcmp(status, "completed") != 0;
	json_decref(value);
	return ret;
}

static int qmp_client_snapshot(struct qmp_client *c, const char *dir)
{
	uint64_t pause_us = CLIENT_POLL_MIN_US;
	json_t *value = NULL;
	uint64_t end_us;
	struct stat st;
	char *uri;
	int ret;

	if (asprintf(&uri, "file:%s.tmp/memory", dir) < 0)
		return failf(ENOMEM, "out of memory");
	qmp_client_renew(c);
	ret = qmp_client_call(c,
			      json_pack("{s:s,s:{s:s#}}", "execute", "migrate", "arguments", "uri",
					uri, (int)(strlen("file:") + strlen(dir))),
			      &value);
	if (ret < 0)
		goto out;
	json_decref(value);
	qmp_client_waiting_for(c, "the snapshot to be written");
	end_us = c->deadline_us;
	while ((ret = qmp_client_poll(c)) == 1) {
		struct timespec pause = { .tv_nsec = (long)pause_us * 1000 };

		qmp_client_note(c);
		/* A machine that stands still has not given the file its size. */
		if (stat(uri + strlen("file:"), &st) == 0 && !st.st_size &&
		    monotonic_us() >= end_us) {
			ret = failf(ETIMEDOUT, "the machine is not being saved after %g s",
				    c->reply_ms / 1e3);
			break;
		}
		nanosleep(&pause, NULL);
		qmp_client_renew(c);
		pause_us = pause_us * 2 < CLIENT_POLL_MAX_US ? pause_us * 2 : CLIENT_POLL_MAX_US;
	}
	/* A supervisor whose machine has ended finishes the snapshot before it hangs up. */
	if (ret == -ECONNRESET && lstat(dir, &st) == 0)
		ret = 0;
out:
	free(uri);
	return ret;
}

/* --- The command --- */

/* dir from the working directory; NULL with a sentence. Free it. */
static char *qmp_client_absolute(const char *dir)
{
	struct stat st;
	char *path = NULL;
	char *cwd;

	if (snapshot_dir_check_name(dir) < 0)
		return NULL;
	if (lstat(dir, &st) == 0) {
		failf(EEXIST, "snapshot %s: it exists already; give a name that is free", dir);
		return NULL;
	}
	if (*dir == '/')
		return strdup(dir);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		failf(errno, "the working directory: %s", strerror(errno));
	else if (asprintf(&path, "%s/%s", cwd, dir) < 0)
		path = NULL;
	free(cwd);
	return path;
}

int snapshot_command(const struct options *options)
{
	struct qmp_client c = { .socket = options->args[0],
				.fd = -1,
				.reply_ms = options->ready_timeout_ms };
	char *path = qmp_client_absolute(options->args[1]);
	int ret;

	if (!path)
		return command_failed("snapshot", STATUS_BAD_INPUT);
	qmp_client_renew(&c);
	ret = qmp_client_connect(&c);
	if (ret == 0 && !options->now)
		ret = qmp_client_wait_ready(&c);
	if (ret == 0)
		ret = qmp_client_snapshot(&c, path);
	if (c.fd >= 0)
		close(c.fd);
	blob_fini(&c.in);
	free(path);
	return ret < 0 ? command_failed("snapshot", STATUS_HOST) : 0;
}
