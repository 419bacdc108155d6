/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process gives up what it no longer needs (seccomp/confine.h). The filter's
 * instructions are in the program; docs/decisions/filter-at-build-time.md says why.
 */
#include "seccomp/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/error.h"
#include "filter.h"

/*
 * Permitted, effective and inheritable; ambient ones go with them. Not the bounding set: it counts
 * in execve only, and dropping it costs 160 us.
 */
static int confine_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capset, &head, none) < 0)
		return failf(errno, "cannot drop capabilities: %s", strerror(errno));
	return 0;
}

int confine_privileges(void)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failf(errno, "cannot give up new privileges: %s", strerror(errno));
	/* A core file, or a debugger of the same user, would show guest memory. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return failf(errno, "cannot forbid core dumps: %s", strerror(errno));
	return confine_capabilities();
}

int confine_vm_process(bool supervised)
{
	const struct sock_fprog alone = {
		.len = sizeof(confine_filter_alone) / sizeof(confine_filter_alone[0]),
		.filter = (struct sock_filter *)confine_filter_alone,
	};
	const struct sock_fprog with_supervisor = {
		.len = sizeof(confine_filter_supervised) / sizeof(confine_filter_supervised[0]),
		.filter = (struct sock_filter *)confine_filter_supervised,
	};
	int ret = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : confine_privileges();
	long thread;

	if (ret < 0)
		return ret;
	thread = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
			 supervised ? &with_supervisor : &alone);
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
