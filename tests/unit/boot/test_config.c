/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/config.c: every key both ways, ranges and sentences, JSON that is not ours.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/base/error.h"
#include "boot/config.h"

static char json_path[] = "/tmp/test_config.XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(json_path);

	(void)state;
	close(fd);
	return fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(json_path);
}

static int read_text(struct config *config, const char *text)
{
	FILE *file = fopen(json_path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return config_load(config, json_path);
}

static void expect(int ret, int err, const char *words)
{
	assert_int_equal(ret, -err);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

static void test_defaults(void **state)
{
	struct config config;
	char *text;

	(void)state;
	config_init(&config);
	assert_true(config.memory == 128u << 20);
	assert_int_equal(config.cpus, 1);
	assert_null(config_short(&config, "serial"));
	text = config_print(&config);
	assert_string_equal(text, "{\n  \"memory\": \"128M\",\n  \"cpus\": 1\n}\n");
	free(text);
	config_fini(&config);
}

static const char all_keys[] = "{\n"
			       "  \"kernel\": \"/boot/vmlinuz\",\n"
			       "  \"initrd\": \"initrd.img\",\n"
			       "  \"cmdline\": \"console=ttyS0 a=\\\"b\\\"\",\n"
			       "  \"memory\": \"6G\",\n"
			       "  \"cpus\": 4,\n"
			       "  \"control\": \"/run/c\",\n"
			       "  \"name\": \"größe\",\n"
			       "  \"devices\": [\n"
			       "    {\n"
			       "      \"type\": \"serial\",\n"
			       "      \"name\": \"serial\",\n"
			       "      \"to\": \"file:/tmp/x\"\n"
			       "    }\n"
			       "  ]\n"
			       "}\n";

static void test_roundtrip(void **state)
{
	struct config config;
	char *text;

	(void)state;
	config_init(&config);
	assert_int_equal(read_text(&config, all_keys), 0);
	assert_string_equal(config.cmdline, "console=ttyS0 a=\"b\"");
	assert_true(config.memory == 6ull << 30);
	assert_int_equal(config.cpus, 4);
	text = config_print(&config);
	assert_string_equal(text, all_keys);
	free(text);
	config_fini(&config);
	assert_null(config.kernel);
}

static void test_set_replaces(void **state)
{
	struct config config;

	(void)state;
	config_init(&config);
	assert_int_equal(config_set(&config, "cmdline", "one"), 0);
	assert_int_equal(config_set(&config, "cmdline", ""), 0);
	assert_string_equal(config.cmdline, "");
	assert_int_equal(config_set(&config, "nosuch", "x"), -ENOENT);
	config_fini(&config);
}

static void test_values(void **state)
{
	static const char long_path[102] = { [0 ... 100] = 'p' };
	static const struct {
		const char *key, *value, *words; /* words NULL: allowed */
	} cases[] = {
		{ "memory", "4M", NULL },
		{ "memory", "4096K", NULL },
		{ "memory", "134217728", NULL },
		{ "memory", "512G", NULL },
		{ "memory", "3M", "memory '3M': 4M to 512G are allowed" },
		{ "memory", "513G", "memory '513G': 4M to 512G" },
		{ "memory", "8388609", "whole pages of 4096 bytes" },
		{ "memory", "", "memory ''" },
		{ "memory", "-8M", "memory '-8M'" },
		{ "memory", " 8M", "memory ' 8M'" },
		{ "memory", "8MB", "memory '8MB'" },
		{ "memory", "0x8M", "memory '0x8M'" },
		{ "memory", "18446744073709551616", "memory '18446744073709551616'" },
		{ "memory", "17179869185G", "memory '17179869185G'" },
		{ "cpus", "1", NULL },
		{ "cpus", "16", NULL },
		{ "cpus", "0", "cpus '0': a whole number from 1 to 16 is allowed" },
		{ "cpus", "17", "cpus '17': a whole number from 1 to 16" },
		{ "cpus", "+1", "cpus '+1'" },
		{ "cpus", "1 ", "cpus '1 '" },
		{ "cpus", "18446744073709551617", "cpus '18446744073709551617'" },
		{ "serial", "stdio", NULL },
		{ "serial", "none", NULL },
		{ "serial", "pty", NULL },
		{ "serial", "file:x", NULL },
		{ "serial", "file:",
		  "device serial: key 'to': stdio, none, pty and file:PATH are allowed, not "
		  "'file:'" },
		{ "serial", "tty", "not 'tty'" },
		{ "serial", "", "device serial: key 'to': stdio" },
		{ "serial", "file:\xff", "serial: UTF-8 is all that is allowed" },
		{ "kernel", "", "kernel '' has 0 bytes; 1 to 4095 are allowed" },
		{ "vsock", long_path,
		  "device virtio_vsock: key 'path': must be a text of 1 to 100 bytes, not 101" },
		{ "control", long_path + 1, NULL },
		{ "name", "", "name '' has 0 bytes; 1 to 64" },
		{ "kernel", "\xff\xfe", "kernel: its value is not UTF-8" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config config;
		int ret;

		config_init(&config);
		ret = config_set(&config, cases[i].key, cases[i].value);
		if (cases[i].words)
			expect(ret, EINVAL, cases[i].words);
		else
			assert_int_equal(ret, 0);
		config_fini(&config);
	}
}

static void test_refused_value_changes_nothing(void **state)
{
	struct config config;

	(void)state;
	config_init(&config);
	assert_int_equal(config_set(&config, "serial", "pty"), 0);
	assert_int_equal(config_set(&config, "serial", "usb"), -EINVAL);
	assert_int_equal(config_set(&config, "memory", "1K"), -EINVAL);
	assert_string_equal(config_short(&config, "serial"), "pty");
	assert_true(config.memory == CONFIG_MEMORY_DEFAULT);
	config_fini(&config);
}

static void test_json_errors(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "", "line 1" },
		{ "{\n\"memory\": }", "line 2" },
		{ "[]", "one JSON object" },
		{ "\"x\"", "line 1" },
		{ "{\"memry\": \"1G\"}", "there is no key 'memry'" },
		{ "{\"memory\": 1.5}", "key 'memory': 4M to 512G are allowed" },
		{ "{\"kernel\": 5}", "key 'kernel': must be a text of 1 to 4095 bytes" },
		{ "{\"kernel\": null}", "key 'kernel': must be a text of 1 to 4095 bytes" },
		{ "{\"cpus\": true}", "key 'cpus'" },
		{ "{\"cpus\": 1, \"cpus\": 2}", "duplicate" },
		{ "{\"cpus\": -1}",
		  "key 'cpus': a whole number from 1 to 16 is allowed, not '-1'" },
		{ "{\"memory\": \"1M\"}", "in whole pages of 4096 bytes, not '1M'" },
		{ "{\"kernel\": \"a\\u0000b\"}", "line 1" },
		{ "{} {}", "line 1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config config;

		config_init(&config);
		expect(read_text(&config, cases[i].text), EINVAL, cases[i].words);
		assert_non_null(strstr(error_text(), json_path));
		config_fini(&config);
	}
}

static void test_json_numbers(void **state)
{
	struct config config;

	(void)state;
	config_init(&config);
	assert_int_equal(read_text(&config, "{\"memory\": 8388608, \"cpus\": \"2\"}"), 0);
	assert_true(config.memory == 8u << 20);
	assert_int_equal(config.cpus, 2);
	config_fini(&config);
}

static void test_no_file(void **state)
{
	struct config config;

	(void)state;
	config_init(&config);
	expect(config_load(&config, "/nonexistent/c.json"), ENOENT, "/nonexistent/c.json");
	expect(config_parse_saved(&config, "{\n\"memory\": }", "D/config"), EINVAL,
	       "D/config: line 2: ");
	expect(config_parse_saved(&config, "[]", "D/config"), EINVAL,
	       "D/config: must hold one JSON");
	expect(config_parse_saved(&config, "{\"cpus\": 0}", "D/config"), EINVAL,
	       "D/config: key 'cpus'");
	expect(config_load(&config, "/tmp"), EIO, "/tmp: cannot be read");
	config_fini(&config);
}

static void test_odd_sizes_print_exactly(void **state)
{
	static const char *const sizes[] = { "5G", "1025M", "8196K", "4M" };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct config config;
		char *text;

		config_init(&config);
		assert_int_equal(config_set(&config, "memory", sizes[i]), 0);
		text = config_print(&config);
		assert_non_null(strstr(text, sizes[i]));
		free(text);
		config_fini(&config);
	}
}

/* The grammar of --device and the same in JSON. */
static void test_devices(void **state)
{
	static const struct {
		const char *text;
		int err;
		const char *words;
	} wrong[] = {
		{ "wheel", ENODEV, "there is no device 'wheel'; 'virga devices' lists" },
		{ "", ENODEV, "there is no device ''" },
		{ "serial,pty", EINVAL, "device serial: 'pty' is not of the form KEY=VALUE" },
		{ "serial,", EINVAL, "device serial: '' is not of the form" },
		{ "serial,speed=9", EINVAL, "device serial: it has no key 'speed'" },
		{ "serial,to=wheel", EINVAL, "device serial: key 'to': stdio, none" },
		{ "serial,to=none,to=pty", EINVAL, "device serial: key 'to': given twice" },
		{ "serial,to=none,tt,to=pty", EINVAL, "device serial: 'tt' is not of the form" },
		{ "serial,type=park", EINVAL, "device serial: it has no key 'type'" },
		{ "serial,to=file:\xff", EINVAL, "device serial: key 'to': UTF-8 is all" },
		{ "none,to=x", EINVAL, "device none: takes no keys, and not 'to'" },
		{ "virtio_rng,name=a b", EINVAL, "device virtio_rng: 'a b' is no name" },
		{ "virtio_rng,name=123456789012345678901234", EINVAL,
		  "is no name: up to 23 letters" },
		{ "park,name=p", EINVAL,
		  "device park: 'p' cannot be its name: a machine has one at most" },
		{ "virtio_rng,name=serial", EINVAL,
		  "device virtio_rng: 'serial' cannot be its name: another device" },
	};
	static const char json[] = "{\"devices\": [{\"type\": \"none\"}, {\"type\": \"serial\", "
				   "\"to\": \"file:/a,b\"}, {\"type\": \"virtio_rng\", "
				   "\"name\": \"p\"}]}";
	struct config config, again;
	char *text, *twice;

	(void)state;
	config_init(&config);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		expect(config_add_device(&config, wrong[i].text), wrong[i].err, wrong[i].words);
	config_fini(&config);

	config_init(&config);
	config_init(&again);
	assert_int_equal(read_text(&config, json), 0);
	assert_int_equal(config_add_device(&again, "none"), 0);
	assert_int_equal(config_add_device(&again, "serial,to=file:/a,,b"), 0);
	assert_int_equal(config_add_device(&again, "virtio_rng,name=p"), 0);
	assert_true(config.devices_only);
	assert_string_equal(config_short(&config, "serial"), "file:/a,b");
	assert_int_equal(config.devices.count, 2);
	assert_string_equal(config.devices.list[1].name, "p");
	text = config_print(&config);
	twice = config_print(&again);
	assert_string_equal(text, twice);
	free(twice);
	config_fini(&again);

	/* What is printed is read. */
	config_init(&again);
	assert_int_equal(read_text(&again, text), 0);
	twice = config_print(&again);
	assert_string_equal(text, twice);
	free(twice);
	free(text);
	config_fini(&again);
	config_fini(&config);
}

/* A short form is the device's option: the last word counts, whichever it is said in. */
static void test_short_forms(void **state)
{
	struct config config;
	char *text;

	(void)state;
	config_init(&config);
	assert_int_equal(read_text(&config, "{\"vsock\": \"/v\", \"serial\": \"none\"}"), 0);
	assert_int_equal(config_add_device(&config, "serial,to=pty,name=serial"), 0);
	assert_string_equal(config_short(&config, "serial"), "pty");
	assert_int_equal(config_set(&config, "serial", "stdio"), 0);
	assert_string_equal(config_short(&config, "serial"), "stdio");
	assert_string_equal(config_short(&config, "vsock"), "/v");
	assert_int_equal(config.devices.count, 2);
	config_forget(&config, DEVICE_CONNECT);
	assert_null(config_short(&config, "vsock"));
	text = config_print(&config);
	assert_null(strstr(text, "vsock\": "));
	assert_null(strstr(text, "/v"));
	free(text);
	config_fini(&config);
	assert_string_equal(config_short_of(config_short_option("serial")), "serial");
	assert_string_equal(config_short_of(config_short_option("vsock")), "vsock");
	assert_null(config_short_of(&(const struct device_option){ .value = "X" }));
	assert_null(config_short_option("memory"));
	assert_null(config_short_option("none"));
}

/* What each start says anew is in no snapshot; where it is, it was another start's. */
static void test_saved(void **state)
{
	static const char json[] =
		"{\"control\": \"/c\", \"name\": \"n\", \"devices\": [{\"type\": \"virtio_vsock\","
		" \"path\": \"/v\"}, {\"type\": \"serial\", \"to\": \"file:/s\"}]}";
	static const char older[] =
		"{\"control\": \"/c\", \"name\": \"n\", \"serial\": \"file:/s\", \"vsock\": \"/v\","
		" \"devices\": [{\"type\": \"serial\", \"to\": \"pty\"}, {\"type\": "
		"\"virtio_vsock\"}]}";
	static const char *const said[] = {
		"control", "/c", "path", "/v", "to\":", "file:/s", NULL
	};
	struct config config, again;
	char *saved, *text;

	(void)state;
	config_init(&config);
	assert_int_equal(read_text(&config, json), 0);
	text = config_print(&config);
	saved = config_print_saved(&config);
	for (unsigned i = 0; said[i]; i++) {
		assert_non_null(strstr(text, said[i]));
		assert_null(strstr(saved, said[i]));
	}
	assert_non_null(strstr(saved, "\"name\": \"n\""));
	assert_non_null(strstr(saved, "\"type\": \"serial\""));
	assert_string_equal(config_short(&config, "vsock"), "/v");
	for (unsigned i = 0; i < 2; i++) {
		config_init(&again);
		assert_int_equal(config_parse_saved(&again, i ? older : text, "D/config"), 0);
		assert_null(again.control);
		assert_string_equal(again.name, "n");
		assert_int_equal(again.devices.count, 2);
		assert_null(config_short(&again, "serial"));
		assert_null(config_short(&again, "vsock"));
		config_fini(&again);
	}
	free(saved);
	free(text);
	config_fini(&config);
}

static void test_devices_json_errors(void **state)
{
	static const char *const wrong[][2] = {
		{ "{\"devices\": 1}", "key 'devices' must be a list" },
		{ "{\"devices\": [1]}", "must be a list of objects with a 'type'" },
		{ "{\"devices\": [{\"name\": \"a\"}]}", "objects with a 'type'" },
		{ "{\"devices\": [{\"type\": \"park\", \"name\": 1}]}",
		  "key 'name' must be a text" },
		{ "{\"devices\": [{\"type\": \"serial\"}, {\"type\": \"serial\", \"name\": "
		  "\"con\"}]}",
		  "device serial: 'con' cannot be its name" },
		{ "{\"devices\": [{\"type\": \"wheel\"}]}", "there is no device 'wheel'" },
		{ "{\"devices\": [{\"type\": \"none\", \"to\": 1}]}", "and not 'to'" },
		{ "{\"devices\": [{\"type\": \"serial\", \"to\": 1}]}",
		  "device serial: key 'to': must be a text" },
		{ "{\"serial\": \"tty\"}", "device serial: key 'to': stdio, none" },
		{ "{\"vsock\": 5}", "device virtio_vsock: key 'path': must be a text" },
	};
	struct config config;

	(void)state;
	config_init(&config);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_true(read_text(&config, wrong[i][0]) < 0);
		if (!strstr(error_text(), wrong[i][1]) || !strstr(error_text(), json_path))
			fail_msg("'%s' does not say '%s'", error_text(), wrong[i][1]);
	}
	config_fini(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_roundtrip),
		cmocka_unit_test(test_set_replaces),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused_value_changes_nothing),
		cmocka_unit_test(test_json_errors),
		cmocka_unit_test(test_json_numbers),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_short_forms),
		cmocka_unit_test(test_saved),
		cmocka_unit_test(test_devices_json_errors),
		cmocka_unit_test(test_odd_sizes_print_exactly),
	};

	return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
