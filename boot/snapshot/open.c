/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a snapshot (boot/snapshot/snapshot.h): on the path of every start, so it is a few
 * system calls and one pass over a few KiB.
 */
#include "boot/snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/files.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/memory.h"

#define OPEN_ATTEMPTS 16 /* at a directory that is replaced again and again */

struct snapshot_opened {
	int fd; /* -1: not there */
	uint64_t len;
};

/* What is read and is no part of struct snapshot. */
struct snapshot_input {
	uint64_t memory_len;
	struct blob working_set; /* without data: there is none */
	struct blob facts;       /* likewise */
};

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

/* Whether the directory behind fd has lost the name path to another. */
static bool snapshot_replaced(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
	       (ours.st_dev != there.st_dev || ours.st_ino != there.st_ino);
}

/*
 * Opens those that there are, `template` only for the facts. The caller closes what was opened, after a failure too. -EAGAIN when
 * the directory was replaced, and so emptied, under our hands.
 */
static int snapshot_open_files(const struct snapshot *s, struct snapshot_opened *files, bool facts)
{
	int dir_fd = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC), ret = 0;

	if (dir_fd < 0)
		return errno == ENOTDIR
			       ? failf(ENOTDIR, "%s: not a snapshot, which is a directory", s->path)
			       : failf(errno, "%s: cannot be opened: %s", s->path, strerror(errno));
	for (unsigned i = 0; i < SNAPSHOT_PARTS && ret >= 0; i++) {
		if (i == SNAPSHOT_TEMPLATE && !facts)
			continue;
		ret = files[i].fd =
			snapshot_open_file(s, dir_fd, snapshot_files[i].name, &files[i].len);
		if (ret == -ENOENT && snapshot_replaced(dir_fd, s->path))
			ret = -EAGAIN;
		else if (ret == -ENOENT && snapshot_files[i].optional)
			ret = 0;
	}
	close(dir_fd);
	return ret < 0 ? ret : 0;
}

/* Reads a small file whole, with a NUL beyond its end. */
static int snapshot_read_file(const struct snapshot *s, unsigned which,
			      const struct snapshot_opened *file, struct blob *out)
{
	const char *name = snapshot_files[which].name;
	ssize_t n;

	if (file->len > snapshot_files[which].max)
		return failf(EFBIG, "%s/%s: %llu bytes, more than the %llu that it can have",
			     s->path, name, (unsigned long long)file->len,
			     (unsigned long long)snapshot_files[which].max);
	out->data = malloc((size_t)file->len + 1);
	if (!out->data)
		return failf(ENOMEM, "%s/%s: out of memory", s->path, name);
	n = read(file->fd, out->data, (size_t)file->len);
	if (n < 0)
		return failf(errno, "%s/%s: cannot be read: %s", s->path, name, strerror(errno));
	if ((uint64_t)n != file->len)
		return failf(EIO, "%s/%s: changed while it was read", s->path, name);
	out->len = (size_t)file->len;
	out->size = (size_t)file->len + 1;
	out->data[file->len] = '\0';
	return 0;
}

/* Where they come from a disk, they come together; `config` is read next. */
static void snapshot_expect_files(const struct snapshot_opened *files)
{
	for (unsigned i = 0; i < SNAPSHOT_PARTS; i++)
		if (i != SNAPSHOT_CONFIG && i != SNAPSHOT_MEMORY && files[i].fd >= 0)
			posix_fadvise(files[i].fd, 0, 0, POSIX_FADV_WILLNEED);
}

/* Opens and reads all but `memory`, whose descriptor becomes the snapshot's. */
static int snapshot_read_files(struct snapshot *s, struct snapshot_input *in, bool facts)
{
	struct blob *const parts[SNAPSHOT_PARTS] = {
		[SNAPSHOT_STATE] = &s->raw,
		[SNAPSHOT_CONFIG] = &s->config,
		[SNAPSHOT_WORKING_SET] = &in->working_set,
		[SNAPSHOT_TEMPLATE] = &in->facts,
	};
	struct snapshot_opened files[SNAPSHOT_PARTS];
	int ret;

	for (unsigned i = 0; i < SNAPSHOT_PARTS; i++)
		files[i] = (struct snapshot_opened){ .fd = -1 };
	ret = snapshot_open_files(s, files, facts);
	if (ret == 0)
		snapshot_expect_files(files);
	for (unsigned i = 0; i < SNAPSHOT_PARTS; i++) {
		if (!parts[i] || files[i].fd < 0)
			continue;
		if (ret == 0)
			ret = snapshot_read_file(s, i, &files[i], parts[i]);
		close(files[i].fd);
	}
	s->memory_fd = files[SNAPSHOT_MEMORY].fd;
	in->memory_len = files[SNAPSHOT_MEMORY].len;
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

		fields_load(snapshot_extent_fields, SNAPSHOT_MEMORY_VERSION, &extent, in);
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
	int ret = snapshot_section(&s->state, s->path, "machine", snapshot_machine_fields, &machine,
				   NULL);

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
	int ret = snapshot_section(&s->state, s->path, "memory", snapshot_memory_fields, &memory,
				   &rest);

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
	struct snapshot_config config, found;
	int ret = snapshot_section(&s->state, s->path, "config", snapshot_config_fields, &config,
				   NULL);

	if (ret)
		return ret;
	found = snapshot_config_of((const char *)s->config.data, s->config.len);
	if (config.len != found.len || config.checksum != found.checksum)
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

void snapshot_version(const struct snapshot *s, char id[SNAPSHOT_VERSION_LEN + 1])
{
	char digits[17];

	snprintf(digits, sizeof(digits), "%016llx", (unsigned long long)snapshot_state_checksum(s));
	memcpy(id, digits, SNAPSHOT_VERSION_LEN);
	id[SNAPSHOT_VERSION_LEN] = '\0';
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

static int snapshot_check_facts(const struct snapshot *s, const struct blob *file,
				struct template_facts *facts)
{
	char name[PATH_MAX];

	if (!file->data)
		return 0;
	snprintf(name, sizeof(name), "%s/template", s->path);
	return template_facts_parse(facts, name, file->data, file->len, snapshot_state_checksum(s));
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

/* One attempt. -EAGAIN when the directory was replaced, and so emptied, under our hands. */
static int snapshot_open_once(struct snapshot *s, struct template_facts *facts, const char *path)
{
	struct snapshot_input in = { 0 };
	int ret;

	*s = (struct snapshot){ .path = strdup(path), .memory_fd = -1 };
	if (!s->path)
		return failf(ENOMEM, "out of memory");
	ret = snapshot_read_files(s, &in, facts != NULL);
	if (ret == 0)
		ret = snapshot_check_parts(s, in.memory_len, &in.working_set);
	if (ret == 0)
		ret = snapshot_check_config(s);
	if (ret == 0)
		ret = snapshot_check_facts(s, &in.facts, facts);
	blob_fini(&in.working_set);
	blob_fini(&in.facts);
	if (ret < 0)
		snapshot_close(s);
	return ret;
}

int snapshot_open_template(struct snapshot *s, struct template_facts *facts, const char *path)
{
	int ret = -EAGAIN;

	if (facts)
		*facts = (struct template_facts){ 0 };
	for (unsigned i = 0; ret == -EAGAIN && i < OPEN_ATTEMPTS; i++)
		ret = snapshot_open_once(s, facts, path);
	return ret;
}

int snapshot_open(struct snapshot *s, const char *path)
{
	return snapshot_open_template(s, NULL, path);
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
	int ret = snapshot_check_devices(s);

	if (ret < 0)
		return ret;
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
