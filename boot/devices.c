/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a machine that is booted (boot/devices.h).
 */
#include "boot/devices.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/boot.h"

/* Adds what a Linux has without a word. */
static int boot_devices_for_linux(const struct config *config, struct device_list *list)
{
	struct image kernel;
	bool is_linux;
	int ret = image_open(&kernel, config->kernel);

	if (ret < 0)
		return ret;
	is_linux = image_is_linux(&kernel);
	image_close(&kernel);
	return is_linux ? device_list_add_all(list, DEVICE_FOR_LINUX) : 0;
}

static int boot_devices_builtin(const struct device_list *list)
{
	static const char who[] = "the embedded guest, which is booted without --kernel,";
	int ret = boot_devices_need(list, "virtio_vsock", who, "is reached by it");

	return ret < 0 ? ret : boot_devices_need(list, "park", who, "waits in it");
}

int boot_devices(const struct config *config, struct device_list *list)
{
	int ret;

	*list = (struct device_list){ 0 };
	ret = config->devices_only ? 0 : device_list_add_all(list, DEVICE_USUAL);
	if (ret == 0)
		ret = device_list_merge(list, &config->devices);
	if (ret == 0 && config->kernel && !config->devices_only)
		ret = boot_devices_for_linux(config, list);
	if (ret == 0 && !config->kernel)
		ret = boot_devices_builtin(list);
	if (ret < 0)
		device_list_fini(list);
	return ret;
}

int boot_devices_match(const struct config *config, struct device_list *list)
{
	int ret = 0;

	if (config->devices_only)
		return failf(EINVAL, "device none: a snapshot's machine has the devices it had");
	for (unsigned i = 0; ret == 0 && i < config->devices.count; i++) {
		const struct device_spec *spec = &config->devices.list[i];
		struct device_spec *same = device_list_same(list, spec->class, spec->name);

		ret = same ? device_spec_merge(same, spec)
			   : failf(EINVAL,
				   "device %s: a snapshot's machine has the devices it had, and "
				   "this one is not among them",
				   spec->name);
	}
	return ret;
}

int boot_devices_channel(const char *who)
{
	if (device_class_find("virtio_vsock"))
		return 0;
	return failf(ENODEV, "%s needs the function channel: %s", who, error_text());
}

int boot_devices_need(const struct device_list *list, const char *word, const char *who,
		      const char *why)
{
	if (device_list_find(list, word))
		return 0;
	if (!device_class_find(word))
		return failf(ENODEV, "%s needs %s (it %s): %s", who, word, why, error_text());
	return failf(ENODEV, "%s needs device %s (it %s): name it with --device %s", who, word, why,
		     word);
}
