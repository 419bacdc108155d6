/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu_fixed_pages() (arch/x86_64/tables.c) on the state of a real machine, and on that state changed:
 * the pages are those that a walk of the test's own finds, a guest that could leave ring 3 or whose
 * tables make no sense has none, and nothing outside of its memory is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/layout.h"
#include "arch/memory.h"
#include "arch/vcpu.h"
#include "tests/unit/live_machine.h"
#include "tests/unit/seed.h"

#define SIZE     (16ul << 20)
#define PAGE     4096u
#define PAGES    (SIZE / PAGE)
#define MAX      64
#define PRESENT  0x7u
#define LARGE    0x80u
#define USER     4ull
#define ADDRESS  0x000ffffffffff000ull
#define CR0_PG   (1ull << 31)
#define CR4_LA57 (1ull << 12)
#define EFER_SCE 1ull
#define EFER_LMA (1ull << 10)
#define RANDOM   20000u

/* The machine's memory between pages that cannot be touched, and its vCPU as saved. */
static struct memory memory;
static uint8_t *place; /* with those pages */
static struct blob saved;
static size_t sregs_at, msrs_at;
static uint32_t msr_count;
static struct seed seed;
/* What the test changes, and what it is set back to. */
static struct kvm_sregs2 sregs, real_sregs;
static uint8_t *real_memory;
static uint8_t *real_saved;
static int usual; /* pages of the machine as it was */

static void find_layout(void)
{
	struct blob in = blob_reader(saved.data, saved.len);

	blob_take(&in, 20 + sizeof(struct kvm_mp_state));
	blob_take(&in, blob_get_u32(&in) * sizeof(struct kvm_cpuid_entry2));
	blob_take(&in, sizeof(struct kvm_regs));
	sregs_at = in.pos;
	blob_take(&in, sizeof(struct kvm_sregs2));
	blob_take(&in, blob_get_u32(&in));
	blob_take(&in, sizeof(struct kvm_xcrs) + sizeof(struct kvm_debugregs) +
			       sizeof(struct kvm_vcpu_events) + sizeof(struct kvm_lapic_state));
	msr_count = blob_get_u32(&in);
	msrs_at = in.pos;
	assert_false(in.failed);
}

static int teardown(void **state)
{
	(void)state;
	munmap(place, SIZE + 2 * PAGE);
	blob_fini(&saved);
	free(real_memory);
	free(real_saved);
	return 0;
}

static int restore(void **state)
{
	(void)state;
	memcpy(memory.base, real_memory, SIZE);
	memcpy(saved.data, real_saved, saved.len);
	sregs = real_sregs;
	return 0;
}

/* How many, with sregs as they are now; the numbers are in the machine and fit. */
static int fixed_pages_of(uint64_t *pages, int max)
{
	int count;

	memcpy(saved.data + sregs_at, &sregs, sizeof(sregs));
	count = vcpu_fixed_pages(saved.data, saved.len, &memory, pages, max);
	assert_in_range(count + 1, 0, max + 1);
	for (int i = 0; i < count; i++)
		assert_true(pages[i] < PAGES);
	return count;
}

static int fixed_pages(void)
{
	uint64_t pages[MAX];

	return fixed_pages_of(pages, MAX);
}

/* The embedded guest once it is ready. */
static int setup(void **state)
{
	struct live *m;

	(void)state;
	vm_block_signals();
	m = live_boot(NULL, "");
	assert_true(live_run_for(m, 50000));
	pthread_mutex_lock(&m->vm.lock);
	assert_true(channel_ready(m->channel));
	assert_int_equal(vcpu_save(&m->vm.vcpus[0], &saved), 0);
	pthread_mutex_unlock(&m->vm.lock);
	place = mmap(NULL, SIZE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(place, MAP_FAILED);
	assert_int_equal(mprotect(place + PAGE, SIZE, PROT_READ | PROT_WRITE), 0);
	memory = (struct memory){ .fd = -1, .pagemap_fd = -1 };
	memory_layout(&memory, SIZE);
	memory.base = place + PAGE;
	memcpy(memory.base, m->vm.memory.base, SIZE);
	live_end(m);
	real_memory = malloc(SIZE);
	memcpy(real_memory, memory.base, SIZE);
	real_saved = malloc(saved.len);
	memcpy(real_saved, saved.data, saved.len);
	find_layout();
	memcpy(&real_sregs, saved.data + sregs_at, sizeof(real_sregs));
	sregs = real_sregs;
	usual = fixed_pages();
	return 0;
}

/* --- The real guest --- */

static uint64_t *table_at(uint64_t gpa)
{
	assert_true((gpa & ADDRESS) < SIZE);
	return (uint64_t *)(void *)(memory.base + (gpa & ADDRESS));
}

/* A walk of the test's own: marks all tables, and the page of one linear address. */
static void mark_tables(bool *wanted, uint64_t gpa, int level)
{
	const uint64_t *table = table_at(gpa);

	wanted[(gpa & ADDRESS) / PAGE] = true;
	for (unsigned i = 0; level > 1 && i < 512; i++)
		if (table[i] & 1 && (level == 4 || !(table[i] & LARGE)))
			mark_tables(wanted, table[i], level - 1);
}

static uint64_t *leaf_of(uint64_t linear, int *level)
{
	uint64_t entry = sregs.cr3;

	for (*level = 4;; --*level) {
		uint64_t *at = table_at(entry) + (linear >> (3 + 9 * *level) & 511);

		entry = *at;
		assert_true(entry & 1);
		if (*level == 1 || (*level < 4 && entry & LARGE))
			return at;
	}
}

static uint64_t page_of(uint64_t linear)
{
	int level;
	uint64_t entry = *leaf_of(linear, &level), inside = (1ull << (3 + 9 * level)) - 1;

	return ((entry & ADDRESS & ~inside) | (linear & inside)) / PAGE;
}

static void mark_descriptors(bool *wanted, uint64_t base, uint32_t limit)
{
	for (uint64_t at = base & ~(uint64_t)(PAGE - 1); at <= base + limit; at += PAGE)
		wanted[page_of(at)] = true;
}

/* Exactly those, whatever how often. */
static void check_pages(void)
{
	bool *wanted = calloc(PAGES, sizeof(bool)), *got = calloc(PAGES, sizeof(bool));
	uint64_t pages[MAX];
	int count = fixed_pages_of(pages, MAX);

	assert_true(count > 0);
	mark_tables(wanted, sregs.cr3, 4);
	mark_descriptors(wanted, sregs.gdt.base, sregs.gdt.limit);
	if (sregs.ldt.present && !sregs.ldt.unusable)
		mark_descriptors(wanted, sregs.ldt.base, sregs.ldt.limit);
	for (int i = 0; i < count; i++)
		got[pages[i]] = true;
	assert_memory_equal(got, wanted, PAGES);
	free(wanted);
	free(got);
}

static void test_embedded_guest(void **state)
{
	uint64_t pages[MAX];
	int count = fixed_pages();

	(void)state;
	check_pages();
	assert_in_range(count, 7, 23); /* six tables, a GDT, perhaps what KVM has for an LDT */
	assert_int_equal(count, usual);
	/* Exactly so many may be asked for, and no fewer. */
	assert_int_equal(fixed_pages_of(pages, count), count);
	for (int max = 0; max < count; max++)
		assert_int_equal(fixed_pages_of(pages, max), -1);
}

/* A GDT anywhere that is mapped, over one page or two, in either half. */
static void test_gdt(void **state)
{
	uint64_t *pml4 = table_at(sregs.cr3);

	(void)state;
	sregs.ldt.unusable = 1;
	/* What lies beside it in its pages is no descriptor. */
	sregs.gdt.base = sregs.gdt.base & ~(uint64_t)(PAGE - 1);
	memset(memory.base + page_of(sregs.gdt.base) * PAGE, 0, 2ul * PAGE);
	sregs.gdt.limit = PAGE - 1;
	check_pages();
	sregs.gdt.limit = PAGE;
	check_pages();
	sregs.gdt.base += PAGE - 1;
	sregs.gdt.limit = 0;
	check_pages();
	sregs.gdt.limit = 1;
	check_pages();
	/* The upper half as a second view of the lower. */
	pml4[256] = pml4[0];
	sregs.gdt.base = 0xffff800000000000ull + (real_sregs.gdt.base & ((1ull << 39) - 1));
	sregs.gdt.limit = real_sregs.gdt.limit;
	check_pages();
	pml4[511] = pml4[0];
	sregs.gdt.base |= 0xffffff8000000000ull; /* not beyond the last page of all */
	check_pages();
}

/* The same addresses by a table of small pages: one table more. */
static void test_small_pages(void **state)
{
	uint64_t *table = table_at(SIZE - PAGE), *entry;
	int level;

	(void)state;
	entry = leaf_of(sregs.gdt.base, &level);
	assert_int_equal(level, 2);
	for (unsigned i = 0; i < 512; i++)
		table[i] = ((*entry & ADDRESS) + i * PAGE) | PRESENT;
	*entry = (SIZE - PAGE) | PRESENT;
	check_pages();
	assert_int_equal(fixed_pages(), usual + 1);
	/* Where a page is, is looked up for each: here the GDT's two are not neighbours. */
	sregs.gdt.base = (sregs.gdt.base & ~(uint64_t)(PAGE - 1)) + PAGE - 8;
	table[(sregs.gdt.base >> 12 & 511) + 1] = 0x300000 | PRESENT;
	check_pages();
	table[(sregs.gdt.base >> 12 & 511) + 1] = 0;
	assert_int_equal(fixed_pages(), -1);
}

static void test_ldt(void **state)
{
	int none;

	(void)state;
	sregs.ldt.present = 1;
	sregs.ldt.unusable = 1;
	none = fixed_pages();
	assert_int_equal(none, 7);
	sregs.ldt.base = sregs.gdt.base;
	sregs.ldt.limit = 7;
	sregs.ldt.unusable = 0;
	assert_int_equal(fixed_pages(), none + 1); /* said twice */
	sregs.ldt.base = 0;
	sregs.ldt.limit = 0xffff;
	check_pages();
	assert_int_equal(fixed_pages(), none + 16);
	sregs.ldt.base = 0x7ffffffff000ull; /* not mapped */
	assert_int_equal(fixed_pages(), -1);
	sregs.ldt.base = UINT64_MAX - 5;
	assert_int_equal(fixed_pages(), -1);
	sregs.ldt.unusable = 1;
	assert_int_equal(fixed_pages(), none);
	sregs.ldt.unusable = 0;
	sregs.ldt.present = 0;
	assert_int_equal(fixed_pages(), none);
}

/* --- Guests that are not confined to ring 3 --- */

static void test_not_confined(void **state)
{
	struct kvm_msr_entry msr;
	bool found = false;

	(void)state;
	for (unsigned dpl = 0; dpl < 3; dpl++) {
		sregs.ss.dpl = (uint8_t)dpl;
		assert_int_equal(fixed_pages(), -1);
	}
	restore(NULL);
	sregs.idt.limit = 1;
	assert_int_equal(fixed_pages(), -1);
	sregs.idt.limit = 0xfff;
	assert_int_equal(fixed_pages(), -1);
	restore(NULL);
	sregs.efer |= EFER_SCE;
	assert_int_equal(fixed_pages(), -1);
	restore(NULL);
	for (uint32_t i = 0; i < msr_count; i++) {
		memcpy(&msr, saved.data + msrs_at + i * sizeof(msr), sizeof(msr));
		if (msr.index != 0x174) /* SYSENTER_CS */
			continue;
		found = true;
		msr.data = 0x10;
		memcpy(saved.data + msrs_at + i * sizeof(msr), &msr, sizeof(msr));
	}
	assert_true(found);
	assert_int_equal(fixed_pages(), -1);
}

/* What a descriptor in the table's slot means for the proof. */
static int fixed_with(uint64_t base, unsigned slot, uint64_t descriptor)
{
	uint64_t linear = base + slot * sizeof(descriptor);
	int count;

	memcpy(memory.base + page_of(linear) * PAGE + linear % PAGE, &descriptor,
	       sizeof(descriptor));
	count = fixed_pages();
	restore(NULL);
	return count;
}

/* A system descriptor other than a busy TSS may lead out, segments and what is not present do not. */
static void test_gates(void **state)
{
	const uint64_t present = 1ull << 47, dpl3 = 3ull << 45, segment = 1ull << 44;

	(void)state;
	for (unsigned slot = 0; slot <= real_sregs.gdt.limit / 8u; slot++)
		for (uint64_t type = 0; type < 16; type++) {
			uint64_t gate = type << 40;
			int wanted = type == 0xb ? usual : -1;

			assert_int_equal(fixed_with(sregs.gdt.base, slot, present | gate), wanted);
			assert_int_equal(fixed_with(sregs.gdt.base, slot, present | dpl3 | gate),
					 wanted);
			assert_int_equal(fixed_with(sregs.gdt.base, slot, dpl3 | gate), usual);
			assert_int_equal(fixed_with(sregs.gdt.base, slot, present | segment | gate),
					 usual);
		}
}

/* An LDT is looked at as well, to its last descriptor and no further. */
static void test_gates_in_ldt(void **state)
{
	static const unsigned slots[] = { 0, 0x200, 0x3ff, 0x400 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		sregs.ldt = (struct kvm_segment){ .base = 0x80000, .limit = 0x1fff, .present = 1 };
		memset(memory.base + 0x80000, 0, 0x3000);
		assert_true(fixed_pages() > 0);
		assert_int_equal(fixed_with(0x80000, slots[i], 1ull << 47 | 0xcull << 40) > 0,
				 slots[i] > 0x3ff);
	}
}

/* Ring 3 reaches the interrupt controllers, or another page that is neither RAM nor virtio's. */
static void test_user_leaf(void **state)
{
	static const uint64_t leaves[] = {
		/* six that are not for ring 3, three that are */
		LAYOUT_LAPIC,
		LAYOUT_IOAPIC,
		LAYOUT_KVM_TSS,
		LAYOUT_VIRTIO_MMIO - PAGE,
		SIZE,
		LAYOUT_VIRTIO_MMIO + LAYOUT_VIRTIO_WINDOW,
		LAYOUT_VIRTIO_MMIO,
		LAYOUT_VIRTIO_MMIO + LAYOUT_VIRTIO_WINDOW - PAGE,
		SIZE - PAGE,
	};
	const uint64_t pdpt = SIZE - 3 * PAGE, pd = SIZE - 2 * PAGE, table = SIZE - 4 * PAGE;

	(void)state;
	for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		memset(memory.base + table, 0, 4ul * PAGE);
		table_at(sregs.cr3)[100] = pdpt | PRESENT;
		table_at(pdpt)[7] = pd | PRESENT;
		table_at(pd)[511] = table | PRESENT;
		table_at(table)[300] = leaves[i] | PRESENT;
		assert_int_equal(fixed_pages(), i < 6 ? -1 : usual + 3);
		table_at(table)[300] &= ~USER;
		assert_int_equal(fixed_pages(), usual + 3);
		table_at(table)[300] |= USER;
		table_at(pdpt)[7] &= ~USER; /* on any level */
		assert_int_equal(fixed_pages(), usual + 3);
		table_at(pdpt)[7] = (leaves[i] & ~((1ull << 30) - 1)) | LARGE | PRESENT;
		assert_int_equal(fixed_pages(), -1);
		restore(NULL);
	}
}

/* Paging of another kind, or none. */
static void test_other_paging(void **state)
{
	(void)state;
	sregs.cr0 &= ~CR0_PG;
	assert_int_equal(fixed_pages(), -1);
	restore(NULL);
	sregs.efer &= ~EFER_LMA;
	assert_int_equal(fixed_pages(), -1);
	restore(NULL);
	sregs.cr4 |= CR4_LA57;
	assert_int_equal(fixed_pages(), -1);
	restore(NULL);
	assert_int_equal(fixed_pages(), usual);
}

/* --- Tables that make no sense --- */

static void test_outside(void **state)
{
	static const uint64_t outside[] = { SIZE,       SIZE + PAGE,         1ull << 32,
					    1ull << 40, ADDRESS & ~0xfffull, 1ull << 51 };
	uint64_t pdpt;

	(void)state;
	pdpt = table_at(sregs.cr3)[0] & ADDRESS;
	for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		restore(NULL);
		sregs.cr3 = outside[i];
		assert_int_equal(fixed_pages(), -1);
		restore(NULL);
		table_at(sregs.cr3)[300] = outside[i] | PRESENT;
		assert_int_equal(fixed_pages(), -1);
		table_at(sregs.cr3)[300] = outside[i]; /* not present: not looked at */
		assert_int_equal(fixed_pages(), usual);
		table_at(pdpt)[511] = outside[i] | PRESENT;
		assert_int_equal(fixed_pages(), -1);
		/* Memory, no table: ring 3 may not reach it. */
		table_at(pdpt)[511] = outside[i] | PRESENT | LARGE;
		assert_int_equal(fixed_pages(), -1);
		table_at(pdpt)[511] = (outside[i] | PRESENT | LARGE) & ~USER;
		assert_int_equal(fixed_pages(), usual);
	}
	/* The last page of RAM is one. */
	restore(NULL);
	memset(memory.base + SIZE - PAGE, 0, PAGE);
	table_at(sregs.cr3)[300] = (SIZE - PAGE) | PRESENT;
	assert_int_equal(fixed_pages(), usual + 1);
}

/* A table that is among its own entries is walked as deep as there are levels, and not for ever. */
static void test_loops(void **state)
{
	uint64_t *pml4 = table_at(sregs.cr3), *pages = calloc(PAGES, sizeof(*pages));

	(void)state;
	pml4[511] = (sregs.cr3 & ADDRESS) | PRESENT;
	assert_in_range(fixed_pages_of(pages, PAGES), 8, 7 + 8 * 8 * 8 + 8 * 8 + 8);
	for (unsigned i = 1; i < 512; i++)
		pml4[i] = (sregs.cr3 & ADDRESS) | PRESENT;
	assert_int_equal(fixed_pages(), -1);
	assert_int_equal(fixed_pages_of(pages, PAGES), -1);
	free(pages);
}

static void test_gdt_bases(void **state)
{
	static const struct {
		uint64_t base;
		uint16_t limit;
	} bad[] = {
		{ UINT64_MAX, 0 },
		{ UINT64_MAX, 0xffff },
		{ UINT64_MAX - 0xffff, 0xffff },
		{ UINT64_MAX - PAGE, PAGE },
		{ UINT64_MAX - 2 * PAGE, 1 },
		{ 0xfffffffffffff000ull, 0xfff },
		{ 0x7ffffffff000ull, 0xffff },
		{ 0xffff800000000000ull, 0 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sregs.gdt.base = bad[i].base;
		sregs.gdt.limit = bad[i].limit;
		assert_int_equal(fixed_pages(), -1);
	}
	/* The first page that is mapped, up to the first that is not. */
	sregs.gdt = real_sregs.gdt;
	sregs.gdt.limit = 0xffff;
	sregs.gdt.base = 0x7ffffffff000ull - 0x8000;
	assert_int_equal(fixed_pages(), -1);
}

/* A state that ends anywhere. */
static void test_truncated(void **state)
{
	uint64_t pages[MAX];

	(void)state;
	for (size_t len = 0; len < saved.len; len++) {
		/* On the heap, so that a sanitizer sees a byte too many. */
		uint8_t *exact = malloc(len ? len : 1);

		memcpy(exact, saved.data, len);
		assert_int_equal(vcpu_fixed_pages(exact, len, &memory, pages, MAX), -1);
		free(exact);
	}
	assert_int_equal(fixed_pages(), usual);
}

/* --- Anything --- */

/* An entry of one of the machine's tables becomes something else. */
static void change_entry(void)
{
	uint64_t pages[MAX];
	int count = fixed_pages_of(pages, MAX);
	uint64_t page =
		count > 0 ? pages[seed_below(&seed, (uint64_t)count)] : seed_below(&seed, PAGES);
	uint64_t *table = table_at(page * PAGE), value;

	switch (seed_below(&seed, 4)) {
	case 0:
		value = seed_next(&seed);
		break;
	case 1:
		value = seed_below(&seed, PAGES + 2) * PAGE | seed_below(&seed, 256);
		break;
	case 2:
		value = table[seed_below(&seed, 512)] ^ 1ull << seed_below(&seed, 64);
		break;
	default:
		value = page * PAGE | PRESENT;
	}
	table[seed_below(&seed, seed_below(&seed, 2) ? 8 : 512)] = value;
}

static void test_random(void **state)
{
	unsigned found = 0;

	(void)state;
	for (unsigned n = 0; n < RANDOM; n++) {
		int count;

		if (n % 50 == 0)
			restore(NULL);
		change_entry();
		if (seed_below(&seed, 20) == 0)
			sregs.cr3 = seed_below(&seed, 2) ? seed_next(&seed)
							 : seed_below(&seed, PAGES + 1) * PAGE;
		if (seed_below(&seed, 20) == 0) {
			sregs.gdt.base = seed_next(&seed) >> seed_below(&seed, 64);
			sregs.gdt.limit = (uint16_t)seed_next(&seed);
		}
		if (seed_below(&seed, 20) == 0)
			sregs.gdt = real_sregs.gdt;
		if (seed_below(&seed, 10) == 0)
			sregs.cr3 = real_sregs.cr3;
		count = fixed_pages();
		found += count > 0;
	}
	assert_in_range(found, RANDOM / 20, RANDOM);
}

#define TEST(name) cmocka_unit_test_setup(name, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_embedded_guest), TEST(test_gdt),
		TEST(test_small_pages),    TEST(test_ldt),
		TEST(test_not_confined),   TEST(test_other_paging),
		TEST(test_user_leaf),      TEST(test_gates),
		TEST(test_gates_in_ldt),   TEST(test_outside),
		TEST(test_loops),          TEST(test_gdt_bases),
		TEST(test_truncated),      TEST(test_random),
	};

	seed = seed_begin(4041);
	return cmocka_run_group_tests_name("tables", tests, setup, teardown);
}
