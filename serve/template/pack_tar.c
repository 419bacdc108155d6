/* SPDX-License-Identifier: Apache-2.0 */
/* An archive, member by member (serve/template/pack_tar.h). */
#include "serve/template/pack_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/io.h"
#include "boot/snapshot/files.h"
#include "boot/snapshot/memory.h"
#include "serve/template/pack_format.h"

#define PACK_TAR_BUFFER (64u << 10)
#define PACK_OCTAL_MAX  (1ull << 33) /* of eleven digits */

struct pack_tar_run {
	uint64_t offset, len;
};

struct pack_tar {
	int fd;
	const char *name; /* of the archive */
	const char *member;
	int member_fd;
	uint64_t size; /* of the member */
	struct progress *progress;
	struct pack_tar_run *runs; /* of `memory`; owned */
	size_t count, room;
	uint64_t total, done; /* bytes in them, and of those written */
	uint64_t written;     /* of the archive */
};

static const uint8_t pack_zeros[PACK_BLOCK];

/* -EPIPE without a sentence. */
static int pack_tar_put(struct pack_tar *t, const void *data, size_t len)
{
	int ret = io_write_all(t->fd, data, len);

	t->written += len;
	return ret < 0 && ret != -EPIPE ? failf(-ret, "%s: zstd: %s", t->name, strerror(-ret))
					: ret;
}

/* Octal digits, or, from 8 GiB on, big-endian behind a byte 0x80. */
static void pack_tar_number(char field[12], uint64_t value)
{
	char text[13];

	if (value < PACK_OCTAL_MAX) {
		snprintf(text, sizeof(text), "%011llo", (unsigned long long)value);
		memcpy(field, text, 12);
		return;
	}
	memset(field, 0, 12);
	field[0] = (char)0x80;
	for (unsigned i = 11; i > 3; i--, value >>= 8)
		field[i] = (char)(value & 0xff);
}

/* --- Headers --- */

static void pack_tar_header(const struct pack_tar *t, struct pack_header *h, char type,
			    uint64_t size)
{
	*h = (struct pack_header){ .mode = PACK_MODE,
				   .uid = "0000000",
				   .gid = "0000000",
				   .mtime = "00000000000",
				   .type = type };
	snprintf(h->name, sizeof(h->name), "%s", t->member);
	memcpy(h->magic, PACK_MAGIC, sizeof(h->magic));
	pack_tar_number(h->size, size);
}

/* Fills in up to max runs from the one at `at` on; the first that was left. */
static size_t pack_tar_runs(const struct pack_tar *t, struct pack_run *to, size_t at, size_t max)
{
	for (size_t i = 0; i < max && at < t->count; i++, at++) {
		pack_tar_number(to[i].offset, t->runs[at].offset);
		pack_tar_number(to[i].len, t->runs[at].len);
	}
	return at;
}

static int pack_tar_holes(struct pack_tar *t)
{
	struct pack_header h;
	size_t at;
	int ret;

	pack_tar_header(t, &h, PACK_HOLES, t->total);
	at = pack_tar_runs(t, h.runs, 0, PACK_HEADER_RUNS);
	h.more = at < t->count;
	pack_tar_number(h.real_size, t->size);
	pack_header_seal(&h);
	ret = pack_tar_put(t, &h, sizeof(h));
	while (ret == 0 && at < t->count) {
		union {
			struct pack_run runs[PACK_SPARSE_RUNS];
			uint8_t bytes[PACK_BLOCK];
		} block = { .bytes = { 0 } };

		at = pack_tar_runs(t, block.runs, at, PACK_SPARSE_RUNS);
		block.bytes[PACK_SPARSE_MORE] = at < t->count;
		ret = pack_tar_put(t, block.bytes, sizeof(block.bytes));
	}
	return ret;
}

/* --- Memory: what is a hole is decided by content --- */

static int pack_tar_add_run(struct pack_tar *t, uint64_t offset, uint64_t len)
{
	if (!t->runs || t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		struct pack_tar_run *runs = realloc(t->runs, room * sizeof(*runs));

		if (!runs)
			return failf(ENOMEM, "out of memory");
		t->runs = runs;
		t->room = room;
	}
	t->runs[t->count++] = (struct pack_tar_run){ offset, len };
	return 0;
}

static int pack_tar_find(void *opaque, uint64_t offset, const void *data, size_t len)
{
	struct pack_tar *t = opaque;
	struct pack_tar_run *last = t->count ? &t->runs[t->count - 1] : NULL;

	(void)data;
	t->total += len;
	if (!last || last->offset + last->len != offset)
		return pack_tar_add_run(t, offset, len);
	last->len += len;
	return 0;
}

static int pack_tar_copy(void *opaque, uint64_t offset, const void *data, size_t len)
{
	struct pack_tar *t = opaque;

	(void)offset;
	t->done += len;
	if (t->done > t->total)
		return 0;
	progress_bytes(t->progress, "packed", t->done, t->total);
	return pack_tar_put(t, data, len);
}

static int pack_tar_memory(struct pack_tar *t)
{
	int ret = snapshot_memory_walk(t->member_fd, t->size, t->member, pack_tar_find, t);

	/* As tar does it: the last says how long the file is. */
	if (ret == 0)
		ret = pack_tar_add_run(t, t->size, 0);
	if (ret == 0)
		ret = pack_tar_holes(t);
	if (ret == 0)
		ret = snapshot_memory_walk(t->member_fd, t->size, t->member, pack_tar_copy, t);
	if (ret == 0 && t->done != t->total)
		ret = failf(EAGAIN, "%s: %s was changed meanwhile; export it again", t->name,
			    t->member);
	return ret;
}

/* --- Members --- */

/* One that is read as it is, and zeros up to a block. */
static int pack_tar_plain(struct pack_tar *t)
{
	struct pack_header h;
	uint8_t buffer[4096];
	uint64_t left = t->size;
	int ret;

	pack_tar_header(t, &h, PACK_REGULAR, t->size);
	pack_header_seal(&h);
	ret = pack_tar_put(t, &h, sizeof(h));
	while (ret == 0 && left) {
		ssize_t len =
			read(t->member_fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer));

		if (len <= 0)
			return failf(len < 0 ? errno : EIO, "%s: %s: %s", t->name, t->member,
				     len < 0 ? strerror(errno) : "was cut short meanwhile");
		left -= (uint64_t)len;
		ret = pack_tar_put(t, buffer, (size_t)len);
	}
	if (ret == 0)
		ret = pack_tar_put(t, pack_zeros, (PACK_BLOCK - t->size % PACK_BLOCK) % PACK_BLOCK);
	return ret;
}

static int pack_tar_member(struct pack_tar *t, int dir_fd, const struct snapshot_file_kind *kind)
{
	struct stat st;
	int ret;

	t->member = kind->name;
	t->member_fd = openat(dir_fd, kind->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (t->member_fd < 0 && errno == ENOENT && kind->optional)
		return 0;
	if (t->member_fd < 0)
		return failf(errno,
			     "%s: %s cannot be opened: %s; was the template replaced or removed "
			     "meanwhile? export it again",
			     t->name, kind->name, strerror(errno));
	if (fstat(t->member_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		ret = failf(EINVAL, "%s: %s is no regular file", t->name, kind->name);
	} else {
		t->size = (uint64_t)st.st_size;
		ret = kind->max ? pack_tar_plain(t) : pack_tar_memory(t);
	}
	close(t->member_fd);
	return ret;
}

int pack_tar_write(int dir_fd, int fd, const char *name, struct progress *progress)
{
	struct pack_tar t = { .fd = fd, .name = name, .progress = progress };
	unsigned end = 0;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < SNAPSHOT_PARTS; i++)
		ret = pack_tar_member(&t, dir_fd, &snapshot_files[i]);
	while (ret == 0 && (end++ < 2 || t.written % ((uint64_t)PACK_RECORD * PACK_BLOCK)))
		ret = pack_tar_put(&t, pack_zeros, sizeof(pack_zeros));
	free(t.runs);
	return ret;
}
