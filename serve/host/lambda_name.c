/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of functions in requests (serve/host/lambda_name.h).
 */
#include "serve/host/lambda_name.h"

#include <string.h>

#include "serve/pool/function_config.h"

static const char invoke_prefix[] = "/2015-03-31/functions/";
static const char invoke_suffix[] = "/invocations";

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 32) >= 'a' && (c | 32) <= 'f')
		return (c | 32) - 'a' + 10;
	return -1;
}

/* Bytes decoded, or -1. */
static int name_decode(char *out, size_t size, const char *text, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '%') {
			int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -1;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (at == size || !c)
			return -1;
		out[at++] = c;
	}
	return (int)at;
}

bool qualifier_valid(const char *text, size_t len)
{
	static const char latest[] = "$LATEST";

	if (len == sizeof(latest) - 1 && memcmp(text, latest, len) == 0)
		return true;
	for (size_t i = 0; i < len; i++)
		if (!function_name_valid(text + i, 1))
			return false;
	return len >= 1 && len <= 128;
}

/* Fields between colons, at most max; how many, or max + 1. */
static unsigned name_split(char *text, char *fields[], unsigned max)
{
	unsigned count = 0;

	for (char *at = text; at; count++) {
		char *colon = strchr(at, ':');

		if (count == max)
			return max + 1;
		fields[count] = at;
		if (colon)
			*colon++ = '\0';
		at = colon;
	}
	return count;
}

/*
 * Which field is the name: of NAME[:QUALIFIER], ACCOUNT:function:NAME[:QUALIFIER] and
 * arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]. -1: it is none of these.
 */
static int name_place(char *const fields[], unsigned count)
{
	if (count == 1 || count == 2)
		return 0;
	if (count == 3 || count == 4)
		return strcmp(fields[1], "function") == 0 ? 2 : -1;
	if (count == 7 || count == 8)
		return strcmp(fields[0], "arn") == 0 && strcmp(fields[2], "lambda") == 0 &&
				       strcmp(fields[5], "function") == 0
			       ? 6
			       : -1;
	return -1;
}

bool function_name_parse(struct function_name *out, const char *text, size_t len)
{
	int decoded = name_decode(out->text, NAME_MAX_LEN, text, len), place;
	char *fields[8] = { NULL };
	unsigned count;

	if (decoded <= 0)
		return false;
	out->text[decoded] = '\0';
	count = name_split(out->text, fields, 8);
	place = name_place(fields, count);
	if (place < 0)
		return false;
	out->name = fields[place];
	out->name_len = strlen(out->name);
	out->qualifier = (unsigned)place + 1 < count ? fields[place + 1] : "";
	out->qualifier_len = strlen(out->qualifier);
	return function_name_valid(out->name, out->name_len) &&
	       ((unsigned)place + 1 == count ||
		qualifier_valid(out->qualifier, out->qualifier_len));
}

bool invoke_target(const char *target, size_t len, const char **name, size_t *name_len)
{
	const char *query = memchr(target, '?', len);
	size_t prefix = sizeof(invoke_prefix) - 1, suffix = sizeof(invoke_suffix) - 1;

	if (query)
		len = (size_t)(query - target);
	if (len < prefix + suffix || memcmp(target, invoke_prefix, prefix) != 0 ||
	    memcmp(target + len - suffix, invoke_suffix, suffix) != 0)
		return false;
	*name = target + prefix;
	*name_len = len - prefix - suffix;
	return !memchr(*name, '/', *name_len);
}

bool query_value(const char *target, size_t len, const char *key, const char **value,
		 size_t *value_len)
{
	const char *end = target + len, *at = memchr(target, '?', len);
	size_t key_len = strlen(key);

	while (at && ++at < end) {
		const char *next = memchr(at, '&', (size_t)(end - at));
		const char *stop = next ? next : end;

		if ((size_t)(stop - at) > key_len && memcmp(at, key, key_len) == 0 &&
		    at[key_len] == '=') {
			*value = at + key_len + 1;
			*value_len = (size_t)(stop - *value);
			return true;
		}
		at = next;
	}
	return false;
}
