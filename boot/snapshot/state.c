/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container of a machine's state (boot/snapshot/state.h; byte by byte in docs/snapshot.md):
 * header, section table, sections one after the other, checksum of it all. The
 * reader checks from the outside in, so that a sentence names the smallest damaged part.
 */
#include "boot/snapshot/state.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/digest.h"
#include "arch/base/error.h"

#define STATE_PAGE_SIZE 4096u

/* On disk: never change without raising STATE_VERSION. */
struct state_header {
	uint64_t magic;
	uint32_t version;
	uint32_t arch;
	uint32_t page_size;
	uint32_t section_count;
	uint64_t len; /* of the whole file */
	uint64_t reserved;
	uint64_t table_checksum;
	uint64_t checksum; /* of the bytes before this one */
};

struct state_entry {
	char name[STATE_NAME_MAX]; /* padded with NULs */
	uint32_t instance;
	uint32_t version;
	uint64_t offset; /* in the file */
	uint64_t len;
	uint64_t checksum;
};

_Static_assert(sizeof(struct state_header) == 56, "on-disk layout");
_Static_assert(sizeof(struct state_entry) == 56, "on-disk layout");

struct blob *state_section_add(struct state_writer *w, const char *name, uint32_t instance,
			       uint32_t version)
{
	struct state_section *section = &w->sections[w->count];
	size_t len = strlen(name);

	if (w->count == STATE_SECTIONS_MAX || len >= STATE_NAME_MAX)
		return NULL;
	*section = (struct state_section){ .instance = instance, .version = version };
	memcpy(section->name, name, len);
	return &w->blobs[w->count++];
}

void state_writer_fini(struct state_writer *w)
{
	for (unsigned i = 0; i < w->count; i++)
		blob_fini(&w->blobs[i]);
	w->count = 0;
}

/* Appends the section table; offset: where the first section will lie. */
static void state_put_table(const struct state_writer *w, uint64_t offset, struct blob *out)
{
	for (unsigned i = 0; i < w->count; i++) {
		struct state_entry entry = {
			.instance = w->sections[i].instance,
			.version = w->sections[i].version,
			.offset = offset,
			.len = w->blobs[i].len,
			.checksum = digest64(w->blobs[i].data, w->blobs[i].len),
		};

		memcpy(entry.name, w->sections[i].name, STATE_NAME_MAX);
		blob_put(out, &entry, sizeof(entry));
		offset += entry.len;
	}
}

int state_encode(const struct state_writer *w, struct blob *out)
{
	struct blob table = { 0 };
	uint64_t offset = sizeof(struct state_header) + w->count * sizeof(struct state_entry);
	struct state_header header = {
		.magic = STATE_MAGIC,
		.version = STATE_VERSION,
		.arch = STATE_ARCH_X86_64,
		.page_size = STATE_PAGE_SIZE,
		.section_count = w->count,
		.len = offset + sizeof(uint64_t),
	};

	for (unsigned i = 0; i < w->count; i++) {
		if (w->blobs[i].failed)
			return failf(ENOMEM, "out of memory while saving section %s",
				     w->sections[i].name);
		header.len += w->blobs[i].len;
	}
	if (header.len > STATE_SIZE_MAX)
		return failf(
			EFBIG,
			"the state of this machine is %llu bytes, more than the %u of a snapshot",
			(unsigned long long)header.len, STATE_SIZE_MAX);
	state_put_table(w, offset, &table);
	header.table_checksum = digest64(table.data, table.len);
	header.checksum = digest64(&header, offsetof(struct state_header, checksum));
	blob_put(out, &header, sizeof(header));
	blob_put(out, table.data, table.len);
	for (unsigned i = 0; i < w->count; i++)
		blob_put(out, w->blobs[i].data, w->blobs[i].len);
	blob_put_u64(out, digest64(out->data, out->len));
	if (table.failed)
		out->failed = true;
	blob_fini(&table);
	return out->failed ? failf(ENOMEM, "out of memory while saving the state") : 0;
}

static int state_check_header(const struct state_header *h, uint64_t checksum, const char *name,
			      size_t len)
{
	if (h->magic != STATE_MAGIC)
		return failf(EINVAL, "%s: not the state of a snapshot (header: wrong magic)", name);
	if (h->version != STATE_VERSION)
		return failf(EINVAL, "%s: header: format version %u; this virga reads version %u",
			     name, h->version, STATE_VERSION);
	if (h->checksum != checksum)
		return failf(EINVAL, "%s: the header is damaged (checksum); take another snapshot",
			     name);
	if (h->arch != STATE_ARCH_X86_64)
		return failf(EINVAL, "%s: made on another architecture (ELF machine %u, here %u)",
			     name, h->arch, STATE_ARCH_X86_64);
	if (h->page_size != STATE_PAGE_SIZE)
		return failf(EINVAL, "%s: made with pages of %u bytes, here %u", name, h->page_size,
			     STATE_PAGE_SIZE);
	if (h->len != len)
		return failf(EINVAL, "%s: %s: %zu bytes, its header says %llu", name,
			     len < h->len ? "cut short" : "too long", len,
			     (unsigned long long)h->len);
	if (h->section_count > STATE_SECTIONS_MAX)
		return failf(EINVAL, "%s: header: %u sections, at most %u are known of", name,
			     h->section_count, STATE_SECTIONS_MAX);
	if (h->reserved)
		return failf(EINVAL, "%s: header: reserved bytes are not zero", name);
	return 0;
}

/* Adds one section to the file's list; *offset: where it must begin, moved to its end. */
static int state_parse_entry(struct state_file *file, const char *name,
			     const struct state_entry *entry, size_t *offset)
{
	struct state_section *section = &file->sections[file->count];
	size_t end = file->len - sizeof(uint64_t);

	if (!memchr(entry->name, '\0', STATE_NAME_MAX) || !entry->name[0])
		return failf(EINVAL, "%s: section table: entry %u has no valid name", name,
			     file->count);
	if (entry->offset != *offset || entry->len > end - *offset)
		return failf(EINVAL, "%s: section %s does not lie where it should", name,
			     entry->name);
	if (state_find(file, entry->name, entry->instance))
		return failf(EINVAL, "%s: section %s %u is there twice", name, entry->name,
			     entry->instance);
	*section = (struct state_section){
		.instance = entry->instance,
		.version = entry->version,
		.data = file->data + *offset,
		.len = entry->len,
	};
	memcpy(section->name, entry->name, STATE_NAME_MAX);
	if (digest64(section->data, section->len) != entry->checksum)
		return failf(EINVAL,
			     "%s: section %s %u is damaged (checksum); take another snapshot", name,
			     section->name, section->instance);
	file->count++;
	*offset += section->len;
	return 0;
}

int state_parse(struct state_file *file, const char *name, const void *data, size_t len)
{
	struct state_header header;
	struct state_entry entry;
	size_t table = sizeof(header), offset;
	uint64_t checksum;
	int ret;

	*file = (struct state_file){ .data = data, .len = len };
	if (len < sizeof(header) + sizeof(checksum))
		return failf(EINVAL, "%s: cut short: %zu bytes, a header has %zu", name, len,
			     sizeof(header));
	memcpy(&header, data, sizeof(header));
	checksum = digest64(data, offsetof(struct state_header, checksum));
	ret = state_check_header(&header, checksum, name, len);
	if (ret < 0)
		return ret;
	offset = table + header.section_count * sizeof(entry);
	if (offset > len - sizeof(checksum))
		return failf(EINVAL, "%s: section table: reaches past the end of the file", name);
	if (digest64(file->data + table, offset - table) != header.table_checksum)
		return failf(EINVAL,
			     "%s: the section table is damaged (checksum); take another snapshot",
			     name);
	for (unsigned i = 0; i < header.section_count; i++) {
		memcpy(&entry, file->data + table + i * sizeof(entry), sizeof(entry));
		ret = state_parse_entry(file, name, &entry, &offset);
		if (ret < 0)
			return ret;
	}
	if (offset != len - sizeof(checksum))
		return failf(EINVAL, "%s: %zu bytes belong to no section", name,
			     len - sizeof(checksum) - offset);
	memcpy(&checksum, file->data + offset, sizeof(checksum));
	if (checksum != digest64(data, offset))
		return failf(EINVAL,
			     "%s: the checksum at its end is damaged; take another snapshot", name);
	return 0;
}

const struct state_section *state_find(const struct state_file *file, const char *name,
				       uint32_t instance)
{
	for (unsigned i = 0; i < file->count; i++) {
		const struct state_section *section = &file->sections[i];

		if (section->instance == instance && strcmp(section->name, name) == 0)
			return section;
	}
	return NULL;
}
