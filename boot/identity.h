/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity region: 64 KiB of reserved guest memory at LAYOUT_IDENTITY that
 * makes one clone differ from another before its first instruction. `run` and
 * `clone` fill it, `restore` leaves it. Little-endian; the place and the offsets
 * never move, new members are appended and `length` grows.
 */
#ifndef VIRGA_BOOT_IDENTITY_H
#define VIRGA_BOOT_IDENTITY_H

#include <stdint.h>

#define IDENTITY_MAGIC          0x4449414752495656ull /* "VVIRGAID" */
#define IDENTITY_VERSION        1u

#define IDENTITY_GENERATION_LEN 16

struct identity {
	uint64_t magic;
	uint32_t version;
	uint32_t length; /* bytes of this struct that are filled in */
	uint8_t generation_id[IDENTITY_GENERATION_LEN]; /* random, new for every clone */
	uint8_t seed[64];       /* random, new for every clone; take it once, then zero it */
	uint64_t wall_clock_ns; /* host CLOCK_REALTIME when the guest's TSC was `tsc` */
	uint64_t tsc;
	uint32_t tsc_khz;
	uint32_t clone; /* number of the clone, 0 for the first and for `run` */
};

struct vm;

/*
 * Writes a fresh identity, and tells its generation id unless that is NULL. -errno with a sentence when
 * the host has no randomness or the machine no RAM there.
 */
int identity_write(struct vm *vm, uint32_t clone, uint8_t generation_id[IDENTITY_GENERATION_LEN]);

#endif
