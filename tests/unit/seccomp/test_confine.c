/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Confinement, tried out: a child confines itself and makes one system call; what is
 * forbidden ends it with SIGSYS, what the VM process needs goes through. The parent looks at the
 * child from outside. All that goes through is in tests/golden/filters.txt; here the kernel is asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/sigbus.h"
#include "seccomp/confine.h"

#define CHILD_OK     0
#define CHILD_FAILED 3 /* the call was let through but did not do its work */
#define CHILD_BROKEN 4 /* confinement itself failed */

struct call {
	const char *name;
	long (*make)(void);
};

/* Leaves without exit handlers: those of the sanitizers make calls of their own. */
static void leave(int status)
{
	syscall(SYS_exit_group, status);
}

/* The wait status of a child that confines itself and makes one call. */
static int confined(long (*make)(void), enum confine_role role)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (confine_process(role) < 0) {
			notef("%s", error_text());
			leave(CHILD_BROKEN);
		}
		leave(make() < 0 ? CHILD_FAILED : CHILD_OK);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* --- Forbidden --- */

/* clang-format off */
static long call_open(void) { return syscall(SYS_open, "/dev/null", O_RDONLY); }
static long call_openat(void) { return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }
static long call_creat(void) { return syscall(SYS_creat, "/tmp/virga-confine", 0600); }
static long call_unlink(void) { return unlink("/nonexistent"); }
static long call_mkdir(void) { return mkdirat(AT_FDCWD, "/nonexistent/x", 0700); }
static long call_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long call_socketpair(void)
{
	int fds[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}
static long call_connect(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	return connect(0, (struct sockaddr *)&addr, sizeof(addr));
}
static long call_bind(void) { return bind(0, NULL, 0); }
static long call_sendto_address(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	return sendto(0, "", 1, 0, (struct sockaddr *)&addr, sizeof(addr));
}
static long call_sendto(void) { return sendto(0, "", 1, 0, NULL, 0); }
static long call_fsync(void) { return fsync(0); }
static long call_fcntl_flags(void) { return fcntl(0, F_GETFL); }
static long call_fionread(void) { return ioctl(0, FIONREAD, NULL); }
static long call_execve(void)
{
	char *argv[] = { "true", NULL };

	return execve("/bin/true", argv, NULL);
}
static long call_fork(void) { return syscall(SYS_fork); }
static long call_clone(void) { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static long call_clone3(void) { return syscall(SYS_clone3, NULL, 0); }
static long call_unshare(void) { return unshare(CLONE_NEWUSER); }
static long call_ptrace(void) { return syscall(SYS_ptrace, 0, 0, 0, 0); }
static long call_process_vm(void) { return syscall(SYS_process_vm_writev, getppid(), 0, 0, 0, 0, 0); }
static long call_prctl(void) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static long call_kill(void) { return kill(getpid(), 0); }
static long call_tgkill(void) { return syscall(SYS_tgkill, 1, 1, SIGKILL); }
static long call_setuid(void) { return syscall(SYS_setuid, 0); }
static long call_chroot(void) { return chroot("/"); }
static long call_bpf(void) { return syscall(SYS_bpf, 0, 0, 0); }
static long call_io_uring(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long call_dup(void) { return dup(0); }
static long call_setrlimit(void) { return syscall(SYS_setrlimit, 4, NULL); }
static long call_mprotect_exec(void)
{
	return syscall(SYS_mprotect, NULL, 4096, PROT_READ | PROT_EXEC);
}
static long call_mmap_exec(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
}
static long call_mmap_file(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0);
}
static long call_mmap_shared(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, 0, 0);
}
static long call_mmap_exec_file(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, 0, 0);
}
static long call_tiocsti(void) { return ioctl(0, TIOCSTI, "x"); }
static long call_create_vm(void) { return ioctl(0, KVM_CREATE_VM, 0); }
static long call_memory_region(void) { return ioctl(0, KVM_SET_USER_MEMORY_REGION, NULL); }
static long call_set_regs(void) { return ioctl(0, KVM_SET_REGS, NULL); }
static long call_fcntl_dup(void) { return fcntl(0, F_DUPFD, 0); }
static long call_x32(void) { return syscall(0x40000000 | SYS_getpid); }
/* getpid by the 32-bit entry: number 20 there is writev here, which is allowed. */
static long call_ia32(void)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20) : "memory");
	return ret;
}

#define CALL(name) { #name, call_##name }
#define COUNT(calls) (sizeof(calls) / sizeof((calls)[0]))
static const struct call forbidden[] = {
	CALL(open), CALL(openat), CALL(creat), CALL(unlink), CALL(mkdir), CALL(socket),
	CALL(socketpair), CALL(connect), CALL(bind), CALL(sendto_address), CALL(execve),
	CALL(fork), CALL(clone), CALL(clone3), CALL(unshare), CALL(ptrace), CALL(process_vm),
	CALL(prctl), CALL(kill), CALL(tgkill), CALL(setuid), CALL(chroot), CALL(bpf),
	CALL(io_uring), CALL(dup), CALL(setrlimit), CALL(mprotect_exec), CALL(mmap_exec),
	CALL(mmap_shared), CALL(mmap_exec_file), CALL(tiocsti), CALL(create_vm),
	CALL(fcntl_dup), CALL(fcntl_flags), CALL(sendto), CALL(fsync), CALL(fionread), CALL(x32),
	CALL(ia32),
};

static long call_get_msrs(void) { return ioctl(0, KVM_GET_MSRS, NULL); }
static long call_get_xsave(void) { return ioctl(0, KVM_GET_XSAVE, NULL); }
static long call_pagemap_scan(void) { return ioctl(0, 0xc0606610, NULL); }
static long call_pread(void) { return pread(0, NULL, 0, 0); }
static long call_pwrite(void) { return pwrite(0, NULL, 0, 0); }
static long call_lseek(void) { return lseek(0, 0, SEEK_CUR); }
static long call_ftruncate(void) { return ftruncate(0, 0); }
static long call_recvmsg(void) { return recvmsg(0, NULL, 0); }
static long call_accept(void) { return accept4(0, NULL, NULL, 0); }
static const struct call forbidden_alone[] = {
	CALL(get_msrs), CALL(get_xsave), CALL(pagemap_scan), CALL(pread), CALL(pwrite), CALL(lseek),
	CALL(ftruncate), CALL(recvmsg), CALL(accept), CALL(set_regs),
	CALL(memory_region), CALL(mmap_file),
};
/* Nobody saves a shell or brings it a connection. */
static const struct call forbidden_shell[] = {
	CALL(get_xsave), CALL(pwrite), CALL(lseek), CALL(ftruncate), CALL(accept),
};
/* Nobody loads a machine that runs. */
static const struct call forbidden_supervised[] = {
	CALL(set_regs), CALL(memory_region), CALL(mmap_file),
};
/* clang-format on */

static void check_forbidden(const struct call *call, enum confine_role role)
{
	int status = confined(call->make, role);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("%s: wait status 0x%x, not SIGSYS", call->name, (unsigned)status);
	assert_false(WCOREDUMP(status));
}

static void test_forbidden_calls_kill(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(forbidden); i++) {
		check_forbidden(&forbidden[i], CONFINE_ALONE);
		check_forbidden(&forbidden[i], CONFINE_SUPERVISED);
		check_forbidden(&forbidden[i], CONFINE_SHELL);
	}
}

/* Without a supervisor nobody saves the machine or brings it connections. */
static void test_forbidden_by_role(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(forbidden_alone); i++)
		check_forbidden(&forbidden_alone[i], CONFINE_ALONE);
	for (size_t i = 0; i < COUNT(forbidden_supervised); i++)
		check_forbidden(&forbidden_supervised[i], CONFINE_SUPERVISED);
	for (size_t i = 0; i < COUNT(forbidden_shell); i++)
		check_forbidden(&forbidden_shell[i], CONFINE_SHELL);
}

/* --- Needed --- */

static long need_memory(void)
{
	char *p = malloc(1 << 20);
	char *q = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!p || q == MAP_FAILED || mprotect(q, 4096, PROT_READ) < 0 || syscall(SYS_brk, 0) < 0)
		return -1;
	memset(p, 1, 1 << 20);
	free(p);
	return munmap(q, 8192);
}

static long need_file(void)
{
	int fd = memfd_create("answer", MFD_CLOEXEC);
	char byte = 0;

	if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || pwrite(fd, "x", 1, 65536) != 1)
		return -1;
	if (lseek(fd, 0, SEEK_DATA) != 65536 || pread(fd, &byte, 1, 65536) != 1 || byte != 'x')
		return -1;
	return close(fd);
}

static long need_signals(void)
{
	const struct timespec now = { 0, 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) || pthread_kill(pthread_self(), SIGURG))
		return -1;
	return sigtimedwait(&set, NULL, &now) == SIGURG ? 0 : -1;
}

static long need_time(void)
{
	struct timespec ts = { 0, 1000 };

	if (clock_gettime(CLOCK_MONOTONIC, &ts) || syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts))
		return -1;
	ts = (struct timespec){ 0, 1000 };
	return syscall(SYS_nanosleep, &ts, NULL); /* the C library here calls another */
}

static long need_random(void)
{
	char bytes[16];

	return syscall(SYS_getrandom, bytes, sizeof(bytes), 0) == sizeof(bytes) ? 0 : -1;
}

/* An answer that is too long for one message. */
static long need_payload(void)
{
	struct msghdr message = { 0 };
	int fd = memfd_create("payload", MFD_CLOEXEC);

	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd))
		return -1;
	return sendmsg(-1, &message, MSG_NOSIGNAL) < 0 && errno == EBADF ? 0 : -1;
}

/* A connection that the guest closes by halves. */
static long need_halves(void)
{
	return syscall(SYS_shutdown, -1, SHUT_WR) < 0 && errno == EBADF ? 0 : -1;
}

static long need_poll(void)
{
	struct pollfd p = { .fd = 1, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 ? write(1, "", 0) : -1;
}

/* An ioctl that is let through reaches the descriptor: there is none. */
static long try_ioctls(const unsigned *requests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		/* As glibc extends the number, and as musl does. */
		if (syscall(SYS_ioctl, -1, (unsigned long)requests[i], 0) != -1 || errno != EBADF ||
		    syscall(SYS_ioctl, -1, (long)(int)requests[i], 0) != -1 || errno != EBADF)
			return -1;
	}
	return 0;
}

static long need_ioctls(void)
{
	static const unsigned requests[] = {
		KVM_RUN, KVM_SIGNAL_MSI, KVM_SET_GSI_ROUTING, KVM_GET_REGS, KVM_GET_SREGS,
	};

	return try_ioctls(requests, sizeof(requests) / sizeof(requests[0]));
}

static long need_state(void)
{
	static const unsigned requests[] = {
		KVM_KVMCLOCK_CTRL,   KVM_GET_SREGS2,      KVM_GET_XSAVE,
		KVM_GET_XSAVE2,      KVM_GET_XCRS,        KVM_GET_DEBUGREGS,
		KVM_GET_VCPU_EVENTS, KVM_GET_MP_STATE,    KVM_GET_LAPIC,
		KVM_GET_CPUID2,      KVM_GET_MSRS,        KVM_GET_MSR_INDEX_LIST,
		KVM_GET_CLOCK,       KVM_CHECK_EXTENSION, 0xc0606610 /* PAGEMAP_SCAN */,
	};

	return try_ioctls(requests, sizeof(requests) / sizeof(requests[0]));
}

static long need_load(void)
{
	static const unsigned requests[] = {
		KVM_SET_CLOCK,
		KVM_SET_SREGS2,
		KVM_SET_REGS,
		KVM_SET_XSAVE,
		KVM_SET_XCRS,
		KVM_SET_DEBUGREGS,
		KVM_SET_VCPU_EVENTS,
		KVM_SET_MP_STATE,
		KVM_SET_LAPIC,
		KVM_GET_MSRS,
		KVM_SET_MSRS,
		KVM_SET_TSC_KHZ,
		KVM_SET_DEVICE_ATTR,
		KVM_KVMCLOCK_CTRL,
		KVM_SET_USER_MEMORY_REGION,
		0xc0606610 /* PAGEMAP_SCAN */,
		0xc040aed5 /* KVM_PRE_FAULT_MEMORY */,
	};

	return try_ioctls(requests, COUNT(requests));
}

/* A file that was passed, over addresses that were kept for it, and somewhere to be read. */
static long need_template(void)
{
	void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("template", MFD_CLOEXEC);

	if (at == MAP_FAILED || write(fd, "template", 8) != 8)
		return -1;
	at = mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
	if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0) == MAP_FAILED)
		return -1;
	return at != MAP_FAILED && memcmp(at, "template", 8) == 0 ? 0 : -1;
}

static void check_needed(const struct call *call, enum confine_role role)
{
	int status = confined(call->make, role);

	if (status)
		fail_msg("%s: wait status 0x%x", call->name, (unsigned)status);
}

static void test_needed_calls_work(void **state)
{
	static const struct call always[] = {
		{ "memory", need_memory }, { "signals", need_signals }, { "time", need_time },
		{ "poll", need_poll },     { "ioctls", need_ioctls },   { "payload", need_payload },
	};
	static const struct call supervised[] = {
		{ "file", need_file },
		{ "random", need_random },
		{ "state", need_state },
		{ "halves", need_halves },
	};
	static const struct call shell[] = {
		{ "random", need_random },
		{ "template", need_template },
		{ "load", need_load },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(always); i++) {
		check_needed(&always[i], CONFINE_ALONE);
		check_needed(&always[i], CONFINE_SUPERVISED);
		check_needed(&always[i], CONFINE_SHELL);
	}
	for (size_t i = 0; i < COUNT(supervised); i++)
		check_needed(&supervised[i], CONFINE_SUPERVISED);
	for (size_t i = 0; i < COUNT(shell); i++)
		check_needed(&shell[i], CONFINE_SHELL);
}

/* A page that a file has lost, where none is expected: the handler returns, and SIGBUS ends it. */
static void test_lost_page(void **state)
{
	int fd = memfd_create("lost", MFD_CLOEXEC), status;
	volatile char *page;
	pid_t pid;

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(page != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		sigbus_begin(CHILD_BROKEN);
		if (confine_process(CONFINE_SUPERVISED) < 0 || ftruncate(fd, 0) < 0)
			leave(CHILD_BROKEN);
		leave(*page);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	munmap((void *)page, 4096);
	close(fd);
}

/* --- Seen from outside --- */

/* Says that it runs and stays: sanitizers make calls of their own when a thread begins or ends. */
static void *thread_stay(void *opaque)
{
	if (write(*(const int *)opaque, "", 1) != 1)
		leave(CHILD_BROKEN);
	for (;;)
		poll(NULL, 0, -1);
	return NULL;
}

/* The value of a line of /proc/PID/task/TID/status. */
static uint64_t status_value(const char *text, const char *key)
{
	const char *line = strstr(text, key);

	assert_non_null(line);
	return strtoull(line + strlen(key), NULL, 16);
}

static void check_task(pid_t pid, pid_t tid)
{
	static const char *const none[] = { "CapInh:", "CapPrm:", "CapEff:", "CapAmb:" };
	char path[64], text[8192] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(status_value(text, none[i]), 0);
	assert_int_equal(status_value(text, "NoNewPrivs:"), 1);
	assert_int_equal(status_value(text, "Seccomp:"), 2);
}

/* Checks every thread of the process; returns how many it has. */
static unsigned check_tasks(pid_t pid)
{
	struct dirent *entry;
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.') {
			check_task(pid, atoi(entry->d_name));
			count++;
		}
	}
	closedir(dir);
	return count;
}

/* Who may, has ambient capabilities to lose. */
static void make_ambient(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, caps) < 0)
		return;
	caps[0].inheritable = caps[0].permitted;
	syscall(SYS_capset, &head, caps);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0);
}

static void test_every_thread(void **state)
{
	int started[2], ready[2], end[2];
	char byte;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(pipe(started) | pipe(ready) | pipe(end), 0);
	pid = fork();
	if (pid == 0) {
		pthread_t thread;

		close(end[1]);
		make_ambient();
		if (confine_privileges() < 0 ||
		    pthread_create(&thread, NULL, thread_stay, &started[1]) ||
		    read(started[0], &byte, 1) != 1 || confine_process(CONFINE_SUPERVISED) < 0 ||
		    write(ready[1], "", 1) != 1 || read(end[0], &byte, 1) != 1)
			leave(CHILD_BROKEN);
		leave(CHILD_OK);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(check_tasks(pid), 2);
	assert_int_equal(write(end[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, CHILD_OK);
	close(started[0]);
	close(started[1]);
	close(ready[0]);
	close(end[0]);
	close(end[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden_calls_kill),
		cmocka_unit_test(test_forbidden_by_role),
		cmocka_unit_test(test_needed_calls_work),
		cmocka_unit_test(test_lost_page),
		cmocka_unit_test(test_every_thread),
	};

	return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
}
