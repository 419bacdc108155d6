/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Printing, verdicts, options and interrupts of the tiny guests. See guest.h.
 */
#include "tests/guest/guest.h"

struct idt_gate {
	uint16_t low;
	uint16_t selector;
	uint8_t ist;
	uint8_t type;
	uint16_t middle;
	uint32_t high;
	uint32_t reserved;
};

extern volatile struct idt_gate idt[256];

static void print_bytes(const char *text, size_t len)
{
	__asm__ volatile("rep outsb"
			 : "+S"(text), "+c"(len)
			 : "d"((uint16_t)LAYOUT_PORT_SERIAL)
			 : "memory");
}

void print(const char *text)
{
	size_t len = 0;

	while (text[len] != '\0')
		len++;
	print_bytes(text, len);
}

void print_number(uint64_t value)
{
	char digits[20];
	unsigned at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	print_bytes(digits + at, sizeof(digits) - at);
}

void print_hex(const volatile void *bytes, unsigned len)
{
	const volatile uint8_t *b = bytes;

	for (unsigned i = 0; i < len; i++) {
		char pair[2] = { "0123456789abcdef"[b[i] >> 4], "0123456789abcdef"[b[i] & 15] };

		print_bytes(pair, sizeof(pair));
	}
}

void end(uint8_t status)
{
	outb(LAYOUT_PORT_DEBUG_EXIT, status);
	for (;;)
		__builtin_ia32_pause();
}

void success(void)
{
	print("SUCCESS\n");
	end(0);
}

void fail(const char *what)
{
	print("FAIL: ");
	print(what);
	print("\n");
	end(1);
}

/* What stands behind `key` at the start of a word of the command line, or NULL. */
static const char *option_find(const struct pvh_info *info, const char *key)
{
	const char *at = (const char *)info->cmdline;

	while (at != NULL && *at != '\0') {
		unsigned i = 0;

		while (key[i] != '\0' && at[i] == key[i])
			i++;
		if (key[i] == '\0' && (at[i] == '\0' || at[i] == ' ' || at[i] == '='))
			return at + i;
		while (*at != '\0' && *at != ' ')
			at++;
		while (*at == ' ')
			at++;
	}
	return NULL;
}

bool option(const struct pvh_info *info, const char *word)
{
	const char *rest = option_find(info, word);

	return rest != NULL && (*rest == '\0' || *rest == ' ');
}

uint64_t option_number(const struct pvh_info *info, const char *key, uint64_t missing)
{
	const char *digit = option_find(info, key);
	uint64_t value = 0;

	if (digit == NULL || *digit++ != '=')
		return missing;
	for (; *digit >= '0' && *digit <= '9'; digit++)
		value = value * 10 + (uint64_t)(*digit - '0');
	return value;
}

void idt_set(uint8_t vector, void (*handler)(void))
{
	uint64_t address = (uint64_t)handler;

	idt[vector].low = (uint16_t)address;
	idt[vector].selector = 8;
	idt[vector].middle = (uint16_t)(address >> 16);
	idt[vector].high = (uint32_t)(address >> 32);
	idt[vector].type = 0x8e; /* present, interrupt gate */
}

void ring0_call(void (*fn)(void))
{
	idt_set(6, fn);
	__asm__ volatile("ud2" : : : "memory");
}

bool wait_change(const volatile uint32_t *value, uint32_t old, unsigned ms)
{
	uint64_t start = rdtsc(), ticks = (uint64_t)ms * identity()->tsc_khz;

	while (*value == old) {
		if (rdtsc() - start > ticks)
			return false;
		__builtin_ia32_pause();
	}
	return true;
}

void spin_ms(uint64_t ms)
{
	uint64_t start = rdtsc(), ticks = ms * identity()->tsc_khz;

	while (rdtsc() - start < ticks)
		__builtin_ia32_pause();
}
