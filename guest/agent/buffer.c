/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable byte queues of the agent; see buffer.h.
 */
#include "guest/agent/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_KEPT 65536u /* bytes that stay allocated when it is empty */

uint8_t *buffer_room(struct buffer *b, size_t len)
{
	size_t size = b->size > 0 ? b->size : 4096;
	uint8_t *data;

	if (b->size - b->end >= len)
		return b->data + b->end;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, buffer_len(b));
		b->end -= b->start;
		b->start = 0;
	}
	while (size - b->end < len)
		size *= 2;
	if (size > b->size) {
		data = realloc(b->data, size);
		if (!data)
			return NULL;
		b->data = data;
		b->size = size;
	}
	return b->data + b->end;
}

int buffer_append(struct buffer *b, const void *data, size_t len)
{
	uint8_t *to;

	if (len == 0)
		return 0;
	to = buffer_room(b, len);
	if (!to)
		return -ENOMEM;
	memcpy(to, data, len);
	b->end += len;
	return 0;
}

void buffer_consume(struct buffer *b, size_t len)
{
	b->start += len;
	if (b->start == b->end)
		buffer_clear(b);
}

void buffer_clear(struct buffer *b)
{
	b->start = 0;
	b->end = 0;
	if (b->size > BUFFER_KEPT) {
		free(b->data);
		b->data = NULL;
		b->size = 0;
	}
}
