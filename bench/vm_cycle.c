/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bare loop that a function host's sustained rate is held against: fork a process
 * that makes a VM as arch/vm.c does (128 MiB MAP_PRIVATE of one memfd, split irqchip, one vCPU),
 * runs its guest to the first exit and ends. The guest is one `out` in real mode; no CPUID, MSRs,
 * devices, confinement, request or answer.
 *
 *   vm_cycle [SECONDS [AT_ONCE...]]   1 s at each of 1 to 8 processes at once
 *
 * The end of a VM waits twice for a grace period of the one SRCU domain that all mmu notifiers
 * share: quick when VMs end one by one, milliseconds when two do, shared when dozens do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch/layout.h"

#define MEMORY_SIZE     (128u << 20)
#define IRQCHIP_PINS    24
#define GUEST_CODE      0x1000u
#define GUEST_PORT      0x10
#define SECONDS_DEFAULT 1.0
#define SECONDS_MIN     0.01
#define SECONDS_MAX     3600
#define COUNTS_DEFAULT  8 /* 1 to so many at once */
#define AT_ONCE_MAX     1000

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "vm_cycle: %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* --- The process of a VM: every step ends it when it fails --- */

static int vm_make(int memory_fd)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), fd, size, vcpu_fd;
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY_SIZE };
	uint64_t identity_map = LAYOUT_KVM_IDENTITY;
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IRQCHIP_PINS } };
	struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };
	void *memory;

	if (kvm_fd < 0)
		die("/dev/kvm");
	fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	if (fd < 0)
		die("KVM_CREATE_VM");
	memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
		      memory_fd, 0);
	if (memory == MAP_FAILED)
		die("guest memory");
	slot.userspace_addr = (uintptr_t)memory;
	if (ioctl(fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ||
	    ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS) < 0 ||
	    ioctl(fd, KVM_ENABLE_CAP, &split) < 0 || ioctl(fd, KVM_ENABLE_CAP, &payload) < 0)
		die("the VM");
	size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu_fd = ioctl(fd, KVM_CREATE_VCPU, 0);
	if (vcpu_fd < 0 || size < 0)
		die("the vCPU");
	return vcpu_fd;
}

static void vm_run(int vcpu_fd)
{
	const struct kvm_run *run =
		mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
	struct kvm_sregs sregs;

	if (run == MAP_FAILED || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		die("the vCPU's state");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
		die("the vCPU's state");
	if (ioctl(vcpu_fd, KVM_RUN, 0) < 0)
		die("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_PORT) {
		fprintf(stderr, "vm_cycle: the guest's first exit has the reason %u, not its out\n",
			run->exit_reason);
		_exit(1);
	}
}

static void cycle_start(int memory_fd)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return;
	vm_run(vm_make(memory_fd));
	_exit(0);
}

/* --- The loop --- */

/* Cycles a second with so many processes at once. */
static double cycle_rate(int memory_fd, unsigned at_once, double seconds)
{
	double start = now_s();
	unsigned running = 0, done = 0;
	int status;

	for (; running < at_once; running++)
		cycle_start(memory_fd);
	while (running) {
		if (wait(&status) < 0 || status)
			exit(1); /* the process has said why */
		running--;
		done++;
		if (now_s() < start + seconds) {
			cycle_start(memory_fd);
			running++;
		}
	}
	return done / (now_s() - start);
}

static int template_memory(void)
{
	static const uint8_t code[] = { 0xe6, GUEST_PORT }; /* out %al, $GUEST_PORT */
	int fd = memfd_create("memory", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, MEMORY_SIZE) < 0 ||
	    pwrite(fd, code, sizeof(code), GUEST_CODE) != sizeof(code))
		die("guest memory");
	return fd;
}

/* A number in these limits, or the end. */
static double argument(const char *text, double min, double max)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end || !(number >= min && number <= max)) {
		fputs("usage: vm_cycle [SECONDS [AT_ONCE...]]\n", stderr);
		exit(2);
	}
	return number;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? argument(argv[1], SECONDS_MIN, SECONDS_MAX) : SECONDS_DEFAULT,
	       rate, best = 0;
	int count = argc > 2 ? argc - 2 : COUNTS_DEFAULT, memory_fd = template_memory();
	unsigned at_once, best_at_once = 0;

	printf("{\"rates\": {");
	for (int i = 0; i < count; i++) {
		at_once = argc > 2 ? (unsigned)argument(argv[2 + i], 1, AT_ONCE_MAX)
				   : (unsigned)i + 1;
		rate = cycle_rate(memory_fd, at_once, seconds);
		printf("%s\"%u\": %.1f", i ? ", " : "", at_once, rate);
		fflush(stdout); /* or each child had it too */
		if (rate > best) {
			best = rate;
			best_at_once = at_once;
		}
	}
	printf("}, \"best\": %.1f, \"best_at_once\": %u}\n", best, best_at_once);
	return 0;
}
