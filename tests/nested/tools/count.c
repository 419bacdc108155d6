/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count MARKER COMMAND...: run a command and say how many ticks of the TSC lie
 * between its exec and the moment its output holds MARKER, and how many exits
 * KVM counted by then. Under QEMU's -icount with shift=0 a tick is an instruction.
 * Prints "TICKS EXITS" and ends the command. Output without MARKER goes to stderr.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define OUTPUT_MAX (1 << 20)

static long count_exits(void)
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

static pid_t count_start(char **argv, int *out, volatile uint64_t *start)
{
	int pipe_fd[2];
	pid_t pid;

	if (pipe(pipe_fd) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		setsid();
		dup2(pipe_fd[1], STDOUT_FILENO);
		close(pipe_fd[0]);
		close(pipe_fd[1]);
		*start = __rdtsc();
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	close(pipe_fd[1]);
	*out = pipe_fd[0];
	return pid;
}

int main(int argc, char **argv)
{
	static char output[OUTPUT_MAX];
	volatile uint64_t *start;
	size_t used = 0;
	ssize_t n;
	pid_t pid;
	int fd;

	if (argc < 3) {
		fputs("usage: count MARKER COMMAND...\n", stderr);
		return 2;
	}
	start = mmap(NULL, sizeof(*start), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (start == MAP_FAILED)
		return 1;
	*start = 0;
	pid = count_start(argv + 2, &fd, start);
	if (pid < 0)
		return 1;
	while (used < sizeof(output) && (n = read(fd, output + used, sizeof(output) - used)) > 0) {
		uint64_t now = __rdtsc();

		used += (size_t)n;
		if (memmem(output, used, argv[1], strlen(argv[1]))) {
			long exits = count_exits();

			kill(-pid, SIGKILL);
			waitpid(pid, NULL, 0);
			printf("%llu %ld\n", (unsigned long long)(now - *start), exits);
			return 0;
		}
	}
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	fwrite(output, 1, used, stderr);
	fprintf(stderr, "count: the output ended without '%s'\n", argv[1]);
	return 1;
}
