/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The UART: registers, interrupts, FIFO, loopback, save and load, and its host side:
 * a reader that does not read, files, pipes, sockets and terminals as stdin and stdout.
 */
/* wrap: vm_irq vm_end */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "arch/error.h"
#include "arch/x86_64/layout.h"
#include "devices/device.h"
#include "devices/stream.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

extern const struct device_class serial_class;

struct machine {
	struct vm vm;
	struct device serial;
	bool irq;
	unsigned edges;
	enum vm_end_reason end;
	int saved_stdin, saved_stdout, saved_stderr;
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

void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...);
void __wrap_vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...)
{
	assert_ptr_equal(vm, &machine.vm);
	(void)code;
	(void)fmt;
	machine.end = reason;
}

static int machine_open(const char *spec)
{
	const struct device_host host = { .serial = spec };

	memset(&machine.vm, 0, sizeof(machine.vm));
	machine.irq = false;
	machine.edges = 0;
	machine.end = VM_END_NONE;
	pthread_mutex_init(&machine.vm.lock, NULL);
	loop_init(&machine.vm.loop);
	machine.serial = (struct device){ .class = &serial_class, .vm = &machine.vm };
	machine.serial.state = calloc(1, serial_class.size);
	return serial_class.create(&machine.serial, &host);
}

static void machine_close(void)
{
	serial_class.destroy(&machine.serial);
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
		assert_int_equal(in(MSR) & 0xf0, lines[i][1]);
	}
	out(MCR, 0x14);
	in(MSR);
	out(MCR, 0x10);
	assert_int_equal(in(MSR), 0x04); /* the end of RI */
	out(MCR, 0x14);
	assert_int_equal(in(MSR), 0x40); /* its beginning is no event */
	out(MCR, 0);
	assert_int_equal(in(MSR) & 0xf0, 0xb0);
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
	assert_int_equal(device_load(&machine.serial, blob.data, blob.len), 0);
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
		assert_int_equal(device_load(&machine.serial, blob.data, len), -EINVAL);
	blob_put(&longer, blob.data, blob.len);
	blob_put(&longer, "", 1);
	assert_int_equal(device_load(&machine.serial, longer.data, longer.len), -EINVAL);
	assert_non_null(strstr(error_text(), "serial"));
	for (size_t i = 0; i < blob.len; i++) {
		blob.data[i] ^= 0xff;
		refused += device_load(&machine.serial, blob.data, blob.len) == -EINVAL;
		blob.data[i] ^= 0xff;
	}
	assert_int_equal(refused, 6); /* ier, fcr, mcr, lsr, thre_pending, rx_len */
	assert_int_equal(device_load(&machine.serial, blob.data, blob.len), 0);
	blob_fini(&blob);
	blob_fini(&longer);
}

/* --- Host side --- */

/* Puts descriptors in the place of stdin, stdout and stderr, /dev/null for -1. */
static void redirect(int input, int output)
{
	int quiet = open("/dev/null", O_RDWR);

	machine.saved_stdin = dup(0);
	machine.saved_stdout = dup(1);
	machine.saved_stderr = dup(2);
	fflush(stdout);
	dup2(input < 0 ? quiet : input, 0);
	dup2(output < 0 ? quiet : output, 1);
	dup2(quiet, 2);
	close(quiet);
}

static void restore_stdio(void)
{
	dup2(machine.saved_stdin, 0);
	dup2(machine.saved_stdout, 1);
	dup2(machine.saved_stderr, 2);
	close(machine.saved_stdin);
	close(machine.saved_stdout);
	close(machine.saved_stderr);
}

static size_t drain(int fd, char *buf, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	while (len < size && poll(&p, 1, 0) == 1 && (n = read(fd, buf + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}

static void test_none_watches_nothing(void **state)
{
	int null = open("/dev/null", O_RDWR);

	(void)state;
	assert_int_equal(machine.vm.loop.count, 0);
	machine_close();
	redirect(null, null);
	machine_start("stdio");
	restore_stdio();
	out_text("gone");
	assert_int_equal(machine.vm.loop.count, 0);
	assert_int_equal(in(LSR), 0x60);
	close(null);
}

static void test_bad_spec(void **state)
{
	static const char *const bad[] = { "", "file:", "stdout", "file", "tcp:1" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		machine_close();
		assert_int_equal(machine_open(bad[i]), -EINVAL);
		assert_non_null(strstr(error_text(), "file:PATH"));
	}
	machine_close();
	assert_int_equal(machine_open("file:/nonexistent/x"), -ENOENT);
	assert_non_null(strstr(error_text(), "/nonexistent/x"));
}

static void test_file(void **state)
{
	char path[] = "/tmp/virga-serial-XXXXXX", spec[64], text[64] = "";
	int fd = mkstemp(path);
	struct stat st;

	(void)state;
	machine_close();
	assert_int_equal(write(fd, "old contents", 12), 12);
	snprintf(spec, sizeof(spec), "file:%s", path);
	machine_start(spec);
	out_text("new\n");
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_string_equal(text, "new\n");
	machine_close();
	unlink(path);
	machine_start(spec);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777 & ~0644u, 0);
	unlink(path);
	close(fd);
}

/* Pipes: a reader that stands still, then reads; then one that leaves. */
static void test_full_pipe(void **state)
{
	static char text[256 * 1024];
	int pipe_fds[2];
	size_t len, sent = 200 * 1024, size;

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	size = (size_t)fcntl(pipe_fds[1], F_GETPIPE_SZ);
	redirect(-1, pipe_fds[1]);
	machine_start("stdio");
	machine.vm.has_loop_thread = true;
	assert_int_equal(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
	for (size_t i = 0; i < sent; i++)
		out(DATA, (uint8_t)(i % 251));
	assert_int_equal(in(LSR), 0x60);
	restore_stdio();
	assert_int_equal(machine.vm.loop.count, 1); /* waits for room */
	len = drain(pipe_fds[0], text, sizeof(text));
	assert_int_equal(len, size);
	assert_true(events() > 0);
	len += drain(pipe_fds[0], text + len, sizeof(text) - len);
	while (events())
		len += drain(pipe_fds[0], text + len, sizeof(text) - len);
	/* What came out is the beginning of what went in: the newest was dropped. */
	assert_int_equal(len, size + STREAM_RING_SIZE);
	for (size_t i = 0; i < len; i++)
		assert_int_equal((uint8_t)text[i], i % 251);
	assert_int_equal(machine.vm.loop.count, 0);
	out_text("again");
	assert_int_equal(drain(pipe_fds[0], text, sizeof(text)), 5);
	close(pipe_fds[0]);
	out_text("the reader is gone");
	out_text("and nothing happens");
	assert_int_equal(in(LSR), 0x60);
	close(pipe_fds[1]);
}

/* Without a loop thread what waits goes out with the next byte, and at the end. */
static void test_full_pipe_without_loop(void **state)
{
	static char text[256 * 1024];
	int pipe_fds[2];
	size_t size;

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	size = (size_t)fcntl(pipe_fds[1], F_GETPIPE_SZ);
	redirect(-1, pipe_fds[1]);
	machine_start("stdio");
	for (size_t i = 0; i < size + 10000; i++)
		out(DATA, 'a');
	restore_stdio();
	assert_int_equal(machine.vm.loop.count, 0);
	assert_int_equal(drain(pipe_fds[0], text, 8192), 8192);
	out(DATA, 'b');
	assert_int_equal(drain(pipe_fds[0], text, size), size);
	machine_close();
	close(pipe_fds[1]);
	assert_int_equal(drain(pipe_fds[0], text, sizeof(text)), 10001 - 8192);
	assert_int_equal(text[10000 - 8192], 'b');
	close(pipe_fds[0]);
	machine_start("none");
}

static void test_socket(void **state)
{
	char text[64];
	int fds[2];

	(void)state;
	machine_close();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	redirect(fds[0], fds[0]);
	machine_start("stdio");
	restore_stdio();
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	for (unsigned i = 0; i < 1000000; i++)
		out(DATA, 'a'); /* does not block */
	while (drain(fds[1], text, sizeof(text)))
		;
	out_text("b");
	assert_int_equal(write(fds[1], "hi", 2), 2);
	assert_true(events() > 0);
	assert_int_equal(in(DATA), 'h');
	assert_int_equal(in(DATA), 'i');
	assert_int_equal(in(LSR), 0x60);
	close(fds[0]);
	close(fds[1]);
	events();
}

static void test_pipe_input(void **state)
{
	int pipe_fds[2];

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	redirect(pipe_fds[0], -1);
	assert_int_equal(machine_open("stdio"), 0);
	restore_stdio();
	assert_int_equal(machine.vm.loop.count, 1);
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
	assert_true(events() < 10); /* an end with the FIFO full is no reason to spin */
	for (const char *c = "0123456789abcdefghij"; *c; c++) {
		assert_int_equal(in(LSR) & 1, 1);
		assert_int_equal(in(DATA), *c);
	}
	assert_int_equal(in(LSR), 0x60);
	assert_int_equal(events(), 0);
	assert_int_equal(machine.end, VM_END_NONE);
	close(pipe_fds[0]);
}

static void test_file_input(void **state)
{
	char path[] = "/tmp/virga-serial-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	machine_close();
	unlink(path);
	assert_int_equal(write(fd, "regular file", 12), 12);
	lseek(fd, 0, SEEK_SET);
	redirect(fd, -1);
	machine_start("stdio");
	restore_stdio();
	assert_int_equal(machine.vm.loop.count, 0);
	for (const char *c = "regular file"; *c; c++) {
		assert_int_equal(in(LSR) & 1, 1);
		assert_int_equal(in(DATA), *c);
	}
	assert_int_equal(in(LSR), 0x60);
	close(fd);
}

static void test_terminal_keys(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct termios raw;

	(void)state;
	machine_close();
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	redirect(slave, slave);
	machine_start("stdio");
	restore_stdio();
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	out(FCR, 0x01);
	assert_int_equal(write(master, "a\x01\x01\x01z", 5), 5);
	events();
	for (const char *c = "a\x01\x01z"; *c; c++)
		assert_int_equal(in(DATA), *c);
	/* The escape works though nobody reads the keys before it. */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write(master, "kkkkkkkkkk", 10), 10);
	events();
	assert_int_equal(machine.end, VM_END_NONE);
	assert_int_equal(write(master, "\x01x", 2), 2);
	events();
	assert_int_equal(machine.end, VM_END_QUIT);
	close(slave);
	close(master);
}

static void test_pty(void **state)
{
	char line[128] = "", text[16] = "", *path;
	int pipe_fds[2], fd;

	(void)state;
	machine_close();
	assert_int_equal(pipe(pipe_fds), 0);
	redirect(-1, -1);
	dup2(pipe_fds[1], 2);
	machine_start("pty");
	restore_stdio();
	drain(pipe_fds[0], line, sizeof(line) - 1);
	path = strstr(line, "/dev/");
	assert_non_null(path);
	*strchr(path, '\n') = 0;
	out_text("early\n");
	fd = open(path, O_RDWR | O_NOCTTY);
	assert_true(fd >= 0);
	assert_int_equal(drain(fd, text, sizeof(text)), 6);
	assert_string_equal(text, "early\n");
	assert_int_equal(write(fd, "in", 2), 2);
	events();
	assert_int_equal(in(DATA), 'i');
	assert_int_equal(in(DATA), 'n');
	close(fd);
	assert_true(events() < 10);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
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
		TEST(test_none_watches_nothing),
		TEST(test_bad_spec),
		TEST(test_file),
		TEST(test_full_pipe),
		TEST(test_full_pipe_without_loop),
		TEST(test_socket),
		TEST(test_pipe_input),
		TEST(test_file_input),
		TEST(test_terminal_keys),
		TEST(test_pty),
	};

	vm_block_signals();
	return cmocka_run_group_tests_name("serial", tests, NULL, NULL);
}
