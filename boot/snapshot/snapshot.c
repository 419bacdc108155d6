/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A paused machine into the sections of a snapshot (boot/snapshot/snapshot.h). Runs in the
 * confined VM process: it opens nothing.
 */
#include "boot/snapshot/snapshot.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/memory.h"

/* Starts a section, or says that the table is full. */
static struct blob *snapshot_add(struct state_writer *w, const char *name, uint32_t instance,
				 uint32_t version)
{
	struct blob *out = state_section_add(w, name, instance, version);

	if (!out)
		failf(ENOSPC, "the state of a snapshot has no room for section %s", name);
	return out;
}

static int snapshot_save_machine(struct state_writer *w, struct vm *vm)
{
	struct blob *out = snapshot_add(w, "machine", 0, SNAPSHOT_MACHINE_VERSION);
	struct snapshot_machine machine = {
		.memory_size = vm->memory.size,
		.vcpu_count = vm->vcpu_count,
		.virtio_slots = vm->virtio_slots,
		.machine_version = SNAPSHOT_MACHINE_X86_64_V1,
	};
	struct utsname host;
	int ret;

	if (!out)
		return -ENOSPC;
	ret = vm_clock_get(vm, &machine.clock_ns);
	if (ret < 0)
		return ret;
	if (uname(&host) == 0)
		memcpy(machine.host_kernel, host.release,
		       strnlen(host.release, sizeof(machine.host_kernel) - 1));
	fields_save(snapshot_machine_fields, &machine, out);
	return 0;
}

static int snapshot_save_memory(struct state_writer *w, const struct memory *m, int memory_fd)
{
	struct blob *out = snapshot_add(w, "memory", 0, SNAPSHOT_MEMORY_VERSION);
	struct snapshot_memory memory = { .file_len = m->size, .extent_count = m->region_count };
	int ret;

	if (!out)
		return -ENOSPC;
	ret = snapshot_memory_write(m, memory_fd, memory.digest);
	if (ret < 0)
		return ret;
	fields_save(snapshot_memory_fields, &memory, out);
	for (unsigned i = 0; i < m->region_count; i++) {
		struct snapshot_extent extent = {
			.gpa = m->regions[i].gpa,
			.len = m->regions[i].size,
			.offset = m->regions[i].offset,
		};

		fields_save(snapshot_extent_fields, &extent, out);
	}
	return 0;
}

struct snapshot_config snapshot_config_of(const char *text, size_t len)
{
	return (struct snapshot_config){ .len = len, .checksum = digest64(text, len) };
}

static int snapshot_save_config(struct state_writer *w, const struct snapshot_config *config)
{
	struct blob *out = snapshot_add(w, "config", 0, SNAPSHOT_CONFIG_VERSION);

	if (!out)
		return -ENOSPC;
	fields_save(snapshot_config_fields, config, out);
	return 0;
}

static int snapshot_save_list(struct state_writer *w, const struct devices *devices)
{
	struct blob *out = snapshot_add(w, SNAPSHOT_DEVICES, 0, SNAPSHOT_DEVICES_VERSION);

	if (!out)
		return -ENOSPC;
	snapshot_save_devices(devices, out);
	return 0;
}

/* vCPUs, interrupt controller, devices: everything that has its own owner. */
static int snapshot_save_parts(struct state_writer *w, struct vm *vm, struct devices *devices)
{
	struct blob *out;
	int ret = irqchip_settle(vm->irqchip);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		out = snapshot_add(w, "vcpu", i, SNAPSHOT_VCPU_VERSION);
		if (!out)
			return -ENOSPC;
		ret = vcpu_save(&vm->vcpus[i], out);
		if (ret < 0)
			return ret;
	}
	out = snapshot_add(w, IRQCHIP_SECTION, 0, IRQCHIP_VERSION);
	if (!out)
		return -ENOSPC;
	irqchip_save(vm->irqchip, out);
	for (unsigned i = 0; i < devices->count; i++) {
		struct device *dev = &devices->list[i];

		out = snapshot_add(w, dev->class->name, dev->instance, dev->class->version);
		if (!out)
			return -ENOSPC;
		ret = device_save(dev, out);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int snapshot_write_state(const struct state_writer *w, int fd)
{
	struct blob file = { 0 };
	int ret = state_encode(w, &file);

	for (size_t at = 0; ret == 0 && at < file.len;) {
		ssize_t n = pwrite(fd, file.data + at, file.len - at, (off_t)at);

		if (n > 0)
			at += (size_t)n;
		else if (n == 0 || errno != EINTR)
			ret = failf(n < 0 ? errno : ENOSPC, "state: cannot write %zu bytes: %s",
				    file.len, write_error(n < 0 ? errno : ENOSPC));
	}
	blob_fini(&file);
	return ret;
}

int snapshot_save(struct vm *vm, struct devices *devices, const struct snapshot_config *config,
		  int state_fd, int memory_fd)
{
	struct state_writer w = { 0 };
	/* The clocks first and together; memory, which takes longest, last. */
	int ret = snapshot_save_machine(&w, vm);

	if (ret == 0)
		ret = snapshot_save_config(&w, config);
	if (ret == 0)
		ret = snapshot_save_list(&w, devices);
	if (ret == 0)
		ret = snapshot_save_parts(&w, vm, devices);
	if (ret == 0)
		ret = snapshot_save_memory(&w, &vm->memory, memory_fd);
	if (ret == 0)
		ret = snapshot_write_state(&w, state_fd);
	state_writer_fini(&w);
	return ret;
}
