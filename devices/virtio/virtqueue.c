/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, device side (virtio 1.2, 2.7). The ring is explained in the
 * header. What a chain's bytes mean is the device's business.
 */
#include "devices/virtio/virtqueue.h"

#include <string.h>

#define DESC_F_NEXT          1u
#define DESC_F_WRITE         2u
#define DESC_F_INDIRECT      4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

struct virtqueue_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct virtqueue_used {
	uint32_t id;
	uint32_t len;
};

/* Offsets in the available ring in 16-bit words, in the used ring in bytes. */
#define AVAIL_FLAGS 0
#define AVAIL_IDX   1
#define AVAIL_RING  2
#define USED_IDX    2
#define USED_RING   4

void virtqueue_init(struct virtqueue *q, const struct memory *memory)
{
	memset(q, 0, sizeof(*q));
	q->memory = memory;
}

static uint16_t virtqueue_load(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void virtqueue_store(uint8_t *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)p, value, __ATOMIC_RELEASE);
}

static uint16_t virtqueue_avail_idx(const struct virtqueue *q)
{
	return virtqueue_load(q->avail + AVAIL_IDX);
}

static uint8_t *virtqueue_avail_event(const struct virtqueue *q)
{
	return q->used + USED_RING + sizeof(struct virtqueue_used) * q->state.size;
}

static bool virtqueue_usable(const struct virtqueue *q)
{
	return q->state.ready && !q->broken;
}

bool virtqueue_enable(struct virtqueue *q)
{
	const struct virtqueue_state *s = &q->state;

	q->state.ready = 0;
	if (s->size == 0 || s->size > VIRTQUEUE_SIZE_MAX || (s->size & (s->size - 1)) != 0)
		return false;
	if (s->desc % 16 != 0 || s->avail % 2 != 0 || s->used % 4 != 0)
		return false;

	q->desc = memory_at(q->memory, s->desc, sizeof(struct virtqueue_desc) * s->size);
	q->avail = memory_at(q->memory, s->avail, 6u + 2u * s->size);
	q->used = memory_at(q->memory, s->used, 6u + sizeof(struct virtqueue_used) * s->size);
	if (!q->desc || !q->avail || !q->used)
		return false;

	q->published = s->used_next;
	q->state.ready = 1;
	return true;
}

/* The barrier makes the copy the only reading: what was checked is what is used. */
static struct virtqueue_desc virtqueue_desc_at(const uint8_t *table, unsigned index)
{
	struct virtqueue_desc desc;

	memcpy(&desc, table + sizeof(desc) * index, sizeof(desc));
	__asm__ volatile("" : "+m"(desc));
	return desc;
}

static bool virtqueue_break(struct virtqueue *q, const char *why)
{
	q->broken = why;
	return false;
}

/* Adds one buffer to the chain. */
static bool virtqueue_add(struct virtqueue *q, struct virtqueue_chain *chain,
			  const struct virtqueue_desc *desc)
{
	bool write = (desc->flags & DESC_F_WRITE) != 0;
	uint32_t *total = write ? &chain->in_len : &chain->out_len;
	struct iovec *iov = &chain->iov[chain->out_count + chain->in_count];

	if (!write && chain->in_count != 0)
		return virtqueue_break(q, "a chain's readable part follows its writable part");
	if (desc->len == 0)
		return true;
	if (__builtin_add_overflow(*total, desc->len, total))
		return virtqueue_break(q, "a chain is longer than 4 GiB");

	iov->iov_base = memory_at(q->memory, desc->addr, desc->len);
	iov->iov_len = desc->len;
	if (!iov->iov_base)
		return virtqueue_break(q, "a descriptor points outside RAM");
	if (write)
		chain->in_count++;
	else
		chain->out_count++;
	return true;
}

/* 2.7.5.3: the last descriptor of the main table may name a table of its own, never deeper. */
static const uint8_t *virtqueue_indirect(struct virtqueue *q, const struct virtqueue_desc *desc,
					 bool nested)
{
	const uint8_t *inner = NULL;

	if (q->indirect && !nested && !(desc->flags & DESC_F_NEXT) && desc->len != 0 &&
	    desc->len % sizeof(*desc) == 0)
		inner = memory_at(q->memory, desc->addr, desc->len);
	if (!inner)
		q->broken = "an indirect descriptor is not valid";
	return inner;
}

/*
 * No chain may be longer than the queue (2.7.5.3.1), which also ends every loop: each descriptor
 * that is read counts. Where a table lies says nothing: it may be the main one.
 */
static bool virtqueue_walk(struct virtqueue *q, struct virtqueue_chain *chain)
{
	const uint8_t *table = q->desc;
	uint32_t entries = q->state.size;
	uint32_t index = chain->head;
	unsigned limit = q->state.size;
	bool indirect = false;

	for (unsigned seen = 0; seen < limit; seen++) {
		struct virtqueue_desc desc;

		if (index >= entries)
			return virtqueue_break(q, "a descriptor's number is out of range");
		desc = virtqueue_desc_at(table, index);
		if (desc.flags & DESC_F_INDIRECT) {
			table = virtqueue_indirect(q, &desc, indirect);
			if (!table)
				return false;
			entries = desc.len / (uint32_t)sizeof(desc);
			index = 0;
			indirect = true;
			limit++; /* it is no buffer itself */
			continue;
		}
		if (!virtqueue_add(q, chain, &desc))
			return false;
		if (!(desc.flags & DESC_F_NEXT))
			return true;
		index = desc.next;
	}
	return virtqueue_break(q, "a chain is longer than the queue, or a loop");
}

bool virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain)
{
	uint16_t count;

	if (!virtqueue_usable(q))
		return false;
	count = (uint16_t)(virtqueue_avail_idx(q) - q->state.avail_next);
	if (count == 0)
		return false;
	if (count > q->state.size)
		return virtqueue_break(q, "the available index is ahead by more than the queue");

	chain->head = virtqueue_load(q->avail + AVAIL_RING + q->state.avail_next % q->state.size);
	chain->out_count = 0;
	chain->in_count = 0;
	chain->out_len = 0;
	chain->in_len = 0;
	if (!virtqueue_walk(q, chain))
		return false;
	q->state.avail_next++;
	return true;
}

void virtqueue_unpop(struct virtqueue *q)
{
	if (virtqueue_usable(q))
		q->state.avail_next--;
}

void virtqueue_push(struct virtqueue *q, const struct virtqueue_chain *chain, uint32_t len)
{
	struct virtqueue_used used = { .id = chain->head, .len = len };

	if (!virtqueue_usable(q))
		return;
	memcpy(q->used + USED_RING + sizeof(used) * (q->state.used_next % q->state.size), &used,
	       sizeof(used));
	q->state.used_next++;
}

bool virtqueue_publish(struct virtqueue *q, bool *interrupt)
{
	uint16_t now = q->state.used_next, before = q->published;

	if (!virtqueue_usable(q) || now == before)
		return false;
	virtqueue_store(q->used + USED_IDX, now);
	q->published = now;

	/* The index must be seen before the guest's wish is read (2.7.7.2). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->event_idx) {
		uint16_t event = virtqueue_load(q->avail + AVAIL_RING + q->state.size);

		if ((uint16_t)(now - event - 1) < (uint16_t)(now - before))
			*interrupt = true;
	} else if (!(virtqueue_load(q->avail + AVAIL_FLAGS) & AVAIL_F_NO_INTERRUPT)) {
		*interrupt = true;
	}
	return true;
}

/* Writes only what changes: in a clone the write costs a page copy. */
static void virtqueue_set(uint8_t *p, uint16_t value)
{
	if (virtqueue_load((const uint16_t *)(const void *)p) != value)
		virtqueue_store(p, value);
}

bool virtqueue_arm(struct virtqueue *q)
{
	if (!virtqueue_usable(q))
		return false;
	if (q->event_idx)
		virtqueue_set(virtqueue_avail_event(q), q->state.avail_next);
	else
		virtqueue_set(q->used, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtqueue_avail_idx(q) != q->state.avail_next;
}

void virtqueue_disarm(struct virtqueue *q)
{
	/* With EVENT_IDX the old avail_event lies behind and is not reached again for 2^16. */
	if (virtqueue_usable(q) && !q->event_idx)
		virtqueue_set(q->used, USED_F_NO_NOTIFY);
}

bool virtqueue_read(const struct virtqueue_chain *chain, size_t offset, void *out, size_t len)
{
	uint8_t *to = out;

	if (offset > chain->out_len || len > chain->out_len - offset)
		return false;
	for (unsigned i = 0; len > 0; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t part;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = iov->iov_len - offset < len ? iov->iov_len - offset : len;
		memcpy(to, (const uint8_t *)iov->iov_base + offset, part);
		to += part;
		len -= part;
		offset = 0;
	}
	__asm__ volatile("" : : "r"(out) : "memory");
	return true;
}

bool virtqueue_write(const struct virtqueue_chain *chain, size_t offset, const void *data,
		     size_t len)
{
	const uint8_t *from = data;

	if (offset > chain->in_len || len > chain->in_len - offset)
		return false;
	for (unsigned i = chain->out_count; len > 0; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t part;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = iov->iov_len - offset < len ? iov->iov_len - offset : len;
		memcpy((uint8_t *)iov->iov_base + offset, from, part);
		from += part;
		len -= part;
		offset = 0;
	}
	return true;
}

unsigned virtqueue_slice(const struct iovec *iov, unsigned count, size_t skip, size_t max,
			 struct iovec *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && max > 0; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - skip < max ? iov[i].iov_len - skip : max;
		out[n].iov_base = (uint8_t *)iov[i].iov_base + skip;
		out[n].iov_len = part;
		n++;
		max -= part;
		skip = 0;
	}
	return n;
}
