/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums of snapshots: XXH3 of 64 bits for pieces of `state` and for `config`,
 * of 128 bits for guest memory. They find damage, not forgery.
 */
#ifndef VIRGA_ARCH_BASE_DIGEST_H
#define VIRGA_ARCH_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_PAGE 4096u
#define DIGEST_LEN  16u

/* XXH3-64, seed 0. */
uint64_t digest64(const void *data, size_t len);

/* A running digest of memory; plain data, nothing to free. */
struct digest {
	_Alignas(64) uint8_t state[640]; /* XXH3_state_t */
};

void digest_init(struct digest *d);

/*
 * Adds one page of DIGEST_PAGE bytes that is not all zero; number is its offset / DIGEST_PAGE.
 * Pages in ascending order; zero pages are left out, so that holes and written zeros are the same.
 */
void digest_page(struct digest *d, uint64_t number, const void *page);

/* XXH3-128 of all (number as little-endian u64, page) so far, in canonical (big-endian) form. */
void digest_final(const struct digest *d, uint8_t out[DIGEST_LEN]);

#endif
