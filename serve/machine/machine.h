/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a machine, for whoever runs one: a VM process (process.h) or a shell (shell.h). The life of
 * a VM, in the order in which it is made and may do less and less:
 *
 *   1. memory      created, or a snapshot's mapped copy-on-write, by the caller's way of it
 *   2. machine_build()     the channel's host end; KVM: memory slots, interrupt controller, vCPUs;
 *                          the devices of its list, with what they need of the host
 *   3. machine_boot()      a kernel, its registers, an identity; or
 *      machine_load()      a snapshot's state into vCPUs and devices
 *   4. machine_identify()  of a clone: who it is, before its first instruction
 *   5. machine_confine()   the last host resource is open: capabilities, threads, filter
 *   6. devices_start()     from here on what the guest wrote is read
 *   7. vm_run()            until it ends or is held
 *
 * All of it on the thread that is vCPU 0's. What fails leaves a machine that the process's end takes
 * apart.
 */
#ifndef VIRGA_SERVE_MACHINE_MACHINE_H
#define VIRGA_SERVE_MACHINE_MACHINE_H

#include "arch/vm.h"
#include "boot/boot.h"
#include "boot/config.h"
#include "boot/snapshot/snapshot.h"
#include "devices/channel/channel.h"
#include "devices/device.h"
#include "seccomp/confine.h"

struct machine {
	struct vm vm;
	struct devices devices;
	struct channel *channel; /* owned */
	struct image kernel;     /* of a cold boot, from machine_build() to machine_boot() */
};

/* What machine_build() has done when it says so. */
enum machine_step { MACHINE_KVM, MACHINE_DEVICES };

/* What a machine is to be made of. Borrowed for the call, but for what host names. */
struct machine_plan {
	const struct config *config; /* of a cold boot; of devices; may be NULL with: */
	struct snapshot *snapshot;
	struct device_host host; /* its channel is filled in */
	bool saved;              /* vm_create() */
	const struct channel_events *events;
	/* Gives the machine its memory. 0 or -errno with a sentence. */
	int (*memory)(void *opaque, struct memory *memory);
	/* Optional: where the time goes. */
	void (*step)(void *opaque, enum machine_step step);
	void *opaque;
};

/*
 * The devices of a machine that is booted by the configuration, or goes on from the snapshot (NULL:
 * booted), of which the configuration (then NULL: nothing) says what is its host's. kernel as
 * boot_devices() has it. The list is to be freed, on failure too. 0 or -errno with a sentence.
 */
int machine_devices(const struct config *config, const struct snapshot *snapshot,
		    const struct image *kernel, struct device_list *list);

/* Builds *m, which is zeroed but for vm's descriptors (-1). 0 or -errno with a sentence. */
int machine_build(struct machine *m, const struct machine_plan *plan);

/* Loads the kernel, which is opened once, and sets each vCPU's registers; a first identity. */
int machine_boot(struct machine *m, const struct config *config, struct host_cpuid *host);

/* Loads a snapshot's state. Memory is mapped already. */
int machine_load(struct machine *m, struct snapshot *snapshot);

/* Makes a new one of what was loaded: an identity, which the function channel tells the guest. */
int machine_identify(struct machine *m, uint32_t clone);

/*
 * Drops capabilities, which belong to a thread, starts the threads, and closes the door. What it does
 * later it does with what it has. 0 or -errno with a sentence.
 */
int machine_confine(struct machine *m, enum confine_role role);

#endif
