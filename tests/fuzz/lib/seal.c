/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/fuzz/lib/seal.h. Offsets are those of docs/snapshot.md. */
#include "tests/fuzz/lib/seal.h"

#include <string.h>

#include "arch/base/digest.h"

#define HEADER        56u
#define ENTRY         56u
#define AT_COUNT      20u
#define AT_LEN        24u
#define AT_TABLE_SUM  40u
#define AT_HEADER_SUM 48u
#define ENTRY_OFFSET  32u
#define ENTRY_SUM     48u
#define SUM           8u

static uint64_t get(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void put_sum(uint8_t *to, const uint8_t *data, size_t len)
{
	uint64_t sum = digest64(data, len);

	memcpy(to, &sum, sizeof(sum));
}

void seal_state(uint8_t *data, size_t len)
{
	uint64_t whole = len;
	uint32_t count;

	if (len < HEADER + SUM)
		return;
	memcpy(&count, data + AT_COUNT, sizeof(count));
	memcpy(data + AT_LEN, &whole, sizeof(whole));
	if (count <= (len - HEADER) / ENTRY) {
		for (uint32_t i = 0; i < count; i++) {
			uint8_t *entry = data + HEADER + (size_t)i * ENTRY;
			uint64_t offset = get(entry + ENTRY_OFFSET);
			uint64_t size = get(entry + ENTRY_OFFSET + 8);

			if (offset < len && size <= len - offset)
				put_sum(entry + ENTRY_SUM, data + offset, size);
		}
		put_sum(data + AT_TABLE_SUM, data + HEADER, (size_t)count * ENTRY);
	}
	put_sum(data + AT_HEADER_SUM, data, AT_HEADER_SUM);
	put_sum(data + len - SUM, data, len - SUM);
}
