/* SPDX-License-Identifier: Apache-2.0 */
/* Fills the identity region (boot/identity.h). */
#include "boot/identity.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "arch/vm.h"

_Static_assert(offsetof(struct identity, generation_id) == 16, "place of the generation id");
_Static_assert(offsetof(struct identity, seed) == 32, "place of the seed");
_Static_assert(offsetof(struct identity, wall_clock_ns) == 96, "place of the wall clock");
_Static_assert(sizeof(struct identity) == 120, "version 1");

static int identity_random(void *out, size_t len)
{
	ssize_t got = getrandom(out, len, 0);

	/* Up to 256 bytes come whole once the pool is ready; before that, a signal may interrupt. */
	if (got != (ssize_t)len)
		return failf(got < 0 ? errno : EIO, "no random numbers from the host: %s",
			     got < 0 ? strerror(errno) : "getrandom gave too few bytes");
	return 0;
}

int identity_write(struct vm *vm, uint32_t clone, uint8_t generation_id[IDENTITY_GENERATION_LEN])
{
	struct identity id = {
		.magic = IDENTITY_MAGIC,
		.version = IDENTITY_VERSION,
		.length = sizeof(id),
		.clone = clone,
	};
	struct timespec now;
	int ret = identity_random(id.generation_id, sizeof(id.generation_id));

	if (ret == 0)
		ret = identity_random(id.seed, sizeof(id.seed));
	if (ret == 0)
		ret = vcpu_tsc(&vm->vcpus[0], &id.tsc, &id.tsc_khz);
	if (ret < 0)
		return ret;
	clock_gettime(CLOCK_REALTIME, &now);
	id.wall_clock_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (memory_write(&vm->memory, LAYOUT_IDENTITY, &id, sizeof(id)) < 0)
		return failf(ENOMEM, "guest memory ends below the identity region at 0x%x",
			     LAYOUT_IDENTITY);
	if (generation_id)
		memcpy(generation_id, id.generation_id, sizeof(id.generation_id));
	explicit_bzero(id.seed, sizeof(id.seed));
	return 0;
}
