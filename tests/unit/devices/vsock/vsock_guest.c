/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's driver of a vsock device, for tests: tests/unit/devices/vsock/vsock_guest.h.
 */
#include "tests/unit/devices/vsock/vsock_guest.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "arch/layout.h"
#include "devices/virtio/virtio.h"
#include "devices/vsock/unix.h"

#define RX_RING    0x10000u
#define TX_RING    0x20000u
#define EVENT_RING 0x30000u
#define RX_BUFFERS 0x100000u
#define TX_BUFFERS 0x200000u
#define TX_STRIDE  0x8000u

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int guest_asked(void *opaque, uint64_t id, enum device_question kind, uint32_t value)
{
	struct vsock_guest *g = opaque;

	if (g->on_question)
		g->on_question(g);
	must(kind == DEVICE_CONNECT);
	g->questions++;
	g->question_id = id;
	g->question_port = value;
	return g->refuse;
}

void guest_create(struct vsock_guest *g, const char *path)
{
	memset(g, 0, sizeof(*g));
	g->vm.kvm_fd = g->vm.fd = -1;
	pthread_mutex_init(&g->vm.lock, NULL);
	loop_init(&g->vm.loop);
	must(memory_create(&g->vm.memory, GUEST_RAM) == 0);
	g->channel = channel_new();
	must(g->channel != NULL);
	g->path = path;
	g->host = (struct device_host){
		.ask = guest_asked,
		.ask_opaque = g,
		.channel = g->channel,
	};
	g->buf_alloc = GUEST_BUF_ALLOC;
}

int guest_devices(struct vsock_guest *g)
{
	struct device_list list = { 0 };
	int ret = device_list_add_all(&list, DEVICE_USUAL);

	if (ret == 0 && g->path) {
		json_t *path = json_string(g->path);

		ret = device_spec_set(device_list_find(&list, "virtio_vsock"), "path", path);
		json_decref(path);
	}
	if (ret == 0)
		ret = devices_create(&g->devices, &g->vm, &list, &g->host);
	device_list_fini(&list);
	return ret;
}

void guest_destroy(struct vsock_guest *g)
{
	devices_destroy(&g->devices);
	channel_free(g->channel);
	loop_fini(&g->vm.loop);
	memory_destroy(&g->vm.memory);
}

struct device *guest_device(struct vsock_guest *g)
{
	return devices_find(&g->devices, "virtio_vsock", 0);
}

uint32_t guest_get(struct vsock_guest *g, uint32_t offset)
{
	uint32_t value;

	must(bus_io(&g->vm.mmio, LAYOUT_VIRTIO_MMIO + offset, &value, sizeof(value), false));
	return value;
}

void guest_put(struct vsock_guest *g, uint32_t offset, uint32_t value)
{
	must(bus_io(&g->vm.mmio, LAYOUT_VIRTIO_MMIO + offset, &value, sizeof(value), true));
}

static void guest_queue(struct vsock_guest *g, struct ring *r, uint32_t i, uint32_t gpa)
{
	ring_init(r, &g->vm.memory, gpa, GUEST_SIZE);
	guest_put(g, 0x030, i);
	guest_put(g, 0x038, GUEST_SIZE);
	guest_put(g, 0x080, (uint32_t)r->desc);
	guest_put(g, 0x090, (uint32_t)r->avail);
	guest_put(g, 0x0a0, (uint32_t)r->used);
	guest_put(g, 0x044, 1);
	must(guest_get(g, 0x044) == 1);
}

void guest_bring_up(struct vsock_guest *g, bool event_idx)
{
	struct ring events;

	guest_put(g, 0x070, 0);
	guest_put(g, 0x070, 3);
	guest_put(g, 0x024, 0);
	guest_put(g, 0x020,
		  (uint32_t)(VIRTIO_F_INDIRECT_DESC | (event_idx ? VIRTIO_F_EVENT_IDX : 0)));
	guest_put(g, 0x024, 1);
	guest_put(g, 0x020, 1);
	guest_put(g, 0x070, 11);
	guest_queue(g, &g->rx, 0, RX_RING);
	guest_queue(g, &g->tx, 1, TX_RING);
	guest_queue(g, &events, 2, EVENT_RING);
	guest_put(g, 0x070, 15);
	must(guest_get(g, 0x070) == 15);
	guest_offer_rx(g, GUEST_SIZE);
}

void guest_offer_rx(struct vsock_guest *g, unsigned n)
{
	while (n-- > 0) {
		uint16_t i = g->rx.avail_idx % GUEST_SIZE;

		ring_desc(&g->rx, i, RX_BUFFERS + (uint64_t)i * GUEST_BUFFER, GUEST_BUFFER,
			  RING_WRITE, 0);
		ring_offer(&g->rx, i);
	}
	guest_put(g, 0x050, 0);
}

void guest_post(struct vsock_guest *g, const struct vsock_header *h, const void *data)
{
	uint16_t i = (uint16_t)(2 * (g->tx.avail_idx % (GUEST_SIZE / 2)));
	uint64_t at = TX_BUFFERS + (uint64_t)(i / 2) * TX_STRIDE;
	uint32_t len = data ? h->len : 0;

	must(len + sizeof(*h) <= TX_STRIDE);
	memory_write(&g->vm.memory, at, h, sizeof(*h));
	if (len)
		memory_write(&g->vm.memory, at + sizeof(*h), data, len);
	ring_desc(&g->tx, i, at, sizeof(*h), len ? RING_NEXT : 0, (uint16_t)(i + 1));
	ring_desc(&g->tx, i + 1u, at + sizeof(*h), len, 0, 0);
	ring_offer(&g->tx, i);
}

void guest_kick(struct vsock_guest *g)
{
	guest_put(g, 0x050, 1);
}

void guest_send(struct vsock_guest *g, enum vsock_op op, uint32_t host_port, uint32_t guest_port,
		uint32_t flags, const void *data, uint32_t len)
{
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = guest_port,
		.dst_port = host_port,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = g->buf_alloc,
		.fwd_cnt = g->fwd_cnt,
	};

	guest_post(g, &h, data);
	guest_kick(g);
}

bool guest_receive(struct vsock_guest *g, struct vsock_header *h, void *data)
{
	uint32_t id, len;
	uint64_t at;

	if (!ring_take(&g->rx, &id, &len))
		return false;
	at = RX_BUFFERS + (uint64_t)id * GUEST_BUFFER;
	must(len >= sizeof(*h) && len <= GUEST_BUFFER);
	memory_read(&g->vm.memory, at, h, sizeof(*h));
	must(h->len == len - sizeof(*h));
	if (data)
		memory_read(&g->vm.memory, at + sizeof(*h), data, h->len);
	if (!g->hold_rx)
		guest_offer_rx(g, 1);
	return true;
}

bool guest_hears(struct vsock_guest *g, enum vsock_op op, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_header h;

	return guest_receive(g, &h, NULL) && h.op == op && h.src_port == host_port &&
	       h.dst_port == guest_port && h.src_cid == VSOCK_CID_HOST &&
	       h.dst_cid == VSOCK_CID_GUEST && h.type == VSOCK_TYPE_STREAM;
}

void guest_open_channel(struct vsock_guest *g, uint8_t flags)
{
	const struct channel_header ready = {
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = CHANNEL_READY,
		.flags = flags,
	};

	guest_send(g, VSOCK_OP_REQUEST, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, NULL, 0);
	must(guest_hears(g, VSOCK_OP_RESPONSE, CHANNEL_PORT, GUEST_CHANNEL_PORT));
	guest_send(g, VSOCK_OP_RW, CHANNEL_PORT, GUEST_CHANNEL_PORT, 0, &ready, sizeof(ready));
	must(channel_ready(g->channel));
}

int guest_connect(struct vsock_guest *g, uint32_t guest_port)
{
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	guest_send(g, VSOCK_OP_REQUEST, GUEST_HOST_PORT, guest_port, 0, NULL, 0);
	must(g->question_port == GUEST_HOST_PORT);
	devices_answered(&g->devices, g->question_id, 0, pair[0]);
	must(guest_hears(g, VSOCK_OP_RESPONSE, GUEST_HOST_PORT, guest_port));
	return pair[1];
}

void guest_turn(struct vsock_guest *g)
{
	if (g->vm.loop.epoll_fd < 0)
		return;
	/* Stopping makes the loop return after one round; two rounds: what one begins may end. */
	for (unsigned i = 0; i < 2; i++) {
		loop_stop(&g->vm.loop);
		must(loop_run(&g->vm.loop, &g->vm.lock) == 0);
		g->vm.loop.stopping = false;
	}
}
