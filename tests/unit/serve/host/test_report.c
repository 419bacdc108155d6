/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of the host that are made of its functions, those without a template too: each is whole, and
 * whoever asks for it again and again costs no memory.
 * wrap: monotonic_us fork kill waitpid socketpair sealed_open
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "serve/host/report.h"
#include "tests/unit/serve/pool/pool_bed.h"

static unsigned held; /* pieces of memory that jansson has */

static void *take(size_t size)
{
	held++;
	return malloc(size);
}

static void give(void *memory)
{
	held -= memory != NULL;
	free(memory);
}

/* A page of two functions, of which one has a template or both have. To be freed. */
static char *page(void (*write)(struct lambda *lambda, FILE *out), bool both)
{
	struct pool_bed *bed = pool_bed_open(4, 0);
	struct http_server *http = calloc(1, sizeof(*http));
	struct log log = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct lambda lambda;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(http);
	assert_non_null(out);
	pool_bed_function(bed, "with", true);
	pool_bed_function(bed, "without", both);
	lambda_init(&lambda, http, &bed->pool, &log);
	held = 0;
	write(&lambda, out);
	assert_int_equal(fclose(out), 0);
	pool_bed_close(bed);
	free(http);
	return text;
}

static void test_status(void **state)
{
	char *text = page(report_status, false);
	json_t *object = json_loads(text, 0, NULL);
	const json_t *functions = json_object_get(object, "functions");
	unsigned with = 0, without = 0;

	(void)state;
	for (size_t i = 0; i < json_array_size(functions); i++) {
		const json_t *template = json_object_get(json_array_get(functions, i), "template");

		with += json_is_object(template);
		without += json_is_null(template);
	}
	assert_int_equal(with, 1);
	assert_int_equal(without, 1);
	json_decref(object);
	free(text);
}

/* What of it was made by jansson is freed by the C library, the text alone: in both cases the same. */
static void test_status_holds_nothing(void **state)
{
	unsigned left;

	(void)state;
	free(page(report_status, true));
	left = held;
	free(page(report_status, false));
	assert_int_equal(held, left);
}

static void test_others(void **state)
{
	void (*const pages[])(struct lambda *, FILE *) = { report_metrics, report_page };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char *text = page(pages[i], false);

		assert_non_null(strstr(text, "without"));
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_status_holds_nothing),
		cmocka_unit_test(test_others),
	};

	json_set_alloc_funcs(take, give);
	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
