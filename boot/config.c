/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's configuration as a table of keys (boot/config.h).
 */
#include "boot/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/base/keys.h"
#include "arch/layout.h"
#include "arch/vm.h"

#define CONFIG_PATH_MAX   4095u
#define CONFIG_SOCKET_MAX 100u /* sun_path holds 108 bytes; a clone's number is appended */
#define CONFIG_NAME_MAX   64u

static const char *config_check_serial(const char *text)
{
	static const char file[] = "file:";
	bool is_file = strncmp(text, file, strlen(file)) == 0 && text[strlen(file)];

	return is_file || strcmp(text, "stdio") == 0 || strcmp(text, "none") == 0 ||
			       strcmp(text, "pty") == 0
		       ? NULL
		       : "stdio, none, pty and file:PATH are allowed";
}

static int config_set_devices(void *object, const char *where, const json_t *value);
static json_t *config_print_devices(const void *object);

static const struct key config_keys[] = {
	KEY_TEXT(struct config, kernel, "kernel", 1, CONFIG_PATH_MAX),
	KEY_TEXT(struct config, initrd, "initrd", 1, CONFIG_PATH_MAX),
	KEY_TEXT(struct config, cmdline, "cmdline", 0, LAYOUT_CMDLINE_MAX - 1),
	KEY_SIZE(struct config, memory, "memory", MEMORY_MIN, MEMORY_MAX),
	KEY_COUNT(struct config, cpus, "cpus", 1, VM_VCPUS_MAX),
	KEY_CHECKED(struct config, serial, "serial", CONFIG_PATH_MAX, config_check_serial),
	KEY_TEXT(struct config, vsock, "vsock", 1, CONFIG_SOCKET_MAX),
	KEY_TEXT(struct config, control, "control", 1, CONFIG_SOCKET_MAX),
	KEY_TEXT(struct config, name, "name", 1, CONFIG_NAME_MAX),
	{ .name = "devices",
	  .type = KEY_OTHER,
	  .set = config_set_devices,
	  .print = config_print_devices },
	KEY_END,
};

void config_init(struct config *config)
{
	*config = (struct config){ .memory = CONFIG_MEMORY_DEFAULT, .cpus = 1 };
}

void config_fini(struct config *config)
{
	keys_fini(config_keys, config);
	device_list_fini(&config->devices);
	*config = (struct config){ 0 };
}

int config_set(struct config *config, const char *key, const char *value)
{
	const struct key *found = key_find(config_keys, key);

	return found ? key_set(found, config, value)
		     : failf(ENOENT, "there is no option '%s'", key);
}

/* --- Devices --- */

/* A device that is being named. */
struct config_device {
	struct config *config;
	const char *word; /* the class's */
	const struct device_class *class;
	char *name; /* owned; NULL: not given */
};

static int config_device_name(void *opaque, const char *key, const char *value)
{
	struct config_device *device = opaque;

	if (strcmp(key, "name") != 0)
		return 0;
	free(device->name);
	device->name = strdup(value ? value : "");
	return device->name ? 0 : failf(ENOMEM, "out of memory");
}

static int config_device_option(void *opaque, const char *key, const char *value)
{
	const struct config_device *device = opaque;
	const struct device_option *option = device->class->options;
	int ret;

	if (!value)
		return failf(EINVAL, "device %s: '%s' is not of the form KEY=VALUE", device->word,
			     key);
	if (strcmp(key, "name") == 0)
		return 0;
	while (option && option->key && strcmp(option->key, key) != 0)
		option++;
	if (!option || !option->key)
		return failf(EINVAL, "device %s: it has no key '%s'; 'virga devices' lists them",
			     device->word, key);
	ret = config_set(device->config, option->config, value);
	return ret < 0 ? failf(-ret, "device %s: %s", device->word, error_text()) : 0;
}

/* Calls take for each key and value of a device, as its words or its JSON object have them. */
typedef int (*config_device_taker)(void *opaque, const char *key, const char *value);
typedef int (*config_device_source)(const void *from, config_device_taker take, void *opaque);

static int config_device_words(const void *from, config_device_taker take, void *opaque)
{
	return from ? keys_each_word(from, take, opaque) : 0;
}

static int config_device_json(const void *from, config_device_taker take, void *opaque)
{
	const struct config_device *device = opaque;
	const char *key;
	json_t *value;
	int ret = 0;

	json_object_foreach((json_t *)(uintptr_t)from, key, value)
	{
		if (strcmp(key, "type") == 0)
			continue;
		ret = json_is_string(value) ? take(opaque, key, json_string_value(value))
					    : failf(EINVAL, "device %s: key '%s' must be a text",
						    device->word, key);
		if (ret < 0)
			break;
	}
	return ret;
}

static int config_device_refuse(void *opaque, const char *key, const char *value)
{
	(void)opaque;
	(void)value;
	return failf(EINVAL, "device none: takes no keys, and not '%s'", key);
}

static int config_device_use(struct config *config, const char *word, config_device_source each,
			     const void *from)
{
	struct config_device device = { .config = config, .word = word };
	int ret;

	if (strcmp(word, "none") == 0) {
		config->devices_only = true;
		return each(from, config_device_refuse, &device);
	}
	device.class = device_class_find(word);
	if (!device.class)
		return -ENODEV;
	ret = each(from, config_device_name, &device);
	if (ret == 0 && (!device.class->single || !device_list_find(&config->devices, word)))
		ret = device_list_add(&config->devices, device.class, device.name);
	if (ret == 0)
		ret = each(from, config_device_option, &device);
	free(device.name);
	return ret;
}

int config_add_device(struct config *config, const char *text)
{
	size_t len = strcspn(text, ",");
	char *word = strndup(text, len);
	int ret = word ? config_device_use(config, word, config_device_words,
					   text[len] ? text + len + 1 : NULL)
		       : failf(ENOMEM, "out of memory");

	free(word);
	return ret;
}

static int config_set_devices(void *object, const char *where, const json_t *value)
{
	int ret =
		json_is_array(value) ? 0 : failf(EINVAL, "%s: key 'devices' must be a list", where);

	for (size_t i = 0; ret == 0 && i < json_array_size(value); i++) {
		const json_t *device = json_array_get(value, i);
		const char *word = json_string_value(json_object_get(device, "type"));

		if (!word)
			return failf(EINVAL,
				     "%s: key 'devices' must be a list of objects with a 'type'",
				     where);
		ret = config_device_use(object, word, config_device_json, device);
		if (ret < 0)
			ret = failf(-ret, "%s: %s", where, error_text());
	}
	return ret;
}

/* What was named; values are under the configuration's own keys. NULL when nothing was. */
static json_t *config_print_devices(const void *object)
{
	const struct config *config = object;
	json_t *list;

	if (!config->devices_only && !config->devices.count)
		return NULL;
	list = json_array();
	if (config->devices_only)
		json_array_append_new(list, json_pack("{s:s}", "type", "none"));
	for (unsigned i = 0; i < config->devices.count; i++) {
		const struct device_spec *spec = &config->devices.list[i];

		json_array_append_new(list, json_pack("{s:s, s:s}", "type", spec->class->name,
						      "name", spec->name));
	}
	return list;
}

/* --- Whole configurations --- */

int config_load(struct config *config, const char *path)
{
	json_t *object;
	int ret = keys_read(path, &object);

	if (ret == 0)
		ret = json_is_object(object) ? keys_set_json(config_keys, config, path, object)
					     : failf(EINVAL, "%s: must hold one JSON object", path);
	json_decref(object);
	return ret;
}

char *config_print(const struct config *config)
{
	json_t *object = keys_print(config_keys, config);
	char *json = object ? json_dumps(object, JSON_INDENT(2)) : NULL, *text = NULL;

	json_decref(object);
	if (json && asprintf(&text, "%s\n", json) < 0)
		text = NULL;
	free(json);
	return text;
}
