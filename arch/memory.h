/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: where RAM lies, what backs it, and the only place where a
 * guest-physical address becomes a pointer. RAM is one run of host addresses
 * cut at the 32-bit hole (arch/x86_64/layout.h); file offset and host offset of a
 * byte are the same, so memory and its backing file are "packed".
 */
#ifndef VIRGA_ARCH_MEMORY_H
#define VIRGA_ARCH_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a machine may have of it, bytes. */
#define MEMORY_MIN         (4ull << 20)
#define MEMORY_MAX         (512ull << 30)

#define MEMORY_REGIONS_MAX 2
#define MEMORY_ALIGNMENT   (2ull << 20) /* of memory.base: huge pages of guest and host coincide */

struct memory_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t offset; /* in the backing file, and from memory.base */
};

struct memory {
	uint8_t *base; /* at MEMORY_ALIGNMENT; size bytes */
	void *place;   /* the addresses taken: base is in them, aligned */
	uint64_t place_len;
	uint64_t size;  /* bytes of RAM in all */
	int fd;         /* backing file, owned; -1 for none */
	int pagemap_fd; /* /proc/self/pagemap for finding private pages, owned; -1 for none */
	bool cow;       /* mapped MAP_PRIVATE: writes stay in this process */
	bool on_demand; /* without a file: somebody else fills each page when it is first touched */
	unsigned region_count;
	struct memory_region regions[MEMORY_REGIONS_MAX];
};

/* Splits size bytes of RAM at the 32-bit hole. size: page multiple, > 0. */
void memory_layout(struct memory *m, uint64_t size);

/* Zeroed RAM of size bytes in a memfd, mapped shared. 0 or -errno. */
int memory_create(struct memory *m, uint64_t size);

/*
 * RAM from fd (a snapshot's memory, exactly size bytes long), mapped private: reads come from
 * the file, writes stay here. Takes ownership of fd, on failure too. 0 or -errno.
 */
int memory_map_cow(struct memory *m, uint64_t size, int fd);

/*
 * Opens what tells which of these pages are private, for a machine that may be saved; before
 * confinement, which allows no opening. Without it all memory is read.
 */
void memory_open_pagemap(struct memory *m);

/*
 * Private memory of size bytes without a file, with small pages: for who fills each page when it is
 * first touched. 0 or -errno.
 */
int memory_map_empty(struct memory *m, uint64_t size);

/*
 * The same for who does not know yet what will lie there: a machine is made around the addresses,
 * memory_lay() puts a snapshot over them. 0 or -errno.
 */
int memory_reserve(struct memory *m, uint64_t size);

/*
 * Maps fd over the addresses of m as memory_map_cow() would; what lay there is gone, KVM's slots
 * stay. Takes ownership of fd, on failure too. Works confined. 0 or -errno.
 */
int memory_lay(struct memory *m, int fd);

/* Unmaps and closes. Safe on a zeroed struct. */
void memory_destroy(struct memory *m);

/*
 * The host address of guest-physical [gpa, gpa + len), or NULL when any byte of it is not RAM or
 * the range wraps. len 0 is valid anywhere in RAM. A range does not cross regions.
 */
void *memory_at(const struct memory *m, uint64_t gpa, uint64_t len);

/* Copies out of / into guest memory; -EFAULT (no sentence) when the range is not all RAM. */
int memory_read(const struct memory *m, uint64_t gpa, void *out, size_t len);
int memory_write(const struct memory *m, uint64_t gpa, const void *data, size_t len);

#endif
