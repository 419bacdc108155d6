/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent at work: one request at a time, by a command for each or by a handler
 * process that stays. One thread, one poll loop (agent.c) that calls what is here.
 */
#ifndef VIRGA_GUEST_AGENT_SERVE_H
#define VIRGA_GUEST_AGENT_SERVE_H

#include "guest/agent/channel.h"
#include "guest/agent/environment.h"
#include "guest/agent/worker.h"

/* Ahead of each message to and from a handler, little-endian (docs/function-channel.md). */
struct handler_header {
	uint32_t length; /* of the bytes that follow */
	uint32_t id;     /* of a request, and of the answer to it; 0: the handler is ready */
};

/* What was asked for on the command lines. */
struct options {
	char **argv;  /* the command or handler; NULL: /bin/sh -c REQUEST */
	bool handler; /* argv stays and speaks length-prefixed messages */
	bool wait;    /* a handler is ready after its first message, which is empty */
	int fd;       /* a socket that is the channel; -1: vsock */
};

struct agent {
	struct options options;
	struct channel channel;
	struct worker worker;
	struct environment environment;
	bool ready;     /* READY was said */
	bool waiting;   /* for the first message of the handler, which --wait announces */
	uint32_t asked; /* messages that this handler was sent; the id of the last */
	bool stale;     /* the handler was started with other variables than there are now */
	bool busy;
	uint64_t request_id;
	uint64_t deadline_us; /* as channel_now_us() tells; 0: none */
	bool quiesce_wanted;
	uint64_t quiesce_id;
};

/* The channel is open: says READY, now or when the handler is. */
void agent_opened(struct agent *a);

/* Starts the handler if there is to be one and it does not run; says why not. 0 or -errno. */
int agent_start_handler(struct agent *a);

/* A channel_handler; opaque is the agent. */
void agent_message(void *opaque, const struct message *message);

/* The worker's stdout, stderr may have something. */
void agent_output(struct agent *a);
void agent_errors(struct agent *a);

/* The worker has ended and been reaped. */
void agent_worker_ended(struct agent *a);

/* Ends a request whose time is over. */
void agent_check_deadline(struct agent *a);

/* Ends what runs without an answer: cancelled, or nobody can hear it. */
void agent_abandon(struct agent *a);

#endif
