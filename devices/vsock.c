/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio-vsock connections (virtio 1.2, 5.10.6): devices/vsock.h.
 */
#include "devices/vsock.h"

#include <errno.h>

#include "devices/channel_protocol.h"

/* --- The table --- */

void vsock_init(struct vsock *v, const struct vsock_owner *owner)
{
	v->owner = owner;
	v->next_port = VSOCK_PORT_FIRST;
	v->top = 1;
	v->conns[0].vsock = v;
}

unsigned vsock_conn_index(const struct vsock_conn *c)
{
	return (unsigned)(c - c->vsock->conns);
}

static struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	for (unsigned i = 0; i < v->top; i++) {
		struct vsock_conn *c = &v->conns[i];

		if (c->state != VSOCK_FREE && c->guest_port == guest_port &&
		    c->host_port == host_port)
			return c;
	}
	return NULL;
}

uint32_t vsock_credit(const struct vsock_conn *c)
{
	uint32_t flight = c->sent - c->guest_fwd_cnt;

	return flight < c->guest_buf_alloc ? c->guest_buf_alloc - flight : 0;
}

static bool vsock_may_send(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && c->end && !(c->guest_shut & VSOCK_SHUT_RCV) &&
	       !(c->host_shut & VSOCK_SHUT_SEND);
}

bool vsock_wants_data(const struct vsock_conn *c)
{
	return vsock_may_send(c) && vsock_credit(c) != 0;
}

/* Every change of a connection ends here: is there something to send, and does the end know. */
static void vsock_update(struct vsock_conn *c)
{
	struct vsock *v = c->vsock;
	unsigned i = vsock_conn_index(c);
	uint64_t bit = 1ull << i % 64;

	if (c->readable && vsock_may_send(c) && vsock_credit(c) == 0 && !c->asked) {
		c->asked = true;
		c->due |= VSOCK_DUE_CREDIT_REQUEST;
	}
	if (c->state == VSOCK_RESET || c->due || (c->readable && vsock_wants_data(c)))
		v->due[i / 64] |= bit;
	else
		v->due[i / 64] &= ~bit;
	if (c->end && c->end->update)
		c->end->update(c);
}

static void vsock_changed(struct vsock_conn *c)
{
	vsock_update(c);
	if (vsock_has_output(c->vsock))
		c->vsock->owner->wake(c->vsock->owner->opaque);
}

/* Lets go of the end; `drain`: what the guest has sent still reaches the host. */
static void vsock_detach(struct vsock_conn *c, bool drain)
{
	const struct vsock_end *end = c->end;

	c->readable = false;
	c->due = 0;
	if (end && !end->close(c, drain))
		c->end = NULL;
}

static void vsock_free(struct vsock_conn *c, bool drain)
{
	struct vsock *v = c->vsock;

	c->state = VSOCK_FREE;
	vsock_detach(c, drain);
	vsock_update(c);
	while (v->top > 1 && v->conns[v->top - 1].state == VSOCK_FREE && !v->conns[v->top - 1].end)
		v->top--;
}

void vsock_drained(struct vsock_conn *c)
{
	c->end = NULL;
	if (c->state == VSOCK_FREE)
		vsock_free(c, false);
}

void vsock_clear(struct vsock *v)
{
	for (unsigned i = v->top; i-- > 0;)
		vsock_free(&v->conns[i], true);
	v->reset_count = 0;
}

void vsock_restored(struct vsock *v)
{
	for (unsigned i = 0; i < v->top; i++) {
		v->conns[i].readable = v->conns[i].end != NULL;
		vsock_update(&v->conns[i]);
	}
}

static void vsock_conn_clear(struct vsock *v, struct vsock_conn *c, uint32_t host_port,
			     uint32_t guest_port)
{
	*c = (struct vsock_conn){
		.vsock = v,
		.host_port = host_port,
		.guest_port = guest_port,
		.buf_alloc = VSOCK_BUF_ALLOC,
	};
}

/* --- Resets --- */

static void vsock_add_reset(struct vsock *v, const struct vsock_reset *reset)
{
	if (v->reset_count == VSOCK_RESETS_MAX)
		return;
	v->resets[(v->reset_first + v->reset_count++) % VSOCK_RESETS_MAX] = *reset;
}

/* RST is never answered by RST (5.10.6.1). */
static void vsock_refuse(struct vsock *v, const struct vsock_header *h)
{
	struct vsock_reset reset = {
		.host_cid = (uint32_t)h->dst_cid,
		.host_port = h->dst_port,
		.guest_port = h->src_port,
		.type = h->type,
	};

	if (h->op != VSOCK_OP_RST)
		vsock_add_reset(v, &reset);
}

/* Our side is over; the guest learns it by the next packet. */
static void vsock_end_conn(struct vsock_conn *c, bool drain)
{
	vsock_detach(c, drain);
	c->state = VSOCK_RESET;
	vsock_update(c);
}

void vsock_reset(struct vsock_conn *c)
{
	vsock_end_conn(c, false);
	vsock_changed(c);
}

/* --- New connections --- */

/* A connection whose host side has gone and whose guest does not care to say RST. */
static bool vsock_evict(struct vsock *v)
{
	for (unsigned i = 1; i < VSOCK_CONNS_MAX && v->reset_count < VSOCK_RESETS_MAX; i++) {
		struct vsock_conn *c = &v->conns[i];

		if (c->state == VSOCK_OPEN && !c->end && !c->due) {
			struct vsock_reset reset = { VSOCK_CID_HOST, c->host_port, c->guest_port,
						     VSOCK_TYPE_STREAM };

			vsock_add_reset(v, &reset);
			vsock_free(c, false);
			return true;
		}
	}
	return false;
}

struct vsock_conn *vsock_conn_new(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	do {
		for (unsigned i = 1; i < VSOCK_CONNS_MAX; i++) {
			struct vsock_conn *c = &v->conns[i];

			if (c->state != VSOCK_FREE || c->end)
				continue;
			vsock_conn_clear(v, c, host_port, guest_port);
			if (v->top <= i)
				v->top = i + 1;
			return c;
		}
	} while (vsock_evict(v));
	return NULL;
}

/* A host port that no connection has; the table is much smaller than the range. */
static uint32_t vsock_new_port(struct vsock *v)
{
	for (;;) {
		uint32_t port = v->next_port;
		unsigned i = 0;

		v->next_port = port >= VSOCK_PORT_FIRST * 2 - 1 ? VSOCK_PORT_FIRST : port + 1;
		while (i < v->top && (v->conns[i].state == VSOCK_FREE ||
				      v->conns[i].host_port != port))
			i++;
		if (i == v->top)
			return port;
	}
}

struct vsock_conn *vsock_conn_new_host(struct vsock *v, uint32_t guest_port)
{
	if (!v->owner->has_driver(v->owner->opaque))
		return NULL;
	return vsock_conn_new(v, vsock_new_port(v), guest_port);
}

void vsock_request(struct vsock_conn *c, const struct vsock_end *end)
{
	c->end = end;
	c->state = VSOCK_REQUESTING;
	c->due = VSOCK_DUE_REQUEST;
	vsock_changed(c);
}

void vsock_accept(struct vsock_conn *c, const struct vsock_end *end)
{
	c->end = end;
	c->state = VSOCK_OPEN;
	c->due = VSOCK_DUE_RESPONSE;
	vsock_changed(c);
}

/* --- What ends report --- */

void vsock_readable(struct vsock_conn *c)
{
	c->readable = true;
	vsock_changed(c);
}

static void vsock_shut(struct vsock_conn *c, unsigned flags)
{
	if ((c->host_shut | flags) == c->host_shut)
		return;
	c->host_shut |= (uint8_t)flags;
	c->due |= VSOCK_DUE_SHUTDOWN;
	if (c->host_shut == VSOCK_SHUT_BOTH && c->end && !c->end->close(c, false))
		c->end = NULL;
}

void vsock_host_shutdown(struct vsock_conn *c, unsigned flags)
{
	vsock_shut(c, flags);
	vsock_changed(c);
}

/*
 * Half a buffer of news is worth a packet; any other packet carries it for nothing. The smaller
 * buffer counts: today's Linux never has more in flight than its own, and never asks.
 */
static void vsock_count_forwarded(struct vsock_conn *c, size_t len)
{
	uint32_t window = c->guest_buf_alloc < c->buf_alloc ? c->guest_buf_alloc : c->buf_alloc;

	c->fwd_cnt += (uint32_t)len;
	if (c->fwd_cnt - c->fwd_told >= window / 2)
		c->due |= VSOCK_DUE_CREDIT;
}

void vsock_forwarded(struct vsock_conn *c, size_t len)
{
	if (c->state != VSOCK_OPEN)
		return;
	vsock_count_forwarded(c, len);
	vsock_changed(c);
}

/* --- Packets from the guest --- */

bool vsock_can_receive(const struct vsock *v)
{
	return v->reset_count < VSOCK_RESETS_MAX;
}

static void vsock_receive_request(struct vsock *v, const struct vsock_header *h)
{
	struct vsock_conn *c;

	if (h->dst_port == CHANNEL_PORT) {
		c = &v->conns[0];
		if (c->state == VSOCK_FREE)
			vsock_conn_clear(v, c, h->dst_port, h->src_port);
		else
			c = NULL;
	} else {
		c = vsock_conn_new(v, h->dst_port, h->src_port);
	}
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
		vsock_end_conn(c, false);
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
		vsock_end_conn(c, false);
	else
		vsock_count_forwarded(c, (size_t)done);
}

/* 5.10.6.5: both directions shut are answered by RST, and the ports are free again. */
static void vsock_receive_shutdown(struct vsock_conn *c, uint32_t flags)
{
	if (c->state != VSOCK_OPEN) {
		vsock_end_conn(c, false);
		return;
	}
	c->guest_shut |= (uint8_t)(flags & VSOCK_SHUT_BOTH);
	if (c->guest_shut == VSOCK_SHUT_BOTH)
		vsock_end_conn(c, true);
	else if (c->end)
		c->end->shutdown(c, c->guest_shut);
}

static void vsock_receive_response(struct vsock_conn *c)
{
	if (c->state != VSOCK_REQUESTING || (c->due & VSOCK_DUE_REQUEST)) {
		vsock_end_conn(c, false);
		return;
	}
	c->state = VSOCK_OPEN;
	c->end->opened(c);
}

static void vsock_receive_known(struct vsock_conn *c, const struct vsock_header *h,
				const struct iovec *iov, unsigned count)
{
	if (c->guest_buf_alloc != h->buf_alloc || c->guest_fwd_cnt != h->fwd_cnt)
		c->asked = false;
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
		vsock_end_conn(c, false);
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

bool vsock_has_output(const struct vsock *v)
{
	uint64_t due = v->reset_count;

	for (unsigned i = 0; i < VSOCK_CONNS_MAX / 64; i++)
		due |= v->due[i];
	return due != 0;
}

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
		vsock_end_conn(c, false);
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
