/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded guest in ring 0, for the tests of policy reset. It is linked from the sources of
 * guest/builtin/, stays in the ring that it starts in, and knows four requests more:
 *   map     to warm up with: maps a page that `set` maps anew
 *   set N   writes what a guest in ring 0 can write, and looks; the timer by N: 1 periodic, 2 TSC deadline
 *   look    only looks
 *   timer N waits N ms for the local APIC's timer; ticks of the TSC that it took
 * All answer a line `name value` for each thing, in hexadecimal; `-`: there is no such thing.
 */
#ifndef VIRGA_TESTS_GUEST_RING0_H
#define VIRGA_TESTS_GUEST_RING0_H

#include "guest/builtin/server.h"
#include "tests/guest/ring0/selectors.h"

#define RING0_PAGES  300u /* of scratch that `set` writes */
#define TIMER_VECTOR 0x61u

/* entry.S. After a #GP the guest goes on at fault_resume. */
extern volatile uint64_t fault_resume;
extern volatile uint32_t fault_count, nmi_count, timer_count;
void fault_stub(void); /* #GP: has an error code */
void nmi_stub(void);   /* returns without IRET, so that further NMIs stay blocked */
void timer_stub(void); /* counts, and tells the local APIC */
void ring3_back(void); /* #UD: the way back from ring 3 */
void ring0_iret(void); /* an IRET to the next instruction: unblocks NMIs */
/* Calls it in ring 3, where the CPU runs it though KVM may emulate ring 0. */
uint64_t ring3_call(uint64_t (*fn)(uint64_t argument), uint64_t argument);
extern uint8_t ring0_stack_top[];
extern uint8_t boot_tss[];

/* main.c: where the test's page is mapped, and its page table's first entry. */
struct ring0_page {
	volatile char *at;
	volatile uint64_t *entry;
	uint64_t first, second; /* what the entry is: pages that hold 'A' and 'B' */
};
extern struct ring0_page ring0_page;

/* set.c, look.c */
/* Switches on what a guest finds off: XCR0 and PKRU, where they are. */
void state_init(void);
/* A byte as ring 3 reads it, by the translations that the CPU has. */
uint64_t state_read(uint64_t at);
void state_set(struct guest *g, uint64_t number);
/*
 * An NMI is taken and blocks the next, which stays pending until something does an IRET; how many came.
 */
uint32_t state_block_nmi(void);
/* The report; its end. */
char *state_look(struct guest *g, char *at);
/* The same of NMIs: it takes all that are pending. */
char *state_look_nmi(char *at);
/* The report of `timer`; its end. */
char *state_timer(char *at, uint64_t ms);
/* A line of the report; its end. */
char *state_put(char *at, const char *name, uint64_t value);

#endif
