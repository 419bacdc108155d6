/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/live_machine.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/boot.h"
#include "boot/identity.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "tests/unit/live_machine.h"

static void live_devices(struct live *m, struct device_list *list)
{
	const struct device_host host = { .channel = m->channel };

	assert_int_equal(devices_create(&m->devices, &m->vm, list, &host), 0);
	device_list_fini(list);
}

struct live *live_boot_vcpus(const char *kernel, const char *cmdline, unsigned vcpus)
{
	struct live *m = calloc(1, sizeof(*m));
	struct image image = image_builtin();
	struct boot_regs regs;
	struct boot_source source = {
		.kernel = &image, .cmdline = cmdline, .vcpu_count = vcpus, .devices = &m->devices
	};
	struct host_cpuid *host = host_cpuid_start();
	struct device_list list = { 0 };
	struct memory memory;

	m->channel = channel_new();
	if (kernel && image_open(&image, kernel) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(memory_create(&memory, 16 * MIB), 0);
	if (vm_create(&m->vm, &memory, vcpus, true) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(device_list_add_all(&list, DEVICE_USUAL), 0);
	live_devices(m, &list);
	assert_int_equal(boot_load(&m->vm.memory, &source, &regs), 0);
	for (unsigned i = 0; i < vcpus; i++)
		assert_int_equal(vcpu_boot(&m->vm.vcpus[i], &regs, host), 0);
	host_cpuid_free(host);
	assert_int_equal(identity_write(&m->vm, 0, NULL), 0);
	image_close(&image);
	return m;
}

struct live *live_boot(const char *kernel, const char *cmdline)
{
	return live_boot_vcpus(kernel, cmdline, 1);
}

struct live *live_load(const char *path)
{
	struct live *m = calloc(1, sizeof(*m));
	struct device_list list;
	struct snapshot snapshot;
	struct memory memory;

	m->channel = channel_new();
	if (snapshot_open(&snapshot, path) < 0)
		fail_msg("%s", error_text());
	assert_int_equal(snapshot_map_memory(&snapshot, &memory), 0);
	memory_open_pagemap(&memory);
	assert_int_equal(vm_create(&m->vm, &memory, snapshot.vcpu_count, true), 0);
	if (snapshot_devices(&snapshot, &list) < 0)
		fail_msg("%s", error_text());
	live_devices(m, &list);
	if (snapshot_load(&snapshot, &m->vm, &m->devices) < 0)
		fail_msg("%s", error_text());
	snapshot_close(&snapshot);
	return m;
}

void live_save(struct live *m, const char *path)
{
	const struct snapshot_config config = snapshot_config_of("{}\n", 3);
	struct snapshot_dir dir;
	int ret;

	if (snapshot_dir_create(&dir, path, "{}\n", 3) < 0)
		fail_msg("%s", error_text());
	pthread_mutex_lock(&m->vm.lock);
	ret = snapshot_save(&m->vm, &m->devices, &config, dir.state_fd, dir.memory_fd);
	pthread_mutex_unlock(&m->vm.lock);
	if (ret < 0)
		fail_msg("%s", error_text());
	assert_int_equal(snapshot_dir_commit(&dir), 0);
}

void live_destroy(struct live *m)
{
	devices_destroy(&m->devices);
	vm_destroy(&m->vm);
	channel_free(m->channel);
	free(m);
}

static void *live_thread(void *opaque)
{
	struct live *m = opaque;

	vm_run(&m->vm);
	return NULL;
}

void live_start(struct live *m)
{
	pthread_mutex_lock(&m->vm.lock);
	assert_int_equal(devices_start(&m->devices), 0);
	pthread_mutex_unlock(&m->vm.lock);
	assert_int_equal(pthread_create(&m->thread, NULL, live_thread, m), 0);
}

bool live_stop(struct live *m)
{
	vm_pause(&m->vm);
	devices_stop(&m->devices);
	return m->vm.state == VM_STOPPED;
}

bool live_run_for(struct live *m, unsigned us)
{
	bool stopped;

	live_start(m);
	usleep(us);
	pthread_mutex_lock(&m->vm.lock);
	stopped = live_stop(m);
	pthread_mutex_unlock(&m->vm.lock);
	return stopped;
}

void live_end(struct live *m)
{
	pthread_mutex_lock(&m->vm.lock);
	vm_end(&m->vm, VM_END_QUIT, 0, "%s", "");
	pthread_mutex_unlock(&m->vm.lock);
	pthread_join(m->thread, NULL);
	live_destroy(m);
}
