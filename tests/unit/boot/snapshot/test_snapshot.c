/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot/snapshot/snapshot.c, open.c, load.c and the command inspect on a machine whose
 * vCPUs and clock are stand-ins: what belongs together, what is refused with which words,
 * that nothing of the machine changes before all is checked, the restore order, and
 * what happens to a reader under whom the directory is replaced.
 *
 * wrap: vm_clock_get vm_clock_set vcpu_save vcpu_check vcpu_load irqchip_load openat
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/snapshot.h"
#include "serve/cli/inspect.h"
#include "tests/unit/arch/known_irqchip.h"
#include "tests/unit/boot/snapshot/snapshot_machine.h"

#define SIZE (8u << 20)

/* In the place of the generated tables. */
const struct device_class *const device_classes[] = { &fake_a, &fake_b, NULL };
const char *const device_words[] = { "fake_a", "fake_b", "fake_c", NULL };

static const char config_text[] = "{\n  \"memory\": \"8M\"\n}\n";
static char root[] = "/tmp/test_snapshot.XXXXXX";
static char path[128];

/* Writes root/snap. */
static int setup(void **state)
{
	struct snapshot_config config;
	struct snapshot_dir dir;
	struct memory memory;
	struct machine *m;

	(void)state;
	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/snap", root);
	assert_int_equal(memory_create(&memory, SIZE), 0);
	memset(memory.base + 4096, 0x77, 8192);
	m = machine_make(&memory);
	m->a.number = 100;
	m->b.number = 200;
	known_irqchip_set(m->vm.irqchip);
	assert_int_equal(snapshot_dir_create(&dir, path, config_text, strlen(config_text)), 0);
	config = snapshot_config_of(config_text, strlen(config_text));
	assert_int_equal(snapshot_save(&m->vm, &m->devices, &config, dir.state_fd, dir.memory_fd),
			 0);
	assert_int_equal(snapshot_dir_commit(&dir), 0);
	snapshot_dir_abort(&dir);
	machine_free(m);
	return 0;
}

static int run(const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd %s && %s", root, command);
	return system(line);
}

static int teardown(void **state)
{
	(void)state;
	return run("rm -rf ../${PWD##*/}");
}

static void expect(int ret, int err, const char *words)
{
	assert_int_equal(ret, -err);
	if (!strstr(error_text(), words))
		fail_msg("'%s' does not say '%s'", error_text(), words);
}

static void test_load(void **state)
{
	struct snapshot s;
	struct memory memory;
	struct machine *m;

	(void)state;
	assert_int_equal(snapshot_open(&s, path), 0);
	assert_int_equal(s.memory_size, SIZE);
	assert_int_equal(s.vcpu_count, 2);
	assert_int_equal(s.virtio_slots, 1);
	assert_string_equal((char *)s.config.data, config_text);
	assert_int_equal(snapshot_verify(&s), 0);
	assert_int_equal(snapshot_map_memory(&s, &memory), 0);
	assert_int_equal(s.memory_fd, -1);
	m = machine_make(&memory);
	assert_int_equal(snapshot_load(&s, &m->vm, &m->devices), 0);
	assert_string_equal(machine_done, "c01iab");
	assert_int_equal(m->vm.memory.base[4095], 0);
	assert_int_equal(m->vm.memory.base[4096], 0x77);
	machine_free(m);
	snapshot_close(&s);
}

/* What lies where a new one would be written is removed only when it is not whole. */
static void test_left_over(void **state)
{
	struct snapshot_dir dir;
	struct snapshot s;
	char name[256];

	(void)state;
	assert_int_equal(run("cp -r snap new.tmp"), 0);
	snprintf(name, sizeof(name), "%s/new", root);
	expect(snapshot_dir_create(&dir, name, "", 0), EEXIST,
	       "new.tmp: is in the way and looks like a complete snapshot; move or remove");
	snprintf(name, sizeof(name), "%s/new.tmp", root);
	assert_int_equal(snapshot_open(&s, name), 0);
	assert_int_equal(snapshot_verify(&s), 0);
	snapshot_close(&s);
	assert_int_equal(run("truncate -s -1 new.tmp/state"), 0);
	snprintf(name, sizeof(name), "%s/new", root);
	assert_int_equal(snapshot_dir_create(&dir, name, "", 0), 0);
	snapshot_dir_abort(&dir);
	assert_int_equal(run("test ! -e new.tmp"), 0);
}

static char checked[512]; /* what is said of it without a machine */

/* The snapshot with its state changed: edit may change, drop or add sections. */
static int load_edited(void (*edit)(struct state_writer *w), void (*adapt)(struct machine *m))
{
	struct snapshot s;
	struct memory memory;
	struct machine *m;
	struct state_writer w = { 0 };
	struct blob file = { 0 };
	int ret;

	assert_int_equal(snapshot_open(&s, path), 0);
	for (unsigned i = 0; i < s.state.count; i++) {
		const struct state_section *section = &s.state.sections[i];

		blob_put(state_section_add(&w, section->name, section->instance, section->version),
			 section->data, section->len);
	}
	if (edit)
		edit(&w);
	assert_int_equal(state_encode(&w, &file), 0);
	assert_int_equal(state_parse(&s.state, "edited", file.data, file.len), 0);
	state_writer_fini(&w);
	assert_int_equal(snapshot_map_memory(&s, &memory), 0);
	m = machine_make(&memory);
	if (adapt)
		adapt(m);
	strcpy(checked, snapshot_check_devices(&s) < 0 ? error_text() : "");
	ret = snapshot_load(&s, &m->vm, &m->devices);
	if (ret < 0)
		assert_string_equal(machine_done, "");
	machine_free(m);
	snapshot_close(&s);
	blob_fini(&file);
	return ret;
}

static void edit_version(struct state_writer *w)
{
	w->sections[machine_section(w, "fake_b")].version = 9;
}

static void edit_vcpu_version(struct state_writer *w)
{
	w->sections[machine_section(w, "vcpu")].version = 9;
}

static void edit_unknown(struct state_writer *w)
{
	assert_non_null(state_section_add(w, "fake_c", 0, 1));
}

static void edit_instance(struct state_writer *w)
{
	w->sections[machine_section(w, "fake_b")].instance = 1;
}

static void edit_missing(struct state_writer *w)
{
	unsigned i = machine_section(w, "fake_b");

	blob_fini(&w->blobs[i]);
	w->count--;
	w->sections[i] = w->sections[w->count];
	w->blobs[i] = w->blobs[w->count];
}

static void edit_order(struct state_writer *w)
{
	const unsigned a = machine_section(w, "fake_a"), b = machine_section(w, "fake_b");
	const struct state_section section = w->sections[a];
	const struct blob blob = w->blobs[a];

	w->sections[a] = w->sections[b];
	w->blobs[a] = w->blobs[b];
	w->sections[b] = section;
	w->blobs[b] = blob;
}

static void edit_ioapic_old(struct state_writer *w)
{
	w->sections[machine_section(w, "ioapic")].version = 1;
}

static void edit_short(struct state_writer *w)
{
	w->blobs[machine_section(w, "fake_a")].len = 6;
}

static void edit_ioapic_long(struct state_writer *w)
{
	blob_put_u32(&w->blobs[machine_section(w, "ioapic")], 0);
}

static void edit_vcpu_missing(struct state_writer *w)
{
	w->sections[machine_section(w, "vcpu") + 1].instance = 2;
}

static void adapt_memory(struct machine *m)
{
	m->vm.memory.size /= 2;
}

static void adapt_vcpus(struct machine *m)
{
	m->vm.vcpu_count = 1;
}

static void adapt_slots(struct machine *m)
{
	m->vm.virtio_slots = 2;
}

static void adapt_host(struct machine *m)
{
	(void)m;
	machine_check_result = -ENODEV;
}

static void test_refused(void **state)
{
	static const struct {
		void (*edit)(struct state_writer *w);
		void (*adapt)(struct machine *m);
		const char *words;
	} cases[] = {
		{ edit_version, NULL,
		  "section fake_b has version 9; this virga reads version 2; use" },
		{ edit_vcpu_version, NULL, "section vcpu has version 9" },
		{ edit_unknown, NULL,
		  "has device fake_c (0), this virga was built without it; "
		  "build with DEVICES=\"fake_a fake_b fake_c\"" },
		{ edit_instance, NULL, "has device fake_b (1)" },
		{ edit_missing, NULL, "has no device fake_b (0), which this machine has" },
		{ edit_order, NULL, "has its devices in another order than this machine: fake_b" },
		{ edit_ioapic_old, NULL, "section ioapic has 212 bytes, expected 204" },
		{ edit_short, NULL, "section fake_a has 6 bytes, expected at least 7" },
		{ edit_ioapic_long, NULL, "section ioapic has 216 bytes, expected 212" },
		{ edit_vcpu_missing, NULL, "vcpu (2)" },
		{ NULL, adapt_memory, "was a machine of 8 MiB and 2 vCPUs; this one has 4 MiB" },
		{ NULL, adapt_vcpus, "this one has 8 MiB and 1" },
		{ NULL, adapt_slots, "1 virtio slots; this one has 2" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		expect(load_edited(cases[i].edit, cases[i].adapt), EINVAL, cases[i].words);
		/* What this machine is, and its interrupt controller's state, is seen by a start. */
		if (cases[i].adapt || strstr(cases[i].words, "section ioapic"))
			assert_string_equal(checked, "");
		else
			assert_string_equal(checked, error_text());
	}
	assert_int_equal(load_edited(NULL, NULL), 0);
	machine_check_result = 0;
	expect(load_edited(NULL, adapt_host), ENODEV, "no such CPU");
	machine_check_result = 0;
}

/* Makes a copy with `command` machine_done to it, opens it. */
static int open_damaged(const char *command)
{
	struct snapshot s;
	char copy[256], line[512];
	int ret;

	snprintf(copy, sizeof(copy), "%s/copy", root);
	snprintf(line, sizeof(line), "rm -rf copy && cp -r snap copy && cd copy && %s", command);
	assert_int_equal(run(line), 0);
	ret = snapshot_open(&s, copy);
	if (ret == 0) {
		ret = snapshot_verify(&s);
		snapshot_close(&s);
	}
	run("rm -rf copy");
	return ret;
}

static void test_damaged_directory(void **state)
{
	static const struct {
		const char *command;
		int err;
		const char *words;
	} cases[] = {
		{ "rm state", ENOENT, "copy: not a snapshot: it has no file 'state'" },
		{ "rm config", ENOENT, "no file 'config'" },
		{ "rm memory", ENOENT, "no file 'memory'" },
		{ "truncate -s 4096 memory", EINVAL,
		  "copy/memory: has 4096 bytes, its state says 8388608" },
		{ "truncate -s +1 memory", EINVAL, "copy/memory: has 8388609 bytes" },
		{ "echo >>config", EINVAL, "copy/config: is not the one" },
		{ "sed -i s/8M/9M/ config", EINVAL, "copy/config: is not the one" },
		{ "truncate -s 70M state", EFBIG, "copy/state: 73400320 bytes, more than" },
		{ "rm config; mkfifo config", EINVAL, "copy/config: not a regular file" },
		{ "rm memory; mkdir memory", EINVAL, "copy/memory: not a regular file" },
		{ ": >state", EINVAL, "copy/state: cut short: 0 bytes" },
		{ "printf x | dd of=memory bs=1 seek=5000 conv=notrunc status=none", EBADMSG,
		  "copy/memory: is damaged" },
		{ "printf x | dd of=memory bs=1 seek=8388607 conv=notrunc status=none", EBADMSG,
		  "copy/memory: is damaged" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect(open_damaged(cases[i].command), cases[i].err, cases[i].words);
	/* Copies are snapshots, with holes, without, and under a symbolic link. */
	assert_int_equal(open_damaged("true"), 0);
	assert_int_equal(open_damaged("cp --sparse=never memory m && mv m memory"), 0);
	assert_int_equal(open_damaged("mv memory ../m && ln -s ../m memory"), 0);
	run("rm -f m");
}

static void test_not_a_directory(void **state)
{
	struct snapshot s;
	char file[256];

	(void)state;
	expect(snapshot_open(&s, "/nonexistent"), ENOENT, "/nonexistent: cannot be opened");
	snprintf(file, sizeof(file), "%s/state", path);
	expect(snapshot_open(&s, file), ENOTDIR, "not a snapshot, which is a directory");
}

/* Every byte of the real `state`, and every length of it. */
static void test_state_damaged(void **state)
{
	struct snapshot s;
	char file[256], copy[256];
	uint8_t byte;
	off_t len;
	int fd;

	(void)state;
	assert_int_equal(run("rm -rf copy && cp -r snap copy"), 0);
	snprintf(copy, sizeof(copy), "%s/copy", root);
	snprintf(file, sizeof(file), "%s/copy/state", root);
	fd = open(file, O_RDWR);
	len = lseek(fd, 0, SEEK_END);
	for (off_t at = 0; at < len; at++) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		expect(snapshot_open(&s, copy), EINVAL, "copy/state: ");
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(snapshot_open(&s, copy), 0);
	snapshot_close(&s);
	while (--len >= 0) {
		assert_int_equal(ftruncate(fd, len), 0);
		expect(snapshot_open(&s, copy), EINVAL, "copy/state: cut short");
	}
	close(fd);
	run("rm -rf copy");
}

/* --- A directory that is replaced while it is read --- */

static unsigned swaps; /* how many times more the next reader of `config` loses the directory */

int __real_openat(int dir_fd, const char *name, int flags, mode_t mode);
int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode);

int __wrap_openat(int dir_fd, const char *name, int flags, mode_t mode)
{
	char snap[256], other[256];

	snprintf(snap, sizeof(snap), "%s/live", root);
	snprintf(other, sizeof(other), "%s/other", root);
	if (swaps && strcmp(name, "config") == 0) {
		swaps--;
		assert_int_equal(run("cp -r snap other"), 0);
		assert_int_equal(rename_exchange(snap, other), 0);
		assert_int_equal(run("rm -r other"), 0);
	}
	return __real_openat(dir_fd, name, flags, mode);
}

static void test_replaced_meanwhile(void **state)
{
	struct snapshot s;
	struct stat read_from, there;
	char live[128], memory[256];

	(void)state;
	snprintf(live, sizeof(live), "%s/live", root);
	snprintf(memory, sizeof(memory), "%s/memory", live);
	assert_int_equal(run("cp -r snap live"), 0);
	for (unsigned i = 1; i < 4; i++) {
		swaps = i;
		assert_int_equal(snapshot_open(&s, live), 0);
		assert_int_equal(swaps, 0);
		assert_int_equal(fstat(s.memory_fd, &read_from), 0);
		assert_int_equal(stat(memory, &there), 0);
		assert_int_equal(read_from.st_ino, there.st_ino);
		assert_int_equal(snapshot_verify(&s), 0);
		snapshot_close(&s);
	}
	swaps = 1000;
	expect(snapshot_open(&s, live), EAGAIN, "it has no file 'config'");
	assert_true(swaps > 900);
	swaps = 0;
	assert_int_equal(run("rm live/config"), 0);
	expect(snapshot_open(&s, live), ENOENT, "it has no file 'config'");
	run("rm -r live");
}

/* --- What a template says of itself --- */

static void test_template(void **state)
{
	const struct template_facts facts = { .ready_us = 1500, .warm_requests = 3 };
	char version[SNAPSHOT_VERSION_LEN + 1], copy[128], name[256], *text;
	struct template_facts found;
	struct snapshot s;
	FILE *file;

	(void)state;
	assert_int_equal(run("cp -r snap copy"), 0);
	snprintf(copy, sizeof(copy), "%s/copy", root);
	snprintf(name, sizeof(name), "%s/template", copy);
	assert_int_equal(snapshot_open_template(&s, &found, copy), 0);
	assert_false(found.known);
	snapshot_version(&s, version);
	assert_int_equal(strlen(version), 12);
	assert_int_equal(strspn(version, "0123456789abcdef"), 12);
	assert_true(strtoull(version, NULL, 16) == snapshot_state_checksum(&s) >> 16);
	text = template_facts_print(&facts, snapshot_state_checksum(&s));
	snapshot_close(&s);

	file = fopen(name, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(snapshot_open_template(&s, &found, copy), 0);
	assert_true(found.known && found.ready_us == 1500 && found.warm_requests == 3);
	snapshot_close(&s);

	/* A start does not read it. */
	assert_int_equal(run("truncate -s 100 copy/template"), 0);
	expect(snapshot_open_template(&s, &found, copy), EINVAL, "copy/template: is damaged");
	assert_int_equal(run("truncate -s 5000 copy/template"), 0);
	expect(snapshot_open_template(&s, &found, copy), EFBIG, "copy/template: 5000 bytes");
	assert_int_equal(snapshot_open(&s, copy), 0);
	snapshot_close(&s);
	free(text);
	run("rm -r copy");
}

static char *inspect(const struct template_facts *facts, bool json)
{
	struct snapshot s;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(snapshot_open(&s, path), 0);
	assert_int_equal(snapshot_inspect(&s, facts, json, out), 0);
	fclose(out);
	snapshot_close(&s);
	return text;
}

static void test_inspect(void **state)
{
	static const char *const words[] = {
		"/snap",
		"vCPUs     2\n",
		"memory    8 MiB",
		"devices   fake_a fake_b\n",
		"ioapic",
		"version   ",
		"guest     embedded\n",
		"anew      in each clone: generation_id, seed, wall_clock",
	};
	const struct template_facts none = { .known = false };
	char *text = inspect(&none, false);
	json_t *object;

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strstr(text, words[i]))
			fail_msg("no '%s' in:\n%s", words[i], text);
	assert_null(strstr(text, "ready "));
	free(text);

	text = inspect(&none, true);
	object = json_loads(text, 0, NULL);
	assert_non_null(object);
	assert_int_equal(json_integer_value(json_object_get(object, "memory_bytes")), SIZE);
	assert_int_equal(json_array_size(json_object_get(object, "devices")), 2);
	assert_int_equal(json_array_size(json_object_get(object, "sections")), 9);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(object, "config"), "memory")),
		"8M");
	assert_int_equal(strlen(json_string_value(json_object_get(object, "memory_digest"))), 32);
	assert_true(json_is_null(json_object_get(object, "template")));
	assert_int_equal(strlen(json_string_value(json_object_get(object, "version"))), 12);
	assert_string_equal(json_string_value(json_object_get(object, "guest")), "embedded");
	json_decref(object);
	free(text);
}

static void test_inspect_template(void **state)
{
	static const char *const words[] = {
		"built     2026-11-23 10:13:20 UTC, in 2.500 s\n",
		"ready     1.5 ms after the start of its machine, then 7 warm-up requests\n",
		", template)",
	};
	const struct template_facts facts = {
		.known = true,
		.built_s = 1795428800,
		.build_us = 2500000,
		.ready_us = 1500,
		.warm_requests = 7,
		.tried_requests = 2,
	};
	char *text = inspect(&facts, false);
	json_t *object, *template;

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strstr(text, words[i]))
			fail_msg("no '%s' in:\n%s", words[i], text);
	free(text);
	text = inspect(&facts, true);
	object = json_loads(text, 0, NULL);
	template = json_object_get(object, "template");
	assert_int_equal(json_integer_value(json_object_get(template, "ready_us")), 1500);
	assert_int_equal(json_integer_value(json_object_get(template, "built_s")), 1795428800);
	assert_int_equal(json_integer_value(json_object_get(template, "build_us")), 2500000);
	assert_int_equal(json_integer_value(json_object_get(template, "warm_requests")), 7);
	assert_int_equal(json_integer_value(json_object_get(template, "tried_requests")), 2);
	json_decref(object);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_left_over),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged_directory),
		cmocka_unit_test(test_not_a_directory),
		cmocka_unit_test(test_state_damaged),
		cmocka_unit_test(test_replaced_meanwhile),
		cmocka_unit_test(test_template),
		cmocka_unit_test(test_inspect),
		cmocka_unit_test(test_inspect_template),
	};

	return cmocka_run_group_tests_name("snapshot", tests, setup, teardown);
}
