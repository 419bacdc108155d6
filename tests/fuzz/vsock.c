/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device by its packets: a driver whose rings are right sends whatever it likes, while the
 * host accepts, refuses, reads, writes and hangs up, and the machine is saved and goes on in another.
 * Every packet to the guest is right (vsock_guest.c looks at its lengths).
 */
/* wrap: vm_irq vm_irq_want vm_wake vm_poll_add */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/devices/vsock/vsock_guest.h"

#define PEERS_MAX  6u
#define GUESTS_MAX 3u

struct bed {
	struct vsock_guest guests[GUESTS_MAX]; /* those before the last were saved */
	unsigned count;
	struct bytes in;
	int peers[PEERS_MAX]; /* the host's ends of connections; -1 */
	uint64_t id;
	bool damaged;  /* the state that the last guest came from */
	char path[64]; /* where clients of the host connect; "": nowhere */
};

static struct vsock_guest *guest(struct bed *b)
{
	return &b->guests[b->count - 1];
}

static bool make(struct bed *b)
{
	struct vsock_guest *g = &b->guests[b->count++];

	if (b->path[0])
		unlink(b->path);
	guest_create(g, b->path[0] ? b->path : NULL);
	return guest_devices(g) == 0;
}

static uint32_t port(struct bed *b)
{
	static const uint32_t ports[] = {
		CHANNEL_PORT,     GUEST_CHANNEL_PORT,  GUEST_HOST_PORT, 1, 2, 3,
		VSOCK_PORT_FIRST, VSOCK_PORT_FIRST + 1
	};
	uint8_t which = bytes_u8(&b->in);

	return which < 0xf0 ? ports[which & 7] : (uint32_t)bytes_odd(&b->in);
}

/* Into the ring without a kick: a header of the fuzzer's, and bytes that are or are not as many. */
static void packet(struct bed *b)
{
	struct vsock_guest *g = guest(b);
	uint8_t how = bytes_u8(&b->in);
	struct vsock_header h = {
		.src_cid = VSOCK_CID_GUEST,
		.dst_cid = VSOCK_CID_HOST,
		.type = VSOCK_TYPE_STREAM,
		.op = bytes_below(&b->in, 9),
		.buf_alloc = g->buf_alloc,
		.fwd_cnt = g->fwd_cnt,
	};
	uint8_t data[512];
	uint16_t i = (uint16_t)(2 * (g->tx.avail_idx % (GUEST_SIZE / 2)));
	uint64_t at = 0x200000u + (uint64_t)i * 0x1000u;
	size_t len = how & 1 ? bytes_u16(&b->in) % sizeof(data) : 0;

	h.src_port = port(b);
	h.dst_port = port(b);
	h.len = (uint32_t)len;
	h.flags = how & 2 ? bytes_below(&b->in, 4) : 0;
	if (how & 4)
		h.buf_alloc = g->buf_alloc = (uint32_t)bytes_odd(&b->in);
	if (how & 8)
		h.fwd_cnt = g->fwd_cnt = (uint32_t)bytes_odd(&b->in);
	if ((how & 0xf0) == 0x10)
		h.len = (uint32_t)bytes_odd(&b->in);
	if ((how & 0xf0) == 0x20)
		h.type = bytes_below(&b->in, 4);
	if ((how & 0xf0) == 0x30)
		h.src_cid = bytes_odd(&b->in);
	if ((how & 0xf0) == 0x40)
		h.dst_cid = bytes_odd(&b->in);
	bytes_fill(&b->in, data, len);
	memory_write(&g->vm.memory, at, &h, sizeof(h));
	memory_write(&g->vm.memory, at + sizeof(h), data, len);
	ring_desc(&g->tx, i, at, sizeof(h), len ? RING_NEXT : 0, (uint16_t)(i + 1));
	ring_desc(&g->tx, i + 1u, at + sizeof(h), (uint32_t)len, 0, 0);
	ring_offer(&g->tx, i);
}

/* Where a device of a damaged state writes is not where this driver reads. */
static void receive(struct bed *b, unsigned most)
{
	struct vsock_header h;
	uint8_t data[GUEST_BUFFER];

	while (!b->damaged && most-- && guest_receive(guest(b), &h, data))
		must(h.dst_cid == VSOCK_CID_GUEST);
}

static int *free_peer(struct bed *b)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (b->peers[i] < 0)
			return &b->peers[i];
	close(b->peers[0]);
	b->peers[0] = -1;
	return &b->peers[0];
}

/* The supervisor's answer, to what was asked last or to anything. */
static void answer(struct bed *b, uint8_t how)
{
	struct vsock_guest *g = guest(b);
	uint64_t id = how & 1 ? bytes_u16(&b->in) : g->question_id;
	int pair[2] = { -1, -1 }, *peer = free_peer(b);

	if (id >> DEVICE_ASK_BITS >= g->devices.count)
		return;
	if (!(how & 2)) {
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
		*peer = pair[1];
	}
	devices_answered(&g->devices, id, how & 2 ? ECONNREFUSED : 0, pair[0]);
}

/* A client of the host, which says the port that it wants, or anything. */
static void client(struct bed *b, uint8_t how)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int *peer = free_peer(b);
	char text[64];
	size_t len;
	const uint8_t *data;

	if (!b->path[0])
		return;
	strcpy(addr.sun_path, b->path);
	*peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(*peer >= 0);
	if (connect(*peer, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return; /* more of them wait than may */
	len = (size_t)snprintf(text, sizeof(text), "CONNECT %u\n", how & 3);
	data = (const uint8_t *)text;
	if (how & 4)
		data = bytes_take(&b->in, how >> 3, &len);
	must(send(*peer, data, len, MSG_NOSIGNAL) >= -1);
}

static void peer_acts(struct bed *b, uint8_t how)
{
	int *peer = &b->peers[how % PEERS_MAX];
	char data[2048] = { 0 };

	if (*peer < 0)
		return;
	switch (how >> 5) {
	case 0:
		close(*peer);
		*peer = -1;
		break;
	case 1:
		shutdown(*peer, SHUT_WR);
		break;
	case 2:
		shutdown(*peer, SHUT_RD);
		break;
	case 3:
	case 4:
		must(recv(*peer, data, sizeof(data), MSG_DONTWAIT) >= -1);
		break;
	default:
		must(send(*peer, data, bytes_u8(&b->in) * 8u, MSG_DONTWAIT | MSG_NOSIGNAL) >= -1);
	}
}

/* It goes on in another machine, from what was saved, perhaps damaged. */
static void move(struct bed *b, bool damage)
{
	struct vsock_guest *from = guest(b), *to;
	struct blob saved = { 0 };
	struct memory memory;

	if (b->count == GUESTS_MAX)
		return;
	devices_stop(&from->devices);
	must(device_save(guest_device(from), &saved) == 0 && !saved.failed);
	must(make(b));
	to = guest(b);
	memory = to->vm.memory;
	to->vm.memory = from->vm.memory;
	from->vm.memory = memory;
	to->rx = from->rx;
	to->tx = from->tx;
	to->rx.memory = to->tx.memory = &to->vm.memory;
	to->buf_alloc = from->buf_alloc;
	to->fwd_cnt = from->fwd_cnt;
	b->damaged |= damage;
	if (damage)
		bytes_damage(&b->in, saved.data, &saved.len);
	if (device_load(guest_device(to), 1, saved.data, saved.len) < 0) {
		must(damage);
		b->in.left = 0; /* no such machine is used */
	} else {
		devices_start(&to->devices);
	}
	blob_fini(&saved);
}

static void act(struct bed *b)
{
	uint8_t what = bytes_u8(&b->in), arg = bytes_u8(&b->in);
	struct vsock_guest *g = guest(b);

	switch (what & 15) {
	case 0:
		guest_turn(g);
		break;
	case 1:
		receive(b, arg);
		break;
	case 2:
		g->hold_rx = arg & 1;
		g->refuse = arg & 2 ? -EIO : 0;
		break;
	case 3:
		answer(b, arg);
		break;
	case 4:
	case 5:
		peer_acts(b, arg);
		break;
	case 6:
		if (channel_request(g->channel, ++b->id, "what", arg & 3, 0) == 0 && arg & 64)
			channel_cancel(g->channel);
		break;
	case 7:
		if (arg >= 0xe0)
			move(b, arg & 1);
		else
			guest_offer_rx(g, arg & 3);
		break;
	case 8:
		guest_kick(g);
		break;
	case 9:
		if (arg == 0)
			guest_put(g, 0x070, 0);
		else
			client(b, arg);
		break;
	default:
		packet(b);
		if (arg & 1)
			guest_kick(g);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bed b;
	uint8_t how;

	b.count = 0;
	b.damaged = false;
	b.in = (struct bytes){ data, size };
	for (unsigned i = 0; i < PEERS_MAX; i++)
		b.peers[i] = -1;
	how = bytes_u8(&b.in);
	b.path[0] = 0;
	if (how & 2)
		snprintf(b.path, sizeof(b.path), "/dev/shm/virga-fuzz.%d.vsock", (int)getpid());
	must(make(&b));
	devices_start(&b.guests[0].devices);
	guest_bring_up(&b.guests[0], how & 1);
	while (b.in.left)
		act(&b);
	for (unsigned i = 0; i < b.count; i++)
		guest_destroy(&b.guests[i]);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (b.peers[i] >= 0)
			close(b.peers[i]);
	if (b.path[0])
		unlink(b.path);
	return 0;
}
