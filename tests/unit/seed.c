/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See tests/unit/seed.h. The generator is SplitMix64 (Steele, Lea, Flood 2014).
 */
#include "tests/unit/seed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seed seed_begin(uint64_t usual)
{
	const char *text = getenv("SEED");
	struct seed s = { .state = text ? strtoull(text, NULL, 0) : usual };

	fprintf(stderr, "seed %" PRIu64 "\n", s.state);
	return s;
}

uint64_t seed_next(struct seed *s)
{
	uint64_t z = s->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t seed_below(struct seed *s, uint64_t below)
{
	return seed_next(s) % below;
}

void seed_bytes(struct seed *s, void *out, size_t len)
{
	uint8_t *at = out;

	while (len) {
		uint64_t value = seed_next(s);
		size_t n = len < sizeof(value) ? len : sizeof(value);

		memcpy(at, &value, n);
		at += n;
		len -= n;
	}
}
