/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The function channel: frames of a guest, right, cut, doubled and made up, in pieces, while the host
 * asks, cancels and is saved. What the guest is sent is frames again.
 */
#include "devices/channel/channel.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/lib/bytes.h"

#define PAYLOAD_MAX 300u

struct host {
	struct channel *channel;
	struct bytes in;
	uint64_t id;
	unsigned answers, broken;
};

static void on_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct host *h = opaque;

	must(type == CHANNEL_RESPONSE || type == CHANNEL_ERROR);
	must(len <= CHANNEL_PAYLOAD_MAX);
	bytes_read(data, len);
	h->answers++;
	if (len % 3 == 0)
		must(channel_request(h->channel, ++h->id, "next", 4, 0) <= 0);
}

static void on_log(void *opaque, const void *data, size_t len)
{
	(void)opaque;
	must(len > 0 && len <= 4096 && data);
}

static void on_broken(void *opaque, int err, const char *why)
{
	struct host *h = opaque;

	must(err > 0 && why && !channel_is_open(h->channel));
	h->broken++;
}

static void on_nothing(void *opaque)
{
	(void)opaque;
}

static struct channel *make(struct host *h)
{
	const struct channel_events events = {
		.ready = on_nothing,
		.answer = on_answer,
		.log = on_log,
		.quiesced = on_nothing,
		.broken = on_broken,
		.opaque = h,
	};
	struct channel *c = channel_new();

	must(c != NULL);
	channel_set_events(c, &events);
	channel_set_wake(c, on_nothing, NULL);
	return c;
}

static void receive(struct host *h, const void *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	must(copy != NULL);
	if (len)
		memcpy(copy, data, len);
	if (channel_is_open(h->channel) && channel_receive(h->channel, copy, len) < 0)
		must(!channel_is_open(h->channel));
	free(copy);
}

/* A frame whose header is right but for what `how` breaks of it. */
static void frame(struct host *h)
{
	struct {
		struct channel_header header;
		uint8_t payload[PAYLOAD_MAX];
	} f = { .header = { .magic = CHANNEL_MAGIC, .version = CHANNEL_VERSION } };
	uint8_t how = bytes_u8(&h->in);
	size_t len = bytes_u16(&h->in) % (PAYLOAD_MAX + 1);

	f.header.type = bytes_below(&h->in, 16);
	f.header.flags = how & 3;
	f.header.id = how & 4 ? h->id : bytes_u8(&h->in);
	f.header.length = (uint32_t)len;
	bytes_fill(&h->in, f.payload, len);
	if ((how & 0xf0) == 0x10)
		f.header.length = (uint32_t)bytes_odd(&h->in);
	if ((how & 0xf0) == 0x20)
		f.header.magic = bytes_u32(&h->in);
	receive(h, &f, sizeof(f.header) + len);
}

/* The guest takes what waits for it. */
static void consume(struct host *h, size_t most)
{
	const void *data;
	size_t len = channel_pending(h->channel, &data);

	if (len > most)
		len = most;
	bytes_read(data, len);
	channel_consume(h->channel, len);
}

/* Into another channel, as a clone has it. */
static void save_and_load(struct host *h, bool damage)
{
	struct blob saved = { 0 }, in;
	struct channel *next = make(h);

	channel_save(h->channel, &saved);
	must(!saved.failed);
	if (damage)
		bytes_damage(&h->in, saved.data, &saved.len);
	in = blob_reader(saved.data, saved.len);
	if (channel_load(next, &in) == 0 && !in.failed) {
		channel_free(h->channel);
		h->channel = next;
		channel_restored(next,
				 bytes_u8(&h->in) & 1 ? (const uint8_t *)"0123456789abcdef" : NULL);
	} else {
		must(damage);
		channel_free(next);
	}
	blob_fini(&saved);
}

static void act(struct host *h)
{
	uint8_t what = bytes_u8(&h->in);
	const uint8_t *data;
	size_t len;

	switch (what % 16) {
	case 0:
		channel_opened(h->channel);
		break;
	case 1:
		channel_closed(h->channel);
		break;
	case 2:
		data = bytes_take(&h->in, what, &len);
		channel_request(h->channel, ++h->id, data, len, what >> 4);
		break;
	case 3:
		data = bytes_take(&h->in, what >> 1, &len);
		channel_environment(h->channel, data, len);
		break;
	case 4:
		channel_cancel(h->channel);
		break;
	case 5:
		channel_quiesce(h->channel);
		break;
	case 6:
	case 7:
		save_and_load(h, what % 16 == 7);
		break;
	case 8:
		consume(h, bytes_u8(&h->in));
		break;
	case 9:
		data = bytes_take(&h->in, what, &len);
		receive(h, data, len);
		break;
	case 10:
		channel_wipe(h->channel);
		break;
	default:
		frame(h);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct host h = { .in = { data, size } };

	h.channel = make(&h);
	channel_opened(h.channel);
	while (h.in.left)
		act(&h);
	channel_free(h.channel);
	return 0;
}
