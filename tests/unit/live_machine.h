/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine on real KVM in the test's own process: 16 MiB, all devices, each vCPU on a thread of its
 * own, a function channel whose owner is the test.
 */
#ifndef VIRGA_TESTS_UNIT_LIVE_MACHINE_H
#define VIRGA_TESTS_UNIT_LIVE_MACHINE_H

#include <pthread.h>

#include "devices/channel/channel.h"
#include "devices/device.h"

#define MIB (1ull << 20)

struct live {
	struct vm vm;
	struct devices devices;
	struct channel *channel;
	pthread_t thread;
};

/* A machine about to execute its first instruction. kernel NULL: the embedded guest. */
struct live *live_boot(const char *kernel, const char *cmdline);
struct live *live_boot_vcpus(const char *kernel, const char *cmdline, unsigned vcpus);

/* One from a snapshot; a stopped one into a new snapshot. */
struct live *live_load(const char *path);
void live_save(struct live *m, const char *path);

/* Of a machine that has never run, or is stopped. */
void live_destroy(struct live *m);

void live_start(struct live *m);

/* VM lock held; false when the guest has ended by itself. */
bool live_stop(struct live *m);

/* Runs for us microseconds and stops; false when the guest has ended by itself. */
bool live_run_for(struct live *m, unsigned us);

/* Ends a started machine and destroys it. */
void live_end(struct live *m);

#endif
