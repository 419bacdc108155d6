/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/unit/images.h. */
#include <string.h>

#include "boot/x86_64/linux.h"
#include "tests/unit/images.h"

struct linux_header *header_of(struct test_image *t)
{
	return (void *)(t->bytes + LINUX_HEADER_OFFSET);
}

void make_bzimage(struct test_image *t)
{
	struct linux_header *h = header_of(t);

	memset(t, 0, sizeof(*t));
	t->size = BZIMAGE_SIZE;
	memcpy(t->bytes, "MZ", 2);
	*h = (struct linux_header){
		.setup_sects = BZIMAGE_SETUP_SECTS,
		.syssize = (BZIMAGE_SIZE - BZIMAGE_PAYLOAD) / 16,
		.boot_flag = LINUX_BOOT_FLAG,
		.jump = 0xeb,
		.jump_offset = 0x6a,
		.magic = LINUX_HEADER_MAGIC,
		.version = 0x20f,
		.loadflags = LINUX_LOADED_HIGH | 0x80,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = 0x7f,
		.cmdline_size = 2047,
		.pref_address = BZIMAGE_GPA,
		.init_size = BZIMAGE_INIT_SIZE,
	};
	memset(t->bytes + BZIMAGE_PAYLOAD, 0xc3, BZIMAGE_SIZE - BZIMAGE_PAYLOAD);
}
