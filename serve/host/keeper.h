/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of the function host: this process holds the listening sockets and nothing else; it
 * forks the front (serve/host/front.h), forwards signals to it, and starts another when it dies. A
 * front that dies takes spawner and shells along, this process all of them.
 */
#ifndef VIRGA_SERVE_HOST_KEEPER_H
#define VIRGA_SERVE_HOST_KEEPER_H

/* What the command line says; all of it borrowed. */
struct keeper_options {
	const char *store;       /* of templates; NULL: the configuration's, or the default */
	const char *config_file; /* NULL: none */
	char *const *listen;     /* where to serve; none: where the configuration says */
	unsigned listen_count;
};

/*
 * The life of a host. Prints its sentences. The exit status: 0 after SIGTERM or SIGINT, 1 (the host)
 * or 2 (bad input).
 */
int keeper_main(const struct keeper_options *options);

#endif
