/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of the function host (serve/http/address.h). Numbers only: a name would be looked up.
 */
#include "serve/http/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/unix_path.h"

#define ADDRESS_BACKLOG 1024
#define ADDRESS_UNIX    "unix:"
#define ADDRESS_LOCAL   "localhost:"
#define ADDRESS_V4      "127.0.0.1"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t len;
};

const char *address_path(const char *text)
{
	size_t len = strlen(ADDRESS_UNIX);

	return strncmp(text, ADDRESS_UNIX, len) == 0 ? text + len : NULL;
}

bool address_is_localhost(const char *text)
{
	return strncmp(text, ADDRESS_LOCAL, strlen(ADDRESS_LOCAL)) == 0;
}

static int address_bad(const char *text)
{
	return failf(EINVAL,
		     "'%.100s' is not an address: 127.0.0.1:PORT, [::1]:PORT and unix:PATH are",
		     text);
}

static int address_parse(const char *text, struct address *address)
{
	const char *colon = strrchr(text, ':');
	char host[64], *end;
	unsigned long port;
	size_t len;

	*address = (struct address){ 0 };
	if (!colon || colon[1] < '0' || colon[1] > '9')
		return address_bad(text);
	port = strtoul(colon + 1, &end, 10);
	len = (size_t)(colon - text);
	if (*end || port > 65535 || len >= sizeof(host))
		return address_bad(text);
	memcpy(host, text, len);
	host[len] = '\0';
	if (address_is_localhost(text))
		strcpy(host, ADDRESS_V4);
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons((uint16_t)port);
		address->len = sizeof(address->v6);
		return inet_pton(AF_INET6, host + 1, &address->v6.sin6_addr) == 1
			       ? 0
			       : address_bad(text);
	}
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = htons((uint16_t)port);
	address->len = sizeof(address->v4);
	return inet_pton(AF_INET, host, &address->v4.sin_addr) == 1 ? 0 : address_bad(text);
}

static bool address_is_loopback(const struct address *address)
{
	if (address->any.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
	return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* The same address, as a number, with the port that the kernel chose. */
static void address_show(int fd, const char *text, char shown[ADDRESS_TEXT_MAX])
{
	struct address address = { .len = sizeof(struct sockaddr_in6) };
	const char *host = address_is_localhost(text) ? ADDRESS_V4 : text;
	size_t len = host == text ? (size_t)(strrchr(text, ':') - text) : strlen(host);
	uint16_t port;

	getsockname(fd, &address.any, &address.len);
	port = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port
						       : address.v4.sin_port);
	snprintf(shown, ADDRESS_TEXT_MAX, "%.*s:%u", (int)len, host, port);
}

static int address_listen_tcp(const char *text, char shown[ADDRESS_TEXT_MAX])
{
	struct address address;
	int ret = address_parse(text, &address), fd, one = 1;

	if (ret < 0)
		return ret;
	if (!address_is_loopback(&address))
		return failf(EPERM,
			     "%s: only loopback addresses and unix sockets are served, because "
			     "nothing here asks who a caller is; put a proxy that does (nginx, "
			     "Envoy) in front",
			     text);
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failf(errno, "%s: cannot make a socket: %s", text, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, &address.any, address.len) < 0 || listen(fd, ADDRESS_BACKLOG) < 0) {
		ret = errno == EADDRINUSE
			      ? failf(EADDRINUSE,
				      "%s: another program listens there; choose another with "
				      "--listen",
				      text)
			      : failf(errno, "%s: cannot listen: %s", text, strerror(errno));
		close(fd);
		return ret;
	}
	address_show(fd, text, shown);
	return fd;
}

int address_listen(const char *text, char shown[ADDRESS_TEXT_MAX])
{
	const char *path = address_path(text);

	if (!path)
		return address_listen_tcp(text, shown);
	snprintf(shown, ADDRESS_TEXT_MAX, "%s", text);
	return unix_path_listen(path);
}

int address_connect(const char *text)
{
	const char *path = address_path(text);
	struct address address;
	int fd, ret;

	if (path) {
		fd = unix_path_connect(path, false);
		return fd < 0 ? failf(-fd, "no host answers at %s (%s); 'virga serve' starts one",
				      text, strerror(-fd))
			      : fd;
	}
	ret = address_parse(text, &address);
	if (ret < 0)
		return ret;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, &address.any, address.len) == 0)
		return fd;
	ret = failf(errno, "no host answers at %s: %s", text, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ret;
}

int address_runtime(char text[ADDRESS_TEXT_MAX])
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (!dir || dir[0] != '/')
		dir = getuid() == 0 ? "/run" : NULL;
	if (!dir || snprintf(text, ADDRESS_TEXT_MAX, ADDRESS_UNIX "%s/virga.sock", dir) >=
			    (int)ADDRESS_TEXT_MAX)
		return -ENOENT;
	return 0;
}
