/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tiny guests share: ports, printing, the verdict, interrupts. They run in
 * ring 3 with all of the first 8 GiB mapped; a guest ends with SUCCESS and the byte 0 written to
 * debug_exit, or with a line that begins with FAIL and the byte 1.
 */
#ifndef VIRGA_TESTS_GUEST_H
#define VIRGA_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/layout.h"
#include "boot/identity.h"

/* PVH boot protocol. */
struct pvh_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_count, reserved;
};

struct pvh_map_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#define PVH_MAGIC 0x336ec578u

/* Each guest. info lies below 4 GiB, where pointers are addresses. */
void guest_main(const struct pvh_info *info);

/* lib/start.S */
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int value, size_t len);
void interrupt_count_stub(void); /* an interrupt handler that counts and says EOI */
extern volatile uint32_t interrupt_count;

/* lib/lib.c */
void print(const char *text);
void print_number(uint64_t value);
void print_hex(const volatile void *bytes, unsigned len);
void end(uint8_t status) __attribute__((noreturn));
void success(void) __attribute__((noreturn));
void fail(const char *what) __attribute__((noreturn));
/* True when the word stands on the command line; `key=N` gives the number, else `missing`. */
bool option(const struct pvh_info *info, const char *word);
uint64_t option_number(const struct pvh_info *info, const char *key, uint64_t missing);
/* Lets an interrupt or exception enter ring 0 at `handler`, which ends with iretq. */
void idt_set(uint8_t vector, void (*handler)(void));
/* Enters ring 0 by an undefined instruction; to come back, fn adds 2 to its return address. */
void ring0_call(void (*fn)(void));
/* Waits, spinning, until *value differs from `old`; false after ms. */
bool wait_change(const volatile uint32_t *value, uint32_t old, unsigned ms);
void spin_ms(uint64_t ms);

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline const volatile struct identity *identity(void)
{
	return (const volatile void *)(uint64_t)LAYOUT_IDENTITY;
}

static inline volatile uint32_t *mmio32(uint64_t address)
{
	return (volatile uint32_t *)address;
}

/* Registers of the serial port (16550A), from LAYOUT_PORT_SERIAL. */
enum serial_register {
	SERIAL_DATA = 0,
	SERIAL_IER = 1,
	SERIAL_IIR = 2,
	SERIAL_FCR = 2,
	SERIAL_LCR = 3,
	SERIAL_MCR = 4,
	SERIAL_LSR = 5,
};

static inline void serial_write(enum serial_register reg, uint8_t value)
{
	outb((uint16_t)(LAYOUT_PORT_SERIAL + reg), value);
}

static inline uint8_t serial_read(enum serial_register reg)
{
	return inb((uint16_t)(LAYOUT_PORT_SERIAL + reg));
}

/* I/O APIC and local APIC. */
static inline void ioapic_write(uint32_t reg, uint32_t value)
{
	*mmio32(LAYOUT_IOAPIC) = reg;
	*mmio32(LAYOUT_IOAPIC + 0x10) = value;
}

static inline uint32_t ioapic_read(uint32_t reg)
{
	*mmio32(LAYOUT_IOAPIC) = reg;
	return *mmio32(LAYOUT_IOAPIC + 0x10);
}

#define IOAPIC_LEVEL  (1u << 15)
#define IOAPIC_MASKED (1u << 16)

static inline void ioapic_route(uint32_t pin, uint32_t low)
{
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, low);
}

static inline void lapic_write(uint32_t reg, uint32_t value)
{
	*mmio32(LAYOUT_LAPIC + reg) = value;
}

static inline uint32_t lapic_read(uint32_t reg)
{
	return *mmio32(LAYOUT_LAPIC + reg);
}

#define LAPIC_EOI           0xb0
#define LAPIC_SPURIOUS      0xf0
#define LAPIC_LVT_TIMER     0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE  0x3e0

#endif
