/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine that becomes a template, as its builder sees it: a confined child that is
 * asked, by messages (serve/ipc/message.h), for one thing after the other. It dies with its
 * builder.
 */
#ifndef VIRGA_SERVE_TEMPLATE_GUEST_H
#define VIRGA_SERVE_TEMPLATE_GUEST_H

#include <stddef.h>
#include <stdint.h>

#include "boot/config.h"
#include "serve/ipc/child.h"
#include "serve/template/console.h"

/* Zeroed: no machine. */
struct template_guest {
	const char *name; /* of the template, for notes */
	struct child child;
	uint64_t requests;      /* sent so far */
	struct console console; /* while there is a machine */
};

/*
 * Boots the machine of config, which the child uses until it ends. The end of its console is kept when
 * its serial port goes nowhere. 0 or -errno, sentence.
 */
int template_guest_start(struct template_guest *g, const struct config *config);

/*
 * Ends it, if there is one. ret: what came of it; when the guest was not what it should be, by its end
 * or by its silence, the last lines of its console are printed.
 */
void template_guest_stop(struct template_guest *g, int ret);

/* Waits for READY. */
int template_guest_ready(struct template_guest *g, unsigned timeout_s);

/* Sends a request and waits for its answer, which is dropped; an error frame is -EREMOTEIO. */
int template_guest_request(struct template_guest *g, const void *data, size_t len,
			   uint32_t timeout_ms);

/*
 * QUIESCE, then waits until the guest is idle: what a kernel still does behind its services (self
 * tests of its ciphers, say) every clone would do again before its answer. A guest that does
 * not know QUIESCE, or is never idle, is taken as it is, which is said.
 */
int template_guest_quiesce(struct template_guest *g);

/* Stops it and saves it into the files of a snapshot; config_text is what `config` holds. */
int template_guest_save(struct template_guest *g, const char *config_text, int state_fd,
			int memory_fd);

#endif
