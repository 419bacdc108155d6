/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `template` to and from JSON (boot/snapshot/facts.h). The checksum is over the object without
 * it, printed compactly with sorted keys: blanks do not count, every value does.
 */
#include "boot/snapshot/facts.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/digest.h"
#include "arch/base/error.h"

#define FACTS_VERSION 1

/* A checksum as JSON has it: all 64 bits, which a number there need not keep. */
struct facts_hex {
	char text[17];
};

static struct facts_hex facts_hex(uint64_t value)
{
	struct facts_hex hex;

	snprintf(hex.text, sizeof(hex.text), "%016" PRIx64, value);
	return hex;
}

/* False when memory ran out. */
static bool facts_sum(const json_t *object, struct facts_hex *sum)
{
	char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);

	if (!text)
		return false;
	*sum = facts_hex(digest64(text, strlen(text)));
	free(text);
	return true;
}

/* --- Reading --- */

static int facts_damaged(const char *name, const char *what)
{
	return failf(EINVAL, "%s: is damaged: %s; remove it, clones start as well without", name,
		     what);
}

/* Takes the checksum out of the object and compares it. */
static int facts_check_sum(json_t *object, const char *name)
{
	json_t *saved = json_incref(json_object_get(object, "checksum"));
	const char *text = json_string_value(saved);
	struct facts_hex sum = { "" };
	bool done;

	json_object_del(object, "checksum");
	done = facts_sum(object, &sum);
	done = done && text && strcmp(text, sum.text) == 0;
	json_decref(saved);
	return done ? 0 : facts_damaged(name, "its checksum does not fit its content");
}

static int facts_unpack(struct template_facts *facts, json_t *object, const char *name,
			uint64_t state_checksum)
{
	const char *state;
	json_int_t version = json_integer_value(json_object_get(object, "version"));
	json_int_t built_s, build_us, ready_us, warm, tried;

	if (version != FACTS_VERSION)
		return failf(EINVAL, "%s: has version %lld; this virga reads version %d; remove it",
			     name, (long long)version, FACTS_VERSION);
	if (json_unpack_ex(object, NULL, JSON_STRICT, "{s:I, s:s, s:I, s:I, s:I, s:I, s:I}",
			   "version", &version, "state", &state, "built_s", &built_s, "build_us",
			   &build_us, "ready_us", &ready_us, "warm_requests", &warm,
			   "tried_requests", &tried) < 0 ||
	    built_s < 0 || build_us < 0 || ready_us < 0 || warm < 0 || tried < 0)
		return facts_damaged(name, "its members make no sense");
	if (strcmp(state, facts_hex(state_checksum).text) != 0)
		return failf(EINVAL,
			     "%s: belongs to another snapshot; remove it or put the right one back",
			     name);
	*facts = (struct template_facts){
		.known = true,
		.built_s = (uint64_t)built_s,
		.build_us = (uint64_t)build_us,
		.ready_us = (uint64_t)ready_us,
		.warm_requests = (uint64_t)warm,
		.tried_requests = (uint64_t)tried,
	};
	return 0;
}

int template_facts_parse(struct template_facts *facts, const char *name, const void *data,
			 size_t len, uint64_t state_checksum)
{
	json_t *object = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
	int ret;

	*facts = (struct template_facts){ 0 };
	if (json_is_object(object))
		ret = facts_check_sum(object, name);
	else
		ret = facts_damaged(name, "it is no JSON object");
	if (ret == 0)
		ret = facts_unpack(facts, object, name, state_checksum);
	json_decref(object);
	return ret;
}

/* --- Writing --- */

char *template_facts_print(const struct template_facts *facts, uint64_t state_checksum)
{
	json_t *object = json_pack(
		"{s:i, s:s, s:I, s:I, s:I, s:I, s:I}", "version", FACTS_VERSION, "state",
		facts_hex(state_checksum).text, "built_s", (json_int_t)facts->built_s, "build_us",
		(json_int_t)facts->build_us, "ready_us", (json_int_t)facts->ready_us,
		"warm_requests", (json_int_t)facts->warm_requests, "tried_requests",
		(json_int_t)facts->tried_requests);
	char *json = NULL, *text = NULL;
	struct facts_hex sum;

	if (object && facts_sum(object, &sum) &&
	    json_object_set_new(object, "checksum", json_string(sum.text)) == 0)
		json = json_dumps(object, JSON_INDENT(2));
	if (!json || asprintf(&text, "%s\n", json) < 0) {
		text = NULL;
		failf(ENOMEM, "out of memory");
	}
	free(json);
	json_decref(object);
	return text;
}
