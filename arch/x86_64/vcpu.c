/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a vCPU and setting it up for a cold boot (arch/vcpu.h). PVH entry: Xen's
 * x86/HVM direct boot ABI; 64-bit entry: the Linux x86 boot protocol.
 */
#include "arch/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/machine.h"

#define CR0_PE          0x1u
#define CR0_ET          0x10u
#define CR0_PG          0x80000000u
#define CR4_PAE         0x20u
#define EFER_LME        0x100u
#define EFER_LMA        0x400u
#define PTE_TABLE       0x3u  /* present, writable */
#define PTE_HUGE        0x83u /* the same, 2 MiB */

/* MTRRs on, default type write-back: what firmware would have left. */
#define MTRR_ENABLED_WB (1u << 11 | 6u)

#define KVM_SIGSET_SIZE 8 /* bytes of the kernel's sigset_t */

/* Inside KVM_RUN everything stays blocked but what ends or kicks the vCPU (arch/vm.h). */
int vcpu_set_signal_mask(struct vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask head;
		uint8_t set[KVM_SIGSET_SIZE];
	} mask = { .head.len = KVM_SIGSET_SIZE };
	uint64_t blocked = ~0ull;
	sigset_t taken;

	vcpu_signals(vcpu, &taken);
	/* A fault of virga's own must still be delivered. */
	sigaddset(&taken, SIGSEGV);
	sigaddset(&taken, SIGBUS);
	sigaddset(&taken, SIGILL);
	sigaddset(&taken, SIGSYS);
	for (int signal = 1; signal <= KVM_SIGSET_SIZE * 8; signal++)
		if (sigismember(&taken, signal) == 1)
			blocked &= ~(1ull << (signal - 1));
	memcpy(mask.set, &blocked, sizeof(mask.set));
	if (ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask) < 0)
		return failf(errno, "cannot set vCPU %u's signal mask: %s", vcpu->index,
			     strerror(errno));
	return 0;
}

int vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned index)
{
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), ret;
	void *run;

	*vcpu = (struct vcpu){ .vm = vm, .index = index, .fresh = true, .tsc_khz = vm->tsc_khz };
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, index);
	if (vcpu->fd < 0)
		return failf(errno, "cannot create vCPU %u: %s", index, strerror(errno));
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		ret = failf(errno, "cannot map vCPU %u's run page: %s", index, strerror(errno));
		goto close_fd;
	}
	vcpu->run = run;
	vcpu->run_size = (uint32_t)size;
	ret = vcpu_set_signal_mask(vcpu);
	if (ret < 0)
		goto unmap_run;
	return 0;

unmap_run:
	munmap(run, (size_t)size);
close_fd:
	close(vcpu->fd);
	return ret;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	munmap(vcpu->run, vcpu->run_size);
	close(vcpu->fd);
}

static struct kvm_segment vcpu_segment(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !code64,
		.l = code64,
	};
}

static void vcpu_flat_segments(struct kvm_sregs *sregs, bool code64)
{
	struct kvm_segment data = vcpu_segment(0x18, 0x3, false);

	sregs->cs = vcpu_segment(0x10, 0xb, code64);
	sregs->ds = sregs->es = sregs->ss = sregs->fs = sregs->gs = data;
	sregs->tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
}

/* Page tables and GDT of the 64-bit entry: identity for 4 GiB in 2 MiB pages, cs 0x10, ds 0x18. */
static int vcpu_write_tables(const struct memory *m)
{
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull };
	uint64_t *pml4 = memory_at(m, LAYOUT_BOOT_PML4, 6ull * LAYOUT_PAGE_SIZE);

	if (!pml4 || memory_write(m, LAYOUT_BOOT_GDT, gdt, sizeof(gdt)) < 0)
		return failf(EINVAL, "guest memory is too small for the boot page tables");
	pml4[0] = (LAYOUT_BOOT_PML4 + LAYOUT_PAGE_SIZE) | PTE_TABLE;
	for (uint64_t i = 0; i < 4; i++)
		pml4[512 + i] = (LAYOUT_BOOT_PML4 + (2 + i) * LAYOUT_PAGE_SIZE) | PTE_TABLE;
	for (uint64_t i = 0; i < 4 * 512ull; i++)
		pml4[1024 + i] = i << 21 | PTE_HUGE;
	return 0;
}

static void vcpu_enter_pvh(struct kvm_sregs *sregs, struct kvm_regs *regs, uint64_t info)
{
	vcpu_flat_segments(sregs, false);
	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr4 = 0;
	sregs->efer = 0;
	regs->rbx = info;
}

static int vcpu_enter_linux64(struct vcpu *vcpu, struct kvm_sregs *sregs, struct kvm_regs *regs,
			      uint64_t info)
{
	int ret = vcpu_write_tables(&vcpu->vm->memory);

	if (ret < 0)
		return ret;
	vcpu_flat_segments(sregs, true);
	sregs->gdt.base = LAYOUT_BOOT_GDT;
	sregs->gdt.limit = 31;
	sregs->cr3 = LAYOUT_BOOT_PML4;
	sregs->cr4 = CR4_PAE;
	sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs->efer = EFER_LME | EFER_LMA;
	regs->rsi = info;
	regs->rsp = LAYOUT_BOOT_STACK;
	return 0;
}

static int vcpu_boot_regs(struct vcpu *vcpu, const struct boot_regs *boot)
{
	struct kvm_regs regs = { .rip = boot->ip, .rflags = 2 };
	struct kvm_sregs sregs;
	int ret = 0;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return failf(errno, "cannot read vCPU 0's system registers: %s", strerror(errno));
	if (boot->entry == BOOT_ENTRY_PVH)
		vcpu_enter_pvh(&sregs, &regs, boot->info);
	else
		ret = vcpu_enter_linux64(vcpu, &sregs, &regs, boot->info);
	if (ret < 0)
		return ret;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return failf(errno, "cannot set vCPU 0's registers: %s", strerror(errno));
	return 0;
}

int vcpu_boot(struct vcpu *vcpu, const struct boot_regs *regs, struct host_cpuid *host)
{
	struct cpuid_table cpuid;
	int ret = host_cpuid_take(host, vcpu->index, vcpu->vm->vcpu_count, &cpuid);

	if (ret < 0)
		return ret;
	vcpu->fresh = false;
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid) < 0)
		return failf(errno, "cannot set vCPU %u's CPUID: %s", vcpu->index, strerror(errno));
	/* Refused where the CPU has no MTRRs; then there is nothing to enable. */
	msr_write(vcpu, MSR_MTRR_DEFTYPE, MTRR_ENABLED_WB);
	return vcpu->index ? 0 : vcpu_boot_regs(vcpu, regs);
}
