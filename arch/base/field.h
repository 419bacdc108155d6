/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed field lists: what a saved struct consists of, said once. The list gives
 * save, load, size, the golden file (tests/golden) and the fuzzer's map. Only
 * fixed-width integers and arrays of them compile: a pointer has no entry in the
 * _Generic below. Values are stored little-endian, in list order, unpadded.
 * Changing a list means raising the owner's version (docs/snapshot.md). A field that is only added,
 * with FIELD_SINCE, has a default for the versions that lack it: those can still be read.
 */
#ifndef VIRGA_ARCH_BASE_FIELD_H
#define VIRGA_ARCH_BASE_FIELD_H

#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"

struct field {
	const char *name;
	uint32_t offset : 24; /* in the owning struct */
	uint32_t value : 8;   /* of a scalar where it is missing */
	uint16_t count;       /* elements; 1 for a scalar */
	uint8_t width;        /* bytes of one element: 1, 2, 4 or 8 */
	uint8_t since;        /* the owner's version that first has it; 0: all */
};

/* clang-format off */
#define FIELD_WIDTH(value) _Generic((value), \
	uint8_t: 1, uint16_t: 2, uint32_t: 4, uint64_t: 8)

/* A scalar member. */
#define FIELD(type, member) \
	{ #member, offsetof(type, member), 0, 1, FIELD_WIDTH(((type *)0)->member), 0 }

/* One that the owner's version `since` has added, and what it is where it is missing. */
#define FIELD_SINCE(type, member, since, value) \
	{ #member, offsetof(type, member), value, 1, FIELD_WIDTH(((type *)0)->member), since }

/* The same as FIELD, under a name that is not its place. */
#define FIELD_NAMED(type, member, name) \
	{ name, offsetof(type, member), 0, 1, FIELD_WIDTH(((type *)0)->member), 0 }

/* A one-dimensional array member. */
#define FIELD_ARRAY(type, member) \
	{ #member, offsetof(type, member), 0, \
	  sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), \
	  FIELD_WIDTH(((type *)0)->member[0]), 0 }

#define FIELD_END { NULL, 0, 0, 0, 0, 0 }
/* clang-format on */

/* Appends every field of *object in list order. */
void fields_save(const struct field *list, const void *object, struct blob *out);

/*
 * Fills every field of *object in list order from what was saved in that version of the list; a
 * short blob latches in->failed.
 */
void fields_load(const struct field *list, uint32_t version, void *object, struct blob *in);

/* Bytes that fields_save() wrote for that version of the list. */
size_t fields_size(const struct field *list, uint32_t version);

#endif
