/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices a machine gets (boot/devices.c): the usual ones, those that are named, what a
 * Linux has, and what is refused. The classes are made up, in the place of the generated table.
 */
/* wrap: device_class_find */
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

struct port {
	char *to;
};

static const struct device_option port_options[] = {
	{ .key = KEY_TEXT(struct port, to, "to", 1, 9), .value = "WHERE", .help = "where" },
	{ .key = KEY_END },
};
static const struct device_option vsock_options[] = {
	{ .key = KEY_TEXT(struct port, to, "path", 1, 9), .value = "PATH", .help = "socket" },
	{ .key = KEY_END },
};
static const struct device_class serial = { .name = "serial",
					    .habit = DEVICE_USUAL,
					    .single = true,
					    .options = port_options,
					    .size = sizeof(struct port) };
static const struct device_class virtio_vsock = { .name = "virtio_vsock",
						  .habit = DEVICE_USUAL,
						  .single = true,
						  .options = vsock_options,
						  .size = sizeof(struct port) };
static const struct device_class park = { .name = "park", .single = true };
static const struct device_class rng = { .name = "rng", .habit = DEVICE_FOR_LINUX };

/* Of which a machine may have several, with an option of each kind. */
struct disk {
	uint32_t saved;
	char *path;
	uint32_t rate, burst_ms, sync;
	bool readonly;
};

static const char *const sync_words[] = { "always", "never", NULL };
static const struct device_option disk_options[] = {
	{ .key = KEY_TEXT(struct disk, path, "path", 1, 99), .value = "FILE", .required = true },
	{ .key = KEY_COUNT(struct disk, rate, "rate", 1, 100), .value = "N", .initial = "10" },
	{ .key = KEY_SECONDS(struct disk, burst_ms, "burst"), .value = "S", .initial = "0.5" },
	{ .key = KEY_WORD(struct disk, sync, "sync", sync_words), .value = "WHEN" },
	{ .key = KEY_BOOL(struct disk, readonly, "readonly"), .value = "true|false" },
	{ .key = KEY_END },
};

static unsigned disks_made;

static int disk_create(struct device *dev, const struct device_host *host)
{
	(void)dev;
	(void)host;
	disks_made++;
	return 0;
}

static const struct device_class disk = {
	.name = "disk", .options = disk_options, .size = sizeof(struct disk), .create = disk_create
};

const struct device_class *const device_classes[] = { &rng,          &serial, &disk,
						      &virtio_vsock, &park,   NULL };
const char *const device_words[] = { "serial", "park", "virtio_vsock", "disk", "rng", NULL };

static const char *unbuilt[2]; /* words of DEVICES that this build lacks */

const struct device_class *__real_device_class_find(const char *word);
const struct device_class *__wrap_device_class_find(const char *word);
const struct device_class *__wrap_device_class_find(const char *word)
{
	for (unsigned i = 0; i < 2; i++)
		if (unbuilt[i] && strcmp(unbuilt[i], word) == 0)
			return NULL;
	return __real_device_class_find(word);
}

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
	struct image image;
	int ret = image_open(&image, config.kernel);

	if (ret == 0) {
		ret = boot_devices(&config, &image, &list);
		image_close(&image);
	}
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
	assert_string_equal(config_short(&config, "serial"), "none");
	name_device("none");
	assert_string_equal(names(), "data disk1 serial");
}

/* A bzImage is a Linux, an ELF when its note says so, or without that note when it has the banner. */
static void test_linux(void **state)
{
	static struct test_image t;
	struct device_list unseen;

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
	assert_int_equal(boot_devices(&config, NULL, &unseen), 0); /* the same, but for the last */
	assert_int_equal(unseen.count, 2);
	device_list_fini(&unseen);
	name_device("rng,name=mine"); /* no second one */
	assert_string_equal(names(), "serial virtio_vsock mine");
	name_device("none");
	assert_string_equal(names(), "mine");
}

static void test_needs(void **state)
{
	static struct test_image t;
	const struct image image = image_builtin();
	struct config builtin;
	struct device_list list;

	(void)state;
	config_init(&builtin);
	unbuilt[0] = "park";
	assert_int_equal(boot_devices(&builtin, &image, &list), -ENODEV);
	assert_string_equal(
		error_text(),
		"the embedded guest, which is booted without --kernel, needs the function "
		"channel and the port that it waits in: this virga was built without park; build "
		"with park in DEVICES");
	unbuilt[0] = "virtio_vsock";
	assert_int_equal(boot_devices(&builtin, &image, &list), -ENODEV);
	assert_non_null(
		strstr(error_text(), "built without virtio_vsock; build with virtio_vsock"));
	unbuilt[1] = "park";
	assert_int_equal(boot_devices(&builtin, &image, &list), -ENODEV);
	assert_non_null(strstr(error_text(),
			       "this virga was built without virtio_vsock and park; build with "
			       "virtio_vsock and park in DEVICES"));
	assert_int_equal(boot_devices_channel("invoke", false), -ENODEV);
	assert_string_equal(error_text(),
			    "invoke needs the function channel: this virga was built without "
			    "virtio_vsock; build with virtio_vsock in DEVICES");
	unbuilt[0] = unbuilt[1] = NULL;
	assert_int_equal(config_add_device(&builtin, "none"), 0);
	assert_int_equal(boot_devices(&builtin, &image, &list), -ENODEV);
	assert_non_null(strstr(error_text(), "needs device virtio_vsock (it is reached by it): "
					     "name it with --device virtio_vsock"));
	assert_int_equal(config_add_device(&builtin, "virtio_vsock"), 0);
	assert_int_equal(boot_devices(&builtin, &image, &list), -ENODEV);
	assert_non_null(strstr(error_text(), "needs device park (it waits in it): "
					     "name it with --device park"));
	assert_int_equal(config_add_device(&builtin, "park"), 0);
	assert_int_equal(boot_devices(&builtin, &image, &list), 0);
	device_list_fini(&list);
	config_fini(&builtin);

	make_elf(&t, true);
	write_kernel(&t, "");
	name_device("none");
	assert_int_equal(config_set(&config, "vsock", "/tmp/v"), 0); /* names the device, too */
	assert_string_equal(names(), "virtio_vsock");
	assert_int_equal(config_set(&config, "serial", "stdio"), 0);
	assert_string_equal(names(), "virtio_vsock serial");
	assert_int_equal(boot_devices_channel("invoke", false), 0);
}

static int make(struct devices *made)
{
	const struct device_host host = { .stdio = false };
	struct device_list list = { 0 };
	int ret = device_list_merge(&list, &config.devices);

	disks_made = 0;
	if (ret == 0)
		ret = devices_create(made, NULL, &list, &host);
	device_list_fini(&list);
	return ret;
}

static void expect_disk(const struct device *dev, const char *name, const struct disk *want)
{
	const struct disk *got = dev->state;

	assert_string_equal(dev->name, name);
	assert_string_equal(got->path, want->path);
	assert_int_equal(got->rate, want->rate);
	assert_int_equal(got->burst_ms, want->burst_ms);
	assert_int_equal(got->sync, want->sync);
	assert_int_equal(got->readonly, want->readonly);
}

static void expect_disks(void)
{
	struct devices made;

	if (make(&made) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(made.count, 2);
	expect_disk(&made.list[0], "disk",
		    &(struct disk){ .path = (char *)"/a,b", .rate = 7, .burst_ms = 500 });
	expect_disk(&made.list[1], "disk1",
		    &(struct disk){ .path = (char *)"/c",
				    .rate = 10,
				    .burst_ms = 1500,
				    .sync = 1,
				    .readonly = true });
	devices_destroy(&made);
}

/* Reads a configuration in the place of the one that there is. */
static int read_config(const char *text)
{
	FILE *out = fopen(kernel, "w");

	fputs(text, out);
	assert_int_equal(fclose(out), 0);
	config_fini(&config);
	config_init(&config);
	return config_load(&config, kernel);
}

/* Two of one class, each with its own; the same by words, by JSON and by what was printed. */
static void test_instances(void **state)
{
	char *text;

	(void)state;
	name_device("disk,path=/a,,b,rate=7");
	name_device("disk,path=/c,sync=never,readonly=true,burst=1.5");
	expect_disks();
	text = config_print(&config);
	assert_int_equal(read_config(text), 0);
	free(text);
	expect_disks();
	assert_int_equal(
		read_config("{\"devices\": [{\"type\": \"disk\", \"path\": \"/a,b\", \"rate\": 7},"
			    "{\"type\": \"disk\", \"path\": \"/x\", \"sync\": \"never\","
			    " \"readonly\": true, \"burst\": 1.5}]}"),
		0);
	name_device("disk,name=disk1,path=/c"); /* by its name it is that one, and the last word */
	expect_disks();
}

static void test_refused_options(void **state)
{
	static const char *const wrong[][2] = {
		{ "disk,path=/a,speed=1", "device disk: it has no key 'speed'; 'virga devices'" },
		{ "disk,path=/a,to=/b", "device disk: it has no key 'to'" }, /* of serial */
		{ "serial,path=/a", "device serial: it has no key 'path'" },
		{ "disk,path=/a,path=/b", "device disk: key 'path': given twice; give it once" },
		{ "disk,path=/a,rate=0",
		  "device disk: key 'rate': a whole number from 1 to 100 is allowed, not '0'" },
		{ "disk,sync=sometimes", "device disk: key 'sync': always and never are allowed" },
		{ "disk,readonly=yes", "device disk: key 'readonly': true or false are allowed" },
		{ "disk,path=", "device disk: key 'path': must be a text of 1 to 99 bytes" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(config_add_device(&config, wrong[i][0]), -EINVAL);
		if (!strstr(error_text(), wrong[i][1]))
			fail_msg("'%s' does not say '%s'", error_text(), wrong[i][1]);
	}
	assert_int_equal(read_config("{\"devices\": [{\"type\": \"disk\", \"path\": 5}]}"),
			 -EINVAL);
	assert_non_null(strstr(error_text(), "device disk: key 'path': must be a text"));
}

/* What a device is nothing without; the one before it is unmade. */
static void test_required(void **state)
{
	struct devices made;

	(void)state;
	name_device("disk,path=/a");
	name_device("disk,name=data,rate=3");
	assert_int_equal(make(&made), -EINVAL);
	assert_string_equal(error_text(), "device data: key 'path' is missing; name it as in "
					  "--device disk,path=FILE");
	assert_int_equal(disks_made, 1);
	assert_int_equal(made.count, 0);
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
	assert_string_equal(device_spec_text(&list.list[0], "to"), "pty");
	assert_int_equal(device_list_add(&list, &disk, NULL), 0);
	assert_int_equal(device_list_add(&list, &disk, "data"), 0);
	name_device("disk,name=data,path=/new");
	assert_int_equal(boot_devices_match(&config, &list), 0);
	assert_null(device_spec_text(&list.list[1], "path"));
	assert_string_equal(device_spec_text(&list.list[2], "path"), "/new");
	list.count--;
	assert_int_equal(boot_devices_match(&config, &list), -EINVAL);
	assert_non_null(strstr(error_text(), "device data: a snapshot's machine has"));
	list.count++;
	name_device("none");
	assert_int_equal(boot_devices_match(&config, &list), -EINVAL);
	assert_non_null(strstr(error_text(), "device none: "));
	device_list_fini(&list);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_usual),     TEST(test_linux),           TEST(test_needs),
		TEST(test_instances), TEST(test_refused_options), TEST(test_required),
		TEST(test_match),
	};

	return cmocka_run_group_tests_name("boot_devices", tests, NULL, NULL);
}
