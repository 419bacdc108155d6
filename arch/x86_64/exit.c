/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest wants when KVM_RUN returns, and the report when it cannot go on.
 */
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

/* What a bus lock costs the guest that makes it, so that it has a thousand a second at most. */
#define EXIT_BRAKE_NS 1000000

void vcpu_dump(struct vcpu *vcpu)
{
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };

	if (vcpu->vm->hosted || ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 ||
	    ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return;
	notef("vCPU %u: rip %016llx rflags %08llx cs %04x:%llx ss %04x cpl %u", vcpu->index, r.rip,
	      r.rflags, s.cs.selector, s.cs.base, s.ss.selector, s.ss.dpl);
	notef("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", r.rax, r.rbx, r.rcx, r.rdx);
	notef("  rsi %016llx rdi %016llx rbp %016llx rsp %016llx", r.rsi, r.rdi, r.rbp, r.rsp);
	notef("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", r.r8, r.r9, r.r10, r.r11);
	notef("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", r.r12, r.r13, r.r14, r.r15);
	notef("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %llx", s.cr0, s.cr2, s.cr3,
	      s.cr4, s.efer);
	notef("  gdt %llx+%x idt %llx+%x tr %04x", s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit,
	      s.tr.selector);
}

/* Whether the vCPU stands where every x86 CPU begins after INIT. No guest has RAM there. */
static bool vcpu_is_reset(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	return ioctl(vcpu->fd, KVM_GET_REGS, &r) == 0 && ioctl(vcpu->fd, KVM_GET_SREGS, &s) == 0 &&
	       r.rip == 0xfff0 && s.cs.base == 0xffff0000;
}

/* kvm_amd resets the vCPU before it says so: what its registers were is lost then. */
static void vcpu_exit_triple_fault(struct vcpu *vcpu)
{
	bool lost = vcpu_is_reset(vcpu);

	if (!lost)
		vcpu_dump(vcpu);
	vm_end(vcpu->vm, VM_END_CRASH, 0, "triple fault on vCPU %u%s", vcpu->index,
	       lost ? " (KVM has reset the CPU: its registers at the fault are lost)" : "");
}

static void vcpu_exit_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		bus_io(&vcpu->vm->pio, run->io.port, data, run->io.size,
		       run->io.direction == KVM_EXIT_IO_OUT);
}

/* The bytes KVM could not emulate, as hex; "" when it did not fetch them. */
static void vcpu_failed_insn(const struct kvm_run *run, char *out, size_t size)
{
	size_t at = 0;

	out[0] = 0;
	if (run->internal.ndata < 1 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15 && at + 4 < size; i++)
		at += (size_t)snprintf(out + at, size - at, " %02x",
				       run->emulation_failure.insn_bytes[i]);
}

static void vcpu_exit_internal_error(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	char insn[64];

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION) {
		vm_end(vcpu->vm, VM_END_CRASH, 0, "KVM reports internal error %u on vCPU %u",
		       run->internal.suberror, vcpu->index);
		return;
	}
	vcpu_failed_insn(run, insn, sizeof(insn));
	vm_end(vcpu->vm, VM_END_CRASH, 0,
	       "emulation failure on vCPU %u: KVM cannot emulate the instruction%s%s", vcpu->index,
	       insn[0] ? ":" : " at rip", insn);
}

static void vcpu_exit_system_event(struct vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_end(vcpu->vm, VM_END_POWEROFF, 0, "the guest powered off");
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_end(vcpu->vm, VM_END_RESET, 0, "the guest asked for a reset");
		break;
	default:
		vcpu_dump(vcpu);
		vm_end(vcpu->vm, VM_END_CRASH, 0, "the guest reports a crash (system event %u)",
		       vcpu->run->system_event.type);
		break;
	}
}

/* KVM left because the guest let nothing interrupt it; mostly it can go on. */
static void vcpu_exit_notify(struct vcpu *vcpu)
{
	if (!(vcpu->run->notify.flags & KVM_NOTIFY_CONTEXT_INVALID))
		return;
	vcpu_dump(vcpu);
	vm_end(vcpu->vm, VM_END_CRASH, 0,
	       "the guest kept vCPU %u from the host, and its registers are lost", vcpu->index);
}

void vcpu_brake(const struct vcpu *vcpu)
{
	static const struct timespec brake = { .tv_nsec = EXIT_BRAKE_NS };

	if (vcpu->run->flags & KVM_RUN_X86_BUS_LOCK)
		nanosleep(&brake, NULL);
}

void vcpu_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		vcpu_exit_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		bus_io(&vm->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
		       run->mmio.is_write);
		break;
	case KVM_EXIT_IOAPIC_EOI:
		irqchip_eoi(vm->irqchip, run->eoi.vector);
		break;
	case KVM_EXIT_X86_WRMSR:
		run->msr.error = !limits_drops_write(run->msr.index);
		break;
	case KVM_EXIT_NOTIFY:
		vcpu_exit_notify(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_X86_BUS_LOCK: /* vcpu_brake() has seen it */
		break;
	case KVM_EXIT_SHUTDOWN:
		vcpu_exit_triple_fault(vcpu);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		vcpu_dump(vcpu);
		vcpu_exit_internal_error(vcpu);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vcpu_exit_system_event(vcpu);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_dump(vcpu);
		vm_end(vm, VM_END_CRASH, 0, "the CPU refused to enter the guest (reason 0x%llx)",
		       run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		vcpu_dump(vcpu);
		vm_end(vm, VM_END_CRASH, 0, "unhandled exit %u on vCPU %u", run->exit_reason,
		       vcpu->index);
		break;
	}
}
