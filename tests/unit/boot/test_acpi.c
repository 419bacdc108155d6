/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables as a guest finds them, from the RSDP on. `test_acpi dump DIR` writes each
 * table to a file, for a disassembler (tests/system/test_acpi.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/base/aml.h"
#include "arch/base/error.h"
#include "arch/layout.h"
#include "boot/boot.h"
#include "devices/virtio/device.h"

#define MEMORY_SIZE (4u << 20)

static struct memory memory;

/* A power button, a serial port, and a virtio device in every slot. */
extern const struct device_class serial_class, power_class;
static const struct device_class virtio_any = { .name = "any", .describe = virtio_device_describe };
static struct virtio_device cores[LAYOUT_VIRTIO_SLOTS];
static struct device all[2 + LAYOUT_VIRTIO_SLOTS];
static const struct devices every = { .count = 2 + LAYOUT_VIRTIO_SLOTS, .list = all };
static const struct boot_source full = { .cmdline = "", .vcpu_count = 3, .devices = &every };

static int setup(void **state)
{
	(void)state;
	all[0].class = &power_class;
	all[1].class = &serial_class;
	for (unsigned i = 0; i < LAYOUT_VIRTIO_SLOTS; i++) {
		cores[i].mmio.slot = i;
		all[2 + i] = (struct device){ .class = &virtio_any, .state = &cores[i] };
	}
	return memory_create(&memory, MEMORY_SIZE);
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(&memory);
	return 0;
}

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;

	while (len--)
		total = (uint8_t)(total + *bytes++);
	return total;
}

static uint64_t number(const uint8_t *at, size_t len)
{
	uint64_t value = 0;

	memcpy(&value, at, len);
	return value;
}

static uint32_t length_of(const uint8_t *table)
{
	return (uint32_t)number(table + 4, 4);
}

/* A table's bytes, after its signature, length, place and checksum have been checked. */
static const uint8_t *table_at(uint64_t gpa, const char *signature)
{
	const uint8_t *table = memory_at(&memory, gpa, 36);

	assert_non_null(table);
	assert_memory_equal(table, signature, 4);
	assert_true(gpa >= LAYOUT_ACPI + 36 && gpa % 16 == 0);
	assert_true(gpa + length_of(table) <= LAYOUT_ACPI + LAYOUT_ACPI_SIZE);
	assert_int_equal(sum(table, length_of(table)), 0);
	return table;
}

static const uint8_t *find_xsdt(void)
{
	const uint8_t *rsdp = memory_at(&memory, LAYOUT_ACPI, 36);

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(number(rsdp + 20, 4), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	return table_at(number(rsdp + 24, 8), "XSDT");
}

static const uint8_t *find_fadt(void)
{
	return table_at(number(find_xsdt() + 36, 8), "FACP");
}

static const uint8_t *find_madt(void)
{
	return table_at(number(find_xsdt() + 44, 8), "APIC");
}

static const uint8_t *find_dsdt(void)
{
	return table_at(number(find_fadt() + 140, 8), "DSDT");
}

static void write_tables(const struct boot_source *source)
{
	if (acpi_write(&memory, source) != 0)
		fail_msg("%s", error_text());
}

static void tables_are_linked(void **state)
{
	(void)state;
	write_tables(&full);
	assert_int_equal(length_of(find_xsdt()), 36 + 2 * 8);
	assert_int_equal(length_of(find_fadt()), 276);
	assert_int_equal(find_fadt()[8], 6);
	assert_int_equal(number(find_fadt() + 40, 4), number(find_fadt() + 140, 8));
	assert_int_equal(find_dsdt()[8], 2);
}

static void tables_do_not_overlap(void **state)
{
	const uint8_t *rsdp, *tables[4];

	(void)state;
	write_tables(&full);
	rsdp = memory_at(&memory, LAYOUT_ACPI, 36);
	tables[0] = find_dsdt();
	tables[1] = find_fadt();
	tables[2] = find_madt();
	tables[3] = find_xsdt();
	assert_true(tables[0] >= rsdp + 36);
	for (int i = 1; i < 4; i++)
		assert_true(tables[i] >= tables[i - 1] + length_of(tables[i - 1]));
}

/* What is absent is said to be, and what is left is reached by ports that the machine has. */
static void fadt_tells_a_reduced_machine(void **state)
{
	const uint8_t *fadt;
	uint64_t flags;

	(void)state;
	write_tables(&full);
	fadt = find_fadt();
	assert_int_equal(number(fadt + 109, 2), 0x24); /* no VGA, no CMOS RTC; no 8042, no legacy */
	flags = number(fadt + 112, 4);
	assert_true(flags & 1 << 20); /* hardware-reduced */
	assert_true(flags & 1 << 10); /* reset register */
	assert_true(flags & 1 << 0);  /* WBINVD works */
	for (size_t at = 48; at < 109; at++)
		assert_int_equal(fadt[at], 0); /* no fixed hardware */
}

static void check_register(const uint8_t *gas, unsigned port)
{
	assert_int_equal(gas[0], 1); /* system I/O */
	assert_int_equal(gas[1], 8);
	assert_int_equal(gas[2], 0);
	assert_int_equal(gas[3], 1); /* byte access */
	assert_int_equal(number(gas + 4, 8), port);
}

static void fadt_power_registers(void **state)
{
	(void)state;
	write_tables(&full);
	check_register(find_fadt() + 244, LAYOUT_PORT_POWER + LAYOUT_POWER_SLEEP_CONTROL);
	check_register(find_fadt() + 256, LAYOUT_PORT_POWER + LAYOUT_POWER_SLEEP_STATUS);
	check_register(find_fadt() + 116, LAYOUT_PORT_POWER + LAYOUT_POWER_RESET);
	assert_int_equal(find_fadt()[128], LAYOUT_POWER_RESET_VALUE);
}

/* A machine without the device is not told of any register. */
static void fadt_without_power(void **state)
{
	const struct devices serial = { .count = 1, .list = all + 1 };
	struct boot_source source = full;
	const uint8_t *fadt;

	(void)state;
	source.devices = &serial;
	write_tables(&source);
	fadt = find_fadt();
	assert_int_equal(number(fadt + 112, 4) & 1 << 10, 0);
	assert_true(number(fadt + 112, 4) & 1 << 20);
	for (size_t at = 116; at < 129; at++)
		assert_int_equal(fadt[at], 0);
	for (size_t at = 244; at < 268; at++)
		assert_int_equal(fadt[at], 0);
}

static void madt_of(unsigned vcpu_count)
{
	struct boot_source source = full;
	unsigned count[256] = { 0 };
	const uint8_t *madt;

	source.vcpu_count = vcpu_count;
	write_tables(&source);
	madt = find_madt();
	assert_int_equal(number(madt + 36, 4), LAYOUT_LAPIC);
	assert_int_equal(number(madt + 40, 4), 0); /* PCAT_COMPAT clear: no 8259s */
	for (uint32_t at = 44; at < length_of(madt); at += madt[at + 1]) {
		const uint8_t *entry = madt + at;

		assert_true(entry[1] >= 6 && at + entry[1] <= length_of(madt));
		if (entry[0] == 0) { /* local APIC: uid and id count up, enabled */
			assert_int_equal(entry[2], count[0]);
			assert_int_equal(entry[3], count[0]);
			assert_int_equal(number(entry + 4, 4), 1);
		} else if (entry[0] == 1) { /* I/O APIC */
			assert_int_equal(number(entry + 4, 4), LAYOUT_IOAPIC);
			assert_int_equal(number(entry + 8, 4), 0);
		} else { /* LINT1 is NMI on all */
			assert_int_equal(entry[0], 4);
			assert_memory_equal(entry + 2, ((uint8_t[]){ 0xff, 0, 0, 1 }), 4);
		}
		count[entry[0]]++;
	}
	assert_int_equal(count[0], vcpu_count);
	assert_int_equal(count[1], 1);
	assert_int_equal(count[4], 1);
}

static void madt_names_each_vcpu(void **state)
{
	(void)state;
	madt_of(1);
	madt_of(2);
	madt_of(16);
	madt_of(255);
}

static unsigned count_bytes(const uint8_t *table, const char *bytes, size_t len)
{
	unsigned found = 0;

	for (uint32_t at = 36; at + len <= length_of(table); at++)
		found += memcmp(table + at, bytes, len) == 0;
	return found;
}

static void dsdt_devices(void **state)
{
	struct boot_source source = full;
	const uint8_t *dsdt;

	(void)state;
	for (unsigned slots = 0; slots <= LAYOUT_VIRTIO_SLOTS; slots++) {
		const unsigned serial = slots & 1;
		const struct devices some = { .count = serial + slots, .list = all + 2 - serial };

		source.devices = &some;
		write_tables(&source);
		dsdt = find_dsdt();
		assert_int_equal(count_bytes(dsdt, "LNRO0005", 9), slots);
		assert_int_equal(count_bytes(dsdt, "\x41\xd0\x05\x01", 4), serial);
		assert_int_equal(count_bytes(dsdt, "_S5_", 4), 0);
		assert_int_equal(count_bytes(dsdt, "ACPI0013", 9), 0);
	}
	write_tables(&full);
	assert_int_equal(count_bytes(find_dsdt(), "ACPI0013", 9), 1);
	assert_int_equal(count_bytes(find_dsdt(), "\\_S5_", 5), 1);
}

static void too_many(void **state)
{
	struct boot_source source = full;

	(void)state;
	source.vcpu_count = 256;
	assert_int_equal(acpi_write(&memory, &source), -EINVAL);
	assert_string_equal(error_text(), "256 vCPUs: the ACPI tables hold 255");
}

static void no_room(void **state)
{
	struct memory small;

	(void)state;
	assert_int_equal(memory_create(&small, LAYOUT_ACPI), 0);
	assert_int_equal(acpi_write(&small, &full), -ENOMEM);
	memory_destroy(&small);
}

/* A buffer of any size too small is not overrun, and the writer says so. */
static void aml_in_a_small_buffer(void **state)
{
	uint8_t buffer[64];

	(void)state;
	for (size_t max = 0; max < 40; max++) {
		struct aml a = { .data = buffer, .max = max };
		size_t device, resources;

		memset(buffer, 0xee, sizeof(buffer));
		device = aml_open_device(&a, "TEST");
		aml_name(&a, "_CRS");
		resources = aml_open_resources(&a);
		aml_memory32_fixed(&a, 0xd0000000, 0x200);
		aml_interrupt_edge(&a, 16);
		aml_close_resources(&a, resources);
		aml_close(&a, device);
		assert_int_equal(a.full, max < 8 + 5 + 6 + 12 + 9 + 2);
		for (size_t i = max; i < sizeof(buffer); i++)
			assert_int_equal(buffer[i], 0xee);
	}
}

static void aml_encodings(void **state)
{
	static const uint8_t expected[] = {
		0x00, 0x01, 0x0a, 2,    0x0a, 0xff, 0x0c, 0, 1, 0, 0, /* integers */
		0x0c, 0x41, 0xd0, 0x05, 0x01,                         /* PNP0501 */
		0x0d, 'a',  0,                                        /* string */
		0x12, 0x46, 0x00, 2,    0x0a, 5,    0x00,             /* package */
	};
	uint8_t buffer[64];
	struct aml a = { .data = buffer, .max = sizeof(buffer) };

	(void)state;
	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 2);
	aml_integer(&a, 255);
	aml_integer(&a, 256);
	aml_eisa_id(&a, "PNP0501");
	aml_string(&a, "a");
	aml_package(&a, (uint32_t[]){ 5, 0 }, 2);
	assert_false(a.full);
	assert_int_equal(a.len, sizeof(expected));
	assert_memory_equal(buffer, expected, sizeof(expected));
}

static void dump_table(const char *dir, const uint8_t *table)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%.4s.dat", dir, (const char *)table);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(table, 1, length_of(table), file), length_of(table));
	assert_int_equal(fclose(file), 0);
}

static const char *dump_dir;

static void dump(void **state)
{
	(void)state;
	write_tables(&full);
	dump_table(dump_dir, find_xsdt());
	dump_table(dump_dir, find_fadt());
	dump_table(dump_dir, find_madt());
	dump_table(dump_dir, find_dsdt());
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest dump_only[] = { CASE(dump) };
	const struct CMUnitTest tests[] = {
		CASE(tables_are_linked),
		CASE(tables_do_not_overlap),
		CASE(fadt_tells_a_reduced_machine),
		CASE(fadt_power_registers),
		CASE(fadt_without_power),
		CASE(madt_names_each_vcpu),
		CASE(dsdt_devices),
		CASE(too_many),
		CASE(no_room),
		CASE(aml_in_a_small_buffer),
		CASE(aml_encodings),
	};

	if (argc == 3 && strcmp(argv[1], "dump") == 0) {
		dump_dir = argv[2];
		return cmocka_run_group_tests_name("acpi dump", dump_only, NULL, NULL);
	}
	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
