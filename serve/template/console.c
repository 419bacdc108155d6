/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a guest's console: serve/template/console.h. */
#include "serve/template/console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"

#define CONSOLE_LINES 40u /* a panic of Linux with its stack has some thirty */
#define CONSOLE_PIECE 1024u

int console_open(struct console *c, int *write_fd)
{
	int fds[2];

	*c = (struct console){ .fd = -1 };
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return failf(errno, "no descriptor left (ulimit -n): %s", strerror(errno));
	c->fd = fds[0];
	*write_fd = fds[1];
	return 0;
}

int console_take(int write_fd)
{
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(write_fd, STDOUT_FILENO) < 0)
		return failf(errno, "/dev/null, for the guest's console: %s", strerror(errno));
	return 0;
}

/* Takes the returns out that a terminal wants at the end of a line. */
static size_t console_clean(char *text, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++)
		if (text[i] != '\r')
			text[kept++] = text[i];
	return kept;
}

bool console_read(struct console *c)
{
	char piece[CONSOLE_PIECE];
	ssize_t n = c->fd < 0 ? 0 : read(c->fd, piece, sizeof(piece));
	size_t len, over = 0;

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			console_close(c);
		return false;
	}
	len = console_clean(piece, (size_t)n);
	if (c->len + len > sizeof(c->text))
		over = c->len + len - sizeof(c->text);
	memmove(c->text, c->text + over, c->len - over);
	memcpy(c->text + c->len - over, piece, len);
	c->len += len - over;
	return true;
}

void console_say(struct console *c)
{
	struct note_rate rate = { 0 };
	size_t start, lines = 0;

	while (console_read(c))
		;
	while (c->len && c->text[c->len - 1] == '\n')
		c->len--;
	for (start = c->len; start > 0; start--)
		if (c->text[start - 1] == '\n' && ++lines == CONSOLE_LINES)
			break;
	note_text(&rate, monotonic_us(), "console", c->text + start, c->len - start);
	console_close(c);
}

void console_close(struct console *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
