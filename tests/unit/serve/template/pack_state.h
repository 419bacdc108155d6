/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `state` of a snapshot, as far as an archive is checked by it.
 */
#ifndef VIRGA_TESTS_UNIT_PACK_STATE_H
#define VIRGA_TESTS_UNIT_PACK_STATE_H

#include <stdint.h>

#include "arch/base/blob.h"

/* One that says that memory has that many bytes; blob_fini() it. */
struct blob pack_state(uint64_t memory_size);

#endif
