/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of virtio-vsock connections (virtio 1.2, 5.10.6): devices/vsock/vsock.h. What
 * packets do to them is in devices/vsock/packet.c.
 */
#include "devices/vsock/vsock.h"

#include "devices/channel/protocol.h"

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

struct vsock_conn *vsock_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
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

void vsock_update(struct vsock_conn *c)
{
	struct vsock *v = c->vsock;
	unsigned i = vsock_conn_index(c);
	uint64_t bit = 1ull << i % 64;

	if (c->readable && vsock_may_send(c) && vsock_credit(c) == 0 && !c->asked) {
		c->asked = 1;
		c->due |= VSOCK_DUE_CREDIT_REQUEST;
	}
	if (c->state == VSOCK_RESET || c->due || (c->readable && vsock_wants_data(c)))
		v->due[i / 64] |= bit;
	else
		v->due[i / 64] &= ~bit;
	if (c->end && c->end->update)
		c->end->update(c);
}

bool vsock_has_output(const struct vsock *v)
{
	uint64_t due = v->reset_count;

	for (unsigned i = 0; i < VSOCK_CONNS_MAX / 64; i++)
		due |= v->due[i];
	return due != 0;
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

void vsock_free(struct vsock_conn *c, bool drain)
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

static void vsock_free_all(struct vsock *v, bool drain)
{
	for (unsigned i = v->top; i-- > 0;)
		vsock_free(&v->conns[i], drain);
	v->reset_count = 0;
}

void vsock_clear(struct vsock *v)
{
	vsock_free_all(v, true);
}

void vsock_drop(struct vsock *v)
{
	vsock_free_all(v, false);
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
void vsock_refuse(struct vsock *v, const struct vsock_header *h)
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

void vsock_abort(struct vsock_conn *c, bool drain)
{
	vsock_detach(c, drain);
	c->state = VSOCK_RESET;
	vsock_update(c);
}

void vsock_reset(struct vsock_conn *c)
{
	vsock_abort(c, false);
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

struct vsock_conn *vsock_conn_new_channel(struct vsock *v, uint32_t guest_port)
{
	struct vsock_conn *c = &v->conns[0];

	if (c->state != VSOCK_FREE)
		return NULL;
	vsock_conn_clear(v, c, CHANNEL_PORT, guest_port);
	return c;
}

/* A host port that no connection has; the table is much smaller than the range. */
static uint32_t vsock_new_port(struct vsock *v)
{
	for (;;) {
		uint32_t port = v->next_port;
		unsigned i = 0;

		v->next_port = port >= VSOCK_PORT_FIRST * 2 - 1 ? VSOCK_PORT_FIRST : port + 1;
		while (i < v->top &&
		       (v->conns[i].state == VSOCK_FREE || v->conns[i].host_port != port))
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

void vsock_shut(struct vsock_conn *c, unsigned flags)
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
void vsock_count_forwarded(struct vsock_conn *c, size_t len)
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
