/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/host/config.c: every key with what it may be and with what not, files that are no
 * configuration, and sentences that name file, key and what is allowed.
 */
#include "serve/host/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/ipc/invocation.h"
#include "tests/unit/descriptors.h"

static char path[] = "/tmp/test_host_config.XXXXXX";
static unsigned descriptors;

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	descriptors = descriptors_open();
	return fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static int check_left(void **state)
{
	(void)state;
	assert_int_equal(descriptors_open(), descriptors);
	return 0;
}

static int read_bytes(struct host_config *config, const char *text, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	fclose(file);
	host_config_init(config);
	return host_config_read(config, path);
}

static void read_good(struct host_config *config, const char *text)
{
	if (read_bytes(config, text, strlen(text)) < 0)
		fail_msg("%s: %s", text, error_text());
}

static void check_bad(const char *text, size_t len, int err, const char *words)
{
	struct host_config config;
	int ret = read_bytes(&config, text, len);

	if (ret != -err)
		fail_msg("%.200s: %d", text, ret);
	if (!strstr(error_text(), words) || !strstr(error_text(), path))
		fail_msg("%.200s: '%s' does not say '%s' and the file", text, error_text(), words);
	host_config_fini(&config);
}

/* --- What is not said --- */

static void check_function_defaults(const struct function_config *f)
{
	assert_int_equal(f->timeout_ms, 3000);
	assert_int_equal(f->concurrency, 100);
	assert_int_equal(f->queue, 100);
	assert_int_equal(f->policy, POLICY_ONCE);
	assert_int_equal(f->idle_timeout_ms, 300000);
	assert_int_equal(f->memory, 0);
	assert_false(f->json);
	assert_null(f->environment);
	assert_int_equal(f->pool_min, 2);
	assert_int_equal(f->pool_max, 64);
	assert_int_equal(f->pool_refill, 1000);
}

static void check_defaults(struct host_config *config)
{
	assert_int_equal(config->listen_count, 0);
	assert_int_equal(config->hosts.count, 0);
	assert_null(config->store);
	assert_true(config->builtin);
	assert_true(config->all);
	assert_int_equal(config->shells, 512);
	assert_int_equal(config->bare, 2);
	assert_int_equal(config->function_count, 1);
	assert_string_equal(config->functions[0].name, "builtin");
	assert_null(config->functions[0].template);
	check_function_defaults(&config->functions[0]);
	host_config_fini(config);
}

static void test_defaults(void **state)
{
	struct host_config config;

	(void)state;
	host_config_init(&config);
	assert_int_equal(host_config_read(&config, NULL), 0);
	check_defaults(&config);
	read_good(&config, "{}");
	check_defaults(&config);
}

static void test_functions(void **state)
{
	struct host_config config;

	(void)state;
	read_good(&config, "{\"functions\": {\"a\": {}, \"b_-9Z\": {\"template\": \"dir/t\"}}}");
	assert_false(config.all);
	assert_int_equal(config.function_count, 3);
	assert_string_equal(config.functions[0].name, "a");
	assert_string_equal(config.functions[0].template, "a");
	check_function_defaults(&config.functions[0]);
	assert_string_equal(config.functions[1].name, "b_-9Z");
	assert_string_equal(config.functions[1].template, "dir/t");
	assert_string_equal(config.functions[2].name, "builtin");
	assert_null(config.functions[2].template);
	host_config_fini(&config);

	/* The embedded guest's settings under its name; or its name for another, or no such function. */
	read_good(&config, "{\"functions\": {\"builtin\": {\"queue\": 7}}}");
	assert_int_equal(config.function_count, 1);
	assert_int_equal(config.functions[0].queue, 7);
	assert_null(config.functions[0].template);
	host_config_fini(&config);
	read_good(&config, "{\"builtin\": false, \"functions\": {\"builtin\": {}}}");
	assert_int_equal(config.function_count, 1);
	assert_string_equal(config.functions[0].template, "builtin");
	host_config_fini(&config);
	read_good(&config, "{\"builtin\": false, \"functions\": {}}");
	assert_int_equal(config.function_count, 0);
	assert_false(config.all);
	host_config_fini(&config);
}

/* --- Every key --- */

static void test_host_keys(void **state)
{
	struct host_config config;

	(void)state;
	read_good(&config, "{\"listen\": \"unix:/x\", \"store\": \"/s\", \"builtin\": false, "
			   "\"shells\": 8192, \"bare\": 0}");
	assert_int_equal(config.listen_count, 1);
	assert_string_equal(config.listen[0], "unix:/x");
	assert_string_equal(config.store, "/s");
	assert_false(config.builtin);
	assert_true(config.all);
	assert_int_equal(config.shells, 8192);
	assert_int_equal(config.bare, 0);
	assert_int_equal(config.function_count, 0);
	host_config_fini(&config);
	read_good(&config, "{\"shells\": 1, \"bare\": 1024, \"listen\": "
			   "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\"]}");
	assert_int_equal(config.listen_count, 8);
	assert_string_equal(config.listen[7], "8");
	assert_int_equal(config.shells, 1);
	assert_int_equal(config.bare, 1024);
	host_config_fini(&config);
	read_good(&config, "{\"listen\": [], \"hosts\": [\"a.b\", \"[fd00::1]\"]}");
	assert_int_equal(config.listen_count, 0);
	assert_int_equal(config.hosts.count, 2);
	assert_string_equal(config.hosts.names[1], "[fd00::1]");
	host_config_fini(&config);
}

/* Reads one function with these keys. */
static struct function_config *read_function(struct host_config *config, const char *keys)
{
	char text[1024];

	snprintf(text, sizeof(text), "{\"functions\": {\"f\": {%s}}}", keys);
	read_good(config, text);
	return &config->functions[0];
}

static void test_function_keys(void **state)
{
	struct host_config config;
	struct function_config *f;

	(void)state;
	f = read_function(&config, "\"template\": \"t\", \"memory\": \"16M\", \"timeout\": 0.001, "
				   "\"concurrency\": 1, \"queue\": 0, \"policy\": \"reset\", "
				   "\"idle_timeout\": 86400, \"json\": true, "
				   "\"environment\": {\"A\": \"b c\", \"D\": \"\"}, "
				   "\"pool\": {\"min\": 0, \"max\": 0, \"refill\": 1}");
	assert_string_equal(f->template, "t");
	assert_int_equal(f->memory, 16 << 20);
	assert_int_equal(f->timeout_ms, 1);
	assert_int_equal(f->concurrency, 1);
	assert_int_equal(f->queue, 0);
	assert_int_equal(f->policy, POLICY_RESET);
	assert_int_equal(f->idle_timeout_ms, 86400000);
	assert_true(f->json);
	assert_int_equal(f->environment_len, 9);
	assert_memory_equal(f->environment, "A=b c\0D=", 9);
	assert_int_equal(f->pool_min, 0);
	assert_int_equal(f->pool_max, 0);
	assert_int_equal(f->pool_refill, 1);
	host_config_fini(&config);

	f = read_function(&config, "\"memory\": \"512G\", \"timeout\": 1.2346, "
				   "\"concurrency\": 4096, \"queue\": 4096, \"policy\": \"keep\", "
				   "\"json\": false, \"environment\": {}, "
				   "\"pool\": {\"min\": 4096, \"max\": 4096, \"refill\": 100000}");
	assert_true(f->memory == 512ull << 30);
	assert_int_equal(f->timeout_ms, 1235);
	assert_int_equal(f->concurrency, 4096);
	assert_int_equal(f->queue, 4096);
	assert_int_equal(f->policy, POLICY_KEEP);
	assert_int_equal(f->environment_len, 0);
	assert_int_equal(f->pool_min, 4096);
	assert_int_equal(f->pool_refill, 100000);
	host_config_fini(&config);
	f = read_function(&config, "\"policy\": \"once\", \"pool\": {}");
	assert_int_equal(f->policy, POLICY_ONCE);
	assert_int_equal(f->pool_max, 64);
	assert_string_equal(policy_name(POLICY_ONCE), "once");
	assert_string_equal(policy_name(POLICY_RESET), "reset");
	assert_string_equal(policy_name(POLICY_KEEP), "keep");
	host_config_fini(&config);
}

/* --- What is wrong --- */

/* Values that are of no type of some key, or out of its range. */
#define NOT_COUNT   "1.5", "\"x\"", "true", "null", "[]", "{}", "-1"
#define NOT_SECONDS "0", "0.0009", "-1", "86400.1", "1e300", "\"3\"", "true", "null", "[1]", "{}"
#define NOT_BOOL    "0", "1", "\"true\"", "null", "[]", "{}"
#define NOT_TEXT    "1", "true", "null", "[]", "{}", "\"\""

struct bad_key {
	const char *name, *allowed;
	const char *values[16];
};

/* clang-format off */
static const struct bad_key host_bad[] = {
	{ "listen", "a text or up to 8 of them", { "1", "true", "null", "{}", "[1]", "[null]",
	  "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]" } },
	{ "hosts", "a text or up to 16 of them", { "1", "true", "null", "{}", "[1]", "[null]" } },
	{ "hosts", "'", { "\"\"", "\"http://h\"", "\"h:1\"", "[\"h\", \"a b\"]", "\"*,\"", "\"h/\"" } },
	{ "store", "must be a text", { NOT_TEXT } },
	{ "builtin", "true or false", { NOT_BOOL } },
	{ "shells", "a whole number from 1 to 8192", { NOT_COUNT, "0", "8193" } },
	{ "bare", "a whole number from 0 to 1024", { NOT_COUNT, "1025" } },
	{ "memory_total", "16M to 1048576G are allowed, in whole pages of 4096 bytes",
	  { NOT_TEXT, "\"0\"", "\"15M\"", "\"1048577G\"" } },
	{ "functions", "must be an object of at most 1024", { "1", "true", "null", "[]", "\"f\"" } },
};

static const struct bad_key function_bad[] = {
	{ "template", "must be a text", { NOT_TEXT } },
	{ "memory", "4M to 512G are allowed, in whole pages of 4096 bytes",
	  { NOT_TEXT, "\"M\"", "\"0\"", "\"4095K\"", "\"5000001\"", "\"513G\"", "\"-16M\"", "\"16MM\"",
	    "\"99999999999999999999\"" } },
	{ "timeout", "seconds from 0.001 to 86400", { NOT_SECONDS } },
	{ "concurrency", "a whole number from 1 to 4096", { NOT_COUNT, "0", "4097" } },
	{ "queue", "a whole number from 0 to 4096", { NOT_COUNT, "4097", "4294967296" } },
	{ "policy", "once, reset and keep", { NOT_TEXT, "\"Once\"", "\"always\"" } },
	{ "idle_timeout", "seconds from 0.001 to 86400", { NOT_SECONDS } },
	{ "json", "true or false", { NOT_BOOL } },
	{ "environment", "must be an object of texts", { "1", "true", "null", "[]", "\"A=b\"" } },
};

static const struct bad_key pool_bad[] = {
	{ "min", "a whole number from 0 to 4096", { NOT_COUNT, "4097" } },
	{ "max", "a whole number from 0 to 4096", { NOT_COUNT, "4097" } },
	{ "refill", "a whole number from 1 to 100000", { NOT_COUNT, "0", "100001" } },
};
/* clang-format on */

static void check_bad_keys(const struct bad_key *keys, size_t count, const char *before,
			   const char *after, const char *where)
{
	char text[512], words[256];

	for (size_t i = 0; i < count; i++) {
		for (unsigned v = 0; v < 16 && keys[i].values[v]; v++) {
			snprintf(text, sizeof(text), "%s{\"%s\": %s}%s", before, keys[i].name,
				 keys[i].values[v], after);
			snprintf(words, sizeof(words), "%skey '%s': %s", where, keys[i].name,
				 keys[i].allowed);
			check_bad(text, strlen(text), EINVAL, words);
		}
	}
}

static void test_bad_values(void **state)
{
	(void)state;
	check_bad_keys(host_bad, sizeof(host_bad) / sizeof(host_bad[0]), "", "", ": ");
	check_bad_keys(function_bad, sizeof(function_bad) / sizeof(function_bad[0]),
		       "{\"functions\": {\"f\": ", "}}", ": function 'f': ");
	check_bad_keys(pool_bad, sizeof(pool_bad) / sizeof(pool_bad[0]),
		       "{\"functions\": {\"f\": {\"pool\": ", "}}}", ": function 'f': pool: ");
}

struct bad_text {
	const char *text, *words;
};

/* clang-format off */
static const struct bad_text texts[] = {
	{ "{\"port\": 1}", ": there is no key 'port'; there are: listen, hosts, store, builtin, shells, bare, refill, memory_total, "
	  "functions" },
	{ "{\"functions\": {\"f\": {\"name\": 1}}}", ": function 'f': there is no key 'name'; there are: "
	  "template, memory, timeout, concurrency, queue, policy, idle_timeout, json, environment, pool" },
	{ "{\"functions\": {\"f\": {\"pool\": {\"size\": 1}}}}",
	  ": function 'f': pool: there is no key 'size'; there are: min, max, refill" },
	{ "{\"bare\": 1, \"bare\": 2}", "line 1: duplicate object key" },
	{ "{\"functions\": {\"f\": {},\n\"f\": {}}}", "line 2: duplicate object key" },
	{ "{\"functions\": {\"f\": 3}}", ": function 'f': must be an object" },
	{ "{\"functions\": {\"f\": {\"pool\": 3}}}", ": function 'f': pool: must be an object" },
	{ "{\"functions\": {\"f\": {\"pool\": {\"min\": 5, \"max\": 4}}}}",
	  "'max' is 4, less than 'min', 5" },
	{ "{\"functions\": {\"f\": {\"pool\": {\"min\": 65}}}}", "'max' is 64, less than 'min', 65" },
	{ "{\"functions\": {\"f\": {\"environment\": {\"A\": 1}}}}", "'A' must be a name without '='" },
	{ "{\"functions\": {\"f\": {\"environment\": {\"A=\": \"\"}}}}", "'A=' must be a name" },
	{ "{\"functions\": {\"f\": {\"environment\": {\"\": \"x\"}}}}", "'' must be a name" },
	{ "{\"functions\": {\"\": {}}}", "function '': letters, digits, '-' and '_' make a name" },
	{ "{\"functions\": {\"a.b\": {}}}", "function 'a.b': letters" },
	{ "{\"functions\": {\"a/b\": {}}}", "function 'a/b': letters" },
	{ "{\"functions\": {\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": {}}}",
	  "64 of them at most" },
	{ "{\"functions\": {\"builtin\": {\"template\": \"t\"}}}",
	  "function 'builtin' is the embedded guest and has no template; say \"builtin\": false" },
	/* No JSON, or no object. */
	{ "", "line 1: '[' or '{' expected near end of file" },
	{ " \n ", "line 2: '[' or '{' expected" },
	{ "[]", ": must be an object" },
	{ "7", "'[' or '{' expected" },
	{ "{", "line 1: " },
	{ "{}\n{}", "line 2: end of file expected" },
	{ "{\"bare\": 1,}", "line 1: " },
	{ "{\"bare\": 99999999999999999999}", "line 1: too big integer" },
	{ "{\"bare\": \xff}", "line 1: unable to decode byte 0xff" },
	{ "{\"store\": \"a\\u0000b\"}", "line 1: \\u0000 is not allowed" },
};
/* clang-format on */

static void test_bad_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check_bad(texts[i].text, strlen(texts[i].text), EINVAL, texts[i].words);
	check_bad("{\"bare\": 1}\0", 12, EINVAL, "line 1: end of file expected");
}

static void test_files(void **state)
{
	struct host_config config;

	(void)state;
	host_config_init(&config);
	assert_int_equal(host_config_read(&config, "/nonexistent/x"), -ENOENT);
	assert_string_equal(error_text(),
			    "/nonexistent/x: cannot be opened: No such file or directory");
	assert_int_equal(host_config_read(&config, "/tmp"), -EIO);
	assert_string_equal(error_text(), "/tmp: cannot be read");
	host_config_fini(&config);
}

/* --- Much of it --- */

static void test_environment_size(void **state)
{
	static const char before[] =
		"{\"functions\": {\"f\": {\"environment\": {\"B\": \"\", \"A\": \"";
	struct host_config config;
	char text[8192];
	size_t at = sizeof(before) - 1, len = INVOCATION_ENVIRONMENT_MAX - 3 - 3;

	(void)state;
	memcpy(text, before, at);
	memset(text + at, 'x', len);
	strcpy(text + at + len, "\"}}}}");
	read_good(&config, text);
	assert_int_equal(config.functions[0].environment_len, INVOCATION_ENVIRONMENT_MAX);
	host_config_fini(&config);
	text[at + len] = 'x';
	strcpy(text + at + len + 1, "\"}}}}");
	check_bad(text, strlen(text), E2BIG, "key 'environment': more than 4096 bytes in all");
}

static char *many_functions(unsigned count)
{
	char *text = malloc(count * 32 + 64), *at = text;

	at += sprintf(at, "{\"functions\": {");
	for (unsigned i = 0; i < count; i++)
		at += sprintf(at, "%s\"f%u\": {}", i ? ", " : "", i);
	sprintf(at, "}}");
	return text;
}

static void test_many_functions(void **state)
{
	struct host_config config;
	char *text = many_functions(HOST_FUNCTIONS_MAX);

	(void)state;
	read_good(&config, text);
	assert_int_equal(config.function_count, HOST_FUNCTIONS_MAX + 1);
	host_config_fini(&config);
	free(text);
	text = many_functions(HOST_FUNCTIONS_MAX + 1);
	check_bad(text, strlen(text), EINVAL, "key 'functions': must be an object of at most 1024");
	free(text);
}

/* Megabytes of blanks, of one text, of brackets. */
static void test_huge(void **state)
{
	struct host_config config;
	const size_t len = 16 << 20;
	char *text = malloc(len + 64);

	(void)state;
	memset(text, ' ', len);
	strcpy(text + len, "{\"bare\": 5}");
	read_good(&config, text);
	assert_int_equal(config.bare, 5);
	host_config_fini(&config);
	memset(text, 'x', len);
	memcpy(text, "{\"", 2);
	strcpy(text + len, "\": 1}");
	check_bad(text, strlen(text), EINVAL, "there is no key 'xxx");
	memset(text, '[', len);
	check_bad(text, len, EINVAL, "maximum parsing depth reached");
	memset(text, '{', len);
	check_bad(text, len, EINVAL, "line 1: ");
	free(text);
}

#define TEST(name) cmocka_unit_test_teardown(name, check_left)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),      TEST(test_functions),        TEST(test_host_keys),
		TEST(test_function_keys), TEST(test_bad_values),       TEST(test_bad_texts),
		TEST(test_files),         TEST(test_environment_size), TEST(test_many_functions),
		TEST(test_huge),
	};

	return cmocka_run_group_tests_name("host_config", tests, setup, teardown);
}
