/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for the guest: what KVM supports on this host and may be shown (cpuid_features.c), with each
 * vCPU's own APIC id and topology.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/vm.h"
#include "arch/x86_64/machine.h"

#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_ECX_HYPERVISOR   (1u << 31)
#define CPUID_1_EDX_HTT          (1u << 28)

#define CPUID_LEAF_LEVELS        0xbu
#define CPUID_LEAF_LEVELS_V2     0x1fu /* adds levels that no guest here has */
#define CPUID_LEVELS             2u
#define CPUID_LEVEL_SMT          1u
#define CPUID_LEVEL_CORE         2u

/* Bits of an APIC id that number `count` CPUs. */
static uint32_t cpuid_id_bits(unsigned count)
{
	uint32_t bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

/* Leaf 0xb/0x1f: one thread per core, `count` cores (Intel SDM 2A, CPUID). */
static void cpuid_set_levels(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count)
{
	e->edx = index;
	e->ecx = e->index & 0xff;
	e->eax = e->ebx = 0;
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= CPUID_LEVEL_SMT << 8;
	} else if (e->index == 1) {
		e->eax = cpuid_id_bits(count);
		e->ebx = count;
		e->ecx |= CPUID_LEVEL_CORE << 8;
	}
}

/* Every leaf that says which CPU of how many this is. */
static void cpuid_set_topology(struct kvm_cpuid_entry2 *e, unsigned index, unsigned count)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xffff) | count << 16 | index << 24;
		e->ecx |= CPUID_1_ECX_HYPERVISOR;
		e->edx = count > 1 ? e->edx | CPUID_1_EDX_HTT : e->edx & ~CPUID_1_EDX_HTT;
		break;
	case 4: /* Intel cache leaves: cores in the package; none shared */
		if (e->eax & 0x1f)
			e->eax = (e->eax & 0x3fff) | (count - 1) << 26;
		break;
	case CPUID_LEAF_LEVELS:
		cpuid_set_levels(e, index, count);
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffu) | cpuid_id_bits(count) << 12 | (count - 1);
		break;
	case 0x8000001d: /* AMD cache leaves: none shared */
		e->eax &= 0x3fff;
		break;
	case 0x8000001e:
		e->eax = index;
		e->ebx = index;
		e->ecx = 0;
		break;
	default:
		break;
	}
}

/* KVM's table as it is, and whether the local APIC has the TSC deadline mode. */
static int cpuid_read(int kvm_fd, struct cpuid_table *table, bool *deadline)
{
	*deadline = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	table->head = (struct kvm_cpuid2){ .nent = CPUID_ENTRIES_MAX };
	return ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &table->head) < 0 ? errno : 0;
}

static int cpuid_failed(int err)
{
	return failf(err, "cannot read the CPUID that this KVM supports: %s", strerror(err));
}

/* Makes the host's table that of vCPU `index` of `count`. */
static void cpuid_personalise(struct cpuid_table *table, bool deadline, unsigned index,
			      unsigned count)
{
	for (uint32_t i = 0; i < table->head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		cpuid_set_topology(e, index, count);
		if (e->function == 1 && deadline)
			e->ecx |= CPUID_1_ECX_TSC_DEADLINE;
	}
}

/* Gives the table both levels of the topology leaf, which KVM's list has one of, or none. */
static void cpuid_add_levels(struct cpuid_table *table)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < table->head.nent; i++)
		if (table->entries[i].function != CPUID_LEAF_LEVELS &&
		    table->entries[i].function != CPUID_LEAF_LEVELS_V2)
			table->entries[kept++] = table->entries[i];
	for (uint32_t index = 0; index <= CPUID_LEVELS && kept < CPUID_ENTRIES_MAX; index++)
		table->entries[kept++] = (struct kvm_cpuid_entry2){
			.function = CPUID_LEAF_LEVELS,
			.index = index,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		};
	table->head.nent = kept;
	for (uint32_t i = 0; i < kept; i++)
		if (table->entries[i].function == 0 && table->entries[i].eax < CPUID_LEAF_LEVELS)
			table->entries[i].eax = CPUID_LEAF_LEVELS;
}

int cpuid_host(const struct vm *vm, unsigned index, unsigned count, struct cpuid_table *table)
{
	bool deadline;
	int err = cpuid_read(vm->kvm_fd, table, &deadline);

	if (err)
		return cpuid_failed(err);
	cpuid_add_levels(table);
	cpuid_personalise(table, deadline, index, count);
	return 0;
}

/* --- Asked for ahead of time --- */

struct host_cpuid {
	pthread_t thread;
	bool running;
	bool deadline;
	int err;
	struct cpuid_table table;
};

static void *host_cpuid_thread(void *opaque)
{
	struct host_cpuid *host = opaque;
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	host->err = fd < 0 ? errno : cpuid_read(fd, &host->table, &host->deadline);
	if (fd >= 0)
		close(fd);
	return NULL;
}

struct host_cpuid *host_cpuid_start(void)
{
	struct host_cpuid *host = calloc(1, sizeof(*host));

	if (!host)
		return NULL;
	host->err = pthread_create(&host->thread, NULL, host_cpuid_thread, host);
	host->running = !host->err;
	return host;
}

static void host_cpuid_wait(struct host_cpuid *host)
{
	if (host->running)
		pthread_join(host->thread, NULL);
	host->running = false;
}

void host_cpuid_free(struct host_cpuid *host)
{
	if (host)
		host_cpuid_wait(host);
	free(host);
}

int host_cpuid_take(struct host_cpuid *host, unsigned index, unsigned count,
		    struct cpuid_table *table)
{
	host_cpuid_wait(host);
	if (host->err)
		return cpuid_failed(host->err);
	*table = host->table;
	cpuid_add_levels(table);
	for (uint32_t i = 0; i < table->head.nent; i++)
		cpuid_allow(&table->entries[i]);
	cpuid_personalise(table, host->deadline, index, count);
	return 0;
}

/* FNV-1a, 64 bit. */
static uint64_t cpuid_hash(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ull;
	return hash;
}

uint64_t cpuid_host_key(void)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	uint32_t regs[4] = { 0 };
	struct utsname uts;

	if (uname(&uts) == 0) {
		hash = cpuid_hash(hash, uts.release, strlen(uts.release));
		hash = cpuid_hash(hash, uts.version, strlen(uts.version));
	}
	__cpuid(1, regs[0], regs[1], regs[2], regs[3]);
	regs[1] = 0; /* the APIC id of the CPU we happen to run on */
	hash = cpuid_hash(hash, regs, sizeof(regs));
	__cpuid_count(7, 0, regs[0], regs[1], regs[2], regs[3]);
	return cpuid_hash(hash, regs, sizeof(regs));
}
