/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga devices`: the classes that this virga was built with.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/device.h"
#include "serve/cli/command.h"

static void devices_print(const struct device_class *class)
{
	printf("%-14s %s\n", class->name, class->description);
	for (const struct device_option *o = class->options; o && o->key.name; o++) {
		const char *key = config_short_of(o);

		printf("%-14s   %s=%s: %s%s%s%s\n", "", o->key.name, o->value, o->help,
		       o->required ? "; required" : "", key ? "; --" : "", key ? key : "");
	}
}

static void devices_print_json(const struct device_class *class)
{
	json_t *options = json_array(), *object;
	char *text;

	for (const struct device_option *o = class->options; o && o->key.name; o++)
		json_array_append_new(options, json_pack("{s:s, s:s, s:s, s:b, s:b, s:s?}", "key",
							 o->key.name, "value", o->value, "help",
							 o->help, "required", o->required, "saved",
							 !o->anew, "short", config_short_of(o)));
	object = json_pack("{s:s, s:i, s:s, s:o}", "name", class->name, "version",
			   (int)class->version, "description", class->description, "options",
			   options);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	printf("%s\n", text ? text : "null");
	free(text);
	json_decref(object);
}

int devices_command(const struct options *options)
{
	for (unsigned i = 0; device_classes[i]; i++) {
		if (options->json)
			devices_print_json(device_classes[i]);
		else
			devices_print(device_classes[i]);
	}
	return 0;
}
