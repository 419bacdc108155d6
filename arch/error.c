/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread's last sentence and lines on stderr (arch/error.h). The buffer is the
 * one piece of file-scope state in the program: a sentence belongs to the thread
 * that failed, and passing it through every call would bury the code in it.
 */
#include "arch/error.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ERROR_TEXT_MAX 512

static _Thread_local char error_buffer[ERROR_TEXT_MAX];

int failf(int err, const char *fmt, ...)
{
	char text[ERROR_TEXT_MAX]; /* the arguments may include error_text() itself */
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	memcpy(error_buffer, text, strlen(text) + 1);
	return -err;
}

const char *error_text(void)
{
	return error_buffer;
}

/*
 * One write(2), so that lines of several processes do not mix, and only when stderr takes it
 * now: a line is dropped rather than the machine stopped by a reader that does not read.
 */
static void note_write(const char *prefix, const char *suffix, const char *fmt, va_list args)
{
	char line[ERROR_TEXT_MAX + 64]; /* suffix and newline always fit */
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	size_t len = strlen(prefix);
	int n;

	memcpy(line, prefix, len);
	n = vsnprintf(line + len, ERROR_TEXT_MAX - len, fmt, args);
	if (n < 0)
		return;
	len = strlen(line);
	len += (size_t)snprintf(line + len, sizeof(line) - len, "%s\n", suffix);
	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT)) {
		ssize_t written = write(STDERR_FILENO, line, len);

		(void)written;
	}
}

void notef(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note_write("virga: ", "", fmt, args);
	va_end(args);
}

void note_limited(struct note_limit *limit, const char *fmt, ...)
{
	va_list args;

	if (limit->said >= NOTE_BURST)
		return;
	limit->said++;
	va_start(args, fmt);
	note_write("virga: ", limit->said == NOTE_BURST ? " (no more of these are shown)" : "", fmt,
		   args);
	va_end(args);
}
