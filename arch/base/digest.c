/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 behind arch/base/digest.h. The algorithm is header-only and is compiled here and
 * nowhere else.
 */
#include "arch/base/digest.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(XXH3_state_t) <= sizeof(((struct digest *)0)->state), "digest too small");
_Static_assert(_Alignof(XXH3_state_t) <= _Alignof(struct digest), "digest not aligned");

static XXH3_state_t *digest_state(const struct digest *d)
{
	return (XXH3_state_t *)(uintptr_t)d->state;
}

uint64_t digest64(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

void digest_init(struct digest *d)
{
	memset(d, 0, sizeof(*d));
	XXH3_128bits_reset(digest_state(d));
}

void digest_page(struct digest *d, uint64_t number, const void *page)
{
	XXH3_128bits_update(digest_state(d), &number, sizeof(number));
	XXH3_128bits_update(digest_state(d), page, DIGEST_PAGE);
}

void digest_final(const struct digest *d, uint8_t out[DIGEST_LEN])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest_state(d)));
	memcpy(out, canonical.digest, DIGEST_LEN);
}
