/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function channel whose guest is the test: what the host was told is counted, and frames are
 * put in and taken out by hand.
 */
#ifndef VIRGA_TESTS_UNIT_CHANNEL_FIXTURE_H
#define VIRGA_TESTS_UNIT_CHANNEL_FIXTURE_H

#include "devices/channel/channel.h"

#define CHANNEL_STREAM_MAX 8192

struct channel_seen {
	unsigned ready, answers, logs, quiesced, broken, wakes;
	enum channel_type type;
	uint8_t answer[CHANNEL_STREAM_MAX];
	size_t answer_len;
	char log[16384];
	size_t log_len;
	int err; /* of the last break */
	char why[80];
	bool ask_again; /* send the next request from the answer's callback */
};

extern struct channel_seen channel_seen;
extern struct channel *channel;

/* A channel that reports to channel_seen. */
struct channel *channel_make(void);

/* Of every test: a new `channel`, nothing seen. */
int channel_setup(void **state);
int channel_teardown(void **state);

/* Writes a frame; returns its length. */
size_t channel_frame(uint8_t *at, uint8_t type, uint8_t flags, uint64_t id, const void *data,
		     size_t len);

/* READY, an unknown frame, a log line, an answer to nothing; returns the length, under 256. */
size_t channel_script(uint8_t *bytes);

/* The guest sends a frame. 0 or -errno. */
int channel_say(uint8_t type, uint8_t flags, uint64_t id, const char *text);

/* The guest connects and is READY. */
void channel_open_ready(uint8_t flags);

/* The next frame that waits for the guest, and how many bytes do. */
struct channel_header channel_heard(char *text, size_t size);
size_t channel_bytes_pending(void);

#endif
