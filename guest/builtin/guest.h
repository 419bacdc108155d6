/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every part of the embedded guest uses: instructions that C has no words for,
 * and guest memory beyond the image. It runs in ring 3, in one thread, without interrupts.
 */
#ifndef VIRGA_GUEST_BUILTIN_GUEST_H
#define VIRGA_GUEST_BUILTIN_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/identity.h"

#define PAGE_SIZE    4096u

/* The first GiB of RAM stands here, whole; the image itself is also mapped where it was linked. */
#define GUEST_WINDOW (1ull << 39)

/* Not on the way of an ordinary request: stands apart, so that a clone touches fewer pages. */
#define COLD         __attribute__((cold, noinline))

/* Memory above the image, in three parts that share what there is. */
struct guest_memory {
	uint64_t ram_size; /* bytes of all RAM */
	uint8_t *message;  /* a request that did not come in one piece; an answer in the making */
	uint32_t message_size; /* CHANNEL_PAYLOAD_MAX, less when the machine is small */
	uint64_t *pages;       /* initialised before READY, for `sum` */
	uint64_t page_count;
	uint64_t *scratch;      /* for `dirty` */
	uint64_t scratch_count; /* pages */
};

/* Maps the window and divides RAM. info: guest-physical hvm_start_info. */
void memory_init(struct guest_memory *memory, uint64_t info, uint64_t page_count) COLD;

/*
 * Puts a page table in place of the window's last 2 MiB, unless it is there already; where they are.
 * NULL for a table: only where they are. NULL: RAM is there.
 */
volatile char *memory_link(const void *table) COLD;

/* The value that word `index` of memory->pages holds. */
static inline uint64_t memory_word(uint64_t index)
{
	return index * 0x9e3779b97f4a7c15ull;
}

static inline uint64_t physical(const volatile void *p)
{
	return (uint64_t)p & (GUEST_WINDOW - 1);
}

static inline void port_write(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t port_read(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t tsc_now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* The identity region; never cached: a clone finds another one. */
const volatile struct identity *identity(void);

/* boot.S */
extern char image_end[];
extern uint64_t boot_pml4[512];
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int value, size_t len);

/* main.c: what is done in ring 0, where an exit may be cheaper than in ring 3; then in ring 3. */
void guest_devices(void) COLD;
void guest_start(uint32_t info) COLD;
void guest_serve(void);

#endif
