/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a running function host, for the commands that ask one: `virga invoke NAME` and
 * `virga status`. One request on a connection of its own, waiting.
 */
#ifndef VIRGA_SERVE_CLI_HOST_CLIENT_H
#define VIRGA_SERVE_CLI_HOST_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/cli/options.h"

struct host_reply {
	unsigned status;
	char *body; /* owned; a NUL behind it */
	size_t len;
	bool function_error; /* X-Amz-Function-Error is there */
	char tier[16];       /* X-Virga-Tier */
};

/*
 * Connects to the host at that address, or with NULL to the user's own. fd; -ENOENT when none was
 * named and the user has none running; or -errno; with a sentence.
 */
int host_connect(const char *host);

/*
 * Sends one request and reads its answer, timeout_ms at most (0: no limit). fd stays the caller's, for
 * nothing but closing. 0; -ETIMEDOUT; or -errno; with a sentence. host_reply_fini() in any case.
 */
int host_call(int fd, const char *method, const char *target, const void *body, size_t len,
	      uint32_t timeout_ms, struct host_reply *reply);
void host_reply_fini(struct host_reply *reply);

/* `virga invoke NAME` of a host that fd is connected to; its exit status, all sentences printed. */
int host_invoke(int fd, const struct options *options);

#endif
