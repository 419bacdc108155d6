/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs at build time: turns the table below into a BPF program with libseccomp and prints
 * it as a C header. What is not in the table ends the process. The arguments are the files of the
 * devices of this build, which say in comments what they need once confined:
 *
 *     syscalls: getrandom - entropy
 *     syscalls supervised: accept4 recvfrom - connections from the host
 *
 * in every role, or in the one named. So a smaller device set gives a narrower filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILTER_INSNS_MAX    4096

/* _IOWR('f', 16, struct pm_scan_arg) of Linux 6.7; older headers lack it. */
#define FILTER_PAGEMAP_SCAN _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96)

/* KVM_PRE_FAULT_MEMORY of Linux 6.11 */
#define FILTER_PRE_FAULT    _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd5, 64)

/* Allowed when (value & mask) == wanted for each argument that has a condition. */
struct rule {
	int syscall;
	const char *reason;
	unsigned count;
	struct scmp_arg_cmp cmp[2];
};

#define LOW32 0xffffffffull

/* clang-format off */
#define IS(arg, mask, wanted)			 { arg, SCMP_CMP_MASKED_EQ, mask, wanted }
#define ALLOW(name, reason)			 { SCMP_SYS(name), reason, 0, { { 0 } } }
#define WHEN(name, arg, mask, wanted, reason)	 { SCMP_SYS(name), reason, 1, { IS(arg, mask, wanted) } }
#define MAP_KIND				 (MAP_ANONYMOUS | MAP_PRIVATE | MAP_SHARED)
/* Never executable, and of that kind. */
#define MAP(kind, reason)			 { SCMP_SYS(mmap), reason, 2, { \
	IS(2, PROT_EXEC, 0), IS(3, MAP_KIND, kind) } }
/* The C libraries differ in how they extend an ioctl's number: only its low half counts. */
#define IOCTL(request, reason)			 WHEN(ioctl, 1, LOW32, request, reason)

/* The VM process: KVM, devices and guest memory, everything open already. */
static const struct rule vm_process[] = {
	/* The vCPUs; registers for a crash report */
	IOCTL(KVM_RUN,			"run the guest"),
	IOCTL(KVM_SIGNAL_MSI,		"interrupts"),
	IOCTL(KVM_SET_GSI_ROUTING,	"interrupts through irqfds"),
	IOCTL(KVM_GET_REGS,		"crash report"),
	IOCTL(KVM_GET_SREGS,		"crash report"),

	/* Descriptors that are open */
	ALLOW(read,			"back ends, wake-ups"),
	ALLOW(write,			"back ends, wake-ups, stderr"),
	ALLOW(readv,			"back ends"),
	ALLOW(writev,			"back ends, stdio"),
	ALLOW(close,			"back ends"),
	ALLOW(poll,			"back ends, stderr"),
	ALLOW(ppoll,			"back ends, stderr"),
	ALLOW(epoll_wait,		"loop thread"),
	ALLOW(epoll_pwait,		"loop thread"),
	ALLOW(epoll_ctl,		"loop thread"),
	ALLOW(sendmsg,			"an answer on its way to the parent"),
	ALLOW(memfd_create,		"the same, a long one"),
	IOCTL(FIONREAD,			"back ends"),
	IOCTL(TIOCGWINSZ,		"the first output by stdio (musl)"),

	/* Memory: never executable, and no file is mapped any more */
	MAP(MAP_ANONYMOUS | MAP_PRIVATE, "memory allocation"),
	WHEN(mprotect, 2, PROT_EXEC, 0,	"memory allocation"),
	ALLOW(munmap,			"memory allocation"),
	ALLOW(mremap,			"memory allocation"),
	ALLOW(brk,			"memory allocation"),
	ALLOW(madvise,			"memory allocation, guest memory"),

	/* Threads that exist, signals, time */
	ALLOW(futex,			"locks"),
	ALLOW(sched_yield,		"locks"),
	ALLOW(rt_sigprocmask,		"threads"),
	ALLOW(rt_sigaction,		"abort()"),
	ALLOW(rt_sigreturn,		"signal handlers"),
	ALLOW(rt_sigtimedwait,		"a vCPU that waits"),
	ALLOW(restart_syscall,		"after a stop signal"),
	WHEN(tkill, 1, LOW32, SIGURG,	"kick a vCPU (musl)"),
	WHEN(tgkill, 2, LOW32, SIGURG,	"kick a vCPU (glibc)"),
	ALLOW(gettid,			"threads"),
	ALLOW(rseq,			"first steps of a thread just made (glibc)"),
	ALLOW(set_robust_list,		"first steps of a thread just made (glibc)"),
	ALLOW(getpid,			"threads"),
	ALLOW(clock_gettime,		"time"),
	ALLOW(clock_nanosleep,		"time"),
	ALLOW(nanosleep,		"time"),
	ALLOW(setitimer,		"time-outs"),
	ALLOW(exit,			"threads"),
	ALLOW(exit_group,		"the end"),
};

/* What more it needs when a supervisor can have it paused and saved and passes it connections. */
static const struct rule supervised[] = {
	IOCTL(KVM_KVMCLOCK_CTRL,	"tell the guest that it was paused"),
	IOCTL(KVM_CHECK_EXTENSION,	"size of the FPU state"),
	IOCTL(KVM_GET_SREGS2,		"state"),
	IOCTL(KVM_GET_XSAVE,		"state"),
	IOCTL(KVM_GET_XSAVE2,		"state"),
	IOCTL(KVM_GET_XCRS,		"state"),
	IOCTL(KVM_GET_DEBUGREGS,	"state"),
	IOCTL(KVM_GET_VCPU_EVENTS,	"state"),
	IOCTL(KVM_GET_MP_STATE,		"state"),
	IOCTL(KVM_GET_LAPIC,		"state"),
	IOCTL(KVM_GET_CPUID2,		"state"),
	IOCTL(KVM_GET_MSRS,		"state"),
	IOCTL(KVM_GET_MSR_INDEX_LIST,	"state"),
	IOCTL(KVM_GET_TSC_KHZ,		"state"),
	IOCTL(KVM_GET_CLOCK,		"state"),
	IOCTL(KVM_GET_DEVICE_ATTR,	"state: TSC offset"),
	ALLOW(uname,			"the host that a snapshot was made on"),
	IOCTL(FILTER_PAGEMAP_SCAN,	"a clone's own pages"),
	ALLOW(pread64,			"a clone's own pages, backing files"),
	ALLOW(pwrite64,			"snapshot files"),
	ALLOW(pwritev,			"snapshot files"),
	ALLOW(lseek,			"holes in guest memory"),
	ALLOW(ftruncate,		"snapshot files"),
	ALLOW(fallocate,		"snapshot files, memory given back"),
	ALLOW(copy_file_range,		"snapshot files"),
	ALLOW(fsync,			"snapshot files"),
	ALLOW(fdatasync,		"snapshot files"),
	ALLOW(fstat,			"sizes of what was passed"),
	ALLOW(recvmsg,			"supervisor"),
	/* Only along a connection: without a destination address. */
	WHEN(sendto, 4, ~0ull, 0,	"streams"),
	WHEN(fcntl, 1, LOW32, F_GETFL,	"descriptors that were passed"),
	WHEN(fcntl, 1, LOW32, F_SETFL,	"descriptors that were passed"),
	ALLOW(timer_settime,		"time-outs"),
	ALLOW(timerfd_settime,		"time-outs"),
	ALLOW(getrandom,		"generation ids"),
};

/* What more a shell of the function host needs: it gets a template, and gets it again, confined. */
static const struct rule shell[] = {
	ALLOW(recvmsg,			"the front"),
	ALLOW(getrandom,		"generation ids"),
	ALLOW(pread64,			"long requests; a template's bytes"),
	ALLOW(fstat,			"sizes of what was passed"),
	MAP(MAP_PRIVATE,		"a template's memory, over reserved addresses or to copy from"),
	IOCTL(FILTER_PAGEMAP_SCAN,	"a clone's own pages"),
	IOCTL(FILTER_PRE_FAULT,		"second-level tables"),
	IOCTL(KVM_CHECK_EXTENSION,	"size of the FPU state"),
	IOCTL(KVM_KVMCLOCK_CTRL,	"tell the guest that it was paused"),
	IOCTL(KVM_GET_MSRS,		"the guest's TSC; what a vCPU holds already"),
	IOCTL(KVM_GET_MSR_INDEX_LIST,	"whether a template has all that a reset puts back"),
	IOCTL(KVM_SET_USER_MEMORY_REGION, "RAM anew, after page tables were rewound"),
	IOCTL(KVM_SET_CLOCK,		"loading"),
	IOCTL(KVM_SET_SREGS,		"loading"),
	IOCTL(KVM_SET_SREGS2,		"loading"),
	IOCTL(KVM_SET_REGS,		"loading"),
	IOCTL(KVM_SET_XSAVE,		"loading"),
	IOCTL(KVM_SET_XCRS,		"loading"),
	IOCTL(KVM_SET_DEBUGREGS,	"loading"),
	IOCTL(KVM_SET_VCPU_EVENTS,	"loading"),
	IOCTL(KVM_SET_MP_STATE,		"loading"),
	IOCTL(KVM_SET_LAPIC,		"loading"),
	IOCTL(KVM_SET_MSRS,		"loading"),
	IOCTL(KVM_SET_TSC_KHZ,		"loading"),
	IOCTL(KVM_SET_DEVICE_ATTR,	"loading: TSC offset"),
};
/* clang-format on */

struct role {
	const char *name;
	const struct rule *rules; /* beside those of every VM process */
	size_t count;
};

#define COUNT(rules) (sizeof(rules) / sizeof((rules)[0]))

static const struct role roles[] = {
	{ "alone", NULL, 0 },
	{ "supervised", supervised, COUNT(supervised) },
	{ "shell", shell, COUNT(shell) },
};

static void filter_fail(const char *what, int ret)
{
	fprintf(stderr, "filter_gen: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void filter_say(const char *file, const char *what, const char *text)
{
	fprintf(stderr, "filter_gen: %s: %s: '%s'\n", file, what, text);
	exit(1);
}

static void filter_add(scmp_filter_ctx ctx, const struct rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int ret = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, rules[i].syscall,
						       rules[i].count, rules[i].cmp);
		if (ret < 0)
			filter_fail(rules[i].reason, ret);
	}
}

static bool filter_is_role(const char *name)
{
	for (size_t i = 0; i < COUNT(roles); i++) {
		if (!strcmp(roles[i].name, name))
			return true;
	}
	return false;
}

/* One `syscalls` comment, from behind that word: [ROLE]: NAME... - REASON. */
static void filter_add_comment(scmp_filter_ctx ctx, const struct role *role, const char *file,
			       char *text)
{
	char *names = strchr(text, ':'), *reason = strstr(text, " - ");
	const char *name, *wanted;
	int ret, number;

	if (!names || !reason || names > reason)
		filter_say(file, "not of the form 'syscalls [ROLE]: NAME... - REASON'", text);
	*names++ = *reason = '\0';
	wanted = strtok(text, " ");
	if (wanted && !filter_is_role(wanted))
		filter_say(file, "no role", wanted);
	if (wanted && strcmp(wanted, role->name) != 0)
		return;
	for (name = strtok(names, " "); name; name = strtok(NULL, " ")) {
		number = seccomp_syscall_resolve_name(name);
		if (number == __NR_SCMP_ERROR)
			filter_say(file, "no system call", name);
		ret = seccomp_rule_add_exact(ctx, SCMP_ACT_ALLOW, number, 0);
		if (ret < 0)
			filter_fail(name, ret);
	}
}

/* What the device in that file needs. */
static void filter_add_device(scmp_filter_ctx ctx, const struct role *role, const char *file)
{
	FILE *in = fopen(file, "r");
	char line[256];

	if (!in)
		filter_fail(file, -errno);
	while (fgets(line, sizeof(line), in)) {
		char *text = line + strspn(line, " /*\t");

		if (!strncmp(text, "syscalls", 8) && (text[8] == ' ' || text[8] == ':'))
			filter_add_comment(ctx, role, file, text + 8);
	}
	fclose(in);
}

static scmp_filter_ctx filter_build(const struct role *role, char **devices)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int ret;

	if (!ctx)
		filter_fail("seccomp_init", -ENOMEM);
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (ret < 0)
		filter_fail("bad architecture", ret);
	/* A binary tree: loading a filter runs it once for every system call there is. */
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (ret < 0)
		filter_fail("binary tree", ret);
	filter_add(ctx, vm_process, COUNT(vm_process));
	filter_add(ctx, role->rules, role->count);
	for (; *devices; devices++)
		filter_add_device(ctx, role, *devices);
	return ctx;
}

static void filter_print(const char *name, scmp_filter_ctx ctx)
{
	static struct sock_filter insns[FILTER_INSNS_MAX];
	int fd = memfd_create("filter", 0);
	int ret = seccomp_export_bpf(ctx, fd);
	ssize_t len;

	if (ret < 0)
		filter_fail("export", ret);
	len = pread(fd, insns, sizeof(insns), 0);
	if (len <= 0 || len == (ssize_t)sizeof(insns))
		filter_fail("export", -E2BIG);
	printf("static const struct sock_filter confine_filter_%s[] = {\n", name);
	for (size_t i = 0; i < (size_t)len / sizeof(insns[0]); i++)
		printf("\t{ 0x%02x, %u, %u, 0x%08x },\n", insns[i].code, insns[i].jt, insns[i].jf,
		       insns[i].k);
	printf("};\n");
	close(fd);
}

int main(int argc, char **argv)
{
	(void)argc;
	printf("/* Generated by seccomp/filter_gen.c. */\n#include <linux/filter.h>\n\n");
	for (size_t i = 0; i < COUNT(roles); i++) {
		scmp_filter_ctx ctx = filter_build(&roles[i], argv + 1);

		filter_print(roles[i].name, ctx);
		seccomp_release(ctx);
	}
	return fflush(stdout) == EOF;
}
