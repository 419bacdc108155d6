/* SPDX-License-Identifier: Apache-2.0 */
/* The AML writer (arch/base/aml.h). */
#include "arch/base/aml.h"

#include <string.h>

/* Opcodes and prefixes, ACPI 6.4, 20.3. */
#define AML_NAME          0x08
#define AML_BYTE          0x0a
#define AML_WORD          0x0b
#define AML_DWORD         0x0c
#define AML_STRING        0x0d
#define AML_SCOPE         0x10
#define AML_BUFFER        0x11
#define AML_PACKAGE       0x12
#define AML_METHOD        0x14
#define AML_EXT           0x5b
#define AML_EXT_DEVICE    0x82
#define AML_NOTIFY        0x86

#define AML_SERIALIZED    0x08 /* of a method's flags, above the number of arguments */

/* Resource descriptors, ACPI 6.4, 6.4.2 and 6.4.3. */
#define AML_RES_IO        0x47
#define AML_RES_END       0x79
#define AML_RES_MEMORY32  0x86
#define AML_RES_INTERRUPT 0x89
#define AML_DECODE16      1
#define AML_READ_WRITE    1
#define AML_CONSUMER_EDGE 3 /* bit 0: consumer, bit 1: edge; active high, exclusive */

/* All package lengths take the two-byte form: 12 bits, the low four in the first byte. */
#define AML_LENGTH_BYTES  2
#define AML_LENGTH_MAX    0xfffu

void aml_bytes(struct aml *a, const void *bytes, size_t len)
{
	if (a->full || len > a->max - a->len) {
		a->full = true;
		return;
	}
	memcpy(a->data + a->len, bytes, len);
	a->len += len;
}

static void aml_u8(struct aml *a, unsigned value)
{
	aml_bytes(a, &(uint8_t){ (uint8_t)value }, 1);
}

static void aml_u16(struct aml *a, unsigned value)
{
	aml_bytes(a, &(uint16_t){ (uint16_t)value }, 2);
}

static void aml_u32(struct aml *a, uint32_t value)
{
	aml_bytes(a, &value, 4);
}

/* The mark is where the length goes; it counts its own bytes. */
static size_t aml_open(struct aml *a)
{
	size_t mark = a->len;

	aml_u16(a, 0);
	return mark;
}

void aml_close(struct aml *a, size_t mark)
{
	size_t len = a->len - mark;

	if (len > AML_LENGTH_MAX)
		a->full = true;
	if (a->full)
		return;
	a->data[mark] = (uint8_t)(1 << 6 | (len & 15));
	a->data[mark + 1] = (uint8_t)(len >> 4);
}

size_t aml_open_scope(struct aml *a, const char *path)
{
	size_t mark;

	aml_u8(a, AML_SCOPE);
	mark = aml_open(a);
	aml_bytes(a, path, strlen(path));
	return mark;
}

size_t aml_open_device(struct aml *a, const char name[4])
{
	size_t mark;

	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_DEVICE);
	mark = aml_open(a);
	aml_bytes(a, name, 4);
	return mark;
}

size_t aml_open_method(struct aml *a, const char name[4], uint8_t arguments)
{
	size_t mark;

	aml_u8(a, AML_METHOD);
	mark = aml_open(a);
	aml_bytes(a, name, 4);
	aml_u8(a, AML_SERIALIZED | arguments);
	return mark;
}

void aml_notify(struct aml *a, const char object[4], uint8_t value)
{
	aml_u8(a, AML_NOTIFY);
	aml_bytes(a, object, 4);
	aml_integer(a, value);
}

void aml_name(struct aml *a, const char *path)
{
	aml_u8(a, AML_NAME);
	aml_bytes(a, path, strlen(path));
}

void aml_integer(struct aml *a, uint32_t value)
{
	if (value <= 1) {
		aml_u8(a, value); /* ZeroOp and OneOp are their values */
	} else if (value <= 0xff) {
		aml_u8(a, AML_BYTE);
		aml_u8(a, value);
	} else {
		aml_u8(a, AML_DWORD);
		aml_u32(a, value);
	}
}

void aml_string(struct aml *a, const char *text)
{
	aml_u8(a, AML_STRING);
	aml_bytes(a, text, strlen(text) + 1);
}

static unsigned aml_hex(char digit)
{
	return (unsigned)(digit <= '9' ? digit - '0' : digit - 'A' + 10);
}

/* Five bits a letter, four a digit, most significant first, stored big-endian. */
void aml_eisa_id(struct aml *a, const char id[7])
{
	unsigned letters = 0, digits = 0;

	for (int i = 0; i < 3; i++)
		letters = letters << 5 | (unsigned)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		digits = digits << 4 | aml_hex(id[i]);
	aml_u8(a, AML_DWORD);
	aml_u32(a, __builtin_bswap32(letters << 16 | digits));
}

void aml_package(struct aml *a, const uint32_t *values, uint8_t count)
{
	size_t mark;

	aml_u8(a, AML_PACKAGE);
	mark = aml_open(a);
	aml_u8(a, count);
	for (unsigned i = 0; i < count; i++)
		aml_integer(a, values[i]);
	aml_close(a, mark);
}

/* A buffer whose size, a word, comes right behind the package length. */
size_t aml_open_resources(struct aml *a)
{
	size_t mark;

	aml_u8(a, AML_BUFFER);
	mark = aml_open(a);
	aml_u8(a, AML_WORD);
	aml_u16(a, 0);
	return mark;
}

void aml_close_resources(struct aml *a, size_t mark)
{
	size_t size_at = mark + AML_LENGTH_BYTES + 1;
	uint16_t size;

	aml_u8(a, AML_RES_END);
	aml_u8(a, 0); /* a checksum of zero counts as right */
	if (!a->full) {
		size = (uint16_t)(a->len - size_at - sizeof(size));
		memcpy(a->data + size_at, &size, sizeof(size));
	}
	aml_close(a, mark);
}

void aml_memory32_fixed(struct aml *a, uint32_t base, uint32_t len)
{
	aml_u8(a, AML_RES_MEMORY32);
	aml_u16(a, 9);
	aml_u8(a, AML_READ_WRITE);
	aml_u32(a, base);
	aml_u32(a, len);
}

void aml_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_u8(a, AML_RES_IO);
	aml_u8(a, AML_DECODE16);
	aml_u16(a, base);
	aml_u16(a, base);
	aml_u8(a, 1);
	aml_u8(a, len);
}

void aml_interrupt_edge(struct aml *a, uint32_t gsi)
{
	aml_u8(a, AML_RES_INTERRUPT);
	aml_u16(a, 6);
	aml_u8(a, AML_CONSUMER_EDGE);
	aml_u8(a, 1);
	aml_u32(a, gsi);
}
