/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request's first word asks for:
 *   echo TEXT   answers TEXT
 *   dirty N     writes a word in each of N pages; answers the sum of what they then hold
 *   touch N V   writes the byte V at the start of each of N pages; answers N
 *   sum N       the sum of all words of N pages that were initialised before READY
 *   spin US     computes for US microseconds
 *   id, time    generation id; nanoseconds since the epoch
 *   left        microseconds that the request may take as of when it was sent; 0: no limit
 *   env NAME    the value of a variable that ENVIRONMENT brought, or nothing
 *   connect PORT TEXT   sends TEXT to a port of the host; answers what comes back
 *   fault       a triple fault
 *   exit N      writes the byte N to debug_exit
 * For tests of a host (hostile.c):
 *   log N TEXT  says TEXT in N LOG frames, then answers
 *   flood N     the same with 4000 bytes
 *   twice TEXT  answers TEXT twice
 *   late US TEXT   answers TEXT with a wrong id, and US microseconds later with the right one
 *   big N       answers N bytes, byte i being i modulo 256, be it too long or not
 *   garbage     sends 42 bytes that are no frame; no answer
 *   close       shuts the channel down, opens it anew and is READY; no answer
 *   mute        waits for ever
 *   hang        computes for ever
 *   mark TEXT   leaves TEXT, 16 bytes, in 16 pages, general and vector registers; answers
 *   remap N     0: readies two pages and an empty page table; 1, 2: maps the first or the second
 *               and answers the letter it finds there, A or B, valid once in a guest's life; 3: the
 *               same without mapping anything, the end of a guest that has not
 * Anything else is echoed whole. Sums are 16 hexadecimal digits.
 */
#include "arch/layout.h"
#include "guest/builtin/server.h"

#define TAKES_NUMBER 1u
#define TAKES_TEXT   2u /* any, also none */

struct command {
	char name[8];
	uint8_t takes; /* after the first word, in this order */
	void (*run)(struct guest *g, const struct request *r);
};

bool number_read(const uint8_t **text, uint32_t *len, uint64_t *value)
{
	uint32_t i = 0;

	*value = 0;
	for (; i < *len && (*text)[i] >= '0' && (*text)[i] <= '9'; i++) {
		if (*value > UINT64_MAX / 10 - 1)
			return false;
		*value = *value * 10 + (*text)[i] - '0';
	}
	if (i == 0 || (i < *len && (*text)[i] != ' ' && (*text)[i] != '\n'))
		return false;
	if (i < *len)
		i++;
	*text += i;
	*len -= i;
	return true;
}

static void reply_hex(struct guest *g, uint64_t id, const uint8_t *bytes, uint32_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t i = 0; i < len; i++) {
		g->reply[2 * i] = digits[bytes[i] >> 4];
		g->reply[2 * i + 1] = digits[bytes[i] & 15];
	}
	channel_answer(g, CHANNEL_RESPONSE, id, g->reply, 2 * len);
}

static void reply_sum(struct guest *g, uint64_t id, uint64_t sum)
{
	sum = __builtin_bswap64(sum);
	reply_hex(g, id, (const uint8_t *)&sum, sizeof(sum));
}

static void reply_decimal(struct guest *g, uint64_t id, uint64_t value)
{
	uint32_t at = sizeof(g->reply);

	do {
		g->reply[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	channel_answer(g, CHANNEL_RESPONSE, id, g->reply + at, (uint32_t)sizeof(g->reply) - at);
}

static void command_echo(struct guest *g, const struct request *r)
{
	channel_answer(g, CHANNEL_RESPONSE, r->id, r->text, r->len);
}

static void command_dirty(struct guest *g, const struct request *r)
{
	volatile uint64_t *scratch = g->memory.scratch;
	uint64_t sum = 0;

	if (r->number > g->memory.scratch_count) {
		channel_error(g, r->id, "dirty: this guest has not so many pages");
		return;
	}
	for (uint64_t i = 0; i < r->number; i++)
		scratch[i * (PAGE_SIZE / 8)] = memory_word(i + 1);
	for (uint64_t i = 0; i < r->number; i++)
		sum += scratch[i * (PAGE_SIZE / 8)];
	reply_sum(g, r->id, sum);
}

static void command_sum(struct guest *g, const struct request *r)
{
	uint64_t sum = 0;

	if (r->number > g->memory.page_count) {
		channel_error(g, r->id,
			      "sum: fewer pages were initialised (command line: pages=N)");
		return;
	}
	for (uint64_t i = 0; i < r->number * (PAGE_SIZE / 8); i++)
		sum += g->memory.pages[i];
	reply_sum(g, r->id, sum);
}

static void command_touch(struct guest *g, const struct request *r)
{
	volatile uint8_t *scratch = (volatile uint8_t *)g->memory.scratch;
	const uint8_t *text = r->text;
	uint32_t len = r->len;
	uint64_t value;

	if (!number_read(&text, &len, &value) || value > 255 || len > 0) {
		channel_error(g, r->id, "touch: a number of pages and a byte are meant, 0 to 255");
		return;
	}
	if (r->number > g->memory.scratch_count) {
		channel_error(g, r->id, "touch: this guest has not so many pages");
		return;
	}
	for (uint64_t i = 0; i < r->number; i++)
		scratch[i * PAGE_SIZE] = (uint8_t)value;
	reply_decimal(g, r->id, r->number);
}

void spin_us(uint64_t us)
{
	uint64_t start = tsc_now(), khz = identity()->tsc_khz;

	while (tsc_now() - start < us * khz / 1000)
		__builtin_ia32_pause();
}

static void command_spin(struct guest *g, const struct request *r)
{
	if (r->number > SPIN_MAX_US) {
		channel_error(g, r->id, "spin: 600000000 us at most");
		return;
	}
	spin_us(r->number);
	channel_answer(g, CHANNEL_RESPONSE, r->id, NULL, 0);
}

static void command_id(struct guest *g, const struct request *r)
{
	uint8_t generation[sizeof(identity()->generation_id)];

	(void)r;
	for (uint32_t i = 0; i < sizeof(generation); i++)
		generation[i] = identity()->generation_id[i];
	reply_hex(g, r->id, generation, sizeof(generation));
}

static void command_time(struct guest *g, const struct request *r)
{
	const volatile struct identity *self = identity();
	uint64_t hz = self->tsc_khz * 1000ull, ticks = tsc_now() - self->tsc;

	(void)r;
	if (hz == 0) {
		channel_error(g, r->id,
			      "time: the identity region does not say how fast the TSC is");
		return;
	}
	/* Two steps: ticks * 10^9 does not fit for long. */
	reply_decimal(g, r->id,
		      self->wall_clock_ns + ticks / hz * 1000000000 +
			      ticks % hz * 1000000 / (hz / 1000));
}

static void command_left(struct guest *g, const struct request *r)
{
	reply_decimal(g, r->id, g->channel.frame.deadline);
}

static void command_fault(struct guest *g, const struct request *r)
{
	(void)r;
	__asm__ volatile("ud2");
	channel_error(g, r->id, "fault: an undefined instruction went unnoticed");
}

static void command_exit(struct guest *g, const struct request *r)
{
	if (r->number > 255) {
		channel_error(g, r->id, "exit: a byte is meant, 0 to 255");
		return;
	}
	port_write(LAYOUT_PORT_DEBUG_EXIT, (uint8_t)r->number);
	channel_error(g, r->id, "exit: there is no debug_exit device");
}

/* clang-format off */
static const struct command commands[] = {
	{ "echo", TAKES_TEXT, command_echo },
	{ "dirty", TAKES_NUMBER, command_dirty },
	{ "sum", TAKES_NUMBER, command_sum },
	{ "spin", TAKES_NUMBER, command_spin },
	{ "env", TAKES_TEXT, command_env },
	{ "touch", TAKES_NUMBER | TAKES_TEXT, command_touch },
	{ "id", 0, command_id },
	{ "time", 0, command_time },
	{ "left", 0, command_left },
	{ "connect", TAKES_TEXT, command_connect },
	{ "fault", 0, command_fault },
	{ "exit", TAKES_NUMBER, command_exit },
	{ "log", TAKES_NUMBER | TAKES_TEXT, command_log },
	{ "flood", TAKES_NUMBER, command_flood },
	{ "twice", TAKES_TEXT, command_twice },
	{ "late", TAKES_NUMBER | TAKES_TEXT, command_late },
	{ "big", TAKES_NUMBER, command_big },
	{ "garbage", 0, command_garbage },
	{ "close", 0, command_close },
	{ "mute", 0, command_mute },
	{ "hang", 0, command_hang },
	{ "mark", TAKES_TEXT, command_mark },
	{ "remap", TAKES_NUMBER, command_remap },
};
/* clang-format on */

/* True when text begins with the word; moves past it and the blank after it. */
static bool word_take(const uint8_t **text, uint32_t *len, const char *word)
{
	uint32_t i = 0;

	for (; word[i] != '\0'; i++) {
		if (i == *len || (*text)[i] != (uint8_t)word[i])
			return false;
	}
	if (i < *len && (*text)[i] != ' ' && (*text)[i] != '\n')
		return false;
	if (i < *len)
		i++;
	*text += i;
	*len -= i;
	return true;
}

void command_run(struct guest *g, uint64_t id, const uint8_t *text, uint32_t len)
{
	struct request r = { .id = id };

	for (uint32_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *command = &commands[i];

		if (!word_take(&text, &len, command->name))
			continue;
		if (command->takes & TAKES_NUMBER && !number_read(&text, &len, &r.number)) {
			channel_error(g, id, "a decimal number is missing after the first word");
		} else if (!(command->takes & TAKES_TEXT) && len > 0) {
			channel_error(g, id, "there is more text than the first word takes");
		} else {
			r.text = text;
			r.len = len;
			command->run(g, &r);
		}
		return;
	}
	channel_answer(g, CHANNEL_RESPONSE, id, text, len);
}
