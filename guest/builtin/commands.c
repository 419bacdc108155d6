/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request's first word asks for:
 *   echo TEXT   answers TEXT
 *   dirty N     writes a word in each of N pages; answers the sum of what they then hold
 *   sum N       the sum of all words of N pages that were initialised before READY
 *   spin US     computes for US microseconds
 *   id, time    generation id; nanoseconds since the epoch
 *   connect PORT TEXT   sends TEXT to a port of the host; answers what comes back
 *   fault       a triple fault
 *   exit N      writes the byte N to debug_exit
 * Anything else is echoed whole. Sums are 16 hexadecimal digits.
 */
#include "arch/x86_64/layout.h"
#include "guest/builtin/server.h"

#define SPIN_MAX_US 600000000ull

struct command {
	const char *name;
	bool number; /* takes one */
	void (*run)(struct guest *g, uint64_t id, uint64_t n);
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
	for (uint32_t i = 0; i < len; i++) {
		g->reply[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		g->reply[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	channel_answer(g, CHANNEL_RESPONSE, id, g->reply, 2 * len);
}

static void reply_sum(struct guest *g, uint64_t id, uint64_t sum)
{
	sum = __builtin_bswap64(sum);
	reply_hex(g, id, (const uint8_t *)&sum, sizeof(sum));
}

static void command_dirty(struct guest *g, uint64_t id, uint64_t n)
{
	volatile uint64_t *scratch = g->memory.scratch;
	uint64_t sum = 0;

	if (n > g->memory.scratch_count) {
		channel_error(g, id, "dirty: this guest has not so many pages");
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		scratch[i * (PAGE_SIZE / 8)] = memory_word(i + 1);
	for (uint64_t i = 0; i < n; i++)
		sum += scratch[i * (PAGE_SIZE / 8)];
	reply_sum(g, id, sum);
}

static void command_sum(struct guest *g, uint64_t id, uint64_t n)
{
	uint64_t sum = 0;

	if (n > g->memory.page_count) {
		channel_error(g, id, "sum: fewer pages were initialised (command line: pages=N)");
		return;
	}
	for (uint64_t i = 0; i < n * (PAGE_SIZE / 8); i++)
		sum += g->memory.pages[i];
	reply_sum(g, id, sum);
}

static void command_spin(struct guest *g, uint64_t id, uint64_t us)
{
	uint64_t start = tsc_now(), khz = identity()->tsc_khz;

	if (us > SPIN_MAX_US) {
		channel_error(g, id, "spin: 600000000 us at most");
		return;
	}
	while (tsc_now() - start < us * khz / 1000)
		__builtin_ia32_pause();
	channel_answer(g, CHANNEL_RESPONSE, id, NULL, 0);
}

static void command_id(struct guest *g, uint64_t id, uint64_t n)
{
	uint8_t generation[sizeof(identity()->generation_id)];

	(void)n;
	for (uint32_t i = 0; i < sizeof(generation); i++)
		generation[i] = identity()->generation_id[i];
	reply_hex(g, id, generation, sizeof(generation));
}

static void command_time(struct guest *g, uint64_t id, uint64_t n)
{
	const volatile struct identity *self = identity();
	uint64_t hz = self->tsc_khz * 1000ull, ticks = tsc_now() - self->tsc, now;
	uint32_t at = sizeof(g->reply);

	(void)n;
	if (hz == 0) {
		channel_error(g, id, "time: the identity region does not say how fast the TSC is");
		return;
	}
	/* Two steps: ticks * 10^9 does not fit for long. */
	now = self->wall_clock_ns + ticks / hz * 1000000000 + ticks % hz * 1000000 / (hz / 1000);
	do {
		g->reply[--at] = (char)('0' + now % 10);
		now /= 10;
	} while (now > 0);
	channel_answer(g, CHANNEL_RESPONSE, id, g->reply + at, (uint32_t)sizeof(g->reply) - at);
}

static void command_fault(struct guest *g, uint64_t id, uint64_t n)
{
	(void)n;
	__asm__ volatile("ud2");
	channel_error(g, id, "fault: an undefined instruction went unnoticed");
}

static void command_exit(struct guest *g, uint64_t id, uint64_t n)
{
	if (n > 255) {
		channel_error(g, id, "exit: a byte is meant, 0 to 255");
		return;
	}
	port_write(LAYOUT_PORT_DEBUG_EXIT, (uint8_t)n);
	channel_error(g, id, "exit: there is no debug_exit device");
}

static const struct command commands[] = {
	{ "dirty", true, command_dirty }, { "sum", true, command_sum },
	{ "spin", true, command_spin },   { "id", false, command_id },
	{ "time", false, command_time },  { "fault", false, command_fault },
	{ "exit", true, command_exit },
};

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
	uint64_t n = 0;

	if (word_take(&text, &len, "echo")) {
		channel_answer(g, CHANNEL_RESPONSE, id, text, len);
		return;
	}
	if (word_take(&text, &len, "connect")) {
		outgoing_start(g, id, text, len);
		return;
	}
	for (uint32_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!word_take(&text, &len, commands[i].name))
			continue;
		if (commands[i].number && !number_read(&text, &len, &n))
			channel_error(g, id, "a decimal number is missing after the first word");
		else if (len > 0)
			channel_error(g, id, "there is more text than the first word takes");
		else
			commands[i].run(g, id, n);
		return;
	}
	channel_answer(g, CHANNEL_RESPONSE, id, text, len);
}
