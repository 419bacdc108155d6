/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain writes of whole buffers; descriptors (arch/base/io.h).
 */
#include "arch/base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IO_LOW         256  /* descriptors that one poll(2) tells of */
#define IO_DESCRIPTORS 1024 /* that are looked at where there is no /proc */

int io_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_waiting(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static void io_close_if_inherited(int fd)
{
	int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;

	if (flags >= 0 && !(flags & FD_CLOEXEC))
		close(fd);
}

/* The low ones. How many are open, -errno when that cannot be told (poll(2): a limit below IO_LOW). */
static int io_close_low(void)
{
	struct pollfd fds[IO_LOW] = { { 0 } };
	int open = 0;

	for (int fd = 0; fd < IO_LOW; fd++)
		fds[fd].fd = fd;
	if (poll(fds, IO_LOW, 0) < 0)
		return -errno;
	for (int fd = 0; fd < IO_LOW; fd++) {
		if (fds[fd].revents & POLLNVAL)
			continue;
		open++;
		io_close_if_inherited(fd);
	}
	return open;
}

/* Of those from first on, what is inherited or all. false where nothing tells which there are. */
static bool io_close_listed(int first, bool all)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!dir)
		return false;
	while ((entry = readdir(dir)) != NULL) {
		int fd = atoi(entry->d_name);

		if (!all)
			io_close_if_inherited(fd);
		else if (fd >= first && fd != dirfd(dir))
			close(fd);
	}
	closedir(dir);
	return true;
}

void io_close_inherited(void)
{
	const int open = io_close_low();

	/* A new descriptor is the lowest that is free: with so few in use none of ours is above. */
	if (open >= 0 && open < IO_LOW / 2 && syscall(SYS_close_range, IO_LOW, ~0u, 0) == 0)
		return;
	if (!io_close_listed(0, false))
		for (int fd = 0; fd < IO_DESCRIPTORS; fd++)
			io_close_if_inherited(fd);
}

int io_close_from(int first)
{
	if (syscall(SYS_close_range, first, ~0u, 0) == 0 || io_close_listed(first, true))
		return 0;
	return -errno;
}

void io_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}
