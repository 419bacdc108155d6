/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What shells whose guests have broken out, and a spawner, may tell the front: messages of any type, head,
 * length and descriptors at any time, beside those that behave. Each request that was accepted is answered
 * once, the pool's sums agree with its lists after each step, in the end nothing is held.
 */
/* wrap: monotonic_us fork kill waitpid socketpair sealed_open notef */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/lib/bytes.h"
#include "tests/unit/arch/own_time.h"
#include "tests/unit/serve/pool/pool_bed.h"

#define FUNCTIONS 2u
#define REQUESTS  24u
#define SHELLS    5u

void __wrap_notef(const char *fmt, ...);
void __wrap_notef(const char *fmt, ...)
{
	(void)fmt;
}

static struct {
	struct pool_bed *bed;
	struct bytes in;
	struct function *functions[FUNCTIONS];
	struct request requests[REQUESTS];
	unsigned count;
} front;

static void make_function(unsigned i, uint8_t how)
{
	char name[16];
	struct function *f;

	snprintf(name, sizeof(name), "f%u", i);
	pool_bed_memory = (64ull + 64 * i) << 20;
	f = front.functions[i] = pool_bed_function(front.bed, name, true);
	f->config.policy = (enum policy)(how % 3);
	f->config.json = how & 4;
	f->config.concurrency = 1 + (how >> 3 & 3);
	f->config.queue = how >> 5 & 3;
	f->config.pool_min = how >> 7;
	f->config.pool_max = f->config.pool_min + 1;
	f->config.idle_timeout_ms = 100;
	f->target = f->config.pool_min;
}

/* The n-th that has a process, of those that lie first. */
static struct fake_shell *shell(uint8_t n)
{
	struct fake_shell *there[4 * SHELLS];
	unsigned count = 0;

	for (unsigned i = 0; i < 4 * SHELLS; i++)
		if (front.bed->shells[i].state != FAKE_NONE)
			there[count++] = &front.bed->shells[i];
	return count ? there[n % count] : NULL;
}

/* Whatever it says from here on, the bed takes it for one that does not listen. */
static void lie(struct fake_shell *s, uint8_t how)
{
	static struct message m;
	struct answer_head head = { .outcome = how & 7 };
	int fd = how & 8 ? memfd_create("payload", MFD_CLOEXEC) : -1;
	size_t len;
	const uint8_t *text = bytes_take(&front.in, bytes_u8(&front.in), &len);

	message_init(&m, how & 16 ? MESSAGE_ANSWER : how & 32 ? MESSAGE_SHELL : how >> 1);
	m.id = how & 64 ? s->invocation : bytes_u8(&front.in);
	m.value = how & 128 ? bytes_u8(&front.in) : 0;
	if (how & 16) {
		head.outcome = bytes_below(&front.in, OUTCOME_COUNT + 1);
		head.log_len = (uint16_t)bytes_odd(&front.in);
		head.payload_len = (uint32_t)bytes_odd(&front.in);
		if (how & 1) {
			head.log_len = (uint16_t)(len / 2);
			head.payload_len = (uint32_t)(len - len / 2);
		}
		memcpy(m.text, &head, sizeof(head));
		m.text_len = how & 4 ? bytes_u8(&front.in) % sizeof(head) : sizeof(head);
	}
	if (len)
		memcpy(m.text + m.text_len, text, len);
	m.text_len += (uint32_t)len;
	if (fd >= 0) {
		must(write(fd, text, len) == (ssize_t)len);
		m.fds[m.fd_count++] = fd;
	}
	message_try(s->fd, &m);
	if (fd >= 0)
		close(fd);
	s->state = FAKE_RUNS;
}

/* The spawner is another program of ours; what it says is checked all the same. */
static void spawner_says(uint8_t how)
{
	struct message m;

	message_init(&m, how & 1 ? MESSAGE_DEAD : how & 2 ? MESSAGE_SPAWNER : how);
	m.id = bytes_odd(&front.in);
	m.value = bytes_u8(&front.in);
	if (front.bed->fd >= 0)
		message_try(front.bed->fd, &m);
}

static void begin(uint8_t how)
{
	static const char *const tenants[] = { NULL, "a", "ab", NULL };
	struct request *r = &front.requests[front.count];

	if (front.count == REQUESTS)
		return;
	r->number = front.count++;
	r->tenant = tenants[how >> 1 & 3];
	request_begin(front.bed, r, front.functions[how & 1], (1 + (how >> 3)) * MS);
}

static void cancel(uint8_t n)
{
	struct request *r = &front.requests[n % REQUESTS];

	if (n % REQUESTS < front.count && r->accepted && !r->done && !r->cancelled)
		request_cancel(r);
}

static void behave(struct fake_shell *s, uint8_t how)
{
	if (s->state == FAKE_MADE || s->state == FAKE_TURNS)
		fake_ready(s, how >= 0xf0 ? "it cannot" : NULL);
	else if (s->state == FAKE_RUNS)
		fake_answer(s, how >= 0xe0 ? how % OUTCOME_COUNT : OUTCOME_RESPONSE, "answer");
}

static void act(void)
{
	uint8_t what = bytes_u8(&front.in), arg = bytes_u8(&front.in);
	struct fake_shell *s = shell(what >> 3);

	switch (what & 7) {
	case 0:
	case 1:
		begin(arg);
		break;
	case 2:
		cancel(arg);
		break;
	case 3:
	case 4:
		if (s)
			behave(s, arg);
		break;
	case 5:
		if (s)
			lie(s, arg);
		break;
	case 6:
		if (arg < 0x20)
			spawner_says(arg);
		else if (arg < 0x30)
			fake_spawner_dies(front.bed);
		else if (arg < 0x80 && s)
			fake_dies(front.bed, s, arg & 3 ? SIGKILL : 0);
		else if (arg >= 0x80)
			pool_bed_advance(front.bed, (arg & 0x7fu) * 20 * MS);
		break;
	default:
		function_set_version(&front.bed->pool, front.functions[arg & 1],
				     pool_bed_version(front.bed, arg & 1 ? "f1" : "f0"));
	}
	pool_bed_step(front.bed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	front.in = (struct bytes){ data, size };
	front.count = 0;
	memset(front.requests, 0, sizeof(front.requests));
	front.bed = pool_bed_open(SHELLS, bytes_below(&front.in, 3));
	front.bed->manual = true;
	for (unsigned i = 0; i < FUNCTIONS; i++)
		make_function(i, bytes_u8(&front.in));
	while (front.in.left)
		act();
	pool_bed_close(front.bed);
	for (unsigned i = 0; i < front.count; i++)
		must(front.requests[i].done ==
		     (front.requests[i].accepted && !front.requests[i].cancelled));
	return 0;
}
