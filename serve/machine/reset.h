/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that has run back to its template: memory, translations, vCPUs and
 * devices, so that nothing of what it did is left (policy reset).
 */
#ifndef VIRGA_SERVE_MACHINE_RESET_H
#define VIRGA_SERVE_MACHINE_RESET_H

#include "boot/pages/rewind.h"
#include "boot/snapshot/snapshot.h"

/* What has to be known of the template. Zeroed: nothing yet; the first reset finds it out. */
struct reset {
	struct rewind rewind;
	bool fixed; /* vcpu_fixed_pages() could tell which they are */
};

/*
 * Does it to a paused machine that was loaded from s; memory has its pagemap, devices are stopped
 * on return. VM lock held. Its time goes on: snapshot_load_time(). 0, or -errno with a sentence: then
 * the machine has to go.
 */
int reset_machine(struct reset *r, struct snapshot *s, struct vm *vm, struct devices *devices);

#endif
