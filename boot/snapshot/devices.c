/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of a machine's devices in its snapshot (boot/snapshot/snapshot.h): section "devices". In
 * a snapshot without one the devices are those that have a section, in the order of these.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/snapshot.h"

void snapshot_save_devices(const struct devices *devices, struct blob *out)
{
	blob_put_u32(out, devices->count);
	for (unsigned i = 0; i < devices->count; i++) {
		const struct device *dev = &devices->list[i];
		struct snapshot_device device = { .instance = dev->instance };

		if (dev->settings)
			device.settings_len = (uint32_t)strlen(dev->settings);
		snprintf((char *)device.type, sizeof(device.type), "%s", dev->class->name);
		snprintf((char *)device.name, sizeof(device.name), "%s", dev->name);
		fields_save(snapshot_device_fields, &device, out);
		blob_put(out, dev->settings, device.settings_len);
	}
}

const char *snapshot_device_words(const struct snapshot *s, char *words, size_t size)
{
	size_t len = 0;

	words[0] = '\0';
	for (unsigned i = 0; i < s->state.count && len < size; i++) {
		const struct state_section *section = &s->state.sections[i];

		if (!snapshot_own(section->name) && section->instance == 0)
			len += (size_t)snprintf(words + len, size - len, "%s%s", len ? " " : "",
						section->name);
	}
	return words;
}

int snapshot_lacks_class(const struct snapshot *s, const char *word, uint32_t instance)
{
	char words[512];

	if (!device_class_known(word) || !state_find(&s->state, word, instance))
		return failf(EINVAL, "%s: has device '%s' (%u): %s", s->path, word, instance,
			     error_text());
	return failf(EINVAL,
		     "%s: has device %s (%u), this virga was built without it; "
		     "build with DEVICES=\"%s\"",
		     s->path, word, instance, snapshot_device_words(s, words, sizeof(words)));
}

static int snapshot_add_device(const struct snapshot *s, struct device_list *list, const char *type,
			       const char *name, uint32_t instance)
{
	const struct device_class *class = device_class_find(type);
	int ret;

	if (!class)
		return snapshot_lacks_class(s, type, instance);
	ret = device_list_add(list, class, name);
	if (ret < 0)
		return failf(-ret, "%s: section %s: %s", s->path, SNAPSHOT_DEVICES, error_text());
	if (list->list[list->count - 1].instance != instance)
		return failf(EINVAL, "%s: has device %s (%u) out of its order", s->path, type,
			     instance);
	return 0;
}

/* One of before there was a list. */
static int snapshot_devices_by_section(const struct snapshot *s, struct device_list *list)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		if (!snapshot_own(section->name))
			ret = snapshot_add_device(s, list, section->name, NULL, section->instance);
	}
	return ret;
}

static int snapshot_set_option(struct device_spec *spec, const char *key, const json_t *value)
{
	const struct device_option *option = device_option_find(spec->class, key);

	if (option && option->anew)
		return failf(EINVAL, "device %s: key '%s' is of the host, no snapshot has it",
			     spec->class->name, key);
	return device_spec_set(spec, key, value);
}

/* What is said of a device's options: by whom is not known, a template may have been imported. */
static int snapshot_set_options(const struct snapshot *s, struct device_spec *spec,
				const char *text, size_t len)
{
	json_t *settings = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL), *value;
	const char *key;
	int ret = json_is_object(settings)
			  ? 0
			  : failf(EINVAL, "device %s: its options are no JSON object",
				  spec->class->name);

	json_object_foreach(settings, key, value)
	{
		if (ret == 0)
			ret = snapshot_set_option(spec, key, value);
	}
	json_decref(settings);
	return ret < 0 ? failf(-ret, "%s: section %s: %s", s->path, SNAPSHOT_DEVICES, error_text())
		       : 0;
}

/* One of the section's list. */
static int snapshot_take_device(const struct snapshot *s, struct device_list *list,
				uint32_t version, struct blob *in)
{
	struct snapshot_device device;
	const char *settings;
	int ret;

	fields_load(snapshot_device_fields, version, &device, in);
	settings = blob_take(in, device.settings_len);
	if (in->failed || device.type[sizeof(device.type) - 1] ||
	    device.name[sizeof(device.name) - 1])
		return failf(EINVAL, "%s: section %s: device %u is none", s->path, SNAPSHOT_DEVICES,
			     list->count);
	ret = snapshot_add_device(s, list, (const char *)device.type, (const char *)device.name,
				  device.instance);
	if (ret == 0 && device.settings_len)
		ret = snapshot_set_options(s, &list->list[list->count - 1], settings,
					   device.settings_len);
	return ret;
}

static int snapshot_devices_by_list(const struct snapshot *s, struct device_list *list,
				    uint32_t version)
{
	uint32_t count;
	struct blob in;
	int ret = snapshot_section(&s->state, s->path, SNAPSHOT_DEVICES, snapshot_devices_fields,
				   &count, &in);

	for (uint32_t i = 0; ret == 0 && i < count; i++)
		ret = snapshot_take_device(s, list, version, &in);
	if (ret == 0 && in.pos != in.len)
		return failf(EINVAL, "%s: section %s has %zu bytes too many", s->path,
			     SNAPSHOT_DEVICES, in.len - in.pos);
	return ret;
}

int snapshot_devices(const struct snapshot *s, struct device_list *list)
{
	const struct state_section *section = state_find(&s->state, SNAPSHOT_DEVICES, 0);
	int ret;

	*list = (struct device_list){ 0 };
	ret = section ? snapshot_devices_by_list(s, list, section->version)
		      : snapshot_devices_by_section(s, list);
	if (ret < 0)
		device_list_fini(list);
	return ret;
}
