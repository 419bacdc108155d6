/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text of a guest or a client on its way to a terminal: each line is one write, begins as virga's do, and
 * has no byte that a terminal obeys.
 */
/* wrap: write */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "tests/fuzz/lib/bytes.h"

static unsigned lines;

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
	const uint8_t *text = data;

	if (fd != STDERR_FILENO)
		return __real_write(fd, data, len);
	lines++;
	must(len > 7 && memcmp(text, "virga: ", 7) == 0 && text[len - 1] == '\n');
	for (size_t i = 0; i + 1 < len; i++) {
		must(text[i] >= ' ' && text[i] != 0x7f);
		/* C1 controls, as UTF-8 has them; a byte of a character begins with no other bits. */
		must(!(text[i] == 0xc2 && text[i + 1] < 0xa0));
		must(text[i] < 0x80 || text[i] >= 0xc2 || (i && text[i - 1] >= 0x80));
	}
	return (ssize_t)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	struct note_limit limit = { 0 };
	struct note_rate rate = { 0 };
	uint64_t now_us = 1000000;
	char *copy = malloc(size + 1);

	must(copy != NULL);
	lines = 0;
	while (in.left) {
		size_t len;
		const uint8_t *text = bytes_take(&in, 1 + 4u * bytes_u8(&in), &len);

		if (len)
			memcpy(copy, text, len);
		note_text(&rate, now_us, "guest with a long name", copy, len);
		copy[len] = 0;
		note_limited(&limit, "%s", copy);
		notef("%s", copy);
		failf(1, "%s", copy);
		text_clean(copy);
		for (size_t i = 0; copy[i]; i++)
			must(copy[i] >= ' ' && copy[i] <= '~');
		now_us += bytes_u16(&in);
	}
	note_rate_end(&rate, "guest");
	must(limit.said <= NOTE_BURST);
	free(copy);
	return 0;
}
