/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole snapshot, as a hostile one is made: every section of a right one with damage of the fuzzer's,
 * left out, doubled, renamed or of another version, all checksums right; as a directory or in memory. What
 * is accepted becomes a machine, which runs its devices, is saved and loaded again.
 */
/* wrap: ioctl */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/layout.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/sealed.h"
#include "boot/snapshot/snapshot.h"
#include "devices/channel/channel.h"
#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/kvm.h"
#include "tests/fuzz/lib/seal.h"

#define RAM         0x20000u
#define RAM_MAX     (1ull << 30)
#define CONFIG      "{}\n"
#define SECTION_MAX 0x20000u

struct machine {
	struct vm vm;
	struct devices devices;
	struct channel *channel;
};

/* The sections that a right snapshot has. */
static struct blob right;
static struct state_file right_file;
static char dir[64];

static bool machine_devices(struct machine *m, const struct device_list *list)
{
	m->channel = channel_new();
	must(m->channel != NULL);
	return devices_create(&m->devices, &m->vm, list,
			      &(struct device_host){ .channel = m->channel }) == 0;
}

static void machine_end(struct machine *m)
{
	devices_destroy(&m->devices);
	channel_free(m->channel);
	vm_fake_destroy(&m->vm);
}

/* --- A right one, once --- */

static int file(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0);
	return fd;
}

static void remove_dir(void)
{
	static const char *const names[] = { "config", "state", "memory", "working-set",
					     "template" };
	char path[128];

	for (unsigned i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void make_right(void)
{
	const struct snapshot_config config = snapshot_config_of(CONFIG, strlen(CONFIG));
	struct device_list list = { 0 };
	struct machine m = { .channel = NULL };
	struct memory memory;
	struct stat st;
	int state, ram;

	snprintf(dir, sizeof(dir), "/dev/shm/virga-fuzz.%d", (int)getpid());
	must(mkdir(dir, 0700) == 0);
	atexit(remove_dir);
	must(memory_create(&memory, RAM) == 0);
	vm_fake_create(&m.vm, &memory, 1);
	for (const struct device_class *const *c = device_classes; *c; c++)
		must(device_list_add(&list, *c, NULL) == 0);
	must(machine_devices(&m, &list));
	device_list_fini(&list);
	state = file("state");
	ram = file("memory");
	must(snapshot_save(&m.vm, &m.devices, &config, state, ram) == 0);
	must(fstat(state, &st) == 0);
	right.data = malloc((size_t)st.st_size);
	right.len = (size_t)st.st_size;
	must(right.data && pread(state, right.data, right.len, 0) == (ssize_t)right.len);
	must(state_parse(&right_file, "right", right.data, right.len) == 0);
	close(state);
	close(ram);
	machine_end(&m);
}

/* --- One of the fuzzer's --- */

/* The last device of the list gets options. */
static void put_settings(struct bytes *in, struct blob *out)
{
	size_t len;
	const uint8_t *text = bytes_take(in, bytes_u8(in), &len);
	uint32_t said = (uint32_t)len;

	if (out->failed || out->len < sizeof(said))
		return;
	memcpy(out->data + out->len - sizeof(said), &said, sizeof(said));
	blob_put(out, text, len);
}

static void put_section(struct bytes *in, struct state_writer *w, const struct state_section *from,
			uint8_t how)
{
	static uint8_t copy[SECTION_MAX];
	const struct state_section *name = from;
	size_t len = from->len;
	struct blob *out;

	must(len <= sizeof(copy));
	memcpy(copy, from->data, len);
	if (how & 1)
		bytes_damage(in, copy, &len);
	if ((how & 0xf0) == 0x10)
		name = &right_file.sections[bytes_below(in, right_file.count)];
	out = state_section_add(w, name->name, (how & 0xf0) == 0x20 ? bytes_u8(in) : from->instance,
				(how & 0xf0) == 0x30 ? bytes_below(in, 4) : from->version);
	if (!out)
		return;
	blob_put(out, copy, len);
	if ((how & 0xf0) == 0x40)
		blob_put(out, in->at, in->left < 64 ? in->left : 64);
	if ((how & 0xf0) == 0x70 && strcmp(from->name, SNAPSHOT_DEVICES) == 0)
		put_settings(in, out);
}

static struct blob make_state(struct bytes *in)
{
	struct state_writer w = { 0 };
	struct blob out = { 0 };
	uint8_t how = bytes_u8(in);

	for (unsigned i = 0; i < right_file.count; i++) {
		/* Most are left alone, so that what comes behind them is reached. */
		uint8_t each = (how >> (i % 4) & 1) ? bytes_u8(in) : 0;

		if ((each & 0xf0) == 0x50)
			continue;
		put_section(in, &w, &right_file.sections[i], each);
		if ((each & 0xf0) == 0x60)
			put_section(in, &w, &right_file.sections[i], 0x20);
	}
	must(state_encode(&w, &out) == 0);
	state_writer_fini(&w);
	if (how & 128) {
		bytes_damage(in, out.data, &out.len);
		seal_state(out.data, out.len);
	}
	return out;
}

static void put_file(const char *name, const void *data, size_t len)
{
	int fd = file(name);

	must(ftruncate(fd, 0) == 0 && pwrite(fd, data, len, 0) == (ssize_t)len);
	close(fd);
}

static void put_optional(struct bytes *in, const char *name, bool there)
{
	char path[128];
	size_t len;
	const uint8_t *data;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!there) {
		unlink(path);
		return;
	}
	data = bytes_take(in, 100, &len);
	put_file(name, data ? data : (const uint8_t *)"", len);
}

/* As the front has it for its shells. */
static int seal(struct snapshot *s)
{
	struct sealed sealed;
	int ret = s->memory_size <= RAM ? sealed_make(&sealed, s) : -EBADMSG;

	snapshot_close(s);
	if (ret < 0)
		return ret;
	ret = sealed_open(&sealed, "sealed", s);
	must(ret == 0);
	sealed_close(&sealed);
	return 0;
}

static int open_dir(struct bytes *in, struct blob *state, struct snapshot *s)
{
	struct template_facts facts;
	uint8_t how = bytes_u8(in);
	int fd = file("memory"), ret;

	must(ftruncate(fd, how & 1 ? (off_t)(bytes_odd(in) % RAM_MAX) : RAM) == 0);
	close(fd);
	put_file("state", state->data, state->len);
	put_file("config", CONFIG, how & 2 ? bytes_below(in, 4) : strlen(CONFIG));
	put_optional(in, "working-set", how & 4);
	put_optional(in, "template", how & 8);
	blob_fini(state);
	ret = snapshot_open_template(s, &facts, dir);
	if (ret == 0 && how & 16)
		snapshot_verify(s);
	return ret == 0 && how & 32 ? seal(s) : ret;
}

static int open_memory(struct blob *state, struct snapshot *s)
{
	const struct blob none = { 0 };
	int fd = memfd_create("memory", MFD_CLOEXEC);

	must(fd >= 0 && ftruncate(fd, RAM) == 0);
	return snapshot_adopt(s, "fuzz", state, &none, fd);
}

/* --- A machine of it --- */

static void use_devices(struct machine *m, struct bytes *in)
{
	static const uint16_t ports[] = { LAYOUT_PORT_KEYBOARD,       LAYOUT_PORT_DEBUG_EXIT,
					  LAYOUT_PORT_DEBUG_EXIT + 1, LAYOUT_PORT_PARK,
					  LAYOUT_PORT_POWER,          LAYOUT_PORT_POWER + 1,
					  LAYOUT_PORT_POWER + 2 };

	for (unsigned i = 0; i < 16 && in->left; i++) {
		uint8_t how = bytes_u8(in), at = bytes_u8(in);
		uint64_t value = bytes_u8(in);
		uint64_t slot = LAYOUT_VIRTIO_MMIO + (how >> 6 & 1) * LAYOUT_VIRTIO_STRIDE;

		if (how & 1)
			bus_io(&m->vm.mmio, slot + at, &value, 4, how & 2);
		else if (how & 4)
			bus_io(&m->vm.mmio, LAYOUT_IOAPIC + (at & 0x10), &value, 4, how & 2);
		else if (how & 8)
			bus_io(&m->vm.pio, LAYOUT_PORT_SERIAL + (at & 7), &value, 1, how & 2);
		else
			bus_io(&m->vm.pio, ports[at % 7], &value, 1u << (how >> 4 & 3), how & 2);
	}
	vm_poll(&m->vm);
	devices_press(&m->devices);
}

/* What runs now is saved, and is a state that is read. */
static void save(struct machine *m)
{
	const struct snapshot_config config = snapshot_config_of(CONFIG, strlen(CONFIG));
	int state = memfd_create("state", MFD_CLOEXEC), ram = memfd_create("ram", MFD_CLOEXEC);
	struct state_file parsed;
	struct stat st;
	uint8_t *data;

	must(state >= 0 && ram >= 0);
	must(snapshot_save(&m->vm, &m->devices, &config, state, ram) == 0);
	must(fstat(state, &st) == 0);
	data = malloc((size_t)st.st_size);
	must(data && pread(state, data, (size_t)st.st_size, 0) == st.st_size);
	must(state_parse(&parsed, "again", data, (size_t)st.st_size) == 0);
	free(data);
	close(state);
	close(ram);
}

/* Whether its guest may be given to another tenant, or anew to the same. */
static void check_whole(const struct snapshot *s, const struct vcpu *vcpu)
{
	const struct state_section *section = state_find(&s->state, "vcpu", 0);

	if (section && vcpu_check_whole(section->data, section->len) == 0)
		vcpu_check_whole_here(vcpu, section->data, section->len);
}

static void run(struct snapshot *s, struct bytes *in)
{
	static struct machine m;
	struct device_list list;
	struct memory memory;
	uint8_t how = bytes_u8(in);

	if (snapshot_devices(s, &list) < 0)
		return;
	must(s->memory_size <= RAM_MAX && s->vcpu_count <= VM_VCPUS_MAX);
	must(snapshot_map_memory(s, &memory) == 0);
	vm_fake_create(&m.vm, &memory, s->vcpu_count);
	kvm_refused_msr = how & 1 ? 0x277 : 0;
	if (how & 16)
		working_set_populate(&s->working_set, &m.vm.memory);
	if (how & 32)
		check_whole(s, &m.vm.vcpus[0]);
	if (machine_devices(&m, &list) && snapshot_load(s, &m.vm, &m.devices) == 0) {
		channel_restored(m.channel, how & 2 ? (const uint8_t *)"0123456789abcdef" : NULL);
		must(devices_start(&m.devices) == 0);
		use_devices(&m, in);
		devices_stop(&m.devices);
		if (how & 4)
			save(&m);
		if (how & 8) {
			snapshot_keeps_time(s);
			must(snapshot_reload(s, &m.vm, &m.devices) == 0);
			must(snapshot_load_time(s, &m.vm) == 0);
		}
	}
	device_list_fini(&list);
	machine_end(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	struct snapshot s;
	struct blob state;
	uint8_t how = bytes_u8(&in);

	kvm_refused_msr = 0;
	if (!right.data)
		make_right();
	state = make_state(&in);
	if ((how & 3 ? open_memory(&state, &s) : open_dir(&in, &state, &s)) < 0)
		return 0;
	run(&s, &in);
	snapshot_close(&s);
	return 0;
}
