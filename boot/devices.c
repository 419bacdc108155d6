/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a machine that is booted (boot/devices.h).
 */
#include "boot/devices.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "arch/base/error.h"

static const char boot_embedded[] = "the embedded guest, which is booted without --kernel,";

/* Whether the list has what the embedded guest needs; why is for the sentence. */
static int boot_devices_need(const struct device_list *list, const char *word, const char *why)
{
	if (device_list_find(list, word))
		return 0;
	return failf(ENODEV, "%s needs device %s (it %s): name it with --device %s", boot_embedded,
		     word, why, word);
}

static int boot_devices_builtin(const struct device_list *list)
{
	int ret = boot_devices_channel(boot_embedded, true);

	if (ret == 0)
		ret = boot_devices_need(list, "virtio_vsock", "is reached by it");
	return ret < 0 ? ret : boot_devices_need(list, "park", "waits in it");
}

int boot_devices(const struct config *config, const struct image *kernel, struct device_list *list)
{
	int ret;

	*list = (struct device_list){ 0 };
	ret = config->devices_only ? 0 : device_list_add_all(list, DEVICE_USUAL);
	if (ret == 0)
		ret = device_list_merge(list, &config->devices);
	if (ret == 0 && config->kernel && !config->devices_only && kernel && image_is_linux(kernel))
		ret = device_list_add_all(list, DEVICE_FOR_LINUX);
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

int boot_devices_channel(const char *who, bool embedded)
{
	const bool vsock = device_class_find("virtio_vsock");
	const bool park = !embedded || device_class_find("park");
	const char *lacks = vsock ? "park" : park ? "virtio_vsock" : "virtio_vsock and park";

	if (vsock && park)
		return 0;
	return failf(ENODEV,
		     "%s needs the function channel%s: this virga was built without %s; build with "
		     "%s in DEVICES",
		     who, embedded ? " and the port that it waits in" : "", lacks, lacks);
}
