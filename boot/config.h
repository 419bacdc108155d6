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
	char *control;
	char *name;
	bool devices_only; /* no usual devices: only the list */
	struct device_list devices;
};

/* Defaults: 128M, 1 CPU, everything else not given. */
void config_init(struct config *config);
void config_fini(struct config *config);

/*
 * Sets one key ("memory", "kernel" ...) from its option text; checks form and range.
 * "serial" and "vsock" are short forms of devices' keys. -EINVAL with a sentence that names the key,
 * the value and what is allowed. -ENOENT: no such key.
 */
int config_set(struct config *config, const char *key, const char *value);

/*
 * Names a device: WORD[,KEY=VALUE...], `,,` is a comma in a value; KEY name says how this one is
 * called, which is its word where a machine has one at most, and no other's word. Another device, or
 * options for the one of that name, or of such a class. "none": no device that is not named. -EINVAL or -ENODEV with a sentence.
 */
int config_add_device(struct config *config, const char *text);

/*
 * Some keys stand for one of a device's: `serial` is `to` of device serial. The device's option that
 * a key is short for; NULL: for none, or the class is not built in. And the key of an option, or NULL.
 */
const struct device_option *config_short_option(const char *key);
const char *config_short_of(const struct device_option *option);

/* The text that a short key has in the list of devices, until it is set again; NULL: none. */
const char *config_short(const struct config *config, const char *key);

/* Options by which a supervisor answers that question are not said any more; the devices stay. */
void config_forget(struct config *config, enum device_question question);

/*
 * Sets what the JSON object in a file has; an unknown key, a wrong type or a key twice is an error. 0 or
 * -errno with a sentence that names file and key.
 */
int config_load(struct config *config, const char *path);

/*
 * The same of the text that a snapshot has; where is for the sentence. What was the host's of then is
 * passed over: some virga has saved it.
 */
int config_parse_saved(struct config *config, const char *text, const char *where);

/* The configuration as indented JSON with a final newline, keys in fixed order. Free it. */
char *config_print(const struct config *config);

/* The same for a snapshot: without the control socket, and the options that are said anew. */
char *config_print_saved(const struct config *config);

#endif
