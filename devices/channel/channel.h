/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host end of the function channel: one stream over virtio-vsock that a guest
 * opens to CID 2, port CHANNEL_PORT, and that stays open across snapshot, restore
 * and clone. docs/function-channel.md is the protocol; this header its numbers.
 * The bytes travel through devices/virtio_vsock.c; here they become frames.
 */
#ifndef VIRGA_DEVICES_CHANNEL_CHANNEL_H
#define VIRGA_DEVICES_CHANNEL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/base/blob.h"
#include "arch/base/field.h"
#include "devices/channel/protocol.h"

struct vm;

/* What the owner of a request hears. Called with the VM lock held; data is valid for the call. */
struct channel_events {
	void (*ready)(void *opaque);
	/* The answer to the outstanding request. type: RESPONSE, or ERROR. */
	void (*answer)(void *opaque, enum channel_type type, const void *data, size_t len);
	/* The text of a LOG frame; of one longer than 4096 bytes, piece by piece. */
	void (*log)(void *opaque, const void *data, size_t len);
	void (*quiesced)(void *opaque);
	/*
	 * The channel is not open any more. err: ECONNRESET the guest closed it, EMSGSIZE an answer
	 * was too long, EPROTO it broke the protocol in another way, ENOMEM.
	 */
	void (*broken)(void *opaque, int err, const char *why);
	void *opaque;
};

struct channel; /* opaque: devices/channel/channel.c */

/* A closed channel without owner (all events NULL are ignored). NULL when out of memory. */
struct channel *channel_new(void);
void channel_free(struct channel *c);

void channel_set_events(struct channel *c, const struct channel_events *events);

/* Closes it without a word to the owner and forgets every byte that went through it. */
void channel_wipe(struct channel *c);

/* True between the guest's READY and the end of the channel; saved in snapshots. */
bool channel_ready(const struct channel *c);

/*
 * Sends a REQUEST and makes its id the outstanding one. data is copied. deadline_us: time the
 * guest has for it, 0 for no limit. -ENOTCONN without channel or READY, -EMSGSIZE over
 * CHANNEL_PAYLOAD_MAX, -EBUSY while another is outstanding, -ENOMEM; with a sentence.
 */
int channel_request(struct channel *c, uint64_t id, const void *data, size_t len,
		    uint64_t deadline_us);

/*
 * Sends ENVIRONMENT: variables for the requests that follow, in place of those sent before. data:
 * NAME=VALUE strings, each ended by a NUL byte; copied. -ENOTCONN without channel or READY, -E2BIG
 * over CHANNEL_ENVIRONMENT_MAX, -EINVAL when data is something else, -ENOMEM; with a sentence.
 */
int channel_environment(struct channel *c, const void *data, size_t len);

/* CANCEL for the outstanding request: its answer will be dropped and counted. */
void channel_cancel(struct channel *c);

/* Sends QUIESCE. -ENOTCONN when not ready. */
int channel_quiesce(struct channel *c);

/*
 * The machine was loaded from a snapshot: forgets the outstanding request (a late answer is
 * dropped and counted). Of a clone, generation_id is its new one, 16 bytes: if the guest's READY
 * asked for it (CHANNEL_FLAG_WANT_RESTORED), a RESTORED frame with it goes ahead of the first request. NULL for
 * the very machine that was snapshotted.
 */
void channel_restored(struct channel *c, const uint8_t *generation_id);

/* Answers dropped because their id was not outstanding, and frames of unknown type skipped. */
uint64_t channel_dropped(const struct channel *c);
uint64_t channel_skipped(const struct channel *c);

/* --- For devices/virtio_vsock.c only --- */

/* The guest opened / closed the stream; closing a closed one does nothing. */
void channel_opened(struct channel *c);
void channel_closed(struct channel *c);
bool channel_is_open(const struct channel *c);

/* Bytes from the guest, in order. A protocol error (-EPROTO) asks the caller to reset the stream. */
int channel_receive(struct channel *c, const void *data, size_t len);

/* Bytes waiting for the guest: at most max, at *data until the next call; consume what was sent. */
size_t channel_pending(const struct channel *c, const void **data);
void channel_consume(struct channel *c, size_t len);

/* Called (VM lock held) whenever bytes are added; set by the vsock device. */
void channel_set_wake(struct channel *c, void (*wake)(void *opaque), void *opaque);

/*
 * Parser, readiness, outstanding id and bytes not yet sent: the fields, then what they count. Their
 * version is that of the virtio_vsock device.
 */
extern const struct field channel_fields[];
void channel_save(const struct channel *c, struct blob *out);
int channel_load(struct channel *c, struct blob *in);

#endif
