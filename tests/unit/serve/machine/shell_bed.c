/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/serve/machine/shell_bed.h.
 */
#include "tests/unit/serve/machine/shell_bed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/pages/trace.h"
#include "seccomp/confine.h"
#include "serve/ipc/payload.h"
#include "serve/template/guest.h"
#include "serve/template/trial.h"

#define WAIT_MS 20000

bool shell_bed_open;

#ifdef __SANITIZE_ADDRESS__
const bool shell_bed_sanitized = true;
#else
const bool shell_bed_sanitized = false;
#endif

int __real_confine_process(enum confine_role role);
int __wrap_confine_process(enum confine_role role);
int __wrap_confine_process(enum confine_role role)
{
	return shell_bed_sanitized || shell_bed_open ? 0 : __real_confine_process(role);
}

/* glibc's makes another call than that of the product's C library, which the filter has. */
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

static void must(int ret)
{
	if (ret < 0)
		fail_msg("%s", error_text());
}

/* --- Templates --- */

/* Boots the guest, asks, saves. */
static void template_save(unsigned mib, const char *const requests[], unsigned count, int state_fd,
			  int memory_fd)
{
	struct template_guest guest = { .name = "test" };
	struct config config;

	config_init(&config);
	config.memory = (uint64_t)mib << 20;
	must(template_guest_start(&guest, &config));
	must(template_guest_ready(&guest, 20));
	for (unsigned i = 0; i < count; i++)
		must(template_guest_request(&guest, requests[i], strlen(requests[i]), WAIT_MS));
	must(template_guest_save(&guest, SHELL_CONFIG, state_fd, memory_fd));
	template_guest_stop(&guest, 0);
	config_fini(&config);
}

static struct blob read_all(int fd)
{
	struct stat st;
	struct blob b = { 0 };

	assert_int_equal(fstat(fd, &st), 0);
	b.len = b.size = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	assert_int_equal(pread(fd, b.data, b.len, 0), b.len);
	return b;
}

/* What a request of one word touches. */
static void template_learn(struct snapshot *snapshot, struct working_set *ws)
{
	struct page_trace trace = { 0 };
	struct trial trial = {
		.snapshot = snapshot,
		.request = "echo hello",
		.request_len = 10,
		.timeout_ms = WAIT_MS,
		.trace = &trace,
	};

	must(page_trace_init(&trace, snapshot->memory_size));
	must(trial_run(&trial));
	must(page_trace_working_set(&trace, ws));
	page_trace_fini(&trace);
}

struct sealed template_make(unsigned mib, const char *const requests[], unsigned count, bool learn)
{
	int state_fd = memfd_create("state", MFD_CLOEXEC);
	int memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const struct blob none = { 0 };
	struct working_set ws = { 0 };
	struct snapshot snapshot;
	struct sealed sealed;
	struct blob state;

	template_save(mib, requests, count, state_fd, memory_fd);
	state = read_all(state_fd);
	must(snapshot_adopt(&snapshot, "test", &state, &none, dup(memory_fd)));
	if (learn)
		template_learn(&snapshot, &ws);
	must(sealed_adopt(&sealed, memory_fd, &snapshot.raw, &ws));
	working_set_fini(&ws);
	snapshot_close(&snapshot);
	close(state_fd);
	return sealed;
}

void template_open(const struct sealed *sealed, struct snapshot *s)
{
	struct sealed own = { .memory_fd = dup(sealed->memory_fd), .parts_fd = sealed->parts_fd };

	must(sealed_open(&own, "test", s));
}

/* --- Shells --- */

static void shell_child(const struct sealed *sealed, enum shell_kind kind, int fd)
{
	struct sealed own = { .memory_fd = dup(sealed->memory_fd), .parts_fd = sealed->parts_fd };
	struct snapshot snapshot;
	struct shell_options options = { .snapshot = &snapshot, .kind = kind, .fd = fd };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sealed_open(&own, "test", &snapshot) < 0)
		_exit(9);
	shell_main(&options);
	_exit(0);
}

struct shell_process shell_start(const struct sealed *sealed, enum shell_kind kind)
{
	struct shell_process s = { 0 };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s.pid = fork();
	if (s.pid == 0) {
		close(pair[0]);
		shell_child(sealed, kind, pair[1]);
	}
	close(pair[1]);
	s.fd = pair[0];
	shell_await(&s);
	return s;
}

int shell_end(struct shell_process *s)
{
	int status;

	close(s->fd);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	return status;
}

static void shell_next(struct shell_process *s, enum message_type type)
{
	struct pollfd in = { .fd = s->fd, .events = POLLIN };
	int ret;

	if (poll(&in, 1, WAIT_MS) != 1)
		fail_msg("the shell says nothing");
	ret = message_receive(s->fd, &s->m);
	if (ret != 1) {
		int status = shell_end(s);

		fail_msg("the shell is gone: status 0x%x", (unsigned)status);
	}
	if (s->m.type != type)
		fail_msg("the shell says %u, not %u: %s", s->m.type, type, s->m.text);
}

void shell_await(struct shell_process *s)
{
	shell_next(s, MESSAGE_SHELL);
	if (s->m.value)
		fail_msg("the shell does not wait: %s", s->m.text);
}

void shell_await_end(struct shell_process *s)
{
	shell_next(s, MESSAGE_SHELL);
	assert_int_equal(s->m.value, ESHUTDOWN);
	assert_string_equal(s->m.text, "its guest ended after its answer");
}

bool shell_silent(const struct shell_process *s, int ms)
{
	struct pollfd in = { .fd = s->fd, .events = POLLIN };

	return poll(&in, 1, ms) == 0;
}

void shell_ask(struct shell_process *s, uint64_t id, enum policy policy, uint32_t flags,
	       const struct sealed *sealed, const char *environment, const void *data, size_t len)
{
	struct invoke_head head = {
		.flags = flags,
		.policy = policy,
		.number = (uint32_t)id,
		.environment_len = environment ? (uint32_t)strlen(environment) + 1 : 0,
		.payload_len = (uint32_t)len,
	};
	int put;

	message_init(&s->m, MESSAGE_INVOKE);
	s->m.id = id;
	if (sealed) {
		head.flags |= INVOKE_TEMPLATE;
		s->m.fds[0] = sealed->memory_fd;
		s->m.fds[1] = sealed->parts_fd;
		s->m.fd_count = 2;
	}
	s->m.text_len = sizeof(head);
	assert_int_equal(payload_put(&s->m, environment, head.environment_len), 0);
	put = payload_put(&s->m, data, len);
	must(put);
	head.flags |= put ? INVOKE_MEMFD : 0;
	memcpy(s->m.text, &head, sizeof(head));
	assert_int_equal(message_send(s->fd, &s->m), 0);
	if (put)
		close(s->m.fds[s->m.fd_count - 1]);
}

struct shell_answer shell_answer_take(struct shell_process *s)
{
	struct shell_answer a = { 0 };
	const void *at;
	void *owned;

	shell_next(s, MESSAGE_ANSWER);
	a.id = s->m.id;
	assert_true(s->m.text_len >= sizeof(a.head));
	memcpy(&a.head, s->m.text, sizeof(a.head));
	a.log = strndup(s->m.text + sizeof(a.head), a.head.log_len);
	a.len = a.head.payload_len;
	at = payload_at(&s->m, sizeof(a.head) + a.head.log_len, a.len,
			s->m.fd_count ? s->m.fds[0] : -1, &owned);
	if (!at)
		fail_msg("%s", error_text());
	a.data = malloc(a.len + 1);
	memcpy(a.data, at, a.len);
	a.data[a.len] = '\0';
	free(owned);
	message_close_fds(&s->m);
	return a;
}

void shell_answer_free(struct shell_answer *a)
{
	free(a->log);
	free(a->data);
}

void shell_expect(struct shell_process *s, enum policy policy, const char *request,
		  enum invocation_outcome outcome, const char *answer)
{
	struct shell_answer a;

	shell_ask(s, 7, policy, 0, NULL, NULL, request, strlen(request));
	a = shell_answer_take(s);
	assert_int_equal(a.id, 7);
	if (a.head.outcome != outcome || (answer && strcmp(a.data, answer) != 0))
		fail_msg("'%.40s' is answered %u '%.200s', not %u '%s'", request, a.head.outcome,
			 a.data, outcome, answer ? answer : "...");
	shell_answer_free(&a);
}
