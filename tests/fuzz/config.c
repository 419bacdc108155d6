/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's configuration as JSON. One that is accepted comes back the same from its own print,
 * which every snapshot holds.
 */
#include "boot/config.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/lib/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *first, *second;
	struct config config, again;

	must(text != NULL);
	config_init(&config);
	if (config_parse_saved(&config, text, "fuzz") == 0) {
		first = config_print(&config);
		must(first != NULL);
		config_init(&again);
		must(config_parse_saved(&again, first, "print") == 0);
		second = config_print(&again);
		must(second && strcmp(first, second) == 0);
		config_fini(&again);
		free(first);
		free(second);
	}
	config_fini(&config);
	free(text);
	return 0;
}
