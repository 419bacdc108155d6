/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices a machine gets (boot/devices.c): the usual ones, those that are named, what a
 * Linux has, and what is refused. The classes are made up, in the place of the generated table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/devices.h"
#include "tests/unit/images.h"

static const struct device_option serial_options[] = {
	{ "to", "serial", "WHERE", "where" },
	{ .key = NULL },
};
static const struct device_class serial = {
	.name = "serial", .habit = DEVICE_USUAL, .single = true, .options = serial_options
};
static const struct device_class virtio_vsock = { .name = "virtio_vsock",
						  .habit = DEVICE_USUAL,
						  .single = true };
static const struct device_class rng = { .name = "rng", .habit = DEVICE_FOR_LINUX };
static const struct device_class disk = { .name = "disk" };

const struct device_class *const device_classes[] = { &rng, &serial, &disk, &virtio_vsock, NULL };
const char *const device_words[] = { "serial", "park", "virtio_vsock", "disk", "rng", NULL };

static char kernel[] = "/tmp/test_boot_devices.XXXXXX";
static struct config config;

static int setup(void **state)
{
	int fd = mkstemp(kernel);

	(void)state;
	close(fd);
	config_init(&config);
	return fd < 0 ? -1 : config_set(&config, "kernel", kernel);
}

static int teardown(void **state)
{
	(void)state;
	config_fini(&config);
	unlink(kernel);
	strcpy(strrchr(kernel, '.'), ".XXXXXX");
	return 0;
}

static void write_kernel(const struct test_image *t, const char *text)
{
	FILE *out = fopen(kernel, "w");

	assert_int_equal(fwrite(t->bytes, 1, t->size, out), t->size);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

/* The names of the machine's devices, or the sentence. */
static const char *names(void)
{
	static char text[1024];
	struct device_list list;
	int ret = boot_devices(&config, &list);

	if (ret < 0)
		return error_text();
	text[0] = '\0';
	for (unsigned i = 0; i < list.count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			 list.list[i].name);
	device_list_fini(&list);
	return text;
}

static void name_device(const char *text)
{
	if (config_add_device(&config, text) < 0)
		fail_msg("%s", error_text());
}

static void test_usual(void **state)
{
	static struct test_image t;

	(void)state;
	make_elf(&t, true);
	write_kernel(&t, "");
	assert_string_equal(names(), "serial virtio_vsock");
	name_device("disk,name=data");
	name_device("disk");
	name_device("serial,to=none"); /* the one that there is */
	assert_string_equal(names(), "serial virtio_vsock data disk1");
	assert_string_equal(config.serial, "none");
	name_device("none");
	assert_string_equal(names(), "data disk1 serial");
}

/* A bzImage is a Linux, an ELF when its note says so, or without that note when it has the banner. */
static void test_linux(void **state)
{
	static struct test_image t;

	(void)state;
	make_bzimage(&t);
	write_kernel(&t, "");
	assert_string_equal(names(), "serial virtio_vsock rng");
	make_elf(&t, true);
	write_kernel(&t, "Linux version 6.1.0");
	assert_string_equal(names(), "serial virtio_vsock rng");
	name_guest_os(&t, "FreeBSD");
	write_kernel(&t, "Linux version 6.1.0");
	assert_string_equal(names(), "serial virtio_vsock");
	name_guest_os(&t, "linux");
	write_kernel(&t, "");
	assert_string_equal(names(), "serial virtio_vsock rng");
	name_device("rng,name=mine"); /* no second one */
	assert_string_equal(names(), "serial virtio_vsock mine");
	name_device("none");
	assert_string_equal(names(), "mine");
	write_kernel(&t, "");
	unlink(kernel);
	name_device("none");
	assert_string_equal(names(), "mine");
}

static void test_needs(void **state)
{
	static struct test_image t;
	struct config builtin;
	struct device_list list;

	(void)state;
	config_init(&builtin);
	assert_int_equal(boot_devices(&builtin, &list), -ENODEV);
	assert_string_equal(
		error_text(),
		"the embedded guest, which is booted without --kernel, needs park (it "
		"waits in it): device park: this virga was built without it; build with "
		"park in DEVICES");
	assert_int_equal(config_add_device(&builtin, "none"), 0);
	assert_int_equal(boot_devices(&builtin, &list), -ENODEV);
	assert_non_null(strstr(error_text(), "needs device virtio_vsock (it is reached by it): "
					     "name it with --device virtio_vsock"));
	config_fini(&builtin);

	make_elf(&t, true);
	write_kernel(&t, "");
	name_device("none");
	config_set(&config, "vsock", "/tmp/v");
	assert_non_null(strstr(names(), "option --vsock needs device virtio_vsock"));
	name_device("virtio_vsock");
	assert_string_equal(names(), "virtio_vsock");
	config_set(&config, "serial", "none");
	assert_string_equal(names(), "virtio_vsock");
	config_set(&config, "serial", "stdio");
	assert_non_null(strstr(names(), "option --serial needs device serial"));
	assert_int_equal(boot_devices_channel("invoke"), 0);
}

/* A snapshot's machine has what it has. */
static void test_match(void **state)
{
	struct device_list list = { 0 };

	(void)state;
	assert_int_equal(device_list_add(&list, &serial, NULL), 0);
	assert_int_equal(boot_devices_match(&config, &list), 0);
	name_device("serial,to=pty");
	assert_int_equal(boot_devices_match(&config, &list), 0);
	name_device("disk");
	assert_int_equal(boot_devices_match(&config, &list), -EINVAL);
	assert_non_null(strstr(error_text(), "device disk: a snapshot's machine has"));
	name_device("none");
	assert_int_equal(boot_devices_match(&config, &list), -EINVAL);
	assert_non_null(strstr(error_text(), "device none: "));
	device_list_fini(&list);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_usual),
		TEST(test_linux),
		TEST(test_needs),
		TEST(test_match),
	};

	return cmocka_run_group_tests_name("boot_devices", tests, NULL, NULL);
}
