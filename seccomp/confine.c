/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process gives up what it no longer needs (seccomp/confine.h). The filters'
 * instructions are in the program; docs/decisions/filter-at-build-time.md says why.
 *
 * Theory of operation. A VM process, and a shell of the function host is one, goes through these
 * stages (serve/machine/ calls them), each of which only takes away:
 *
 *  1. Everything is opened, with the rights of who started it: kernel or snapshot, /dev/kvm, guest
 *     memory, back ends. Files are checked as they are read. The rings of a saved machine are not
 *     looked at yet. Whoever keeps the paths (a supervisor, the front) stands at a socket.
 *  2. confine_privileges(): execve() could gain nothing any more; no core file, no debugger of the
 *     same user; no capabilities. Those belong to a thread and are inherited by the threads that
 *     it makes: so there is one at this moment.
 *  3. The threads of further vCPUs and of the event loop are made, and wait. Not later, since the
 *     filter knows no clone().
 *  4. confine_process(): the filter of the process's role, for all threads at once (TSYNC). It
 *     stands as long as the process; a call that it does not know ends it by SIGSYS. It knows no
 *     open, socket, connect, exec, fork or ptrace, and lets no memory become executable.
 *  5. Only now what the guest wrote is acted upon: devices start and read their rings, vCPUs enter
 *     the guest. A shell reports to the front before, and hears of its first request now.
 *
 * What is needed after that comes as a descriptor over the socket: connections, files to save a
 * machine into, a sealed template. Only the role shell may map one, and privately.
 *
 * Not here: namespaces, chroot, cgroups, a user of its own.
 */
#include "seccomp/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "filter.h"

int confine_privileges(void)
{
	const struct rlimit none = { 0, 0 };
	int ret;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failf(errno, "cannot give up new privileges: %s", strerror(errno));
	/* A core file, or a debugger of the same user, would show guest memory. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return failf(errno, "cannot forbid core dumps: %s", strerror(errno));
	/* Not the bounding set: it counts in execve only, and dropping it costs 160 us. */
	capng_clear(CAPNG_SELECT_CAPS);
	ret = capng_apply(CAPNG_SELECT_CAPS);
	if (ret < 0)
		return failf(EPERM, "cannot drop capabilities: libcap-ng says %d", ret);
	return 0;
}

static int confine_filter(const struct sock_filter *filter, size_t len)
{
	const struct sock_fprog program = {
		.len = (unsigned short)len,
		.filter = (struct sock_filter *)filter,
	};
	int ret = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : confine_privileges();
	long thread;

	if (ret < 0)
		return ret;
	thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (thread > 0)
		return failf(EBUSY,
			     "cannot filter system calls: thread %ld has a filter of its own",
			     thread);
	if (thread < 0)
		return failf(
			errno,
			"cannot filter system calls (needs Linux with CONFIG_SECCOMP_FILTER): %s",
			strerror(errno));
	return 0;
}

#define CONFINE_FILTER(filter) confine_filter(filter, sizeof(filter) / sizeof((filter)[0]))

int confine_process(enum confine_role role)
{
	switch (role) {
	case CONFINE_ALONE:
		return CONFINE_FILTER(confine_filter_alone);
	case CONFINE_SUPERVISED:
		return CONFINE_FILTER(confine_filter_supervised);
	case CONFINE_SHELL:
		return CONFINE_FILTER(confine_filter_shell);
	}
	return failf(EINVAL, "there is no such role");
}
