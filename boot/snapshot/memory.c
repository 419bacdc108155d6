/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes and digests guest memory (boot/snapshot/memory.h). Sources are walked in
 * ascending order of offset; every page ends in memory_sink_take(), which leaves
 * out zero pages, adds the others to the digest and writes them in large runs.
 */
#include "boot/snapshot/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/pages/private.h"

#define SINK_BUFFER (256u << 10) /* bytes read from a file at a time */

struct memory_sink {
	int fd;         /* -1: digest only */
	int err;        /* errno of the first failed write; then pages are only counted */
	uint64_t bytes; /* of pages that are not zero */
	uint8_t *buffer;
	struct digest digest;
	/* In place of fd and digest; what it returned last, which ends the walk if it is not 0. */
	int (*run)(void *opaque, uint64_t offset, const void *data, size_t len);
	void *opaque;
	int run_ret;
};

/* What a walk over a file's data reads from. */
struct memory_file {
	int fd;
	const char *name; /* for sentences */
};

static bool page_is_zero(const uint8_t *page)
{
	/* Most pages differ in their first bytes; equal to itself moved by eight: all are zero. */
	static const uint8_t zero[8];

	return memcmp(page, zero, sizeof(zero)) == 0 &&
	       memcmp(page, page + sizeof(zero), DIGEST_PAGE - sizeof(zero)) == 0;
}

static void memory_sink_write(struct memory_sink *sink, const uint8_t *data, size_t len,
			      uint64_t offset)
{
	if (sink->run && len && sink->run_ret == 0)
		sink->run_ret = sink->run(sink->opaque, offset, data, len);
	while (len && sink->fd >= 0 && !sink->err) {
		ssize_t n = pwrite(sink->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			sink->err = n < 0 ? errno : ENOSPC;
			return;
		}
		data += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
}

/* Takes len bytes (whole pages) that belong at offset. */
static void memory_sink_take(struct memory_sink *sink, const uint8_t *data, size_t len,
			     uint64_t offset)
{
	size_t run = 0; /* start of the pages that wait to be written */

	for (size_t at = 0; at < len; at += DIGEST_PAGE) {
		if (page_is_zero(data + at)) {
			memory_sink_write(sink, data + run, at - run, offset + run);
			run = at + DIGEST_PAGE;
			continue;
		}
		sink->bytes += DIGEST_PAGE;
		if (!sink->err && !sink->run)
			digest_page(&sink->digest, (offset + at) / DIGEST_PAGE, data + at);
	}
	memory_sink_write(sink, data + run, len - run, offset + run);
}

/*
 * The next [*start, *end) in [from, to) where the file has data, widened to pages; *start == to
 * when there is none. A file system without holes reports one run.
 */
static int memory_file_data(const struct memory_file *file, uint64_t from, uint64_t to,
			    uint64_t *start, uint64_t *end)
{
	off_t data, hole;

	*start = *end = to;
	data = lseek(file->fd, (off_t)from, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	hole = data < 0 ? -1 : lseek(file->fd, data, SEEK_HOLE);
	if (hole < 0)
		return failf(errno, "%s: cannot find its holes: %s", file->name, strerror(errno));
	if ((uint64_t)data >= to)
		return 0;
	*start = (uint64_t)data / DIGEST_PAGE * DIGEST_PAGE;
	*end = ((uint64_t)hole + DIGEST_PAGE - 1) / DIGEST_PAGE * DIGEST_PAGE;
	if (*start < from)
		*start = from;
	if (*end > to)
		*end = to;
	return 0;
}

/* Takes [from, to) of a file, whole pages, by reading it. */
static int memory_sink_read(struct memory_sink *sink, const struct memory_file *file, uint64_t from,
			    uint64_t to)
{
	while (from < to && sink->run_ret == 0) {
		size_t want = to - from < SINK_BUFFER ? (size_t)(to - from) : SINK_BUFFER;
		size_t have = 0;

		while (have < want) {
			ssize_t n = pread(file->fd, sink->buffer + have, want - have,
					  (off_t)(from + have));

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return failf(errno, "%s: cannot be read: %s", file->name,
					     strerror(errno));
			if (n == 0)
				return failf(EIO, "%s: has been cut short, to %llu bytes",
					     file->name, (unsigned long long)(from + have));
			have += (size_t)n;
		}
		memory_sink_take(sink, sink->buffer, want, from);
		from += want;
	}
	return 0;
}

/* Takes what the file has in [from, to). */
static int memory_sink_file(struct memory_sink *sink, const struct memory_file *file, uint64_t from,
			    uint64_t to)
{
	while (from < to && sink->run_ret == 0) {
		uint64_t start, end;
		int ret = memory_file_data(file, from, to, &start, &end);

		if (ret == 0)
			ret = memory_sink_read(sink, file, start, end);
		if (ret < 0)
			return ret;
		from = end;
	}
	return 0;
}

/* Beyond the end of a file that was cut short lie no holes but lost pages. */
static int memory_file_check(const struct memory_file *file, uint64_t size)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return failf(errno, "%s: cannot be read: %s", file->name, strerror(errno));
	if ((uint64_t)st.st_size < size)
		return failf(EIO, "%s: has been cut short, to %llu bytes", file->name,
			     (unsigned long long)st.st_size);
	return 0;
}

/* RAM that is shared with its memfd: the memfd knows which pages there are. */
static int memory_sink_shared(struct memory_sink *sink, const struct memory *m)
{
	struct memory_file file = { .fd = m->fd, .name = "guest memory" };
	uint64_t from = 0;

	while (from < m->size) {
		uint64_t start, end;
		int ret = memory_file_data(&file, from, m->size, &start, &end);

		if (ret < 0)
			return ret;
		memory_sink_take(sink, m->base + start, (size_t)(end - start), start);
		from = end;
	}
	return 0;
}

/*
 * Copy-on-write RAM: pages written here come from the mapping, also where the file has a hole, and
 * the pages between them from the file, which costs no page fault.
 */
static int memory_sink_cow(struct memory_sink *sink, const struct memory *m)
{
	struct memory_file base = { .fd = m->fd,
				    .name = "the memory file of this machine's snapshot" };
	struct private_pages pages;
	struct private_run run;
	uint64_t from = 0;
	int ret = memory_file_check(&base, m->size);

	if (ret < 0)
		return ret;
	private_pages_init(&pages, m);
	while (private_pages_next(&pages, &run)) {
		ret = memory_sink_file(sink, &base, from, run.start);
		if (ret < 0)
			return ret;
		memory_sink_take(sink, m->base + run.start, (size_t)(run.end - run.start),
				 run.start);
		from = run.end;
	}
	return memory_sink_file(sink, &base, from, m->size);
}

static int memory_sink_init(struct memory_sink *sink, int fd)
{
	*sink = (struct memory_sink){ .fd = fd, .buffer = malloc(SINK_BUFFER) };
	if (!sink->buffer)
		return failf(ENOMEM, "out of memory for a buffer of %u KiB", SINK_BUFFER >> 10);
	digest_init(&sink->digest);
	return 0;
}

int snapshot_memory_write(const struct memory *m, int fd, uint8_t digest[DIGEST_LEN])
{
	struct memory_sink sink;
	int ret = memory_sink_init(&sink, fd);

	if (ret < 0)
		return ret;
	if (ftruncate(fd, (off_t)m->size) < 0)
		ret = failf(errno, "memory: cannot be made %llu MiB long: %s",
			    (unsigned long long)(m->size >> 20), write_error(errno));
	else
		ret = m->cow ? memory_sink_cow(&sink, m) : memory_sink_shared(&sink, m);
	if (ret == 0 && sink.err)
		ret = failf(sink.err, "memory: cannot write %llu KiB of guest memory: %s",
			    (unsigned long long)(sink.bytes >> 10), write_error(sink.err));
	digest_final(&sink.digest, digest);
	free(sink.buffer);
	return ret;
}

int snapshot_memory_digest(int fd, uint64_t size, const char *name, uint8_t digest[DIGEST_LEN])
{
	struct memory_file file = { .fd = fd, .name = name };
	struct memory_sink sink;
	int ret = memory_sink_init(&sink, -1);

	if (ret < 0)
		return ret;
	ret = memory_file_check(&file, size);
	if (ret == 0)
		ret = memory_sink_file(&sink, &file, 0, size);
	digest_final(&sink.digest, digest);
	free(sink.buffer);
	return ret;
}

int snapshot_memory_walk(int fd, uint64_t size, const char *name,
			 int (*run)(void *opaque, uint64_t offset, const void *data, size_t len),
			 void *opaque)
{
	struct memory_file file = { .fd = fd, .name = name };
	struct memory_sink sink;
	int ret = memory_sink_init(&sink, -1);

	if (ret < 0)
		return ret;
	sink.run = run;
	sink.opaque = opaque;
	ret = memory_file_check(&file, size);
	if (ret == 0)
		ret = memory_sink_file(&sink, &file, 0, size);
	free(sink.buffer);
	return ret < 0 ? ret : sink.run_ret;
}
