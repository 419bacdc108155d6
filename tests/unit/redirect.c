/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/redirect.h.
 */
#include "tests/unit/redirect.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

struct redirect redirect(int input, int output, int error)
{
	const int wanted[3] = { input, output, error };
	int quiet = open("/dev/null", O_RDWR);
	struct redirect r;

	fflush(stdout);
	for (int i = 0; i < 3; i++) {
		r.saved[i] = dup(i);
		dup2(wanted[i] < 0 ? quiet : wanted[i], i);
	}
	close(quiet);
	return r;
}

void redirect_undo(const struct redirect *r)
{
	for (int i = 0; i < 3; i++) {
		dup2(r->saved[i], i);
		close(r->saved[i]);
	}
}

size_t drain(int fd, char *buf, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	while (len < size && poll(&p, 1, 0) == 1 && (n = read(fd, buf + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}
