/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command `virga serve`: the function host. This process holds the listening sockets and
 * nothing else; it forks the front (serve/host/front.h), forwards signals to it, and starts another
 * when it dies. A front that dies takes spawner and shells along, this process all of them.
 */
#ifndef VIRGA_SERVE_HOST_KEEPER_H
#define VIRGA_SERVE_HOST_KEEPER_H

#include "serve/cli/options.h"

/* Returns the exit status: 0 after SIGTERM or SIGINT, 1 (the host) or 2 (bad input). */
int serve_command(const struct options *options);

#endif
