/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar of JSON (arch/base/json_text.h). One pass; of what it is in it remembers a bit for
 * each level: object or array.
 */
#include "arch/base/json_text.h"

#include <stdint.h>
#include <string.h>

struct json_text {
	const uint8_t *at;
	const uint8_t *end;
	unsigned depth;
	uint64_t objects[JSON_TEXT_DEPTH_MAX / 64];
};

static void json_text_blank(struct json_text *t)
{
	while (t->at < t->end &&
	       (*t->at == ' ' || *t->at == '\t' || *t->at == '\n' || *t->at == '\r'))
		t->at++;
}

static bool json_text_take(struct json_text *t, char c)
{
	if (t->at == t->end || *t->at != (uint8_t)c)
		return false;
	t->at++;
	return true;
}

static bool json_text_word(struct json_text *t, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(t->end - t->at) < len || memcmp(t->at, word, len) != 0)
		return false;
	t->at += len;
	return true;
}

static bool json_text_digits(struct json_text *t)
{
	const uint8_t *begin = t->at;

	while (t->at < t->end && *t->at >= '0' && *t->at <= '9')
		t->at++;
	return t->at > begin;
}

static bool json_text_number(struct json_text *t)
{
	json_text_take(t, '-');
	if (!json_text_take(t, '0') && !json_text_digits(t))
		return false;
	if (json_text_take(t, '.') && !json_text_digits(t))
		return false;
	if (!json_text_take(t, 'e') && !json_text_take(t, 'E'))
		return true;
	if (!json_text_take(t, '+'))
		json_text_take(t, '-');
	return json_text_digits(t);
}

static bool json_text_escape(struct json_text *t)
{
	if (t->at == t->end)
		return false;
	if (*t->at != 'u')
		return *t->at && strchr("\"\\/bfnrt", *t->at++);
	t->at++;
	for (unsigned i = 0; i < 4; i++, t->at++)
		if (t->at == t->end || !*t->at || !strchr("0123456789abcdefABCDEF", *t->at))
			return false;
	return true;
}

/* A character of more than one byte (RFC 3629, 4), whose first one was c. */
static bool json_text_utf8(struct json_text *t, uint8_t c)
{
	unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	uint8_t least = 0x80, most = 0xbf;

	if (c < 0xc2 || c > 0xf4)
		return false;
	/* No longer forms than needed, no surrogates, nothing beyond U+10FFFF. */
	if (c == 0xe0)
		least = 0xa0;
	else if (c == 0xed)
		most = 0x9f;
	else if (c == 0xf0)
		least = 0x90;
	else if (c == 0xf4)
		most = 0x8f;
	for (; more; more--, least = 0x80, most = 0xbf)
		if (t->at == t->end || *t->at < least || *t->at++ > most)
			return false;
	return true;
}

static bool json_text_string(struct json_text *t)
{
	if (!json_text_take(t, '"'))
		return false;
	while (t->at < t->end) {
		uint8_t c = *t->at++;

		if (c == '"')
			return true;
		if (c < ' ' || (c == '\\' && !json_text_escape(t)) ||
		    (c >= 0x80 && !json_text_utf8(t, c)))
			return false;
	}
	return false;
}

static bool json_text_open(struct json_text *t, bool object)
{
	uint64_t bit = 1ull << t->depth % 64;

	if (t->depth == JSON_TEXT_DEPTH_MAX)
		return false;
	if (object)
		t->objects[t->depth / 64] |= bit;
	else
		t->objects[t->depth / 64] &= ~bit;
	t->depth++;
	return true;
}

static bool json_text_in_object(const struct json_text *t)
{
	return t->objects[(t->depth - 1) / 64] >> (t->depth - 1) % 64 & 1;
}

static bool json_text_name(struct json_text *t)
{
	json_text_blank(t);
	if (!json_text_string(t))
		return false;
	json_text_blank(t);
	return json_text_take(t, ':');
}

/* A value, or as much of it as stands before the first one in it. *open: that comes next. */
static bool json_text_begin(struct json_text *t, bool *open)
{
	bool object = false;

	*open = false;
	json_text_blank(t);
	if (t->at == t->end)
		return false;
	switch (*t->at) {
	case '{':
		object = true;
		/* fallthrough */
	case '[':
		t->at++;
		json_text_blank(t);
		if (!json_text_open(t, object))
			return false;
		*open = !json_text_take(t, object ? '}' : ']');
		if (!*open)
			t->depth--;
		return !*open || !object || json_text_name(t);
	case '"':
		return json_text_string(t);
	case 't':
		return json_text_word(t, "true");
	case 'f':
		return json_text_word(t, "false");
	case 'n':
		return json_text_word(t, "null");
	default:
		return json_text_number(t);
	}
}

bool json_text_valid(const void *data, size_t len)
{
	struct json_text t = { .at = data };
	bool next = true;

	if (!len)
		return false;
	t.end = t.at + len;
	while (next) {
		if (!json_text_begin(&t, &next))
			return false;
		/* What ends with it; after a comma there is another one. */
		while (!next && t.depth) {
			bool object = json_text_in_object(&t);

			json_text_blank(&t);
			if (json_text_take(&t, ','))
				next = true;
			else if (json_text_take(&t, object ? '}' : ']'))
				t.depth--;
			else
				return false;
			if (next && object && !json_text_name(&t))
				return false;
		}
	}
	json_text_blank(&t);
	return t.at == t.end;
}
