/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix stream sockets by path (arch/base/unix_path.h).
 */
#include "arch/base/unix_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/rename.h"

#define UNIX_PATH_BACKLOG 1024 /* a burst of clients, each of which would get EAGAIN */
/* A process id is added to it for a moment: a dot and six digits. */
#define UNIX_PATH_MAX     (sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - 7)

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

/* 1: a socket that nobody listens on; 0: nothing is there; -EADDRINUSE, -EEXIST, -errno. */
static int unix_path_probe(const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = unix_path_connect(path, true);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || fd == -EAGAIN)
		return -EADDRINUSE;
	return fd == -ECONNREFUSED ? 1 : fd == -ENOENT ? 0 : fd;
}

void unix_path_remove_dead(const char *path)
{
	if (path && unix_path_probe(path) == 1)
		unlink(path);
}

/* Makes way at path: nothing there, or a left-over, which is removed. */
static int unix_path_clear(const char *path)
{
	int ret = unix_path_probe(path);

	if (ret == -EEXIST)
		return failf(EEXIST,
			     "socket %s: a file of that name is there; choose another path or "
			     "remove it",
			     path);
	if (ret == -EADDRINUSE)
		return failf(EADDRINUSE,
			     "socket %s: another program listens on it; choose another path", path);
	if (ret < 0)
		return failf(-ret, "socket %s: %s", path, strerror(-ret));
	if (ret == 1 && unlink(path) < 0 && errno != ENOENT)
		return failf(errno, "socket %s: cannot replace it: %s", path, strerror(errno));
	return 0;
}

/*
 * Binds and listens under a name of our own that then becomes path: who sees it can connect. -EINVAL: this
 * file system cannot.
 */
static int unix_path_publish(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int ret;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s.%x", path, (unsigned)getpid());
	/* The mode that bind() gives the file; set beforehand, so that it is never wider. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return failf(errno, "socket %s: %s", path, strerror(errno));
	ret = listen(fd, UNIX_PATH_BACKLOG) < 0 ? -errno
						: rename_no_replace(address.sun_path, path);
	if (ret == 0)
		return 0;
	unlink(address.sun_path);
	return failf(-ret, "socket %s: %s", path,
		     ret == -EEXIST ? "another program has just made it" : strerror(-ret));
}

/* FUSE, NFS, 9p: under its own name at once, where nobody listens for a moment. */
static int unix_path_bind(int fd, const char *path)
{
	struct sockaddr_un address;

	unix_path_address(&address, path);
	if (fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    listen(fd, UNIX_PATH_BACKLOG) == 0)
		return 0;
	return failf(errno, "socket %s: %s", path,
		     errno == EADDRINUSE ? "another program has just made it" : strerror(errno));
}

/* A new socket behind path, by one of the two; the descriptor. */
static int unix_path_open(const char *path, int (*name)(int fd, const char *path))
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

	if (fd < 0)
		return failf(errno, "cannot make a socket: %s", strerror(errno));
	ret = name(fd, path);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

int unix_path_listen(const char *path)
{
	int ret;

	if (!*path)
		return failf(ENOENT, "socket: the path is empty");
	if (strlen(path) > UNIX_PATH_MAX)
		return failf(ENAMETOOLONG,
			     "socket %s: the path has %zu bytes; at most %zu are allowed", path,
			     strlen(path), UNIX_PATH_MAX);
	ret = unix_path_clear(path);
	if (ret < 0)
		return ret;
	ret = unix_path_open(path, unix_path_publish);
	return ret == -EINVAL ? unix_path_open(path, unix_path_bind) : ret;
}
