/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix stream sockets by path (serve/unix_path.h).
 */
#include "serve/unix_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "arch/error.h"

#define UNIX_PATH_BACKLOG 64

static int unix_path_address(struct sockaddr_un *address, const char *path)
{
	size_t len = strlen(path);

	if (len >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	if (len == 0)
		return -ENOENT;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(address->sun_path, path, len + 1);
	return 0;
}

int unix_path_connect(const char *path, bool nonblock)
{
	struct sockaddr_un address;
	int ret = unix_path_address(&address, path);
	int fd;

	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* On a unix socket this is done or refused at once, never in progress. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    (!nonblock && fcntl(fd, F_SETFL, 0) < 0)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* Makes way at path: nothing there, or a socket file that nobody listens on, which is removed. */
static int unix_path_clear(const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : failf(errno, "socket %s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return failf(EEXIST, "socket %s: there is a file of that name that is no socket",
			     path);
	fd = unix_path_connect(path, true);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || fd == -EAGAIN)
		return failf(EADDRINUSE, "socket %s: another program listens on it", path);
	if (fd != -ECONNREFUSED && fd != -ENOENT)
		return failf(-fd, "socket %s: %s", path, strerror(-fd));
	if (unlink(path) < 0 && errno != ENOENT)
		return failf(errno, "socket %s: cannot replace it: %s", path, strerror(errno));
	return 0;
}

int unix_path_listen(const char *path)
{
	struct sockaddr_un address;
	int ret = unix_path_address(&address, path);
	int fd;

	if (ret == -ENAMETOOLONG)
		return failf(ENAMETOOLONG,
			     "socket %s: the path has %zu bytes, a unix socket's at most %zu", path,
			     strlen(path), sizeof(address.sun_path) - 1);
	if (ret < 0)
		return failf(-ret, "socket: the path is empty");
	ret = unix_path_clear(path);
	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failf(errno, "cannot make a socket: %s", strerror(errno));
	/* The mode that bind() gives the file; set beforehand, so that it is never wider. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		ret = failf(errno, "socket %s: %s", path, strerror(errno));
		close(fd);
		return ret;
	}
	if (listen(fd, UNIX_PATH_BACKLOG) < 0) {
		ret = failf(errno, "socket %s: %s", path, strerror(errno));
		unlink(path);
		close(fd);
		return ret;
	}
	return fd;
}

void unix_path_note(struct unix_path *u, const char *path)
{
	struct stat st;

	*u = (struct unix_path){ 0 };
	if (path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		*u = (struct unix_path){ .path = path, .device = st.st_dev, .inode = st.st_ino };
}

void unix_path_remove(struct unix_path *u)
{
	struct unix_path now;

	unix_path_note(&now, u->path);
	if (now.path && now.device == u->device && now.inode == u->inode)
		unlink(u->path);
	u->path = NULL;
}
