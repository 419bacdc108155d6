/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A level-triggered interrupt across a snapshot, on real KVM: it comes again whether the machine was
 * saved while it was handled, or after its EOI and before KVM has said so (KVM_EXIT_IOAPIC_EOI).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/layout.h"
#include "arch/x86_64/ioapic.h"
#include "tests/unit/live_machine.h"

#define PORT       0x700 /* tests/guest/level.c */
#define VECTOR     0x58
#define REMOTE_IRR (1u << 14)
#define TRIES      5000
#define LAPIC_ISR  0x100u
#define LAPIC_IRR  0x200u

static char directory[] = "/tmp/virga-eoi.XXXXXX";
static char path[64];
static volatile unsigned interrupts;

static void count(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	(void)opaque;
	(void)offset;
	(void)data;
	(void)len;
	(void)write;
	interrupts++;
}

/* The machine counts, from here on. */
static void listen(struct live *m)
{
	assert_int_equal(bus_claim(&m->vm.pio, PORT, 1, count, NULL, "test"), 0);
	interrupts = 0;
}

static uint32_t *lapic_word(struct kvm_lapic_state *lapic, unsigned base)
{
	return (uint32_t *)(void *)&lapic->regs[base + 0x10 * (VECTOR / 32)];
}

static bool is_in_service(const struct live *m)
{
	struct kvm_lapic_state lapic;

	assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
	return m->vm.irqchip->state.redirect[LAYOUT_SERIAL_GSI] & REMOTE_IRR &&
	       *lapic_word(&lapic, LAPIC_ISR) & 1u << VECTOR % 32;
}

/* Stops it while its guest handles the interrupt. */
static struct live *stopped_in_handler(void)
{
	struct live *m = live_boot("build/tests/guest/level.elf", "");
	bool found = false;

	listen(m);
	live_start(m);
	for (unsigned i = 0; i < TRIES && !found; i++) {
		usleep(500 + i % 100);
		pthread_mutex_lock(&m->vm.lock);
		assert_true(live_stop(m));
		found = interrupts && is_in_service(m);
		if (!found) {
			assert_int_equal(devices_start(&m->devices), 0);
			vm_resume(&m->vm);
		}
		pthread_mutex_unlock(&m->vm.lock);
	}
	if (!found)
		fail_msg("never stopped while an interrupt was handled");
	return m;
}

/* As it is when the guest has said EOI and KVM was stopped before it could tell. */
static void take_eoi(struct live *m)
{
	struct kvm_lapic_state lapic;

	assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
	*lapic_word(&lapic, LAPIC_ISR) &= ~(1u << VECTOR % 32);
	*lapic_word(&lapic, LAPIC_IRR) &= ~(1u << VECTOR % 32);
	assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_SET_LAPIC, &lapic), 0);
}

/* sent: saving has sent it once more, which it has to after an EOI alone. */
static void check_goes_on(struct live *m, bool sent)
{
	struct kvm_lapic_state lapic;

	snprintf(path, sizeof(path), "%s/%d", directory, sent);
	live_save(m, path);
	assert_int_equal(ioctl(m->vm.vcpus[0].fd, KVM_GET_LAPIC, &lapic), 0);
	assert_int_equal(*lapic_word(&lapic, LAPIC_IRR) >> VECTOR % 32 & 1, sent);
	live_end(m);
	m = live_load(path);
	listen(m);
	live_start(m);
	for (unsigned i = 0; i < TRIES && interrupts < 3; i++)
		usleep(1000);
	assert_true(interrupts >= 3);
	live_end(m);
}

static void test_while_it_is_handled(void **state)
{
	(void)state;
	check_goes_on(stopped_in_handler(), false);
}

static void test_after_its_eoi(void **state)
{
	struct live *m = stopped_in_handler();

	(void)state;
	take_eoi(m);
	check_goes_on(m, true);
}

static int make_directory(void **state)
{
	(void)state;
	vm_block_signals();
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_while_it_is_handled),
		cmocka_unit_test(test_after_its_eoi),
	};

	return cmocka_run_group_tests_name("eoi", tests, make_directory, remove_directory);
}
