/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory (arch/memory.h). Nothing else turns a guest-physical address into
 * a pointer.
 */
#include "arch/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/sigbus.h"
#include "arch/layout.h"

void memory_layout(struct memory *m, uint64_t size)
{
	uint64_t low = size < LAYOUT_HOLE_START ? size : LAYOUT_HOLE_START;

	*m = (struct memory){ .fd = -1, .pagemap_fd = -1, .size = size, .region_count = 1 };
	m->regions[0] = (struct memory_region){ .gpa = 0, .size = low, .offset = 0 };
	if (size > low) {
		m->regions[1] = (struct memory_region){ .gpa = LAYOUT_HOLE_END,
							.size = size - low,
							.offset = low };
		m->region_count = 2;
	}
}

static bool memory_is_aligned(const void *base)
{
	return (uintptr_t)base % MEMORY_ALIGNMENT == 0;
}

/* An aligned place in a larger stretch of addresses. MAP_FAILED with errno. */
static void *memory_map_within(struct memory *m, int flags)
{
	const uint64_t len = m->size + MEMORY_ALIGNMENT;
	void *place =
		mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (place == MAP_FAILED)
		return place;
	m->place = place;
	m->place_len = len;
	return mmap((void *)(((uintptr_t)place + MEMORY_ALIGNMENT - 1) &
			     ~(uintptr_t)(MEMORY_ALIGNMENT - 1)),
		    m->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, m->fd, 0);
}

/*
 * Maps m->fd whole; takes it back (closes) on failure. Kernels that use huge pages for a file align
 * a mapping of it by themselves.
 */
static int memory_map(struct memory *m, int flags)
{
	void *base;

	flags |= MAP_NORESERVE;
	base = mmap(NULL, m->size, PROT_READ | PROT_WRITE, flags, m->fd, 0);
	if (base != MAP_FAILED && memory_is_aligned(base)) {
		m->place = base;
		m->place_len = m->size;
	} else if (base != MAP_FAILED) {
		munmap(base, m->size);
		base = memory_map_within(m, flags);
	}
	if (base == MAP_FAILED) {
		int ret = failf(errno, "cannot map %llu MiB of guest memory: %s",
				(unsigned long long)(m->size >> 20), strerror(errno));

		memory_destroy(m);
		return ret;
	}
	m->base = base;
	sigbus_expect(base, m->size,
		      "guest memory cannot be read: its backing file was cut short, or the host is "
		      "out of memory");
	return 0;
}

int memory_create(struct memory *m, uint64_t size)
{
	memory_layout(m, size);
	m->fd = memfd_create("guest-memory", MFD_CLOEXEC);
	if (m->fd < 0)
		return failf(errno, "cannot create a memfd for guest memory: %s", strerror(errno));
	if (ftruncate(m->fd, (off_t)size) < 0) {
		int err = errno;

		memory_destroy(m);
		return failf(err, "cannot size guest memory to %llu MiB: %s",
			     (unsigned long long)(size >> 20), write_error(err));
	}
	return memory_map(m, MAP_SHARED);
}

int memory_map_cow(struct memory *m, uint64_t size, int fd)
{
	memory_layout(m, size);
	m->fd = fd;
	m->cow = true;
	return memory_map(m, MAP_PRIVATE);
}

void memory_open_pagemap(struct memory *m)
{
	if (m->pagemap_fd < 0)
		m->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

int memory_map_empty(struct memory *m, uint64_t size)
{
	int ret;

	memory_layout(m, size);
	ret = memory_map(m, MAP_PRIVATE | MAP_ANONYMOUS);
	if (ret == 0)
		madvise(m->base, m->size, MADV_NOHUGEPAGE);
	m->on_demand = true;
	return ret;
}

int memory_reserve(struct memory *m, uint64_t size)
{
	int ret = memory_map_empty(m, size);

	m->on_demand = false;
	return ret;
}

int memory_lay(struct memory *m, int fd)
{
	void *base = mmap(m->base, m->size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0);

	if (m->fd >= 0)
		close(m->fd);
	m->fd = fd;
	m->cow = true;
	if (base == MAP_FAILED)
		return failf(errno, "cannot map %llu MiB of guest memory: %s",
			     (unsigned long long)(m->size >> 20), strerror(errno));
	return 0;
}

void memory_destroy(struct memory *m)
{
	sigbus_forget(m->base);
	if (m->place)
		munmap(m->place, m->place_len);
	if (m->fd >= 0)
		close(m->fd);
	if (m->pagemap_fd >= 0)
		close(m->pagemap_fd);
	*m = (struct memory){ .fd = -1, .pagemap_fd = -1 };
}

void *memory_at(const struct memory *m, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < m->region_count; i++) {
		const struct memory_region *r = &m->regions[i];

		if (gpa >= r->gpa && gpa - r->gpa <= r->size && len <= r->size - (gpa - r->gpa))
			return m->base + r->offset + (gpa - r->gpa);
	}
	return NULL;
}

int memory_read(const struct memory *m, uint64_t gpa, void *out, size_t len)
{
	const void *p = memory_at(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(out, p, len);
	return 0;
}

int memory_write(const struct memory *m, uint64_t gpa, const void *data, size_t len)
{
	void *p = memory_at(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(p, data, len);
	return 0;
}
