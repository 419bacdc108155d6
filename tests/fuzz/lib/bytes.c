/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/fuzz/lib/bytes.h. */
#include "tests/fuzz/lib/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"

const uint8_t *bytes_take(struct bytes *b, size_t len, size_t *got)
{
	const uint8_t *at = b->at;

	*got = len < b->left ? len : b->left;
	if (*got)
		b->at += *got;
	b->left -= *got;
	return at;
}

void bytes_fill(struct bytes *b, void *to, size_t len)
{
	size_t got;
	const uint8_t *at = bytes_take(b, len, &got);

	if (got)
		memcpy(to, at, got);
	if (len > got)
		memset((uint8_t *)to + got, 0, len - got);
}

uint8_t bytes_u8(struct bytes *b)
{
	uint8_t value;

	bytes_fill(b, &value, sizeof(value));
	return value;
}

uint16_t bytes_u16(struct bytes *b)
{
	uint16_t value;

	bytes_fill(b, &value, sizeof(value));
	return value;
}

uint32_t bytes_u32(struct bytes *b)
{
	uint32_t value;

	bytes_fill(b, &value, sizeof(value));
	return value;
}

uint64_t bytes_u64(struct bytes *b)
{
	uint64_t value;

	bytes_fill(b, &value, sizeof(value));
	return value;
}

uint8_t bytes_below(struct bytes *b, unsigned n)
{
	return (uint8_t)(bytes_u8(b) % n);
}

uint64_t bytes_odd(struct bytes *b)
{
	uint8_t how = bytes_u8(b), arg;

	if (how < 64)
		return how;
	if (how < 96)
		return bytes_u64(b);
	arg = bytes_u8(b);
	if (how < 160)
		return (1ull << (how % 64)) + (uint64_t)(int64_t)(int8_t)arg;
	if (how < 192)
		return (uint64_t)(int64_t)(int8_t)arg;
	if (how < 224)
		return (uint32_t)(int8_t)arg;
	return (uint64_t)arg << (how % 32);
}

void bytes_damage(struct bytes *b, uint8_t *data, size_t *len)
{
	unsigned how = bytes_u8(b);

	for (unsigned i = 0; i < how % 8 && *len; i++) {
		size_t at = bytes_u16(b) % *len, width = 1u << bytes_below(b, 4);
		uint64_t value = bytes_odd(b);

		memcpy(data + at, &value, width < *len - at ? width : *len - at);
	}
	if (how >= 0xf0 && *len)
		*len = bytes_u16(b) % *len;
}

void bytes_read(const void *data, size_t len)
{
	const volatile uint8_t *at = data;

	for (size_t i = 0; i < len; i++)
		(void)at[i];
}

void bytes_must(bool holds, const char *what, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: does not hold: %s (last error: %s)\n", file, line, what,
		error_text());
	abort();
}
