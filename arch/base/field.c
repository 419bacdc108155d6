/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Save and load by field list (arch/base/field.h). Elements are copied as they lie in
 * memory, which is little-endian on every supported host.
 */
#include "arch/base/field.h"

static size_t field_size(const struct field *f)
{
	return (size_t)f->width * f->count;
}

void fields_save(const struct field *list, const void *object, struct blob *out)
{
	for (const struct field *f = list; f->name; f++)
		blob_put(out, (const uint8_t *)object + f->offset, field_size(f));
}

void fields_load(const struct field *list, void *object, struct blob *in)
{
	for (const struct field *f = list; f->name; f++)
		blob_get(in, (uint8_t *)object + f->offset, field_size(f));
}

size_t fields_size(const struct field *list)
{
	size_t size = 0;

	for (const struct field *f = list; f->name; f++)
		size += field_size(f);
	return size;
}
