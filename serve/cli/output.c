/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to standard output (serve/cli/output.h). Runs confined, with signals blocked.
 */
#include "serve/cli/output.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/error.h"

/* How long a blocked signal may go unseen while the reader does not read. */
#define OUTPUT_POLL_MS 50

int output_keep(void *opaque, enum channel_type type, const void *data, size_t len)
{
	struct output *output = opaque;

	if (type == CHANNEL_ERROR)
		return 0; /* said as the end of the machine */
	output->data = malloc(len + 1);
	if (!output->data)
		return failf(ENOMEM, "no memory for an answer of %zu bytes", len);
	memcpy(output->data, data, len);
	output->len = len;
	if (output->line && (len == 0 || output->data[len - 1] != '\n'))
		output->data[output->len++] = '\n';
	return 0;
}

void output_free(struct output *output)
{
	free(output->data);
	output->data = NULL;
	output->len = 0;
}

/* A blocked signal that is pending: what it means for the answer; 0 when there is none. */
static int output_signal(void)
{
	static const struct timespec now = { 0, 0 };
	sigset_t set;
	int found;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	found = sigtimedwait(&set, NULL, &now);
	if (found < 0)
		return 0;
	if (found == SIGALRM)
		return failf(ETIMEDOUT, "the time-out expired before the answer was read");
	return failf(EINTR, "ended by %s before the answer was read", signal_name(found));
}

/* A pipe that polls as writable takes PIPE_BUF bytes without waiting (pipe(7)). */
int output_write(void *opaque)
{
	const struct output *output = opaque;
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };

	for (size_t at = 0; at < output->len;) {
		size_t rest = output->len - at;
		ssize_t n;
		int ret;

		if (poll(&out, 1, OUTPUT_POLL_MS) <= 0) {
			ret = output_signal();
			if (ret < 0)
				return ret;
			continue;
		}
		n = write(STDOUT_FILENO, output->data + at, rest < PIPE_BUF ? rest : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return failf(errno, "cannot write the answer to standard output: %s",
				     write_error(errno));
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}
