/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/host/lambda_name.c: names of functions in all forms and what is none, targets, queries; and serve/host/lambda.c
 * before there is an invocation: who is refused and with which words.
 *
 * wrap: monotonic_us
 */
#include "serve/host/lambda_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/host/lambda.h"
#include "tests/unit/seed.h"
#include "tests/unit/serve/http/http_bed.h"

#define X16  "xxxxxxxxxxxxxxxx"
#define X64  X16 X16 X16 X16
#define X128 X64 X64
#define ARN  "arn:aws:lambda:eu-west-1:123456789012:function:"

struct form {
	const char *text, *name, *qualifier;
};

/* clang-format off */
static const struct form good[] = {
	{ "f", "f", "" },
	{ "a-Z_09", "a-Z_09", "" },
	{ X64, X64, "" },
	{ "f:1", "f", "1" },
	{ "f:$LATEST", "f", "$LATEST" },
	{ "f:" X128, "f", X128 },
	{ "f%3A1", "f", "1" },
	{ "%66", "f", "" },
	{ "f:$LATEST.PUBLISHED", "f", "$LATEST.PUBLISHED" },
	{ "function", "function", "" },
	{ "function:f", "f", "" },
	{ "function:f:live", "f", "live" },
	{ "function:function", "function", "" },
	{ "function:function:function", "function", "function" },
	{ "123456789012:function:f", "f", "" },
	{ "123456789012:function:f:live", "f", "live" },
	{ "123456789012", "123456789012", "" },
	{ "123456789012:f", "f", "" },
	{ "123456789012:f:live", "f", "live" },
	{ "12345678901:f", "12345678901", "f" },
	{ "us-east-1", "us-east-1", "" },
	{ "us-east-1:f", "f", "" },
	{ "us-gov-west-1:function:f", "f", "" },
	{ "us-iso-east-1:123456789012:f", "f", "" },
	{ "us-east-1:123456789012:function:f", "f", "" },
	{ "us-east-1:123456789012:function:f:live", "f", "live" },
	{ "us-east-x:f", "us-east-x", "f" },
	{ "usa-east-1:f", "usa-east-1", "f" },
	{ "arn:aws:lambda:f", "f", "" },
	{ "arn:aws:lambda:function:f:live", "f", "live" },
	{ "arn:aws:lambda:eu-west-1:123456789012:f", "f", "" },
	{ ARN "f", "f", "" },
	{ ARN "f:2", "f", "2" },
	{ ARN "f:$LATEST", "f", "$LATEST" },
	{ "arn%3aaws%3alambda%3Ax%3A1%3Afunction%3Af%3a2", "f", "2" },
	{ "arn:aws-us-gov:lambda:::function:f", "f", "" },
};

static const char *const bad[] = {
	"", " ", "f ", "f.g", "f/g", "f+g", "f@1", "f?", "f#", "\xc3\xb6", "f\n", X64 "x",
	"%", "f%", "%4", "f%4", "%zz", "%6g", "%00", "f%00", "f%2Fg", "f%20",
	":", ":f", "f:", "f:1:", "f:a.b", "f:$latest", "f:$LATEST1", "f:$", "f:" X128 "x",
	"1:function:", "1:function::", "1:fun:f", "1:function:f:", "1:function:f:1:2",
	"arn:aws:lambda:x:1:f", "us-east-1:1:f:1", "us-east-1:", "function:f:1:2", "function:",
	"123456789012:us-east-1:f:1", "function:123456789012:f:1", "f:$LATEST.", "f:$LATEST.PUBLISHE",
	"arn:aws:s3:f", "arn:aws:lambda:", "arn:aws:lambda:eu-west-1:1:function:",
	"arn:aws:s3:eu-west-1:1:function:f", "urn:aws:lambda:eu-west-1:1:function:f",
	"arn:aws:lambda:eu-west-1:1:layer:f", ARN "f:1:2", ARN "f:", "arn:" ARN "f",
};
/* clang-format on */

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct lambda_name n;

		if (!lambda_name_parse(&n, good[i].text, strlen(good[i].text)))
			fail_msg("'%s' is a name", good[i].text);
		assert_string_equal(n.name, good[i].name);
		assert_string_equal(n.qualifier, good[i].qualifier);
		assert_int_equal(n.name_len, strlen(n.name));
		assert_int_equal(n.qualifier_len, strlen(n.qualifier));
	}
}

static void test_bad(void **state)
{
	struct lambda_name n;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (lambda_name_parse(&n, bad[i], strlen(bad[i])))
			fail_msg("'%s' is no name", bad[i]);
	assert_false(lambda_name_parse(&n, "f\0g", 3));
	assert_false(lambda_name_parse(&n, "\0", 1));
}

/* All forms together may have 170 bytes, decoded. */
static void test_length(void **state)
{
	char text[3 * LAMBDA_NAME_MAX + 4] = "";
	struct lambda_name n;
	size_t first;

	(void)state;
	first = (size_t)sprintf(text, "%sf:", "arn:aws:lambda:eu-west-1:123456789012:function:");
	memset(text + first, 'q', LAMBDA_NAME_MAX + 1 - first);
	assert_true(lambda_name_parse(&n, text, LAMBDA_NAME_MAX));
	assert_int_equal(n.qualifier_len, LAMBDA_NAME_MAX - first);
	assert_false(lambda_name_parse(&n, text, LAMBDA_NAME_MAX + 1));
	for (unsigned i = 0; i <= LAMBDA_NAME_MAX; i++)
		memcpy(text + 3 * i, i == 1 ? "%3a" : "%61", 3);
	assert_false(lambda_name_parse(&n, text, 3 * LAMBDA_NAME_MAX)); /* a qualifier of 168 */
	assert_true(lambda_name_parse(&n, text, 3 * 130));
	assert_int_equal(n.qualifier_len, 128);
}

/* Parts never lie outside, and what is taken for a name is one. */
static void test_random(void **state)
{
	static const char letters[] = ":::%%%aZ09-_$LATESTfunction:arn:lambda./\xff";
	struct seed seed = seed_begin(4012);
	unsigned taken = 0;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		struct lambda_name n;
		size_t len = seed_below(&seed, round % 2 ? 8 : 64);
		/* On the heap, so that a sanitizer sees a byte too many. */
		char *exact = malloc(len + 1);

		for (size_t i = 0; i < len; i++)
			exact[i] = letters[seed_below(&seed, sizeof(letters))];
		exact = realloc(exact, len ? len : 1);
		if (lambda_name_parse(&n, exact, len)) {
			taken++;
			assert_true(n.name >= n.text &&
				    n.name + n.name_len <= n.text + LAMBDA_NAME_MAX);
			assert_true(function_name_valid(n.name, n.name_len));
			assert_true(!n.qualifier_len ||
				    lambda_qualifier_valid(n.qualifier, n.qualifier_len));
		}
		free(exact);
	}
	assert_in_range(taken, 1000, 100000);
}

/* --- Targets --- */

struct target {
	enum http_method method;
	const char *text;
	enum lambda_target wanted;
	const char *name; /* where there is one */
};

#define V "/2015-03-31/functions"

/* clang-format off */
static const struct target targets[] = {
	{ HTTP_POST, V "/f/invocations", LAMBDA_INVOKE, "f" },
	{ HTTP_POST, V "/f/invocations?x=/invocations", LAMBDA_INVOKE, "f" },
	{ HTTP_POST, V "/a%3Ab/invocations?", LAMBDA_INVOKE, "a" },
	{ HTTP_POST, V "//invocations", LAMBDA_NO_NAME, NULL },
	{ HTTP_POST, V "/./invocations", LAMBDA_NO_NAME, NULL },
	{ HTTP_GET, V "/f/invocations", LAMBDA_NO_METHOD, NULL },
	{ HTTP_GET, V, LAMBDA_LIST, NULL },
	{ HTTP_GET, V "/?Marker=x", LAMBDA_LIST, NULL },
	{ HTTP_GET, V "/f", LAMBDA_GET, "f" },
	{ HTTP_GET, V "/invocations?Qualifier=1", LAMBDA_GET, "invocations" },
	{ HTTP_GET, V "/function%3Af%3Alive", LAMBDA_GET, "f" },
	{ HTTP_GET, V "/f/configuration", LAMBDA_GET_CONFIGURATION, "f" },
	{ HTTP_GET, V "/.", LAMBDA_NO_NAME, NULL },
	{ HTTP_GET, V "//configuration", LAMBDA_NO_NAME, NULL },
	/* What the interface has and virga has not. */
	{ HTTP_POST, "/2021-11-15/functions/f/response-streaming-invocations", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, "/2014-11-13/functions/f/invoke-async", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, V, LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_DELETE, V "/f", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_PUT, V "/f/code", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_PUT, V "/f/configuration", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_GET, V "/f/aliases/a", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_GET, V "/f/versions", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_GET, "/2018-10-31/layers?find=LayerVersion", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_GET, "/2017-03-31/tags/arn", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, "/2099-12-31/x", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, V "/f/invocations/", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, V "/a/b/invocations", LAMBDA_NOT_OFFERED, NULL },
	{ HTTP_POST, V "?/f/invocations", LAMBDA_NOT_OFFERED, NULL },
	/* What no interface has. */
	{ HTTP_POST, "2015-03-31/functions/f/invocations", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "/2015-03-31", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "/2015-03-3x/functions", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "/?/2015-03-31/functions", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "/", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "?", LAMBDA_ANOTHER_TARGET, NULL },
	{ HTTP_GET, "", LAMBDA_ANOTHER_TARGET, NULL },
};
/* clang-format on */

static void test_targets(void **state)
{
	struct lambda_name n;

	(void)state;
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		const struct target *t = &targets[i];

		if (lambda_target_parse(&n, t->method, t->text, strlen(t->text)) != t->wanted)
			fail_msg("'%s' is taken for something else", t->text);
		if (t->name)
			assert_memory_equal(n.name, t->name, strlen(t->name) + 1);
	}
}

/* A query with %s in it, and whether that is a Qualifier. */
static void test_queries(void **state)
{
	static const struct {
		const char *query;
		bool qualifier;
	} queries[] = {
		{ "Qualifier=%s", true },      { "a=b&Qualifier=%s&c=d", true },
		{ "&&Qualifier=%s&", true },   { "Qualifier=%s&Qualifier=1", true },
		{ "Qualifier=?=%s", true },    { "Qualifier=1&Qualifier=%s", false },
		{ "Qualifier%s", false },      { "qualifier=%s", false },
		{ "QQualifier=%s", false },    { "aQualifier=%s&Qualifier2=%s", false },
		{ "Qualifier=&%s", false },    { "%s", false },
		{ "Qualifier=1&a=%s", false }, { "%s&Qualifier=", false },
	};
	char value[LAMBDA_QUALIFIER_MAX + 2], query[1024], target[1200];
	struct lambda_name n;

	(void)state;
	memset(value, 'q', sizeof(value));
	value[LAMBDA_QUALIFIER_MAX + 1] = '\0';
	for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		snprintf(query, sizeof(query), queries[i].query, value, value);
		snprintf(target, sizeof(target), "/2015-03-31/functions/f/invocations?%s", query);
		if (lambda_target_parse(&n, HTTP_POST, target, strlen(target)) !=
		    (queries[i].qualifier ? LAMBDA_NO_QUALIFIER : LAMBDA_INVOKE))
			fail_msg("'%s' is taken for something else", queries[i].query);
	}
	snprintf(target, sizeof(target), "/2015-03-31/functions/f/invocations?Qualifier=%s",
		 value + 1);
	assert_int_equal(lambda_target_parse(&n, HTTP_POST, target, strlen(target)), LAMBDA_INVOKE);
}

/* --- What a caller is told --- */

static struct bed *bed;
static struct pool pool;
static struct function function = { .config = { .name = (char *)"f" } };
static struct lambda lambda;

static int setup(void **state)
{
	(void)state;
	bed = bed_open();
	function.pool = &pool;
	pool.functions = &function;
	lambda_init(&lambda, bed->server, &pool, NULL);
	bed->handler = (struct http_handler){ .request = lambda_request,
					      .gone = lambda_gone,
					      .opaque = &lambda };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bed_close(bed);
	return 0;
}

/* One request and its refusal. */
static void check_refused(const char *method, const char *target, const char *header,
			  unsigned status, const char *type, const char *sentence)
{
	struct client c = client_open(bed);
	char text[1024];

	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", method, target, header);
	client_say(&c, text);
	if (client_answers(&c) != 1 || client_status(&c, 0) != status)
		fail_msg("%s is answered %s", text, c.in);
	snprintf(text, sizeof(text), "x-amzn-ErrorType: %s", type);
	assert_true(client_has(&c, 0, text));
	if (!strstr(client_body(&c, 0).data, sentence))
		fail_msg("%s %s: %s does not say '%s'", method, target, client_body(&c, 0).data,
			 sentence);
	assert_false(c.ended);
	client_close(&c);
}

static void test_names_refused(void **state)
{
	char target[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (strpbrk(bad[i], " ?#/\n\xc3"))
			continue; /* it does not come that far */
		snprintf(target, sizeof(target), "/2015-03-31/functions/%s/invocations", bad[i]);
		check_refused("POST", target, "", 400, "InvalidParameterValueException",
			      "no name of a function: NAME (letters, digits, - and _, 64 at most), "
			      "NAME:QUALIFIER or an ARN");
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(target, sizeof(target), "/2015-03-31/functions/%s/invocations",
			 good[i].text);
		check_refused("POST", target, "", 404, "ResourceNotFoundException",
			      strcmp(good[i].name, "f") == 0
				      ? "Function not found: f (its template could not be loaded)"
				      : "Function not found: ");
	}
}

#define F "/2015-03-31/functions/f/invocations"

static void test_refusals(void **state)
{
	static struct function_version version = { .tag = "abc" };
	char target[1024] = F "?Qualifier=";

	(void)state;
	check_refused("POST", "/", "", 404, "ResourceNotFoundException", "there is nothing here");
	check_refused("GET", "/nothing", "", 404, "ResourceNotFoundException", "GET / shows");
	check_refused("POST", "/2021-11-15/functions/f/response-streaming-invocations", "", 501,
		      "NotImplementedException", "not offered here: Invoke, GetFunction");
	check_refused("GET", F, "", 405, "MethodNotAllowedException", "by POST");
	check_refused("PUT", F, "", 405, "MethodNotAllowedException", "by POST");
	function.version = &version;
	check_refused("POST", F, "X-Amz-Invocation-Type: Event\r\n", 501, "NotImplementedException",
		      "type Event and DurableExecutionName are not offered");
	check_refused("POST", F, "X-Amz-Durable-Execution-Name: abc\r\n", 501,
		      "NotImplementedException", "DurableExecutionName are not offered");
	check_refused("POST", F, "x-amz-invocation-type: Other\r\n", 400,
		      "InvalidParameterValueException", "RequestResponse and DryRun are allowed");
	check_refused("POST", F, "Origin: http://evil.example\r\n", 403, "AccessDeniedException",
		      "a page of another machine");
	memset(target + strlen(target), 'q', 385);
	check_refused("POST", target, "", 400, "InvalidParameterValueException", "too long");
	function.version = NULL;
}

/* A page of this machine may ask, any other not. */
static void test_origins(void **state)
{
	static const char *const local[] = { "http://localhost",     "http://localhost:9001",
					     "http://127.0.0.1",     "http://127.0.0.1:80",
					     "http://127.255.0.1:1", "http://[::1]:9001",
					     "http://[::1]" };
	static const char *const foreign[] = { "null",
					       "http://evil.example",
					       "https://localhost",
					       "http://localhost.evil.example",
					       "http://127.0.0.1.evil.example",
					       "http://127.evil.example:1",
					       "http://127.",
					       "http://[::1].x",
					       "http://",
					       "http://:80",
					       "localhost",
					       "http://192.168.0.1" };
	char header[128];

	(void)state;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		snprintf(header, sizeof(header), "Origin: %s\r\n", local[i]);
		check_refused("POST", "/x", header, 404, "ResourceNotFoundException", "nothing");
	}
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		snprintf(header, sizeof(header), "Origin: %s\r\n", foreign[i]);
		check_refused("POST", "/x", header, 403, "AccessDeniedException",
			      "page of another");
	}
}

/* Each answer has an id of its own, a UUID of version 4. */
static void test_ids(void **state)
{
	struct client c = client_open(bed);
	char ids[300][HTTP_ID_LEN + 1];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		const char *at;

		client_forget(&c);
		client_say(&c, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
		at = strstr(c.in, "x-amzn-RequestId: ");
		assert_non_null(at);
		memcpy(ids[i], at + 18, HTTP_ID_LEN);
		ids[i][HTTP_ID_LEN] = '\0';
		for (unsigned k = 0; k < HTTP_ID_LEN; k++)
			if (k == 8 || k == 13 || k == 18 || k == 23)
				assert_int_equal(ids[i][k], '-');
			else
				assert_non_null(memchr("0123456789abcdef", ids[i][k], 16));
		assert_int_equal(ids[i][14], '4');
		assert_non_null(strchr("89ab", ids[i][19]));
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(ids[k], ids[i]);
	}
	client_close(&c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_queries),
		TEST(test_names_refused),
		TEST(test_refusals),
		TEST(test_origins),
		TEST(test_ids),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("lambda_name", tests, NULL, NULL);
}
