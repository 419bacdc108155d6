/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `config` and `state` of the embedded guest as virga wrote them before a snapshot had a list of
 * devices (tests/golden/no-device-list, a machine of 16 MiB): read by this virga, into a machine on
 * real KVM. Its vCPU, which has to match the host, is not in the file: there is one of this host in
 * its place; its memory
 * is nothing but zeros. Run from the top folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"
#include "tests/unit/arch/known_irqchip.h"
#include "tests/unit/arch/old_vcpu.h"
#include "tests/unit/live_machine.h"

#define GOLDEN "tests/golden/no-device-list"

static char root[] = "/tmp/test_no_device_list.XXXXXX";
static char old[64], new[64];

static void write_file(const char *name, const void *data, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", old, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	if (strcmp(name, "memory") == 0)
		assert_int_equal(ftruncate(fd, 16 * MIB), 0);
	close(fd);
}

static struct blob read_golden(const char *name)
{
	static uint8_t data[65536];
	char path[128];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), GOLDEN "/%s", name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	len = read(fd, data, sizeof(data));
	assert_true(len > 0 && len < (ssize_t)sizeof(data));
	close(fd);
	return blob_reader(data, (size_t)len);
}

/* The golden state with a vCPU of this host in the place of its own. */
static void write_state(void)
{
	struct blob golden = read_golden("state"), file = { 0 };
	struct live *m = live_boot(NULL, "");
	struct state_writer w = { 0 };
	struct state_file state;

	assert_int_equal(state_parse(&state, "golden", golden.data, golden.len), 0);
	assert_null(state_find(&state, SNAPSHOT_DEVICES, 0));
	for (unsigned i = 0; i < state.count; i++) {
		const struct state_section *section = &state.sections[i];
		struct blob *out =
			state_section_add(&w, section->name, section->instance, section->version);

		if (strcmp(section->name, "vcpu") == 0)
			old_vcpu_save(&m->vm.vcpus[0], out);
		else
			blob_put(out, section->data, section->len);
	}
	assert_int_equal(state_encode(&w, &file), 0);
	write_file("state", file.data, file.len);
	state_writer_fini(&w);
	blob_fini(&file);
	live_destroy(m);
}

static int setup(void **state)
{
	struct blob config = read_golden("config");

	(void)state;
	if (!mkdtemp(root))
		return -1;
	snprintf(old, sizeof(old), "%s/old", root);
	snprintf(new, sizeof(new), "%s/new", root);
	assert_int_equal(mkdir(old, 0700), 0);
	write_file("config", config.data, config.len);
	write_file("memory", "", 0);
	write_state();
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static void expect_usual(const char *path, bool list)
{
	static const char *const words[] = { "serial", "debug_exit", "power", "park",
					     "virtio_vsock" };
	struct device_list devices;
	struct snapshot s;

	if (snapshot_open(&s, path) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(state_find(&s.state, SNAPSHOT_DEVICES, 0) != NULL, list);
	assert_int_equal(state_find(&s.state, "ioapic", 0)->version, list ? 2 : 1);
	assert_int_equal(state_find(&s.state, "vcpu", 0)->version, list ? 2 : 1);
	if (snapshot_devices(&s, &devices) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(devices.count, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_string_equal(devices.list[i].class->name, words[i]);
		assert_string_equal(devices.list[i].name, words[i]);
	}
	device_list_fini(&devices);
	snapshot_close(&s);
}

/* It is the machine that it was, in this virga's form when it is saved again. */
static void test_old_is_read(void **state)
{
	struct live *m, *fresh = live_boot(NULL, "");

	(void)state;
	expect_usual(old, false);
	m = live_load(old);
	assert_int_equal(m->devices.count, 5);
	assert_int_equal(m->vm.virtio_slots, 1);
	assert_int_equal(known_irqchip_pins(m->vm.irqchip), 24);
	assert_true(channel_ready(m->channel));
	old_vcpu_expect_later(&m->vm.vcpus[0], &fresh->vm.vcpus[0]);
	live_destroy(fresh);
	live_save(m, new);
	live_destroy(m);
	expect_usual(new, true);
	m = live_load(new);
	assert_true(channel_ready(m->channel));
	live_destroy(m);
}

/* A machine with fewer devices is another. */
static void test_fewer(void **state)
{
	const struct device_host host = { .stdio = false };
	struct live *m = live_boot(NULL, "");
	struct device_list list = { 0 };
	struct snapshot s;

	(void)state;
	devices_destroy(&m->devices);
	m->vm.pio.count = 0;
	assert_int_equal(device_list_add(&list, device_class_find("serial"), NULL), 0);
	assert_int_equal(devices_create(&m->devices, &m->vm, &list, &host), 0);
	device_list_fini(&list);
	m->vm.virtio_slots = 1;
	assert_int_equal(snapshot_open(&s, old), 0);
	assert_true(snapshot_load(&s, &m->vm, &m->devices) < 0);
	assert_non_null(
		strstr(error_text(), "has device debug_exit (0), which this machine has not"));
	snapshot_close(&s);
	live_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_old_is_read),
		cmocka_unit_test(test_fewer),
	};

	return cmocka_run_group_tests_name("no_device_list", tests, setup, teardown);
}
