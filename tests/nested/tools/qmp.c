/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmp SOCKET COMMAND: gives a machine's control socket one command without arguments, and prints the
 * lines that come up to its answer. 0 when that is no error.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The next answer of the command given last; events are printed on the way. False: an error, or none. */
static bool qmp_answer(FILE *in)
{
	static char line[65536];

	while (fgets(line, sizeof(line), in)) {
		fputs(line, stdout);
		if (strstr(line, "\"error\""))
			return false;
		if (strstr(line, "\"return\""))
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r");

	if (argc != 3 || !in)
		return 2;
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", argv[1]);
	if (connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0) {
		perror(argv[1]);
		return 2;
	}
	dprintf(fd, "{\"execute\": \"qmp_capabilities\"}\n");
	if (!qmp_answer(in))
		return 1;
	dprintf(fd, "{\"execute\": \"%s\"}\n", argv[2]);
	return qmp_answer(in) ? 0 : 1;
}
