/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC (arch/x86_64/ioapic.h; Intel 82093AA, with the EOI semantics of the
 * split irqchip: a level-triggered pin is held by Remote IRR until its EOI).
 */
#include "arch/x86_64/ioapic.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/layout.h"

#define IOAPIC_REG_ID        0x00
#define IOAPIC_REG_VERSION   0x01
#define IOAPIC_REG_ARB       0x02
#define IOAPIC_REG_REDIRECT  0x10 /* two 32-bit halves per pin */

#define IOAPIC_VERSION_VALUE 0x11u /* and the number of the last pin in bits 16 to 23 */

/* Redirection entry, 82093AA section 3.2.4. */
#define RTE_VECTOR(e)        ((uint8_t)(e))
#define RTE_DELIVERY(e)      ((uint32_t)((e) >> 8) & 7u)
#define RTE_LOGICAL(e)       ((uint32_t)((e) >> 11) & 1u)
#define RTE_REMOTE_IRR       (1ull << 14)
#define RTE_LEVEL            (1ull << 15)
#define RTE_MASKED           (1ull << 16)
#define RTE_DEST(e)          ((uint32_t)((e) >> 56))
#define RTE_READ_ONLY        (RTE_REMOTE_IRR | 1ull << 12)

/* Registers of the local APIC (Intel SDM 3A, 11.4.1), 256 bits in words 16 bytes apart. */
#define LAPIC_ISR            0x100
#define LAPIC_IRR            0x200

#define MSI_ADDRESS_BASE     0xfee00000u

const struct field irqchip_fields[] = {
	FIELD(struct ioapic_state, id),
	FIELD(struct ioapic_state, select),
	FIELD(struct ioapic_state, level[0]),
	FIELD_SINCE(struct ioapic_state, level[1], 2, 0),
	FIELD_SINCE(struct ioapic_state, pins, 2, IOAPIC_PINS),
	FIELD_END,
};

static bool ioapic_level(const struct irqchip *io, unsigned pin)
{
	return io->state.level[pin / 32] >> pin % 32 & 1;
}

/* A redirection entry as the MSI that says the same (Intel SDM 3A, 11.11). */
static struct kvm_msi ioapic_msi(uint64_t entry)
{
	return (struct kvm_msi){
		.address_lo = MSI_ADDRESS_BASE | RTE_DEST(entry) << 12 | RTE_LOGICAL(entry) << 2,
		.data = RTE_VECTOR(entry) | RTE_DELIVERY(entry) << 8 |
			(entry & RTE_LEVEL ? 3u << 14 : 0),
	};
}

/* Sends the pin's interrupt if it is unmasked and, for a level, asserted and not in service. */
static void ioapic_deliver(struct irqchip *io, unsigned pin)
{
	uint64_t *entry = &io->state.redirect[pin];
	struct kvm_msi msi;

	if (*entry & RTE_MASKED)
		return;
	if (*entry & RTE_LEVEL) {
		if (!ioapic_level(io, pin) || *entry & RTE_REMOTE_IRR)
			return;
		*entry |= RTE_REMOTE_IRR;
	}
	msi = ioapic_msi(*entry);
	/* Fails only when the destination has no local APIC: the guest's own programming. */
	ioctl(io->vm->fd, KVM_SIGNAL_MSI, &msi);
}

/* Routes exist for level pins alone: by them KVM knows whose EOI to report. */
static int ioapic_update_routes(struct irqchip *io)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[IOAPIC_PINS_MAX];
	} table = { 0 };

	for (unsigned pin = 0; pin < io->state.pins; pin++) {
		uint64_t entry = io->state.redirect[pin];
		struct kvm_msi msi = ioapic_msi(entry);

		if (!(entry & RTE_LEVEL) || entry & RTE_MASKED)
			continue;
		table.entries[table.head.nr++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = msi.address_lo, .data = msi.data },
		};
	}
	if (!table.head.nr && !io->routed)
		return 0;
	io->routed = table.head.nr;
	if (ioctl(io->vm->fd, KVM_SET_GSI_ROUTING, &table.head) < 0)
		return failf(errno, "cannot route level-triggered interrupts: %s", strerror(errno));
	return 0;
}

static uint32_t ioapic_read(const struct irqchip *io)
{
	uint32_t reg = io->state.select;
	uint32_t index = reg - IOAPIC_REG_REDIRECT;

	if (reg == IOAPIC_REG_ID || reg == IOAPIC_REG_ARB)
		return io->state.id << 24;
	if (reg == IOAPIC_REG_VERSION)
		return IOAPIC_VERSION_VALUE | (io->state.pins - 1) << 16;
	if (reg >= IOAPIC_REG_REDIRECT && index / 2 < io->state.pins)
		return (uint32_t)(io->state.redirect[index / 2] >> (index % 2 ? 32 : 0));
	return 0;
}

static void ioapic_write(struct irqchip *io, uint32_t value)
{
	uint32_t reg = io->state.select;
	uint32_t index = reg - IOAPIC_REG_REDIRECT;
	uint64_t old, entry;
	unsigned pin;

	if (reg == IOAPIC_REG_ID)
		io->state.id = value >> 24 & 0xf;
	if (reg < IOAPIC_REG_REDIRECT || index / 2 >= io->state.pins)
		return;
	pin = index / 2;
	old = io->state.redirect[pin];
	entry = index % 2 ? (old & 0xffffffffu) | (uint64_t)value << 32
			  : (old & ~0xffffffffull) | value;
	entry = (entry & ~RTE_READ_ONLY) | (old & RTE_READ_ONLY);
	if (!(entry & RTE_LEVEL))
		entry &= ~RTE_REMOTE_IRR;
	io->state.redirect[pin] = entry;
	if (((old | entry) & RTE_LEVEL) && ioapic_update_routes(io) < 0)
		notef("%s", error_text());
	if (entry & RTE_LEVEL)
		ioapic_deliver(io, pin);
}

/* IOREGSEL at 0x00, IOWIN at 0x10; the rest of the page is nothing. */
static void ioapic_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	struct irqchip *io = opaque;
	uint32_t value = 0;
	uint32_t shift = (uint32_t)(offset & 3);

	if (write) {
		memcpy(&value, data, len < 4 ? len : 4);
		if (offset == 0)
			io->state.select = value & 0xff;
		else if (offset == 0x10)
			ioapic_write(io, value);
		return;
	}
	if ((offset & ~3ull) == 0)
		value = io->state.select;
	else if ((offset & ~3ull) == 0x10)
		value = ioapic_read(io);
	memset(data, 0, len);
	value >>= shift * 8;
	memcpy(data, &value, len < 4 - shift ? len : 4 - shift);
}

/* KVM keeps the local APICs, and asks for this one's part by exits. */
static int ioapic_split(struct vm *vm)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS_MAX } };

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &split) < 0)
		return failf(errno, "this KVM has no split irqchip (Linux 4.4 or later has): %s",
			     strerror(errno));
	return 0;
}

int irqchip_create(struct vm *vm)
{
	int ret = ioapic_split(vm);

	if (ret < 0)
		return ret;
	vm->irqchip = calloc(1, sizeof(*vm->irqchip));
	if (!vm->irqchip)
		return failf(ENOMEM, "out of memory");
	vm->irqchip->vm = vm;
	vm->irqchip->state.pins = IOAPIC_PINS;
	for (unsigned pin = 0; pin < IOAPIC_PINS_MAX; pin++)
		vm->irqchip->state.redirect[pin] = RTE_MASKED;
	return bus_claim(&vm->mmio, LAYOUT_IOAPIC, LAYOUT_PAGE_SIZE, ioapic_io, vm->irqchip,
			 "ioapic");
}

void irqchip_destroy(struct vm *vm)
{
	free(vm->irqchip);
	vm->irqchip = NULL;
}

int irqchip_want(struct irqchip *io, unsigned pin, const char *device)
{
	if (pin >= IOAPIC_PINS_MAX)
		return failf(ENOSPC, "%s: pin %u is more than the I/O APIC can have, %d", device,
			     pin, IOAPIC_PINS_MAX);
	if (pin >= io->state.pins)
		io->state.pins = pin + 1;
	return 0;
}

void irqchip_set_pin(struct irqchip *io, unsigned pin, bool level)
{
	uint32_t *word, bit;
	bool was;

	if (pin >= io->state.pins)
		return;
	word = &io->state.level[pin / 32];
	bit = 1u << pin % 32;
	was = *word & bit;
	*word = level ? *word | bit : *word & ~bit;
	if (level && (!was || io->state.redirect[pin] & RTE_LEVEL))
		ioapic_deliver(io, pin);
}

bool irqchip_pin_open(const struct irqchip *io, unsigned pin)
{
	return pin < io->state.pins && !(io->state.redirect[pin] & RTE_MASKED);
}

void irqchip_eoi(struct irqchip *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < io->state.pins; pin++) {
		uint64_t *entry = &io->state.redirect[pin];

		if (RTE_VECTOR(*entry) != vector || !(*entry & RTE_REMOTE_IRR))
			continue;
		*entry &= ~RTE_REMOTE_IRR;
		ioapic_deliver(io, pin);
	}
}

/* Whether some local APIC has that vector requested or in service: 1 or 0, or -errno with a sentence. */
static int ioapic_is_held(const struct vm *vm, uint8_t vector)
{
	const uint8_t at = vector / 32 * 0x10;
	struct kvm_lapic_state lapic;
	uint32_t isr, irr, held = 0;

	for (unsigned cpu = 0; cpu < vm->vcpu_count; cpu++) {
		if (ioctl(vm->vcpus[cpu].fd, KVM_GET_LAPIC, &lapic) < 0)
			return failf(errno, "cannot read vCPU %u's local APIC: %s", cpu,
				     strerror(errno));
		memcpy(&isr, &lapic.regs[LAPIC_ISR + at], sizeof(isr));
		memcpy(&irr, &lapic.regs[LAPIC_IRR + at], sizeof(irr));
		held |= isr | irr;
	}
	return held >> vector % 32 & 1;
}

int irqchip_settle(struct irqchip *io)
{
	int held = 0;

	for (unsigned pin = 0; held >= 0 && pin < io->state.pins; pin++) {
		uint64_t entry = io->state.redirect[pin];

		if (!(entry & RTE_REMOTE_IRR))
			continue;
		held = ioapic_is_held(io->vm, RTE_VECTOR(entry));
		if (held == 0)
			irqchip_eoi(io, RTE_VECTOR(entry));
	}
	return held < 0 ? held : 0;
}

void irqchip_save(const struct irqchip *io, struct blob *out)
{
	fields_save(irqchip_fields, &io->state, out);
	blob_put(out, io->state.redirect, io->state.pins * sizeof(io->state.redirect[0]));
}

/* Bits of pins that there are not. */
static bool ioapic_level_valid(const struct ioapic_state *state)
{
	const uint64_t level = state->level[0] | (uint64_t)state->level[1] << 32;

	return state->pins == IOAPIC_PINS_MAX || level >> state->pins == 0;
}

static int ioapic_parse(const struct irqchip *io, const char *path, uint32_t version,
			const void *data, size_t len, struct ioapic_state *state)
{
	struct blob in = blob_reader(data, len);
	const size_t entries = io->state.pins * sizeof(state->redirect[0]);
	size_t expected = fields_size(irqchip_fields, version) + entries;

	fields_load(irqchip_fields, version, state, &in);
	if (!in.failed && state->pins != io->state.pins)
		return failf(EINVAL,
			     "%s: section " IRQCHIP_SECTION " has %u pins; this machine has %u",
			     path, state->pins, io->state.pins);
	blob_get(&in, state->redirect, entries);
	if (in.failed || in.pos != in.len)
		return failf(EINVAL, "%s: section " IRQCHIP_SECTION " has %zu bytes, expected %zu",
			     path, len, expected);
	if (state->select > 0xff || state->id > 0xf || !ioapic_level_valid(state))
		return failf(EINVAL, "%s: section " IRQCHIP_SECTION ": a register is out of range",
			     path);
	return 0;
}

int irqchip_check(const struct irqchip *io, const char *path, uint32_t version, const void *data,
		  size_t len)
{
	struct ioapic_state state;

	return ioapic_parse(io, path, version, data, len, &state);
}

int irqchip_load(struct irqchip *io, const char *path, uint32_t version, const void *data,
		 size_t len)
{
	int ret = ioapic_parse(io, path, version, data, len, &io->state);

	return ret < 0 ? ret : ioapic_update_routes(io);
}
