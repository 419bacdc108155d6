/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of the embedded guest: start vsock, map memory, fill `pages=N` of it, say
 * READY, serve. Waiting is a read of the park port: the VMM looks at the queues
 * first and answers when it has used a buffer, so there are neither notifications nor interrupts.
 */
#include "arch/layout.h"
#include "guest/builtin/server.h"

#define PAGES_DEFAULT 64
#define FIRST_PORT    49152u

/* All that is written on a request's way, in the page of the stack's upper end. */
static struct guest guest __attribute__((section(".bss.hot")));
_Static_assert(sizeof(struct guest) <= PAGE_SIZE - 1408, "the hot page is full; see boot.S");

/* pages=N of the command line; a word that is not that is somebody else's. */
static COLD uint64_t cmdline_pages(uint64_t info)
{
	/* hvm_start_info.cmdline_paddr; without one, the zero at the end of the key is as good. */
	uint64_t text = ((const uint64_t *)info)[3];
	static const char key[] = "pages=";
	const uint8_t *at = text != 0 ? (const void *)text : (const void *)&key[sizeof(key) - 1];
	uint64_t value = PAGES_DEFAULT, found;
	uint32_t i, left;

	while (*at != '\0') {
		for (i = 0; key[i] != '\0' && at[i] == (uint8_t)key[i]; i++)
			;
		at += i;
		for (left = 0; at[left] != '\0' && at[left] != ' '; left++)
			;
		if (key[i] == '\0' && number_read(&at, &left, &found))
			value = found;
		at += left;
		while (*at == ' ')
			at++;
	}
	return value;
}

/* True: the packet's buffer is kept. */
static bool guest_packet(struct guest *g, const struct packet *packet)
{
	struct stream *s = vsock_match(&g->vsock, packet);
	uint16_t op = packet->header->op;

	if (s == NULL) {
		if (op == VSOCK_REQUEST && packet->header->dst_port == ECHO_PORT &&
		    packet->header->type == VSOCK_STREAM)
			echo_accept(g, packet);
		else
			vsock_refuse(&g->vsock, packet);
		return false;
	}
	if (s == &g->vsock.streams[STREAM_CHANNEL]) {
		if (op != VSOCK_RST)
			return channel_packet(g, s, packet);
		stream_free(&g->vsock, s);
		return false;
	}
	if (s == &g->vsock.streams[STREAM_OUTGOING])
		outgoing_packet(g, s, packet);
	else
		echo_packet(g, s, packet);
	return false;
}

/* One look at the rings. */
static void guest_turn(struct guest *g)
{
	struct packet packet;

	vsock_reap(&g->vsock);
	channel_pump(g);
	while (vsock_receive(&g->vsock, &packet)) {
		if (!guest_packet(g, &packet))
			vsock_give_back(&g->vsock, packet.buffer);
	}
	if (g->outgoing.active || g->vsock.streams[STREAM_OUTGOING].state != STREAM_FREE)
		outgoing_pump(g, &g->vsock.streams[STREAM_OUTGOING]);
	channel_pump(g);
	for (struct stream *s = &g->vsock.streams[STREAM_ECHO]; s < &g->vsock.streams[STREAM_COUNT];
	     s++) {
		if (s->state != STREAM_FREE)
			echo_pump(g, s);
	}
}

void guest_devices(void)
{
	vsock_start(&guest.vsock);
}

void guest_start(uint32_t info)
{
	struct guest *g = &guest;

	memory_init(&g->memory, info, cmdline_pages(info));
	g->next_port = FIRST_PORT;
	g->channel.retries = CHANNEL_RETRIES;
	if (g->vsock.cid != 0) {
		vsock_fill(&g->vsock);
		channel_connect(g);
		channel_pump(g);
	}
}

void guest_serve(void)
{
	for (;;) {
		port_read(LAYOUT_PORT_PARK);
		guest_turn(&guest);
	}
}
