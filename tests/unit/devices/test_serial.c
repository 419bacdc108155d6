/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART: registers, interrupts, FIFO, loopback, save and load. Its host side is
 * tested in test_stream.c.
 */
/* wrap: vm_irq */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "devices/device.h"
#include "tests/unit/redirect.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

extern const struct device_class serial_class;

struct machine {
	struct vm vm;
	struct device serial;
	bool irq;
	unsigned edges;
};

static struct machine machine;

void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level);
void __wrap_vm_irq(struct vm *vm, unsigned gsi, bool level)
{
	assert_ptr_equal(vm, &machine.vm);
	assert_int_equal(gsi, LAYOUT_SERIAL_GSI);
	machine.edges += level && !machine.irq;
	machine.irq = level;
}

static int machine_open(const char *spec)
{
	const struct device_host host = { .stdio = false };

	memset(&machine.vm, 0, sizeof(machine.vm));
	machine.irq = false;
	machine.edges = 0;
	pthread_mutex_init(&machine.vm.lock, NULL);
	loop_init(&machine.vm.loop);
	machine.serial = (struct device){ .class = &serial_class, .vm = &machine.vm };
	machine.serial.state = calloc(1, serial_class.size);
	assert_int_equal(key_set(&serial_class.options[0].key, machine.serial.state, NULL, spec),
			 0);
	return serial_class.create(&machine.serial, &host);
}

static void machine_close(void)
{
	const struct key to[] = { serial_class.options[0].key, KEY_END };

	serial_class.destroy(&machine.serial);
	keys_fini(to, machine.serial.state);
	free(machine.serial.state);
	loop_fini(&machine.vm.loop);
}

static void machine_start(const char *spec)
{
	assert_int_equal(machine_open(spec), 0);
	assert_int_equal(serial_class.start(&machine.serial), 0);
}

static uint8_t in(unsigned reg)
{
	uint8_t value = 0xee;

	assert_true(bus_io(&machine.vm.pio, LAYOUT_PORT_SERIAL + reg, &value, 1, false));
	return value;
}

static unsigned bits(unsigned reg, unsigned mask)
{
	return in(reg)&mask;
}

static void out(unsigned reg, uint8_t value)
{
	assert_true(bus_io(&machine.vm.pio, LAYOUT_PORT_SERIAL + reg, &value, 1, true));
}

static void out_text(const char *text)
{
	while (*text)
		out(DATA, (uint8_t)*text++);
}

/* Puts bytes into the receiver by way of the loopback, interrupts as they are. */
static void loop_in(const char *text)
{
	out(MCR, 0x10);
	out_text(text);
	out(MCR, 0);
}

/* The registers of a machine without host side. */
static int setup(void **state)
{
	(void)state;
	machine_start("none");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	machine_close();
	return 0;
}

/* Handles what the watches have to say within 20 ms. */
static unsigned events(void)
{
	struct pollfd p = { .fd = machine.vm.loop.epoll_fd, .events = POLLIN };
	unsigned n = 0;

	while (n < 100 && poll(&p, 1, 20) == 1) {
		machine.vm.loop.stopping = true; /* one batch, then return */
		assert_int_equal(loop_run(&machine.vm.loop, &machine.vm.lock), 0);
		n++;
	}
	return n;
}

/* --- Registers --- */

static void test_reset_values(void **state)
{
	(void)state;
	assert_int_equal(in(IER), 0);
	assert_int_equal(in(IIR), 0x01);
	assert_int_equal(in(LCR), 0);
	assert_int_equal(in(MCR), 0);
	assert_int_equal(in(LSR), 0x60);
	assert_int_equal(in(MSR), 0xb0);
	assert_int_equal(in(DATA), 0);
	assert_false(machine.irq);
}

static void test_scratch_and_masks(void **state)
{
	(void)state;
	out(SCR, 0xa5);
	assert_int_equal(in(SCR), 0xa5);
	out(IER, 0xff);
	assert_int_equal(in(IER), 0x0f);
	out(MCR, 0xff);
	assert_int_equal(in(MCR), 0x1f);
	out(LSR, 0xff);
	out(MCR, 0);
	assert_int_equal(in(LSR), 0x60);
}

static void test_divisor_latch(void **state)
{
	(void)state;
	out(IER, 0x05);
	out(LCR, 0x83);
	assert_int_equal(in(DATA), 12);
	out(DATA, 0x34);
	out(IER, 0x12);
	assert_int_equal(in(DATA), 0x34);
	assert_int_equal(in(IER), 0x12);
	out(LCR, 0x03);
	assert_int_equal(in(IER), 0x05);
}

static void test_wide_access_is_bytes(void **state)
{
	uint16_t two = 0;
	uint8_t bytes[2] = { 0x03, 0x08 };

	(void)state;
	assert_true(bus_io(&machine.vm.pio, LAYOUT_PORT_SERIAL + LCR, bytes, 2, true));
	assert_int_equal(in(LCR), 0x03);
	assert_int_equal(in(MCR), 0x08);
	assert_true(bus_io(&machine.vm.pio, LAYOUT_PORT_SERIAL + LCR, &two, 2, false));
	assert_int_equal(two, 0x0803);
}

static void test_fifo_bits(void **state)
{
	(void)state;
	out(FCR, 0xc1);
	assert_int_equal(in(IIR), 0xc1);
	out(FCR, 0);
	assert_int_equal(in(IIR), 0x01);
}

/* --- Interrupts --- */

static void test_transmitter_interrupt(void **state)
{
	(void)state;
	out(IER, 0x02);
	assert_true(machine.irq);
	assert_int_equal(in(IIR), 0x02);
	assert_false(machine.irq);
	assert_int_equal(in(IIR), 0x01);
	out(DATA, 'x');
	assert_true(machine.irq);
	assert_int_equal(in(LSR), 0x60);
	out(IER, 0);
	assert_false(machine.irq);
	/* Taken or not, enabling it again raises it again. */
	out(IER, 0x02);
	assert_int_equal(in(IIR), 0x02);
	out(IER, 0);
	out(IER, 0x02);
	assert_true(machine.irq);
}

static void test_receiver_interrupt(void **state)
{
	(void)state;
	out(FCR, 0x41); /* trigger at 4 */
	out(IER, 0x01);
	loop_in("abc");
	assert_true(machine.irq);
	assert_int_equal(in(IIR), 0xcc);
	loop_in("d");
	assert_int_equal(in(IIR), 0xc4);
	assert_int_equal(in(LSR), 0x61);
	for (const char *c = "abcd"; *c; c++) {
		assert_true(machine.irq);
		assert_int_equal(in(DATA), *c);
	}
	assert_false(machine.irq);
	assert_int_equal(in(LSR), 0x60);
}

static void test_interrupt_priority(void **state)
{
	(void)state;
	out(IER, 0x0f);
	out(MCR, 0x10); /* all modem lines fall: deltas */
	out(DATA, 'a');
	out(DATA, 'b'); /* no FIFO: overrun */
	assert_int_equal(in(IIR), 0x06);
	assert_int_equal(in(LSR), 0x63);
	assert_int_equal(in(IIR), 0x04);
	assert_int_equal(in(DATA), 'a');
	assert_int_equal(in(IIR), 0x02);
	assert_int_equal(in(IIR), 0x00);
	assert_true(machine.irq);
	assert_int_equal(in(MSR), 0x0b);
	assert_int_equal(in(IIR), 0x01);
	assert_false(machine.irq);
}

/* --- Receiver, loopback --- */

static void test_fifo_overrun_and_clear(void **state)
{
	(void)state;
	out(FCR, 0x01);
	loop_in("0123456789abcdefX");
	assert_int_equal(in(LSR), 0x63);
	assert_int_equal(in(LSR), 0x61);
	assert_int_equal(in(DATA), '0');
	out(FCR, 0x03);
	assert_int_equal(in(LSR), 0x60);
	loop_in("ab");
	out(FCR, 0); /* leaving FIFO mode empties it */
	assert_int_equal(in(LSR), 0x60);
}

static void test_loopback_modem_lines(void **state)
{
	static const uint8_t lines[][2] = { { 1, 0x20 }, { 2, 0x10 }, { 4, 0x40 }, { 8, 0x80 } };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		out(MCR, (uint8_t)(0x10 | lines[i][0]));
		assert_int_equal(bits(MSR, 0xf0), lines[i][1]);
	}
	out(MCR, 0x14);
	in(MSR);
	out(MCR, 0x10);
	assert_int_equal(in(MSR), 0x04); /* the end of RI */
	out(MCR, 0x14);
	assert_int_equal(in(MSR), 0x40); /* its beginning is no event */
	out(MCR, 0);
	assert_int_equal(bits(MSR, 0xf0), 0xb0);
}

/* --- Save and load --- */

static void save(struct blob *blob)
{
	memset(blob, 0, sizeof(*blob));
	assert_int_equal(device_save(&machine.serial, blob), 0);
}

static void test_save_while_transmitting(void **state)
{
	struct blob blob;

	(void)state;
	out(FCR, 0x81);
	out(LCR, 0x1b);
	out(SCR, 0x5a);
	out(IER, 0x03);
	in(IIR);
	out_text("in the middle");
	loop_in("xyz");
	serial_class.stop(&machine.serial);
	save(&blob);
	machine_close();

	assert_int_equal(machine_open("none"), 0);
	assert_int_equal(device_load(&machine.serial, 1, blob.data, blob.len), 0);
	assert_false(machine.irq);
	assert_int_equal(serial_class.start(&machine.serial), 0);
	assert_true(machine.irq); /* the driver still gets the interrupt it waits for */
	assert_int_equal(machine.edges, 1);
	assert_int_equal(in(IIR), 0xcc);
	assert_int_equal(in(DATA), 'x');
	assert_int_equal(in(DATA), 'y');
	assert_int_equal(in(DATA), 'z');
	assert_int_equal(in(IIR), 0xc2);
	assert_false(machine.irq);
	assert_int_equal(in(LCR), 0x1b);
	assert_int_equal(in(SCR), 0x5a);
	blob_fini(&blob);
}

static void test_load_refuses(void **state)
{
	struct blob blob, longer = { 0 };
	unsigned refused = 0;

	(void)state;
	save(&blob);
	for (size_t len = 0; len < blob.len; len++)
		assert_int_equal(device_load(&machine.serial, 1, blob.data, len), -EINVAL);
	blob_put(&longer, blob.data, blob.len);
	blob_put(&longer, "", 1);
	assert_int_equal(device_load(&machine.serial, 1, longer.data, longer.len), -EINVAL);
	assert_non_null(strstr(error_text(), "serial"));
	for (size_t i = 0; i < blob.len; i++) {
		blob.data[i] ^= 0xff;
		refused += device_load(&machine.serial, 1, blob.data, blob.len) == -EINVAL;
		blob.data[i] ^= 0xff;
	}
	assert_int_equal(refused, 6); /* ier, fcr, mcr, lsr, thre_pending, rx_len */
	assert_int_equal(device_load(&machine.serial, 1, blob.data, blob.len), 0);
	blob_fini(&blob);
	blob_fini(&longer);
}

/* --- Input --- */

static void test_input_and_fifo(void **state)
{
	struct redirect r;
	int pipe_fds[2];

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	r = redirect(pipe_fds[0], -1, -1);
	assert_int_equal(machine_open("stdio"), 0);
	redirect_undo(&r);
	assert_int_equal(write(pipe_fds[1], "0123456789abcdefghij", 20), 20);
	events();
	assert_int_equal(in(LSR), 0x60); /* paused: nothing moves */
	assert_int_equal(serial_class.start(&machine.serial), 0);
	assert_int_equal(in(LSR), 0x61);
	out(FCR, 0x01); /* the byte that was there is not lost */
	out(FCR, 0x07);
	out(IER, 0x01);
	assert_true(machine.irq);
	close(pipe_fds[1]);
	events();
	for (const char *c = "0123456789abcdefghij"; *c; c++) {
		assert_int_equal(bits(LSR, 1), 1);
		assert_int_equal(in(DATA), *c);
	}
	assert_int_equal(in(LSR), 0x60);
	assert_false(machine.irq);
	close(pipe_fds[0]);
}

/* How often the guest has to ask for a byte, which the loop thread has not told of, until it is there. */
static unsigned asked(void)
{
	unsigned n = 1;

	while (n < 100 && !bits(LSR, 1))
		n++;
	return n;
}

static void test_input_of_a_guest_that_polls(void **state)
{
	struct redirect r;
	int pipe_fds[2];

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	r = redirect(pipe_fds[0], -1, -1);
	machine_start("stdio");
	redirect_undo(&r);
	for (const char *c = "abc"; *c; c++) {
		assert_int_equal(in(LSR), 0x60);
		assert_int_equal(write(pipe_fds[1], c, 1), 1);
		assert_int_equal(asked(), 1);
		assert_int_equal(in(DATA), *c);
	}
	/* Who asks before each byte that it sends does not wait for one: no look at the host. */
	assert_int_equal(in(LSR), 0x60);
	assert_int_equal(write(pipe_fds[1], "d", 1), 1);
	out(DATA, 'x');
	assert_int_equal(asked(), 2);
	assert_int_equal(in(DATA), 'd');
	close(pipe_fds[1]);
	assert_int_equal(asked(), 100);
	close(pipe_fds[0]);
}

/* A byte that came by the loopback does not come back from the line. */
static void test_cleared_loopback(void **state)
{
	(void)state;
	out(FCR, 0x01);
	loop_in("gone");
	out(FCR, 0x03);
	assert_int_equal(in(LSR), 0x60);
	assert_int_equal(in(DATA), 0);
}

/* A state that is loaded knows nothing of where bytes came from before. */
static void test_loaded_over_loopback(void **state)
{
	struct blob blob;

	(void)state;
	out(FCR, 0x01);
	loop_in("xy");
	save(&blob);
	assert_int_equal(device_load(&machine.serial, 1, blob.data, blob.len), 0);
	out(FCR, 0x03);
	assert_int_equal(in(DATA), 'x');
	assert_int_equal(in(DATA), 'y');
	blob_fini(&blob);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reset_values),
		TEST(test_scratch_and_masks),
		TEST(test_divisor_latch),
		TEST(test_wide_access_is_bytes),
		TEST(test_fifo_bits),
		TEST(test_transmitter_interrupt),
		TEST(test_receiver_interrupt),
		TEST(test_interrupt_priority),
		TEST(test_fifo_overrun_and_clear),
		TEST(test_loopback_modem_lines),
		TEST(test_save_while_transmitting),
		TEST(test_load_refuses),
		TEST(test_input_and_fifo),
		TEST(test_input_of_a_guest_that_polls),
		TEST(test_cleared_loopback),
		TEST(test_loaded_over_loopback),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
