/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function in a pool (tests/unit/serve/pool/pool_one.h). A program that wraps notef() has nothing on
 * stderr of what goes wrong.
 */
#include "tests/unit/serve/pool/pool_one.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/arch/own_time.h"

struct pool_bed *pool_one;
struct function *f;
struct request r[REQUESTS];
unsigned pool_one_notes;

void __wrap_notef(const char *fmt, ...);
void __wrap_notef(const char *fmt, ...)
{
	(void)fmt;
	pool_one_notes++;
}

int pool_one_open(void **state)
{
	(void)state;
	pool_one = pool_bed_open(SHELLS, 1);
	f = pool_bed_function(pool_one, "f", true);
	memset(r, 0, sizeof(r));
	for (unsigned i = 0; i < REQUESTS; i++)
		r[i].number = i;
	return 0;
}

int pool_one_close(void **state)
{
	(void)state;
	pool_bed_close(pool_one);
	return 0;
}

void settle(void)
{
	pool_bed_advance(pool_one, 100 * MS);
}

void begin(unsigned i)
{
	assert_true(request_begin(pool_one, &r[i], f, 3000 * MS));
	pool_bed_step(pool_one);
}

void answer(unsigned i)
{
	char text[32];

	assert_string_equal(fake_of(pool_one, &r[i])->text, r[i].payload);
	snprintf(text, sizeof(text), "answer %u", i);
	fake_answer(fake_of(pool_one, &r[i]), OUTCOME_RESPONSE, text);
	pool_bed_step(pool_one);
	request_expect(&r[i], OUTCOME_RESPONSE, text);
}

static FILE *notes_file;

int notes_begin(void)
{
	int kept = dup(STDERR_FILENO);

	notes_file = tmpfile();
	assert_non_null(notes_file);
	assert_true(dup2(fileno(notes_file), STDERR_FILENO) >= 0);
	pool_one_notes = 0;
	return kept;
}

unsigned notes_end(int kept)
{
	unsigned count = pool_one_notes;
	int c;

	dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(notes_file);
	while ((c = fgetc(notes_file)) != EOF)
		count += c == '\n';
	fclose(notes_file);
	return count;
}

void check_well(unsigned i)
{
	pool_one->manual = false;
	while (fake_count(pool_one, FAKE_MADE))
		fake_ready(fake_find(pool_one, FAKE_MADE, 0), NULL);
	settle();
	pool_bed_advance(pool_one, 1000 * MS);
	assert_true(f->armed_count >= 2);
	begin(i);
	answer(i);
	assert_int_equal(r[i].inv.tier, TIER_ARMED);
}
