/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART: any access to its ports, bytes that a host types, saved states that are loaded, right
 * ones and damaged ones.
 */
/* wrap: vm_irq */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/layout.h"
#include "devices/device.h"
#include "tests/fuzz/lib/bytes.h"

extern const struct device_class serial_class;

void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level);
void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level)
{
	(void)vm;
	(void)level;
	must(gsi == LAYOUT_SERIAL_GSI);
}

struct bed {
	struct vm vm;
	struct devices devices;
	int keys; /* the writing end of its standard input */
};

/* Standard input is a pipe, standard output leads nowhere. */
static int open_input(void)
{
	int pair[2], null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	must(null >= 0 && pipe2(pair, O_CLOEXEC | O_NONBLOCK) == 0);
	must(dup2(pair[0], 0) == 0 && dup2(null, 1) == 1);
	close(pair[0]);
	close(null);
	return pair[1];
}

static void make(struct bed *b, bool stdio)
{
	const struct device_host host = { .stdio = stdio };
	struct device_list list = { 0 };

	memset(&b->vm, 0, sizeof(b->vm));
	pthread_mutex_init(&b->vm.lock, NULL);
	loop_init(&b->vm.loop);
	must(device_list_add(&list, &serial_class, NULL) == 0);
	must(devices_create(&b->devices, &b->vm, &list, &host) == 0);
	device_list_fini(&list);
	must(devices_start(&b->devices) == 0);
}

static void unmake(struct bed *b)
{
	devices_stop(&b->devices);
	devices_destroy(&b->devices);
	loop_fini(&b->vm.loop);
}

static void load(struct bed *b, struct bytes *in)
{
	struct device *dev = &b->devices.list[0];
	struct blob saved = { 0 };

	devices_stop(&b->devices);
	must(device_save(dev, &saved) == 0 && !saved.failed);
	must(device_load(dev, serial_class.version, saved.data, saved.len) == 0);
	bytes_damage(in, saved.data, &saved.len);
	if (device_load(dev, serial_class.version, saved.data, saved.len) < 0) {
		unmake(b);
		make(b, true);
	} else {
		must(devices_start(&b->devices) == 0);
	}
	blob_fini(&saved);
}

static void act(struct bed *b, struct bytes *in)
{
	uint8_t what = bytes_u8(in);
	uint64_t value = 0;
	const uint8_t *data;
	size_t len;

	switch (what & 15) {
	case 0:
		load(b, in);
		break;
	case 1:
		data = bytes_take(in, what >> 2, &len);
		if (len)
			must(write(b->keys, data, len) > 0 || true);
		break;
	case 2:
		if (b->vm.loop.epoll_fd >= 0)
			loop_step(&b->vm.loop, &b->vm.lock, 0);
		break;
	case 3: /* a wide one */
		value = bytes_u64(in);
		bus_io(&b->vm.pio, LAYOUT_PORT_SERIAL + (what >> 6), &value, 1u << (what >> 4 & 3),
		       what & 64);
		break;
	default:
		value = what & 8 ? bytes_u8(in) : 0;
		bus_io(&b->vm.pio, LAYOUT_PORT_SERIAL + (what >> 4 & 7), &value, 1, what & 8);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bed bed;
	struct bytes in = { data, size };
	char left[4096];

	if (!bed.keys)
		bed.keys = open_input();
	while (read(0, left, sizeof(left)) > 0)
		; /* of the run before */
	make(&bed, true);
	while (in.left)
		act(&bed, &in);
	unmake(&bed);
	return 0;
}
