/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reset leaves of a request: nothing. The shell's machine is looked at from within, before the
 * reset and after it: guest memory, registers, FPU; what it saves then is compared with the template
 * section by section; its descriptors are counted, and its own memory is searched.
 *
 * wrap: confine_process fstat reset_machine message_send
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "serve/machine/reset.h"
#include "tests/unit/boot/snapshot/compare_snapshots.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/serve/machine/shell_bed.h"

#define MARK_LEN 16u

/* Where the mark was found, so often. */
struct found {
	unsigned memory, registers, fpu;
};

/* Shared with the shells: what they found in themselves. */
struct view {
	struct found before, after;
	unsigned descriptors; /* after the reset */
	unsigned elsewhere;   /* in the process's own memory, when it says that it waits */
	int saved;            /* 0, or what saving said */
	unsigned resets;
	bool waits;             /* after the reset: a wait or a wake-up of before is left */
	uint8_t mark[MARK_LEN]; /* with all bits turned: it is not to be found in here */
};

static struct view *view;
static struct sealed template;
static int state_fd, memory_fd; /* what a shell saves after a reset */
static uint64_t begin_us;

/* --- In the shell --- */

static bool is_mark(const uint8_t *at, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((at[i] ^ view->mark[from + i]) != 0xff)
			return false;
	return true;
}

static unsigned count_marks(const void *bytes, size_t len)
{
	const uint8_t *at = bytes, *end = at + len;
	unsigned count = 0;

	while (at + MARK_LEN <= end &&
	       (at = memchr(at, view->mark[0] ^ 0xff, (size_t)(end - at)))) {
		count += at + MARK_LEN <= end && is_mark(at, 0, MARK_LEN);
		at++;
	}
	return count;
}

/* Registers with either half of the mark, as the guest leaves them. */
static unsigned count_halves(const struct kvm_regs *regs)
{
	const uint8_t *at = (const uint8_t *)regs;
	unsigned count = 0;

	for (size_t i = 0; i < sizeof(*regs); i += MARK_LEN / 2)
		count += is_mark(at + i, 0, MARK_LEN / 2) ||
			 is_mark(at + i, MARK_LEN / 2, MARK_LEN / 2);
	return count;
}

static struct found look(struct vm *vm)
{
	struct kvm_regs regs;
	struct kvm_xsave xsave;
	struct found found = { 0 };

	vcpu_flush(&vm->vcpus[0]);
	if (ioctl(vm->vcpus[0].fd, KVM_GET_REGS, &regs) < 0 ||
	    ioctl(vm->vcpus[0].fd, KVM_GET_XSAVE, &xsave) < 0)
		_exit(8);
	found.memory = count_marks(vm->memory.base, vm->memory.size);
	found.registers = count_halves(&regs);
	found.fpu = count_marks(&xsave, sizeof(xsave));
	explicit_bzero(&regs, sizeof(regs));
	explicit_bzero(&xsave, sizeof(xsave));
	return found;
}

int __real_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices);
int __wrap_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices);
int __wrap_reset_machine(struct reset *r, struct snapshot *s, struct vm *vm,
			 struct devices *devices)
{
	const struct snapshot_config config =
		snapshot_config_of(SHELL_CONFIG, strlen(SHELL_CONFIG));
	int ret;

	view->before = look(vm);
	/* What a guest may leave at any exit. */
	vm->wake_pending = vm->poll_pending = vm->vcpus[0].parked = true;
	ret = __real_reset_machine(r, s, vm, devices);
	view->after = look(vm);
	view->waits = vm->wake_pending || vm->poll_pending || vm->vcpus[0].parked;
	view->descriptors = descriptors_open();
	view->resets++;
	if (ftruncate(state_fd, 0) < 0 || ftruncate(memory_fd, 0) < 0)
		_exit(8);
	view->saved = snapshot_save(vm, devices, &config, state_fd, memory_fd);
	/* It goes on as if nobody had looked. */
	return ret < 0 ? ret : snapshot_reload(s, vm, devices);
}

/* What this process can write, and templates' parts. */
static unsigned search_process(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned count = 0;
	char line[512];

	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end;
		char mode[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) != 3 || strstr(line, "kvm") ||
		    (strncmp(mode, "rw", 2) != 0 && !strstr(line, "/memfd:")))
			continue;
		count += count_marks((const void *)start, end - start);
	}
	fclose(maps);
	return count;
}

int __real_message_send(int fd, const struct message *m);
int __wrap_message_send(int fd, const struct message *m);
int __wrap_message_send(int fd, const struct message *m)
{
	if (!shell_bed_sanitized && m->type == MESSAGE_SHELL)
		view->elsewhere = search_process();
	return __real_message_send(fd, m);
}

/* --- The test --- */

static int setup(void **state)
{
	static const char *const warm[] = { "", "echo hello" };

	(void)state;
	/* As the product's C library has it, for ever. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	view = mmap(NULL, sizeof(*view), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (view == MAP_FAILED)
		return -1;
	state_fd = memfd_create("state", MFD_CLOEXEC);
	memory_fd = memfd_create("memory", MFD_CLOEXEC);
	begin_us = monotonic_us();
	template = template_make(16, warm, 2, true);
	shell_bed_open = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sealed_close(&template);
	close(state_fd);
	close(memory_fd);
	munmap(view, sizeof(*view));
	return 0;
}

static void set_mark(const char *text)
{
	for (unsigned i = 0; i < MARK_LEN; i++)
		view->mark[i] = (uint8_t)~text[i];
}

/* What the shell saved is the template, time apart. */
static void check_saved(void)
{
	struct snapshot wanted, got;
	struct blob state = { 0 };
	const struct blob none = { 0 };
	struct stat st;

	assert_int_equal(view->saved, 0);
	assert_int_equal(fstat(state_fd, &st), 0);
	state.data = malloc((size_t)st.st_size + 1);
	state.len = state.size = (size_t)st.st_size;
	assert_int_equal(pread(state_fd, state.data, state.len, 0), state.len);
	if (snapshot_adopt(&got, "got", &state, &none, dup(memory_fd)) < 0)
		fail_msg("%s", error_text());
	template_open(&template, &wanted);
	compare_snapshots(&wanted, &got, monotonic_us() - begin_us);
	assert_int_equal(snapshot_verify(&got), 0);
	snapshot_close(&got);
	snapshot_close(&wanted);
}

static void check_clean(unsigned resets, unsigned descriptors)
{
	assert_int_equal(view->resets, resets);
	assert_int_equal(view->after.memory, 0);
	assert_int_equal(view->after.registers, 0);
	assert_int_equal(view->after.fpu, 0);
	assert_false(view->waits);
	if (descriptors)
		assert_int_equal(view->descriptors, descriptors);
	check_saved();
}

/* Asks with policy reset; the shell waits again. */
static void ask(struct shell_process *s, const struct sealed *sealed, const char *environment,
		const char *request, enum invocation_outcome outcome)
{
	struct shell_answer a;
	uint32_t flags = request[0] == '"' ? INVOKE_JSON | INVOKE_LOOK : 0;

	shell_ask(s, 5, POLICY_RESET, flags, sealed, environment, request, strlen(request));
	a = shell_answer_take(s);
	if (a.head.outcome != outcome)
		fail_msg("%s: outcome %u: %s", request, a.head.outcome, a.data);
	shell_answer_free(&a);
	shell_await(s);
}

static void test_mark(void **state)
{
	static const char *const marks[] = { "A-secret-of-A-17", "B-secret-of-B-18",
					     "0123456789ABCDEF" };

	(void)state;
	for (unsigned kind = SHELL_BARE; kind <= SHELL_HURRIED; kind++) {
		struct shell_process s = shell_start(&template, (enum shell_kind)kind);
		unsigned descriptors = 0;

		view->resets = 0;
		for (unsigned i = 0; i < 6; i++) {
			char request[64];

			set_mark(marks[i % 3]);
			snprintf(request, sizeof(request), "mark %s", marks[i % 3]);
			ask(&s, kind == SHELL_BARE && i == 0 ? &template : NULL, NULL, request,
			    OUTCOME_RESPONSE);
			/* It was there: 16 pages of it, 14 registers, 16 of the FPU's. */
			assert_true(view->before.memory >= 16 * 4096 / 16);
			assert_int_equal(view->before.registers, 14);
			assert_true(view->before.fpu >= 16);
			check_clean(i + 1, descriptors);
			descriptors = view->descriptors;
			explicit_bzero(request, sizeof(request));
			/* In the process's own memory neither: buffers, rings, the heap. */
			assert_int_equal(view->elsewhere, 0);
		}
		assert_int_equal(shell_end(&s), 0);
	}
}

/* A bare shell has the shape of some template, and nothing else of it: it serves others. */
static void test_bare_has_nothing(void **state)
{
	char request[] = "mark C-secret-of-C-19";
	const char *const warm[] = { request };
	struct sealed marked = template_make(16, warm, 1, true);
	struct shell_process s;
	struct shell_answer a;
	unsigned inherited;

	(void)state;
	set_mark("C-secret-of-C-19");
	explicit_bzero(request, sizeof(request));
	inherited = shell_bed_sanitized ? 0 : search_process(); /* of whoever made the template */
	s = shell_start(&marked, SHELL_ARMED);
	assert_int_equal(shell_end(&s), 0);
	if (!shell_bed_sanitized) /* which has memory that cannot be looked at */
		assert_true(view->elsewhere > inherited + 16 * 4096 / 16);
	s = shell_start(&marked, SHELL_BARE);
	assert_true(view->elsewhere <= inherited);
	shell_ask(&s, 1, POLICY_ONCE, 0, &template, NULL, "echo x", 6);
	a = shell_answer_take(&s);
	assert_string_equal(a.data, "x");
	shell_answer_free(&a);
	assert_int_equal(shell_end(&s), 0);
	sealed_close(&marked);
}

/* Requests that leave other things: logs, open streams, odd frames, many pages, a long payload. */
static void test_other_requests(void **state)
{
	static const char *const requests[] = {
		"dirty 500",
		"touch 300 255",
		"log 100 A-secret-of-A-17",
		"flood 50",
		"twice text",
		"late 500 text",
		"big 300000",
		"env NAME",
		"id",
		"time",
		"spin 2000",
		"connect 1234 A-secret-of-A-17",
		"dirty 999999999",
		"sum 10",
		"echo A-secret-of-A-17",
		"\"A-secret-of-A-17\"",
	};
	struct shell_process s = shell_start(&template, SHELL_ARMED);
	unsigned descriptors = 0;
	char *text = malloc(300100);

	(void)state;
	set_mark("A-secret-of-A-17");
	view->resets = 0;
	for (unsigned i = 0; i < 2 * sizeof(requests) / sizeof(requests[0]); i++) {
		const char *request = requests[i / 2];
		bool error = strncmp(request, "dirty 9", 7) == 0 || request[0] == 'c';

		ask(&s, NULL, i & 1 ? "NAME=A-secret-of-A-17" : NULL, request,
		    error ? OUTCOME_ERROR : OUTCOME_RESPONSE);
		check_clean(i + 1, descriptors);
		descriptors = view->descriptors;
		assert_int_equal(view->elsewhere, 0);
	}
	/* Some that do not fit into a message. */
	for (unsigned len = 20000; len <= 300000; len += 70000) {
		int head =
			sprintf(text, len & 0x10000 ? "" : "log 0 "); /* long answers and short */

		for (unsigned i = 0; i < len; i++)
			text[(unsigned)head + i] = "A-secret-of-A-17"[i % 16];
		text[(unsigned)head + len] = '\0';
		ask(&s, NULL, "A-secret-of-A-17=", text, OUTCOME_RESPONSE);
		assert_true(view->before.memory > 1000);
		check_clean(view->resets, descriptors);
		assert_int_equal(view->elsewhere, 0);
	}
	free(text);
	assert_int_equal(shell_end(&s), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark),
		cmocka_unit_test(test_bare_has_nothing),
		cmocka_unit_test(test_other_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("shell_reset", tests, setup, teardown);
}
