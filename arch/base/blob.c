/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The growing buffer and the reading cursor (arch/base/blob.h). Values are copied as
 * they lie in memory: every supported host is little-endian.
 */
#include "arch/base/blob.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOB_FIRST_SIZE 256u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "saved values are little-endian");

/* Makes room for len more bytes; latches when that cannot be had. */
static bool blob_grow(struct blob *b, size_t len)
{
	size_t size = b->size ? b->size : BLOB_FIRST_SIZE;
	uint8_t *data;

	if (b->failed)
		return false;
	if (len <= b->size - b->len)
		return true;
	while (size - b->len < len) {
		if (size > SIZE_MAX / 2) {
			b->failed = true;
			return false;
		}
		size *= 2;
	}
	data = realloc(b->data, size);
	if (!data) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->size = size;
	return true;
}

void blob_put(struct blob *b, const void *data, size_t len)
{
	if (!len || !blob_grow(b, len))
		return;
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void blob_put_u32(struct blob *b, uint32_t value)
{
	blob_put(b, &value, sizeof(value));
}

void blob_put_u64(struct blob *b, uint64_t value)
{
	blob_put(b, &value, sizeof(value));
}

struct blob blob_reader(const void *data, size_t len)
{
	/* A reader never writes or frees what it borrows. */
	return (struct blob){ .data = (uint8_t *)(uintptr_t)data, .len = len };
}

const void *blob_take(struct blob *b, size_t len)
{
	const uint8_t *at;

	if (b->failed || len > b->len - b->pos) {
		b->failed = true;
		return NULL;
	}
	at = b->data ? b->data + b->pos : (const uint8_t *)"";
	b->pos += len;
	return at;
}

void blob_get(struct blob *b, void *out, size_t len)
{
	const void *at = blob_take(b, len);

	if (!len)
		return;
	if (at)
		memcpy(out, at, len);
	else
		memset(out, 0, len);
}

uint32_t blob_get_u32(struct blob *b)
{
	uint32_t value;

	blob_get(b, &value, sizeof(value));
	return value;
}

uint64_t blob_get_u64(struct blob *b)
{
	uint64_t value;

	blob_get(b, &value, sizeof(value));
	return value;
}

void blob_fini(struct blob *b)
{
	uintptr_t page = (uintptr_t)b->data & ~((uintptr_t)getpagesize() - 1);

	if (b->mapped)
		munmap((void *)page, b->mapped);
	else
		free(b->data);
	*b = (struct blob){ 0 };
}
