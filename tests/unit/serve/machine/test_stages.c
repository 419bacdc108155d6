/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which a machine comes to life, for each way to one: devices are not started, and no
 * guest runs, in a process that is not confined. What a guest has written is read from then on.
 *
 * wrap: confine_process fstat machine_confine devices_start vm_run
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/machine/machine.h"
#include "serve/machine/process.h"
#include "tests/unit/serve/machine/shell_bed.h"

#define REQUEST    "echo hello"
#define STAGES_MAX 15

/* What the children have done: c confined, s devices started, r run. Shared with them. */
static char *stages;

static struct sealed template;

static void stage(char letter)
{
	size_t len = strlen(stages);

	if (len < STAGES_MAX)
		stages[len] = letter;
}

int __real_machine_confine(struct machine *m, enum confine_role role);
int __wrap_machine_confine(struct machine *m, enum confine_role role);
int __wrap_machine_confine(struct machine *m, enum confine_role role)
{
	int ret = __real_machine_confine(m, role);

	stage(ret == 0 ? 'c' : '!');
	return ret;
}

int __real_devices_start(struct devices *devices);
int __wrap_devices_start(struct devices *devices);
int __wrap_devices_start(struct devices *devices)
{
	stage('s');
	return __real_devices_start(devices);
}

enum vm_end_reason __real_vm_run(struct vm *vm);
enum vm_end_reason __wrap_vm_run(struct vm *vm);
enum vm_end_reason __wrap_vm_run(struct vm *vm)
{
	stage('r');
	return __real_vm_run(vm);
}

static int make_template(void **state)
{
	(void)state;
	stages = mmap(NULL, STAGES_MAX + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	template = template_make(16, NULL, 0, false);
	return 0;
}

static int drop_template(void **state)
{
	(void)state;
	sealed_close(&template);
	munmap(stages, STAGES_MAX + 1);
	return 0;
}

/* --- Processes of one machine --- */

static int take_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	(void)opaque;
	return type == CHANNEL_RESPONSE && len == 5 && !memcmp(data, "hello", 5) ? 0 : -EPROTO;
}

static void machine_child(bool clone, int supervisor_fd)
{
	const struct machine_request request = {
		.data = REQUEST,
		.len = sizeof(REQUEST) - 1,
		.answer = take_answer,
	};
	struct machine_options options = { .supervisor_fd = supervisor_fd };
	struct snapshot snapshot;
	struct config config;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	config_init(&config);
	config.memory = 16ull << 20;
	options.config = &config;
	if (clone) {
		template_open(&template, &snapshot);
		options.snapshot = &snapshot;
		options.clone = true;
		options.request = &request;
	} else {
		/* Nobody asks a guest that boots: a signal ends it, and waits until it runs. */
		vm_block_signals();
		raise(SIGTERM);
	}
	_exit(machine_main(&options));
}

static void check_machine(bool clone, bool supervised)
{
	int pair[2] = { -1, -1 }, status;
	pid_t pid;

	memset(stages, 0, STAGES_MAX + 1);
	if (supervised)
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0)
		machine_child(clone, pair[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (supervised) {
		close(pair[0]);
		close(pair[1]);
	}
	assert_int_equal(status, 0);
	assert_string_equal(stages, "csr");
}

static void test_machines(void **state)
{
	(void)state;
	check_machine(false, false);
	check_machine(true, false);
	check_machine(false, true);
	check_machine(true, true);
}

/* --- Shells --- */

static void check_shell(enum shell_kind kind)
{
	struct shell_process s;
	struct shell_answer a;

	memset(stages, 0, STAGES_MAX + 1);
	s = shell_start(&template, kind);
	assert_string_equal(stages, "c");
	shell_ask(&s, 1, POLICY_ONCE, 0, kind == SHELL_BARE ? &template : NULL, NULL, REQUEST,
		  sizeof(REQUEST) - 1);
	a = shell_answer_take(&s);
	assert_int_equal(a.head.outcome, OUTCOME_RESPONSE);
	shell_answer_free(&a);
	shell_end(&s);
	assert_string_equal(stages, "csr");
}

static void test_shells(void **state)
{
	(void)state;
	check_shell(SHELL_ARMED);
	check_shell(SHELL_BARE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machines),
		cmocka_unit_test(test_shells),
	};

	return cmocka_run_group_tests_name("stages", tests, make_template, drop_template);
}
