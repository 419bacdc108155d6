/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command reads for a guest (serve/cli/input.h).
 */
#include "serve/cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"
#include "devices/channel/protocol.h"

/* One byte past the limit at most. */
int input_read_file(const char *option, const char *path, char **text, size_t *len)
{
	int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC)
				   : io_waiting(dup(STDIN_FILENO));
	size_t size = CHANNEL_PAYLOAD_MAX + 1;
	ssize_t n = 1;
	int err;

	if (fd < 0)
		return failf(errno, "option --%s: %s: %s", option, path, strerror(errno));
	*text = malloc(size);
	*len = 0;
	while (*text && *len < size && (n = read(fd, *text + *len, size - *len)) > 0)
		*len += (size_t)n;
	err = *text ? errno : ENOMEM;
	close(fd);
	if (*text && n >= 0)
		return 0;
	free(*text);
	*text = NULL;
	return failf(err, "option --%s: %s: %s", option, path, strerror(err));
}

int input_read_data(const char *data, char **text, size_t *len)
{
	if (data && data[0] == '@')
		return input_read_file("data", data + 1, text, len);
	*text = strdup(data ? data : "");
	if (!*text)
		return failf(ENOMEM, "out of memory");
	*len = strlen(*text);
	return 0;
}
