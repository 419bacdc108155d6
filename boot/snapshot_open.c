/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a snapshot (boot/snapshot.h): on the path of every start, so it is a few
 * system calls and one pass over a few KiB.
 */
#include "boot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/error.h"
#include "boot/snapshot_format.h"
#include "boot/snapshot_memory.h"

#define CONFIG_TEXT_MAX (1u << 20)

/* Opens a file of the snapshot and tells its length. fd or -errno. */
static int snapshot_open_file(const struct snapshot *s, int dir_fd, const char *name, uint64_t *len)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int err;

	if (fd >= 0 && fstat(fd, &st) == 0) {
		*len = (uint64_t)st.st_size;
		if (S_ISREG(st.st_mode))
			return fd;
		close(fd);
		return failf(EINVAL, "%s/%s: not a regular file", s->path, name);
	}
	err = errno;
	if (fd >= 0)
		close(fd);
	if (err == ENOENT)
		return failf(err, "%s: not a snapshot: it has no file '%s'", s->path, name);
	return failf(err, "%s/%s: cannot be opened: %s", s->path, name, strerror(err));
}

/*
 * Reads a small file whole, with a NUL beyond its end. -ENOENT for one that is not there has a
 * sentence too.
 */
static int snapshot_read_file(const struct snapshot *s, int dir_fd, const char *name, uint64_t max,
			      struct blob *out)
{
	uint64_t len;
	int fd = snapshot_open_file(s, dir_fd, name, &len), ret = 0;

	if (fd < 0)
		return fd;
	if (len > max) {
		ret = failf(EFBIG, "%s/%s: %llu bytes, more than the %llu that it can have",
			    s->path, name, (unsigned long long)len, (unsigned long long)max);
	} else if (!(out->data = malloc((size_t)len + 1))) {
		ret = failf(ENOMEM, "%s/%s: out of memory", s->path, name);
	} else {
		ssize_t n = read(fd, out->data, (size_t)len);

		if (n < 0)
			ret = failf(errno, "%s/%s: cannot be read: %s", s->path, name,
				    strerror(errno));
		else if ((uint64_t)n != len)
			ret = failf(EIO, "%s/%s: changed while it was read", s->path, name);
		out->len = (size_t)len;
		out->size = (size_t)len + 1;
		out->data[len] = '\0';
	}
	close(fd);
	return ret;
}

/* The extents are what this virga would lay out for that much memory: it maps nothing else yet. */
static int snapshot_check_extents(const struct snapshot *s, uint32_t count, struct blob *in)
{
	struct memory layout;
	bool same;

	memory_layout(&layout, s->memory_size);
	same = count == layout.region_count;
	for (unsigned i = 0; same && i < count; i++) {
		const struct memory_region *region = &layout.regions[i];
		struct snapshot_extent extent;

		fields_load(snapshot_extent_fields, &extent, in);
		if (extent.file || extent.flags)
			return failf(EINVAL,
				     "%s: section memory: extent %u is in file %u with flags 0x%x, "
				     "which this "
				     "virga knows nothing of",
				     s->path, i, extent.file, extent.flags);
		same = extent.gpa == region->gpa && extent.len == region->size &&
		       extent.offset == region->offset;
	}
	if (!same || in->failed || in->pos != in->len)
		return failf(EINVAL,
			     "%s: section memory: its map is not the one of a machine of %llu MiB",
			     s->path, (unsigned long long)(s->memory_size >> 20));
	return 0;
}

static int snapshot_check_machine(struct snapshot *s)
{
	struct snapshot_machine machine;
	int ret = snapshot_section(&s->state, s->path, "machine", SNAPSHOT_MACHINE_VERSION,
				   snapshot_machine_fields, &machine, NULL);

	if (ret < 0)
		return ret;
	if (machine.machine_version != SNAPSHOT_MACHINE_X86_64_V1)
		return failf(EINVAL,
			     "%s: made for version %u of the machine; this virga builds version %u",
			     s->path, machine.machine_version, SNAPSHOT_MACHINE_X86_64_V1);
	if (machine.memory_size == 0 || machine.memory_size % DIGEST_PAGE ||
	    machine.memory_size > INT64_MAX || machine.vcpu_count == 0 ||
	    machine.vcpu_count > VM_VCPUS_MAX)
		return failf(EINVAL, "%s: section machine: %llu bytes of memory, %u vCPUs", s->path,
			     (unsigned long long)machine.memory_size, machine.vcpu_count);
	s->memory_size = machine.memory_size;
	s->vcpu_count = machine.vcpu_count;
	s->virtio_slots = machine.virtio_slots;
	return 0;
}

static int snapshot_check_memory(struct snapshot *s, uint64_t memory_len)
{
	struct snapshot_memory memory;
	struct blob rest;
	int ret = snapshot_section(&s->state, s->path, "memory", SNAPSHOT_MEMORY_VERSION,
				   snapshot_memory_fields, &memory, &rest);

	if (ret == 0)
		ret = snapshot_check_extents(s, memory.extent_count, &rest);
	if (ret)
		return ret;
	if (memory.file_len != s->memory_size || memory_len != s->memory_size)
		return failf(
			EINVAL,
			"%s/memory: has %llu bytes, its state says %llu; copy the snapshot again",
			s->path, (unsigned long long)memory_len,
			(unsigned long long)memory.file_len);
	memcpy(s->memory_digest, memory.digest, DIGEST_LEN);
	return 0;
}

static int snapshot_check_config(const struct snapshot *s)
{
	struct snapshot_config config;
	int ret = snapshot_section(&s->state, s->path, "config", SNAPSHOT_CONFIG_VERSION,
				   snapshot_config_fields, &config, NULL);

	if (ret)
		return ret;
	if (config.len != s->config.len ||
	    config.checksum != digest64(s->config.data, s->config.len))
		return failf(
			EINVAL,
			"%s/config: is not the one that the snapshot was made with; put it back",
			s->path);
	return 0;
}

uint64_t snapshot_state_checksum(const struct snapshot *s)
{
	uint64_t checksum = 0;

	memcpy(&checksum, s->raw.data + s->raw.len - sizeof(checksum), sizeof(checksum));
	return checksum;
}

/* A snapshot need not have one: *out stays empty. */
static int snapshot_read_working_set(const struct snapshot *s, int dir_fd, struct blob *out)
{
	int ret = snapshot_read_file(s, dir_fd, "working-set", WORKING_SET_SIZE_MAX, out);

	return ret == -ENOENT ? 0 : ret;
}

static int snapshot_check_working_set(struct snapshot *s, const struct blob *file)
{
	char name[PATH_MAX];

	if (!file->data)
		return 0;
	snprintf(name, sizeof(name), "%s/working-set", s->path);
	return working_set_parse(&s->working_set, name, file->data, file->len,
				 snapshot_state_checksum(s), s->memory_size);
}

/* `raw` and the length of memory are what they should be, and fit the working set. */
static int snapshot_check_parts(struct snapshot *s, uint64_t memory_len,
				const struct blob *working_set)
{
	char name[PATH_MAX];
	int ret;

	snprintf(name, sizeof(name), "%s/state", s->path);
	ret = state_parse(&s->state, name, s->raw.data, s->raw.len);
	if (ret == 0)
		ret = snapshot_check_machine(s);
	if (ret == 0)
		ret = snapshot_check_memory(s, memory_len);
	return ret < 0 ? ret : snapshot_check_working_set(s, working_set);
}

int snapshot_adopt(struct snapshot *s, const char *name, struct blob *state,
		   const struct blob *working_set, int memory_fd)
{
	struct stat st = { 0 };
	int ret;

	*s = (struct snapshot){ .path = strdup(name), .raw = *state, .memory_fd = memory_fd };
	*state = (struct blob){ 0 };
	if (!s->path)
		ret = failf(ENOMEM, "out of memory");
	else if (fstat(memory_fd, &st) < 0)
		ret = failf(errno, "%s: its memory cannot be read: %s", name, strerror(errno));
	else
		ret = snapshot_check_parts(s, (uint64_t)st.st_size, working_set);
	if (ret < 0)
		snapshot_close(s);
	return ret;
}

int snapshot_open(struct snapshot *s, const char *path)
{
	struct blob working_set = { 0 };
	uint64_t memory_len = 0;
	int dir_fd, ret;

	*s = (struct snapshot){ .path = strdup(path), .memory_fd = -1 };
	if (!s->path)
		return failf(ENOMEM, "out of memory");
	dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		ret = errno == ENOTDIR
			      ? failf(ENOTDIR, "%s: not a snapshot, which is a directory", path)
			      : failf(errno, "%s: cannot be opened: %s", path, strerror(errno));
		snapshot_close(s);
		return ret;
	}
	ret = snapshot_read_file(s, dir_fd, "state", STATE_SIZE_MAX, &s->raw);
	if (ret == 0)
		ret = snapshot_read_file(s, dir_fd, "config", CONFIG_TEXT_MAX, &s->config);
	if (ret == 0)
		ret = s->memory_fd = snapshot_open_file(s, dir_fd, "memory", &memory_len);
	if (ret >= 0)
		ret = snapshot_read_working_set(s, dir_fd, &working_set);
	close(dir_fd);
	if (ret >= 0)
		ret = snapshot_check_parts(s, memory_len, &working_set);
	if (ret == 0)
		ret = snapshot_check_config(s);
	blob_fini(&working_set);
	if (ret < 0)
		snapshot_close(s);
	return ret;
}

void snapshot_close(struct snapshot *s)
{
	if (s->memory_fd >= 0)
		close(s->memory_fd);
	blob_fini(&s->config);
	blob_fini(&s->raw);
	working_set_fini(&s->working_set);
	free(s->path);
	*s = (struct snapshot){ .memory_fd = -1 };
}

int snapshot_map_memory(struct snapshot *s, struct memory *memory)
{
	int fd = s->memory_fd;

	s->memory_fd = -1;
	return memory_map_cow(memory, s->memory_size, fd);
}

int snapshot_verify(struct snapshot *s)
{
	uint8_t digest[DIGEST_LEN];
	char name[PATH_MAX];
	int ret;

	snprintf(name, sizeof(name), "%s/memory", s->path);
	ret = snapshot_memory_digest(s->memory_fd, s->memory_size, name, digest);
	if (ret < 0)
		return ret;
	if (memcmp(digest, s->memory_digest, DIGEST_LEN) != 0)
		return failf(
			EBADMSG,
			"%s: is damaged: its content is not what was saved; take another snapshot",
			name);
	return 0;
}
