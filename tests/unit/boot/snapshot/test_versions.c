/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another version of what a device saves (docs/contributing.md): by the classes that there are, in a
 * machine on KVM that is loaded from a snapshot made before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"
#include "boot/snapshot/dir.h"
#include "boot/snapshot/snapshot.h"
#include "tests/unit/live_machine.h"

static char dir[] = "/tmp/test_versions.XXXXXX", path[64];

static int setup(void **state)
{
	struct live *m;

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/snapshot", dir);
	m = live_boot(NULL, "");
	live_save(m, path);
	live_destroy(m);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return snapshot_dir_delete(path) || remove(dir);
}

/* Loads it into a machine in whose place of a class stands another. */
static int load(struct live *m, struct device *dev, const struct device_class *class)
{
	const struct device_class *was = dev->class;
	struct snapshot s;
	int ret = snapshot_open(&s, path);

	assert_int_equal(ret, 0);
	m->vm.vcpus[0].cpuid = NULL; /* that of a snapshot that is closed */
	dev->class = class;
	ret = snapshot_load(&s, &m->vm, &m->devices);
	dev->class = was;
	snapshot_close(&s);
	return ret;
}

/* A version more, `oldest` left where it was: the one before is read. Both raised: it is refused. */
static void test_raised(void **state)
{
	struct live *m = live_load(path);

	(void)state;
	for (unsigned i = 0; i < m->devices.count; i++) {
		struct device *dev = &m->devices.list[i];
		struct device_class raised = *dev->class;
		char words[64];

		raised.version++;
		if (load(m, dev, &raised) < 0)
			fail_msg("%s", error_text());
		raised.oldest = raised.version;
		assert_int_equal(load(m, dev, &raised), -EINVAL);
		snprintf(words, sizeof(words),
			 "section %s has version %u; this virga reads version %u;", raised.name,
			 dev->class->version, raised.version);
		assert_non_null(strstr(error_text(), words));
		raised.version++;
		assert_int_equal(load(m, dev, &raised), -EINVAL);
		assert_non_null(strstr(error_text(), "this virga reads versions "));
	}
	live_destroy(m);
}

/* Each says which it reads: a machine may have none of it. */
static void test_oldest(void **state)
{
	(void)state;
	for (unsigned i = 0; device_classes[i]; i++)
		assert_in_range(device_classes[i]->oldest, 1, device_classes[i]->version);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raised),
		cmocka_unit_test(test_oldest),
	};

	return cmocka_run_group_tests_name("versions", tests, setup, teardown);
}
