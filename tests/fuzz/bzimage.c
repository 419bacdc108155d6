/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bzImage with its initrd and command line, by a whole cold boot; and what is neither a bzImage
 * nor ELF, of which it is said what it looks like.
 */
/* wrap: ioctl */
#include "boot/boot.h"

#include <stdlib.h>
#include <string.h>

#include "boot/x86_64/linux.h"
#include "devices/channel/channel.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/kvm.h"

#define RAM        (8u << 20)
#define HEADER_END (LINUX_HEADER_OFFSET + sizeof(struct linux_header))

/* What random bytes have not is put right: the loader gets past its first looks. */
static void mend(uint8_t *data, uint8_t what)
{
	struct linux_header h;

	memcpy(&h, data + LINUX_HEADER_OFFSET, sizeof(h));
	h.magic = LINUX_HEADER_MAGIC;
	if (what & 1)
		h.boot_flag = LINUX_BOOT_FLAG;
	if (what & 2)
		h.version |= 0x200;
	if (what & 4)
		h.kernel_alignment = 0x1000;
	if (what & 8)
		h.pref_address &= 0x7ff000;
	memcpy(data + LINUX_HEADER_OFFSET, &h, sizeof(h));
}

/* A machine that has every device once, for what boot/ says of them. */
static const struct memory *machine(struct devices *devices)
{
	static struct vm vm;
	static struct devices made;
	static struct device_host host;
	struct device_list list = { 0 };
	struct memory memory;

	if (!vm.memory.size) {
		must(memory_create(&memory, RAM) == 0);
		vm_fake_create(&vm, &memory, 1);
		for (const struct device_class *const *c = device_classes; *c; c++)
			must(device_list_add(&list, *c, NULL) == 0);
		host.channel = channel_new();
		must(host.channel && devices_create(&made, &vm, &list, &host) == 0);
		device_list_fini(&list);
	}
	*devices = made;
	return &vm.memory;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct devices devices;
	const struct memory *memory = machine(&devices);
	struct bytes in = { data, size };
	uint8_t what = bytes_u8(&in), initrd_len = bytes_u8(&in);
	uint8_t *copy = malloc(in.left ? in.left : 1);
	struct image image = { .name = "fuzz", .data = copy, .size = in.left };
	struct image initrd = { .name = "initrd", .data = copy, .size = initrd_len };
	const struct boot_source source = {
		.kernel = &image,
		.initrd = initrd_len && initrd_len < in.left ? &initrd : NULL,
		.cmdline = what & 16 ? "quiet" : "",
		.vcpu_count = 1,
		.devices = &devices,
	};
	struct boot_regs regs;
	enum image_kind kind;

	must(copy != NULL);
	bytes_fill(&in, copy, image.size);
	if (what & 32 && image.size >= HEADER_END)
		mend(copy, what);
	image_is_linux(&image);
	if (image_identify(&image, &kind) == 0)
		boot_load(memory, &source, &regs);
	free(copy);
	return 0;
}
