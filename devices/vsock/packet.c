/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of virtio-vsock connections, in and out (virtio 1.2, 5.10.6):
 * devices/vsock/vsock.h.
 */
#include "devices/vsock/vsock.h"

#include <errno.h>

#include "devices/channel/protocol.h"

/* --- Packets from the guest --- */

bool vsock_can_receive(const struct vsock *v)
{
	return v->reset_count < VSOCK_RESETS_MAX;
}

static void vsock_receive_request(struct vsock *v, const struct vsock_header *h)
{
	struct vsock_conn *c;

	if (h->dst_port == CHANNEL_PORT)
		c = vsock_conn_new_channel(v, h->src_port);
	else
		c = vsock_conn_new(v, h->dst_port, h->src_port);
	if (c) {
		c->guest_buf_alloc = h->buf_alloc;
		c->guest_fwd_cnt = h->fwd_cnt;
	}
	if (!c || !v->owner->connect(v->owner->opaque, c))
		vsock_refuse(v, h);
}

static void vsock_receive_data(struct vsock_conn *c, const struct vsock_header *h,
			       const struct iovec *iov, unsigned count)
{
	ssize_t done = (ssize_t)h->len;

	if (c->state != VSOCK_OPEN || (c->guest_shut & VSOCK_SHUT_SEND) ||
	    h->len > c->buf_alloc - (c->received - c->fwd_cnt)) {
		vsock_abort(c, false);
		return;
	}
	c->received += h->len;
	/* What crosses our SHUTDOWN on its way is dropped. */
	if (c->end && !(c->host_shut & VSOCK_SHUT_RCV) && h->len)
		done = c->end->write(c, iov, count);
	if (done == -EPIPE) {
		vsock_shut(c, VSOCK_SHUT_RCV);
		done = (ssize_t)(c->received - c->fwd_cnt);
	}
	if (done < 0)
		vsock_abort(c, false);
	else
		vsock_count_forwarded(c, (size_t)done);
}

/* 5.10.6.5: both directions shut are answered by RST, and the ports are free again. */
static void vsock_receive_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if (c->state != VSOCK_OPEN) {
		vsock_abort(c, false);
		return;
	}
	c->guest_shut |= (uint8_t)(flags & VSOCK_SHUT_BOTH);
	if (c->guest_shut == VSOCK_SHUT_BOTH)
		vsock_abort(c, true);
	else if (c->end)
		c->end->shutdown(c, c->guest_shut);
}

static void vsock_receive_response(struct vsock_conn *c)
{
	if (c->state != VSOCK_REQUESTING || (c->due & VSOCK_DUE_REQUEST)) {
		vsock_abort(c, false);
		return;
	}
	c->state = VSOCK_OPEN;
	c->end->opened(c);
}

static void vsock_receive_known(struct vsock_conn *c, const struct vsock_header *h,
				const struct iovec *iov, unsigned count)
{
	if (c->guest_buf_alloc != h->buf_alloc || c->guest_fwd_cnt != h->fwd_cnt)
		c->asked = 0;
	c->guest_buf_alloc = h->buf_alloc;
	c->guest_fwd_cnt = h->fwd_cnt;

	switch (h->op) {
	case VSOCK_OP_RST:
		/* After SHUTDOWN of both sides RST is only its confirmation. */
		vsock_free(c, c->guest_shut == VSOCK_SHUT_BOTH);
		return;
	case VSOCK_OP_RESPONSE:
		vsock_receive_response(c);
		break;
	case VSOCK_OP_SHUTDOWN:
		vsock_receive_shutdown(c, h->flags);
		break;
	case VSOCK_OP_RW:
		vsock_receive_data(c, h, iov, count);
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		c->due |= VSOCK_DUE_CREDIT;
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	default: /* REQUEST of ports that are in use, or no operation at all */
		vsock_abort(c, false);
	}
	vsock_update(c);
}

void vsock_receive(struct vsock *v, const struct vsock_header *h, const struct iovec *iov,
		   unsigned count)
{
	struct vsock_conn *c;

	if (h->src_cid != VSOCK_CID_GUEST)
		return;
	if (h->dst_cid != VSOCK_CID_HOST || h->type != VSOCK_TYPE_STREAM) {
		vsock_refuse(v, h);
		return;
	}
	c = vsock_find(v, h->dst_port, h->src_port);
	if (c && c->state != VSOCK_RESET)
		vsock_receive_known(c, h, iov, count);
	else if (c && h->op == VSOCK_OP_RST)
		vsock_free(c, true);
	else if (!c && h->op == VSOCK_OP_REQUEST)
		vsock_receive_request(v, h);
	else if (!c)
		vsock_refuse(v, h);
}

/* --- Packets for the guest --- */

/* The function channel first, then each in turn, beginning after the one served last. */
static struct vsock_conn *vsock_pick(struct vsock *v)
{
	if (v->due[0] & 1)
		return &v->conns[0];
	for (unsigned n = 0; n < v->top; n++) {
		unsigned i = (v->cursor + 1 + n) % v->top;

		if (v->due[i / 64] & 1ull << i % 64) {
			v->cursor = i;
			return &v->conns[i];
		}
	}
	return NULL;
}

static void vsock_header_fill(struct vsock_conn *c, struct vsock_header *h, enum vsock_op op)
{
	*h = (struct vsock_header){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = VSOCK_CID_GUEST,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
	};
	c->fwd_told = c->fwd_cnt;
	c->due &= (uint8_t)~VSOCK_DUE_CREDIT;
}

static bool vsock_next_reset(struct vsock *v, struct vsock_header *h)
{
	const struct vsock_reset *reset = &v->resets[v->reset_first];

	if (v->reset_count == 0)
		return false;
	*h = (struct vsock_header){
		.src_cid = reset->host_cid,
		.dst_cid = VSOCK_CID_GUEST,
		.src_port = reset->host_port,
		.dst_port = reset->guest_port,
		.type = (uint16_t)reset->type,
		.op = VSOCK_OP_RST,
	};
	v->reset_first = (v->reset_first + 1) % VSOCK_RESETS_MAX;
	v->reset_count--;
	return true;
}

/* Fills the list with what the end has and the guest's credit allows. */
static bool vsock_next_data(struct vsock_conn *c, struct vsock_header *h, struct iovec *iov,
			    unsigned count)
{
	size_t room = vsock_credit(c);
	unsigned n = 0;
	ssize_t got;

	for (; n < count && room > 0; n++) {
		if (iov[n].iov_len > room)
			iov[n].iov_len = room;
		room -= iov[n].iov_len;
	}
	got = c->end->read(c, iov, n);
	if (got > 0) {
		vsock_header_fill(c, h, VSOCK_OP_RW);
		h->len = (uint32_t)got;
		c->sent += (uint32_t)got;
		return true;
	}
	c->readable = false;
	if (got == 0 || got == -EPIPE)
		vsock_shut(c, got == 0 ? VSOCK_SHUT_SEND : VSOCK_SHUT_BOTH);
	else if (got != -EAGAIN)
		vsock_abort(c, false);
	return false;
}

/* One operation of those that are due; SHUTDOWN is last, behind the data. */
static bool vsock_next_op(struct vsock_conn *c, struct vsock_header *h, uint8_t due,
			  enum vsock_op op)
{
	if (!(c->due & due))
		return false;
	vsock_header_fill(c, h, op);
	c->due &= (uint8_t)~due;
	return true;
}

static bool vsock_next_of(struct vsock_conn *c, struct vsock_header *h, struct iovec *iov,
			  unsigned count)
{
	if (c->state != VSOCK_RESET) {
		if (vsock_next_op(c, h, VSOCK_DUE_REQUEST, VSOCK_OP_REQUEST) ||
		    vsock_next_op(c, h, VSOCK_DUE_RESPONSE, VSOCK_OP_RESPONSE))
			return true;
		if (c->readable && vsock_wants_data(c) && vsock_next_data(c, h, iov, count))
			return true;
	}
	if (c->state == VSOCK_RESET) {
		vsock_header_fill(c, h, VSOCK_OP_RST);
		vsock_free(c, true);
		return true;
	}
	if (vsock_next_op(c, h, VSOCK_DUE_SHUTDOWN, VSOCK_OP_SHUTDOWN)) {
		h->flags = c->host_shut;
		return true;
	}
	return vsock_next_op(c, h, VSOCK_DUE_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST) ||
	       vsock_next_op(c, h, VSOCK_DUE_CREDIT, VSOCK_OP_CREDIT_UPDATE);
}

bool vsock_next(struct vsock *v, struct vsock_header *h, struct iovec *iov, unsigned count)
{
	struct vsock_conn *c;

	if (!(v->due[0] & 1) && vsock_next_reset(v, h))
		return true;
	/* A connection that has nothing after all is not picked again: update clears its bit. */
	while ((c = vsock_pick(v)) != NULL) {
		bool found = vsock_next_of(c, h, iov, count);

		vsock_update(c);
		if (found)
			return true;
	}
	return false;
}
