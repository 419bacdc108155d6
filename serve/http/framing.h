/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a request's lines, chunks and body end, by the letter of RFC 9112 and nothing else: what a proxy in
 * front could read in another way is found here before http-parser, which lets much pass, has it. Both
 * must find the same end.
 */
#ifndef VIRGA_SERVE_HTTP_FRAMING_H
#define VIRGA_SERVE_HTTP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAMING_LINES_MAX \
	4096u /* bytes of a chunk's line, and of all trailers, each with its end */

/* Zeroed: before a request. */
struct framing {
	uint8_t state;
	uint8_t at; /* in the version, or in the digits of a size */
	bool chunked;
	uint32_t lines; /* bytes of this chunk's line, or of trailers */
	uint64_t left;  /* of this chunk's bytes */
};

/*
 * How many bytes of these are right: all, those up to the end of the headers or of the last chunk's
 * trailers (framing_at_end()), or those before one that is wrong (framing_is_wrong()).
 */
size_t framing_scan(struct framing *f, const char *data, size_t len);
bool framing_at_end(const struct framing *f);
bool framing_is_wrong(const struct framing *f);

/* The headers are whole; a body follows, in chunks or of a length, whose bytes may be anything. */
void framing_begin_body(struct framing *f, bool chunked);

/* 0; 400: this Transfer-Encoding leaves the body's length open; 501: it needs what is not known here. */
unsigned framing_coding(const char *value, size_t len);

/* Whether these are the value of a Content-Length; of a Host. */
bool framing_is_length(const char *value, size_t len);
bool framing_is_host(const char *value, size_t len);

#endif
