/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests by which tests see whether a host puts up with any guest: it says too
 * much, too often, something else, too late or nothing, or leaves marks (the list: commands.c).
 * Frames are put together in scratch memory, as many as a packet takes, and sent from there.
 */
#include "arch/layout.h"
#include "guest/builtin/paging.h"
#include "guest/builtin/server.h"

#define GARBAGE    "This is no frame of the function channel."
#define FLOOD_LEN  4000u
#define BIG_PART   65024u /* payload of a frame: whole periods of the pattern; a packet takes it */
#define MARK_LEN   16u
#define MARK_PAGES 16u
#define REMAP_PAGE 100u /* of scratch: a page table, page A, page B */

/* Begins a frame and gives the place of its payload; NULL: there is no room and ERROR was said. */
static uint8_t *frame_begin(struct guest *g, const struct request *r, enum channel_type type,
			    uint64_t id, uint32_t len)
{
	struct channel_header *frame = (void *)g->memory.scratch;
	uint64_t size = g->memory.scratch_count * PAGE_SIZE;

	if (size < VSOCK_SEND_MAX || len > size - sizeof(*frame)) {
		channel_error(g, r->id, "this guest has no memory left for such a frame");
		return NULL;
	}
	*frame = (struct channel_header){
		.magic = CHANNEL_MAGIC,
		.version = CHANNEL_VERSION,
		.type = (uint8_t)type,
		.id = id,
		.length = len,
	};
	return (uint8_t *)(frame + 1);
}

/* Sends the frame `count` times and then what channel.last says. */
static void frame_send(struct guest *g, uint64_t count)
{
	const struct channel_header *frame = (void *)g->memory.scratch;
	uint32_t size = (uint32_t)sizeof(*frame) + frame->length, fit = VSOCK_SEND_MAX / size, n;
	uint8_t *block = (void *)g->memory.scratch;
	struct channel *c = &g->channel;

	if (count == 0) {
		hostile_last(g);
		return;
	}
	if (fit > count)
		fit = (uint32_t)count;
	if (fit == 0)
		fit = 1;
	for (n = 1; n < fit; n++)
		memcpy(block + n * size, block, size);
	/* The first time as many as leave a multiple of the block. */
	n = (uint32_t)((count - 1) % fit) + 1;
	c->block = block;
	c->block_len = fit * size;
	c->again = (count - n) / fit;
	channel_bytes(g, block + (fit - n) * size, n * size);
}

void hostile_last(struct guest *g)
{
	struct last *last = &g->channel.last;

	last->due = false;
	spin_us(last->delay_us);
	channel_answer(g, CHANNEL_RESPONSE, last->id, last->data, last->len);
}

void command_log(struct guest *g, const struct request *r)
{
	uint8_t *text = frame_begin(g, r, CHANNEL_LOG, r->id, r->len);

	if (text == NULL)
		return;
	memcpy(text, r->text, r->len);
	g->channel.last = (struct last){ .due = true, .id = r->id };
	frame_send(g, r->number);
}

void command_flood(struct guest *g, const struct request *r)
{
	uint8_t *text = frame_begin(g, r, CHANNEL_LOG, r->id, FLOOD_LEN);

	if (text == NULL)
		return;
	memset(text, 'f', FLOOD_LEN - 1);
	text[FLOOD_LEN - 1] = '\n';
	g->channel.last = (struct last){ .due = true, .id = r->id };
	frame_send(g, r->number);
}

void command_twice(struct guest *g, const struct request *r)
{
	uint8_t *text = frame_begin(g, r, CHANNEL_RESPONSE, r->id, r->len);

	if (text == NULL)
		return;
	memcpy(text, r->text, r->len);
	frame_send(g, 2);
}

void command_late(struct guest *g, const struct request *r)
{
	uint8_t *text;

	if (r->number > SPIN_MAX_US) {
		channel_error(g, r->id, "late: 600000000 us at most");
		return;
	}
	text = frame_begin(g, r, CHANNEL_RESPONSE, ~r->id, r->len);
	if (text == NULL)
		return;
	memcpy(text, r->text, r->len);
	g->channel.last = (struct last){
		.due = true, .id = r->id, .data = text, .len = r->len, .delay_us = r->number
	};
	frame_send(g, 1);
}

void command_big(struct guest *g, const struct request *r)
{
	uint8_t *text = frame_begin(g, r, CHANNEL_RESPONSE, r->id, BIG_PART);

	if (text == NULL)
		return;
	((struct channel_header *)(void *)g->memory.scratch)->flags = CHANNEL_FLAG_MORE;
	for (uint32_t i = 0; i < BIG_PART; i++)
		text[i] = (uint8_t)i;
	g->channel.last = (struct last){
		.due = true, .id = r->id, .data = text, .len = (uint32_t)(r->number % BIG_PART)
	};
	frame_send(g, r->number / BIG_PART);
}

void command_garbage(struct guest *g, const struct request *r)
{
	(void)r;
	channel_bytes(g, GARBAGE, sizeof(GARBAGE));
}

void command_close(struct guest *g, const struct request *r)
{
	(void)r;
	stream_want(&g->vsock.streams[STREAM_CHANNEL], VSOCK_SHUTDOWN);
}

void command_mute(struct guest *g, const struct request *r)
{
	(void)g;
	(void)r;
	for (;;)
		port_read(LAYOUT_PORT_PARK);
}

void command_hang(struct guest *g, const struct request *r)
{
	(void)g;
	(void)r;
	for (;;)
		__builtin_ia32_pause();
}

/*
 * Whether ring 3 may use ymm registers: CPUID says OSXSAVE and AVX, and XCR0 has them. Some KVMs let
 * it; boot.S does not ask, because with CR4.OSXSAVE others exchange XCR0 at every exit.
 */
static bool avx_usable(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if ((c & 0x18000000) != 0x18000000)
		return false;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (a & 6) == 6;
}

/* Nothing of this guest is compiled to use them, so they keep it. */
static void mark_vectors(const uint8_t *mark)
{
	if (avx_usable())
		__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
				 "vbroadcastf128 (%0), %%ymm\\n\n"
				 ".endr"
				 :
				 : "r"(mark)
				 : "memory");
	else
		__asm__ volatile(".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
				 "movdqu (%0), %%xmm\\n\n"
				 ".endr"
				 :
				 : "r"(mark)
				 : "memory");
}

/*
 * All general registers but rsp hold halves of the mark when the host next looks at the rings,
 * which is when it sees the answer.
 */
static void mark_registers(uint64_t low, uint64_t high)
{
	__asm__ volatile("push %%rbp\n"
			 "mov %%rax, %%rcx\n	mov %%rdx, %%rbx\n"
			 "mov %%rax, %%rsi\n	mov %%rdx, %%rdi\n"
			 "mov %%rdx, %%rbp\n"
			 "mov %%rax, %%r8\n	mov %%rdx, %%r9\n"
			 "mov %%rax, %%r10\n	mov %%rdx, %%r11\n"
			 "mov %%rax, %%r12\n	mov %%rdx, %%r13\n"
			 "mov %%rax, %%r14\n	mov %%rdx, %%r15\n"
			 "in %2, %%al\n"
			 "pop %%rbp"
			 : "+a"(low), "+d"(high)
			 : "n"(LAYOUT_PORT_PARK)
			 : "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
			   "r14", "r15", "memory");
}

void command_mark(struct guest *g, const struct request *r)
{
	uint64_t mark[MARK_LEN / 8];

	if (r->len != MARK_LEN || g->memory.scratch_count < MARK_PAGES) {
		channel_error(g, r->id, "mark: a text of 16 bytes is meant, and 16 free pages");
		return;
	}
	memcpy(mark, r->text, MARK_LEN);
	for (uint64_t i = 0; i < MARK_PAGES * PAGE_SIZE / 8; i++)
		g->memory.scratch[i] = mark[i % 2];
	mark_vectors((const uint8_t *)mark);
	channel_answer(g, CHANNEL_RESPONSE, r->id, NULL, 0);
	channel_pump(g);
	mark_registers(mark[0], mark[1]);
}

void command_remap(struct guest *g, const struct request *r)
{
	uint8_t *table = (uint8_t *)g->memory.scratch + REMAP_PAGE * PAGE_SIZE, *page;
	volatile char *at;

	if (r->number > 3 || g->memory.scratch_count < REMAP_PAGE + 3) {
		channel_error(g, r->id, "remap: 0 to 3 is meant, and 103 free pages");
		return;
	}
	at = memory_link(r->number == 3 ? NULL : table);
	if (at == NULL) {
		channel_error(g, r->id, "remap: a guest of less than 1 GiB is meant");
		return;
	}
	if (r->number == 0) {
		table[PAGE_SIZE] = 'A';
		table[2 * PAGE_SIZE] = 'B';
		channel_answer(g, CHANNEL_RESPONSE, r->id, NULL, 0);
		return;
	}
	/* The entry was never present, so the CPU has no need to be told (Intel SDM 3A, 4.10.2.3). */
	page = table + r->number * PAGE_SIZE;
	if (r->number < 3)
		__atomic_store_n((uint64_t *)(void *)table, physical(page) | PAGING_PAGE,
				 __ATOMIC_SEQ_CST);
	g->reply[0] = *at;
	channel_answer(g, CHANNEL_RESPONSE, r->id, g->reply, 1);
}
