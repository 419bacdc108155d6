/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QMP session: framing of good and bad input, replies, errors, events, limits.
 */
#include "serve/control/qmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"

struct fixture {
	struct view view;
	struct qmp qmp;
	unsigned requests;
	enum view_request last;
	char uri[64];
	int answer; /* of the next request */
};

static int fixture_request(void *opaque, enum view_request request, const char *uri,
			   uint64_t *ticket)
{
	struct fixture *f = opaque;

	f->requests++;
	f->last = request;
	snprintf(f->uri, sizeof(f->uri), "%s", uri ? uri : "");
	*ticket = 41 + f->requests;
	return f->answer == -EIO ? failf(EIO, "as \"told\"") : f->answer;
}

static int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->view.request = fixture_request;
	f->view.opaque = f;
	f->view.name = "first";
	f->view.state = VIEW_RUNNING;
	f->view.cpu_count = 2;
	f->view.threads[0] = 100;
	f->view.threads[1] = 101;
	qmp_init(&f->qmp, &f->view);
	*state = f;
	return 0;
}

static int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	qmp_fini(&f->qmp);
	free(f);
	return 0;
}

/* The next message of the output, NULL when there is none. */
static json_t *next(struct fixture *f)
{
	struct blob *out = &f->qmp.out;
	uint8_t *end = out->len ? memchr(out->data, '\n', out->len) : NULL;
	json_t *message;
	size_t len;

	if (!end)
		return NULL;
	len = (size_t)(end - out->data) + 1;
	message = json_loadb((char *)out->data, len, 0, NULL);
	assert_non_null(message);
	out->len -= len;
	memmove(out->data, out->data + len, out->len);
	return message;
}

static void feed(struct fixture *f, const char *text)
{
	qmp_feed(&f->qmp, text, strlen(text));
}

static void expect(struct fixture *f, const char *wanted)
{
	json_t *want = json_loads(wanted, 0, NULL), *got = next(f);
	char *text = got ? json_dumps(got, 0) : NULL;

	assert_non_null(want);
	if (!json_equal(want, got))
		fail_msg("wanted %s, got %s", wanted, text ? text : "nothing");
	free(text);
	json_decref(want);
	json_decref(got);
}

/* An error of that class, with that id (JSON text or NULL), and a sentence. */
static void expect_error(struct fixture *f, const char *class, const char *id)
{
	json_t *got = next(f), *error = json_object_get(got, "error");
	json_t *want = id ? json_loads(id, JSON_DECODE_ANY, NULL) : NULL;

	assert_non_null(error);
	assert_string_equal(json_string_value(json_object_get(error, "class")), class);
	assert_true(strlen(json_string_value(json_object_get(error, "desc"))) > 4);
	assert_true(id ? json_equal(want, json_object_get(got, "id"))
		       : !json_object_get(got, "id"));
	json_decref(want);
	json_decref(got);
}

static void expect_nothing(struct fixture *f)
{
	assert_int_equal(f->qmp.out.len, 0);
}

static void expect_event(struct fixture *f, const char *name)
{
	json_t *got = next(f);

	assert_non_null(got);
	assert_string_equal(json_string_value(json_object_get(got, "event")), name);
	json_decref(got);
}

static void negotiate(struct fixture *f)
{
	json_decref(next(f));
	feed(f, "{\"execute\": \"qmp_capabilities\"}");
	expect(f, "{\"return\": {}}");
}

static void test_greeting(void **state)
{
	struct fixture *f = *state;
	json_t *message = next(f), *version;
	int major = -1, minor = -1, micro = -1;
	const char *package, *capability;

	assert_int_equal(0, json_unpack(message, "{s:{s:o,s:[s!]!}!}", "QMP", "version", &version,
					"capabilities", &capability));
	assert_string_equal(capability, QMP_READY_CAPABILITY);
	assert_int_equal(0, json_unpack(version, "{s:{s:i,s:i,s:i!},s:s!}", "qemu", "major", &major,
					"minor", &minor, "micro", &micro, "package", &package));
	/* Kata Containers' govmm refuses below 5.0. */
	assert_true(major >= 5 && minor >= 0 && micro >= 0);
	assert_int_equal(strncmp(package, "virga ", 6), 0);
	json_decref(message);
	expect_nothing(f);
}

static void test_negotiation_comes_first(void **state)
{
	struct fixture *f = *state;

	json_decref(next(f));
	feed(f, "{\"execute\": \"stop\", \"id\": 1}");
	expect_error(f, "CommandNotFound", "1");
	assert_int_equal(f->requests, 0);
	feed(f, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}");
	expect_error(f, "GenericError", NULL);
	qmp_event(&f->qmp, "STOP", NULL);
	expect_nothing(f);
	feed(f, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": []}}");
	expect(f, "{\"return\": {}}");
	feed(f, "{\"execute\": \"qmp_capabilities\"}");
	expect_error(f, "CommandNotFound", NULL);
}

/* What no QEMU sends is for those only who asked. */
static void test_ready_event_is_enabled(void **state)
{
	static const char *const refused[] = {
		"\"virga-ready\"", "[\"virga-ready\", \"oob\"]", "[\"virga\"]", "[7]", "{}", "null",
	};
	struct fixture *f = *state;
	char text[128];

	negotiate(f);
	qmp_event(&f->qmp, QMP_READY_EVENT, NULL);
	expect_nothing(f);
	qmp_event(&f->qmp, "STOP", NULL);
	expect_event(f, "STOP");
	qmp_fini(&f->qmp);
	qmp_init(&f->qmp, f->qmp.view);
	json_decref(next(f));
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		snprintf(text, sizeof(text),
			 "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": %s}}",
			 refused[i]);
		feed(f, text);
		expect_error(f, "GenericError", NULL);
	}
	feed(f, "{\"execute\": \"qmp_capabilities\", "
		"\"arguments\": {\"enable\": [\"virga-ready\"]}}");
	expect(f, "{\"return\": {}}");
	qmp_event(&f->qmp, QMP_READY_EVENT, NULL);
	expect_event(f, QMP_READY_EVENT);
	expect_nothing(f);
}

static void test_byte_by_byte(void **state)
{
	static const char text[] = " \r\n{\"execute\":\n \"query-name\", \"id\": \"a}\\\"{[\"}\n"
				   "{\"execute\": \"query-status\", \"arguments\": {}}";
	struct fixture *f = *state;

	negotiate(f);
	for (const char *p = text; *p; p++)
		qmp_feed(&f->qmp, p, 1);
	expect(f, "{\"return\": {\"name\": \"first\"}, \"id\": \"a}\\\"{[\"}");
	expect(f, "{\"return\": {\"status\": \"running\", \"running\": true, \"singlestep\": false,"
		  " \"ready\": false}}");
	expect_nothing(f);
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	feed(f, "{\"execute\": \"query-name\", \"id\": 1}{\"execute\": \"query-name\", \"id\": 1}"
		"\n\n{\"execute\": \"query-name\", \"id\": {\"a\": [null, 2.5]}} {\"exec");
	expect(f, "{\"return\": {\"name\": \"first\"}, \"id\": 1}");
	expect(f, "{\"return\": {\"name\": \"first\"}, \"id\": 1}");
	expect(f, "{\"return\": {\"name\": \"first\"}, \"id\": {\"a\": [null, 2.5]}}");
	expect_nothing(f);
	feed(f, "ute\": \"query-name\", \"id\": null}");
	expect(f, "{\"return\": {\"name\": \"first\"}, \"id\": null}");
}

static void test_queries(void **state)
{
	struct fixture *f = *state;
	json_t *message;
	bool migrate = false;
	size_t i;
	json_t *entry;

	negotiate(f);
	feed(f, "{\"execute\": \"query-cpus-fast\"}");
	expect(f, "{\"return\": [{\"cpu-index\": 0, \"qom-path\": \"/machine/cpu[0]\","
		  " \"thread-id\": 100, \"target\": \"x86_64\", \"props\": {}},"
		  " {\"cpu-index\": 1, \"qom-path\": \"/machine/cpu[1]\", \"thread-id\": 101,"
		  " \"target\": \"x86_64\", \"props\": {}}]}");
	feed(f, "{\"execute\": \"query-commands\"}");
	message = next(f);
	json_array_foreach(json_object_get(message, "return"), i, entry)
	{
		const char *name = json_string_value(json_object_get(entry, "name"));

		migrate = migrate || !strcmp(name, "migrate");
	}
	assert_true(migrate);
	json_decref(message);
	feed(f, "{\"execute\": \"query-migrate\"}");
	expect(f, "{\"return\": {}}");
	f->view.snapshot.status = VIEW_SNAPSHOT_ACTIVE;
	feed(f, "{\"execute\": \"query-migrate\"}");
	expect(f, "{\"return\": {\"status\": \"active\"}}");
	f->view.snapshot.status = VIEW_SNAPSHOT_DONE;
	f->view.snapshot.total_us = 12345;
	f->view.snapshot.pause_us = 2345;
	feed(f, "{\"execute\": \"query-migrate\"}");
	expect(f, "{\"return\": {\"status\": \"completed\", \"total-time\": 12, \"downtime\": 2,"
		  " \"pause-us\": 2345}}");
	f->view.snapshot.status = VIEW_SNAPSHOT_FAILED;
	strcpy(f->view.snapshot.error, "no room");
	feed(f, "{\"execute\": \"query-migrate\"}");
	expect(f, "{\"return\": {\"status\": \"failed\", \"error-desc\": \"no room\"}}");
}

static void test_requests(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	feed(f, "{\"execute\": \"migrate\", "
		"\"arguments\": {\"uri\": \"file:/a\", \"detach\": true}}");
	expect(f, "{\"return\": {}}");
	assert_int_equal(f->last, VIEW_SNAPSHOT);
	assert_string_equal(f->uri, "file:/a");
	feed(f, "{\"execute\": \"system_powerdown\"}");
	expect(f, "{\"return\": {}}");
	assert_int_equal(f->last, VIEW_POWERDOWN);
	f->answer = -EIO;
	feed(f, "{\"execute\": \"quit\", \"id\": 7}");
	expect(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"as \\\"told\\\"\"},"
		  " \"id\": 7}");
	assert_int_equal(f->last, VIEW_QUIT);
}

/* What comes behind a command that is answered later waits for that answer. */
static void test_deferred(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	f->answer = -EINPROGRESS;
	feed(f, "{\"execute\": \"stop\", \"id\": 5}{\"execute\": \"query-name\"}");
	expect_nothing(f);
	qmp_complete(&f->qmp, 1, 0);
	expect_nothing(f);
	qmp_event(&f->qmp, "STOP", NULL);
	json_decref(next(f));
	qmp_complete(&f->qmp, 42, 0);
	expect(f, "{\"return\": {}, \"id\": 5}");
	expect(f, "{\"return\": {\"name\": \"first\"}}");
	qmp_complete(&f->qmp, 42, 0);
	expect_nothing(f);
	feed(f, "{\"execute\": \"cont\", \"id\": 6}");
	qmp_complete(&f->qmp, 43, failf(ESRCH, "it is gone"));
	expect_error(f, "GenericError", "6");
}

static void test_bad_members(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	feed(f, "{\"execute\": \"qom-list\", \"id\": \"x\"}");
	expect_error(f, "CommandNotFound", "\"x\"");
	feed(f, "{\"execute\": \"\\u0007\\ud83d\\ude00\"}");
	expect_error(f, "CommandNotFound", NULL);
	feed(f, "{}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": 1, \"id\": 2}");
	expect_error(f, "GenericError", "2");
	feed(f, "{\"execute\": \"stop\", \"arguments\": []}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": \"stop\", \"arguments\": {\"x\": 1}}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": \"stop\", \"extra\": 1}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": \"migrate\"}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": \"migrate\", "
		"\"arguments\": {\"uri\": \"file:/a\", \"detach\": 1}}");
	expect_error(f, "GenericError", NULL);
	feed(f, "{\"execute\": \"migrate\", \"arguments\": {\"uri\": 3}}");
	expect_error(f, "GenericError", NULL);
	assert_int_equal(f->requests, 0);
	assert_false(f->qmp.closing);
}

/* An id given twice in one command is no command; the same id in two is the client's business. */
static void test_duplicate_member(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	feed(f, "{\"execute\": \"stop\", \"id\": 1, \"id\": 2}");
	expect_error(f, "GenericError", NULL);
	assert_int_equal(f->requests, 0);
}

static void test_garbage_then_good(void **state)
{
	static const char *const garbage[] = {
		"hello\n",
		"{\"execute\": \"a\nb\"}\n",
		"{]\n}",
		"\"{\"\n",
		"[1, 2]",
		"{\"a\": \xff\xfe}",
		"}\n",
		"{\"execute\" \"stop\"}",
		"{\"id\": 99999999999999999999}",
		"nul\n",
	};
	struct fixture *f = *state;

	negotiate(f);
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		feed(f, garbage[i]);
		expect_error(f, "GenericError", NULL);
		/* What was left of a bad line may be another error, never a command. */
		feed(f, "\n");
		f->qmp.out.len = 0;
		feed(f, "{\"execute\": \"query-name\"}");
		expect(f, "{\"return\": {\"name\": \"first\"}}");
	}
	feed(f, "\xff\xff\xff{\"execute\": \"stop\"}\n{\"execute\": \"query-name\"}");
	expect_error(f, "GenericError", NULL);
	expect(f, "{\"return\": {\"name\": \"first\"}}");
	assert_int_equal(f->requests, 0);
	assert_false(f->qmp.closing);
}

static void test_endless_garbage(void **state)
{
	struct fixture *f = *state;
	unsigned errors = 0;
	json_t *message;

	for (unsigned i = 0; i < 4 * QMP_GARBAGE_MAX; i++)
		feed(f, "GET / HTTP/1.1\r\n");
	assert_true(f->qmp.closing);
	json_decref(next(f));
	while ((message = next(f))) {
		errors++;
		json_decref(message);
	}
	assert_int_equal(errors, QMP_GARBAGE_MAX);
}

static void test_oversize(void **state)
{
	char block[1000];
	struct fixture *f = *state;

	negotiate(f);
	memset(block, ' ', sizeof(block));
	for (unsigned i = 0; i < 200; i++)
		qmp_feed(&f->qmp, block, sizeof(block));
	assert_true(f->qmp.in.len < sizeof(block));
	memset(block, 'x', sizeof(block));
	feed(f, "{\"execute\": \"");
	for (unsigned i = 0; i < QMP_COMMAND_MAX / sizeof(block); i++)
		qmp_feed(&f->qmp, block, sizeof(block));
	expect_nothing(f);
	qmp_feed(&f->qmp, block, sizeof(block));
	expect_error(f, "GenericError", NULL);
	assert_true(f->qmp.closing);
	feed(f, "\"}{\"execute\": \"quit\"}");
	assert_int_equal(f->requests, 0);
	assert_true(f->qmp.in.len < 2 * QMP_COMMAND_MAX);
}

static void test_largest(void **state)
{
	static char id[QMP_COMMAND_MAX];
	char head[] = "{\"execute\": \"query-name\", \"id\": \"";
	struct fixture *f = *state;
	json_t *message;

	negotiate(f);
	memset(id, 'i', sizeof(id));
	feed(f, head);
	qmp_feed(&f->qmp, id, QMP_COMMAND_MAX - strlen(head) - 2);
	feed(f, "\"}");
	message = next(f);
	assert_int_equal(json_string_length(json_object_get(message, "id")),
			 QMP_COMMAND_MAX - strlen(head) - 2);
	json_decref(message);
}

static void test_deep_nesting(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	for (unsigned depth = 2; depth < 5000; depth += 7) {
		bool fits = depth <= QMP_DEPTH_MAX;

		f->qmp.garbage = 0;
		feed(f, "{\"execute\": \"query-name\", \"id\": ");
		for (unsigned i = 1; i < depth; i++)
			feed(f, "[");
		for (unsigned i = 1; i < depth; i++)
			feed(f, "]");
		feed(f, "}\n");
		if (fits) {
			json_t *message = next(f);

			assert_non_null(json_object_get(message, "return"));
			json_decref(message);
		} else {
			expect_error(f, "GenericError", NULL);
		}
		expect_nothing(f);
	}
}

static void test_event(void **state)
{
	struct fixture *f = *state;
	json_t *data = json_pack("{s:b}", "guest", 1), *message;
	json_int_t seconds = 0, microseconds = -1;
	const char *name;

	negotiate(f);
	qmp_event(&f->qmp, "SHUTDOWN", data);
	message = next(f);
	assert_int_equal(0, json_unpack(message, "{s:s,s:{s:I,s:I!},s:{s:b!}!}", "event", &name,
					"timestamp", "seconds", &seconds, "microseconds",
					&microseconds, "data", "guest", &(int){ 0 }));
	assert_string_equal(name, "SHUTDOWN");
	assert_true(seconds > 1600000000 && microseconds >= 0 && microseconds < 1000000);
	json_decref(message);
	json_decref(data);
}

/* Commands wait while output is not fetched; events to a client that never reads end it. */
static void test_output_is_bounded(void **state)
{
	struct fixture *f = *state;
	size_t held;

	negotiate(f);
	for (unsigned i = 0; i < 10000; i++) {
		feed(f, "{\"execute\": \"query-commands\"}");
		if (f->qmp.in.len > 4096)
			break;
	}
	held = f->qmp.out.len;
	assert_true(held > QMP_OUTPUT_MAX / 2 && held < QMP_OUTPUT_MAX);
	assert_true(f->qmp.in.len > 4096);
	f->qmp.out.len = 0;
	qmp_feed(&f->qmp, NULL, 0);
	assert_true(f->qmp.in.len < 4096 && f->qmp.out.len > 0);
	for (unsigned i = 0; i < 10000 && !f->qmp.dropped; i++)
		qmp_event(&f->qmp, "STOP", NULL);
	assert_true(f->qmp.dropped);
	assert_true(f->qmp.out.len < QMP_OUTPUT_MAX + 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
		TEST(test_greeting),
		TEST(test_negotiation_comes_first),
		TEST(test_ready_event_is_enabled),
		TEST(test_byte_by_byte),
		TEST(test_many_at_once),
		TEST(test_queries),
		TEST(test_requests),
		TEST(test_deferred),
		TEST(test_bad_members),
		TEST(test_duplicate_member),
		TEST(test_garbage_then_good),
		TEST(test_endless_garbage),
		TEST(test_oversize),
		TEST(test_largest),
		TEST(test_deep_nesting),
		TEST(test_event),
		TEST(test_output_is_bounded),
	};

	return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}
