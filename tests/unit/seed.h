/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for tests that try a great deal at random: the same ones in every run and with every C
 * library. The seed is printed; SEED=N in the environment chooses another.
 */
#ifndef VIRGA_TESTS_UNIT_SEED_H
#define VIRGA_TESTS_UNIT_SEED_H

#include <stddef.h>
#include <stdint.h>

struct seed {
	uint64_t state;
};

/* From SEED or the default; printed. */
struct seed seed_begin(uint64_t usual);

uint64_t seed_next(struct seed *s);

/* From 0 to below - 1. */
uint64_t seed_below(struct seed *s, uint64_t below);

void seed_bytes(struct seed *s, void *out, size_t len);

#endif
