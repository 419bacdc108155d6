/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device side of a split virtqueue (virtio 1.2, 2.7).
 *
 * A queue is three arrays in guest memory, each written by one side only:
 *
 *   descriptors  guest   16 bytes each: address, length, flags, next. Linked by `next` they form
 *                        a chain: first what the device reads, then what it writes.
 *   available    guest   flags, idx, ring[size] of chain heads, used_event
 *   used         device  flags, idx, ring[size] of {head, bytes written}, avail_event
 *
 * Both idx count for ever, modulo 2^16; slot i is idx % size. The guest puts a head in its ring
 * and moves avail.idx on; the device takes it (pop), does the work, puts the head in its own
 * ring (push) and moves used.idx on (publish). Nobody needs a lock: an entry is written before
 * the index that shows it.
 *
 * A queue of eight at work. The guest has shown seven chains so far, entries 0 to 6; the device has
 * popped six of them and given five back:
 *
 *     available ring          descriptors                                 used ring
 *     idx 7                   0 | address | length | WRITE      |         idx 5
 *      ...                    1 | address | length | NEXT       | 3 --.    ...
 *     [4] 2  given back       2 | address | length | WRITE      |     |   [4] {2, 60}
 *     [5] 0  at work          3 | address | length | NEXT WRITE | 4 <-'   [5]
 *     [6] 1  to be popped     4 | address | length | WRITE      | <---'   [6]
 *     [7]                      ...                                         ...
 *
 *     avail_next is 6: entry 6 is popped next. used_next is 5: what comes back is written there.
 *
 * Head 2 came back with 60 bytes written. Entry 6 is the chain 1, 3, 4: of it the device reads what
 * descriptor 1 describes and writes to what 3 and 4 do. The device may give chains back in another
 * order than it popped them, and used_next runs ahead of used.idx between push and publish.
 *
 * Two questions remain. Does the guest want an interrupt for used buffers? Does the device want
 * a kick for available ones? Without EVENT_IDX each side has a flag that says "no" (2.7.7, 2.7.10).
 * With it each side names the index at which it wants to hear again: used_event and avail_event.
 * A side that asks must look at the ring once more afterwards, or an entry added in between waits
 * for ever: that is virtqueue_arm()'s return value.
 *
 * Everything the guest writes may be hostile and may change at any time: it is checked, and
 * read once. The first thing that cannot be right latches `broken`; no function does anything
 * to a broken queue.
 */
#ifndef VIRGA_DEVICES_VIRTIO_VIRTQUEUE_H
#define VIRGA_DEVICES_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "arch/base/field.h"
#include "arch/memory.h"

#define VIRTQUEUE_SIZE_MAX 256u /* what QueueNumMax says; also the longest chain */

/* Guest-visible and saved. */
struct virtqueue_state {
	uint64_t desc; /* guest-physical addresses of the three areas */
	uint64_t avail;
	uint64_t used;
	uint16_t size;       /* entries, a power of two */
	uint16_t avail_next; /* the next entry of the available ring to pop */
	uint16_t used_next;  /* the next entry of the used ring to fill */
	uint8_t ready;
};

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): member designators */
#define VIRTQUEUE_FIELDS(type, queue)                                                             \
	FIELD_NAMED(type, queue.state.desc, "virtio." #queue ".state.desc"),                      \
	FIELD_NAMED(type, queue.state.avail, "virtio." #queue ".state.avail"),                    \
	FIELD_NAMED(type, queue.state.used, "virtio." #queue ".state.used"),                      \
	FIELD_NAMED(type, queue.state.size, "virtio." #queue ".state.size"),                      \
	FIELD_NAMED(type, queue.state.avail_next, "virtio." #queue ".state.avail_next"),          \
	FIELD_NAMED(type, queue.state.used_next, "virtio." #queue ".state.used_next"),            \
	FIELD_NAMED(type, queue.state.ready, "virtio." #queue ".state.ready")
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

struct virtqueue {
	struct virtqueue_state state;
	const struct memory *memory;
	uint8_t *desc; /* the three areas in this process, while ready */
	uint16_t *avail;
	uint8_t *used;
	uint16_t published; /* used.idx as the guest sees it; interrupts are decided up to here */
	bool event_idx;     /* negotiated features */
	bool indirect;
	const char *broken; /* what was wrong with the ring; NULL while all is well */
};

/* A chain, copied and checked: iov[0 .. out_count) to read, the in_count after them to write. */
struct virtqueue_chain {
	uint16_t head;
	unsigned out_count;
	unsigned in_count;
	uint32_t out_len;
	uint32_t in_len;
	struct iovec iov[VIRTQUEUE_SIZE_MAX];
};

/* An empty queue that is not ready. */
void virtqueue_init(struct virtqueue *q, const struct memory *memory);

/*
 * Checks size and addresses and makes the queue ready, with nothing popped (a new queue) or
 * where state says (a restored one). False, and not ready, when they cannot be.
 */
bool virtqueue_enable(struct virtqueue *q);

/* Takes the next available chain. False when there is none, or the queue is broken or not ready. */
bool virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain);

/* Puts back what the last pop took, before any other pop. */
void virtqueue_unpop(struct virtqueue *q);

/* Returns a chain of which the device wrote len bytes. The guest sees it after publish. */
void virtqueue_push(struct virtqueue *q, const struct virtqueue_chain *chain, uint32_t len);

/* Shows the guest what was pushed. Returns whether anything was; *interrupt is set (never
 * cleared) when the guest wants an interrupt for it. */
bool virtqueue_publish(struct virtqueue *q, bool *interrupt);

/* Asks for a kick at the next available entry. True when there is one already: pop on. */
bool virtqueue_arm(struct virtqueue *q);

/* Says that kicks are not needed; a guest may kick all the same. */
void virtqueue_disarm(struct virtqueue *q);

/* Copies len bytes at offset of the chain's readable part; false when it has not so many. */
bool virtqueue_read(const struct virtqueue_chain *chain, size_t offset, void *out, size_t len);

/* Copies len bytes to offset of the chain's writable part; false when it has no such room. */
bool virtqueue_write(const struct virtqueue_chain *chain, size_t offset, const void *data,
		     size_t len);

/* The bytes [skip, skip + max) of a list, or what it has of them, as a list in out (which has room
 * for count entries). Returns its length. */
unsigned virtqueue_slice(const struct iovec *iov, unsigned count, size_t skip, size_t max,
			 struct iovec *out);

#endif
