/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake VM process and the QMP client of the supervisor's tests (supervisor_fixture.h).
 */
#include "tests/unit/serve/control/supervisor_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include "arch/base/unix_path.h"
#include "arch/vm.h"
#include "boot/config.h"
#include "serve/control/supervisor.h"

#define TIMEOUT_S 20

/* --- The fake VM process --- */

void vm_say(int fd, enum message_type type, uint64_t id, uint32_t value, const char *text)
{
	static struct message m;

	message_init(&m, type);
	m.id = id;
	m.value = value;
	message_set_text(&m, text);
	message_send(fd, &m);
}

void vm_end_with(int fd, enum vm_end_reason reason, uint32_t status, const char *text)
{
	vm_say(fd, MESSAGE_ENDED, reason, status, text);
	_exit(0);
}

static void vm_answer(int fd, struct message *m)
{
	char text[64];

	switch (m->type) {
	case MESSAGE_STOP:
		vm_say(fd, MESSAGE_STOPPED, m->id, 0, "");
		break;
	case MESSAGE_CONT:
		vm_say(fd, MESSAGE_RUNNING, m->id, 0, "");
		break;
	case MESSAGE_SNAPSHOT:
		if (m->fd_count != 2 || write(m->fds[0], m->text, m->text_len) < 1 ||
		    write(m->fds[1], "memory", 6) != 6)
			_exit(3);
		vm_say(fd, MESSAGE_SNAPSHOT_DONE, 0, 0, "pause_us 2345");
		break;
	case MESSAGE_QUIT:
		snprintf(text, sizeof(text), "ended by %u\r\x1b[2J", m->value);
		vm_end_with(fd, m->value ? VM_END_SIGNAL : VM_END_QUIT, 0, text);
		break;
	default:
		_exit(4);
	}
	message_close_fds(m);
}

/* The next message; the process ends when the supervisor is gone. */
void vm_next(int fd, struct message *m)
{
	struct pollfd in = { .fd = fd, .events = POLLIN };

	poll(&in, 1, TIMEOUT_S * 1000);
	if (message_receive(fd, m) != 1)
		_exit(5);
}

void vm_serve(int fd)
{
	static struct message m;

	for (;;) {
		vm_next(fd, &m);
		vm_answer(fd, &m);
	}
}

void vm_plain(int fd)
{
	vm_say(fd, MESSAGE_THREADS, 0, 0, "11 22");
	vm_say(fd, MESSAGE_READY, 0, 0, "");
	vm_serve(fd);
}

/* Dies between the snapshot's request and its end. */
void vm_dies_saving(int fd)
{
	static struct message m;

	vm_say(fd, MESSAGE_READY, 0, 0, "");
	vm_next(fd, &m);
	if (write(m.fds[1], "half", 4) == 4)
		raise(SIGKILL);
}

/* --- The supervisor in a process of its own --- */

static int supervisor_vm(void *opaque, int fd)
{
	struct fixture *f = opaque;

	f->vm(fd);
	return 77;
}

/* As long as they may be, of what takes two bytes in JSON. */
static void config_make_long(struct config *config)
{
	char path[4096];

	memset(path, '"', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	config_set(config, "kernel", path);
	config_set(config, "initrd", path);
	config_set(config, "cmdline", "as usual");
}

/* Asks as virtio_vsock does, with a path of its own. */
struct asking {
	char *path;
};
static const struct device_option asking_options[] = {
	{ .key = KEY_TEXT(struct asking, path, "socket", 1, 90), .answers = DEVICE_CONNECT },
	{ .key = KEY_END },
};
static const struct device_class asking_class = { .name = "asking",
						  .size = sizeof(struct asking),
						  .options = asking_options };

static int supervisor_main(struct fixture *f)
{
	json_t *other = json_string(f->other);
	struct supervisor_options options = { .vm = supervisor_vm, .opaque = f };
	struct config config;

	config_init(&config);
	config_set(&config, "control", f->control);
	config_set(&config, "vsock", f->vsock);
	config_set(&config, "name", "fake");
	config_set(&config, "serial", f->terminal >= 0 ? "none" : "stdio");
	device_list_add(&config.devices, &asking_class, NULL);
	device_spec_set(&config.devices.list[2], "socket", other);
	json_decref(other);
	if (f->long_paths)
		config_make_long(&config);
	options.terminal = f->terminal >= 0; /* whatever a snapshot's configuration says */
	vm_block_signals();
	options.control_fd = supervisor_listen(f->control);
	if (options.control_fd < 0)
		return 99;
	options.config = &config;
	options.devices = &config.devices;
	return supervisor_run(&options);
}

void supervisor_start(struct fixture *f, void (*vm)(int fd))
{
	f->vm = vm;
	f->supervisor = fork();
	if (f->supervisor == 0) {
		int log = open(f->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		if (f->terminal >= 0)
			login_tty(f->terminal);
		dup2(log, STDERR_FILENO);
		_exit(supervisor_main(f));
	}
	assert_true(f->supervisor > 0);
}

/* Waits for its end: exit status as wanted, the sentence on stderr, no socket file left. */
void supervisor_expect_end(struct fixture *f, int status, const char *sentence)
{
	char text[4096];
	int log, how;
	ssize_t len;

	alarm(TIMEOUT_S);
	assert_int_equal(waitpid(f->supervisor, &how, 0), f->supervisor);
	f->supervisor = 0;
	alarm(0);
	log = open(f->log, O_RDONLY | O_CLOEXEC);
	len = read(log, text, sizeof(text) - 1);
	close(log);
	text[len > 0 ? len : 0] = '\0';
	if (!WIFEXITED(how) || WEXITSTATUS(how) != status || !strstr(text, sentence))
		fail_msg("wanted %d, %s: ended with %#x, saying '%s'", status, sentence,
			 (unsigned)how, text);
	assert_int_equal(access(f->control, F_OK), -1);
}

int supervisor_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/virga-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->control, sizeof(f->control), "%s/control", f->dir);
	snprintf(f->vsock, sizeof(f->vsock), "%s/vsock", f->dir);
	snprintf(f->other, sizeof(f->other), "%s/other", f->dir);
	snprintf(f->snapshot, sizeof(f->snapshot), "%s/snapshot", f->dir);
	snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
	f->terminal = f->client = -1;
	*state = f;
	return 0;
}

int supervisor_teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];
	int ret;

	if (f->supervisor) {
		kill(f->supervisor, SIGKILL);
		waitpid(f->supervisor, NULL, 0);
	}
	if (f->client >= 0)
		close(f->client);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	ret = system(command);
	free(f);
	return ret;
}

/* --- A client --- */

json_t *qmp_client_next(struct fixture *f)
{
	json_t *message;
	char *end;

	while (!(end = memchr(f->in, '\n', f->in_len))) {
		ssize_t len = recv(f->client, f->in + f->in_len, sizeof(f->in) - f->in_len, 0);

		if (len <= 0)
			return NULL;
		f->in_len += (size_t)len;
	}
	message = json_loadb(f->in, (size_t)(end - f->in), 0, NULL);
	assert_non_null(message);
	f->in_len -= (size_t)(end + 1 - f->in);
	memmove(f->in, end + 1, f->in_len);
	return message;
}

int qmp_client_open(struct fixture *f)
{
	const struct timeval limit = { .tv_sec = TIMEOUT_S };
	int fd = -1;

	for (unsigned i = 0; i < 2000 && fd < 0; i++) {
		fd = unix_path_connect(f->control, false);
		if (fd < 0)
			usleep(1000);
	}
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

void qmp_client_say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The next message must hold that event, that return or (by its supervisor_start) that error. */
void qmp_client_expect(struct fixture *f, const char *member, const char *wanted)
{
	json_t *message = qmp_client_next(f), *value = json_object_get(message, member);
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

	if (!text || !strstr(text, wanted)) {
		char *all = message ? json_dumps(message, 0) : NULL;

		fail_msg("wanted %s with %s, got %s", member, wanted, all ? all : "the end");
	}
	free(text);
	json_decref(message);
}

void qmp_client_begin(struct fixture *f)
{
	f->client = qmp_client_open(f);
	qmp_client_expect(f, "QMP", "virga");
	qmp_client_say(f, "{\"execute\": \"qmp_capabilities\"}\n");
	qmp_client_expect(f, "return", "{}");
}

void qmp_client_wait_status(struct fixture *f, const char *command, const char *wanted)
{
	for (unsigned i = 0; i < 2000; i++) {
		json_t *message;
		char *text;
		bool found;

		qmp_client_say(f, command);
		message = qmp_client_next(f);
		text = json_dumps(message, JSON_COMPACT);
		found = strstr(text, wanted) != NULL;
		free(text);
		json_decref(message);
		if (found)
			return;
		usleep(1000);
	}
	fail_msg("%s never told %s", command, wanted);
}

void qmp_client_wait_ready(struct fixture *f)
{
	for (unsigned i = 0; i < 2000; i++) {
		json_t *message;
		bool ready, is_reply;

		qmp_client_say(f, "{\"execute\": \"query-status\"}");
		do {
			message = qmp_client_next(f);
			assert_non_null(message);
			is_reply = json_object_get(message, "return");
			ready = json_is_true(
				json_object_get(json_object_get(message, "return"), "ready"));
			json_decref(message);
		} while (!is_reply);
		if (ready)
			return;
		usleep(1000);
	}
	fail_msg("never ready");
}

void qmp_client_migrate(struct fixture *f, const char *dir)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"file:%s\"}}", dir);
	qmp_client_say(f, text);
}
