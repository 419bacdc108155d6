/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/fuzz/lib/kvm.h. */
#include "tests/fuzz/lib/kvm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/layout.h"
#include "arch/x86_64/ioapic.h"
#include "tests/fuzz/lib/bytes.h"

#define RUN_PAGE 16384u

uint32_t kvm_refused_msr;

static const struct kvm_cpuid_entry2 table[] = {
	{ .function = 0, .eax = 0xd },
	{ .function = 1, .eax = 0x806f8, .ecx = 0x7ffafbbf, .edx = 0x1f8bfbff },
	{ .function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0x219c0fab },
	{ .function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 7, .ebx = 832 },
	{ .function = 0x80000008, .eax = 0x3030 },
};

static int get_cpuid(struct kvm_cpuid2 *cpuid)
{
	const uint32_t count = sizeof(table) / sizeof(table[0]);

	must(cpuid->nent >= count);
	memcpy(cpuid->entries, table, sizeof(table));
	cpuid->nent = count;
	return 0;
}

static int get_msr_list(struct kvm_msr_list *list)
{
	static const uint32_t indices[] = { 0x174, 0x175, 0x176, 0xc0000081, 0x4b564d01, 0x277 };

	must(list->nmsrs >= sizeof(indices) / sizeof(indices[0]));
	memcpy(list->indices, indices, sizeof(indices));
	list->nmsrs = sizeof(indices) / sizeof(indices[0]);
	return 0;
}

/* How many it takes, in order. */
static int set_msrs(const struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		if (kvm_refused_msr && msrs->entries[i].index == kvm_refused_msr)
			return (int)i;
	return (int)msrs->nmsrs;
}

static int check_msi(const struct kvm_msi *msi)
{
	must((msi->address_lo & 0xfff00000u) == LAYOUT_LAPIC);
	return 0;
}

static int check_routing(const struct kvm_irq_routing *routing)
{
	must(routing->nr <= IOAPIC_PINS_MAX);
	for (uint32_t i = 0; i < routing->nr; i++)
		must(routing->entries[i].gsi < IOAPIC_PINS_MAX);
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	(void)fd;
	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_SYNC_REGS
			       ? KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS
			       : 0;
	case KVM_GET_CPUID2:
	case KVM_GET_SUPPORTED_CPUID:
		return get_cpuid(arg);
	case KVM_GET_MSR_INDEX_LIST:
		return get_msr_list(arg);
	case KVM_GET_MSRS:
		return (int)((struct kvm_msrs *)arg)->nmsrs;
	case KVM_SET_MSRS:
		return set_msrs(arg);
	case KVM_SIGNAL_MSI:
		return check_msi(arg);
	case KVM_SET_GSI_ROUTING:
		return check_routing(arg);
	case KVM_RUN: /* leaves at once, with what lay in the run page taken */
		errno = EINTR;
		return -1;
	default:
		return 0;
	}
}

void vm_fake_create(struct vm *vm, struct memory *memory, unsigned vcpu_count)
{
	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = vm->fd = -1;
	vm->memory = *memory;
	vm->tsc_khz = 2000000;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	loop_init(&vm->loop);
	must(irqchip_create(vm) == 0);
	vm->vcpu_count = vcpu_count;
	for (unsigned i = 0; i < vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->vm = vm;
		vcpu->index = i;
		vcpu->fd = -1;
		vcpu->fresh = true;
		vcpu->tsc_khz = vm->tsc_khz;
		vcpu->run = calloc(1, RUN_PAGE);
		must(vcpu->run != NULL);
	}
	vm->current = &vm->vcpus[0];
}

void vm_fake_destroy(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		free(vm->vcpus[i].run);
	irqchip_destroy(vm);
	loop_fini(&vm->loop);
	memory_destroy(&vm->memory);
}
