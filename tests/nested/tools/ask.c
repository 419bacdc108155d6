/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask SOCKET FUNCTION BODY TIER COUNT: invokes a function of `virga serve` over a kept connection, one
 * request after a pause each, and says how many ticks of the TSC lie between the request's write and
 * the read of an answer that holds BODY, and how many exits KVM counted meanwhile. Prints
 * "TICKS EXITS" for each. An answer of a tier that does not begin so, or none, is an error.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define ANSWER_MAX  65536
#define TRIES_MAX   100 /* a tenth of a second apart */
#define PAUSE_NS    200000000
#define RETRY_NS    100000000
#define REQUEST_MAX 4096

static long ask_exits(void)
{
	char text[32] = "0";
	int fd = open("/sys/kernel/debug/kvm/exits", O_RDONLY);

	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);

		text[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	return strtol(text, NULL, 10);
}

static void ask_sleep(long ns)
{
	struct timespec pause = { .tv_nsec = ns };

	nanosleep(&pause, NULL);
}

static int ask_connect(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	for (int i = 0; i < TRIES_MAX; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
			return fd;
		close(fd);
		ask_sleep(RETRY_NS);
	}
	return -1;
}

/* The answer of one request; false when it is not the right one. */
static int ask_once(int fd, const char *request, const char *body, const char *tier)
{
	static char answer[ANSWER_MAX];
	size_t used = 0;
	long exits = ask_exits();
	uint64_t start = __rdtsc();
	ssize_t n;

	if (write(fd, request, strlen(request)) < 0)
		return 0;
	while (used < sizeof(answer) - 1 &&
	       (n = read(fd, answer + used, sizeof(answer) - 1 - used)) > 0) {
		uint64_t now = __rdtsc();

		used += (size_t)n;
		answer[used] = '\0';
		if (!strstr(answer, body))
			continue;
		if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0 || !strstr(answer, tier))
			break;
		printf("%llu %ld\n", (unsigned long long)(now - start), ask_exits() - exits);
		return 1;
	}
	fprintf(stderr, "ask: not an answer with '%s' and '%s':\n%.*s\n", tier, body, (int)used,
		answer);
	return 0;
}

int main(int argc, char **argv)
{
	char request[REQUEST_MAX], tier[64];
	int fd;

	if (argc != 6) {
		fputs("usage: ask SOCKET FUNCTION BODY TIER COUNT\n", stderr);
		return 2;
	}
	snprintf(request, sizeof(request),
		 "POST /2015-03-31/functions/%s/invocations HTTP/1.1\r\nHost: l1\r\n"
		 "Content-Length: %zu\r\n\r\n%s",
		 argv[2], strlen(argv[3]), argv[3]);
	snprintf(tier, sizeof(tier), "X-Virga-Tier: %s", argv[4]);
	fd = ask_connect(argv[1]);
	if (fd < 0) {
		fprintf(stderr, "ask: nobody listens on %s\n", argv[1]);
		return 1;
	}
	for (int i = 0; i < atoi(argv[5]); i++) {
		ask_sleep(PAUSE_NS);
		if (!ask_once(fd, request, argv[3], tier))
			return 1;
	}
	return 0;
}
