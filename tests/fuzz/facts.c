/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `template`: raw, or a JSON object of the fuzzer's with the checksum that it should have.
 * What is accepted is printed and accepted again.
 */
#include "boot/snapshot/facts.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/digest.h"
#include "tests/fuzz/lib/bytes.h"

#define STATE_SUM 0x1122334455667788ull

static void check(const void *data, size_t len)
{
	struct template_facts facts, again;
	char *text;

	if (template_facts_parse(&facts, "fuzz", data, len, STATE_SUM) < 0)
		return;
	must(facts.known);
	text = template_facts_print(&facts, STATE_SUM);
	must(text != NULL);
	must(template_facts_parse(&again, "again", text, strlen(text), STATE_SUM) == 0);
	must(memcmp(&facts, &again, sizeof(facts)) == 0);
	free(text);
}

/* As facts.c sums an object: compact, in the order of its keys. */
static void check_sealed(const char *data, size_t len)
{
	json_t *object = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
	char sum[17], *text;

	json_object_del(object, "checksum");
	text = json_is_object(object) ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (text) {
		snprintf(sum, sizeof(sum), "%016" PRIx64, digest64(text, strlen(text)));
		free(text);
		must(json_object_set_new(object, "checksum", json_string(sum)) == 0);
		text = json_dumps(object, JSON_COMPACT);
		must(text != NULL);
		check(text, strlen(text));
		free(text);
	}
	json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(data, size);
	check_sealed((const char *)data, size);
	return 0;
}
