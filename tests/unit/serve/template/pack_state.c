/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/unit/serve/template/pack_state.h. */
#include "tests/unit/serve/template/pack_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "boot/snapshot/format.h"
#include "boot/snapshot/state.h"

struct blob pack_state(uint64_t memory_size)
{
	const struct snapshot_machine machine = { .memory_size = memory_size, .vcpu_count = 1 };
	struct state_writer w = { 0 };
	struct blob file = { 0 };

	fields_save(snapshot_machine_fields, &machine,
		    state_section_add(&w, "machine", 0, SNAPSHOT_MACHINE_VERSION));
	assert_int_equal(state_encode(&w, &file), 0);
	state_writer_fini(&w);
	return file;
}
