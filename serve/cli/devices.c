/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga devices`: the classes that this virga was built with.
 */
#include <stdio.h>

#include "devices/device.h"
#include "serve/cli/command.h"

int devices_command(const struct options *options)
{
	for (unsigned i = 0; device_classes[i]; i++) {
		const struct device_class *class = device_classes[i];

		if (options->json)
			printf("{\"name\": \"%s\", \"version\": %u, \"description\": \"%s\"}\n",
			       class->name, class->version, class->description);
		else
			printf("%-14s %s\n", class->name, class->description);
		for (const struct device_option *o = class->options; o && o->key && !options->json;
		     o++)
			printf("%-14s   %s=%s: %s; --%s\n", "", o->key, o->value, o->help,
			       o->config);
	}
	return 0;
}
