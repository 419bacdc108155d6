/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of a machine as plain data, from options and JSON with the same
 * keys; printable (--print-config) and stored in every snapshot.
 */
#ifndef VIRGA_BOOT_CONFIG_H
#define VIRGA_BOOT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/device.h"

#define CONFIG_MEMORY_DEFAULT (128ull << 20)

/* Strings are owned; NULL means not given. */
struct config {
	char *kernel; /* NULL: the embedded guest */
	char *initrd;
	char *cmdline;
	uint64_t memory; /* bytes, page multiple */
	uint32_t cpus;
	char *serial; /* "stdio", "none", "pty", "file:PATH" */
	char *vsock;
	char *control;
	char *name;
	bool devices_only; /* no usual devices: only the list */
	struct device_list devices;
};

/* Defaults: 128M, 1 CPU, serial NULL (the command decides), everything else not given. */
void config_init(struct config *config);
void config_fini(struct config *config);

/*
 * Sets one key ("memory", "kernel" ...) from its option text; checks form and range.
 * -EINVAL with a sentence that names the key, the value and what is allowed. -ENOENT: no such key.
 */
int config_set(struct config *config, const char *key, const char *value);

/*
 * Names a device: WORD[,KEY=VALUE...], `,,` is a comma in a value; KEY name says how this one is
 * called. Another device, or options for the one of its class that a machine has anyway. "none": no
 * device that is not named. -EINVAL or -ENODEV with a sentence.
 */
int config_add_device(struct config *config, const char *text);

/*
 * Sets what the JSON object in a file has; an unknown key, a wrong type or a key twice is an error. 0 or
 * -errno with a sentence that names file and key.
 */
int config_load(struct config *config, const char *path);

/* The configuration as indented JSON with a final newline, keys in fixed order. Free it. */
char *config_print(const struct config *config);

#endif
