/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes ACPI Machine Language into a buffer (ACPI 6.4, chapter 20, and 6.4 for
 * resources): only what the DSDT needs. A buffer that is too small sets `full`, and
 * from then on nothing is written; the caller asks once at the end.
 */
#ifndef VIRGA_ARCH_BASE_AML_H
#define VIRGA_ARCH_BASE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *data;
	size_t max;
	size_t len;
	bool full;
};

void aml_bytes(struct aml *a, const void *bytes, size_t len);

/* Open a scope, device or method; close it with the mark that was returned. */
size_t aml_open_scope(struct aml *a, const char *path);
size_t aml_open_device(struct aml *a, const char name[4]);
/* Serialized, of so many arguments. */
size_t aml_open_method(struct aml *a, const char name[4], uint8_t arguments);
void aml_close(struct aml *a, size_t mark);

/* Name(path, ...), four letters, or \ and four for one of the root: the object follows. */
void aml_name(struct aml *a, const char *path);
void aml_integer(struct aml *a, uint32_t value);
void aml_string(struct aml *a, const char *text);
/* EisaId("PNP0501"): three capital letters and four hex digits. */
void aml_eisa_id(struct aml *a, const char id[7]);
/* Package() of `count` integers. */
void aml_package(struct aml *a, const uint32_t *values, uint8_t count);

/* Notify(object, value), in a method. */
void aml_notify(struct aml *a, const char object[4], uint8_t value);

/* ResourceTemplate(); close it with aml_close_resources. */
size_t aml_open_resources(struct aml *a);
void aml_close_resources(struct aml *a, size_t mark);
void aml_memory32_fixed(struct aml *a, uint32_t base, uint32_t len);
void aml_io(struct aml *a, uint16_t base, uint8_t len);
/* Interrupt(ResourceConsumer, Edge, ActiveHigh, Exclusive). */
void aml_interrupt_edge(struct aml *a, uint32_t gsi);

#endif
