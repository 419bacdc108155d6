/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets and streams over the two rings (virtio 1.2, 5.10.6). See vsock.h.
 */
#include "guest/builtin/vsock.h"

#define RX_BUFFER_SIZE 4096u
#define DESC_F_NEXT    1u

static uint8_t rx_buffers[QUEUE_SIZE][RX_BUFFER_SIZE] __attribute__((aligned(4096)));

/* The device reads the index after what it covers; x86 keeps stores in order. */
static void queue_publish(struct queue *q, uint16_t head)
{
	q->avail.ring[q->avail.idx % QUEUE_SIZE] = head;
	__atomic_store_n(&q->avail.idx, (uint16_t)(q->avail.idx + 1), __ATOMIC_RELEASE);
}

static bool queue_has_used(const struct queue *q)
{
	return __atomic_load_n(&q->used.idx, __ATOMIC_ACQUIRE) != (uint16_t)q->seen;
}

void vsock_give_back(struct vsock *v, uint16_t buffer)
{
	queue_publish(&v->rx, buffer);
}

void vsock_fill(struct vsock *v)
{
	for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
		v->rx.desc[i].addr = physical(rx_buffers[i]);
		v->rx.desc[i].len = RX_BUFFER_SIZE;
		v->rx.desc[i].flags = 2; /* the device writes */
		vsock_give_back(v, i);
	}
	v->slots_free = (1u << SEND_SLOTS) - 1;
}

void vsock_reap(struct vsock *v)
{
	while (queue_has_used(&v->tx)) {
		uint32_t slot = v->tx.used.ring[v->tx.seen++ % QUEUE_SIZE].id / 2 % SEND_SLOTS;
		struct stream *s = v->slot_stream[slot];

		v->slots_free |= 1u << slot;
		if (s != NULL) {
			s->in_flight--;
			s->sent_done += v->slot_len[slot];
		}
	}
}

bool vsock_receive(struct vsock *v, struct packet *packet)
{
	while (queue_has_used(&v->rx)) {
		uint32_t at = v->rx.seen++ % QUEUE_SIZE;
		uint32_t len = v->rx.used.ring[at].len;

		packet->buffer = (uint16_t)(v->rx.used.ring[at].id % QUEUE_SIZE);
		packet->header = (const void *)rx_buffers[packet->buffer];
		packet->data = rx_buffers[packet->buffer] + sizeof(struct vsock_header);
		if (len >= sizeof(struct vsock_header) && len <= RX_BUFFER_SIZE &&
		    packet->header->len <= len - sizeof(struct vsock_header)) {
			packet->len = packet->header->len;
			return true;
		}
		vsock_give_back(v, packet->buffer);
	}
	return false;
}

/* The header of a free slot, addressed but for ports; the caller has seen that there is one. */
static struct vsock_header *slot_header(struct vsock *v, uint32_t *slot, enum vsock_op op)
{
	struct vsock_header *h;

	*slot = (uint32_t)__builtin_ctz(v->slots_free);
	v->slots_free &= v->slots_free - 1;
	v->slot_stream[*slot] = NULL;
	h = (void *)v->slot_header[*slot];
	*h = (struct vsock_header){
		.src_cid = v->cid, .dst_cid = HOST_CID, .type = VSOCK_STREAM, .op = (uint16_t)op
	};
	return h;
}

static void slot_send(struct vsock *v, uint32_t slot, uint32_t prefix_len, const void *data,
		      uint32_t len)
{
	struct queue_descriptor *desc = &v->tx.desc[2 * slot];

	desc[0].addr = physical(v->slot_header[slot]);
	desc[0].len = (uint32_t)sizeof(struct vsock_header) + prefix_len;
	desc[0].flags = len > 0 ? DESC_F_NEXT : 0;
	desc[0].next = (uint16_t)(2 * slot + 1);
	desc[1].addr = physical(data);
	desc[1].len = len;
	queue_publish(&v->tx, (uint16_t)(2 * slot));
}

void vsock_refuse(struct vsock *v, const struct packet *packet)
{
	struct vsock_header *h;
	uint32_t slot;

	if (packet->header->op == VSOCK_RST || v->slots_free == 0)
		return;
	h = slot_header(v, &slot, VSOCK_RST);
	h->dst_cid = packet->header->src_cid;
	h->src_port = packet->header->dst_port;
	h->dst_port = packet->header->src_port;
	h->type = packet->header->type;
	slot_send(v, slot, 0, NULL, 0);
}

struct stream *vsock_match(struct vsock *v, const struct packet *packet)
{
	const struct vsock_header *h = packet->header;

	if (h->type != VSOCK_STREAM || h->src_cid != HOST_CID)
		return NULL;
	for (struct stream *s = v->streams; s < v->streams + STREAM_COUNT; s++) {
		if (s->state == STREAM_FREE || s->local_port != h->dst_port ||
		    s->peer_port != h->src_port)
			continue;
		s->peer_buf_alloc = h->buf_alloc;
		s->peer_forwarded = h->fwd_cnt;
		return s;
	}
	return NULL;
}

void stream_free(struct vsock *v, struct stream *s)
{
	for (uint32_t i = 0; i < SEND_SLOTS; i++) {
		if (v->slot_stream[i] == s)
			v->slot_stream[i] = NULL;
	}
	*s = (struct stream){ .state = STREAM_FREE };
}

void stream_connect(struct stream *s, uint32_t local_port, uint32_t peer_port, uint32_t buf_alloc)
{
	*s = (struct stream){
		.state = STREAM_CONNECTING,
		.local_port = local_port,
		.peer_port = peer_port,
		.buf_alloc = buf_alloc,
	};
	stream_want(s, VSOCK_REQUEST);
}

void stream_accept(struct stream *s, const struct packet *packet, uint32_t buf_alloc)
{
	stream_connect(s, packet->header->dst_port, packet->header->src_port, buf_alloc);
	s->state = STREAM_OPEN;
	s->wanted = 0;
	s->peer_buf_alloc = packet->header->buf_alloc;
	s->peer_forwarded = packet->header->fwd_cnt;
	stream_want(s, VSOCK_RESPONSE);
}

static struct vsock_header *stream_header(struct vsock *v, struct stream *s, uint32_t *slot,
					  enum vsock_op op)
{
	struct vsock_header *h = slot_header(v, slot, op);

	h->src_port = s->local_port;
	h->dst_port = s->peer_port;
	h->buf_alloc = s->buf_alloc;
	h->fwd_cnt = s->forwarded;
	s->told = s->forwarded;
	return h;
}

void stream_pump(struct vsock *v, struct stream *s)
{
	if (s->told != s->forwarded && s->received - s->told > s->buf_alloc / 2)
		stream_want(s, VSOCK_CREDIT_UPDATE);
	while (s->wanted != 0 && v->slots_free != 0) {
		uint32_t op = (uint32_t)__builtin_ctz(s->wanted), slot;
		struct vsock_header *h = stream_header(v, s, &slot, op);

		if (op == VSOCK_SHUTDOWN)
			h->flags = VSOCK_SHUTDOWN_RECV | VSOCK_SHUTDOWN_SEND;
		slot_send(v, slot, 0, NULL, 0);
		s->wanted &= (uint8_t)(s->wanted - 1);
		/* After a reset nothing else is said. */
		if (op == VSOCK_RST)
			stream_free(v, s);
	}
}

uint32_t stream_room(const struct vsock *v, const struct stream *s)
{
	uint32_t room = s->peer_buf_alloc - (s->sent - s->peer_forwarded);

	if (s->state != STREAM_OPEN || s->wanted != 0 || v->slots_free == 0 ||
	    s->sent - s->peer_forwarded >= s->peer_buf_alloc)
		return 0;
	return room < VSOCK_SEND_MAX ? room : VSOCK_SEND_MAX;
}

void stream_send(struct vsock *v, struct stream *s, const void *prefix, uint32_t prefix_len,
		 const void *data, uint32_t len)
{
	uint32_t slot;
	struct vsock_header *h = stream_header(v, s, &slot, VSOCK_RW);

	h->len = prefix_len + len;
	memcpy(h + 1, prefix, prefix_len);
	v->slot_stream[slot] = s;
	v->slot_len[slot] = h->len;
	s->sent += h->len;
	s->in_flight++;
	slot_send(v, slot, prefix_len, data, len);
}
