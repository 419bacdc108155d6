/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vCPU: its KVM descriptor, run page, thread and saved state. The functions
 * here are the contract that each arch/<isa>/ implements; the run loop itself is in vm.c.
 */
#ifndef VIRGA_ARCH_VCPU_H
#define VIRGA_ARCH_VCPU_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "arch/base/blob.h"

struct host_cpuid;
struct kvm_run;
struct memory;
struct vm;

enum vcpu_state { VCPU_STOPPED, VCPU_RUNNING };

struct vcpu {
	struct vm *vm;
	unsigned index;
	int fd;              /* owned */
	struct kvm_run *run; /* mapped, owned */
	uint32_t run_size;
	pthread_t thread;
	bool has_thread;
	enum vcpu_state state;
	bool fresh;         /* as KVM made it: nothing was set, it has not run */
	bool loaded;        /* a saved state was */
	bool parked;        /* the last exit was the park port: wait before going on */
	bool clock_told;    /* loaded since it ran last: it need not hear that it stood still */
	bool io_pending;    /* the last exit's I/O is completed by the next KVM_RUN */
	uint32_t tsc_khz;   /* of the guest's TSC */
	bool tsc_known;     /* tsc_ahead was read by vcpu_load(), and the guest has not run since */
	uint64_t tsc_ahead; /* the guest's TSC minus the host's */
	const void *cpuid;  /* that was set, in the state it came from; NULL: none */
	uint32_t cpuid_count;
};

/* How a cold boot enters the guest. */
enum boot_entry {
	BOOT_ENTRY_PVH,     /* 32-bit protected mode, paging off, ebx = info */
	BOOT_ENTRY_LINUX64, /* 64-bit, identity paging, rsi = info */
};

struct boot_regs {
	enum boot_entry entry;
	uint64_t ip;
	uint64_t info; /* guest-physical: hvm_start_info or boot_params */
};

/*
 * Has KVM keep the guest from holding up the host's CPUs, where it can; saved: and from setting what
 * vcpu_save() does not have. The VM has no memory slot (14 ms later on) and no vCPU yet. 0 or -errno
 * with a sentence.
 */
int vcpu_limits(struct vm *vm, bool saved);

/* Makes the vCPU's descriptor and run page. Thread: the VM's creator. 0 or -errno, sentence. */
int vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned index);
void vcpu_destroy(struct vcpu *vcpu);

/*
 * Asks KVM, on a thread of its own, which CPUID it supports: where the instruction traps that takes
 * 0.3 ms, as long as making the VM, so start it first. NULL when out of memory. Free it
 * before confinement.
 */
struct host_cpuid *host_cpuid_start(void);
void host_cpuid_free(struct host_cpuid *host);

/*
 * Sets CPUID (from `host`) and registers for a cold boot: vCPU 0 at regs->ip, the others waiting
 * for SIPI. Writes boot page tables and a GDT into guest memory where the entry needs them.
 */
int vcpu_boot(struct vcpu *vcpu, const struct boot_regs *regs, struct host_cpuid *host);

/* Appends the whole vCPU state (docs/snapshot.md, section "vcpu"). The vCPU is stopped. */
int vcpu_save(struct vcpu *vcpu, struct blob *out);

/*
 * Checks a saved state against this host without touching the vCPU (CPUID, sizes, TSC
 * frequency), then vcpu_load() sets it. An MSR that cannot be set is an error that names it,
 * unless the vCPU holds the value already or it is on the skip list; skips are counted in
 * *skipped.
 *
 * The vCPU is stopped and its I/O complete. It may be loaded again, also when it has run: only a
 * fresh one is spared what a new vCPU has already. Registers may be left in the run page
 * (KVM_SYNC_REGS): the next KVM_RUN takes them, or vcpu_flush(). time: not set, the guest's TSC goes
 * on from where it is.
 */
int vcpu_check(struct vcpu *vcpu, const void *state, size_t len);
int vcpu_load(struct vcpu *vcpu, const void *state, size_t len, bool time, unsigned *skipped);

/*
 * Whether the guest of that state keeps time by kvmclock or has its local APIC's timer running: where
 * not, its clock and TSC may as well go on when the state is loaded again.
 */
bool vcpu_keeps_time(const void *state, size_t len);

/*
 * Loads what of that state passes with time, and nothing else, into a vCPU that has not run since
 * the state was loaded: TSC and local APIC with its timer. After vm_clock_set(). 0 or -errno with a
 * sentence.
 */
int vcpu_load_time(struct vcpu *vcpu, const void *state, size_t len);

/*
 * Gives KVM what vcpu_load() left in the run page: to be called before KVM is asked for registers
 * or for anything that depends on them. No guest instruction runs. 0 or -errno with a sentence.
 */
int vcpu_flush(struct vcpu *vcpu);

/* Whether KVM_RUN failed (with err) because KVM refuses what vcpu_load() left; then a sentence. */
bool vcpu_refused(const struct vcpu *vcpu, int err);

/*
 * Whether the guest of that state was shown only CPU features whose state a saved vCPU has: if not, it
 * may have set what a reset does not put back. 0, or -EINVAL with a sentence that names the first.
 */
int vcpu_check_whole(const void *state, size_t len);

/*
 * The same, and whether it has every MSR of this vCPU that the guest could set here: a state of an
 * older virga or kernel may lack some. The vCPU is stopped.
 */
int vcpu_check_whole_here(const struct vcpu *vcpu, const void *state, size_t len);

/*
 * Where in a saved state the guest's CPUID is, and how many bytes of it there are. 0 or -EINVAL with
 * a sentence.
 */
int vcpu_saved_cpuid(const void *state, size_t len, const void **cpuid, size_t *cpuid_len);

/*
 * The pages that everything about address translation lies in, for a guest that its saved state shows
 * to be in ring 3 with no way out: no IDT, no system calls, its only gates in the GDT. While none of
 * them is written its translations stay what they are. Numbers of pages as memory.base counts, at
 * most max. How many; -1: it is not such a guest, or there are more.
 */
int vcpu_fixed_pages(const void *state, size_t len, const struct memory *m, uint64_t *pages,
		     int max);

/*
 * Sets CPUID from a saved state, which stays as long as the vCPU. vcpu_load() of any state with the
 * same CPUID then leaves that out: it is the dearest part.
 */
int vcpu_load_cpuid(struct vcpu *vcpu, const void *state, size_t len);

/*
 * Runs a few instructions of virga's own in the page at LAYOUT_STUB, so that what KVM does when a
 * vCPU is entered for the first time is done. CPUID is set; all other state is to be loaded
 * afterwards. Guest memory is a private mapping, and what was mapped is there again at the end.
 * 0 or -errno with a sentence.
 */
int vcpu_run_stub(struct vcpu *vcpu);

/* What a vCPU thread takes: its kicks, and on vCPU 0 what is meant for the process, if not hosted. */
void vcpu_signals(const struct vcpu *vcpu, sigset_t *set);

/* Has these end KVM_RUN. 0 or -errno with a sentence. */
int vcpu_set_signal_mask(struct vcpu *vcpu);

/*
 * Handles the exit that vcpu->run describes. VM lock held. Ends the machine (vm_end) for what
 * cannot go on, with the vCPU's registers on stderr.
 */
void vcpu_exit(struct vcpu *vcpu);

/* Without the VM lock: slows a guest down that has just held up every CPU of the host. */
void vcpu_brake(const struct vcpu *vcpu);

/* Prints the registers on stderr, for a crash. */
void vcpu_dump(struct vcpu *vcpu);

/* KVM_KVMCLOCK_CTRL; EINVAL (no kvmclock in the guest) is expected and ignored. */
void vcpu_clock_paused(struct vcpu *vcpu);

/* The guest's TSC now and its frequency, for the identity region. */
int vcpu_tsc(struct vcpu *vcpu, uint64_t *tsc, uint32_t *khz);

#endif
