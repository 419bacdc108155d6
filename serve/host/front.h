/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of the function host: the process that has the connections, the functions and the
 * pools. One loop, one thread (and that of the log). Its parent holds the listening sockets and
 * starts another when it dies (serve/host/keeper.h).
 */
#ifndef VIRGA_SERVE_HOST_FRONT_H
#define VIRGA_SERVE_HOST_FRONT_H

#include <stdbool.h>

#include "serve/host/config.h"
#include "serve/http/address.h"

#define FRONT_LISTEN_MAX     (2u * HOST_LISTEN_MAX + 1u) /* localhost is two; and the user's own */

/* What the keeper tells it, by signals that nobody else sends and that queue. */
#define FRONT_SIGNAL_DRAIN   SIGRTMIN       /* the second: ends at once */
#define FRONT_SIGNAL_REFRESH (SIGRTMIN + 1) /* configuration and templates */

struct keeper_options;

struct front_options {
	const struct keeper_options *options; /* of the command: store, config file */
	struct host_config *config;           /* its functions are taken over by the front */
	int listen_fds[FRONT_LISTEN_MAX];     /* the parent's */
	char listen_names[FRONT_LISTEN_MAX][ADDRESS_TEXT_MAX];
	unsigned listen_count;
	bool again; /* another front was there before */
};

/*
 * The life of a front, in a process of its own: SIGTERM drains it, a second one ends it at once,
 * SIGHUP has it look at the configuration and at all templates anew. Prints its sentences. The exit
 * status: 0, 1 or 2 as of any command; 1 and 2 only before it has served.
 */
int front_main(const struct front_options *options);

#endif
