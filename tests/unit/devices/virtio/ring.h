/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of a split ring, for tests of devices: a driver that does what
 * it is told, right or wrong.
 */
#ifndef VIRGA_TESTS_UNIT_RING_H
#define VIRGA_TESTS_UNIT_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/memory.h"
#include "devices/virtio/virtqueue.h"

#define RING_NEXT     1u
#define RING_WRITE    2u
#define RING_INDIRECT 4u

struct ring {
	struct memory *memory;
	uint16_t size;
	uint64_t desc; /* guest-physical */
	uint64_t avail;
	uint64_t used;
	uint16_t avail_idx; /* as last written */
	uint16_t used_seen; /* used entries taken */
};

/* Lays a zeroed ring out at gpa: descriptors, available, used, a page or more each. */
void ring_init(struct ring *r, struct memory *m, uint64_t gpa, uint16_t size);

/* The addresses as a device gets them. */
void ring_describe(const struct ring *r, struct virtqueue_state *s);

/* Writes a descriptor into a table at gpa. */
void ring_desc_at(const struct ring *r, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
		  uint16_t flags, uint16_t next);
void ring_desc(const struct ring *r, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
	       uint16_t next);

/* Makes the chain that begins at head available. */
void ring_offer(struct ring *r, uint16_t head);

void ring_set_avail_idx(struct ring *r, uint16_t idx);
void ring_set_avail_flags(const struct ring *r, uint16_t flags);
void ring_set_used_event(const struct ring *r, uint16_t event);
uint16_t ring_avail_event(const struct ring *r);
uint16_t ring_used_idx(const struct ring *r);
uint16_t ring_used_flags(const struct ring *r);

/* The next used entry, if there is one. */
bool ring_take(struct ring *r, uint32_t *id, uint32_t *len);

#endif
