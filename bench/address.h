/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a server listens, as the programs of bench/ are told it.
 */
#ifndef VIRGA_BENCH_ADDRESS_H
#define VIRGA_BENCH_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

struct address {
	const char *text; /* as it was given, for messages */
	struct sockaddr_storage name;
	socklen_t len;
};

/* "unix:PATH" or "IPv4:PORT"; text is kept. False when it is neither. */
bool address_parse(struct address *address, const char *text);

/* A new socket of the address's family with SOCK_ flags; -1 and errno. */
int address_socket(const struct address *address, int flags);

#endif
