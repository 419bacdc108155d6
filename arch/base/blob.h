/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing buffer to save state into and a checked cursor to load it from.
 * Values are little-endian (every supported host is). Both directions latch
 * their first failure, so a caller checks once at the end.
 */
#ifndef VIRGA_ARCH_BASE_BLOB_H
#define VIRGA_ARCH_BASE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blob {
	uint8_t *data; /* owned by a writer (free with blob_fini), borrowed by a reader */
	size_t len;    /* bytes written, or bytes that can be read */
	size_t size;   /* bytes allocated (writer) */
	size_t pos;    /* next byte to read (reader) */
	size_t mapped; /* data lies in a mapping of so many bytes from its page on, owned; or 0 */
	bool failed;   /* out of memory, or a read past the end */
};

/* Appends len bytes. */
void blob_put(struct blob *b, const void *data, size_t len);
void blob_put_u32(struct blob *b, uint32_t value);
void blob_put_u64(struct blob *b, uint64_t value);

/* A reader over memory that must outlive it. */
struct blob blob_reader(const void *data, size_t len);

/* Copies the next len bytes out; past the end it zeroes `out` and latches `failed`. */
void blob_get(struct blob *b, void *out, size_t len);
uint32_t blob_get_u32(struct blob *b);
uint64_t blob_get_u64(struct blob *b);

/* The next len bytes in place, or NULL (and `failed`) when there are not so many. */
const void *blob_take(struct blob *b, size_t len);

/* Frees a writer's buffer, or unmaps, and zeroes the struct. */
void blob_fini(struct blob *b);

#endif
