/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: one KVM VM with its memory, vCPUs, interrupt controller and buses,
 * and its life: created, stopped, running, ended. It knows no device by name.
 *
 * Threads. vCPU 0 runs on the thread that calls vm_run(); the other vCPUs have a
 * thread each; a loop thread exists while vm->loop has a watch. `lock` is the VM
 * lock: it is held whenever an exit or a loop handler touches device or interrupt
 * state, never across KVM_RUN.
 *
 * Signals. SIGTERM, SIGINT, SIGHUP, SIGALRM and VM_KICK_SIGNAL are blocked in every
 * thread and let through only inside KVM_RUN (KVM_SET_SIGNAL_MASK), which then returns
 * EINTR, and in the sigwaitinfo() of a vCPU that is parked or stopped. vCPU 0 takes the
 * first four (SIGALRM is the time-out); every vCPU thread takes its own kicks, with a signal that
 * whoever else is sent it ignores: the filter cannot know whom a confined process kicks.
 */
#ifndef VIRGA_ARCH_VM_H
#define VIRGA_ARCH_VM_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/base/loop.h"
#include "arch/bus.h"
#include "arch/irqchip.h"
#include "arch/memory.h"
#include "arch/vcpu.h"

#define VM_VCPUS_MAX   16
#define VM_KICK_SIGNAL SIGURG

/* Why a machine ended. */
enum vm_end_reason {
	VM_END_NONE = 0,
	VM_END_POWEROFF,     /* the guest powered off */
	VM_END_RESET,        /* the guest asked for a reset */
	VM_END_QUIT,         /* QMP quit */
	VM_END_SIGNAL,       /* SIGTERM, SIGINT or SIGHUP */
	VM_END_ANSWER,       /* the one request was answered */
	VM_END_ANSWER_ERROR, /* the one request was answered with an error frame */
	VM_END_DEBUG_EXIT,   /* debug_exit; code is the byte */
	VM_END_TIMEOUT,
	VM_END_HOST,  /* virga or the host failed; text says how */
	VM_END_CRASH, /* triple fault, emulation failure, unhandled exit */
};

struct vm_end {
	enum vm_end_reason reason;
	uint8_t code;
	char text[240]; /* one sentence for stderr, "" for a quiet end */
};

enum vm_state {
	VM_CREATED, /* not run yet */
	VM_RUNNING,
	VM_STOPPED, /* paused: every vCPU at an instruction boundary */
	VM_ENDED,
};

/* Something that looks for work the guest left in memory (a virtio device's queues). */
struct vm_poll {
	void (*poll)(void *opaque);
	void *opaque;
	struct vm_poll *next; /* vm_poll_add()'s */
};

struct vm {
	int kvm_fd; /* owned */
	int fd;     /* owned */
	struct memory memory;
	struct bus pio;
	struct bus mmio;
	struct irqchip *irqchip; /* owned */
	struct loop loop;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* the machine's state, or a vCPU's to VCPU_STOPPED */
	enum vm_state state;
	bool pause_wanted;
	bool shadow;   /* KVM keeps page tables of its own in place of the guest's */
	bool remapped; /* the guest's may have changed since the state to be loaded was loaded */
	bool hosted;   /* vm_set_hosted() */
	bool held;     /* vm_hold(): vm_run() returns once everything is stopped */
	bool wake_pending; /* a used buffer was published since the guest last parked */
	bool poll_pending; /* vm_poll_later() */
	struct vm_end end;
	struct vcpu *current;  /* whose exit is being handled */
	struct vm_poll *polls; /* in the order in which they were added; borrowed */
	unsigned virtio_slots; /* virtio-mmio slots taken so far, from 0 */
	uint32_t tsc_khz;      /* of a new vCPU's TSC */
	uint64_t host_key;     /* cpuid_host_key(), once it was asked for */
	uint64_t clock_tsc;    /* the host's TSC when the clock was read or set last */
	unsigned vcpu_count;
	struct vcpu vcpus[VM_VCPUS_MAX];
	pthread_t loop_thread;
	bool has_loop_thread;
	uint64_t first_exit_us; /* CLOCK_MONOTONIC of the first exit; 0 before */
};

/*
 * Makes the KVM machine around `memory` (moved into vm, also on failure): slots first, then the
 * split irqchip, then the vCPUs. saved: it may be saved, or loaded again after it has run, so that its
 * guest may set only what vcpu_save() has. The calling address space owns
 * it: never fork afterwards and use it in the child. 0 or -errno with a sentence.
 */
int vm_create(struct vm *vm, struct memory *memory, unsigned vcpu_count, bool saved);
void vm_destroy(struct vm *vm);

/* Sets vm->shadow: whether the CPU walks a second level of tables, as module parameters say. */
void vm_find_paging(struct vm *vm);

/*
 * For one of many machines that a host looks after: nobody reads its registers when its guest
 * crashes, and SIGTERM, SIGINT and SIGHUP, which a terminal or a service manager sends to every
 * process, are the host's to obey. Before vm_run(). 0 or -errno with a sentence.
 */
int vm_set_hosted(struct vm *vm);

/*
 * Has KVM forget all that it derived from guest memory: where it keeps page tables of its own in place
 * of the guest's it sees what the guest writes to those, and not what we do. Paused. 0 or -errno.
 */
int vm_renew_memory(struct vm *vm);

/*
 * Starts the threads that vm_run() needs: one for each further vCPU, halted, and the loop thread
 * when the loop has watches. The last step before confinement. 0 or -errno, sentence.
 */
int vm_threads_start(struct vm *vm);

/*
 * Runs a machine that was created or is held until it ends, vCPU 0 on the calling thread, and joins
 * the threads; or until vm_hold(), then it is VM_STOPPED and may be run again. After
 * vm_threads_start(). Returns vm->end.reason: VM_END_NONE when it is held.
 */
enum vm_end_reason vm_run(struct vm *vm);

/*
 * Has vm_run() pause the machine as vm_pause() does and return. For who runs a machine a piece at a
 * time. An exit or loop handler's to call; VM lock held. Ignored when the machine has ended.
 */
void vm_hold(struct vm *vm);

/* Blocks the signals listed above in the calling thread; once, before any thread is made. */
void vm_block_signals(void);

/*
 * Has every vCPU but the one whose exit is being handled, which looks at the machine's state before
 * it goes on, leave KVM_RUN. VM lock held.
 */
void vm_kick_all(struct vm *vm);

/*
 * Stops every vCPU at an instruction boundary with its pending I/O completed, and waits for
 * that; a machine that has been created is waited for until it runs. Not a vCPU's thread; VM lock
 * held (released while waiting). Afterwards the machine is VM_STOPPED or VM_ENDED.
 */
void vm_pause(struct vm *vm);

/* Lets a paused machine run on. VM lock held. KVM_KVMCLOCK_CTRL is called for each vCPU. */
void vm_resume(struct vm *vm);

/* Ends the machine; the first caller wins. fmt: the sentence for stderr, "" for none. VM lock held. */
void vm_end(struct vm *vm, enum vm_end_reason reason, uint8_t code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* A paused machine is to be loaded anew: drops wake-ups and waits of what ran before. */
void vm_forget(struct vm *vm);

/*
 * A device is on that pin (GSI) of the interrupt controller: while the machine is built. -ENOSPC with
 * a sentence when it cannot have so many.
 */
int vm_irq_want(struct vm *vm, unsigned gsi, const char *device);

/* Sets the level of a pin (GSI). Edge pins deliver on the rising edge. VM lock held. */
void vm_irq(struct vm *vm, unsigned gsi, bool level);

/*
 * Registers / runs what vm_poll() calls, while the machine is built / under the VM lock. poll stays
 * where it is as long as the machine.
 */
void vm_poll_add(struct vm *vm, struct vm_poll *poll);
void vm_poll(struct vm *vm);

/* Has a vCPU call vm_poll() soon, after signals and whoever waits for the lock. VM lock held. */
void vm_poll_later(struct vm *vm);

/* The vCPU whose exit is being handled waits after it until vm_wake(). Exit handlers only. */
void vm_park(struct vm *vm);

/* Wakes a vCPU that waits in the park port, now or at its next wait. VM lock held. */
void vm_wake(struct vm *vm);

/*
 * Enters RAM [offset, offset + len) (as memory.base counts; whole pages) in KVM's second-level
 * tables before the guest runs, by vCPU 0, whose state is loaded. Pages that are not private yet
 * are entered for reading. 0, or -errno without a sentence when this KVM cannot.
 */
int vm_prefault(struct vm *vm, uint64_t offset, uint64_t len);

/*
 * KVM_GET_CLOCK / KVM_SET_CLOCK, ns of kvmclock without host realtime. The host's TSC at that
 * moment is kept in clock_tsc: vCPUs are saved and loaded relative to it, so that their TSCs
 * agree with the clock and with each other. 0 or -errno.
 */
int vm_clock_get(struct vm *vm, uint64_t *ns);
int vm_clock_set(struct vm *vm, uint64_t ns);

#endif
