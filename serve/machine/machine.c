/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See serve/machine/machine.h.
 */
#include "serve/machine/machine.h"

#include <errno.h>

#include "arch/base/error.h"
#include "boot/boot.h"
#include "boot/devices.h"
#include "boot/identity.h"

int machine_devices(const struct config *config, const struct snapshot *snapshot,
		    const struct image *kernel, struct device_list *list)
{
	int ret = snapshot ? snapshot_devices(snapshot, list) : boot_devices(config, kernel, list);

	return ret == 0 && snapshot && config ? boot_devices_match(config, list) : ret;
}

static int machine_create_devices(struct machine *m, const struct machine_plan *plan)
{
	struct device_host host = plan->host;
	struct device_list list;
	int ret = machine_devices(plan->config, plan->snapshot, &m->kernel, &list);

	host.channel = m->channel;
	if (ret == 0)
		ret = devices_create(&m->devices, &m->vm, &list, &host);
	device_list_fini(&list);
	return ret;
}

static void machine_step(const struct machine_plan *plan, enum machine_step step)
{
	if (plan->step)
		plan->step(plan->opaque, step);
}

static int machine_open_kernel(struct machine *m, const struct config *config)
{
	m->kernel = image_builtin();
	return config->kernel ? image_open(&m->kernel, config->kernel) : 0;
}

int machine_build(struct machine *m, const struct machine_plan *plan)
{
	unsigned vcpus = plan->snapshot ? plan->snapshot->vcpu_count : plan->config->cpus;
	struct memory memory;
	int ret = 0;

	m->channel = channel_new();
	if (!m->channel)
		return failf(ENOMEM, "out of memory");
	channel_set_events(m->channel, plan->events);
	if (!plan->snapshot)
		ret = machine_open_kernel(m, plan->config);
	if (ret == 0)
		ret = plan->memory(plan->opaque, &memory);
	if (ret == 0)
		ret = vm_create(&m->vm, &memory, vcpus, plan->saved);
	if (ret < 0)
		return ret;
	machine_step(plan, MACHINE_KVM);
	ret = machine_create_devices(m, plan);
	machine_step(plan, MACHINE_DEVICES);
	return ret;
}

int machine_boot(struct machine *m, const struct config *config, struct host_cpuid *host)
{
	struct image initrd = { 0 };
	struct boot_regs regs;
	struct boot_source source = {
		.kernel = &m->kernel,
		.cmdline = config->cmdline ? config->cmdline : "",
		.vcpu_count = config->cpus,
		.devices = &m->devices,
	};
	int ret = 0;

	if (config->initrd) {
		ret = image_open(&initrd, config->initrd);
		if (ret < 0)
			goto close_kernel;
		source.initrd = &initrd;
	}
	ret = boot_load(&m->vm.memory, &source, &regs);
	for (unsigned i = 0; ret == 0 && i < config->cpus; i++)
		ret = vcpu_boot(&m->vm.vcpus[i], &regs, host);
	if (ret == 0)
		ret = identity_write(&m->vm, 0, NULL);
	if (source.initrd)
		image_close(&initrd);
close_kernel:
	image_close(&m->kernel);
	return ret;
}

int machine_load(struct machine *m, struct snapshot *snapshot)
{
	return snapshot_load(snapshot, &m->vm, &m->devices);
}

int machine_identify(struct machine *m, uint32_t clone)
{
	uint8_t generation_id[IDENTITY_GENERATION_LEN];
	int ret = identity_write(&m->vm, clone, generation_id);

	if (ret == 0)
		channel_restored(m->channel, generation_id);
	return ret;
}

int machine_confine(struct machine *m, enum confine_role role)
{
	int ret = confine_privileges();

	if (ret == 0)
		ret = vm_threads_start(&m->vm);
	return ret < 0 ? ret : confine_process(role);
}
