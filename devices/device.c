/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of devices that a machine has, and their life: in its order on the way up and in the
 * opposite order on the way down, and the two halves of saving one: its field list,
 * then whatever its class appends.
 */
#include "devices/device.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"

/* Zeroed. A mapping, because calloc() may touch every page of a large state to see that it is 0. */
static void *device_state_new(size_t size)
{
	void *state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return state == MAP_FAILED ? NULL : state;
}

static void device_state_free(const struct device_class *class, void *state)
{
	if (!state)
		return;
	for (const struct device_option *o = class->options; o && o->key.name; o++) {
		const struct key one[] = { o->key, KEY_END };

		keys_fini(one, state);
	}
	munmap(state, class->size);
}

/* --- Classes and lists --- */

static const struct device_class *device_class_built(const char *word)
{
	for (unsigned i = 0; device_classes[i]; i++) {
		if (!strcmp(device_classes[i]->name, word))
			return device_classes[i];
	}
	return NULL;
}

bool device_class_known(const char *word)
{
	unsigned i = 0;

	while (device_words[i] && strcmp(device_words[i], word) != 0)
		i++;
	return device_words[i] != NULL;
}

const struct device_class *device_class_find(const char *word)
{
	const struct device_class *class = device_class_built(word);

	if (!class && device_class_known(word))
		failf(ENODEV,
		      "device %s: this virga was built without it; build with %s in DEVICES", word,
		      word);
	else if (!class)
		failf(EINVAL, "there is no device '%s'; 'virga devices' lists those there are",
		      word);
	return class;
}

/* A name as a section, an option and a sentence can hold it. */
static bool device_name_valid(const char *name)
{
	size_t len = 0;

	while (isalnum((unsigned char)name[len]) || (name[len] && strchr("_-.", name[len])))
		len++;
	return len && len < DEVICE_NAME_MAX && !name[len];
}

static int device_list_name(const struct device_list *list, struct device_spec *spec,
			    const char *name)
{
	char own[DEVICE_NAME_MAX + 11];

	snprintf(own, sizeof(own), spec->instance ? "%s%u" : "%s", spec->class->name,
		 spec->instance);
	if (!name)
		name = own;
	if (!device_name_valid(name))
		return failf(EINVAL,
			     "device %s: '%.40s' is no name: up to %d letters, digits, '_', '-' "
			     "and '.' are allowed",
			     spec->class->name, name, DEVICE_NAME_MAX - 1);
	for (unsigned i = 0; i < list->count; i++) {
		if (!strcmp(list->list[i].name, name))
			return failf(EINVAL,
				     "device %s: there is a device %s already; each has a "
				     "name of its own",
				     spec->class->name, name);
	}
	memcpy(spec->name, name, strlen(name) + 1);
	return 0;
}

int device_list_add(struct device_list *list, const struct device_class *class, const char *name)
{
	struct device_spec spec = { .class = class }, *grown;
	int ret;

	for (unsigned i = 0; i < list->count; i++)
		spec.instance += list->list[i].class == class;
	if (class->single && spec.instance)
		return failf(EINVAL, "device %s: a machine has one at most", class->name);
	ret = device_list_name(list, &spec, name);
	if (ret < 0)
		return ret;
	grown = realloc(list->list, (list->count + 1) * sizeof(*grown));
	if (!grown)
		return failf(ENOMEM, "out of memory");
	list->list = grown;
	list->list[list->count++] = spec;
	return 0;
}

struct device_spec *device_list_find(const struct device_list *list, const char *word)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (!strcmp(list->list[i].class->name, word))
			return &list->list[i];
	}
	return NULL;
}

struct device_spec *device_list_same(const struct device_list *list,
				     const struct device_class *class, const char *name)
{
	for (unsigned i = 0; i < list->count; i++) {
		struct device_spec *spec = &list->list[i];

		if (spec->class == class &&
		    (class->single || (name && strcmp(spec->name, name) == 0)))
			return spec;
	}
	return NULL;
}

const struct device_option *device_option_find(const struct device_class *class, const char *key)
{
	const struct device_option *option = class->options;

	while (option && option->key.name && strcmp(option->key.name, key) != 0)
		option++;
	return option && option->key.name ? option : NULL;
}

static int device_option_set(const struct device_option *option, const struct device_class *class,
			     void *state, const json_t *value)
{
	char where[64];

	snprintf(where, sizeof(where), "device %s", class->name);
	return json_is_string(value) ? key_set(&option->key, state, where, json_string_value(value))
				     : key_set_json(&option->key, state, where, value);
}

/* An object to put settings into. */
static json_t *device_spec_settings(struct device_spec *spec)
{
	if (!spec->settings)
		spec->settings = json_object();
	return spec->settings;
}

int device_spec_set(struct device_spec *spec, const char *key, const json_t *value)
{
	const struct device_class *class = spec->class;
	const struct device_option *option = device_option_find(class, key);
	void *state;
	int ret;

	if (!option)
		return failf(EINVAL, "device %s: it has no key '%.64s'; 'virga devices' lists them",
			     class->name, key);
	state = device_state_new(class->size);
	ret = state ? device_option_set(option, class, state, value)
		    : failf(ENOMEM, "out of memory");
	device_state_free(class, state);
	if (ret == 0 &&
	    json_object_set(device_spec_settings(spec), key, (json_t *)(uintptr_t)value) < 0)
		ret = failf(ENOMEM, "out of memory");
	return ret;
}

const char *device_spec_text(const struct device_spec *spec, const char *key)
{
	return json_string_value(json_object_get(spec->settings, key));
}

const char *device_spec_answer(const struct device_spec *spec, enum device_question question,
			       const char **key)
{
	const struct device_option *o = spec->class->options;

	while (o && o->key.name && o->answers != question)
		o++;
	*key = o ? o->key.name : NULL;
	return *key ? device_spec_text(spec, *key) : NULL;
}

int device_spec_merge(struct device_spec *spec, const struct device_spec *from)
{
	if (from->settings && json_object_update(device_spec_settings(spec), from->settings) < 0)
		return failf(ENOMEM, "out of memory");
	return 0;
}

static int device_list_merge_one(struct device_list *list, const struct device_spec *from)
{
	struct device_spec *same = device_list_same(list, from->class, from->name);
	int ret = same ? 0 : device_list_add(list, from->class, from->name);

	if (ret < 0)
		return ret;
	return device_spec_merge(same ? same : &list->list[list->count - 1], from);
}

int device_list_merge(struct device_list *list, const struct device_list *from)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < from->count; i++)
		ret = device_list_merge_one(list, &from->list[i]);
	return ret;
}

int device_list_add_all(struct device_list *list, enum device_habit habit)
{
	int ret = 0;

	for (unsigned i = 0; device_classes[i] && ret == 0; i++) {
		const struct device_class *class = device_classes[i];

		if (class->habit == habit && !device_list_find(list, class->name))
			ret = device_list_add(list, class, NULL);
	}
	return ret;
}

void device_list_fini(struct device_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		json_decref(list->list[i].settings);
	free(list->list);
	*list = (struct device_list){ 0 };
}

/* --- Life --- */

static int device_set_options(const struct device *dev, const struct device_spec *spec)
{
	const struct device_class *class = spec->class;
	int ret = 0;

	for (const struct device_option *o = class->options; ret == 0 && o && o->key.name; o++) {
		const json_t *value = json_object_get(spec->settings, o->key.name);

		if (value)
			ret = device_option_set(o, class, dev->state, value);
		else if (o->initial)
			ret = key_set(&o->key, dev->state, NULL, o->initial);
		else if (o->required)
			ret = failf(EINVAL,
				    "device %s: key '%s' is missing; name it as in --device "
				    "%s,%s=%s",
				    dev->name, o->key.name, class->name, o->key.name, o->value);
	}
	return ret;
}

/* What snapshots will say of its options; made now, because JSON is not for a confined process. */
static int device_print_settings(struct device *dev)
{
	json_t *settings = NULL;

	for (const struct device_option *o = dev->class->options; o && o->key.name; o++) {
		const struct key one[] = { o->key, KEY_END };
		json_t *printed = o->anew ? NULL : keys_print(one, dev->state);

		if (printed && !settings)
			settings = json_object();
		json_object_update(settings, printed);
		json_decref(printed);
	}
	if (settings)
		dev->settings = json_dumps(settings, JSON_COMPACT);
	json_decref(settings);
	return settings && !dev->settings ? failf(ENOMEM, "out of memory") : 0;
}

static void device_free(struct device *dev)
{
	device_state_free(dev->class, dev->state);
	free(dev->settings);
}

static int device_create(struct device *dev, const struct device_spec *spec, struct vm *vm,
			 const struct device_host *host, uint32_t number)
{
	const struct device_class *class = spec->class;
	int ret;

	*dev = (struct device){
		.class = class,
		.vm = vm,
		.instance = spec->instance,
		.number = number,
		.ask = host->ask,
		.ask_opaque = host->ask_opaque,
	};
	memcpy(dev->name, spec->name, sizeof(dev->name));
	if (class->size) {
		dev->state = device_state_new(class->size);
		if (!dev->state)
			return failf(ENOMEM, "device %s: out of memory", class->name);
	}
	ret = device_set_options(dev, spec);
	if (ret == 0)
		ret = device_print_settings(dev);
	if (ret == 0)
		ret = class->create(dev, host);
	if (ret)
		device_free(dev);
	return ret;
}

int devices_create(struct devices *devices, struct vm *vm, const struct device_list *list,
		   const struct device_host *host)
{
	int ret = 0;

	*devices = (struct devices){ .list = calloc(list->count, sizeof(*devices->list)) };
	if (!devices->list && list->count)
		return failf(ENOMEM, "out of memory");
	for (unsigned i = 0; i < list->count && !ret; i++) {
		ret = device_create(&devices->list[i], &list->list[i], vm, host, i);
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
		device_free(dev);
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

const struct device_power *devices_power(const struct devices *devices)
{
	for (unsigned i = 0; devices && i < devices->count; i++)
		if (devices->list[i].class->power)
			return devices->list[i].class->power;
	return NULL;
}

void devices_answered(struct devices *devices, uint64_t id, int error, int fd)
{
	const uint64_t number = id >> DEVICE_ASK_BITS;
	struct device *dev = number < devices->count ? &devices->list[number] : NULL;

	if (dev && dev->class->answered)
		dev->class->answered(dev, id & ((1ull << DEVICE_ASK_BITS) - 1), error, fd);
	else if (fd >= 0)
		close(fd);
}

int devices_press(struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct device *dev = &devices->list[i];

		if (dev->class->press)
			return dev->class->press(dev);
	}
	return failf(ENODEV, "the machine has no power button: it has no device power");
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

int device_load(struct device *dev, uint32_t version, const void *data, size_t len)
{
	const struct device_class *class = dev->class;
	struct blob in = blob_reader(data, len);
	int ret;

	if (class->fields)
		fields_load(class->fields, version, dev->state, &in);
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

struct device *devices_find(struct devices *devices, const char *word, uint32_t instance)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct device *dev = &devices->list[i];

		if (dev->instance == instance && !strcmp(dev->class->name, word))
			return dev;
	}
	return NULL;
}
