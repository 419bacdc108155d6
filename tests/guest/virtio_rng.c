/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the entropy device that has the last slot twice, and looks whether it was given two different
 * things, each with a level-triggered interrupt on that slot's pin: the second one comes only when the
 * EOI of the first was reported.
 */
#include "tests/guest/driver.h"

#define BYTES   32u
#define VECTOR  0x50
#define WAIT_MS 10000

/* Ring 0: takes the cause away, then says EOI. */
void rng_stub(void);
__asm__(".text\n"
	"rng_stub:\n"
	"	push %rax\n"
	"	incl interrupt_count\n"
	"	mov base, %rax\n"
	"	movl $1, 0x64(%rax)\n" /* MMIO_INTERRUPT_ACK */
	"	mov $0xfee000b0, %eax\n"
	"	movl $0, (%rax)\n"
	"	pop %rax\n"
	"	iretq\n");

/* The last of them: its slot. */
static uint32_t find(uint32_t device)
{
	for (uint32_t slot = LAYOUT_VIRTIO_SLOTS; slot-- > 0;) {
		base = LAYOUT_VIRTIO_MMIO + slot * LAYOUT_VIRTIO_STRIDE;
		if (*mmio32(base + MMIO_DEVICE) == device)
			return slot;
	}
	fail("no such device");
}

static void ask(uint16_t i)
{
	const uint32_t seen = interrupt_count;

	describe(0, i, (uint64_t)buffer[i], BYTES, F_WRITE);
	offer(0, i);
	if (queues[0].used.idx != i + 1u || queues[0].used.ring[i].len != BYTES)
		fail("a buffer did not come back full");
	if (!wait_change(&interrupt_count, seen, WAIT_MS))
		fail("no interrupt on the slot's pin");
}

void guest_main(const struct pvh_info *info)
{
	unsigned same = 0, zero = 0;
	uint32_t slot = find(4);

	(void)info;
	print("slot ");
	print_number(slot);
	print("\n");
	idt_set(VECTOR, rng_stub);
	lapic_write(LAPIC_SPURIOUS, 0x1ff);
	ioapic_route(LAYOUT_VIRTIO_GSI + slot, VECTOR | IOAPIC_LEVEL);
	device_begin(0);
	queue_start(0);
	mmio_write(MMIO_STATUS, 15);
	ask(0);
	ask(1);
	for (unsigned i = 0; i < BYTES; i++) {
		same += buffer[0][i] == buffer[1][i];
		zero += buffer[0][i] == 0;
	}
	if (same > BYTES / 2 || zero > BYTES / 2)
		fail("what came back is not random");
	if (buffer[0][BYTES] != 0)
		fail("more was written than is said");
	success();
}
