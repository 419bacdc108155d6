/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request's framing as a state for each byte (serve/http/framing.h).
 */
#include "serve/http/framing.h"

#include <string.h>
#include <strings.h>

#define FRAMING_DIGITS_MAX 16 /* of a chunk's size */

enum framing_state {
	FRAMING_START, /* empty lines are passed over (RFC 9112, 2.2) */
	FRAMING_START_LF,
	FRAMING_METHOD,
	FRAMING_TARGET_FIRST,
	FRAMING_TARGET,
	FRAMING_VERSION,
	FRAMING_LINE_LF,
	FRAMING_FIELD, /* the first byte of one, or of the empty line */
	FRAMING_NAME,
	FRAMING_VALUE,
	FRAMING_END_LF,
	FRAMING_END,
	FRAMING_LENGTH, /* a body that is no chunks */
	FRAMING_CHUNK,  /* the first digit of its size */
	FRAMING_SIZE,
	FRAMING_EXTENSION_FIRST,
	FRAMING_EXTENSION,
	FRAMING_EXTENSION_VALUE_FIRST,
	FRAMING_EXTENSION_VALUE,
	FRAMING_QUOTED,
	FRAMING_QUOTED_PAIR,
	FRAMING_QUOTED_END,
	FRAMING_SIZE_LF,
	FRAMING_DATA,
	FRAMING_DATA_CR,
	FRAMING_DATA_LF,
	FRAMING_WRONG,
};

/* RFC 9110, 5.6.2: a bit for each of letters, digits and !#$%&'*+-.^_`|~. */
static bool framing_is_token(uint8_t ch)
{
	static const uint32_t tokens[] = { 0x0, 0x3ff6cfa, 0xc7fffffe, 0x57ffffff };

	return ch < 128 && tokens[ch / 32] >> ch % 32 & 1;
}

/* A byte of a value or of a quoted text. */
static bool framing_is_text(uint8_t ch)
{
	return (ch >= ' ' && ch != 0x7f) || ch == '\t';
}

static enum framing_state framing_if(bool right, enum framing_state next)
{
	return right ? next : FRAMING_WRONG;
}

static enum framing_state framing_version(struct framing *f, uint8_t ch)
{
	static const char form[] = "HTTP/d.d\r";
	const uint8_t want = (uint8_t)form[f->at++];

	if (want == '\r')
		return framing_if(ch == '\r', FRAMING_LINE_LF);
	return framing_if(want == 'd' ? ch >= '0' && ch <= '9' : ch == want, FRAMING_VERSION);
}

/* Request line, headers and trailers. */
static enum framing_state framing_head(struct framing *f, uint8_t ch)
{
	switch (f->state) {
	case FRAMING_START:
		return ch == '\r' ? FRAMING_START_LF
				  : framing_if(framing_is_token(ch), FRAMING_METHOD);
	case FRAMING_START_LF:
		return framing_if(ch == '\n', FRAMING_START);
	case FRAMING_METHOD:
		return ch == ' ' ? FRAMING_TARGET_FIRST
				 : framing_if(framing_is_token(ch), FRAMING_METHOD);
	case FRAMING_TARGET:
		if (ch == ' ')
			return FRAMING_VERSION;
		/* fall through */
	case FRAMING_TARGET_FIRST:
		return framing_if(ch > ' ' && ch < 0x7f, FRAMING_TARGET);
	case FRAMING_VERSION:
		return framing_version(f, ch);
	case FRAMING_LINE_LF:
		return framing_if(ch == '\n', FRAMING_FIELD);
	case FRAMING_FIELD: /* a blank would go on with the line before (5.2) */
		return ch == '\r' ? FRAMING_END_LF : framing_if(framing_is_token(ch), FRAMING_NAME);
	case FRAMING_NAME:
		return ch == ':' ? FRAMING_VALUE : framing_if(framing_is_token(ch), FRAMING_NAME);
	case FRAMING_VALUE:
		return ch == '\r' ? FRAMING_LINE_LF
				  : framing_if(framing_is_text(ch), FRAMING_VALUE);
	default: /* FRAMING_END_LF */
		return framing_if(ch == '\n', FRAMING_END);
	}
}

static int framing_digit(uint8_t ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	return (ch | 32) >= 'a' && (ch | 32) <= 'f' ? (ch | 32) - 'a' + 10 : -1;
}

static enum framing_state framing_size(struct framing *f, uint8_t ch)
{
	int digit = framing_digit(ch);

	if (digit < 0 || f->at++ == FRAMING_DIGITS_MAX)
		return FRAMING_WRONG;
	f->left = f->left << 4 | (unsigned)digit;
	return FRAMING_SIZE;
}

/* What may follow a size, or an extension of it that is whole. */
static enum framing_state framing_size_end(uint8_t ch)
{
	return ch == ';' ? FRAMING_EXTENSION_FIRST : framing_if(ch == '\r', FRAMING_SIZE_LF);
}

/* The line before a chunk and the end of one (7.1); blanks that some put there are not taken. */
static enum framing_state framing_chunk(struct framing *f, uint8_t ch)
{
	bool token = framing_is_token(ch);

	switch (f->state) {
	case FRAMING_CHUNK:
		f->at = 0;
		f->lines = 0;
		f->left = 0;
		return framing_size(f, ch);
	case FRAMING_SIZE:
		return framing_digit(ch) < 0 ? framing_size_end(ch) : framing_size(f, ch);
	case FRAMING_EXTENSION_FIRST:
		return framing_if(token, FRAMING_EXTENSION);
	case FRAMING_EXTENSION:
		return token       ? FRAMING_EXTENSION
		       : ch == '=' ? FRAMING_EXTENSION_VALUE_FIRST
				   : framing_size_end(ch);
	case FRAMING_EXTENSION_VALUE_FIRST:
		return ch == '"' ? FRAMING_QUOTED : framing_if(token, FRAMING_EXTENSION_VALUE);
	case FRAMING_EXTENSION_VALUE:
		return token ? FRAMING_EXTENSION_VALUE : framing_size_end(ch);
	case FRAMING_QUOTED:
		return ch == '"'    ? FRAMING_QUOTED_END
		       : ch == '\\' ? FRAMING_QUOTED_PAIR
				    : framing_if(framing_is_text(ch), FRAMING_QUOTED);
	case FRAMING_QUOTED_PAIR:
		return framing_if(framing_is_text(ch), FRAMING_QUOTED);
	case FRAMING_QUOTED_END:
		return framing_size_end(ch);
	case FRAMING_SIZE_LF:
		return framing_if(ch == '\n', f->left ? FRAMING_DATA : FRAMING_FIELD);
	case FRAMING_DATA_CR:
		return framing_if(ch == '\r', FRAMING_DATA_LF);
	default: /* FRAMING_DATA_LF */
		return framing_if(ch == '\n', FRAMING_CHUNK);
	}
}

/* Bytes of a value or a name, most of a request, that leave the state as it is. */
static size_t framing_run(const struct framing *f, const char *data, size_t len)
{
	size_t at = 0;

	if (f->state == FRAMING_VALUE)
		while (at < len && framing_is_text((uint8_t)data[at]))
			at++;
	else if (f->state == FRAMING_NAME)
		while (at < len && framing_is_token((uint8_t)data[at]))
			at++;
	return at;
}

/* Bytes of a body that are looked at by nobody. */
static size_t framing_skip(struct framing *f, size_t len)
{
	if (f->state == FRAMING_LENGTH)
		return len;
	if (len > f->left)
		len = (size_t)f->left;
	f->left -= len;
	if (!f->left)
		f->state = FRAMING_DATA_CR;
	return len;
}

size_t framing_scan(struct framing *f, const char *data, size_t len)
{
	size_t at = 0;

	while (at < len && f->state != FRAMING_END && f->state != FRAMING_WRONG) {
		size_t run;

		if (f->state == FRAMING_LENGTH || f->state == FRAMING_DATA) {
			at += framing_skip(f, len - at);
			continue;
		}
		run = f->chunked ? 0 : framing_run(f, data + at, len - at);
		at += run;
		if (run)
			continue;
		f->state = (uint8_t)(f->state < FRAMING_END ? framing_head(f, (uint8_t)data[at])
							    : framing_chunk(f, (uint8_t)data[at]));
		if (f->chunked && ++f->lines > FRAMING_LINES_MAX)
			f->state = FRAMING_WRONG;
		at += f->state != FRAMING_WRONG;
	}
	return at;
}

bool framing_at_end(const struct framing *f)
{
	return f->state == FRAMING_END;
}

bool framing_is_wrong(const struct framing *f)
{
	return f->state == FRAMING_WRONG;
}

void framing_begin_body(struct framing *f, bool chunked)
{
	*f = (struct framing){ .state = chunked ? FRAMING_CHUNK : FRAMING_LENGTH,
			       .chunked = chunked };
}

/* --- Values (RFC 9112, 6.1 to 6.3, 3.2) --- */

unsigned framing_coding(const char *value, size_t len)
{
	static const char word[] = "chunked";
	const char *end = value + len, *next;
	unsigned count = 0, chunked = 0;
	bool last = false;

	for (const char *at = value; at <= end; at = next + 1) {
		const char *stop = at < end ? memchr(at, ',', (size_t)(end - at)) : NULL;

		next = stop = stop ? stop : end;
		while (at < stop && (*at == ' ' || *at == '\t'))
			at++;
		while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
			stop--;
		last = stop - at == sizeof(word) - 1 &&
		       strncasecmp(at, word, sizeof(word) - 1) == 0;
		chunked += last;
		count++;
	}
	return !last || chunked > 1 ? 400 : count > 1 ? 501 : 0;
}

bool framing_is_length(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] < '0' || value[i] > '9')
			return false;
	return len > 0;
}

bool framing_is_host(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (value[i] <= ' ' || value[i] >= 0x7f || strchr("\"#,/<>?@\\^`{|}", value[i]))
			return false;
	return true;
}
