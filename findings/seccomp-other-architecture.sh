#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# libseccomp 2.5.4 (Debian 12): a call of the x32 kind ends a thread, whatever the default is.
#
# Expected: a filter that is made with a default does that to every call that no rule names. Seen:
# a call with a number of the x32 kind (bit 30) is no case of the default but of an attribute of its
# own, which is "kill the thread", be the default "allow" or "kill the process": the exported
# program has that action too, and the process goes on without the thread that made the call. In a
# VMM that is a virtual CPU that stands still in a process that looks alive: whoever wants the
# process to end has to set SCMP_FLTATR_ACT_BADARCH as well.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download libseccomp-dev=2.5.4-1+deb12u1 libseccomp2=2.5.4-1+deb12u1 2>apt.log ||
	{ cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
cat >filter.c <<'END'
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int made; /* the call came back */

static void *call(void *number)
{
	syscall((long)number);
	made = 1;
	return NULL;
}

/* The status of a process whose second thread makes a call: 8 if the call came back, 7 if it did
 * not and the first thread goes on. */
static int process_after(scmp_filter_ctx ctx, long number)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		pthread_t thread;

		if (seccomp_load(ctx) || pthread_create(&thread, NULL, call, (void *)number))
			_exit(1);
		pthread_join(thread, NULL);
		_exit(made ? 8 : 7);
	}
	waitpid(pid, &status, 0);
	return status;
}

static scmp_filter_ctx filter(uint32_t default_action, uint32_t other)
{
	scmp_filter_ctx ctx = seccomp_init(default_action);
	uint32_t action = default_action == SCMP_ACT_ALLOW ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW;

	if (!ctx || seccomp_rule_add(ctx, action, SYS_getppid, 0))
		_exit(1);
	if (other && seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, other))
		_exit(1);
	return ctx;
}

static void print_actions(const char *name, scmp_filter_ctx ctx)
{
	struct sock_filter program[256];
	int fd = memfd_create("filter", 0);
	ssize_t size;

	seccomp_export_bpf(ctx, fd);
	size = pread(fd, program, sizeof(program), 0);
	printf("%s:", name);
	for (size_t i = 0; i < (size_t)size / sizeof(*program); i++)
		if (BPF_CLASS(program[i].code) == BPF_RET)
			printf(" %08x", program[i].k);
	printf("\n");
	fflush(stdout);
}

static void print_end(const char *name, scmp_filter_ctx ctx, long number)
{
	int status = process_after(ctx, number);

	if (WIFSIGNALED(status))
		printf("%s: signal %d\n", name, WTERMSIG(status));
	else
		printf("%s: exit %d\n", name, WEXITSTATUS(status));
	fflush(stdout);
}

int main(void)
{
	const long x32 = 0x40000000 | SYS_getpid;
	const struct scmp_version *version = seccomp_version();

	printf("libseccomp %u.%u.%u\n", version->major, version->minor, version->micro);
	print_actions("default kill process", filter(SCMP_ACT_KILL_PROCESS, 0));
	print_actions("default kill process, attribute too",
		      filter(SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_PROCESS));
	print_end("default allow, getpid", filter(SCMP_ACT_ALLOW, 0), SYS_getpid);
	print_end("default allow, x32 getpid", filter(SCMP_ACT_ALLOW, 0), x32);
	print_end("default allow, attribute kill process, x32 getpid",
		  filter(SCMP_ACT_ALLOW, SCMP_ACT_KILL_PROCESS), x32);
	return 0;
}
END
library=root/usr/lib/x86_64-linux-gnu
gcc -O1 -D_GNU_SOURCE -Iroot/usr/include filter.c -o filter "$library/libseccomp.a" -lpthread
cat >expected <<'END'
libseccomp 2.5.4
default kill process: 80000000 7fff0000 00000000
default kill process, attribute too: 7fff0000 80000000
default allow, getpid: exit 8
default allow, x32 getpid: exit 7
default allow, attribute kill process, x32 getpid: signal 31
END
ulimit -c 0
./filter | tee seen
diff expected seen
