/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the front's HTTP requests end: in whatever pieces the bytes come, the end is the same, and
 * what is wrong stays wrong.
 */
#include "serve/http/framing.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/lib/bytes.h"

struct outcome {
	size_t used;
	bool end, wrong;
};

/* Headers, then chunks if the byte says so; pieces of `piece` bytes, 0: all at once. */
static struct outcome scan(const uint8_t *data, size_t len, size_t piece, bool chunked)
{
	struct framing f = { 0 };
	struct outcome out = { 0 };
	bool body = false;

	while (out.used < len && !framing_is_wrong(&f)) {
		size_t part = piece && piece < len - out.used ? piece : len - out.used;
		char *copy = malloc(part);
		size_t good;

		must(copy != NULL);
		memcpy(copy, data + out.used, part);
		good = framing_scan(&f, copy, part);
		free(copy);
		must(good <= part);
		out.used += good;
		if (framing_is_wrong(&f))
			break;
		if (framing_at_end(&f)) {
			if (body || !chunked)
				break;
			body = true;
			framing_begin_body(&f, true);
			continue;
		}
		must(good == part);
	}
	out.end = framing_at_end(&f);
	out.wrong = framing_is_wrong(&f);
	must(!(out.end && out.wrong));
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	bool chunked = bytes_u8(&in) & 1;
	unsigned piece = 1 + bytes_below(&in, 16);
	struct outcome whole = scan(in.at, in.left, 0, chunked);
	struct outcome pieces = scan(in.at, in.left, piece, chunked);

	must(whole.used == pieces.used && whole.end == pieces.end && whole.wrong == pieces.wrong);
	if (in.left) {
		framing_coding((const char *)in.at, in.left);
		framing_is_length((const char *)in.at, in.left);
		framing_is_host((const char *)in.at, in.left);
	}
	return 0;
}
