/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest's page tables lie (Intel SDM 3A, 4.5), and whether that can have changed:
 * vcpu_fixed_pages() in arch/vcpu.h.
 */
#include <linux/kvm.h>
#include <string.h>

#include "arch/memory.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/machine.h"

#define TABLES_LEVELS       4
#define TABLES_ENTRIES      512u
#define TABLES_ADDRESS      0x000ffffffffff000ull
#define TABLES_PRESENT      1u
#define TABLES_USER         (1u << 2)
#define TABLES_LARGE        (1u << 7)

/* A descriptor's access byte (Intel SDM 3A, 3.4.5): present; of code or data; the one system type. */
#define DESCRIPTOR_PRESENT  (1ull << 47)
#define DESCRIPTOR_SEGMENT  (1ull << 44)
#define DESCRIPTOR_TYPE     (0xfull << 40)
#define DESCRIPTOR_BUSY_TSS (0xbull << 40)

#define CR0_PG              (1ull << 31)
#define CR4_LA57            (1ull << 12)
#define EFER_SCE            1u
#define EFER_LMA            (1u << 10)

struct tables {
	const struct memory *m;
	uint64_t *pages;
	int count;
	int max;
};

/* Adds the page of a guest-physical address; NULL when there is no more room, or no RAM. */
static const uint64_t *tables_add(struct tables *t, uint64_t gpa)
{
	const uint8_t *at = memory_at(t->m, gpa & TABLES_ADDRESS, LAYOUT_PAGE_SIZE);

	if (!at || t->count == t->max)
		return NULL;
	t->pages[t->count++] = (uint64_t)(at - t->m->base) / LAYOUT_PAGE_SIZE;
	return (const void *)at;
}

/*
 * Whether ring 3 may reach so many bytes from gpa on and stay in it: RAM and virtio's pages. By a
 * local APIC that it can write it sends its own CPU an INIT, which begins anew in ring 0.
 */
static bool tables_leaf_is_harmless(const struct memory *m, uint64_t gpa, uint64_t size)
{
	return memory_at(m, gpa, size) || (gpa >= LAYOUT_VIRTIO_MMIO &&
					   gpa + size <= LAYOUT_VIRTIO_MMIO + LAYOUT_VIRTIO_WINDOW);
}

/*
 * A table of that level, 4 for the PML4, and all below; user: the entries above let ring 3 through.
 * False: too many, not in RAM, or ring 3 reaches what it must not.
 */
static bool tables_walk(struct tables *t, uint64_t gpa, unsigned level, bool user)
{
	const unsigned shift = 12 + 9 * (level - 1);
	const uint64_t *table = tables_add(t, gpa);

	for (unsigned i = 0; table && i < TABLES_ENTRIES; i++) {
		bool through = user && table[i] & TABLES_USER;

		if (!(table[i] & TABLES_PRESENT))
			continue;
		if (level == 1 || (level < TABLES_LEVELS && table[i] & TABLES_LARGE)) {
			uint64_t at = table[i] & TABLES_ADDRESS & ~((1ull << shift) - 1);

			if (through && !tables_leaf_is_harmless(t->m, at, 1ull << shift))
				return false;
		} else if (!tables_walk(t, table[i], level - 1, through)) {
			return false;
		}
	}
	return table != NULL;
}

/* The guest-physical address of the page at a linear one. False: it is not mapped. */
static bool tables_translate(const struct memory *m, uint64_t cr3, uint64_t linear, uint64_t *gpa)
{
	uint64_t entry = cr3;

	for (unsigned level = TABLES_LEVELS; level > 0; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		const uint64_t *table = memory_at(m, entry & TABLES_ADDRESS, LAYOUT_PAGE_SIZE);

		if (!table)
			return false;
		entry = table[linear >> shift & (TABLES_ENTRIES - 1)];
		if (!(entry & TABLES_PRESENT))
			return false;
		if (level > 1 && level < TABLES_LEVELS && entry & TABLES_LARGE) {
			uint64_t inside = (1ull << shift) - 1;

			*gpa = (entry & TABLES_ADDRESS & ~inside) | (linear & inside);
			return true;
		}
	}
	*gpa = entry & TABLES_ADDRESS;
	return true;
}

/*
 * Whether a descriptor table has no system descriptor but a busy TSS, which cannot be called: every
 * gate that is there from the start is a way out. The upper half of a TSS's descriptor counts as one
 * of its own, since a selector may name it.
 */
static bool tables_has_no_gate(const struct memory *m, uint64_t cr3, uint64_t base, uint32_t limit)
{
	const uint8_t *page = NULL;
	uint64_t descriptor = 0, gpa;

	for (uint64_t at = 0; at <= limit; at++) {
		uint64_t inside = (base + at) % LAYOUT_PAGE_SIZE;

		if (!page || inside == 0)
			page = tables_translate(m, cr3, base + at - inside, &gpa)
				       ? memory_at(m, gpa, LAYOUT_PAGE_SIZE)
				       : NULL;
		if (!page)
			return false;
		descriptor = descriptor >> 8 | (uint64_t)page[inside] << 56;
		if (at % sizeof(descriptor) == sizeof(descriptor) - 1 &&
		    descriptor & DESCRIPTOR_PRESENT && !(descriptor & DESCRIPTOR_SEGMENT) &&
		    (descriptor & DESCRIPTOR_TYPE) != DESCRIPTOR_BUSY_TSS)
			return false;
	}
	return true;
}

/* Adds the pages of a descriptor table. False: it has a gate, is not mapped, or there is no more room. */
static bool tables_add_descriptors(struct tables *t, uint64_t cr3, uint64_t base, uint32_t limit)
{
	uint64_t gpa;

	if (base > UINT64_MAX - limit - LAYOUT_PAGE_SIZE)
		return false;
	for (uint64_t at = base & -(uint64_t)LAYOUT_PAGE_SIZE; at <= base + limit;
	     at += LAYOUT_PAGE_SIZE)
		if (!tables_translate(t->m, cr3, at, &gpa) || !tables_add(t, gpa))
			return false;
	return tables_has_no_gate(t->m, cr3, base, limit);
}

/*
 * Ways from ring 3 to another ring are interrupts and exceptions (IDT), SYSCALL, SYSENTER, and call
 * gates in the GDT and LDT, which have none and are among the pages.
 */
static bool tables_is_confined(const struct vcpu_image *image, const struct kvm_sregs2 *sregs)
{
	uint64_t sysenter = 0;

	if (sregs->ss.dpl != 3 || sregs->idt.limit != 0 || sregs->efer & EFER_SCE)
		return false;
	vcpu_image_msr(image, MSR_SYSENTER_CS, &sysenter);
	return sysenter == 0;
}

int vcpu_fixed_pages(const void *state, size_t len, const struct memory *m, uint64_t *pages,
		     int max)
{
	struct tables t = { .m = m, .pages = pages, .max = max };
	struct vcpu_image image = { 0 };
	struct kvm_sregs2 sregs;

	if (vcpu_parse(0, state, len, &image) < 0)
		return -1;
	memcpy(&sregs, image.sregs, sizeof(sregs));
	if (!tables_is_confined(&image, &sregs) || !(sregs.cr0 & CR0_PG) ||
	    !(sregs.efer & EFER_LMA) || sregs.cr4 & CR4_LA57)
		return -1;
	if (!tables_add_descriptors(&t, sregs.cr3, sregs.gdt.base, sregs.gdt.limit) ||
	    (sregs.ldt.present && !sregs.ldt.unusable &&
	     !tables_add_descriptors(&t, sregs.cr3, sregs.ldt.base, sregs.ldt.limit)) ||
	    !tables_walk(&t, sregs.cr3, TABLES_LEVELS, true))
		return -1;
	return t.count;
}
