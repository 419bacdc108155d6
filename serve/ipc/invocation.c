/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shell is asked to do, as it comes in a message (serve/ipc/invocation.h).
 */
#include "serve/ipc/invocation.h"

#include <errno.h>
#include <string.h>

#include "arch/base/error.h"
#include "arch/layout.h"
#include "serve/ipc/payload.h"

_Static_assert(MESSAGE_FDS_MAX >= LAYOUT_VIRTIO_SLOTS + INVOKE_FDS_MAX,
	       "an invocation can bring something for each device");

const void *invocation_parse(const struct message *m, struct invoke_head *head,
			     const char **environment, void **owned)
{
	size_t at = sizeof(*head);
	uint32_t fds;

	*owned = NULL;
	if (m->text_len < at)
		return failf(EPROTO, "an invocation without its head"), NULL;
	memcpy(head, m->text, at);
	fds = (head->flags & INVOKE_TEMPLATE ? 2 : 0) + (head->flags & INVOKE_MEMFD ? 1 : 0);
	if (m->fd_count != fds || head->environment_len > INVOCATION_ENVIRONMENT_MAX ||
	    head->environment_len > m->text_len - at || head->policy > POLICY_KEEP)
		return failf(EPROTO, "an invocation whose head makes no sense"), NULL;
	*environment = m->text + at;
	return payload_at(m, at + head->environment_len, head->payload_len,
			  head->flags & INVOKE_MEMFD ? m->fds[fds - 1] : -1, owned);
}
