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

#define TABLES_LEVELS  4
#define TABLES_ENTRIES 512u
#define TABLES_ADDRESS 0x000ffffffffff000ull
#define TABLES_PRESENT 1u
#define TABLES_LARGE   (1u << 7)

#define CR0_PG         (1ull << 31)
#define CR4_LA57       (1ull << 12)
#define EFER_SCE       1u
#define EFER_LMA       (1u << 10)

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

/* A table of that level, 4 for the PML4, and all below. False: too many, or not in RAM. */
static bool tables_walk(struct tables *t, uint64_t gpa, unsigned level)
{
	const uint64_t *table = tables_add(t, gpa);

	for (unsigned i = 0; table && level > 1 && i < TABLES_ENTRIES; i++) {
		if (!(table[i] & TABLES_PRESENT) ||
		    (level < TABLES_LEVELS && table[i] & TABLES_LARGE))
			continue;
		if (!tables_walk(t, table[i], level - 1))
			return false;
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

/* Adds the pages of a descriptor table. False: it is not mapped, or there is no more room. */
static bool tables_add_descriptors(struct tables *t, uint64_t cr3, uint64_t base, uint32_t limit)
{
	uint64_t gpa;

	if (base > UINT64_MAX - limit - LAYOUT_PAGE_SIZE)
		return false;
	for (uint64_t at = base & -(uint64_t)LAYOUT_PAGE_SIZE; at <= base + limit;
	     at += LAYOUT_PAGE_SIZE)
		if (!tables_translate(t->m, cr3, at, &gpa) || !tables_add(t, gpa))
			return false;
	return true;
}

/*
 * Ways from ring 3 to another ring are interrupts and exceptions (IDT), SYSCALL, SYSENTER, and call
 * gates in the GDT and LDT, which are among the pages.
 */
static bool tables_is_confined(const struct vcpu_image *image, const struct kvm_sregs2 *sregs)
{
	struct kvm_msr_entry msr;

	if (sregs->ss.dpl != 3 || sregs->idt.limit != 0 || sregs->efer & EFER_SCE)
		return false;
	for (uint32_t i = 0; i < image->msr_count; i++) {
		memcpy(&msr, (const uint8_t *)image->msrs + i * sizeof(msr), sizeof(msr));
		if (msr.index == MSR_SYSENTER_CS && msr.data)
			return false;
	}
	return true;
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
	    !tables_walk(&t, sregs.cr3, TABLES_LEVELS))
		return -1;
	return t.count;
}
