/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a machine that is booted (boot/devices.h).
 */
#include "boot/devices.h"

#include <errno.h>
#include <stddef.h>

#include "arch/base/error.h"
#include "boot/boot.h"

/* Adds what a Linux has without a word, unless the configuration has one of them already. */
static int boot_devices_for_linux(const struct config *config, struct device_list *list)
{
	struct device_list more = { 0 };
	struct image kernel;
	bool is_linux;
	int ret = image_open(&kernel, config->kernel);

	if (ret < 0)
		return ret;
	is_linux = image_is_linux(&kernel);
	image_close(&kernel);
	if (is_linux)
		ret = device_list_add_all(&more, DEVICE_FOR_LINUX);
	for (unsigned i = 0; ret == 0 && i < more.count; i++)
		if (!device_list_find(list, more.list[i].class->name))
			ret = device_list_add(list, more.list[i].class, NULL);
	device_list_fini(&more);
	return ret;
}

/* One that is named is added, or is the one of its class that a machine has anyway. */
static int boot_devices_named(const struct config *config, struct device_list *list)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < config->devices.count; i++) {
		const struct device_spec *spec = &config->devices.list[i];

		if (!spec->class->single || !device_list_find(list, spec->class->name))
			ret = device_list_add(list, spec->class, spec->name);
	}
	return ret;
}

int boot_devices(const struct config *config, struct device_list *list)
{
	int ret;

	*list = (struct device_list){ 0 };
	ret = config->devices_only ? 0 : device_list_add_all(list, DEVICE_USUAL);
	if (ret == 0)
		ret = boot_devices_named(config, list);
	if (ret == 0 && config->kernel && !config->devices_only)
		ret = boot_devices_for_linux(config, list);
	if (ret == 0 && !config->kernel)
		ret = boot_devices_need(list, "park", "the embedded guest", "waits in it");
	if (ret == 0 && !config->kernel)
		ret = boot_devices_need(list, "virtio_vsock", "the embedded guest",
					"is reached by it");
	if (ret < 0)
		device_list_fini(list);
	return ret;
}

int boot_devices_need(const struct device_list *list, const char *word, const char *who,
		      const char *why)
{
	if (device_list_find(list, word))
		return 0;
	if (!device_class_find(word))
		return failf(ENODEV, "%s needs device %s (it %s): %s", who, word, why,
			     error_text());
	return failf(ENODEV, "%s needs device %s (it %s): add --device %s", who, word, why, word);
}
