/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container of a machine's state: raw, or one of the fuzzer's sections with damage in header and
 * table and checksums that are right again. The sections of what is accepted lie in the file.
 */
#include "boot/snapshot/state.h"

#include <stdlib.h>
#include <string.h>

#include "arch/base/digest.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/seal.h"

#define SECTIONS_MAX 6u

static void check(const uint8_t *data, size_t len)
{
	struct state_file file;

	if (state_parse(&file, "fuzz", data, len) < 0)
		return;
	must(file.count <= STATE_SECTIONS_MAX);
	for (unsigned i = 0; i < file.count; i++) {
		const struct state_section *s = &file.sections[i];

		must(s->data >= data && s->len <= (size_t)(data + len - s->data));
		must(memchr(s->name, 0, sizeof(s->name)) && s->name[0]);
		must(state_find(&file, s->name, s->instance) == s);
		bytes_read(s->data, s->len);
	}
}

static void made(struct bytes *in)
{
	static const char *const names[] = { "machine", "memory", "vcpu", "serial", "x", "config" };
	struct state_writer w = { 0 };
	struct blob out = { 0 };
	unsigned count = bytes_below(in, SECTIONS_MAX + 1);
	size_t len;
	uint8_t *copy;

	for (unsigned i = 0; i < count; i++) {
		uint8_t how = bytes_u8(in);
		struct blob *b = state_section_add(&w, names[how % 6], how >> 6, how & 1);
		uint8_t bytes[32];

		bytes_fill(in, bytes, sizeof(bytes));
		blob_put(b, bytes, how & 31);
	}
	must(state_encode(&w, &out) == 0);
	len = out.len;
	bytes_damage(in, out.data, &len);
	copy = malloc(len ? len : 1);
	must(copy != NULL);
	memcpy(copy, out.data, len);
	seal_state(copy, len);
	check(copy, len);
	free(copy);
	blob_fini(&out);
	state_writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };

	if (bytes_u8(&in) & 1)
		check(in.at, in.left);
	else
		made(&in);
	return 0;
}
