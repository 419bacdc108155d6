/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every virtio device behind its transport: registers in any order and of any width, rings and
 * buffers that the guest writes as it likes, pauses, and states that are loaded.
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add */
#include <string.h>

#include "arch/layout.h"
#include "devices/channel/channel.h"
#include "devices/device.h"
#include "devices/virtio/virtio.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/devices/virtio/ring.h"

#define RAM       0x20000u
#define RING(i)   (0x1000u + 0x4000u * (i))
#define QUEUES    3u
#define RING_SIZE 8u

extern const struct device_class virtio_rng_class, virtio_vsock_class;
static const struct device_class *const classes[] = { &virtio_rng_class, &virtio_vsock_class };

struct bed {
	struct vm vm;
	struct devices devices;
	struct channel *channel;
	struct ring rings[QUEUES];
	struct bytes in;
	const struct device_class *class;
	bool running;
};

static void make(struct bed *b)
{
	const struct device_host host = { .channel = b->channel };
	struct device_list list = { 0 };

	b->vm.virtio_slots = 0;
	b->vm.mmio.count = 0;
	b->vm.polls = NULL;
	must(device_list_add(&list, b->class, NULL) == 0);
	must(devices_create(&b->devices, &b->vm, &list, &host) == 0);
	device_list_fini(&list);
	must(devices_start(&b->devices) == 0);
	b->running = true;
}

static void unmake(struct bed *b)
{
	devices_stop(&b->devices);
	devices_destroy(&b->devices);
}

static void put(struct bed *b, uint32_t reg, uint32_t value)
{
	bus_io(&b->vm.mmio, LAYOUT_VIRTIO_MMIO + reg, &value, sizeof(value), true);
}

/* What a driver does, up to DRIVER_OK. */
static void bring_up(struct bed *b, uint8_t features)
{
	put(b, 0x070, 0);
	put(b, 0x070, 3);
	put(b, 0x024, 0);
	put(b, 0x020, (uint32_t)(features & 3) << 28);
	put(b, 0x024, 1);
	put(b, 0x020, 1);
	put(b, 0x070, 11);
	for (uint32_t i = 0; i < QUEUES; i++) {
		ring_init(&b->rings[i], &b->vm.memory, RING(i), RING_SIZE);
		put(b, 0x030, i);
		put(b, 0x038, RING_SIZE);
		put(b, 0x080, (uint32_t)b->rings[i].desc);
		put(b, 0x090, (uint32_t)b->rings[i].avail);
		put(b, 0x0a0, (uint32_t)b->rings[i].used);
		put(b, 0x044, 1);
	}
	put(b, 0x070, 15);
}

static void access_register(struct bed *b)
{
	static const uint16_t known[] = { 0x000, 0x004, 0x008, 0x00c, 0x010, 0x014, 0x020, 0x024,
					  0x030, 0x034, 0x038, 0x044, 0x050, 0x060, 0x064, 0x070,
					  0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4, 0x0fc, 0x100 };
	uint8_t how = bytes_u8(&b->in), which = bytes_u8(&b->in);
	uint64_t at = how & 1 ? known[which % 24] : (uint64_t)which * 2 + (how >> 1 & 1);
	uint64_t value = how & 4 ? bytes_odd(&b->in) : bytes_u8(&b->in);
	unsigned len = how & 8 ? 1u << (how >> 4 & 3) : 4;

	if (at + len <= LAYOUT_VIRTIO_SIZE)
		bus_io(&b->vm.mmio, LAYOUT_VIRTIO_MMIO + at, &value, len, how & 64);
}

static void descriptor(struct bed *b, unsigned queue)
{
	uint8_t how = bytes_u8(&b->in);
	uint64_t addr = how & 64 ? bytes_odd(&b->in) : 0x10000u + bytes_u8(&b->in) * 16u;
	uint32_t len = how & 32 ? (uint32_t)bytes_odd(&b->in) : bytes_u8(&b->in);
	uint64_t table = how & 128 ? 0x18000u : b->rings[queue].desc;

	ring_desc_at(&b->rings[queue], table, how & 7, addr, len, bytes_below(&b->in, 8),
		     bytes_below(&b->in, 9));
}

static void scribble(struct bed *b)
{
	uint64_t at = bytes_u16(&b->in);
	uint8_t data[64];
	size_t len = bytes_below(&b->in, sizeof(data));

	if (bytes_u8(&b->in) & 1)
		at = 0x10000u + (at & 0xff0);
	bytes_fill(&b->in, data, len);
	memory_write(&b->vm.memory, at, data, len);
}

static void load(struct bed *b, bool damage)
{
	struct device *dev = &b->devices.list[0];
	struct blob saved = { 0 };
	int ret;

	devices_stop(&b->devices);
	must(device_save(dev, &saved) == 0 && !saved.failed);
	unmake(b);
	make(b);
	devices_stop(&b->devices);
	if (damage)
		bytes_damage(&b->in, saved.data, &saved.len);
	dev = &b->devices.list[0];
	ret = device_load(dev, b->class->version, saved.data, saved.len);
	must(ret == 0 || damage);
	if (ret < 0) { /* no such machine goes on: this is another */
		unmake(b);
		channel_wipe(b->channel);
		make(b);
	} else {
		must(devices_start(&b->devices) == 0);
	}
	b->running = true;
	blob_fini(&saved);
}

static void act(struct bed *b)
{
	uint8_t what = bytes_u8(&b->in);
	unsigned queue = (what >> 4) % QUEUES;

	switch (what & 15) {
	case 0:
		bring_up(b, what >> 4);
		break;
	case 1:
	case 2:
	case 3:
		access_register(b);
		break;
	case 4:
	case 5:
	case 6:
		descriptor(b, queue);
		break;
	case 7:
		ring_offer(&b->rings[queue], bytes_below(&b->in, 9));
		break;
	case 8:
		ring_set_avail_idx(&b->rings[queue], bytes_u16(&b->in));
		break;
	case 9:
	case 10:
		put(b, 0x050, queue);
		break;
	case 11:
		vm_poll(&b->vm);
		break;
	case 12:
		load(b, what & 16);
		break;
	case 13:
		if (b->running)
			devices_stop(&b->devices);
		else
			must(devices_start(&b->devices) == 0);
		b->running = !b->running;
		break;
	default:
		scribble(b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bed b;

	b.in = (struct bytes){ data, size };
	if (!b.vm.memory.size) {
		must(memory_create(&b.vm.memory, RAM) == 0);
		pthread_mutex_init(&b.vm.lock, NULL);
	}
	memset(b.vm.memory.base, 0, RAM);
	loop_init(&b.vm.loop);
	b.class = classes[bytes_below(&b.in, 2)];
	b.channel = channel_new();
	must(b.channel != NULL);
	make(&b);
	bring_up(&b, 3);
	while (b.in.left)
		act(&b);
	unmake(&b);
	channel_free(b.channel);
	loop_fini(&b.vm.loop);
	return 0;
}
