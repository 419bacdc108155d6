/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzzer's input as a source of decisions: numbers and pieces taken from its front, zeros when it
 * has ended. For targets whose input is a list of actions (docs/fuzzing.md).
 */
#ifndef VIRGA_TESTS_FUZZ_BYTES_H
#define VIRGA_TESTS_FUZZ_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	const uint8_t *at; /* borrowed */
	size_t left;
};

/* What libFuzzer calls: each target has it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

uint8_t bytes_u8(struct bytes *b);
uint16_t bytes_u16(struct bytes *b);
uint32_t bytes_u32(struct bytes *b);
uint64_t bytes_u64(struct bytes *b);

/* A number below n (1 to 256), of one byte. */
uint8_t bytes_below(struct bytes *b, unsigned n);

/* The next len bytes, or what there is of them; *got is how many. Borrowed from the input. */
const uint8_t *bytes_take(struct bytes *b, size_t len, size_t *got);

/* Copies len bytes out, zeros behind the end. */
void bytes_fill(struct bytes *b, void *to, size_t len);

/*
 * A number that code may trip over: small, near a power of two or the end of its type, or any; of
 * two bytes or nine.
 */
uint64_t bytes_odd(struct bytes *b);

/* Overwrites up to seven places of data, which was right, with such numbers; may cut *len. */
void bytes_damage(struct bytes *b, uint8_t *data, size_t *len);

/* Reads all of it, where a sanitizer sees it. */
void bytes_read(const void *data, size_t len);

/* Ends the program as a finding when what must always hold does not. */
#define must(what) bytes_must(what, #what, __FILE__, __LINE__)
void bytes_must(bool holds, const char *what, const char *file, int line);

#endif
