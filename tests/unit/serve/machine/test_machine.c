/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that is booted has the devices of the kernel that it runs: the file is opened once, and may
 * be another by the time that it is loaded.
 */
/* wrap: image_open */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "serve/machine/machine.h"
#include "tests/unit/images.h"

static char kernel[] = "/tmp/test_machine.XXXXXX";

int __real_image_open(struct image *image, const char *path);
int __wrap_image_open(struct image *image, const char *path);
int __wrap_image_open(struct image *image, const char *path)
{
	int ret = __real_image_open(image, path);

	unlink(path);
	return ret;
}

static int memory(void *opaque, struct memory *made)
{
	const struct config *config = opaque;

	return memory_create(made, config->memory);
}

static void test_kernel_is_opened_once(void **state)
{
	static struct test_image t;
	struct machine m = { .vm = { .fd = -1, .kvm_fd = -1 } };
	const struct channel_events events = { .answer = NULL };
	struct config config;
	const struct machine_plan plan = {
		.config = &config, .events = &events, .memory = memory, .opaque = &config
	};
	struct host_cpuid *host = host_cpuid_start();
	int fd = mkstemp(kernel);

	(void)state;
	make_elf(&t, true);
	name_guest_os(&t, "linux");
	assert_int_equal(write(fd, t.bytes, t.size), t.size);
	close(fd);
	config_init(&config);
	assert_int_equal(config_set(&config, "kernel", kernel), 0);
	if (machine_build(&m, &plan) < 0 || machine_boot(&m, &config, host) < 0)
		fail_msg("%s", error_text());
	assert_non_null(devices_find(&m.devices, "virtio_rng", 0));
	assert_null(m.kernel.data);
	devices_destroy(&m.devices);
	channel_free(m.channel);
	vm_destroy(&m.vm);
	host_cpuid_free(host);
	config_fini(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_is_opened_once),
	};

	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
