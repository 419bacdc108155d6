/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses (bench/address.h).
 */
#include "bench/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static bool address_unix(struct address *address, const char *path)
{
	struct sockaddr_un *name = (struct sockaddr_un *)&address->name;

	if (!*path || strlen(path) >= sizeof(name->sun_path))
		return false;
	name->sun_family = AF_UNIX;
	memcpy(name->sun_path, path, strlen(path) + 1);
	address->len = sizeof(*name);
	return true;
}

bool address_parse(struct address *address, const char *text)
{
	struct sockaddr_in *name = (struct sockaddr_in *)&address->name;
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN], *end;
	unsigned long port;

	*address = (struct address){ .text = text, .len = sizeof(*name) };
	if (!strncmp(text, "unix:", 5))
		return address_unix(address, text + 5);
	if (!colon || (size_t)(colon - text) >= sizeof(host) || !colon[1])
		return false;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > 65535)
		return false;
	name->sin_family = AF_INET;
	name->sin_port = htons((in_port_t)port);
	return inet_pton(AF_INET, host, &name->sin_addr) == 1;
}

int address_socket(const struct address *address, int flags)
{
	int fd = socket(address->name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), on = 1;

	if (fd >= 0 && address->name.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}
