/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga devices`: the classes that this virga was built with.
 */
#include <stdio.h>

#include "devices/device.h"
#include "serve/cli/command.h"

static void devices_print_options(const struct device_class *class)
{
	for (const struct device_option *o = class->options; o && o->key.name; o++) {
		const struct config_short *s = config_shorts;

		while (s->key && config_short_option(s->key) != o)
			s++;
		printf("%-14s   %s=%s: %s%s%s%s\n", "", o->key.name, o->value, o->help,
		       o->required ? "; required" : "", s->key ? "; --" : "", s->key ? s->key : "");
	}
}

int devices_command(const struct options *options)
{
	for (unsigned i = 0; device_classes[i]; i++) {
		const struct device_class *class = device_classes[i];

		if (options->json)
			printf("{\"name\": \"%s\", \"version\": %u, \"description\": \"%s\"}\n",
			       class->name, class->version, class->description);
		else
			printf("%-14s %s\n", class->name, class->description);
		if (!options->json)
			devices_print_options(class);
	}
	return 0;
}
