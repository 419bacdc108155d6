/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of devices in a snapshot: section "devices", and what a snapshot from before there was
 * one means; with a table of made-up classes in the place of the generated one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"

static const struct device_class one = { .name = "one", .single = true, .version = 1 };

struct many {
	char *path;
	uint32_t rate;
	bool readonly;
};

static const struct device_option many_options[] = {
	{ .key = KEY_TEXT(struct many, path, "path", 1, 9), .value = "FILE", .anew = true },
	{ .key = KEY_COUNT(struct many, rate, "rate", 0, 9), .value = "N", .initial = "7" },
	{ .key = KEY_BOOL(struct many, readonly, "readonly"), .value = "true|false" },
	{ .key = KEY_END },
};
static int many_create(struct device *dev, const struct device_host *host)
{
	(void)dev;
	(void)host;
	return 0;
}

static const struct device_class many = { .name = "many",
					  .version = 1,
					  .options = many_options,
					  .size = sizeof(struct many),
					  .create = many_create };

const struct device_class *const device_classes[] = { &one, &many, NULL };
const char *const device_words[] = { "one", "many", "other", NULL };

static struct blob file; /* the state; owned */

static uint32_t version; /* of section "devices" */

/* A snapshot whose state has the sections that are named, and `list` as section "devices". */
static struct snapshot snapshot(const char *const *sections, const struct blob *list)
{
	struct snapshot s = { .path = (char *)"dir", .memory_fd = -1 };
	struct state_writer w = { 0 };

	if (list)
		blob_put(state_section_add(&w, SNAPSHOT_DEVICES, 0, version), list->data,
			 list->len);
	for (unsigned instance = 0; *sections; sections++) {
		instance = w.count && !strcmp(w.sections[w.count - 1].name, *sections)
				   ? instance + 1
				   : 0;
		assert_non_null(state_section_add(&w, *sections, instance, 1));
	}
	blob_fini(&file);
	assert_int_equal(state_encode(&w, &file), 0);
	state_writer_fini(&w);
	assert_int_equal(state_parse(&s.state, "dir/state", file.data, file.len), 0);
	return s;
}

static int setup(void **state)
{
	(void)state;
	version = SNAPSHOT_DEVICES_VERSION;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	blob_fini(&file);
	return 0;
}

static void expect(const struct snapshot *s, const char *words)
{
	struct device_list list;

	assert_int_equal(snapshot_devices(s, &list), -EINVAL);
	assert_int_equal(list.count, 0);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

/* What a machine has goes through its snapshot, order and names included. */
static void test_list(void **state)
{
	struct device made[] = {
		{ .class = &many, .name = "data" },
		{ .class = &one, .name = "one" },
		{ .class = &many, .name = "many1", .instance = 1 },
	};
	const struct devices devices = { .count = 3, .list = made };
	static const char *const sections[] = { "machine", "many", "many", "one", NULL };
	struct device_list list;
	struct blob saved = { 0 };
	struct snapshot s;

	(void)state;
	snapshot_save_devices(&devices, &saved);
	s = snapshot(sections, &saved);
	assert_int_equal(snapshot_devices(&s, &list), 0);
	assert_int_equal(list.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(list.list[i].class, made[i].class);
		assert_string_equal(list.list[i].name, made[i].name);
		assert_int_equal(list.list[i].instance, made[i].instance);
	}
	device_list_fini(&list);
	blob_fini(&saved);
}

static void set(struct device_spec *spec, const char *key, const char *text)
{
	json_t *value = json_string(text);

	assert_int_equal(device_spec_set(spec, key, value), 0);
	json_decref(value);
}

/* Each has its own options again, but for what is the host's, which a start says anew. */
static void test_settings(void **state)
{
	static const char *const sections[] = { "machine", "many", "many", NULL };
	const struct device_host host = { .stdio = false };
	struct devices made, again;
	struct device_list list = { 0 };
	struct blob saved = { 0 };
	struct snapshot s;

	(void)state;
	assert_int_equal(device_list_add(&list, &many, NULL), 0);
	assert_int_equal(device_list_add(&list, &many, NULL), 0);
	set(&list.list[0], "path", "/a");
	set(&list.list[0], "rate", "3");
	set(&list.list[0], "readonly", "true");
	set(&list.list[1], "rate", "0");
	assert_int_equal(devices_create(&made, NULL, &list, &host), 0);
	device_list_fini(&list);
	snapshot_save_devices(&made, &saved);
	s = snapshot(sections, &saved);
	assert_int_equal(snapshot_devices(&s, &list), 0);
	assert_null(device_spec_text(&list.list[0], "path"));
	assert_int_equal(devices_create(&again, NULL, &list, &host), 0);
	for (unsigned i = 0; i < 2; i++) {
		const struct many *is = again.list[i].state;

		assert_null(is->path);
		assert_int_equal(is->rate, i ? 0 : 3);
		assert_int_equal(is->readonly, i == 0);
	}
	devices_destroy(&again);
	devices_destroy(&made);
	device_list_fini(&list);
	blob_fini(&saved);
}

/* From before a device had options of its own. */
static void test_version_1(void **state)
{
	static const char *const sections[] = { "machine", "many", "many", NULL };
	static const uint8_t zeros[STATE_NAME_MAX];
	struct device_list list;
	struct blob saved = { 0 };
	struct snapshot s;

	(void)state;
	version = 1;
	blob_put_u32(&saved, 2);
	for (uint32_t i = 0; i < 2; i++) {
		blob_put(&saved, "many", 4);
		blob_put(&saved, zeros, STATE_NAME_MAX - 4);
		blob_put(&saved, i ? "b" : "a", 1);
		blob_put(&saved, zeros, DEVICE_NAME_MAX - 1);
		blob_put_u32(&saved, i);
	}
	s = snapshot(sections, &saved);
	if (snapshot_devices(&s, &list) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(list.count, 2);
	assert_string_equal(list.list[1].name, "b");
	assert_null(list.list[1].settings);
	device_list_fini(&list);
	version = 3;
	s = snapshot(sections, &saved);
	expect(&s, "section devices has version 3; this virga reads versions 1 to 2; use");
	blob_fini(&saved);
}

/* Options as they should not be. */
static void test_wrong_settings(void **state)
{
	static const char *const sections[] = { "machine", NULL };
	static const char *const cases[][2] = {
		{ "{", "device many: its options are no JSON object" },
		{ "[1]", "its options are no JSON object" },
		{ "{\"rate\": 1, \"rate\": 2}", "its options are no JSON object" },
		{ "{\"rate\": 1} ", NULL },
		{ "{\"rate\": 10}", "device many: key 'rate': a whole number from 0 to 9" },
		{ "{\"wheel\": 1}", "device many: it has no key 'wheel'" },
		{ "{\"path\": \"/a\"}", "device many: key 'path' is of the host" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct snapshot_device device = { .type = "many",
						  .name = "a",
						  .settings_len = (uint32_t)strlen(cases[i][0]) };
		struct blob saved = { 0 };
		struct device_list list;
		struct snapshot s;

		blob_put_u32(&saved, 1);
		fields_save(snapshot_device_fields, &device, &saved);
		blob_put(&saved, cases[i][0], device.settings_len);
		s = snapshot(sections, &saved);
		if (cases[i][1])
			expect(&s, cases[i][1]);
		else
			assert_int_equal(snapshot_devices(&s, &list), 0), device_list_fini(&list);
		saved.len--; /* the last byte is missing */
		s = snapshot(sections, &saved);
		expect(&s, "device 0 is none");
		blob_fini(&saved);
	}
}

/* Without a list: the devices that have a section, in this order. */
static void test_before_there_was_one(void **state)
{
	static const char *const sections[] = { "machine", "config", "vcpu",   "ioapic",
						"many",    "one",    "memory", NULL };
	static const char *const unbuilt[] = { "machine", "one", "other", NULL };
	struct snapshot s = snapshot(sections, NULL);
	struct device_list list;

	(void)state;
	assert_int_equal(snapshot_devices(&s, &list), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.list[0].name, "many");
	assert_string_equal(list.list[1].name, "one");
	device_list_fini(&list);
	s = snapshot(unbuilt, NULL);
	expect(&s, "dir: has device other (0), this virga was built without it; "
		   "build with DEVICES=\"one other\"");
}

/* Section "devices" as it should not be. */
static void test_wrong(void **state)
{
	static const char *const sections[] = { "machine", NULL };
	static const struct {
		struct snapshot_device list[2];
		uint32_t count;
		uint32_t extra; /* bytes behind */
		const char *words;
	} cases[] = {
		{ { { "one", "one", 0, 0 }, { "one", "two", 1, 0 } }, 2, 0, "at most" },
		{ { { "many", "a", 0, 0 }, { "many", "a", 1, 0 } },
		  2,
		  0,
		  "device a already; each has" },
		{ { { "many", "a", 0, 0 }, { "many", "b", 0, 0 } }, 2, 0, "out of its order" },
		{ { { "many", "a", 0, 0 }, { "many", "b", 7, 0 } }, 2, 0, "out of its order" },
		{ { { "many", "a b", 0, 0 } }, 1, 0, "is no name" },
		{ { { "many", "", 0, 0 } }, 1, 0, "is no name" },
		{ { { "", "a", 0, 0 } }, 1, 0, "has device '' (0): there is no device ''" },
		{ { { "foo", "a", 0, 0 } }, 1, 0, "has device 'foo' (0): there is no device" },
		{ { { "other", "a", 0, 0 } },
		  1,
		  0,
		  "has device 'other' (0): device other: this virga was built without it; build "
		  "with other in DEVICES" },
		{ { { "123456789012345678901234", "a", 0, 0 } }, 1, 0, "device 0 is none" },
		{ { { "many", "123456789012345678901234", 0, 0 } }, 1, 0, "device 0 is none" },
		{ { { "many", "a", 0, 0 } }, 3, 0, "device 1 is none" },
		{ { { "many", "a", 0, 0 } }, UINT32_MAX, 0, "is none" },
		{ { { "many", "a", 0, 0 } }, 1, 3, "3 bytes too many" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob list = { 0 };
		struct snapshot s;

		blob_put_u32(&list, cases[i].count);
		for (unsigned d = 0; d < 2 && (d == 0 || cases[i].list[d].type[0]); d++)
			fields_save(snapshot_device_fields, &cases[i].list[d], &list);
		blob_put(&list, "xxx", cases[i].extra);
		s = snapshot(sections, &list);
		expect(&s, cases[i].words);
		blob_fini(&list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_version_1, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_before_there_was_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
	};

	return cmocka_run_group_tests_name("snapshot_devices", tests, NULL, NULL);
}
