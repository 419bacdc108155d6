/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of a hardware-reduced machine (ACPI 6.4, chapter 5): RSDP at
 * LAYOUT_ACPI, behind it DSDT, FADT, MADT and XSDT. They say what is there (vCPUs, I/O
 * APIC, and the devices, which describe themselves) and what no guest should search for.
 */
#include <errno.h>
#include <string.h>

#include "arch/base/aml.h"
#include "arch/base/error.h"
#include "arch/layout.h"
#include "boot/boot.h"

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

/* Generic address structure. */
struct acpi_register {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} __attribute__((packed));

/* Fields of the fixed hardware, which a hardware-reduced machine leaves zero, are unnamed. */
struct acpi_fadt {
	struct acpi_header header;
	uint32_t facs;
	uint32_t dsdt;
	uint8_t fixed0[109 - 44];
	uint16_t iapc_boot_arch;
	uint8_t reserved0;
	uint32_t flags;
	struct acpi_register reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_facs;
	uint64_t x_dsdt;
	uint8_t fixed1[244 - 148];
	struct acpi_register sleep_control;
	struct acpi_register sleep_status;
	uint64_t hypervisor_id;
} __attribute__((packed));

struct acpi_madt {
	struct acpi_header header;
	uint32_t lapic;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_lapic {
	uint8_t type;
	uint8_t length;
	uint8_t uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_ioapic {
	uint8_t type;
	uint8_t length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
} __attribute__((packed));

struct acpi_madt_lapic_nmi {
	uint8_t type;
	uint8_t length;
	uint8_t uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct acpi_xsdt {
	struct acpi_header header;
	uint64_t tables[2];
} __attribute__((packed));

_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");
_Static_assert(sizeof(struct acpi_header) == 36, "table header");
_Static_assert(offsetof(struct acpi_fadt, flags) == 112, "FADT flags");
_Static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "FADT X_DSDT");
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT, revision 6");

#define ACPI_FADT_REVISION       6u
#define ACPI_FADT_MINOR          4u
#define ACPI_MADT_REVISION       5u
#define ACPI_DSDT_REVISION       2u
#define ACPI_XSDT_REVISION       1u

/* IAPC_BOOT_ARCH. A guest that is not told looks for a clock for seconds. */
#define ACPI_BOOT_NO_VGA         0x04u
#define ACPI_BOOT_NO_CMOS_RTC    0x20u

#define ACPI_FADT_WBINVD         (1u << 0)
#define ACPI_FADT_NO_POWER_KEY   (1u << 4)
#define ACPI_FADT_NO_SLEEP_KEY   (1u << 5)
#define ACPI_FADT_RESET_REGISTER (1u << 10)
#define ACPI_FADT_HW_REDUCED     (1u << 20)

#define ACPI_SPACE_IO            1u
#define ACPI_ACCESS_BYTE         1u

#define ACPI_MADT_LAPIC          0u
#define ACPI_MADT_IOAPIC         1u
#define ACPI_MADT_LAPIC_NMI      4u
#define ACPI_LAPIC_ENABLED       1u
#define ACPI_ALL_PROCESSORS      0xffu
#define ACPI_PROCESSORS_MAX      255u /* APIC ids of eight bits; 255 is broadcast */

#define ACPI_TABLE_ALIGN         16u

static uint8_t acpi_checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static struct acpi_header acpi_header(const char signature[4], uint8_t revision)
{
	struct acpi_header h = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, "VIRGA ", sizeof(h.oem_id));
	memcpy(h.oem_table_id, "VIRGA   ", sizeof(h.oem_table_id));
	memcpy(h.creator_id, "VIRG", sizeof(h.creator_id));
	return h;
}

/* Where the next table starts, in a and in the guest. */
static size_t acpi_start_table(struct aml *a)
{
	static const uint8_t zeros[ACPI_TABLE_ALIGN];

	aml_bytes(a, zeros, (0 - a->len) % ACPI_TABLE_ALIGN);
	return a->len;
}

/* Fills in length and checksum; returns the table's guest-physical address. */
static uint64_t acpi_end_table(struct aml *a, size_t start)
{
	struct acpi_header h;

	if (!a->full) {
		memcpy(&h, a->data + start, sizeof(h));
		h.length = (uint32_t)(a->len - start);
		memcpy(a->data + start, &h, sizeof(h));
		h.checksum = acpi_checksum(a->data + start, h.length);
		memcpy(a->data + start, &h, sizeof(h));
	}
	return LAYOUT_ACPI + start;
}

static uint64_t acpi_add_dsdt(struct aml *a, const struct boot_source *source)
{
	struct acpi_header header = acpi_header("DSDT", ACPI_DSDT_REVISION);
	size_t start = acpi_start_table(a);
	size_t scope;

	aml_bytes(a, &header, sizeof(header));
	scope = aml_open_scope(a, "\\_SB_");
	if (source->devices)
		devices_describe(source->devices, a);
	aml_close(a, scope);
	return acpi_end_table(a, start);
}

static struct acpi_register acpi_port(uint16_t port)
{
	return (struct acpi_register){
		.space = ACPI_SPACE_IO,
		.bit_width = 8,
		.access_size = ACPI_ACCESS_BYTE,
		.address = port,
	};
}

/* All registers of a hardware-reduced machine are optional: without the device there are none. */
static uint64_t acpi_add_fadt(struct aml *a, uint64_t dsdt, const struct device_power *power)
{
	struct acpi_fadt fadt = {
		.header = acpi_header("FACP", ACPI_FADT_REVISION),
		.dsdt = (uint32_t)dsdt,
		.iapc_boot_arch = ACPI_BOOT_NO_VGA | ACPI_BOOT_NO_CMOS_RTC,
		.flags = ACPI_FADT_WBINVD | ACPI_FADT_NO_POWER_KEY | ACPI_FADT_NO_SLEEP_KEY |
			 ACPI_FADT_HW_REDUCED,
		.minor_version = ACPI_FADT_MINOR,
		.x_dsdt = dsdt,
	};
	size_t start = acpi_start_table(a);

	if (power) {
		fadt.flags |= ACPI_FADT_RESET_REGISTER;
		fadt.reset = acpi_port(power->reset);
		fadt.reset_value = power->reset_value;
		fadt.sleep_control = acpi_port(power->sleep_control);
		fadt.sleep_status = acpi_port(power->sleep_status);
	}
	memcpy(&fadt.hypervisor_id, "virga\0\0", sizeof(fadt.hypervisor_id));
	aml_bytes(a, &fadt, sizeof(fadt));
	return acpi_end_table(a, start);
}

/* Without PCAT_COMPAT and source overrides: there are no 8259s, and pin n of the I/O APIC is GSI n. */
static uint64_t acpi_add_madt(struct aml *a, unsigned vcpu_count)
{
	const struct acpi_madt madt = {
		.header = acpi_header("APIC", ACPI_MADT_REVISION),
		.lapic = LAYOUT_LAPIC,
	};
	const struct acpi_madt_ioapic ioapic = {
		.type = ACPI_MADT_IOAPIC,
		.length = sizeof(ioapic),
		.address = LAYOUT_IOAPIC,
	};
	const struct acpi_madt_lapic_nmi nmi = {
		.type = ACPI_MADT_LAPIC_NMI,
		.length = sizeof(nmi),
		.uid = ACPI_ALL_PROCESSORS,
		.lint = 1,
	};
	size_t start = acpi_start_table(a);

	aml_bytes(a, &madt, sizeof(madt));
	for (unsigned i = 0; i < vcpu_count; i++) {
		const struct acpi_madt_lapic lapic = {
			.type = ACPI_MADT_LAPIC,
			.length = sizeof(lapic),
			.uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = ACPI_LAPIC_ENABLED,
		};

		aml_bytes(a, &lapic, sizeof(lapic));
	}
	aml_bytes(a, &ioapic, sizeof(ioapic));
	aml_bytes(a, &nmi, sizeof(nmi));
	return acpi_end_table(a, start);
}

static uint64_t acpi_add_xsdt(struct aml *a, uint64_t fadt, uint64_t madt)
{
	const struct acpi_xsdt xsdt = {
		.header = acpi_header("XSDT", ACPI_XSDT_REVISION),
		.tables = { fadt, madt },
	};
	size_t start = acpi_start_table(a);

	aml_bytes(a, &xsdt, sizeof(xsdt));
	return acpi_end_table(a, start);
}

static void acpi_fill_rsdp(struct acpi_rsdp *rsdp, uint64_t xsdt)
{
	*rsdp = (struct acpi_rsdp){ .revision = 2, .length = sizeof(*rsdp), .xsdt = xsdt };
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, "VIRGA ", sizeof(rsdp->oem_id));
	rsdp->checksum = acpi_checksum(rsdp, offsetof(struct acpi_rsdp, length));
	rsdp->extended_checksum = acpi_checksum(rsdp, sizeof(*rsdp));
}

int acpi_write(const struct memory *memory, const struct boot_source *source)
{
	struct aml a = { .max = LAYOUT_ACPI_SIZE, .len = sizeof(struct acpi_rsdp) };
	uint64_t dsdt, fadt, madt, xsdt;

	if (source->vcpu_count > ACPI_PROCESSORS_MAX)
		return failf(EINVAL, "%u vCPUs: the ACPI tables hold %u", source->vcpu_count,
			     ACPI_PROCESSORS_MAX);
	a.data = memory_at(memory, LAYOUT_ACPI, LAYOUT_ACPI_SIZE);
	if (!a.data)
		return failf(ENOMEM, "guest memory ends below the ACPI tables at 0x%x",
			     LAYOUT_ACPI);
	dsdt = acpi_add_dsdt(&a, source);
	fadt = acpi_add_fadt(&a, dsdt, devices_power(source->devices));
	madt = acpi_add_madt(&a, source->vcpu_count);
	xsdt = acpi_add_xsdt(&a, fadt, madt);
	if (a.full)
		return failf(ENOSPC, "the ACPI tables need more than %u KiB",
			     LAYOUT_ACPI_SIZE / 1024);
	acpi_fill_rsdp((struct acpi_rsdp *)a.data, xsdt);
	return 0;
}
