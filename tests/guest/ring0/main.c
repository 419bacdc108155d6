/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's life and its requests; see ring0.h.
 */
#include "tests/guest/ring0/ring0.h"

#include "arch/layout.h"
#include "guest/builtin/paging.h"

#define PAGING_GLOBAL 0x100
#define TABLE_PAGE    (RING0_PAGES + 10) /* of scratch: the table, and two pages after it */

struct gate {
	uint16_t low, selector;
	uint8_t stack, type;
	uint16_t middle;
	uint32_t high, reserved;
};

static struct gate idt[256];
static char report[32768];
struct ring0_page ring0_page;

/* The linker puts these in the place of guest/builtin's, and those under __real_. */
void __real_guest_devices(void);
void __real_command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len);
void __wrap_command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len);
void ring0_main(uint32_t info) __attribute__((noreturn));

static void idt_set(uint8_t vector, void (*handler)(void))
{
	uint64_t at = (uint64_t)handler;

	idt[vector] = (struct gate){
		.low = (uint16_t)at,
		.selector = SELECTOR_CODE0,
		.type = 0x8e,
		.middle = (uint16_t)(at >> 16),
		.high = (uint32_t)(at >> 32),
	};
}

static void idt_load(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(idt) - 1, (uint64_t)idt };
	uint64_t stack = (uint64_t)ring0_stack_top;

	idt_set(2, nmi_stub);
	idt_set(6, ring3_back);
	idt_set(13, fault_stub);
	idt_set(TIMER_VECTOR, timer_stub);
	__asm__ volatile("lidt %0" : : "m"(pointer));
	memcpy(boot_tss + 4, &stack, sizeof(stack));
}

/* The local APIC, beside the virtio devices in the same GiB. */
static void lapic_map(void)
{
	uint64_t *pdpt = (uint64_t *)(boot_pml4[0] & ~0xfffull);
	uint64_t *pd = (uint64_t *)(pdpt[LAYOUT_LAPIC >> 30] & ~0xfffull);

	pd[LAYOUT_LAPIC >> 21 & 511] = (LAYOUT_LAPIC & ~0x1fffffull) | PAGING_DEVICE;
}

/* The CPU, or KVM for it, knows the first page's translation when the snapshot is taken. */
static void page_map(struct guest *g)
{
	uint8_t *table = (uint8_t *)g->memory.scratch + TABLE_PAGE * PAGE_SIZE;
	struct ring0_page *p = &ring0_page;

	table[PAGE_SIZE] = 'A';
	table[2 * PAGE_SIZE] = 'B';
	p->first = physical(table + PAGE_SIZE) | PAGING_PAGE | PAGING_GLOBAL;
	p->second = physical(table + 2 * PAGE_SIZE) | PAGING_PAGE | PAGING_GLOBAL;
	p->entry = (uint64_t *)(void *)table;
	*p->entry = p->first;
	p->at = memory_link(table);
	if (p->at != NULL)
		ring3_call(state_read, (uint64_t)p->at);
}

void ring0_main(uint32_t info)
{
	idt_load();
	__real_guest_devices();
	lapic_map();
	state_init();
	guest_start(info);
	for (;;)
		guest_serve();
}

static bool word_is(const uint8_t *text, uint32_t len, const char *word)
{
	uint32_t i = 0;

	while (i < len && word[i] != '\0' && text[i] == (uint8_t)word[i])
		i++;
	return word[i] == '\0' && (i == len || text[i] == ' ');
}

void __wrap_command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len)
{
	const uint8_t *number = text + sizeof("timer");
	uint32_t left = len - (uint32_t)sizeof("timer");
	uint64_t value;
	char *end;

	if (word_is(text, len, "set") && len == 5) {
		state_set(g, text[4] - '0');
		end = state_look(g, report);
		end = state_put(end, "nmis-taken", state_block_nmi()); /* after all IRETs */
	} else if (word_is(text, len, "map")) {
		page_map(g);
		end = state_look(g, report);
	} else if (word_is(text, len, "look")) {
		end = state_look_nmi(state_look(g, report));
	} else if (word_is(text, len, "timer") && len > 6 && number_read(&number, &left, &value)) {
		end = state_timer(report, value);
	} else {
		__real_command_run(g, id, text, len);
		return;
	}
	channel_answer(g, CHANNEL_RESPONSE, id, report, (uint32_t)(end - report));
}
