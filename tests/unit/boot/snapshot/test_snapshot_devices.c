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
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"

static const struct device_class one = { .name = "one", .single = true, .version = 1 };
static const struct device_class many = { .name = "many", .version = 1 };

const struct device_class *const device_classes[] = { &one, &many, NULL };
const char *const device_words[] = { "one", "many", "other", NULL };

static struct blob file; /* the state; owned */

/* A snapshot whose state has the sections that are named, and `list` as section "devices". */
static struct snapshot snapshot(const char *const *sections, const struct blob *list)
{
	struct snapshot s = { .path = (char *)"dir", .memory_fd = -1 };
	struct state_writer w = { 0 };

	if (list)
		blob_put(state_section_add(&w, SNAPSHOT_DEVICES, 0, SNAPSHOT_DEVICES_VERSION),
			 list->data, list->len);
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
		{ { { "one", "one", 0 }, { "one", "two", 1 } }, 2, 0, "at most" },
		{ { { "many", "a", 0 }, { "many", "a", 1 } }, 2, 0, "a device a already" },
		{ { { "many", "a", 0 }, { "many", "b", 0 } }, 2, 0, "out of its order" },
		{ { { "many", "a", 0 }, { "many", "b", 7 } }, 2, 0, "out of its order" },
		{ { { "many", "a b", 0 } }, 1, 0, "is no name" },
		{ { { "many", "", 0 } }, 1, 0, "is no name" },
		{ { { "", "a", 0 } }, 1, 0, "has device  (0)" },
		{ { { "123456789012345678901234", "a", 0 } }, 1, 0, "device 0 of 1 is none" },
		{ { { "many", "123456789012345678901234", 0 } }, 1, 0, "device 0 of 1 is none" },
		{ { { "many", "a", 0 } }, 3, 0, "device 1 of 3 is none" },
		{ { { "many", "a", 0 } }, UINT32_MAX, 0, "is none" },
		{ { { "many", "a", 0 } }, 1, 3, "3 bytes too many" },
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
		cmocka_unit_test_teardown(test_list, teardown),
		cmocka_unit_test_teardown(test_before_there_was_one, teardown),
		cmocka_unit_test_teardown(test_wrong, teardown),
	};

	return cmocka_run_group_tests_name("snapshot_devices", tests, NULL, NULL);
}
