/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of a virtio device (virtio 1.2, 2.1-2.5 and 3.1): status, features,
 * queues, interrupts. Below it lies a transport (mmio.h) that turns register
 * accesses into these calls, above it a device that gives the queues a meaning.
 * Everything runs under the VM lock.
 */
#ifndef VIRGA_DEVICES_VIRTIO_VIRTIO_H
#define VIRGA_DEVICES_VIRTIO_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/base/error.h"
#include "arch/base/field.h"
#include "arch/vm.h"
#include "devices/virtio/virtqueue.h"

/* Device status (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED      128u

/* Features of every device here (6). */
#define VIRTIO_F_INDIRECT_DESC    (1ull << 28)
#define VIRTIO_F_EVENT_IDX        (1ull << 29)
#define VIRTIO_F_VERSION_1        (1ull << 32)

/* Interrupt status (4.2.2). */
#define VIRTIO_ISR_QUEUE          1u
#define VIRTIO_ISR_CONFIG         2u

struct virtio;

/* What a device is to the core. */
struct virtio_class {
	const char *name;
	uint32_t id; /* device ID (5) */

	/*
	 * The guest may have added buffers to a queue: looks at it, whether it did or not. Takes a
	 * bounded number of them and calls virtio_again() if there may be more. Called only while
	 * the device is live; the core publishes and interrupts afterwards.
	 */
	void (*notify)(struct virtio *v, unsigned queue);
	/* The guest resets the device: drop all that depends on the driver. Optional. */
	void (*reset)(struct virtio *v);
	/* Fills len bytes of configuration space from offset, zeroed before the call. Optional. */
	void (*config_read)(struct virtio *v, uint64_t offset, void *data, unsigned len);
	/* The guest writes len bytes there. Optional. */
	void (*config_write)(struct virtio *v, uint64_t offset, const void *data, unsigned len);
};

/* Guest-visible and saved. */
struct virtio_state {
	uint64_t driver_features;
	uint32_t status;
	uint32_t isr;
	uint32_t config_generation;
};

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): member designators */
#define VIRTIO_FIELDS(type, virtio)                                                               \
	FIELD_NAMED(type, virtio.state.driver_features, "virtio.state.driver_features"),          \
	FIELD_NAMED(type, virtio.state.status, "virtio.state.status"),                            \
	FIELD_NAMED(type, virtio.state.isr, "virtio.state.isr"),                                  \
	FIELD_NAMED(type, virtio.state.config_generation, "virtio.state.config_generation")
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

struct virtio {
	struct virtio_state state;
	const struct virtio_class *class;
	uint64_t features;        /* of its own, beside the three above */
	struct virtqueue *queues; /* the device's; borrowed */
	unsigned queue_count;
	struct vm *vm;
	unsigned gsi;
	struct vm_poll poll;
	bool started; /* between virtio_start and virtio_stop: guest memory may be touched */
	int again_fd; /* eventfd that brings the loop thread back, -1: a vCPU comes back; owned */
	struct loop_watch *again;
	struct note_limit notes;
};

/*
 * A reset device on pin gsi that vm_poll() looks at; v has its class, features and queues. 0 or
 * -errno with a sentence; on failure virtio_fini is still to be called. That does nothing to one that
 * is zero, or was undone before.
 */
int virtio_init(struct virtio *v, struct vm *vm, unsigned gsi);
void virtio_fini(struct virtio *v);

/* --- For the transport --- */

uint64_t virtio_features(const struct virtio *v);

/* Takes 32 bits of the driver's features; ignored once FEATURES_OK is set. */
void virtio_set_features(struct virtio *v, unsigned half, uint32_t value);

/* A write to the status register: 0 resets, anything else only adds bits (2.1.1, 3.1.1). */
void virtio_set_status(struct virtio *v, uint32_t value);

/* Makes a queue ready, or not ready. A queue that cannot be makes the device need a reset. */
void virtio_set_ready(struct virtio *v, unsigned queue, bool ready);

/* The guest has seen these bits of the interrupt status. */
void virtio_ack(struct virtio *v, uint32_t isr);

/* The guest kicks a queue. */
void virtio_notify(struct virtio *v, uint32_t queue);

/* --- For the device --- */

/* DRIVER_OK, nothing broken, the machine not paused: queues may be used. */
bool virtio_live(const struct virtio *v);

/*
 * Ends whatever used queues outside of notify(): publishes, wakes a parked vCPU, interrupts if
 * the guest wants it, and reports a broken ring.
 */
void virtio_flush(struct virtio *v);

/*
 * Has all queues looked at again soon, without a kick. For a notify() that has done its share: a
 * queue can fill as fast as it is drained, by another vCPU or by what the device itself writes
 * where the guest said, and must not keep the VM lock or hold up a signal.
 */
void virtio_again(struct virtio *v);

/* The machine is about to run: everything the guest left in the queues is looked at. */
void virtio_start(struct virtio *v);
void virtio_stop(struct virtio *v);

/* Forgets the driver without telling the device, before fields are loaded over it. Stopped. */
void virtio_clear(struct virtio *v);

/* After loading the fields: checks them and maps the queues. 0 or -EINVAL with a sentence. */
int virtio_restored(struct virtio *v);

#endif
