/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `working-set`: raw, or a right one with numbers of the fuzzer's whose checksum is made
 * right again. What is accepted lies in memory and is encoded to a file that is accepted again.
 */
#include "boot/pages/working_set.h"

#include <stdlib.h>
#include <string.h>

#include "arch/base/digest.h"
#include "tests/fuzz/lib/bytes.h"

#define STATE_SUM 0x1122334455667788ull
#define RUNS_MAX  12u

static void check(const void *data, size_t len, uint64_t memory_size)
{
	struct working_set ws, again;
	struct blob out;
	uint64_t end = 0, pages = 0;

	if (working_set_parse(&ws, "fuzz", data, len, STATE_SUM, memory_size) < 0)
		return;
	for (uint32_t i = 0; i < ws.count; i++) {
		must(ws.runs[i].page >= end && ws.runs[i].count > 0);
		end = (uint64_t)ws.runs[i].page + ws.runs[i].count;
		pages += ws.runs[i].count;
	}
	must(end <= memory_size / 4096 && pages <= WORKING_SET_PAGES_MAX);
	must(pages == (uint64_t)ws.written_pages + ws.read_pages);
	must(working_set_encode(&ws, STATE_SUM, &out) == 0);
	must(working_set_parse(&again, "again", out.data, out.len, STATE_SUM, memory_size) == 0);
	must(again.count == ws.count);
	working_set_fini(&again);
	working_set_fini(&ws);
	blob_fini(&out);
}

static void made(struct bytes *in, uint64_t memory_size)
{
	struct working_set_run runs[RUNS_MAX] = { 0 };
	struct working_set ws = { .runs = runs, .count = bytes_below(in, RUNS_MAX + 1) };
	struct blob out;
	uint8_t *copy;
	size_t len;
	uint64_t sum;
	uint32_t page = 0;

	for (uint32_t i = 0; i < ws.count; i++) {
		uint8_t how = bytes_u8(in);

		page += how & 15;
		runs[i].page = how & 128 ? (uint32_t)bytes_odd(in) : page;
		runs[i].count = how & 64 ? (uint32_t)bytes_odd(in) : 1u + (how >> 5 & 1);
		runs[i].rank = bytes_u16(in);
		runs[i].flags = how >> 4 & 1;
		page = runs[i].page + runs[i].count;
	}
	must(working_set_encode(&ws, STATE_SUM, &out) == 0);
	len = out.len;
	bytes_damage(in, out.data, &len);
	if (len >= sizeof(sum)) {
		sum = digest64(out.data, len - sizeof(sum));
		memcpy(out.data + len - sizeof(sum), &sum, sizeof(sum));
	}
	copy = malloc(len ? len : 1);
	must(copy != NULL);
	memcpy(copy, out.data, len);
	check(copy, len, memory_size);
	free(copy);
	blob_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	uint8_t how = bytes_u8(&in);
	uint64_t memory_size = (uint64_t)(1 + (how >> 1)) << (how & 64 ? 32 : 20);

	if (how & 1)
		check(in.at, in.left, memory_size);
	else
		made(&in, memory_size);
	return 0;
}
