/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A UART at COM1 (National Semiconductor PC16550D data sheet, section 8). The line
 * has no speed: a byte written is transmitted at once, so the transmitter is always empty. The
 * bytes' other end is devices/backend/stream.h; what the guest has sent is no longer part of the machine
 * and is not saved.
 */
#include <errno.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "devices/backend/stream.h"
#include "devices/device.h"

#define SERIAL_PORTS     8
#define SERIAL_FIFO_SIZE 16u

/* Registers by offset; the first two are the divisor latch while LCR.DLAB is set. */
enum {
	SERIAL_DATA,
	SERIAL_IER,
	SERIAL_IIR_FCR,
	SERIAL_LCR,
	SERIAL_MCR,
	SERIAL_LSR,
	SERIAL_MSR,
	SERIAL_SCR
};

#define SERIAL_IER_RDI      0x01u /* received data */
#define SERIAL_IER_THRI     0x02u /* transmitter empty */
#define SERIAL_IER_RLSI     0x04u /* line status */
#define SERIAL_IER_MSI      0x08u /* modem status */
#define SERIAL_IER_MASK     0x0fu

#define SERIAL_IIR_NONE     0x01u
#define SERIAL_IIR_MSI      0x00u
#define SERIAL_IIR_THRI     0x02u
#define SERIAL_IIR_RDI      0x04u
#define SERIAL_IIR_RLSI     0x06u
#define SERIAL_IIR_TIMEOUT  0x0cu /* data below the trigger level */
#define SERIAL_IIR_FIFO     0xc0u

#define SERIAL_FCR_ENABLE   0x01u
#define SERIAL_FCR_CLEAR_RX 0x02u
#define SERIAL_FCR_MASK     0xc9u /* what stays: enable, DMA mode, trigger level */

#define SERIAL_LCR_DLAB     0x80u
#define SERIAL_MCR_LOOP     0x10u
#define SERIAL_MCR_MASK     0x1fu

#define SERIAL_LSR_DR       0x01u
#define SERIAL_LSR_OE       0x02u
#define SERIAL_LSR_ERRORS   0x1eu
#define SERIAL_LSR_EMPTY    0x60u /* THRE and TEMT */

#define SERIAL_MSR_DELTAS   0x0fu
#define SERIAL_MSR_TERI     0x04u
#define SERIAL_MSR_RI       0x40u
#define SERIAL_MSR_ONLINE   0xb0u /* DCD, DSR, CTS: the other side is always there */

struct serial_saved {
	uint8_t ier;
	uint8_t fcr;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t lsr; /* error bits; the rest follows from the FIFO */
	uint8_t msr;
	uint8_t scr;
	uint8_t dll;
	uint8_t dlm;
	uint8_t thre_pending; /* the transmitter interrupt is due and not yet taken */
	uint8_t rx_len;
	uint8_t rx[SERIAL_FIFO_SIZE]; /* oldest first */
};

static const struct field serial_fields[] = {
	FIELD(struct serial_saved, ier),
	FIELD(struct serial_saved, fcr),
	FIELD(struct serial_saved, lcr),
	FIELD(struct serial_saved, mcr),
	FIELD(struct serial_saved, lsr),
	FIELD(struct serial_saved, msr),
	FIELD(struct serial_saved, scr),
	FIELD(struct serial_saved, dll),
	FIELD(struct serial_saved, dlm),
	FIELD(struct serial_saved, thre_pending),
	FIELD(struct serial_saved, rx_len),
	FIELD_ARRAY(struct serial_saved, rx),
	FIELD_END,
};

#define SERIAL_TO_MAX 4095u /* bytes of option `to` */

struct serial {
	struct serial_saved s; /* first: device.h */
	struct vm *vm;
	struct stream stream;
	char *to;     /* option; NULL: where the host has it */
	bool running; /* between start and stop: input may change the state */
	bool looped;  /* the receiver holds bytes that came by the loopback */
	bool polled;  /* the guest has looked for a byte in vain, and sent none since */
};

/* --- Interrupts --- */

static unsigned serial_rx_trigger(const struct serial_saved *s)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return s->fcr & SERIAL_FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The interrupt of highest priority (data sheet, table III), or SERIAL_IIR_NONE. */
static uint8_t serial_cause(const struct serial_saved *s)
{
	if ((s->ier & SERIAL_IER_RLSI) && (s->lsr & SERIAL_LSR_ERRORS))
		return SERIAL_IIR_RLSI;
	/* The time-out for data below the trigger level expires at once. */
	if ((s->ier & SERIAL_IER_RDI) && s->rx_len)
		return s->rx_len >= serial_rx_trigger(s) ? SERIAL_IIR_RDI : SERIAL_IIR_TIMEOUT;
	if ((s->ier & SERIAL_IER_THRI) && s->thre_pending)
		return SERIAL_IIR_THRI;
	if ((s->ier & SERIAL_IER_MSI) && (s->msr & SERIAL_MSR_DELTAS))
		return SERIAL_IIR_MSI;
	return SERIAL_IIR_NONE;
}

static void serial_update_irq(struct serial *serial)
{
	vm_irq(serial->vm, LAYOUT_SERIAL_GSI, serial_cause(&serial->s) != SERIAL_IIR_NONE);
}

/* --- Receiver --- */

static unsigned serial_rx_room(const struct serial_saved *s)
{
	unsigned size = s->fcr & SERIAL_FCR_ENABLE ? SERIAL_FIFO_SIZE : 1;

	return s->rx_len < size ? size - s->rx_len : 0;
}

/* Takes input for which there is room. Looped back, the receiver is cut off from the line. */
static void serial_rx_pull(struct serial *serial)
{
	struct serial_saved *s = &serial->s;
	unsigned room = serial_rx_room(s);

	if (!serial->running || !room || (s->mcr & SERIAL_MCR_LOOP))
		return;
	s->rx_len += (uint8_t)stream_read(&serial->stream, s->rx + s->rx_len, room);
}

static void serial_arrived(void *opaque)
{
	struct serial *serial = opaque;

	serial_rx_pull(serial);
	if (serial->running)
		serial_update_irq(serial);
}

static void serial_rx_loop(struct serial *serial, uint8_t byte)
{
	struct serial_saved *s = &serial->s;

	if (!serial_rx_room(s)) {
		s->lsr |= SERIAL_LSR_OE;
		return;
	}
	s->rx[s->rx_len++] = byte;
	serial->looped = true;
}

/*
 * A driver clears the FIFO when it starts, long after the first bytes may have come from a pipe
 * (`echo ls | virga run`). They are not lost: they arrive a moment later.
 */
static void serial_rx_clear(struct serial *serial)
{
	struct serial_saved *s = &serial->s;

	if (!serial->looped)
		stream_unread(&serial->stream, s->rx, s->rx_len);
	serial->looped = false;
	s->rx_len = 0;
}

static uint8_t serial_rx_pop(struct serial *serial)
{
	struct serial_saved *s = &serial->s;
	uint8_t byte = s->rx[0];

	if (!s->rx_len)
		return 0;
	s->rx_len--;
	memmove(s->rx, s->rx + 1, s->rx_len);
	serial->looped = serial->looped && s->rx_len;
	serial_rx_pull(serial);
	return byte;
}

/* A guest that asks for a byte once more waits for it; who is about to send asks once. */
static void serial_rx_poll(struct serial *serial)
{
	if (serial->polled && !serial->s.rx_len) {
		stream_look(&serial->stream);
		serial_rx_pull(serial);
	}
	serial->polled = !serial->s.rx_len;
}

/* --- Registers --- */

static void serial_transmit(struct serial *serial, uint8_t byte)
{
	struct serial_saved *s = &serial->s;

	serial->polled = false;
	if (!(s->mcr & SERIAL_MCR_LOOP))
		stream_write(&serial->stream, &byte, 1);
	else
		serial_rx_loop(serial, byte);
	s->thre_pending = 1;
}

/* In loopback the modem inputs are the outputs: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. */
static void serial_update_modem(struct serial_saved *s)
{
	uint8_t lines = SERIAL_MSR_ONLINE;
	uint8_t changed;

	if (s->mcr & SERIAL_MCR_LOOP)
		lines = (uint8_t)((s->mcr & 1u) << 5 | (s->mcr & 2u) << 3 | (s->mcr & 4u) << 4 |
				  (s->mcr & 8u) << 4);
	changed = (uint8_t)((s->msr ^ lines) >> 4);
	if (lines & SERIAL_MSR_RI)
		changed &= (uint8_t)~SERIAL_MSR_TERI; /* only its end counts */
	s->msr = (uint8_t)(lines | (s->msr & SERIAL_MSR_DELTAS) | changed);
}

static void serial_write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_saved *s = &serial->s;

	if ((value & SERIAL_FCR_CLEAR_RX) || ((value ^ s->fcr) & SERIAL_FCR_ENABLE))
		serial_rx_clear(serial);
	s->fcr = value & SERIAL_FCR_ENABLE ? value & SERIAL_FCR_MASK : 0;
	serial_rx_pull(serial);
}

static void serial_write_ier(struct serial_saved *s, uint8_t value)
{
	/* Enabling the interrupt of an empty transmitter raises it. */
	if (value & ~s->ier & SERIAL_IER_THRI)
		s->thre_pending = 1;
	s->ier = value & SERIAL_IER_MASK;
}

static void serial_write(struct serial *serial, uint64_t reg, uint8_t value)
{
	struct serial_saved *s = &serial->s;
	bool latch = s->lcr & SERIAL_LCR_DLAB;

	switch (reg) {
	case SERIAL_DATA:
		if (latch)
			s->dll = value;
		else
			serial_transmit(serial, value);
		break;
	case SERIAL_IER:
		if (latch)
			s->dlm = value;
		else
			serial_write_ier(s, value);
		break;
	case SERIAL_IIR_FCR:
		serial_write_fcr(serial, value);
		break;
	case SERIAL_LCR:
		s->lcr = value;
		break;
	case SERIAL_MCR:
		s->mcr = value & SERIAL_MCR_MASK;
		serial_update_modem(s);
		serial_rx_pull(serial);
		break;
	case SERIAL_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are for factory tests */
		break;
	}
}

static uint8_t serial_read(struct serial *serial, uint64_t reg)
{
	struct serial_saved *s = &serial->s;
	bool latch = s->lcr & SERIAL_LCR_DLAB;
	uint8_t value = 0;

	switch (reg) {
	case SERIAL_DATA:
		return latch ? s->dll : serial_rx_pop(serial);
	case SERIAL_IER:
		return latch ? s->dlm : s->ier;
	case SERIAL_IIR_FCR:
		value = serial_cause(s);
		if (value == SERIAL_IIR_THRI)
			s->thre_pending = 0;
		return value | (s->fcr & SERIAL_FCR_ENABLE ? SERIAL_IIR_FIFO : 0);
	case SERIAL_LCR:
		return s->lcr;
	case SERIAL_MCR:
		return s->mcr;
	case SERIAL_LSR:
		serial_rx_poll(serial);
		value = s->lsr | SERIAL_LSR_EMPTY | (s->rx_len ? SERIAL_LSR_DR : 0);
		s->lsr = 0;
		return value;
	case SERIAL_MSR:
		value = s->msr;
		s->msr &= (uint8_t)~SERIAL_MSR_DELTAS;
		return value;
	default:
		return s->scr;
	}
}

static void serial_io(void *opaque, uint64_t offset, void *data, unsigned len, bool write)
{
	struct serial *serial = opaque;
	uint8_t *bytes = data;

	/* A wider access is that many byte accesses, as on the ISA bus. */
	for (unsigned i = 0; i < len; i++) {
		if (write)
			serial_write(serial, offset + i, bytes[i]);
		else
			bytes[i] = serial_read(serial, offset + i);
	}
	serial_update_irq(serial);
}

/* --- Life --- */

static void serial_describe(const struct device *dev, struct aml *a)
{
	size_t device = aml_open_device(a, "COM1");
	size_t resources;

	(void)dev;
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name(a, "_UID");
	aml_integer(a, 1);
	aml_name(a, "_CRS");
	resources = aml_open_resources(a);
	aml_io(a, LAYOUT_PORT_SERIAL, SERIAL_PORTS);
	aml_interrupt_edge(a, LAYOUT_SERIAL_GSI);
	aml_close_resources(a, resources);
	aml_close(a, device);
}

static int serial_create(struct device *dev, const struct device_host *host)
{
	struct serial *serial = dev->state;
	int ret;

	serial->vm = dev->vm;
	serial->s.dll = 12; /* 9600 baud */
	serial->s.msr = SERIAL_MSR_ONLINE;
	ret = bus_claim(&dev->vm->pio, LAYOUT_PORT_SERIAL, SERIAL_PORTS, serial_io, serial,
			"serial");
	if (ret)
		return ret;
	return stream_open(&serial->stream, dev->vm, "serial",
			   serial->to    ? serial->to
			   : host->stdio ? "stdio"
					 : "none",
			   serial_arrived, serial);
}

static void serial_destroy(struct device *dev)
{
	struct serial *serial = dev->state;

	stream_close(&serial->stream);
}

static int serial_start(struct device *dev)
{
	struct serial *serial = dev->state;

	serial->running = true;
	/* The line's level follows from the state; an interrupt that was pending stays pending. */
	serial_arrived(serial);
	return 0;
}

static void serial_stop(struct device *dev)
{
	struct serial *serial = dev->state;

	serial->running = false;
}

static int serial_restore(struct device *dev, struct blob *in)
{
	struct serial *serial = dev->state;
	const struct serial_saved *s = &serial->s;

	(void)in;
	serial->looped = false;
	if (s->rx_len > SERIAL_FIFO_SIZE || (s->ier & ~SERIAL_IER_MASK) ||
	    (s->fcr & ~SERIAL_FCR_MASK) || (s->mcr & ~SERIAL_MCR_MASK) ||
	    (s->lsr & ~SERIAL_LSR_ERRORS) || s->thre_pending > 1)
		return failf(EINVAL,
			     "device serial: its saved registers cannot be those of a UART");
	return 0;
}

static const char *serial_check_to(const char *text)
{
	static const char file[] = "file:";
	bool is_file = strncmp(text, file, strlen(file)) == 0 && text[strlen(file)];

	return is_file || strcmp(text, "stdio") == 0 || strcmp(text, "none") == 0 ||
			       strcmp(text, "pty") == 0
		       ? NULL
		       : "stdio, none, pty and file:PATH are allowed";
}

static const struct device_option serial_options[] = {
	{ .key = KEY_CHECKED(struct serial, to, "to", SERIAL_TO_MAX, serial_check_to),
	  .value = "WHERE",
	  .help = "stdio, none, pty or file:PATH (run: stdio; else none)",
	  .anew = true },
	{ .key = KEY_END },
};

const struct device_class serial_class = {
	.name = "serial",
	.description = "16550A UART at port 0x3f8, to stdio, a file or a pseudo-terminal",
	.options = serial_options,
	.habit = DEVICE_USUAL,
	.single = true,
	.version = 1,
	.oldest = 1,
	.size = sizeof(struct serial),
	.fields = serial_fields,
	.create = serial_create,
	.destroy = serial_destroy,
	.start = serial_start,
	.stop = serial_stop,
	.describe = serial_describe,
	.restore = serial_restore,
};
