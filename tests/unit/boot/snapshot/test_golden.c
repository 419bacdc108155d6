/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The golden file of saved fields: a list that differs from tests/golden/state-fields.txt
 * must have another version, and then the file must be brought up to date by
 * UPDATE_GOLDEN=1 (which refuses a change that kept its version). Run from the top folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/irqchip.h"
#include "boot/snapshot/format.h"
#include "devices/device.h"
#include "tests/unit/live_machine.h"

#define GOLDEN_PATH "tests/golden/state-fields.txt"

static const char intro[] =
	"# Fields of every section of a snapshot's `state`, in the order in which they are saved.\n"
	"# Written by UPDATE_GOLDEN=1 build/tests/unit/boot/snapshot/test_golden; "
	"docs/snapshot.md.\n";

/* A section as text: its line, then one line for each field. */
struct golden {
	char text[8192];
	size_t len;
	char name[64]; /* "section NAME " */
	char head[96]; /* "section NAME version N\n" */
};

static void golden_begin(struct golden *g, const char *name, uint32_t version)
{
	snprintf(g->name, sizeof(g->name), "section %s ", name);
	snprintf(g->head, sizeof(g->head), "section %s version %u\n", name, version);
	g->len = (size_t)snprintf(g->text, sizeof(g->text), "%s", g->head);
}

static void golden_line(struct golden *g, const char *line)
{
	g->len += (size_t)snprintf(g->text + g->len, sizeof(g->text) - g->len, "\t%s\n", line);
	assert_true(g->len < sizeof(g->text));
}

static void golden_fields(struct golden *g, const struct field *list)
{
	for (; list && list->name; list++) {
		char line[128];

		if (list->count == 1)
			snprintf(line, sizeof(line), "%s u%u", list->name, list->width * 8u);
		else
			snprintf(line, sizeof(line), "%s u%u[%u]", list->name, list->width * 8u,
				 list->count);
		if (list->since)
			snprintf(line + strlen(line), sizeof(line) - strlen(line),
				 " since %u, before that %u", list->since, list->value);
		golden_line(g, line);
	}
}

/* What the class's save() appends, of a new machine: how long that is. */
static void golden_own(struct golden *g, const struct live *m, const struct device_class *class)
{
	for (unsigned i = 0; class->save && i < m->devices.count; i++) {
		struct device *dev = &m->devices.list[i];
		struct blob own = { 0 };
		char line[64];

		if (dev->class != class)
			continue;
		assert_int_equal(class->save(dev, &own), 0);
		snprintf(line, sizeof(line), "then %zu bytes of its own, in a new machine",
			 own.len);
		golden_line(g, line);
		blob_fini(&own);
		return;
	}
	if (class->save)
		fail_msg("%s saves what this test does not see", class->name);
}

/* Calls visit for each section that this program knows. */
static void golden_each(void (*visit)(const struct golden *g, void *opaque), void *opaque)
{
	struct live *m = live_boot(NULL, "");
	struct golden g;

	golden_begin(&g, "machine", SNAPSHOT_MACHINE_VERSION);
	golden_fields(&g, snapshot_machine_fields);
	visit(&g, opaque);
	golden_begin(&g, "memory", SNAPSHOT_MEMORY_VERSION);
	golden_fields(&g, snapshot_memory_fields);
	golden_line(&g, "then extent_count times:");
	golden_fields(&g, snapshot_extent_fields);
	visit(&g, opaque);
	golden_begin(&g, "config", SNAPSHOT_CONFIG_VERSION);
	golden_fields(&g, snapshot_config_fields);
	visit(&g, opaque);
	golden_begin(&g, SNAPSHOT_DEVICES, SNAPSHOT_DEVICES_VERSION);
	golden_fields(&g, snapshot_devices_fields);
	golden_line(&g, "then count times:");
	golden_fields(&g, snapshot_device_fields);
	golden_line(&g, "and settings_len bytes");
	visit(&g, opaque);
	golden_begin(&g, "vcpu", SNAPSHOT_VCPU_VERSION);
	golden_line(&g, "then bytes of its own");
	visit(&g, opaque);
	golden_begin(&g, IRQCHIP_SECTION, IRQCHIP_VERSION);
	golden_fields(&g, irqchip_fields);
	golden_line(&g, "then pins times:");
	golden_line(&g, "redirect u64");
	visit(&g, opaque);
	for (unsigned i = 0; device_classes[i]; i++) {
		const struct device_class *class = device_classes[i];

		golden_begin(&g, class->name, class->version);
		golden_fields(&g, class->fields);
		golden_own(&g, m, class);
		visit(&g, opaque);
	}
	live_destroy(m);
}

/* The section's text in the file (to be freed), or NULL; *at: where it is. */
static char *golden_find(const char *file, const char *name, const char **at)
{
	const char *start = file, *end;

	while ((start = strstr(start, name)) != NULL && start != file && start[-1] != '\n')
		start++;
	if (!start)
		return NULL;
	end = strstr(start, "\nsection ");
	end = end ? end + 1 : start + strlen(start);
	*at = start;
	return strndup(start, (size_t)(end - start));
}

static char *golden_read(void)
{
	FILE *file = fopen(GOLDEN_PATH, "r");
	char *text = calloc(1, 65536);

	if (file) {
		assert_true(fread(text, 1, 65535, file) < 65535);
		fclose(file);
	}
	return text;
}

struct check {
	const char *file;
	unsigned wrong, seen;
};

static void golden_check(const struct golden *g, void *opaque)
{
	struct check *check = opaque;
	const char *at;
	char *section = golden_find(check->file, g->name, &at);

	if (!section) {
		print_error("%s is not in %s: run again with UPDATE_GOLDEN=1\n", g->name,
			    GOLDEN_PATH);
		check->wrong++;
	} else if (strncmp(section, g->head, strlen(g->head)) != 0) {
		print_error("%shas another version in %s: run again with UPDATE_GOLDEN=1\n",
			    g->head, GOLDEN_PATH);
		check->wrong++;
	} else if (strcmp(section, g->text) != 0) {
		print_error("fields changed without another version. In %s:\n%s\nnow:\n%s\n",
			    GOLDEN_PATH, section, g->text);
		check->wrong++;
	}
	free(section);
	check->seen++;
}

/* Devices that this build is without: their sections stand in the file all the same. */
static unsigned golden_without(void)
{
	unsigned without = 0;

	for (unsigned i = 0; device_words[i]; i++)
		without += !device_class_find(device_words[i]);
	return without;
}

/* 1 when the file has more sections than those that are known. */
static unsigned golden_gone(const char *file, unsigned known)
{
	unsigned sections = 0;

	for (const char *at = file; (at = strstr(at, "\nsection ")) != NULL; at++)
		sections++;
	if (sections > known)
		print_error("%s has %u sections, this program %u: take out those that are gone\n",
			    GOLDEN_PATH, sections, known);
	return sections > known;
}

/* Puts the section in its place in the text, or at its end. */
static void golden_update(const struct golden *g, void *opaque)
{
	char *file = opaque, *rest;
	const char *at = file + strlen(file);
	char *section = golden_find(file, g->name, &at);

	if (section && strncmp(section, g->head, strlen(g->head)) == 0 &&
	    strcmp(section, g->text) != 0)
		fail_msg("not updated: raise the version of %s", g->head);
	rest = strdup(at + (section ? strlen(section) : 0));
	assert_true((size_t)(at - file) + g->len + strlen(rest) < 65536);
	sprintf(file + (at - file), "%s%s", g->text, rest);
	free(rest);
	free(section);
}

static void test_golden(void **state)
{
	char *text = golden_read();
	struct check check = { .file = text };

	(void)state;
	if (getenv("UPDATE_GOLDEN")) {
		FILE *file;

		if (!*text)
			strcpy(text, intro);
		golden_each(golden_update, text);
		file = fopen(GOLDEN_PATH, "w");
		assert_non_null(file);
		fputs(text, file);
		assert_int_equal(fclose(file), 0);
	}
	golden_each(golden_check, &check);
	check.wrong += golden_gone(text, check.seen + golden_without());
	free(text);
	assert_int_equal(check.wrong, 0);
}

/* The check itself: a field more, a width changed, a version raised are each noticed. */
static void test_golden_notices(void **state)
{
	static const char file[] =
		"section a version 1\n\tx u32\nsection ab version 2\n\ty u8[4]\n";
	struct check check = { .file = file };
	struct golden g;

	(void)state;
	golden_begin(&g, "ab", 2);
	golden_line(&g, "y u8[4]");
	golden_check(&g, &check);
	golden_begin(&g, "a", 1);
	golden_line(&g, "x u32");
	golden_check(&g, &check);
	assert_int_equal(check.wrong, 0);

	golden_line(&g, "z u32");
	golden_check(&g, &check);
	assert_int_equal(check.wrong, 1);
	golden_begin(&g, "a", 2);
	golden_line(&g, "x u32");
	golden_check(&g, &check);
	assert_int_equal(check.wrong, 2);
	golden_begin(&g, "b", 2);
	golden_check(&g, &check);
	assert_int_equal(check.wrong, 3);
}

/* And a section that the program has no more. */
static void test_golden_notices_what_is_gone(void **state)
{
	static const char file[] = "# head\nsection a version 1\n\tx u32\nsection b version 1\n";

	(void)state;
	assert_int_equal(golden_gone(file, 2), 0);
	assert_int_equal(golden_gone(file, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_golden_notices),
		cmocka_unit_test(test_golden_notices_what_is_gone),
	};

	return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
