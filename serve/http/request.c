/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What http-parser finds in a connection's bytes (serve/http/conn.h). Target and headers are
 * pointers into the connection's buffer; a body is, too, while it lies there in one piece.
 */
#include "serve/http/conn.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "arch/base/clock.h"

#define HTTP_HEAP_FIRST 65536u
#define HTTP_PREFACE    "PRI " /* the first bytes of HTTP/2; there is no such method else */

/* --- Pieces --- */

/* Pieces of one text are neighbours in `in`. False: these are not, the value goes on in a new line. */
static bool http_text_add(struct http_text *text, const char *at, size_t len)
{
	if (!text->data)
		text->data = at;
	else if (at != text->data + text->len)
		return false;
	text->len += len;
	return true;
}

static int http_on_url(http_parser *parser, const char *at, size_t len)
{
	struct http_conn *c = parser->data;

	return http_text_add(&c->target, at, len) ? 0 : -1;
}

/* Fields behind a chunked body are not taken for headers (RFC 9110, 6.5.1). */
static int http_on_header_field(http_parser *parser, const char *at, size_t len)
{
	struct http_conn *c = parser->data;

	if (c->head_done)
		return 0;
	if (c->header_count == 0 || c->in_value) {
		if (c->header_count == HTTP_HEADERS_MAX) {
			c->refuse = 431;
			return -1;
		}
		c->header_count++;
	}
	c->in_value = false;
	return http_text_add(&c->headers[c->header_count - 1].name, at, len) ? 0 : -1;
}

static int http_on_header_value(http_parser *parser, const char *at, size_t len)
{
	struct http_conn *c = parser->data;

	if (c->head_done)
		return 0;
	c->in_value = true;
	return http_text_add(&c->headers[c->header_count - 1].value, at, len) ? 0 : -1;
}

/* Of a target in absolute form, which a proxy gets (RFC 9112, 3.2.2), what any server gets. */
static void http_take_path(struct http_text *target)
{
	static const char scheme[] = "http://";
	const size_t at = sizeof(scheme) - 1;
	const char *path;

	if (target->len <= at || strncasecmp(target->data, scheme, at) != 0)
		return;
	path = memchr(target->data + at, '/', target->len - at);
	if (!path)
		return;
	target->len -= (size_t)(path - target->data);
	target->data = path;
}

/* Blanks behind a value are not of it (RFC 9110, 5.5). */
static void http_trim(struct http_text *value)
{
	while (value->len && strchr(" \t", value->data[value->len - 1]))
		value->len--;
}

/* 0, or the status that this request is refused with whatever it wants (RFC 9112, 2.3, 3.2, 6). */
static unsigned http_check_head(struct http_conn *c)
{
	unsigned hosts = 0, codings = 0, lengths = 0, no = 0;

	if (c->parser.http_major != 1)
		return c->parser.http_major ? 505 : 400;
	for (unsigned i = 0; i < c->header_count; i++) {
		const struct http_text *name = &c->headers[i].name;
		struct http_text *value = &c->headers[i].value;

		http_trim(value);
		if (http_is(name, "host")) {
			hosts += framing_is_host(value->data, value->len) ? 1 : 2;
		} else if (http_is(name, "content-length")) {
			lengths += framing_is_length(value->data, value->len) ? 1 : 2;
		} else if (http_is(name, "transfer-encoding")) {
			codings++;
			no = framing_coding(value->data, value->len);
		}
	}
	if (hosts > 1 || (hosts == 0 && c->parser.http_minor) || lengths > 1 || codings > 1 ||
	    (codings && (lengths || !c->parser.http_minor)))
		return 400;
	return no;
}

static int http_on_headers_complete(http_parser *parser)
{
	struct http_conn *c = parser->data;
	const struct http_text *expect = http_header(c, "expect");
	bool sized = parser->flags & F_CONTENTLENGTH;

	c->head_done = true;
	http_take_path(&c->target);
	c->refuse = http_check_head(c);
	c->expects = expect && http_is(expect, "100-continue") && parser->http_minor;
	/* An offer of another protocol is not taken (RFC 9110, 7.8). */
	if (parser->method != HTTP_CONNECT)
		parser->upgrade = 0;
	if (sized && parser->content_length > HTTP_BODY_MAX)
		c->too_large = true;
	if (sized && parser->content_length > HTTP_DROP_MAX)
		c->refuse = 413;
	if (c->too_large && c->expects)
		c->refuse = 413;
	if (parser->method == HTTP_CONNECT)
		c->refuse = 501;
	timer_set(c->server->timers, &c->timer, monotonic_us() + HTTP_BODY_MS * 1000ull);
	return c->refuse ? -1 : 0;
}

/* --- The body --- */

static bool http_heap_grow(struct http_conn *c, size_t need)
{
	struct http_server *s = c->server;
	size_t size = c->heap_size ? c->heap_size : HTTP_HEAP_FIRST;
	char *heap;

	if (c->heap && need <= c->heap_size)
		return true;
	while (size < need)
		size *= 2;
	if (!http_make_memory(c, size - c->heap_size))
		return false;
	heap = realloc(c->heap, size);
	if (!heap)
		return false;
	s->held_bytes += size - c->heap_size;
	c->heap = heap;
	c->heap_size = size;
	return true;
}

/* From here on the body lies in the heap. */
static bool http_body_move(struct http_conn *c, size_t more)
{
	bool there = c->heap && c->body.data == c->heap;

	if (!http_heap_grow(c, c->body.len + more))
		return false;
	if (!there && c->body.len)
		memcpy(c->heap, c->body.data, c->body.len);
	c->body.data = c->heap;
	return true;
}

static int http_on_body(http_parser *parser, const char *at, size_t len)
{
	struct http_conn *c = parser->data;
	bool in_place = at >= c->in && at < c->in + sizeof(c->in);

	c->expects = false;
	if (c->body.len + len > HTTP_BODY_MAX)
		c->too_large = true;
	if (c->too_large) {
		c->dropped += len;
		if (c->dropped <= HTTP_DROP_MAX)
			return 0;
		c->refuse = 413;
		return -1;
	}
	if (in_place && http_text_add(&c->body, at, len))
		return 0;
	if (!http_body_move(c, len)) {
		c->refuse = 503;
		return -1;
	}
	memcpy(c->heap + c->body.len, at, len);
	c->body.len += len;
	return 0;
}

static int http_on_message_complete(http_parser *parser)
{
	struct http_conn *c = parser->data;

	c->whole = true;
	c->expects = false;
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings http_settings = {
	.on_url = http_on_url,
	.on_header_field = http_on_header_field,
	.on_header_value = http_on_header_value,
	.on_headers_complete = http_on_headers_complete,
	.on_body = http_on_body,
	.on_message_complete = http_on_message_complete,
};

void http_request_begin(struct http_conn *c)
{
	http_parser_init(&c->parser, HTTP_REQUEST);
	c->parser.data = c;
	c->target = c->body = (struct http_text){ 0 };
	memset(c->headers, 0, c->header_count * sizeof(c->headers[0]));
	c->header_count = c->refuse = 0;
	c->head_done = c->whole = c->in_value = c->expects = c->too_large = false;
	c->in_at = c->dropped = 0;
	c->framing = (struct framing){ 0 };
	c->server->held_bytes -= c->heap_size;
	free(c->heap);
	c->heap = NULL;
	c->heap_size = 0;
}

/* A client of HTTP/2 begins with that, whatever it wants (RFC 9113, 3.4). */
static bool http_is_preface(const char *data, size_t len)
{
	return memcmp(data, HTTP_PREFACE,
		      len < strlen(HTTP_PREFACE) ? len : strlen(HTTP_PREFACE)) == 0;
}

/* Feeds the parser what is framed right, up to the end of that. How many bytes it took. */
static size_t http_parse_framed(struct http_conn *c, const char *data, size_t len)
{
	const bool body = c->head_done;
	size_t good = framing_scan(&c->framing, data, len);
	size_t used = good ? http_parser_execute(&c->parser, &http_settings, data, good) : 0;
	bool end = framing_at_end(&c->framing), chunked = c->parser.flags & F_CHUNKED;
	bool agreed = c->whole ? end || (body && !chunked) : !end || (c->head_done && !body);

	if (c->refuse)
		return used;
	if (!agreed || framing_is_wrong(&c->framing) ||
	    (!c->whole && (used < good || HTTP_PARSER_ERRNO(&c->parser) != HPE_OK)))
		c->refuse = 400;
	if (end && !body)
		framing_begin_body(&c->framing, chunked);
	return used;
}

size_t http_request_parse(struct http_conn *c, const char *data, size_t len)
{
	size_t used = 0;

	if (data == c->in && http_is_preface(data, len)) {
		c->refuse = len < strlen(HTTP_PREFACE) ? 0 : 505;
		return 0;
	}
	while (used < len && !c->whole && !c->refuse)
		used += http_parse_framed(c, data + used, len - used);
	if (c->whole && c->too_large && !c->refuse)
		c->refuse = 413;
	return used;
}
