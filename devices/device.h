/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device is: one const class (name, fields, life) in one file under
 * devices/, and the table of the classes that this binary was built with
 * (generated from the Makefile's DEVICES). One name serves file, Makefile word,
 * snapshot section, log prefix and test.
 */
#ifndef VIRGA_DEVICES_DEVICE_H
#define VIRGA_DEVICES_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/base/aml.h"
#include "arch/base/blob.h"
#include "arch/base/field.h"
#include "arch/vm.h"

/* Host things a device is made from: already opened, or named; plain data, never saved. */
struct device_host {
	const char *serial; /* "stdio", "none", "pty", "file:PATH" */
	const char *vsock;  /* unix socket path for connections from the host; NULL for none */
	/*
	 * Asks for a connection to the vsock path's `port`; the answer is vsock_unix_connected()
	 * with the same id. 0 or -errno. NULL: nobody to ask, such connections are refused.
	 */
	int (*connect)(void *opaque, uint64_t id, uint32_t port);
	void *connect_opaque;
	struct channel *channel; /* the host end of the function channel; never NULL */
};

struct device {
	const struct device_class *class;
	struct vm *vm;
	void *state; /* class->size bytes, zeroed before create; holds the saved struct at 0 */
};

struct device_class {
	const char *name;
	const char *description; /* one line for `virga devices` */
	uint32_t version;        /* of the saved fields and of what save() appends */
	uint32_t size;           /* bytes of the instance, whose first member is the saved struct */
	const struct field *fields; /* of the saved struct; NULL when nothing is saved */

	/* Opens host things and claims ranges; touches no guest state. 0 or -errno, sentence. */
	int (*create)(struct device *dev, const struct device_host *host);
	void (*destroy)(struct device *dev);

	/* The machine is about to run (first time, or after a pause) / has been paused. Optional. */
	int (*start)(struct device *dev);
	void (*stop)(struct device *dev);

	/* Drops what it has done since create(), so that a state can be loaded over it. Optional. */
	void (*clear)(struct device *dev);

	/* Says to the guest's ACPI where the device is. Optional. */
	void (*describe)(const struct device *dev, struct aml *a);

	/* State beyond the fields, appended after them. Optional. Machine paused, VM lock held. */
	int (*save)(struct device *dev, struct blob *out);
	/* The fields are loaded; range-checks them, reads what save() appended. 0 or -errno. */
	int (*restore)(struct device *dev, struct blob *in);
};

/* NULL-terminated; build/devices.c. */
extern const struct device_class *const device_classes[];

struct devices {
	unsigned count;
	struct device *list; /* owned */
};

/* One instance of each class, in table order. On failure what was made is destroyed. */
int devices_create(struct devices *devices, struct vm *vm, const struct device_host *host);
void devices_destroy(struct devices *devices);

/* Calls start (stop) of each; start undoes itself on failure. VM lock held. */
int devices_start(struct devices *devices);
void devices_stop(struct devices *devices);

/* Calls clear of each. The devices are stopped; VM lock held. */
void devices_clear(struct devices *devices);

/* Calls describe of each. */
void devices_describe(const struct devices *devices, struct aml *a);

/* Appends fields and extra state of one device / loads it; a sentence names the device. */
int device_save(struct device *dev, struct blob *out);
int device_load(struct device *dev, const void *data, size_t len);

/* The device of that name, or NULL. */
struct device *devices_find(struct devices *devices, const char *name);

#endif
