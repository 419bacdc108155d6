/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a set of devices, with a table of made-up classes in the place of the
 * generated one, and the small devices: debug_exit, power, park.
 */
/* wrap: vm_end vm_poll vm_park */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "devices/device.h"

extern const struct device_class debug_exit_class, power_class, park_class;

static struct {
	char log[256];
	const char *fails; /* the event that fails */
	enum vm_end_reason reason;
	unsigned code;
	unsigned ends, polls, parks;
} seen;

void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...);
void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...)
{
	(void)vm;
	assert_true(fmt[0]);
	seen.reason = reason;
	seen.code = code;
	seen.ends++;
}

void __wrap_vm_poll(struct vm *vm);
void __wrap_vm_poll(struct vm *vm)
{
	(void)vm;
	seen.polls++;
}

void __wrap_vm_park(struct vm *vm);
void __wrap_vm_park(struct vm *vm)
{
	(void)vm;
	assert_int_equal(seen.polls, seen.parks + 1); /* work is looked for before waiting */
	seen.parks++;
}

/* --- Made-up classes: each event is logged, and fails when told to --- */

struct fake {
	uint32_t value;
	uint16_t list[3];
};

static int fake_event(struct device *dev, const char *event)
{
	char name[32];

	snprintf(name, sizeof(name), "%s.%s", dev->class->name, event);
	strcat(seen.log, name);
	strcat(seen.log, " ");
	return seen.fails && !strcmp(seen.fails, name) ? failf(EIO, "%s fails", name) : 0;
}

static int fake_create(struct device *dev, const struct device_host *host)
{
	const struct fake *fake = dev->state;

	(void)host;
	if (fake)
		assert_int_equal(fake->value, 0);
	return fake_event(dev, "create");
}

static void fake_destroy(struct device *dev)
{
	fake_event(dev, "destroy");
}

static int fake_start(struct device *dev)
{
	return fake_event(dev, "start");
}

static void fake_stop(struct device *dev)
{
	fake_event(dev, "stop");
}

static int fake_save(struct device *dev, struct blob *out)
{
	blob_put_u32(out, 0x11223344);
	return fake_event(dev, "save");
}

static int fake_restore(struct device *dev, struct blob *in)
{
	assert_int_equal(blob_get_u32(in), 0x11223344);
	return fake_event(dev, "restore");
}

static const struct field fake_fields[] = {
	FIELD(struct fake, value),
	FIELD_ARRAY(struct fake, list),
	FIELD_END,
};

static const struct device_class fake_a = {
	.name = "a",
	.size = sizeof(struct fake),
	.fields = fake_fields,
	.create = fake_create,
	.destroy = fake_destroy,
	.start = fake_start,
	.stop = fake_stop,
	.save = fake_save,
	.restore = fake_restore,
};
static const struct device_class fake_b = { .name = "b", .create = fake_create };
static const struct device_class fake_c = {
	.name = "c",
	.create = fake_create,
	.destroy = fake_destroy,
	.start = fake_start,
	.stop = fake_stop,
};

const struct device_class *const device_classes[] = { &fake_a, &fake_b, &fake_c, NULL };
const char *const device_words[] = { "a", "b", "not_built", "c", NULL };

static struct vm vm;
static struct devices devices;

/* One of each class. */
static int create(void)
{
	const struct device_host host = { 0 };
	struct device_list list = { 0 };
	int ret;

	for (unsigned i = 0; device_classes[i]; i++)
		assert_int_equal(device_list_add(&list, device_classes[i], NULL), 0);
	ret = devices_create(&devices, &vm, &list, &host);
	device_list_fini(&list);
	return ret;
}

static int setup(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	memset(&vm, 0, sizeof(vm));
	return create();
}

static int teardown(void **state)
{
	(void)state;
	devices_destroy(&devices);
	return devices.count != 0;
}

static void test_order(void **state)
{
	(void)state;
	assert_int_equal(devices.count, 3);
	assert_int_equal(devices_start(&devices), 0);
	devices_stop(&devices);
	devices_destroy(&devices);
	assert_string_equal(seen.log, "a.create b.create c.create a.start c.start c.stop a.stop "
				      "c.destroy a.destroy ");
}

static void test_create_fails(void **state)
{
	(void)state;
	devices_destroy(&devices);
	seen.log[0] = 0;
	seen.fails = "c.create";
	assert_int_equal(create(), -EIO);
	assert_string_equal(error_text(), "c.create fails");
	assert_string_equal(seen.log, "a.create b.create c.create a.destroy ");
	assert_int_equal(devices.count, 0);
}

static void test_start_fails(void **state)
{
	(void)state;
	seen.log[0] = 0;
	seen.fails = "c.start";
	assert_int_equal(devices_start(&devices), -EIO);
	assert_string_equal(seen.log, "a.start c.start a.stop ");
}

static void test_find(void **state)
{
	(void)state;
	assert_ptr_equal(devices_find(&devices, "b", 0), &devices.list[1]);
	assert_null(devices_find(&devices, "b", 1));
	assert_null(devices_find(&devices, "d", 0));
}

static void test_save_and_load(void **state)
{
	struct device *a = &devices.list[0];
	struct fake *fake = a->state;
	struct blob blob = { 0 };

	(void)state;
	*fake = (struct fake){ .value = 7, .list = { 1, 2, 3 } };
	assert_int_equal(device_save(a, &blob), 0);
	assert_int_equal(blob.len, fields_size(fake_fields, 1) + 4);
	memset(fake, 0, sizeof(*fake));
	assert_int_equal(device_load(a, 1, blob.data, blob.len), 0);
	assert_int_equal(fake->value, 7);
	assert_int_equal(fake->list[2], 3);
	for (size_t len = 0; len < fields_size(fake_fields, 1); len++)
		assert_int_equal(device_load(a, 1, blob.data, len), -EINVAL);
	assert_non_null(strstr(error_text(), "device a"));
	/* A device that saves nothing takes nothing. */
	assert_int_equal(device_load(&devices.list[1], 1, "", 0), 0);
	assert_int_equal(device_load(&devices.list[1], 1, "x", 1), -EINVAL);
	seen.fails = "a.restore";
	assert_int_equal(device_load(a, 1, blob.data, blob.len), -EIO);
	seen.fails = "a.save";
	assert_int_equal(device_save(a, &blob), -EIO);
	blob_fini(&blob);
}

/* --- Lists --- */

static void test_list(void **state)
{
	static const struct device_class single = { .name = "single", .single = true };
	struct device_list list = { 0 };

	(void)state;
	assert_int_equal(device_list_add(&list, &fake_b, NULL), 0);
	assert_int_equal(device_list_add(&list, &fake_a, "b1"), 0);
	assert_int_equal(device_list_add(&list, &fake_b, NULL), -EINVAL);
	assert_string_equal(error_text(), "device b: there is a device b1 already; each has a name "
					  "of its own");
	assert_int_equal(device_list_add(&list, &fake_b, "x"), 0);
	assert_int_equal(device_list_add(&list, &fake_b, NULL), 0);
	assert_int_equal(list.count, 4);
	assert_string_equal(list.list[3].name, "b2");
	assert_int_equal(list.list[3].instance, 2);
	assert_ptr_equal(device_list_find(&list, "a"), &list.list[1]);
	assert_null(device_list_find(&list, "c"));
	assert_int_equal(device_list_add(&list, &single, NULL), 0);
	assert_int_equal(device_list_add(&list, &single, "other"), -EINVAL);
	assert_string_equal(error_text(), "device single: a machine has one at most");
	device_list_fini(&list);
}

static void test_words(void **state)
{
	(void)state;
	assert_ptr_equal(device_class_find("c"), &fake_c);
	assert_null(device_class_find("not_built"));
	assert_string_equal(error_text(),
			    "device not_built: this virga was built without it; build "
			    "with not_built in DEVICES");
	assert_null(device_class_find("d"));
	assert_string_equal(error_text(),
			    "there is no device 'd'; 'virga devices' lists those there are");
}

static struct {
	uint64_t id;
	int error, fd;
} answer;

static void fake_answered(struct device *dev, uint64_t id, int error, int fd)
{
	assert_int_equal(dev->number, 1);
	answer.id = id;
	answer.error = error;
	answer.fd = fd;
}

static int fake_ask(void *opaque, uint64_t id, enum device_question kind, uint32_t value)
{
	assert_int_equal(kind, DEVICE_CONNECT);
	assert_int_equal(value, 77);
	*(uint64_t *)opaque = id;
	return 0;
}

/* An answer finds the device that has asked, however many there are of its class. */
static void test_ask(void **state)
{
	static const struct device_class asks = { .name = "asks",
						  .create = fake_create,
						  .answered = fake_answered };
	uint64_t asked = 0;
	const struct device_host host = { .ask = fake_ask, .ask_opaque = &asked };
	struct device_list list = { 0 };

	(void)state;
	assert_int_equal(device_ask(&devices.list[0], 1, DEVICE_CONNECT, 77), -ENOTCONN);
	devices_destroy(&devices);
	assert_int_equal(device_list_add(&list, &asks, NULL), 0);
	assert_int_equal(device_list_add(&list, &asks, NULL), 0);
	assert_int_equal(devices_create(&devices, &vm, &list, &host), 0);
	device_list_fini(&list);
	assert_int_equal(device_ask(&devices.list[1], 0x123456789abull, DEVICE_CONNECT, 77), 0);
	devices_answered(&devices, asked, EIO, -1);
	assert_true(answer.id == 0x123456789abull);
	assert_int_equal(answer.error, EIO);
	assert_int_equal(answer.fd, -1);
	devices_answered(&devices, UINT64_MAX, 0, -1);
	assert_true(answer.id == 0x123456789abull);
}

/* --- The small devices --- */

static void claim(const struct device_class *class, struct device *dev)
{
	const struct device_host host = { 0 };

	*dev = (struct device){ .class = class, .vm = &vm };
	assert_int_equal(class->create(dev, &host), 0);
	assert_null(class->fields);
}

static void out(uint16_t port, uint32_t value, unsigned len)
{
	assert_true(bus_io(&vm.pio, port, &value, len, true));
}

static uint32_t in(uint16_t port, unsigned len)
{
	uint32_t value = 0xffffffff;

	assert_true(bus_io(&vm.pio, port, &value, len, false));
	return value;
}

static void test_debug_exit(void **state)
{
	struct device dev;

	(void)state;
	claim(&debug_exit_class, &dev);
	assert_int_equal(in(LAYOUT_PORT_DEBUG_EXIT, 1), 0xffffff00);
	assert_int_equal(seen.ends, 0);
	out(LAYOUT_PORT_DEBUG_EXIT, 42, 1);
	assert_int_equal(seen.reason, VM_END_DEBUG_EXIT);
	assert_int_equal(seen.code, 42);
	out(LAYOUT_PORT_DEBUG_EXIT, 0x107, 4);
	assert_int_equal(seen.code, 7);
	assert_int_equal(seen.ends, 2);
}

static void test_power(void **state)
{
	struct device dev;

	(void)state;
	claim(&power_class, &dev);
	for (uint32_t value = 0; value < 256; value++) {
		seen.ends = 0;
		out(LAYOUT_PORT_POWER, value, 1);
		assert_int_equal(seen.ends, (value & 0x3c) == 0x34);
		assert_true(!seen.ends || seen.reason == VM_END_POWEROFF);
		seen.ends = 0;
		out(LAYOUT_PORT_POWER + 1, value, 1);
		assert_int_equal(seen.ends, 0);
		out(LAYOUT_PORT_POWER + 2, value, 1);
		assert_int_equal(seen.ends, value == 1);
		assert_true(!seen.ends || seen.reason == VM_END_RESET);
		seen.ends = 0;
		out(LAYOUT_PORT_KEYBOARD, value, 1);
		assert_int_equal(seen.ends, value == 0xfe);
	}
	for (uint16_t i = 0; i < 3; i++)
		assert_int_equal(in((uint16_t)(LAYOUT_PORT_POWER + i), 1), 0xffffff00);
	assert_int_equal(in(LAYOUT_PORT_KEYBOARD, 1), 0xffffff00);
}

static void test_park(void **state)
{
	struct device dev;

	(void)state;
	claim(&park_class, &dev);
	out(LAYOUT_PORT_PARK, 1, 1);
	assert_int_equal(seen.parks, 0);
	assert_int_equal(in(LAYOUT_PORT_PARK, 1), 0xffffff00);
	assert_int_equal(in(LAYOUT_PORT_PARK, 2), 0xffff0000);
	assert_int_equal(in(LAYOUT_PORT_PARK, 4), 0);
	assert_int_equal(seen.parks, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order), TEST(test_create_fails),  TEST(test_start_fails),
		TEST(test_find),  TEST(test_save_and_load), TEST(test_debug_exit),
		TEST(test_power), TEST(test_park),          TEST(test_list),
		TEST(test_words), TEST(test_ask),
	};

	return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
