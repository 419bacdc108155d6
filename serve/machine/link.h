/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM process's end of the pair to its supervisor (serve/ipc/message.h): carries out
 * stop, cont, snapshot and quit on the loop thread, reports ready and ended.
 */
#ifndef VIRGA_SERVE_MACHINE_LINK_H
#define VIRGA_SERVE_MACHINE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/channel/channel.h"
#include "devices/device.h"

struct link {
	struct vm *vm;
	struct devices *devices;
	struct channel *channel;
	struct loop_watch *watch;
	int fd;      /* owned, blocking */
	bool paused; /* by MESSAGE_STOP */
	bool asked;  /* a MESSAGE_REQUEST waits for its answer */
};

/* Watches fd in vm->loop. 0 or -errno with a sentence (fd closed). */
int link_init(struct link *link, struct vm *vm, struct devices *devices, struct channel *channel,
	      int fd);

/*
 * Reports; failures mean the supervisor is gone, which ends the machine by itself. link_threads
 * says that the machine runs; the thread that is about to call vm_run() calls it, as vCPU 0.
 * link_ended tells how vm->end says it; of a link with only `fd` set, for a machine that could
 * not be built, the thread's last sentence.
 */
void link_ready(struct link *link);
void link_threads(struct link *link);
void link_ended(struct link *link, int status);

/*
 * What the channel says, to whom a supervisor asked by MESSAGE_REQUEST or MESSAGE_QUIESCE; of a
 * link without supervisor (fd -1), nothing. VM lock held.
 */
void link_answer(struct link *link, enum channel_type type, const void *data, size_t len);
void link_broken(struct link *link, const char *why);
void link_quiesced(struct link *link);

/*
 * Asks the supervisor for a device; it is a struct device_host's ask, with the link as opaque. The
 * answer comes through devices_answered(). 0, or -errno when nothing can be asked now (no sentence).
 * VM lock held; does not wait.
 */
int link_ask(void *opaque, uint64_t id, enum device_question kind, uint32_t value);

void link_fini(struct link *link);

#endif
