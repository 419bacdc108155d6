/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive of a template as it streams past: raw, or members of the fuzzer's whose headers' checksums
 * are right, around a state that is. In whatever pieces it comes, the verdict is the same.
 */
#include "serve/template/pack_check.h"

#include <stdlib.h>
#include <string.h>

#include "boot/snapshot/files.h"
#include "boot/snapshot/format.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/seal.h"

#define MEMORY_SIZE 0x2000u
#define DATA_MAX    0x2000u

static int verdict(const struct blob *archive, size_t piece)
{
	struct pack_check c;
	int ret = 0;

	pack_check_init(&c, "fuzz");
	for (size_t at = 0; ret == 0 && at < archive->len;) {
		size_t len = piece && piece < archive->len - at ? piece : archive->len - at;
		uint8_t *copy = malloc(len);

		must(copy != NULL);
		memcpy(copy, archive->data + at, len);
		ret = pack_check_feed(&c, copy, len);
		free(copy);
		at += len;
	}
	if (ret == 0)
		ret = pack_check_end(&c);
	pack_check_fini(&c);
	return ret;
}

/* A state as pack_check reads it, damaged and sealed. */
static void put_state(struct bytes *in, struct blob *out)
{
	struct snapshot_machine machine = { .memory_size = MEMORY_SIZE, .vcpu_count = 1 };
	struct state_writer w = { 0 };
	struct blob file = { 0 };
	size_t len;

	if (bytes_u8(in) & 1)
		machine.memory_size = bytes_odd(in);
	fields_save(snapshot_machine_fields, &machine,
		    state_section_add(&w, "machine", 0, SNAPSHOT_MACHINE_VERSION));
	must(state_encode(&w, &file) == 0);
	len = file.len;
	bytes_damage(in, file.data, &len);
	seal_state(file.data, len);
	blob_put(out, file.data, len);
	blob_fini(&file);
	state_writer_fini(&w);
}

static void put_octal(char to[12], uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%011llo", (unsigned long long)value & 077777777777ull);
	memcpy(to, text, 12);
}

static struct pack_header header(struct bytes *in, unsigned which, uint64_t size, uint64_t real)
{
	struct pack_header h = { .mode = PACK_MODE, .type = PACK_REGULAR };
	size_t len = sizeof(h);

	strcpy(h.name, snapshot_files[which].name);
	memcpy(h.magic, PACK_MAGIC, sizeof(h.magic));
	put_octal(h.size, size);
	put_octal(h.mtime, 0);
	if (real != size) {
		h.type = PACK_HOLES;
		h.more = (char)(bytes_u8(in) & 1);
		put_octal(h.real_size, real);
	}
	bytes_damage(in, (uint8_t *)&h, &len);
	pack_header_seal(&h);
	return h;
}

static void put_padding(struct blob *out)
{
	static const uint8_t zeros[PACK_BLOCK];

	blob_put(out, zeros, (PACK_BLOCK - out->len % PACK_BLOCK) % PACK_BLOCK);
}

static void put_member(struct bytes *in, struct blob *out, unsigned which, uint8_t how)
{
	struct blob data = { 0 };
	struct pack_header h;
	uint64_t real;

	if (which == SNAPSHOT_STATE) {
		put_state(in, &data);
	} else {
		size_t len = which == SNAPSHOT_MEMORY && !(how & 16) ? MEMORY_SIZE : bytes_u16(in);
		uint8_t *zeros = calloc(1, DATA_MAX);

		must(zeros != NULL);
		blob_put(&data, zeros, len % DATA_MAX);
		free(zeros);
	}
	real = how & 32 ? MEMORY_SIZE : data.len;
	h = header(in, which, data.len, real);
	blob_put(out, &h, sizeof(h));
	if (h.type == PACK_HOLES && h.more) {
		uint8_t sparse[PACK_BLOCK] = { 0 };

		sparse[PACK_SPARSE_MORE] = bytes_u8(in) & 1;
		blob_put(out, sparse, sizeof(sparse));
	}
	blob_put(out, data.data, data.len);
	put_padding(out);
	blob_fini(&data);
}

static struct blob made(struct bytes *in)
{
	static const uint8_t zeros[PACK_BLOCK];
	struct blob out = { 0 };
	unsigned blocks;

	/* The members in their order, each unless a bit says no, or another in its place. */
	for (unsigned i = 0; i < SNAPSHOT_PARTS; i++) {
		uint8_t how = bytes_u8(in);

		if (how & 128)
			continue;
		put_member(in, &out, how & 64 ? how % SNAPSHOT_PARTS : i, how);
	}
	blocks = bytes_below(in, 24);
	for (unsigned i = 0; i < blocks; i++)
		blob_put(&out, zeros, sizeof(zeros));
	if (bytes_u8(in) & 1)
		blob_put(&out, in->at, in->left);
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	uint8_t how = bytes_u8(&in);
	struct blob archive = { 0 };

	if (how & 1)
		blob_put(&archive, in.at, in.left);
	else
		archive = made(&in);
	must(!archive.failed);
	must(verdict(&archive, 0) == verdict(&archive, 101 + 37u * (how >> 1)));
	blob_fini(&archive);
	return 0;
}
