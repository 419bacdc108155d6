/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that wait: appended at the end, consumed at the front.
 */
#ifndef VIRGA_GUEST_AGENT_BUFFER_H
#define VIRGA_GUEST_AGENT_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* All zero is an empty one. */
struct buffer {
	uint8_t *data; /* owned */
	size_t start;  /* consumed before it */
	size_t end;
	size_t size;
};

static inline size_t buffer_len(const struct buffer *b)
{
	return b->end - b->start;
}

static inline uint8_t *buffer_data(const struct buffer *b)
{
	return b->data + b->start;
}

/* Room for len more bytes at data + end, or NULL when there is no memory. */
uint8_t *buffer_room(struct buffer *b, size_t len);

/* 0, or -ENOMEM and nothing appended. */
int buffer_append(struct buffer *b, const void *data, size_t len);

void buffer_consume(struct buffer *b, size_t len);

/* Empties it; large memory is given back. */
void buffer_clear(struct buffer *b);

#endif
