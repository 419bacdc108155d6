/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates in memory (boot/snapshot/sealed.h). The layout of `parts` is between processes of
 * one host program and never on disk.
 */
#include "boot/snapshot/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/memory.h"

#define SEALED_MAGIC 0x4c41455341475256ull /* "VRGASEAL" */
#define SEALED_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)
#define SEALED_CHUNK (16ull << 20)

struct sealed_header {
	uint64_t magic;
	uint64_t state_len;
	uint64_t working_set_len; /* 0: none */
};

static int sealed_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? failf(errno, "cannot keep a template in memory: %s", strerror(errno)) : fd;
}

static int sealed_seal(int fd)
{
	if (fcntl(fd, F_ADD_SEALS, SEALED_SEALS) < 0)
		return failf(errno, "cannot seal a template in memory: %s", strerror(errno));
	return 0;
}

static int sealed_write(int fd, const void *data, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return failf(n < 0 ? errno : ENOSPC, "cannot keep a template in memory: %s",
				     write_error(n < 0 ? errno : ENOSPC));
		data = (const uint8_t *)data + n;
		len -= (size_t)n;
		at += n;
	}
	return 0;
}

/* The parts behind their header, sealed. fd or -errno. */
static int sealed_make_parts(const struct blob *state, const struct working_set *ws)
{
	struct sealed_header header = { .magic = SEALED_MAGIC, .state_len = state->len };
	struct blob set = { 0 };
	uint64_t checksum = 0;
	int fd = sealed_memfd("template-parts"), ret;

	if (fd < 0)
		return fd;
	memcpy(&checksum, state->data + state->len - sizeof(checksum), sizeof(checksum));
	ret = ws->count ? working_set_encode(ws, checksum, &set) : 0;
	header.working_set_len = set.len;
	if (ret == 0)
		ret = sealed_write(fd, &header, sizeof(header), 0);
	if (ret == 0)
		ret = sealed_write(fd, state->data, state->len, sizeof(header));
	if (ret == 0)
		ret = sealed_write(fd, set.data, set.len, (off_t)(sizeof(header) + state->len));
	if (ret == 0)
		ret = sealed_seal(fd);
	blob_fini(&set);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

/* Copies what is data; holes stay holes. */
static int sealed_copy_memory(const struct snapshot *s, int to)
{
	off_t size = (off_t)s->memory_size, at = 0, end;

	if (ftruncate(to, size) < 0)
		return failf(errno, "%s: no room in memory for its %llu MiB: %s", s->path,
			     (unsigned long long)s->memory_size >> 20, write_error(errno));
	while (at < size && (at = lseek(s->memory_fd, at, SEEK_DATA)) >= 0) {
		end = lseek(s->memory_fd, at, SEEK_HOLE);
		if (end < 0 || lseek(to, at, SEEK_SET) < 0)
			return failf(errno, "%s/memory: %s", s->path, strerror(errno));
		while (at < end) {
			uint64_t left = (uint64_t)(end - at);
			ssize_t n = sendfile(to, s->memory_fd, &at,
					     left < SEALED_CHUNK ? left : SEALED_CHUNK);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return failf(n < 0 ? errno : EIO,
					     "%s/memory: cannot be copied into memory: %s", s->path,
					     n < 0 ? write_error(errno)
						   : "it is shorter than it was");
		}
	}
	if (at < 0 && errno != ENXIO)
		return failf(errno, "%s/memory: %s", s->path, strerror(errno));
	return 0;
}

static int sealed_verify(const struct snapshot *s, int fd)
{
	uint8_t digest[DIGEST_LEN];
	int ret = snapshot_memory_digest(fd, s->memory_size, s->path, digest);

	if (ret < 0)
		return ret;
	if (memcmp(digest, s->memory_digest, DIGEST_LEN) != 0)
		return failf(EBADMSG,
			     "%s/memory: is damaged: its content is not what was saved; build the "
			     "template again",
			     s->path);
	return 0;
}

/* Fewer faults for clones (working_set_collapse()). Advice: no failure counts. */
static void sealed_collapse(const struct snapshot *s, int memory_fd)
{
	struct memory memory;
	int fd = dup(memory_fd);

	if (fd < 0 || memory_map_cow(&memory, s->memory_size, fd) < 0)
		return;
	working_set_collapse(&s->working_set, &memory);
	memory_destroy(&memory);
}

int sealed_make(struct sealed *sealed, const struct snapshot *s)
{
	int ret;

	*sealed = (struct sealed){ .memory_fd = sealed_memfd("template-memory"), .parts_fd = -1 };
	if (sealed->memory_fd < 0)
		return sealed->memory_fd;
	ret = sealed_copy_memory(s, sealed->memory_fd);
	if (ret == 0)
		ret = sealed_verify(s, sealed->memory_fd);
	if (ret == 0)
		sealed_collapse(s, sealed->memory_fd);
	if (ret == 0)
		ret = sealed_seal(sealed->memory_fd);
	if (ret == 0)
		ret = sealed->parts_fd = sealed_make_parts(&s->raw, &s->working_set);
	if (ret < 0)
		sealed_close(sealed);
	return ret < 0 ? ret : 0;
}

int sealed_adopt(struct sealed *sealed, int memory_fd, const struct blob *state,
		 const struct working_set *ws)
{
	int ret;

	*sealed = (struct sealed){ .memory_fd = memory_fd, .parts_fd = -1 };
	ret = sealed_seal(memory_fd);
	if (ret == 0)
		ret = sealed->parts_fd = sealed_make_parts(state, ws);
	if (ret < 0)
		sealed_close(sealed);
	return ret < 0 ? ret : 0;
}

/*
 * State and working set where they lie: clones of a template share these pages. The mapping is
 * the state's, the other is in it.
 */
static int sealed_map_parts(int fd, const struct sealed_header *header, const char *name,
			    struct blob *state, struct blob *set)
{
	const size_t at = sizeof(*header) + (size_t)header->state_len;
	const size_t len = at + (size_t)header->working_set_len;
	struct stat st;
	uint8_t *parts;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < len)
		return failf(EINVAL, "%s: its parts are shorter than they say", name);
	parts = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (parts == MAP_FAILED)
		return failf(errno, "%s: its parts cannot be mapped: %s", name, strerror(errno));
	*state = (struct blob){ .data = parts + sizeof(*header),
				.len = (size_t)header->state_len,
				.mapped = len };
	if (header->working_set_len)
		*set = blob_reader(parts + at, len - at);
	return 0;
}

static int sealed_read_header(int fd, const char *name, struct sealed_header *header)
{
	if (pread(fd, header, sizeof(*header), 0) != sizeof(*header))
		return failf(EIO, "%s: its parts cannot be read from memory", name);
	if (header->magic != SEALED_MAGIC || header->state_len < sizeof(uint64_t) ||
	    header->state_len > STATE_SIZE_MAX || header->working_set_len > WORKING_SET_SIZE_MAX)
		return failf(EINVAL, "%s: its parts are none of a template", name);
	return 0;
}

int sealed_open(struct sealed *sealed, const char *name, struct snapshot *s)
{
	struct blob state = { 0 }, set = { 0 };
	struct sealed_header header = { 0 };
	int memory_fd = sealed->memory_fd;
	int ret = sealed_read_header(sealed->parts_fd, name, &header);

	sealed->memory_fd = -1;
	*s = (struct snapshot){ .memory_fd = -1 };
	if (ret == 0)
		ret = sealed_map_parts(sealed->parts_fd, &header, name, &state, &set);
	if (ret == 0)
		return snapshot_adopt(s, name, &state, &set, memory_fd);
	close(memory_fd);
	return ret;
}

void sealed_close(struct sealed *sealed)
{
	if (sealed->memory_fd >= 0)
		close(sealed->memory_fd);
	if (sealed->parts_fd >= 0)
		close(sealed->parts_fd);
	*sealed = (struct sealed){ .memory_fd = -1, .parts_fd = -1 };
}
