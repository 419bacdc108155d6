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
 *
 * Before the files: --glibc adds what a confined process needs in the unit tests, which are linked
 * with another C library; --list prints the rules in place of the programs, a line each of role (or
 * every), name and reason, with tabs between; --without ROLE NAME leaves that rule out, so that it
 * can be seen who needs it (tests/long/test_filter_rules.py).
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

#define FILTER_INSNS_MAX 4096

/* Of Linux 6.7 and 6.11; older headers lack them. */
#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96)
#endif
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_PRE_FAULT_MEMORY _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd5, 64)
#endif

/* Allowed when (value & mask) == wanted for each argument that has a condition. */
struct rule {
	int syscall;
	const char *name; /* the call's, or what of it */
	const char *reason;
	unsigned count;
	struct scmp_arg_cmp cmp[2];
};

#define LOW32 0xffffffffull

/* clang-format off */
#define IS(arg, mask, wanted)			 { arg, SCMP_CMP_MASKED_EQ, mask, wanted }
#define ALLOW(call, reason)			 { SCMP_SYS(call), #call, reason, 0, { { 0 } } }
#define WHEN(call, name, arg, mask, wanted, reason) \
	{ SCMP_SYS(call), name, reason, 1, { IS(arg, mask, wanted) } }
#define MAP_KIND				 (MAP_ANONYMOUS | MAP_PRIVATE | MAP_SHARED)
/* Never executable, and of that kind. */
#define MAP(kind, reason)			 { SCMP_SYS(mmap), "mmap " #kind, reason, 2, { \
	IS(2, PROT_EXEC, 0), IS(3, MAP_KIND, kind) } }
/* The C libraries differ in how they extend an ioctl's number: only its low half counts. */
#define IOCTL(request, reason)			 WHEN(ioctl, #request, 1, LOW32, request, reason)

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
	ALLOW(close,			"back ends"),
	ALLOW(poll,			"back ends, stderr"),
	ALLOW(epoll_pwait,		"loop thread"),
	ALLOW(epoll_ctl,		"loop thread"),
	ALLOW(sendmsg,			"an answer on its way to the parent"),
	ALLOW(memfd_create,		"the same, a long one"),

	/* Memory: never executable, and no file is mapped any more */
	MAP(MAP_ANONYMOUS | MAP_PRIVATE, "memory allocation"),
	WHEN(mprotect, "mprotect", 2, PROT_EXEC, 0, "memory allocation"),
	ALLOW(munmap,			"memory allocation"),
	ALLOW(mremap,			"memory allocation"),
	ALLOW(brk,			"memory allocation"),
	ALLOW(madvise,			"memory allocation, guest memory"),

	/* Threads that exist, signals, time */
	ALLOW(futex,			"locks"),
	ALLOW(sched_yield,		"locks"),
	ALLOW(rt_sigprocmask,		"threads"),
	ALLOW(rt_sigreturn,		"signal handlers"),
	ALLOW(rt_sigtimedwait,		"a vCPU that waits"),
	ALLOW(restart_syscall,		"after a stop signal"),
	WHEN(tkill, "tkill", 1, LOW32, SIGURG, "kick a vCPU"),
	ALLOW(clock_gettime,		"time"),
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
	IOCTL(KVM_GET_CLOCK,		"state"),
	IOCTL(KVM_GET_DEVICE_ATTR,	"state: TSC offset"),
	ALLOW(uname,			"the host that a snapshot was made on"),
	IOCTL(PAGEMAP_SCAN,		"a clone's own pages"),
	ALLOW(pread64,			"a clone's own pages, backing files"),
	ALLOW(pwrite64,			"snapshot files"),
	ALLOW(lseek,			"holes in guest memory"),
	ALLOW(ftruncate,		"snapshot files"),
	ALLOW(fstat,			"sizes of what was passed"),
	ALLOW(recvmsg,			"supervisor"),
};

/* What more a shell of the function host needs: it gets a template, and gets it again, confined. */
static const struct rule shell[] = {
	ALLOW(recvmsg,			"the front"),
	ALLOW(getrandom,		"generation ids"),
	ALLOW(pread64,			"long requests; a template's bytes"),
	ALLOW(fstat,			"sizes of what was passed"),
	MAP(MAP_PRIVATE,		"a template's memory, over reserved addresses or to copy from"),
	IOCTL(PAGEMAP_SCAN,		"a clone's own pages"),
	IOCTL(KVM_PRE_FAULT_MEMORY,	"second-level tables"),
	IOCTL(KVM_CHECK_EXTENSION,	"size of the FPU state"),
	IOCTL(KVM_KVMCLOCK_CTRL,	"tell the guest that it was paused"),
	IOCTL(KVM_GET_MSRS,		"the guest's TSC; what a vCPU holds already"),
	IOCTL(KVM_GET_MSR_INDEX_LIST,	"whether a template has all that a reset puts back"),
	IOCTL(KVM_SET_USER_MEMORY_REGION, "RAM anew, after page tables were rewound"),
	IOCTL(KVM_SET_CLOCK,		"loading"),
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

/* What the C library of the unit tests calls where that of the product calls nothing or another. */
static const struct rule glibc[] = {
	ALLOW(epoll_wait,		"loop thread"),
	WHEN(tgkill, "tgkill", 2, LOW32, SIGURG, "kick a vCPU"),
	ALLOW(getpid,			"kick a vCPU"),
	ALLOW(gettid,			"kick a vCPU"),
	ALLOW(rseq,			"first steps of a thread just made"),
	ALLOW(set_robust_list,		"first steps of a thread just made"),
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

/* What is to be done with the rules: added to a role's filter, but for one, or listed. */
struct build {
	const struct role *role; /* NULL: list all */
	scmp_filter_ctx ctx;
	bool glibc;
	const char *without_role; /* NULL: add all */
	const char *without_name;
};

#define EVERY_ROLE "every"

static bool filter_leaves_out(const struct build *b, const char *name)
{
	return b->without_role && !strcmp(b->without_name, name) &&
	       (!strcmp(b->without_role, EVERY_ROLE) || !strcmp(b->without_role, b->role->name));
}

/* A rule of that role; NULL: of every one. */
static void filter_rule(const struct build *b, const char *role, const struct rule *rule)
{
	int ret;

	if (!b->role) {
		printf("%s\t%s\t%s\n", role ? role : EVERY_ROLE, rule->name, rule->reason);
		return;
	}
	if ((role && strcmp(role, b->role->name) != 0) || filter_leaves_out(b, rule->name))
		return;
	ret = seccomp_rule_add_exact_array(b->ctx, SCMP_ACT_ALLOW, rule->syscall, rule->count,
					   rule->cmp);
	if (ret < 0)
		filter_fail(rule->name, ret);
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
static void filter_comment(const struct build *b, const char *file, char *text)
{
	char *names = strchr(text, ':'), *reason = strstr(text, " - ");
	const char *role;

	if (!names || !reason || names > reason)
		filter_say(file, "not of the form 'syscalls [ROLE]: NAME... - REASON'", text);
	*names++ = *reason = '\0';
	reason += 3;
	reason[strcspn(reason, "\n")] = '\0';
	if (strstr(reason, " */"))
		*strstr(reason, " */") = '\0';
	role = strtok(text, " ");
	if (role && !filter_is_role(role))
		filter_say(file, "no role", role);
	for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
		const struct rule rule = {
			seccomp_syscall_resolve_name(name), name, reason, 0, { { 0 } }
		};

		if (rule.syscall == __NR_SCMP_ERROR)
			filter_say(file, "no system call", name);
		filter_rule(b, role, &rule);
	}
}

/* What the device in that file needs. */
static void filter_device(const struct build *b, const char *file)
{
	FILE *in = fopen(file, "r");
	char line[256];

	if (!in)
		filter_fail(file, -errno);
	while (fgets(line, sizeof(line), in)) {
		char *text = line + strspn(line, " /*\t");

		if (!strncmp(text, "syscalls", 8) && (text[8] == ' ' || text[8] == ':'))
			filter_comment(b, file, text + 8);
	}
	fclose(in);
}

static void filter_rules(const struct build *b, char **devices)
{
	for (size_t i = 0; i < COUNT(vm_process); i++)
		filter_rule(b, NULL, &vm_process[i]);
	for (size_t i = 0; b->glibc && i < COUNT(glibc); i++)
		filter_rule(b, NULL, &glibc[i]);
	for (size_t r = 0; r < COUNT(roles); r++) {
		for (size_t i = 0; i < roles[r].count; i++)
			filter_rule(b, roles[r].name, &roles[r].rules[i]);
	}
	for (; *devices; devices++)
		filter_device(b, *devices);
}

static scmp_filter_ctx filter_init(void)
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
	struct build b = { 0 };

	argv++;
	if (argc > 1 && !strcmp(*argv, "--list")) {
		filter_rules(&b, argv + 1);
		return fflush(stdout) == EOF;
	}
	if (argc > 1 && !strcmp(*argv, "--glibc")) {
		b.glibc = true;
		argv++;
		argc--;
	}
	if (argc > 3 && !strcmp(*argv, "--without")) {
		b.without_role = argv[1];
		b.without_name = argv[2];
		argv += 3;
	}
	printf("/* Generated by seccomp/filter_gen.c. */\n#include <linux/filter.h>\n\n");
	for (size_t i = 0; i < COUNT(roles); i++) {
		b.role = &roles[i];
		b.ctx = filter_init();
		filter_rules(&b, argv);
		filter_print(roles[i].name, b.ctx);
		seccomp_release(b.ctx);
	}
	return fflush(stdout) == EOF;
}
