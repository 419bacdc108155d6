/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine to snapshot whose vCPUs, clock and two devices are stand-ins. The test that includes
 * it wraps vm_clock_get, vm_clock_set, vcpu_save, vcpu_check, vcpu_load and irqchip_load.
 */
#ifndef VIRGA_TESTS_UNIT_SNAPSHOT_MACHINE_H
#define VIRGA_TESTS_UNIT_SNAPSHOT_MACHINE_H

#include "arch/vm.h"
#include "boot/snapshot/state.h"
#include "devices/device.h"

struct fake_state {
	uint32_t number;
	uint8_t bytes[3];
};

struct machine {
	struct vm vm;
	struct devices devices;
	struct device list[2];
	struct fake_state a, b;
};

/* The classes of the devices, for the test's device_classes[]. */
extern const struct device_class fake_a, fake_b;

/* What was done to the machine, in order: c clock, 0 1 vCPUs, i I/O APIC, a b devices. */
extern char machine_done[32];

/* What vcpu_check() answers, 0 or -errno. */
extern int machine_check_result;

/* A machine around the memory, as it is before anything is loaded; nothing is done so far. */
struct machine *machine_make(struct memory *memory);
void machine_free(struct machine *m);

/* Which section of a state that is written has that name: the first. */
unsigned machine_section(const struct state_writer *w, const char *name);

#endif
