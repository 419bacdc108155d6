/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a split ring (virtio 1.2, 2.7): tests/unit/devices/virtio/ring.h.
 */
#include "tests/unit/devices/virtio/ring.h"

#include <assert.h>
#include <string.h>

static void ring_put(const struct ring *r, uint64_t gpa, const void *data, size_t len)
{
	int ret = memory_write(r->memory, gpa, data, len);

	assert(ret == 0);
	(void)ret;
}

static uint16_t ring_get16(const struct ring *r, uint64_t gpa)
{
	uint16_t value = 0;
	int ret = memory_read(r->memory, gpa, &value, sizeof(value));

	assert(ret == 0);
	(void)ret;
	return value;
}

static void ring_put16(const struct ring *r, uint64_t gpa, uint16_t value)
{
	ring_put(r, gpa, &value, sizeof(value));
}

void ring_init(struct ring *r, struct memory *m, uint64_t gpa, uint16_t size)
{
	*r = (struct ring){
		.memory = m,
		.size = size,
		.desc = gpa,
		.avail = gpa + 0x1000,
		.used = gpa + 0x2000,
	};
	memset(memory_at(m, gpa, 0x3000), 0, 0x3000);
}

void ring_describe(const struct ring *r, struct virtqueue_state *s)
{
	s->desc = r->desc;
	s->avail = r->avail;
	s->used = r->used;
	s->size = r->size;
}

void ring_desc_at(const struct ring *r, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
		  uint16_t flags, uint16_t next)
{
	uint64_t at = table + 16ull * i;

	ring_put(r, at, &addr, sizeof(addr));
	ring_put(r, at + 8, &len, sizeof(len));
	ring_put16(r, at + 12, flags);
	ring_put16(r, at + 14, next);
}

void ring_desc(const struct ring *r, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
	       uint16_t next)
{
	ring_desc_at(r, r->desc, i, addr, len, flags, next);
}

void ring_offer(struct ring *r, uint16_t head)
{
	ring_put16(r, r->avail + 4 + 2ull * (r->avail_idx % r->size), head);
	ring_set_avail_idx(r, (uint16_t)(r->avail_idx + 1));
}

void ring_set_avail_idx(struct ring *r, uint16_t idx)
{
	r->avail_idx = idx;
	ring_put16(r, r->avail + 2, idx);
}

void ring_set_avail_flags(const struct ring *r, uint16_t flags)
{
	ring_put16(r, r->avail, flags);
}

void ring_set_used_event(const struct ring *r, uint16_t event)
{
	ring_put16(r, r->avail + 4 + 2ull * r->size, event);
}

uint16_t ring_avail_event(const struct ring *r)
{
	return ring_get16(r, r->used + 4 + 8ull * r->size);
}

uint16_t ring_used_idx(const struct ring *r)
{
	return ring_get16(r, r->used + 2);
}

uint16_t ring_used_flags(const struct ring *r)
{
	return ring_get16(r, r->used);
}

bool ring_take(struct ring *r, uint32_t *id, uint32_t *len)
{
	uint64_t at = r->used + 4 + 8ull * (r->used_seen % r->size);

	if (ring_used_idx(r) == r->used_seen)
		return false;
	memory_read(r->memory, at, id, sizeof(*id));
	memory_read(r->memory, at + 4, len, sizeof(*len));
	r->used_seen++;
	return true;
}
