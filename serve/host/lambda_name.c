/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets and the names in them (serve/host/lambda_name.h).
 */
#include "serve/host/lambda_name.h"

#include <string.h>

#include "serve/http/http.h"
#include "serve/pool/function_config.h"

/* Path: `path`, or with `rest` a name between the two. */
struct lambda_operation {
	enum lambda_target target;
	enum http_method method;
	const char *path;
	const char *rest;
};

#define FUNCTIONS "/2015-03-31/functions"

/* The first that fits is meant. */
static const struct lambda_operation lambda_operations[] = {
	{ LAMBDA_INVOKE, HTTP_POST, FUNCTIONS "/", "/invocations" },
	{ LAMBDA_GET_CONFIGURATION, HTTP_GET, FUNCTIONS "/", "/configuration" },
	{ LAMBDA_LIST, HTTP_GET, FUNCTIONS, NULL },
	{ LAMBDA_LIST, HTTP_GET, FUNCTIONS "/", NULL }, /* older SDKs */
	{ LAMBDA_GET, HTTP_GET, FUNCTIONS "/", "" },
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 32) >= 'a' && (c | 32) <= 'f')
		return (c | 32) - 'a' + 10;
	return -1;
}

/* Bytes decoded, or -1. */
static int lambda_name_decode(char *out, size_t size, const char *text, size_t len)
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

bool lambda_qualifier_valid(const char *text, size_t len)
{
	static const char latest[] = "$LATEST", published[] = "$LATEST.PUBLISHED";

	if ((len == sizeof(latest) - 1 && memcmp(text, latest, len) == 0) ||
	    (len == sizeof(published) - 1 && memcmp(text, published, len) == 0))
		return true;
	for (size_t i = 0; i < len; i++)
		if (!function_name_valid(text + i, 1))
			return false;
	return len >= 1 && len <= 128;
}

/* Fields between colons, at most max; how many, or max + 1. */
static unsigned lambda_name_split(char *text, char *fields[], unsigned max)
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

/* us-east-1, us-gov-west-1: two letters, words, a digit. */
static bool lambda_is_region(const char *text)
{
	size_t len = strlen(text);

	return len > 5 && strspn(text, "abcdefghijklmnopqrstuvwxyz-") == len - 1 &&
	       strchr(text, '-') == text + 2 && text[len - 2] == '-' && text[len - 1] >= '0' &&
	       text[len - 1] <= '9';
}

static bool lambda_is_account(const char *text)
{
	return strlen(text) == 12 && strspn(text, "0123456789") == 12;
}

/*
 * Which field is the name: of arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER], whatever region
 * and account are, or of what is left when any of arn:aws:lambda, REGION, ACCOUNT and function is
 * left out. A field that can be one of these, and is not the last, is. -1: it is none of these.
 */
static int lambda_name_place(char *const fields[], unsigned count)
{
	bool arn = count > 3 && strcmp(fields[0], "arn") == 0 && strcmp(fields[2], "lambda") == 0;
	unsigned at = arn ? 3 : 0;

	if (arn && count >= 7 && strcmp(fields[5], "function") == 0)
		return 6;
	if (at + 1 < count && lambda_is_region(fields[at]))
		at++;
	if (at + 1 < count && lambda_is_account(fields[at]))
		at++;
	if (at + 1 < count && strcmp(fields[at], "function") == 0)
		at++;
	return count - at <= 2 ? (int)at : -1;
}

bool lambda_name_parse(struct lambda_name *out, const char *text, size_t len)
{
	int decoded = lambda_name_decode(out->text, LAMBDA_NAME_MAX, text, len), place;
	char *fields[8] = { NULL };
	unsigned count;

	if (decoded <= 0)
		return false;
	out->text[decoded] = '\0';
	count = lambda_name_split(out->text, fields, 8);
	place = count <= 8 ? lambda_name_place(fields, count) : -1;
	if (place < 0)
		return false;
	out->name = fields[place];
	out->name_len = strlen(out->name);
	out->qualifier = (unsigned)place + 1 < count ? fields[place + 1] : "";
	out->qualifier_len = strlen(out->qualifier);
	return function_name_valid(out->name, out->name_len) &&
	       ((unsigned)place + 1 == count ||
		lambda_qualifier_valid(out->qualifier, out->qualifier_len));
}

/* Bytes of the value of a parameter in a query, undecoded; 0: there is none. */
static size_t lambda_query_len(const char *query, const char *end, const char *key)
{
	size_t key_len = strlen(key);

	for (const char *at = query, *next; at < end; at = next + (next < end)) {
		next = memchr(at, '&', (size_t)(end - at));
		if (!next)
			next = end;
		if ((size_t)(next - at) > key_len && memcmp(at, key, key_len) == 0 &&
		    at[key_len] == '=')
			return (size_t)(next - at) - key_len - 1;
	}
	return 0;
}

/* Whether a path is that of an operation. The name: out of it. */
static bool lambda_operation_fits(const struct lambda_operation *o, const char *path, size_t len,
				  struct http_text *name)
{
	size_t before = strlen(o->path), after = o->rest ? strlen(o->rest) : 0;

	if (len < before + after || memcmp(path, o->path, before) != 0)
		return false;
	*name = (struct http_text){ path + before, len - before - after };
	if (!o->rest)
		return name->len == 0;
	return memcmp(path + len - after, o->rest, after) == 0 &&
	       !memchr(name->data, '/', name->len);
}

/* Paths of all operations, those that are to come included, begin with the date of a version. */
static bool lambda_is_dated(const char *path, size_t len)
{
	static const char form[] = "/dddd-dd-dd/";

	for (size_t i = 0; i < sizeof(form) - 1; i++)
		if (i >= len ||
		    (form[i] == 'd' ? path[i] < '0' || path[i] > '9' : path[i] != form[i]))
			return false;
	return true;
}

enum lambda_target lambda_target_parse(struct lambda_name *out, enum http_method method,
				       const char *target, size_t len)
{
	const size_t count = sizeof(lambda_operations) / sizeof(lambda_operations[0]);
	const char *end = target + len, *query = memchr(target, '?', len);
	size_t path_len = query ? (size_t)(query - target) : len, i = 0;
	const struct lambda_operation *o;
	struct http_text name;

	while (i < count &&
	       !(lambda_operation_fits(&lambda_operations[i], target, path_len, &name) &&
		 (i == 0 || lambda_operations[i].method == method)))
		i++;
	if (i == count)
		return lambda_is_dated(target, path_len) ? LAMBDA_NOT_OFFERED
							 : LAMBDA_ANOTHER_TARGET;
	o = &lambda_operations[i];
	if (o->method != method)
		return LAMBDA_NO_METHOD;
	if (!o->rest)
		return o->target;
	if (!lambda_name_parse(out, name.data, name.len))
		return LAMBDA_NO_NAME;
	if (query && lambda_query_len(query + 1, end, "Qualifier") > LAMBDA_QUALIFIER_MAX)
		return LAMBDA_NO_QUALIFIER;
	return o->target;
}
