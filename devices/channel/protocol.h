/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers of the function channel, shared by the VMM, the embedded guest and
 * the Linux agent (docs/function-channel.md). Freestanding: only <stdint.h>.
 * Everything is little-endian. These numbers are on the wire: never change one.
 */
#ifndef VIRGA_DEVICES_CHANNEL_PROTOCOL_H
#define VIRGA_DEVICES_CHANNEL_PROTOCOL_H

#include <stdint.h>

#define CHANNEL_PORT            1024u       /* vsock port on CID 2, ended by the VMM itself */
#define CHANNEL_MAGIC           0x47524956u /* "VIRG" */
#define CHANNEL_VERSION         1u
#define CHANNEL_PAYLOAD_MAX     (6u << 20) /* bytes of a whole message, its MORE frames summed */

/* Bytes of an ENVIRONMENT: half of what Linux takes as one string, so exec never fails of it. */
#define CHANNEL_ENVIRONMENT_MAX (64u << 10)

/* Frame header, 32 bytes, then `length` bytes of payload. */
struct channel_header {
	uint32_t magic;
	uint16_t version;
	uint8_t type;
	uint8_t flags;
	uint64_t id;
	uint32_t length;
	uint32_t reserved; /* 0 */
	uint64_t deadline; /* REQUEST: microseconds the guest has, 0 = no limit; else 0 */
};

enum channel_type {
	CHANNEL_READY = 1,    /* guest: initialised, will answer */
	CHANNEL_REQUEST = 2,  /* host: id, payload */
	CHANNEL_RESPONSE = 3, /* guest: the request's id, payload */
	CHANNEL_ERROR = 4,    /* guest: the request's id, payload is a sentence */
	CHANNEL_LOG = 5,      /* guest: text for the log; id of the request or 0 */
	CHANNEL_QUIESCE = 6,  /* host: finish what is in flight, then say QUIESCED */
	CHANNEL_QUIESCED = 7, /* guest */
	CHANNEL_RESTORED = 8, /* host: you are a restored machine; payload: generation id */
	CHANNEL_CANCEL = 9,   /* host: the request's id; nobody waits for its answer */
	/* host: NAME=VALUE strings, each ended by a NUL byte, in place of those that came before */
	CHANNEL_ENVIRONMENT = 10,
};

#define CHANNEL_FLAG_MORE          0x01u /* the message goes on in the next frame of this type and id */
#define CHANNEL_FLAG_WANT_RESTORED 0x02u /* READY: send me RESTORED before the first request */

#endif
