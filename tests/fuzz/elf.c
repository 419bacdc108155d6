/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF kernel: what it is, whether it is a Linux, and a whole cold boot of it. Whatever the file
 * says, nothing is written where the machine's own things lie.
 */
#include "boot/boot.h"

#include <elf.h>
#include <string.h>

#include "arch/layout.h"
#include "tests/fuzz/lib/bytes.h"

#define RAM      (8u << 20)
#define SENTINEL LAYOUT_IDENTITY /* kept from kernels, and nothing that boots one writes there */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory memory;
	struct image image = { .name = "fuzz", .data = data, .size = size };
	const struct boot_source source = {
		.kernel = &image, .initrd = NULL, .cmdline = "quiet", .vcpu_count = 1
	};
	struct boot_regs regs;
	enum image_kind kind;
	int ret;

	if (!memory.size)
		must(memory_create(&memory, RAM) == 0);
	/* Everything else is a matter of the first four bytes, and of the target bzimage. */
	if (size < SELFMAG || memcmp(data, ELFMAG, SELFMAG) != 0)
		return -1;
	ret = image_identify(&image, &kind);
	image_is_linux(&image);
	if (ret == 0)
		must(kind == IMAGE_ELF_PVH || kind == IMAGE_ELF_LINUX64);
	ret = boot_load(&memory, &source, &regs);
	must(ret <= 0);
	must(*(uint64_t *)memory_at(&memory, SENTINEL, 8) == 0);
	return 0;
}
