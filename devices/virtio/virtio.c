/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio device core (virtio 1.2, 2.1-2.5 and 3.1): devices/virtio/virtio.h. Registers
 * are the transport's, packets the device's.
 */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define VIRTIO_STATUS_KNOWN                                                           \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK | \
	 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED)

/* --- Interrupts and failure --- */

/*
 * Low and high again: a rising edge each time. The line stays up until the guest has acknowledged
 * everything, which is what a pin programmed as level wants.
 */
static void virtio_interrupt(struct virtio *v, uint32_t isr)
{
	v->state.isr |= isr;
	vm_irq(v->vm, v->gsi, false);
	vm_irq(v->vm, v->gsi, true);
	vm_wake(v->vm);
}

void virtio_ack(struct virtio *v, uint32_t isr)
{
	v->state.isr &= ~isr;
	if (v->state.isr == 0)
		vm_irq(v->vm, v->gsi, false);
}

/* 2.1.2: nothing works any more until the driver resets the device, and it is told so. */
static void virtio_fail(struct virtio *v, const char *why)
{
	if (v->state.status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	v->state.status |= VIRTIO_STATUS_NEEDS_RESET;
	note_limited(&v->notes, "%s: %s; the guest has to reset the device", v->class->name, why);
	if (v->state.status & VIRTIO_STATUS_DRIVER_OK) {
		v->state.config_generation++;
		virtio_interrupt(v, VIRTIO_ISR_CONFIG);
	}
}

/* --- Queues --- */

bool virtio_live(const struct virtio *v)
{
	return v->started && (v->state.status & VIRTIO_STATUS_DRIVER_OK) &&
	       !(v->state.status & VIRTIO_STATUS_NEEDS_RESET);
}

void virtio_flush(struct virtio *v)
{
	bool published = false, interrupt = false;

	for (unsigned i = 0; i < v->queue_count; i++) {
		published |= virtqueue_publish(&v->queues[i], &interrupt);
		if (v->queues[i].broken)
			virtio_fail(v, v->queues[i].broken);
	}
	if (interrupt)
		virtio_interrupt(v, VIRTIO_ISR_QUEUE);
	else if (published)
		vm_wake(v->vm);
}

void virtio_notify(struct virtio *v, uint32_t queue)
{
	if (queue >= v->queue_count || !virtio_live(v))
		return;
	v->class->notify(v, queue);
	virtio_flush(v);
}

static void virtio_poll(void *opaque)
{
	struct virtio *v = opaque;

	for (unsigned i = 0; i < v->queue_count && virtio_live(v); i++)
		v->class->notify(v, i);
	virtio_flush(v);
}

static void virtio_again_event(void *opaque, uint32_t events)
{
	struct virtio *v = opaque;
	uint64_t count;

	(void)events;
	if (read(v->again_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
		virtio_poll(v);
}

void virtio_again(struct virtio *v)
{
	uint64_t one = 1;

	if (v->again_fd < 0 || write(v->again_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		vm_poll_later(v->vm);
}

void virtio_set_ready(struct virtio *v, unsigned queue, bool ready)
{
	struct virtqueue *q = &v->queues[queue];

	if (ready == q->state.ready)
		return;
	if (!ready) {
		q->state.ready = 0;
		return;
	}
	q->state.avail_next = 0;
	q->state.used_next = 0;
	if (!virtqueue_enable(q))
		virtio_fail(v, "a queue's size or address is not valid");
}

/* --- Features and status --- */

uint64_t virtio_features(const struct virtio *v)
{
	return v->features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
}

void virtio_set_features(struct virtio *v, unsigned half, uint32_t value)
{
	unsigned shift = 32 * half;

	if (half > 1 || (v->state.status & VIRTIO_STATUS_FEATURES_OK))
		return;
	v->state.driver_features &= ~(0xffffffffull << shift);
	v->state.driver_features |= (uint64_t)value << shift;
}

/* A legacy driver, or one that takes what was not offered, does not get FEATURES_OK. */
static bool virtio_features_ok(const struct virtio *v)
{
	return (v->state.driver_features & ~virtio_features(v)) == 0 &&
	       (v->state.driver_features & VIRTIO_F_VERSION_1) != 0;
}

static void virtio_use_features(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		v->queues[i].event_idx = (v->state.driver_features & VIRTIO_F_EVENT_IDX) != 0;
		v->queues[i].indirect = (v->state.driver_features & VIRTIO_F_INDIRECT_DESC) != 0;
	}
}

void virtio_clear(struct virtio *v)
{
	v->state = (struct virtio_state){ 0 };
	for (unsigned i = 0; i < v->queue_count; i++)
		virtqueue_init(&v->queues[i], &v->vm->memory);
}

static void virtio_reset(struct virtio *v)
{
	uint32_t generation = v->state.config_generation;

	virtio_ack(v, v->state.isr);
	virtio_clear(v);
	v->state.config_generation = generation;
	if (v->class->reset)
		v->class->reset(v);
}

void virtio_set_status(struct virtio *v, uint32_t value)
{
	uint32_t old = v->state.status;
	uint32_t added = value & VIRTIO_STATUS_KNOWN & ~(old | VIRTIO_STATUS_NEEDS_RESET);

	if (value == 0) {
		virtio_reset(v);
		return;
	}
	if ((added & VIRTIO_STATUS_FEATURES_OK) && !virtio_features_ok(v))
		added &= ~VIRTIO_STATUS_FEATURES_OK;
	if (!((old | added) & VIRTIO_STATUS_FEATURES_OK))
		added &= ~VIRTIO_STATUS_DRIVER_OK;
	v->state.status |= added;
	if (!(added & VIRTIO_STATUS_DRIVER_OK))
		return;
	virtio_use_features(v);
	virtio_poll(v);
}

/* --- Life --- */

int virtio_init(struct virtio *v, struct vm *vm, unsigned gsi)
{
	v->vm = vm;
	v->gsi = gsi;
	v->again_fd = -1;
	for (unsigned i = 0; i < v->queue_count; i++)
		virtqueue_init(&v->queues[i], &vm->memory);
	/* What the other vCPUs of an honest guest fill must not keep vCPU 0 out of the guest. */
	if (vm->vcpu_count > 1) {
		v->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->again_fd < 0)
			return failf(errno, "%s: no eventfd: %s", v->class->name, strerror(errno));
		v->again = loop_add(&vm->loop, v->again_fd, EPOLLIN, virtio_again_event, v);
		if (!v->again)
			return -ENOMEM;
	}
	v->poll = (struct vm_poll){ .poll = virtio_poll, .opaque = v };
	vm_poll_add(vm, &v->poll);
	return 0;
}

void virtio_fini(struct virtio *v)
{
	if (!v->vm)
		return;
	loop_remove(&v->vm->loop, v->again);
	v->again = NULL;
	if (v->again_fd >= 0)
		close(v->again_fd);
	v->again_fd = -1;
}

void virtio_start(struct virtio *v)
{
	v->started = true;
	virtio_poll(v);
}

void virtio_stop(struct virtio *v)
{
	v->started = false;
}

int virtio_restored(struct virtio *v)
{
	struct virtio_state *s = &v->state;

	if ((s->status & ~VIRTIO_STATUS_KNOWN) ||
	    (s->isr & ~(VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG)))
		return failf(EINVAL, "%s: saved status %#x or interrupt status %#x is not valid",
			     v->class->name, s->status, s->isr);
	if ((s->status & VIRTIO_STATUS_FEATURES_OK) ? !virtio_features_ok(v)
						    : s->status & VIRTIO_STATUS_DRIVER_OK)
		return failf(EINVAL, "%s: saved features %#llx do not fit status %#x",
			     v->class->name, (unsigned long long)s->driver_features, s->status);
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtqueue *q = &v->queues[i];

		if (q->state.ready > 1 || (q->state.ready && !virtqueue_enable(q)))
			return failf(EINVAL, "%s: saved queue %u is not valid", v->class->name, i);
	}
	if (s->status & VIRTIO_STATUS_DRIVER_OK)
		virtio_use_features(v);
	return 0;
}
