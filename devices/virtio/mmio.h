/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport (virtio 1.2, 4.2, version 2): registers in front of a virtio
 * core. Each device takes the next slot of the machine, which gives it its page
 * and its interrupt pin (arch/x86_64/layout.h).
 */
#ifndef VIRGA_DEVICES_VIRTIO_MMIO_H
#define VIRGA_DEVICES_VIRTIO_MMIO_H

#include <stdint.h>

#include "arch/base/aml.h"
#include "devices/virtio/virtio.h"

/* Guest-visible and saved. */
struct virtio_mmio_state {
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint32_t queue_sel;
};

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): member designators */
#define VIRTIO_MMIO_FIELDS(type, mmio)                                                            \
	FIELD_NAMED(type, mmio.state.device_features_sel, "mmio.state.device_features_sel"),      \
	FIELD_NAMED(type, mmio.state.driver_features_sel, "mmio.state.driver_features_sel"),      \
	FIELD_NAMED(type, mmio.state.queue_sel, "mmio.state.queue_sel")
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

struct virtio_mmio {
	struct virtio_mmio_state state;
	struct virtio *virtio; /* borrowed */
	unsigned slot;
};

/*
 * Takes the next slot, claims its range and makes the core `v`, which has its class, features and
 * queues, on its pin. 0 or -errno with a sentence; virtio_fini(v) is the caller's in both cases.
 */
int virtio_mmio_create(struct virtio_mmio *mmio, struct virtio *v, struct vm *vm);

/* Its node in the guest's ACPI: the slot's page and pin. */
void virtio_mmio_describe(const struct virtio_mmio *mmio, struct aml *a);

#endif
