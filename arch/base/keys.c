/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setting and printing by tables of keys (arch/base/keys.h). Text and JSON come to the same setters;
 * they differ in how a refusal begins.
 */
#include "arch/base/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"

#define KEY_PAGE 4096u

/* Where a value comes from: the text itself, or a place in a JSON file. */
struct key_source {
	const struct key *key;
	const char *text;
	const char *where; /* NULL: the text is what a person typed */
};

/* The refusal; allowed says what is. */
static int key_refuse(const struct key_source *from, const char *allowed)
{
	bool none = !from->text || !from->text[0];

	if (from->where)
		return failf(EINVAL, "%s: key '%s': %s%s%.40s%s", from->where, from->key->name,
			     allowed, none ? "" : ", not '", none ? "" : from->text,
			     none ? "" : "'");
	return failf(EINVAL, "%s '%.200s': %s", from->key->name, from->text, allowed);
}

/* A size in the largest unit that leaves no rest, as a person would write it. */
static void size_print(uint64_t bytes, char text[32])
{
	static const char units[] = "\0KMG";
	unsigned unit = 0;

	while (unit < 3 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, 32, "%" PRIu64 "%.1s", bytes, &units[unit]);
}

static bool size_parse(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMG";
	const char *unit;
	unsigned shift = 0;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (*end && (unit = strchr(units, *end)) != NULL) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
	}
	if (text[0] < '0' || text[0] > '9' || errno || *end || *bytes > UINT64_MAX >> shift)
		return false;
	*bytes <<= shift;
	return true;
}

static int key_set_size(const struct key_source *from, uint64_t *member)
{
	const struct key *key = from->key;
	char allowed[128], least[32], most[32];
	uint64_t bytes;

	if (size_parse(from->text, &bytes) && bytes >= key->min && bytes <= key->max &&
	    bytes % KEY_PAGE == 0) {
		*member = bytes;
		return 0;
	}
	size_print(key->min, least);
	size_print(key->max, most);
	snprintf(allowed, sizeof(allowed), "%s to %s are allowed, in whole pages of %u bytes",
		 least, most, KEY_PAGE);
	return key_refuse(from, allowed);
}

static int key_set_count(const struct key_source *from, uint32_t *member)
{
	const struct key *key = from->key;
	char allowed[96], *end;
	uint64_t value;

	errno = 0;
	value = strtoull(from->text, &end, 10);
	if (from->text[0] >= '0' && from->text[0] <= '9' && !*end && !errno && value >= key->min &&
	    value <= key->max) {
		*member = (uint32_t)value;
		return 0;
	}
	snprintf(allowed, sizeof(allowed),
		 "a whole number from %" PRIu64 " to %" PRIu64 " is allowed", key->min, key->max);
	return key_refuse(from, allowed);
}

static int key_set_seconds(const struct key_source *from, uint32_t *member)
{
	char *end, first = from->text[0];
	double value = strtod(from->text, &end);

	/* Not a number is not at least anything. */
	if (((first >= '0' && first <= '9') || first == '.') && !*end && value * 1000 >= 1 &&
	    value * 1000 <= from->key->max) {
		*member = (uint32_t)(value * 1000 + 0.5);
		return 0;
	}
	return key_refuse(from, "seconds from 0.001 to 86400 are allowed");
}

static int key_set_word(const struct key_source *from, uint32_t *member)
{
	char allowed[256] = "";
	size_t at = 0;

	for (uint32_t i = 0; from->key->words[i]; i++) {
		const char *word = from->key->words[i];

		if (strcmp(word, from->text) == 0) {
			*member = i;
			return 0;
		}
		if (at < sizeof(allowed))
			at += (size_t)snprintf(allowed + at, sizeof(allowed) - at, "%s%s",
					       i == 0                    ? ""
					       : from->key->words[i + 1] ? ", "
									 : " and ",
					       word);
	}
	if (at < sizeof(allowed))
		snprintf(allowed + at, sizeof(allowed) - at, " are allowed");
	return key_refuse(from, allowed);
}

/* What cannot be printed as JSON must not get in: snapshots carry configurations. */
static bool text_is_utf8(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string != NULL;
}

static int key_check_text(const struct key_source *from)
{
	const struct key *key = from->key;
	const char *allowed = key->check ? key->check(from->text) : NULL;
	size_t len = strlen(from->text);

	if (!text_is_utf8(from->text))
		return failf(EINVAL, "%s: its value is not UTF-8, which is all that is allowed",
			     key->name);
	if (allowed)
		return key_refuse(from, allowed);
	if (len >= key->min && len <= key->max)
		return 0;
	if (from->where)
		return failf(EINVAL,
			     "%s: key '%s': must be a text of %" PRIu64 " to %" PRIu64
			     " bytes, not %zu",
			     from->where, key->name, key->min, key->max, len);
	return failf(EINVAL, "%s '%.40s%s' has %zu bytes; %" PRIu64 " to %" PRIu64 " are allowed",
		     key->name, from->text, len > 40 ? "..." : "", len, key->min, key->max);
}

static int key_set_bytes(const struct key_source *from, char **member)
{
	char *copy = strdup(from->text);

	if (!copy)
		return failf(ENOMEM, "out of memory");
	free(*member);
	*member = copy;
	return 0;
}

static int key_set_text(const struct key_source *from, char **member)
{
	int ret = key_check_text(from);

	return ret < 0 ? ret : key_set_bytes(from, member);
}

static int key_refuse_list(const struct key_source *from)
{
	char allowed[64];

	snprintf(allowed, sizeof(allowed), "a text or up to %" PRIu64 " of them are allowed",
		 from->key->max);
	return key_refuse(from, allowed);
}

static int key_add(const struct key_source *from, char **list, uint32_t *count)
{
	if (*count == from->key->max)
		return key_refuse_list(from);
	list[*count] = strdup(from->text);
	if (!list[*count])
		return failf(ENOMEM, "out of memory");
	++*count;
	return 0;
}

static int key_set_bool(const struct key_source *from, bool *member)
{
	if (strcmp(from->text, "true") != 0 && strcmp(from->text, "false") != 0)
		return key_refuse(from, "true or false are allowed");
	*member = from->text[0] == 't';
	return 0;
}

static int key_set_from(const struct key_source *from, void *object)
{
	void *member = (char *)object + from->key->offset;

	switch (from->key->type) {
	case KEY_COUNT:
		return key_set_count(from, member);
	case KEY_SECONDS:
		return key_set_seconds(from, member);
	case KEY_SIZE:
		return key_set_size(from, member);
	case KEY_BOOL:
		return key_set_bool(from, member);
	case KEY_TEXT:
		return key_set_text(from, member);
	case KEY_BYTES:
		return key_set_bytes(from, member);
	case KEY_WORD:
		return key_set_word(from, member);
	case KEY_LIST:
		return key_add(from, member,
			       (uint32_t *)(void *)((char *)object + from->key->count));
	case KEY_OTHER:
		break;
	}
	return key_refuse(from, "it can be said in JSON only");
}

const struct key *key_find(const struct key *keys, const char *name)
{
	while (keys->name && strcmp(keys->name, name) != 0)
		keys++;
	return keys->name ? keys : NULL;
}

int key_set(const struct key *key, void *object, const char *where, const char *text)
{
	const struct key_source from = { .key = key, .text = text, .where = where };

	return key_set_from(&from, object);
}

static int keys_unknown(const struct key *keys, const char *where, const char *name)
{
	char known[256] = "";
	size_t at = 0;

	for (; keys->name && at < sizeof(known); keys++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at ? ", " : "",
				       keys->name);
	return failf(EINVAL, "%s: there is no key '%.64s'; there are: %s", where, name, known);
}

/* --- JSON --- */

/* A JSON value of the key's type as the text that it would be typed as; "" else, which none is. */
static const char *json_as_text(const struct key *key, const json_t *value, char number[40])
{
	const char *text = json_string_value(value);

	number[0] = 0;
	switch (key->type) {
	case KEY_SIZE:
	case KEY_COUNT:
		if (json_is_integer(value))
			snprintf(number, 40, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return text ? text : number;
	case KEY_SECONDS:
		if (json_is_number(value))
			snprintf(number, 40, "%.17g", json_number_value(value));
		return number;
	case KEY_BOOL:
		return json_is_true(value) ? "true" : json_is_false(value) ? "false" : "";
	default:
		return text ? text : "";
	}
}

/* A list is one text or an array of them. */
static int key_set_list(const struct key *key, void *object, const char *where, const json_t *value)
{
	struct key_source from = { .key = key, .where = where };
	size_t count = json_is_array(value) ? json_array_size(value) : 1;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < count; i++) {
		from.text =
			json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
		ret = from.text ? key_set_from(&from, object) : key_refuse_list(&from);
	}
	return ret;
}

int key_set_json(const struct key *key, void *object, const char *where, const json_t *value)
{
	struct key_source from = { .key = key, .where = where };
	char number[40];

	if (key->type == KEY_OTHER)
		return key->set(key, object, where, value);
	if (key->type == KEY_BYTES)
		return key_refuse(&from, "it can be said on the command line only");
	if (key->type == KEY_LIST)
		return key_set_list(key, object, where, value);
	if (key->type == KEY_TEXT && !json_is_string(value))
		return failf(EINVAL,
			     "%s: key '%s': must be a text of %" PRIu64 " to %" PRIu64 " bytes",
			     where, key->name, key->min, key->max);
	from.text = json_as_text(key, value, number);
	return key_set_from(&from, object);
}

int keys_set_json(const struct key *keys, void *object, const char *where, const json_t *from)
{
	const char *name;
	json_t *value;

	if (!json_is_object(from))
		return failf(EINVAL, "%s: must be an object", where);
	json_object_foreach((json_t *)(uintptr_t)from, name, value)
	{
		const struct key *key = key_find(keys, name);
		int ret = key ? key_set_json(key, object, where, value)
			      : keys_unknown(keys, where, name);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int keys_parse(const char *text, const char *where, json_t **value)
{
	json_error_t error;

	*value = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	return *value ? 0 : failf(EINVAL, "%s: line %d: %s", where, error.line, error.text);
}

int keys_read(const char *path, json_t **value)
{
	json_error_t error;
	FILE *file = fopen(path, "re");
	int ret = 0;

	*value = NULL;
	if (!file)
		return failf(errno, "%s: cannot be opened: %s", path, strerror(errno));
	*value = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
	if (!*value)
		ret = ferror(file) ? failf(EIO, "%s: cannot be read", path)
				   : failf(EINVAL, "%s: line %d: %s", path, error.line, error.text);
	fclose(file);
	return ret;
}

/* --- Words --- */

/* Takes one word off the front into word, `,,` as a comma. What follows; NULL: it was the last. */
static const char *words_take(const char *at, char *word)
{
	while (*at && (at[0] != ',' || at[1] == ',')) {
		*word++ = *at;
		at += at[0] == ',' ? 2 : 1;
	}
	*word = 0;
	return *at ? at + 1 : NULL;
}

int keys_each_word(const char *words, int (*set)(void *opaque, const char *key, const char *value),
		   void *opaque)
{
	char *word = malloc(strlen(words) + 1), *value;
	int ret = 0;

	if (!word)
		return failf(ENOMEM, "out of memory");
	while (ret == 0 && words) {
		words = words_take(words, word);
		value = strchr(word, '=');
		if (value)
			*value++ = 0;
		ret = set(opaque, word, value);
	}
	free(word);
	return ret;
}

/* --- Printing --- */

static json_t *key_print(const struct key *key, const void *object)
{
	const void *member = (const char *)object + key->offset;
	char text[32];

	switch (key->type) {
	case KEY_COUNT:
		return json_integer(*(const uint32_t *)member);
	case KEY_SECONDS:
		return json_real(*(const uint32_t *)member / 1000.0);
	case KEY_SIZE:
		size_print(*(const uint64_t *)member, text);
		return json_string(text);
	case KEY_BOOL:
		return json_boolean(*(const bool *)member);
	case KEY_TEXT:
		return *(char *const *)member ? json_string(*(char *const *)member) : NULL;
	case KEY_WORD:
		return json_string(key->words[*(const uint32_t *)member]);
	case KEY_BYTES:
	case KEY_LIST:
		break;
	case KEY_OTHER:
		return key->print ? key->print(object) : NULL;
	}
	return NULL;
}

json_t *keys_print(const struct key *keys, const void *object)
{
	json_t *printed = json_object();

	for (; printed && keys->name; keys++) {
		json_t *value = key_print(keys, object);

		if (value)
			json_object_set_new(printed, keys->name, value);
	}
	return printed;
}

void keys_fini(const struct key *keys, void *object)
{
	for (; keys->name; keys++) {
		char **member = (char **)(void *)((char *)object + keys->offset);
		uint32_t *count = (uint32_t *)(void *)((char *)object + keys->count);

		if (keys->type == KEY_TEXT || keys->type == KEY_BYTES) {
			free(*member);
			*member = NULL;
		}
		if (keys->type == KEY_LIST)
			while (*count)
				free(member[--*count]);
	}
}
