/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive of a template, checked as it streams (serve/template/pack_check.h). A header is accepted only
 * in the one form that leaves tar nothing to interpret: it has no prefix, no extension before or
 * behind it, and its checksum is right, so that tar takes the same bytes for headers.
 */
#include "serve/template/pack_check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/config.h"
#include "boot/snapshot/files.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/state.h"
#include "serve/template/pack_format.h"

#define PACK_END_MIN       (2ull * PACK_BLOCK)
#define PACK_END_MAX       (21ull * PACK_BLOCK) /* one, then a record of tar */
#define PACK_NAME_SAID_MAX 40

void pack_check_init(struct pack_check *c, const char *name)
{
	*c = (struct pack_check){ .name = name };
}

void pack_check_fini(struct pack_check *c)
{
	blob_fini(&c->state);
}

static int pack_refuse(const struct pack_check *c, const char *what)
{
	return failf(EINVAL, "%s: is not what 'virga template export' writes: %s", c->name, what);
}

/* --- Headers --- */

static bool pack_is_zero(const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len && !*p) {
		p++;
		len--;
	}
	return len == 0;
}

/* A length: octal digits to the end, or, from 8 GiB on, big-endian behind a byte 0x80. */
static bool pack_number(const char field[12], uint64_t *value)
{
	const uint8_t *p = (const uint8_t *)field;

	*value = 0;
	if (p[0] == 0x80) {
		for (unsigned i = 4; i < 12; i++)
			*value = *value << 8 | p[i];
		return pack_is_zero(p + 1, 3);
	}
	for (unsigned i = 0; i < 11; i++) {
		if (p[i] < '0' || p[i] > '7')
			return false;
		*value = *value << 3 | (p[i] - '0');
	}
	return p[11] == 0;
}

static bool pack_checksum_fits(const struct pack_header *h)
{
	struct pack_header right = *h;

	pack_header_seal(&right);
	return memcmp(right.checksum, h->checksum, sizeof(h->checksum)) == 0;
}

/* The index of the member of that name; it must be one that may come now. */
static int pack_find(const struct pack_check *c, const struct pack_header *h)
{
	char name[sizeof(h->name) + 1] = { 0 };
	unsigned found = 0;

	memcpy(name, h->name, sizeof(h->name));
	while (found < SNAPSHOT_PARTS && strcmp(snapshot_files[found].name, name) != 0)
		found++;
	if (found == SNAPSHOT_PARTS ||
	    !pack_is_zero(h->name + strlen(name), sizeof(h->name) - strlen(name)))
		return failf(EINVAL, "%s: holds '%.*s', which is no part of a template", c->name,
			     PACK_NAME_SAID_MAX, name);
	for (unsigned i = c->next; i < found; i++)
		if (!snapshot_files[i].optional)
			return failf(EINVAL, "%s: holds '%s' before '%s'", c->name, name,
				     snapshot_files[i].name);
	if (found < c->next)
		return failf(EINVAL, "%s: holds '%s' twice, or not in its place", c->name, name);
	return (int)found;
}

/* Lengths: in the archive, and as a file. */
static int pack_check_size(const struct pack_check *c, const struct snapshot_file_kind *member,
			   uint64_t size, uint64_t real_size)
{
	uint64_t max = member->max ? member->max : c->memory_size;

	if (!member->max && real_size != max)
		return failf(EINVAL, "%s: holds a '%s' of %llu bytes, but its state says %llu",
			     c->name, member->name, (unsigned long long)real_size,
			     (unsigned long long)max);
	if (real_size > max)
		return failf(EINVAL,
			     "%s: holds a '%s' of %llu bytes, more than the %llu that it "
			     "can have",
			     c->name, member->name, (unsigned long long)real_size,
			     (unsigned long long)max);
	/* Only memory has holes: all else is at least as long as it is large. */
	if (size > real_size || (member->max && size != real_size))
		return failf(EINVAL, "%s: holds a '%s' whose lengths do not fit", c->name,
			     member->name);
	return 0;
}

/* Only what tar cannot take for anything else. */
static int pack_check_form(const struct pack_check *c, const struct pack_header *h)
{
	bool holes = h->type == PACK_HOLES;

	if (memcmp(h->magic, PACK_MAGIC, sizeof(h->magic)) != 0)
		return pack_refuse(c, "it is no tar archive in GNU format");
	if (!pack_checksum_fits(h))
		return pack_refuse(c, "the checksum of a header does not fit");
	if (h->type != PACK_REGULAR && !holes)
		return failf(EINVAL, "%s: holds '%.*s', which is no regular file", c->name,
			     PACK_NAME_SAID_MAX, h->name);
	if (memcmp(h->mode, PACK_MODE, sizeof(h->mode)) != 0 ||
	    !pack_is_zero(h->link, sizeof(h->link)) ||
	    !pack_is_zero(h->unused, sizeof(h->unused)) ||
	    !pack_is_zero(h->rest, sizeof(h->rest)) ||
	    (!holes && !pack_is_zero(h->runs, offsetof(struct pack_header, rest) -
						      offsetof(struct pack_header, runs))))
		return pack_refuse(c, "a header has more in it than it should");
	return 0;
}

static void pack_data(struct pack_check *c)
{
	c->stage = c->left + c->pad ? PACK_DATA : PACK_HEADER;
}

static int pack_take_header(struct pack_check *c)
{
	struct pack_header h;
	uint64_t size, real_size;
	int found, ret;

	memcpy(&h, c->block, sizeof(h));
	ret = pack_check_form(c, &h);
	if (ret < 0)
		return ret;
	found = pack_find(c, &h);
	if (found < 0)
		return found;
	if (!pack_number(h.size, &size) ||
	    !(h.type == PACK_HOLES ? pack_number(h.real_size, &real_size)
				   : pack_number(h.size, &real_size)))
		return pack_refuse(c, "a length in it is no number");
	ret = pack_check_size(c, &snapshot_files[found], size, real_size);
	if (ret < 0)
		return ret;
	c->next = (unsigned)found + 1;
	c->in_state = found == SNAPSHOT_STATE;
	c->left = size;
	c->pad = (PACK_BLOCK - size % PACK_BLOCK) % PACK_BLOCK;
	if (found == SNAPSHOT_MEMORY)
		c->memory_total = size;
	c->sparse_max = real_size / PACK_BLOCK / PACK_SPARSE_RUNS + 1;
	if (h.type == PACK_HOLES && h.more)
		c->stage = PACK_SPARSE;
	else
		pack_data(c);
	return 0;
}

/* A whole block that is no data. */
static int pack_take_block(struct pack_check *c)
{
	if (c->stage == PACK_SPARSE) {
		if (c->sparse_max-- == 0)
			return pack_refuse(c, "it has more holes than memory has room for");
		if (!c->block[PACK_SPARSE_MORE])
			pack_data(c);
		return 0;
	}
	if (!pack_is_zero(c->block, sizeof(c->block)))
		return pack_take_header(c);
	if (c->next != SNAPSHOT_PARTS)
		return failf(EINVAL, "%s: has no 'memory' in it: it is no template", c->name);
	c->stage = PACK_END;
	c->end_len = PACK_BLOCK;
	return 0;
}

/* --- Data --- */

/* The state is whole: how large is memory? */
static int pack_read_state(struct pack_check *c)
{
	struct snapshot_machine machine;
	struct state_file file;
	char name[PATH_MAX];
	int ret;

	snprintf(name, sizeof(name), "%s/state", c->name);
	ret = c->state.failed ? failf(ENOMEM, "out of memory")
			      : state_parse(&file, name, c->state.data, c->state.len);
	if (ret == 0)
		ret = snapshot_section(&file, name, "machine", snapshot_machine_fields, &machine,
				       NULL);
	if (ret == 0 && (machine.memory_size == 0 || machine.memory_size > MEMORY_MAX))
		ret = failf(EINVAL, "%s: section machine: %llu bytes of memory", name,
			    (unsigned long long)machine.memory_size);
	if (ret == 0)
		c->memory_size = machine.memory_size;
	c->in_state = false;
	return ret;
}

/* Takes what is there of a member's data and of the zeros behind it; *len is what it took. */
static int pack_take_data(struct pack_check *c, const void *data, size_t *len)
{
	uint64_t *left = c->left ? &c->left : &c->pad;
	int ret = 0;

	*len = *len < *left ? *len : (size_t)*left;
	*left -= *len;
	if (left == &c->left && c->in_state)
		blob_put(&c->state, data, *len);
	else if (left == &c->left && c->next == SNAPSHOT_PARTS)
		c->memory_done += *len;
	if (c->left == 0 && c->in_state)
		ret = pack_read_state(c);
	pack_data(c);
	return ret;
}

int pack_check_feed(struct pack_check *c, const void *data, size_t len)
{
	const uint8_t *p = data;
	int ret = 0;

	while (ret == 0 && len) {
		size_t take = len;

		if (c->stage == PACK_DATA) {
			ret = pack_take_data(c, p, &take);
		} else if (c->stage == PACK_END) {
			c->end_len += take;
			if (c->end_len > PACK_END_MAX || !pack_is_zero(p, take))
				return pack_refuse(c, "something follows its end");
		} else {
			if (take > PACK_BLOCK - c->have)
				take = PACK_BLOCK - c->have;
			memcpy(c->block + c->have, p, take);
			c->have += take;
			if (c->have == PACK_BLOCK) {
				c->have = 0;
				ret = pack_take_block(c);
			}
		}
		p += take;
		len -= take;
	}
	return ret;
}

int pack_check_end(const struct pack_check *c)
{
	if (c->stage == PACK_END && c->end_len >= PACK_END_MIN)
		return 0;
	return failf(EINVAL, "%s: ends too early; copy it again", c->name);
}
