/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread's last sentence and lines on stderr (arch/base/error.h). The buffer is the
 * one piece of file-scope state in the program: a sentence belongs to the thread
 * that failed, and passing it through every call would bury the code in it.
 */
#include "arch/base/error.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ERROR_TEXT_MAX 512
#define NOTE_PREFIX    "virga: "
#define NOTE_CHAR_MAX  5  /* bytes that one byte becomes, and a NUL */
#define NOTE_END_MAX   64 /* bytes of a suffix and the newline */
/* At most PIPE_BUF: written whole, and not waiting when poll(2) says there is room. */
#define NOTE_LINE_MAX  (NOTE_CHAR_MAX * ERROR_TEXT_MAX + NOTE_END_MAX)
#define NOTE_TEXT_MAX  512 /* bytes of a line of text; a longer one goes on in the next */

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

const char *write_error(int err)
{
	return err == EFBIG
		       ? "the limit on the size of files is met; raise 'ulimit -f' (RLIMIT_FSIZE)"
		       : strerror(err);
}

/* --- Lines --- */

/*
 * Bytes of the character at text that may go to a terminal: ASCII, or UTF-8 that is no control
 * character (below U+00A0). 0 for anything else.
 */
static size_t note_printable(const uint8_t *text, size_t len)
{
	static const uint32_t least[] = { [2] = 0xa0, [3] = 0x800, [4] = 0x10000 };
	size_t count = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	uint32_t code;

	if (text[0] < 0x80)
		return text[0] >= 0x20 && text[0] < 0x7f;
	if (text[0] < 0xc2 || text[0] > 0xf4 || count > len)
		return 0;
	code = text[0] & (0x7fu >> count);
	for (size_t i = 1; i < count; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	return code >= least[count] && code <= 0x10ffff ? count : 0;
}

/* Appends text, cleaned, as far as it fits before `size`. Returns the bytes of text taken. */
static size_t note_clean(char *line, size_t *at, size_t size, const char *text, size_t len)
{
	size_t taken = 0;

	while (taken < len && *at + NOTE_CHAR_MAX <= size) {
		size_t count = note_printable((const uint8_t *)text + taken, len - taken);

		if (count) {
			memcpy(line + *at, text + taken, count);
			*at += count;
			taken += count;
		} else {
			*at += (size_t)sprintf(line + *at, "\\x%02x", (uint8_t)text[taken++]);
		}
	}
	return taken;
}

/*
 * One write(2), so that lines of several processes do not mix, and only when stderr takes it
 * now: a line is dropped rather than the machine stopped by a reader that does not read.
 */
static void note_write(const char *line, size_t len)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT)) {
		ssize_t written = write(STDERR_FILENO, line, len);

		(void)written;
	}
}

static void note_sentence(const char *suffix, const char *fmt, va_list args)
{
	char text[ERROR_TEXT_MAX], line[NOTE_LINE_MAX] = NOTE_PREFIX;
	size_t at = strlen(NOTE_PREFIX), len;

	if (vsnprintf(text, sizeof(text), fmt, args) < 0)
		return;
	len = strlen(text);
	while (len && text[len - 1] == '\n')
		len--;
	note_clean(line, &at, sizeof(line) - NOTE_END_MAX, text, len);
	at += (size_t)snprintf(line + at, NOTE_END_MAX, "%s\n", suffix);
	note_write(line, at);
}

void notef(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	note_sentence("", fmt, args);
	va_end(args);
}

void note_limited(struct note_limit *limit, const char *fmt, ...)
{
	va_list args;

	if (limit->said >= NOTE_BURST)
		return;
	limit->said++;
	va_start(args, fmt);
	note_sentence(limit->said == NOTE_BURST ? " (no more of these are shown)" : "", fmt, args);
	va_end(args);
}

/* --- Text of others --- */

/* Whether one more line may be printed now. */
static bool note_rate_take(struct note_rate *rate, uint64_t now_us, const char *who)
{
	const uint64_t line_us = 1000000 / NOTE_RATE;

	if (rate->paid_us < now_us)
		rate->paid_us = now_us;
	if (rate->paid_us - now_us < NOTE_RATE * line_us) {
		rate->paid_us += line_us;
		return true;
	}
	if (rate->dropped++ == 0)
		notef("%s: more than %d lines a second: the rest is dropped", who, NOTE_RATE);
	return false;
}

void note_text(struct note_rate *rate, uint64_t now_us, const char *who, const void *text,
	       size_t len)
{
	const char *p = text, *end = p + len;

	while (end > p && end[-1] == '\n')
		end--;
	while (p < end) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		const char *stop = newline ? newline : end;
		char line[NOTE_TEXT_MAX];
		size_t at = (size_t)snprintf(line, sizeof(line), "%s%.16s: ", NOTE_PREFIX, who);

		p += note_clean(line, &at, sizeof(line) - 1, p, (size_t)(stop - p));
		line[at++] = '\n';
		if (note_rate_take(rate, now_us, who))
			note_write(line, at);
		if (p == newline)
			p++;
	}
}

void note_rate_end(const struct note_rate *rate, const char *who)
{
	if (rate->dropped)
		notef("%s: %llu lines were dropped", who, (unsigned long long)rate->dropped);
}

void text_clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
			*text = '?';
}

const char *signal_name(int signal)
{
	switch (signal) {
	case SIGTERM:
		return "SIGTERM";
	case SIGINT:
		return "SIGINT";
	case SIGHUP:
		return "SIGHUP";
	default:
		return NULL;
	}
}
