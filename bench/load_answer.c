/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one HTTP/1.1 answer (RFC 9112) as it comes in, and compares its body with the
 * expected one on the way: Content-Length or chunked; an answer that ends with the connection
 * is malformed here, as the connection is to be kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bench/load.h"

static void answer_fail(struct answer *a, const char *why)
{
	a->state = ANSWER_MALFORMED;
	a->why = why;
}

void answer_start(struct answer *a, const struct plan *plan, const char *expect, size_t len)
{
	a->state = ANSWER_STATUS;
	a->status = 0;
	a->has_length = a->chunked = a->closes = false;
	a->same = true;
	a->left = a->body_len = 0;
	a->expect = expect;
	a->expect_len = len;
	a->plan = plan;
	a->why = NULL;
	a->got_len = a->line_len = 0;
	for (unsigned i = 0; i < plan->header_count; i++)
		a->values[i][0] = 0;
}

bool answer_is_right(const struct answer *a)
{
	return a->same && a->body_len == a->expect_len;
}

/* A number in the whole of text, or of its beginning up to a ';'. */
static bool answer_number(const char *text, int base, uint64_t *number)
{
	char *end;

	if (!strchr("0123456789abcdefABCDEF", *text) || !*text)
		return false;
	errno = 0;
	*number = strtoull(text, &end, base);
	end += strspn(end, " \t");
	return !errno && (!*end || (base == 16 && *end == ';'));
}

/* --- Lines --- */

static void answer_status(struct answer *a)
{
	const char *code = a->line + strlen("HTTP/1.1 ");

	if ((strncmp(a->line, "HTTP/1.1 ", 9) != 0 && strncmp(a->line, "HTTP/1.0 ", 9) != 0) ||
	    strspn(code, "0123456789") != 3 || (code[3] && code[3] != ' ')) {
		answer_fail(a, "no status line");
		return;
	}
	a->status = (unsigned)atoi(code);
	a->closes = a->line[7] == '0';
	a->state = ANSWER_HEADER;
}

static void answer_head_ends(struct answer *a)
{
	if (a->status / 100 == 1)
		a->state = ANSWER_STATUS; /* an interim answer; the real one follows */
	else if (a->chunked && a->has_length)
		answer_fail(a, "both Content-Length and chunked");
	else if (a->chunked)
		a->state = ANSWER_CHUNK_SIZE;
	else if (a->has_length || a->status == 204)
		a->state = a->left ? ANSWER_BODY : ANSWER_WHOLE;
	else
		answer_fail(a, "neither Content-Length nor chunked");
}

static void answer_header(struct answer *a)
{
	char *value = strchr(a->line, ':');

	if (!a->line[0]) {
		answer_head_ends(a);
		return;
	}
	if (!value) {
		answer_fail(a, "a header without a colon");
		return;
	}
	*value++ = 0;
	value += strspn(value, " \t");
	if (!strcasecmp(a->line, "Content-Length")) {
		if (a->has_length || !answer_number(value, 10, &a->left))
			answer_fail(a, "a Content-Length that is no number, or a second one");
		a->has_length = true;
	} else if (!strcasecmp(a->line, "Transfer-Encoding")) {
		if (strcasecmp(value, "chunked") != 0)
			answer_fail(a, "a Transfer-Encoding other than chunked");
		a->chunked = true;
	} else if (!strcasecmp(a->line, "Connection")) {
		a->closes = !strcasecmp(value, "close");
	}
	for (unsigned i = 0; i < a->plan->header_count; i++) {
		if (!strcasecmp(a->line, a->plan->headers[i])) {
			strncpy(a->values[i], value, HEADER_VALUE_MAX - 1);
			a->values[i][HEADER_VALUE_MAX - 1] = 0;
		}
	}
}

static void answer_chunk_size(struct answer *a)
{
	if (!answer_number(a->line, 16, &a->left))
		answer_fail(a, "a chunk without a size");
	else
		a->state = a->left ? ANSWER_CHUNK : ANSWER_TRAILER;
}

static void answer_line(struct answer *a)
{
	switch (a->state) {
	case ANSWER_STATUS:
		answer_status(a);
		break;
	case ANSWER_HEADER:
		answer_header(a);
		break;
	case ANSWER_CHUNK_SIZE:
		answer_chunk_size(a);
		break;
	case ANSWER_CHUNK_END:
		if (a->line[0])
			answer_fail(a, "a chunk longer than its size");
		else
			a->state = ANSWER_CHUNK_SIZE;
		break;
	default: /* ANSWER_TRAILER */
		if (!a->line[0])
			a->state = ANSWER_WHOLE;
	}
}

/* Adds to the line, and takes it when it is whole; the number of bytes used. */
static size_t answer_take_line(struct answer *a, const char *bytes, size_t len)
{
	const char *end = memchr(bytes, '\n', len);
	size_t used = end ? (size_t)(end - bytes) + 1 : len;

	if (a->line_len + used >= sizeof(a->line)) {
		answer_fail(a, "a line that is too long");
		return used;
	}
	memcpy(a->line + a->line_len, bytes, used);
	a->line_len += used;
	if (!end)
		return used;
	a->line_len--;
	if (a->line_len && a->line[a->line_len - 1] == '\r')
		a->line_len--;
	a->line[a->line_len] = 0;
	a->line_len = 0;
	answer_line(a);
	return used;
}

/* --- The body --- */

static size_t answer_take_body(struct answer *a, const char *bytes, size_t len)
{
	size_t used = len < a->left ? len : (size_t)a->left, keep = GOT_MAX - a->got_len;

	a->same = a->same && a->body_len + used <= a->expect_len &&
		  !memcmp(a->expect + a->body_len, bytes, used);
	if (keep > used)
		keep = used;
	memcpy(a->got + a->got_len, bytes, keep);
	a->got_len += keep;
	a->body_len += used;
	a->left -= used;
	if (!a->left)
		a->state = a->chunked ? ANSWER_CHUNK_END : ANSWER_WHOLE;
	return used;
}

void answer_feed(struct answer *a, const char *bytes, size_t len)
{
	while (len && a->state < ANSWER_WHOLE) {
		bool body = a->state == ANSWER_BODY || a->state == ANSWER_CHUNK;
		size_t used =
			body ? answer_take_body(a, bytes, len) : answer_take_line(a, bytes, len);

		bytes += used;
		len -= used;
	}
	if (len && a->state == ANSWER_WHOLE)
		answer_fail(a, "bytes behind its end");
}
