/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting connections (arch/base/listener.h).
 */
#include "arch/base/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arch/base/error.h"

int listener_spare_init(struct listener_spare *spare)
{
	spare->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return spare->fd < 0 ? failf(errno, "/dev/null: %s", strerror(errno)) : 0;
}

void listener_spare_fini(struct listener_spare *spare)
{
	if (spare->fd >= 0)
		close(spare->fd);
	spare->fd = -1;
}

void listener_turn_away(int fd, const void *word, size_t len)
{
	(void)!send(fd, word, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

int listener_accept(struct listener_spare *spare, int fd, const void *word, size_t len)
{
	int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), err = errno;

	if (client >= 0)
		return client;
	if (err != EMFILE && err != ENFILE)
		return -err;
	listener_spare_fini(spare);
	client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	err = client < 0 ? errno : ECONNREFUSED;
	if (client >= 0)
		listener_turn_away(client, word, len);
	spare->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return -err;
}
