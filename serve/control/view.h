/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine's supervisor tells of it, and what it can be asked to do, for whichever protocol:
 * no reader of this knows another's words (QMP's are in serve/control/qmp_commands.c). The
 * supervisor's one thread.
 */
#ifndef VIRGA_SERVE_CONTROL_VIEW_H
#define VIRGA_SERVE_CONTROL_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#define VIEW_CPUS_MAX 16

enum view_state {
	VIEW_PRELAUNCH, /* it has not run yet */
	VIEW_RUNNING,
	VIEW_PAUSED,
	VIEW_SAVING, /* paused for a snapshot */
	VIEW_ENDED,
};

enum view_request { VIEW_STOP, VIEW_CONT, VIEW_POWERDOWN, VIEW_QUIT, VIEW_SNAPSHOT };

enum view_snapshot {
	VIEW_SNAPSHOT_NONE, /* there was none yet */
	VIEW_SNAPSHOT_ACTIVE,
	VIEW_SNAPSHOT_DONE,
	VIEW_SNAPSHOT_FAILED,
};

struct view {
	const char *name; /* NULL when it has none */
	enum view_state state;
	bool ready;
	unsigned cpu_count;
	uint32_t threads[VIEW_CPUS_MAX]; /* thread ids of the vCPUs */
	struct {
		enum view_snapshot status;
		uint64_t total_us;
		uint64_t pause_us;
		char error[512]; /* printable ASCII */
	} snapshot;              /* the last one, or that which is written */
	/*
	 * Carries out a request; uri is that of VIEW_SNAPSHOT, else NULL. 0: done or on its way.
	 * -EINPROGRESS: *ticket is set, and who asked hears of it again under that number. Other
	 * -errno: refused, with a sentence.
	 */
	int (*request)(void *opaque, enum view_request request, const char *uri, uint64_t *ticket);
	void *opaque;
};

#endif
