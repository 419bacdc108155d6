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
#include "arch/base/unix_path.h"
#include "arch/layout.h"
#include "arch/vm.h"

#define CONFIG_PATH_MAX 4095u
#define CONFIG_NAME_MAX 64u

static int config_set_short(const struct key *key, void *object, const char *where,
			    const json_t *value);
static int config_set_devices(const struct key *key, void *object, const char *where,
			      const json_t *value);
static json_t *config_print_devices(const void *object);

/* A short form: of that device's option. */
#define CONFIG_SHORT(key, ...)                                                                 \
	{                                                                                      \
		.name = key, .type = KEY_OTHER, .words = (const char *const[]){ __VA_ARGS__ }, \
		.set = config_set_short                                                        \
	}
enum { SHORT_WORD, SHORT_OPTION };

static const struct key config_keys[] = {
	KEY_TEXT(struct config, kernel, "kernel", 1, CONFIG_PATH_MAX),
	KEY_TEXT(struct config, initrd, "initrd", 1, CONFIG_PATH_MAX),
	KEY_TEXT(struct config, cmdline, "cmdline", 0, LAYOUT_CMDLINE_MAX - 1),
	KEY_SIZE(struct config, memory, "memory", MEMORY_MIN, MEMORY_MAX),
	KEY_COUNT(struct config, cpus, "cpus", 1, VM_VCPUS_MAX),
	CONFIG_SHORT("serial", "serial", "to"),
	CONFIG_SHORT("vsock", "virtio_vsock", "path"),
	KEY_TEXT(struct config, control, "control", 1, UNIX_PATH_LISTEN_MAX),
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

/* --- Devices --- */

static int config_none(struct config *config, const json_t *keys)
{
	const char *key = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)keys));

	config->devices_only = true;
	return key ? failf(EINVAL, "device none: takes no keys, and not '%.64s'", key) : 0;
}

/* The one that is meant: of that name, of a class that a machine has once at most, or a new one. */
static int config_find_device(struct config *config, const char *word, const json_t *keys,
			      struct device_spec **spec)
{
	const struct device_class *class = device_class_find(word);
	const json_t *given = json_object_get(keys, "name");
	const char *name = json_string_value(given);
	int ret;

	if (!class)
		return -ENODEV;
	if (given && !name)
		return failf(EINVAL, "device %s: key 'name' must be a text", word);
	if (name && strcmp(name, word) != 0 && (class->single || device_class_find(name)))
		return failf(EINVAL, "device %s: '%.40s' cannot be its name: %s", word, name,
			     class->single
				     ? "a machine has one at most, which is called by its word"
				     : "another device is called so");
	*spec = device_list_same(&config->devices, class, name);
	if (*spec)
		return 0;
	ret = device_list_add(&config->devices, class, name);
	if (ret == 0)
		*spec = &config->devices.list[config->devices.count - 1];
	return ret;
}

static int config_use_device(struct config *config, const char *word, const json_t *keys)
{
	struct device_spec *spec;
	const char *key;
	json_t *value;
	int ret;

	if (strcmp(word, "none") == 0)
		return config_none(config, keys);
	ret = config_find_device(config, word, keys, &spec);
	if (ret < 0)
		return ret;
	json_object_foreach((json_t *)(uintptr_t)keys, key, value)
	{
		if (strcmp(key, "name") == 0)
			continue;
		ret = device_spec_set(spec, key, value);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Words, as they were typed, that become the keys of a device in JSON. */
struct config_words {
	const char *word;
	json_t *keys;
};

static int config_put_word(void *opaque, const char *key, const char *value)
{
	const struct config_words *words = opaque;

	if (!value)
		return failf(EINVAL, "device %s: '%s' is not of the form KEY=VALUE", words->word,
			     key);
	if (json_object_get(words->keys, key))
		return failf(EINVAL, "device %s: key '%.64s': given twice; give it once",
			     words->word, key);
	if (json_object_set_new(words->keys, key, json_string(value)) < 0)
		return failf(EINVAL, "device %s: key '%.64s': UTF-8 is all that is allowed",
			     words->word, key);
	return 0;
}

int config_add_device(struct config *config, const char *text)
{
	size_t len = strcspn(text, ",");
	char *word = strndup(text, len);
	struct config_words words = { .word = word, .keys = json_object() };
	int ret = word && words.keys ? 0 : failf(ENOMEM, "out of memory");

	if (ret == 0 && text[len])
		ret = keys_each_word(text + len + 1, config_put_word, &words);
	if (ret == 0)
		ret = config_use_device(config, word, words.keys);
	json_decref(words.keys);
	free(word);
	return ret;
}

static int config_set_devices(const struct key *key, void *object, const char *where,
			      const json_t *value)
{
	int ret =
		json_is_array(value) ? 0 : failf(EINVAL, "%s: key 'devices' must be a list", where);

	(void)key;
	for (size_t i = 0; ret == 0 && i < json_array_size(value); i++) {
		const json_t *device = json_array_get(value, i);
		const char *word = json_string_value(json_object_get(device, "type"));
		json_t *keys;

		if (!word)
			return failf(EINVAL,
				     "%s: key 'devices' must be a list of objects with a 'type'",
				     where);
		keys = json_copy((json_t *)(uintptr_t)device);
		json_object_del(keys, "type");
		ret = config_use_device(object, word, keys);
		json_decref(keys);
		if (ret < 0)
			ret = failf(-ret, "%s: %s", where, error_text());
	}
	return ret;
}

/* What was named. NULL when nothing was. */
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

		json_t *device =
			json_pack("{s:s, s:s}", "type", spec->class->name, "name", spec->name);

		json_object_update(device, spec->settings);
		json_array_append_new(list, device);
	}
	return list;
}

/* --- Short forms --- */

static const struct key *config_short_find(const char *name)
{
	const struct key *key = key_find(config_keys, name);

	return key && key->words ? key : NULL;
}

const struct device_option *config_short_option(const char *name)
{
	const struct key *key = config_short_find(name);
	const struct device_class *class = key ? device_class_find(key->words[SHORT_WORD]) : NULL;

	return class ? device_option_find(class, key->words[SHORT_OPTION]) : NULL;
}

const char *config_short_of(const struct device_option *option)
{
	const struct key *key = config_keys;

	while (key->name && config_short_option(key->name) != option)
		key++;
	return key->name;
}

/* A port that goes nowhere needs no class: older configurations say it always. */
static int config_set_short(const struct key *key, void *object, const char *where,
			    const json_t *value)
{
	const char *word = key->words[SHORT_WORD], *text = json_string_value(value);
	json_t *keys = json_object();
	int ret = json_object_set(keys, key->words[SHORT_OPTION], (json_t *)(uintptr_t)value);

	if (ret < 0)
		ret = failf(EINVAL, "%s: UTF-8 is all that is allowed", key->name);
	else if (strcmp(text ? text : "", "none") != 0 || device_class_find(word))
		ret = config_use_device(object, word, keys);
	json_decref(keys);
	return ret < 0 && where ? failf(-ret, "%s: %s", where, error_text()) : ret;
}

int config_set(struct config *config, const char *name, const char *value)
{
	const struct key *key = key_find(config_keys, name);
	json_t *text;
	int ret;

	if (!key)
		return failf(ENOENT, "there is no option '%s'", name);
	if (!key->words)
		return key_set(key, config, NULL, value);
	text = json_string(value);
	ret = config_set_short(key, config, NULL, text);
	json_decref(text);
	return ret;
}

const char *config_short(const struct config *config, const char *key)
{
	const char *const *words = config_short_find(key)->words;
	const struct device_spec *spec = device_list_find(&config->devices, words[SHORT_WORD]);

	return spec ? device_spec_text(spec, words[SHORT_OPTION]) : NULL;
}

void config_forget(struct config *config, enum device_question question)
{
	for (unsigned i = 0; i < config->devices.count; i++) {
		const struct device_spec *spec = &config->devices.list[i];
		const char *key;

		if (device_spec_answer(spec, question, &key))
			json_object_del(spec->settings, key);
	}
}

/* --- Whole configurations --- */

static void config_drop_options(json_t *device)
{
	const char *word = json_string_value(json_object_get(device, "type"));
	const struct device_class *class = word ? device_class_find(word) : NULL;

	for (const struct device_option *o = class ? class->options : NULL; o && o->key.name; o++)
		if (o->anew)
			json_object_del(device, o->key.name);
}

/* What is of the host, in the long form or the short one, goes from the JSON of a configuration. */
static json_t *config_drop_host(json_t *object)
{
	const json_t *devices = json_object_get(object, "devices");

	json_object_del(object, "control");
	for (const struct key *key = config_keys; key->name; key++) {
		const struct device_option *option = config_short_option(key->name);

		if (option && option->anew)
			json_object_del(object, key->name);
	}
	for (size_t i = 0; i < json_array_size(devices); i++)
		config_drop_options(json_array_get(devices, i));
	return object;
}

/* What was read, or could not be; object is released. */
static int config_take(struct config *config, const char *where, int ret, json_t *object)
{
	if (ret == 0)
		ret = json_is_object(object)
			      ? keys_set_json(config_keys, config, where, object)
			      : failf(EINVAL, "%s: must hold one JSON object", where);
	json_decref(object);
	return ret;
}

int config_load(struct config *config, const char *path)
{
	json_t *object;
	int ret = keys_read(path, &object);

	return config_take(config, path, ret, object);
}

int config_parse_saved(struct config *config, const char *text, const char *where)
{
	json_t *object = NULL;
	int ret = keys_parse(text, where, &object);

	return config_take(config, where, ret, config_drop_host(object));
}

static char *config_print_json(json_t *object)
{
	char *json = object ? json_dumps(object, JSON_INDENT(2)) : NULL, *text = NULL;

	json_decref(object);
	if (json && asprintf(&text, "%s\n", json) < 0)
		text = NULL;
	free(json);
	return text;
}

char *config_print(const struct config *config)
{
	return config_print_json(keys_print(config_keys, config));
}

char *config_print_saved(const struct config *config)
{
	return config_print_json(config_drop_host(keys_print(config_keys, config)));
}
