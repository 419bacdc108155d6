/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of all devices of a machine, in table order on the way up and in the
 * opposite order on the way down, and the two halves of saving one: its field list,
 * then whatever its class appends.
 */
#include "devices/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/base/error.h"

/* Zeroed. A mapping, because calloc() may touch every page of a large state to see that it is 0. */
static void *device_state_new(size_t size)
{
	void *state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return state == MAP_FAILED ? NULL : state;
}

static void device_state_free(struct device *dev)
{
	if (dev->state)
		munmap(dev->state, dev->class->size);
	dev->state = NULL;
}

static int device_create(struct device *dev, const struct device_class *class, struct vm *vm,
			 const struct device_host *host)
{
	int ret;

	*dev = (struct device){ .class = class, .vm = vm };
	if (class->size) {
		dev->state = device_state_new(class->size);
		if (!dev->state)
			return failf(ENOMEM, "device %s: out of memory", class->name);
	}
	ret = class->create(dev, host);
	if (ret)
		device_state_free(dev);
	return ret;
}

int devices_create(struct devices *devices, struct vm *vm, const struct device_host *host)
{
	unsigned wanted = 0;
	int ret = 0;

	while (device_classes[wanted])
		wanted++;
	*devices = (struct devices){ .list = calloc(wanted, sizeof(*devices->list)) };
	if (!devices->list && wanted)
		return failf(ENOMEM, "out of memory");
	for (unsigned i = 0; i < wanted && !ret; i++) {
		ret = device_create(&devices->list[i], device_classes[i], vm, host);
		if (!ret)
			devices->count++;
	}
	if (ret)
		devices_destroy(devices);
	return ret;
}

void devices_destroy(struct devices *devices)
{
	while (devices->count) {
		struct device *dev = &devices->list[--devices->count];

		if (dev->class->destroy)
			dev->class->destroy(dev);
		device_state_free(dev);
	}
	free(devices->list);
	devices->list = NULL;
}

static void devices_stop_first(struct devices *devices, unsigned count)
{
	while (count) {
		struct device *dev = &devices->list[--count];

		if (dev->class->stop)
			dev->class->stop(dev);
	}
}

int devices_start(struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct device *dev = &devices->list[i];
		int ret = dev->class->start ? dev->class->start(dev) : 0;

		if (ret) {
			devices_stop_first(devices, i);
			return ret;
		}
	}
	return 0;
}

void devices_stop(struct devices *devices)
{
	devices_stop_first(devices, devices->count);
}

void devices_clear(struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct device *dev = &devices->list[i];

		if (dev->class->clear)
			dev->class->clear(dev);
	}
}

void devices_describe(const struct devices *devices, struct aml *a)
{
	for (unsigned i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->list[i];

		if (dev->class->describe)
			dev->class->describe(dev, a);
	}
}

int device_save(struct device *dev, struct blob *out)
{
	const struct device_class *class = dev->class;
	int ret = 0;

	if (class->fields)
		fields_save(class->fields, dev->state, out);
	if (class->save)
		ret = class->save(dev, out);
	if (!ret && out->failed)
		ret = failf(ENOMEM, "device %s: out of memory while saving", class->name);
	return ret;
}

int device_load(struct device *dev, const void *data, size_t len)
{
	const struct device_class *class = dev->class;
	struct blob in = blob_reader(data, len);
	int ret;

	if (class->fields)
		fields_load(class->fields, dev->state, &in);
	if (!in.failed && class->restore) {
		ret = class->restore(dev, &in);
		if (ret)
			return ret;
	}
	if (in.failed)
		return failf(EINVAL, "device %s: its saved state ends early, after %zu bytes",
			     class->name, len);
	if (in.pos != in.len)
		return failf(EINVAL, "device %s: its saved state has %zu bytes too many",
			     class->name, in.len - in.pos);
	return 0;
}

struct device *devices_find(struct devices *devices, const char *name)
{
	for (unsigned i = 0; i < devices->count; i++) {
		if (!strcmp(devices->list[i].class->name, name))
			return &devices->list[i];
	}
	return NULL;
}
