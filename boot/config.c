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

int config_load(struct config *config, const char *path)
{
	json_t *object;
	int ret = keys_read(path, &object);

	if (ret == 0)
		ret = keys_set_json(config_keys, config, path, object);
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
