/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of the MMIO transport (virtio 1.2, 4.2.2): devices/virtio/mmio.h.
 * Registers are 32 bits wide and answer nothing else; configuration space takes
 * any width (4.2.2.2).
 */
#include "devices/virtio/mmio.h"

#include <errno.h>
#include <string.h>

#include "arch/layout.h"

#define MMIO_MAGIC_VALUE 0x74726976u /* "virt" */
#define MMIO_VENDOR      0x47524956u /* "VIRG" */
#define MMIO_CONFIG      0x100u

enum mmio_register {
	MMIO_MAGIC = 0x000,
	MMIO_VERSION = 0x004,
	MMIO_DEVICE_ID = 0x008,
	MMIO_VENDOR_ID = 0x00c,
	MMIO_DEVICE_FEATURES = 0x010,
	MMIO_DEVICE_FEATURES_SEL = 0x014,
	MMIO_DRIVER_FEATURES = 0x020,
	MMIO_DRIVER_FEATURES_SEL = 0x024,
	MMIO_QUEUE_SEL = 0x030,
	MMIO_QUEUE_NUM_MAX = 0x034,
	MMIO_QUEUE_NUM = 0x038,
	MMIO_QUEUE_READY = 0x044,
	MMIO_QUEUE_NOTIFY = 0x050,
	MMIO_INTERRUPT_STATUS = 0x060,
	MMIO_INTERRUPT_ACK = 0x064,
	MMIO_STATUS = 0x070,
	MMIO_QUEUE_DESC_LOW = 0x080,
	MMIO_QUEUE_DESC_HIGH = 0x084,
	MMIO_QUEUE_AVAIL_LOW = 0x090,
	MMIO_QUEUE_AVAIL_HIGH = 0x094,
	MMIO_QUEUE_USED_LOW = 0x0a0,
	MMIO_QUEUE_USED_HIGH = 0x0a4,
	MMIO_SHM_LEN_LOW = 0x0b0,
	MMIO_SHM_LEN_HIGH = 0x0b4,
	MMIO_SHM_BASE_LOW = 0x0b8,
	MMIO_SHM_BASE_HIGH = 0x0bc,
	MMIO_CONFIG_GENERATION = 0x0fc,
};

/* The selected queue, or NULL when there is none of that number. */
static struct virtqueue *virtio_mmio_queue(const struct virtio_mmio *mmio)
{
	struct virtio *v = mmio->virtio;

	return mmio->state.queue_sel < v->queue_count ? &v->queues[mmio->state.queue_sel] : NULL;
}

static uint32_t virtio_mmio_read(const struct virtio_mmio *mmio, uint64_t offset)
{
	const struct virtio *v = mmio->virtio;
	const struct virtqueue *q = virtio_mmio_queue(mmio);
	uint32_t half = mmio->state.device_features_sel;

	switch (offset) {
	case MMIO_MAGIC:
		return MMIO_MAGIC_VALUE;
	case MMIO_VERSION:
		return 2;
	case MMIO_DEVICE_ID:
		return v->class->id;
	case MMIO_VENDOR_ID:
		return MMIO_VENDOR;
	case MMIO_DEVICE_FEATURES:
		return half < 2 ? (uint32_t)(virtio_features(v) >> (32 * half)) : 0;
	case MMIO_QUEUE_NUM_MAX:
		return q ? VIRTQUEUE_SIZE_MAX : 0;
	case MMIO_QUEUE_READY:
		return q ? q->state.ready : 0;
	case MMIO_INTERRUPT_STATUS:
		return v->state.isr;
	case MMIO_STATUS:
		return v->state.status;
	case MMIO_SHM_LEN_LOW: /* no shared memory: all ones */
	case MMIO_SHM_LEN_HIGH:
	case MMIO_SHM_BASE_LOW:
	case MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case MMIO_CONFIG_GENERATION:
		return v->state.config_generation;
	default:
		return 0;
	}
}

static void virtio_mmio_set_half(uint64_t *address, bool high, uint32_t value)
{
	if (high)
		*address = (*address & UINT32_MAX) | (uint64_t)value << 32;
	else
		*address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

/* What describes the selected queue. A ready queue does not change (4.2.2.2). */
static void virtio_mmio_write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtqueue *q = virtio_mmio_queue(mmio);

	if (!q)
		return;
	if (offset == MMIO_QUEUE_READY) {
		virtio_set_ready(mmio->virtio, mmio->state.queue_sel, (value & 1) != 0);
		return;
	}
	if (q->state.ready)
		return;
	switch (offset) {
	case MMIO_QUEUE_NUM:
		/* Anything too large is wrong at QueueReady. */
		q->state.size = value <= VIRTQUEUE_SIZE_MAX ? (uint16_t)value : 0;
		break;
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
		virtio_mmio_set_half(&q->state.desc, offset == MMIO_QUEUE_DESC_HIGH, value);
		break;
	case MMIO_QUEUE_AVAIL_LOW:
	case MMIO_QUEUE_AVAIL_HIGH:
		virtio_mmio_set_half(&q->state.avail, offset == MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case MMIO_QUEUE_USED_LOW:
	case MMIO_QUEUE_USED_HIGH:
		virtio_mmio_set_half(&q->state.used, offset == MMIO_QUEUE_USED_HIGH, value);
		break;
	default:
		break;
	}
}

static void virtio_mmio_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtio *v = mmio->virtio;

	switch (offset) {
	case MMIO_DEVICE_FEATURES_SEL:
		mmio->state.device_features_sel = value;
		break;
	case MMIO_DRIVER_FEATURES_SEL:
		mmio->state.driver_features_sel = value;
		break;
	case MMIO_DRIVER_FEATURES:
		virtio_set_features(v, mmio->state.driver_features_sel, value);
		break;
	case MMIO_QUEUE_SEL:
		mmio->state.queue_sel = value;
		break;
	case MMIO_QUEUE_NOTIFY:
		virtio_notify(v, value);
		break;
	case MMIO_INTERRUPT_ACK:
		virtio_ack(v, value);
		break;
	case MMIO_STATUS:
		virtio_set_status(v, value);
		break;
	default:
		virtio_mmio_write_queue(mmio, offset, value);
	}
}

static void virtio_mmio_config(struct virtio *v, uint64_t offset, void *data, unsigned len,
			       bool write)
{
	const struct virtio_class *class = v->class;

	if (write && class->config_write)
		class->config_write(v, offset, data, len);
	else if (!write && class->config_read)
		class->config_read(v, offset, data, len);
}

static void virtio_mmio_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	struct virtio_mmio *mmio = opaque;
	uint32_t value;

	if (!write)
		memset(data, 0, len);
	if (offset >= MMIO_CONFIG) {
		virtio_mmio_config(mmio->virtio, offset - MMIO_CONFIG, data, len, write);
		return;
	}
	if (len != sizeof(value) || offset % sizeof(value) != 0)
		return;
	if (write) {
		memcpy(&value, data, sizeof(value));
		virtio_mmio_write(mmio, offset, value);
	} else {
		value = virtio_mmio_read(mmio, offset);
		memcpy(data, &value, sizeof(value));
	}
}

int virtio_mmio_create(struct virtio_mmio *mmio, struct virtio *v, struct vm *vm)
{
	unsigned slot = vm->virtio_slots;
	int ret;

	if (slot >= LAYOUT_VIRTIO_SLOTS)
		return failf(ENOSPC, "%s: all %u virtio slots are taken", v->class->name,
			     LAYOUT_VIRTIO_SLOTS);
	mmio->virtio = v;
	mmio->slot = slot;
	ret = virtio_init(v, vm, LAYOUT_VIRTIO_GSI + slot);
	if (ret == 0)
		ret = vm_irq_want(vm, v->gsi, v->class->name);
	if (ret)
		return ret;
	ret = bus_claim(&vm->mmio, LAYOUT_VIRTIO_MMIO + (uint64_t)slot * LAYOUT_VIRTIO_STRIDE,
			LAYOUT_VIRTIO_SIZE, virtio_mmio_io, mmio, v->class->name);
	if (ret == 0)
		vm->virtio_slots++;
	return ret;
}

void virtio_mmio_describe(const struct virtio_mmio *mmio, struct aml *a)
{
	const unsigned slot = mmio->slot;
	const char name[4] = { 'V', 'R', (char)('0' + slot / 10), (char)('0' + slot % 10) };
	size_t device = aml_open_device(a, name);
	size_t resources;

	aml_name(a, "_HID");
	aml_string(a, "LNRO0005");
	aml_name(a, "_UID");
	aml_integer(a, slot);
	aml_name(a, "_CRS");
	resources = aml_open_resources(a);
	aml_memory32_fixed(a, LAYOUT_VIRTIO_MMIO + slot * LAYOUT_VIRTIO_STRIDE, LAYOUT_VIRTIO_SIZE);
	aml_interrupt_edge(a, LAYOUT_VIRTIO_GSI + slot);
	aml_close_resources(a, resources);
	aml_close(a, device);
}
