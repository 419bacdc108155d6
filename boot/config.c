/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration's keys (boot/config.h): one table says how each is set from
 * text or JSON, checked and printed.
 */
#include "boot/config.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "arch/vm.h"

#define CONFIG_PATH_MAX   4095u
#define CONFIG_SOCKET_MAX 100u /* sun_path holds 108 bytes; a clone's number is appended */
#define CONFIG_NAME_MAX   64u

struct config_key;

/* Sets a value from text that is known to be UTF-8. */
typedef int (*config_setter)(struct config *config, const struct config_key *key,
			     const char *value);
/* The value as JSON, or NULL when it was not given (or memory ran out). */
typedef json_t *(*config_printer)(const struct config *config, const struct config_key *key);

struct config_key {
	const char *name;
	config_setter set;
	config_printer print;
	size_t offset;  /* of the member in struct config */
	size_t len_min; /* of text */
	size_t len_max;
	bool number; /* JSON may say it as an integer too */
};

static int config_set_text(struct config *config, const struct config_key *key, const char *value)
{
	char **member = (char **)((char *)config + key->offset);
	size_t len = strlen(value);
	char *copy;

	if (len < key->len_min || len > key->len_max)
		return failf(EINVAL, "%s '%.40s%s' has %zu bytes; %zu to %zu are allowed",
			     key->name, value, len > 40 ? "..." : "", len, key->len_min,
			     key->len_max);
	copy = strdup(value);
	if (!copy)
		return failf(ENOMEM, "out of memory");
	free(*member);
	*member = copy;
	return 0;
}

static json_t *config_print_text(const struct config *config, const struct config_key *key)
{
	const char *value = *(char *const *)((const char *)config + key->offset);

	return value ? json_string(value) : NULL;
}

static int config_set_serial(struct config *config, const struct config_key *key, const char *value)
{
	static const char file[] = "file:";
	bool is_file = strncmp(value, file, strlen(file)) == 0 && value[strlen(file)];

	if (!is_file && strcmp(value, "stdio") != 0 && strcmp(value, "none") != 0 &&
	    strcmp(value, "pty") != 0)
		return failf(EINVAL, "serial '%s': stdio, none, pty and file:PATH are allowed",
			     value);
	return config_set_text(config, key, value);
}

static int config_set_memory(struct config *config, const struct config_key *key, const char *value)
{
	uint64_t bytes;

	if (config_parse_size(value, &bytes) < 0 || bytes < CONFIG_MEMORY_MIN ||
	    bytes > CONFIG_MEMORY_MAX || bytes % LAYOUT_PAGE_SIZE)
		return failf(EINVAL,
			     "%s '%s': %lluM to %lluG are allowed, in whole pages of %u bytes",
			     key->name, value, CONFIG_MEMORY_MIN >> 20, CONFIG_MEMORY_MAX >> 30,
			     LAYOUT_PAGE_SIZE);
	config->memory = bytes;
	return 0;
}

/* In the largest unit that leaves no rest, as a person would write it. */
static json_t *config_print_memory(const struct config *config, const struct config_key *key)
{
	static const char units[] = "\0KMG";
	uint64_t value = config->memory;
	unsigned unit = 0;
	char text[32];

	(void)key;
	while (unit < 3 && value && value % 1024 == 0) {
		value /= 1024;
		unit++;
	}
	snprintf(text, sizeof(text), "%" PRIu64 "%.1s", value, &units[unit]);
	return json_string(text);
}

static int config_set_cpus(struct config *config, const struct config_key *key, const char *value)
{
	char *end;
	unsigned long cpus = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || cpus < 1 || cpus > VM_VCPUS_MAX)
		return failf(EINVAL, "%s '%s': 1 to %u are allowed", key->name, value,
			     VM_VCPUS_MAX);
	config->cpus = (unsigned)cpus;
	return 0;
}

static json_t *config_print_cpus(const struct config *config, const struct config_key *key)
{
	(void)key;
	return json_integer(config->cpus);
}

/* clang-format off */
#define CONFIG_TEXT(member, set, min, max) \
	{ #member, set, config_print_text, offsetof(struct config, member), min, max, false }

static const struct config_key config_keys[] = {
	CONFIG_TEXT(kernel, config_set_text, 1, CONFIG_PATH_MAX),
	CONFIG_TEXT(initrd, config_set_text, 1, CONFIG_PATH_MAX),
	CONFIG_TEXT(cmdline, config_set_text, 0, LAYOUT_CMDLINE_MAX - 1),
	{ "memory", config_set_memory, config_print_memory, 0, 0, 0, true },
	{ "cpus", config_set_cpus, config_print_cpus, 0, 0, 0, true },
	CONFIG_TEXT(serial, config_set_serial, 1, CONFIG_PATH_MAX),
	CONFIG_TEXT(vsock, config_set_text, 1, CONFIG_SOCKET_MAX),
	CONFIG_TEXT(control, config_set_text, 1, CONFIG_SOCKET_MAX),
	CONFIG_TEXT(name, config_set_text, 1, CONFIG_NAME_MAX),
};
/* clang-format on */

#define CONFIG_KEYS (sizeof(config_keys) / sizeof(config_keys[0]))

static const struct config_key *config_find(const char *name)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	return NULL;
}

void config_init(struct config *config)
{
	*config = (struct config){ .memory = CONFIG_MEMORY_DEFAULT, .cpus = 1 };
}

void config_fini(struct config *config)
{
	free(config->kernel);
	free(config->initrd);
	free(config->cmdline);
	free(config->serial);
	free(config->vsock);
	free(config->control);
	free(config->name);
	*config = (struct config){ 0 };
}

int config_parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMG";
	char *end;
	unsigned long long value;
	const char *unit;
	unsigned shift = 0;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end && (unit = strchr(units, *end)) != NULL) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
	}
	if (text[0] < '0' || text[0] > '9' || errno || *end || value > UINT64_MAX >> shift)
		return failf(EINVAL,
			     "size '%s': a number of bytes is allowed, or one with K, M or G",
			     text);
	*bytes = (uint64_t)value << shift;
	return 0;
}

int config_set(struct config *config, const char *key, const char *value)
{
	const struct config_key *found = config_find(key);
	json_t *text;

	if (!found)
		return failf(ENOENT, "there is no option '%s'", key);
	/* What cannot be printed as JSON must not get in: snapshots carry the configuration. */
	text = json_string(value);
	if (!text)
		return failf(EINVAL, "%s: its value is not UTF-8, which is all that is allowed",
			     key);
	json_decref(text);
	return found->set(config, found, value);
}

/* Sets one member of the JSON object that was read from path. */
static int config_set_json(struct config *config, const char *path, const char *name,
			   const json_t *value)
{
	const struct config_key *key = config_find(name);
	char number[32];
	int ret;

	if (!key)
		return failf(EINVAL, "%s: there is no key '%s'", path, name);
	if (json_is_string(value)) {
		ret = key->set(config, key, json_string_value(value));
	} else if (json_is_integer(value) && key->number) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
		ret = key->set(config, key, number);
	} else {
		return failf(EINVAL, "%s: key '%s' must be a string%s", path, name,
			     key->number ? " or a whole number" : "");
	}
	return ret < 0 ? failf(-ret, "%s: %s", path, error_text()) : 0;
}

int config_read(struct config *config, const char *path)
{
	json_error_t error;
	json_t *object, *value;
	FILE *file = fopen(path, "re");
	const char *name;
	int ret = 0;

	if (!file)
		return failf(errno, "%s: cannot be opened: %s", path, strerror(errno));
	object = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
	if (!object)
		ret = ferror(file) ? failf(EIO, "%s: cannot be read", path)
				   : failf(EINVAL, "%s: line %d: %s", path, error.line, error.text);
	fclose(file);
	if (ret < 0)
		return ret;
	if (!json_is_object(object))
		ret = failf(EINVAL, "%s: must hold one JSON object", path);
	json_object_foreach(object, name, value)
	{
		ret = config_set_json(config, path, name, value);
		if (ret < 0)
			break;
	}
	json_decref(object);
	return ret;
}

char *config_print(const struct config *config)
{
	json_t *object = json_object();
	char *json, *text = NULL;

	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		json_t *value = config_keys[i].print(config, &config_keys[i]);

		if (value)
			json_object_set_new(object, config_keys[i].name, value);
	}
	json = json_dumps(object, JSON_INDENT(2));
	json_decref(object);
	if (json && asprintf(&text, "%s\n", json) < 0)
		text = NULL;
	free(json);
	return text;
}
