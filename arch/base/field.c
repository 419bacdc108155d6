/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Save and load by field list (arch/base/field.h). Elements are copied as they lie in
 * memory, which is little-endian on every supported host.
 */
#include "arch/base/field.h"

#include <string.h>

static size_t field_size(const struct field *f)
{
	return (size_t)f->width * f->count;
}

void fields_save(const struct field *list, const void *object, struct blob *out)
{
	for (const struct field *f = list; f->name; f++)
		blob_put(out, (const uint8_t *)object + f->offset, field_size(f));
}

void fields_load(const struct field *list, uint32_t version, void *object, struct blob *in)
{
	for (const struct field *f = list; f->name; f++) {
		uint8_t *at = (uint8_t *)object + f->offset;
		const uint64_t missing = f->value;

		if (f->since <= version)
			blob_get(in, at, field_size(f));
		else
			memcpy(at, &missing, f->width);
	}
}

size_t fields_size(const struct field *list, uint32_t version)
{
	size_t size = 0;

	for (const struct field *f = list; f->name; f++)
		size += f->since <= version ? field_size(f) : 0;
	return size;
}
