/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a split ring over memory that the guest writes as it likes, while the device
 * pops, gives back, publishes and arms. A chain that is handed out lies in memory, all of it.
 */
#include "devices/virtio/virtqueue.h"

#include <string.h>

#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/devices/virtio/ring.h"

#define RAM     0x10000u
#define RING    0x1000u
#define POP_MAX 64u

struct bed {
	struct memory memory;
	struct virtqueue queue;
	struct virtqueue_chain chain; /* of the last pop, while `popped` */
	bool popped;
	struct ring ring;
	struct bytes in;
};

static void setup(struct bed *b)
{
	static const uint16_t sizes[] = { 1, 2, 4, 8, 16, 64, 128, 256 };
	uint8_t how = bytes_u8(&b->in);

	ring_init(&b->ring, &b->memory, RING, sizes[how & 7]);
	virtqueue_init(&b->queue, &b->memory);
	ring_describe(&b->ring, &b->queue.state);
	b->queue.indirect = how & 8;
	b->queue.event_idx = how & 16;
	if (!(how & 32))
		return;
	/* Restored, and perhaps not from what virga has written. */
	b->queue.state.ready = how >> 7;
	b->queue.state.avail_next = bytes_u16(&b->in);
	b->queue.state.used_next = bytes_u16(&b->in);
	if (how & 64) {
		b->queue.state.desc = bytes_odd(&b->in);
		b->queue.state.avail = bytes_odd(&b->in);
		b->queue.state.used = bytes_odd(&b->in);
		b->queue.state.size = (uint16_t)bytes_odd(&b->in);
	}
}

static void check_chain(const struct bed *b)
{
	const uint8_t *start = b->memory.base, *end = start + b->memory.size;
	const struct virtqueue_chain *c = &b->chain;
	uint64_t sums[2] = { 0, 0 };

	must(c->head < b->queue.state.size);
	must(c->out_count + c->in_count <= VIRTQUEUE_SIZE_MAX);
	for (unsigned i = 0; i < c->out_count + c->in_count; i++) {
		const uint8_t *at = c->iov[i].iov_base;

		sums[i >= c->out_count] += c->iov[i].iov_len;
		must(c->iov[i].iov_len == 0 || (at >= start && at < end));
		must(c->iov[i].iov_len <= (size_t)(end - at));
	}
	must(sums[0] == c->out_len && sums[1] == c->in_len);
}

static void pop(struct bed *b)
{
	b->popped = virtqueue_pop(&b->queue, &b->chain);
	if (b->popped)
		check_chain(b);
}

/* What devices do with a chain. */
static void use(struct bed *b)
{
	uint8_t data[64] = { 0 };
	size_t at = bytes_u8(&b->in), len = bytes_below(&b->in, sizeof(data) + 1);
	struct iovec iov[VIRTQUEUE_SIZE_MAX];
	unsigned count;

	if (!b->popped)
		return;
	if (virtqueue_read(&b->chain, at, data, len))
		must(at + len <= b->chain.out_len);
	if (virtqueue_write(&b->chain, at, data, len))
		must(at + len <= b->chain.in_len);
	count = virtqueue_slice(b->chain.iov, b->chain.out_count, at, len, iov);
	must(count <= b->chain.out_count);
}

static void descriptor(struct bed *b)
{
	uint8_t how = bytes_u8(&b->in);
	unsigned i = how & 15;
	uint64_t table = how & 128 ? 0x8000u : b->ring.desc;
	uint64_t addr = how & 64 ? bytes_odd(&b->in) : (uint64_t)bytes_u8(&b->in) << 8;
	uint32_t len = how & 32 ? (uint32_t)bytes_odd(&b->in) : bytes_u8(&b->in);
	uint16_t flags = how & 16 ? bytes_u16(&b->in) : bytes_below(&b->in, 8);

	ring_desc_at(&b->ring, table, i, addr, len, flags, bytes_u8(&b->in));
}

static void scribble(struct bed *b)
{
	uint64_t at = bytes_u16(&b->in);
	uint8_t data[32];
	size_t len = bytes_below(&b->in, sizeof(data));

	bytes_fill(&b->in, data, len);
	memory_write(&b->memory, at, data, len);
}

static void act(struct bed *b)
{
	uint8_t what = bytes_u8(&b->in);
	bool interrupt = false;

	switch (what & 15) {
	case 0:
	case 1:
	case 2:
		descriptor(b);
		break;
	case 3:
	case 4:
		ring_offer(&b->ring, (what >> 4) * (what & 1 ? 1 : 17));
		break;
	case 5:
		ring_set_avail_idx(&b->ring, bytes_u16(&b->in));
		break;
	case 6:
		ring_set_used_event(&b->ring, bytes_u16(&b->in));
		break;
	case 7:
		ring_set_avail_flags(&b->ring, what >> 4);
		break;
	case 8:
	case 9:
		pop(b);
		break;
	case 10:
		if (b->popped)
			virtqueue_push(&b->queue, &b->chain, bytes_u8(&b->in));
		b->popped = false;
		break;
	case 11:
		if (b->popped)
			virtqueue_unpop(&b->queue);
		b->popped = false;
		break;
	case 12:
		virtqueue_publish(&b->queue, &interrupt);
		break;
	case 13:
		if (what & 16)
			virtqueue_disarm(&b->queue);
		else
			virtqueue_arm(&b->queue);
		break;
	case 14:
		use(b);
		break;
	default:
		scribble(b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bed bed;

	if (!bed.memory.size)
		must(memory_create(&bed.memory, RAM) == 0);
	memset(bed.memory.base, 0, RAM);
	bed.popped = false;
	bed.in = (struct bytes){ data, size };
	setup(&bed);
	if (!virtqueue_enable(&bed.queue))
		return 0;
	while (bed.in.left)
		act(&bed);
	/* A guest that has gone quiet: what is left is a bounded number. */
	for (unsigned i = 0; i <= VIRTQUEUE_SIZE_MAX && virtqueue_pop(&bed.queue, &bed.chain);
	     i++) {
		must(i < VIRTQUEUE_SIZE_MAX);
		check_chain(&bed);
	}
	return 0;
}
