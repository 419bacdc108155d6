/* SPDX-License-Identifier: Apache-2.0 */
/* See tests/fuzz/lib/fds.h. */
#include "tests/fuzz/lib/fds.h"

#include <poll.h>
#include <stddef.h>
#include <time.h>

#include "tests/fuzz/lib/bytes.h"

#define FDS_MAX 256u

unsigned fds_open(void)
{
	struct pollfd fds[FDS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < FDS_MAX; i++)
		fds[i] = (struct pollfd){ .fd = (int)i };
	must(ppoll(fds, FDS_MAX, &(struct timespec){ 0 }, NULL) >= 0);
	for (unsigned i = 0; i < FDS_MAX; i++)
		count += !(fds[i].revents & POLLNVAL);
	return count;
}
