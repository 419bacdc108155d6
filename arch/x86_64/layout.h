/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical memory map and port map of the x86_64 machine; these numbers
 * stand nowhere else. Those marked (snapshot) are part of every snapshot: moving
 * one breaks restore and means a new machine version.
 *
 *   0x0000_0000  RAM: 0x500 boot GDT, 0x6000 start info / 0x7000 zero page,
 *                0x9000.. boot page tables, 0x20000 command line
 *   0x000a_0000  reserved to 1 MiB: identity region at 0xd0000, ACPI tables at 0xe0000,
 *                reset vector at 0xffff0
 *   0x0010_0000  RAM: kernel, initrd below the end of low RAM
 *   0xc000_0000  end of low RAM; nothing up to
 *   0xd000_0000  virtio-mmio, a page per slot
 *   0xfec0_0000  I/O APIC, 0xfee0_0000 local APIC, 0xfffb_c000 KVM's private pages (Intel)
 *   0x1_0000_0000 the rest of RAM
 */
#ifndef VIRGA_ARCH_X86_64_LAYOUT_H
#define VIRGA_ARCH_X86_64_LAYOUT_H

#define LAYOUT_PAGE_SIZE           4096u

/* Boot-time structures in conventional memory. */
#define LAYOUT_STUB                0x1000u /* a page for vcpu_run_stub(), before there is a guest */
#define LAYOUT_BOOT_GDT            0x500u
#define LAYOUT_PVH_INFO            0x6000u /* hvm_start_info, module list, memory map: one page */
#define LAYOUT_ZERO_PAGE           0x7000u
#define LAYOUT_BOOT_PML4           0x9000u /* PML4, PDPT, four PDs: six pages, 4 GiB identity */
#define LAYOUT_BOOT_STACK          0x8ff0u
#define LAYOUT_CMDLINE             0x20000u
#define LAYOUT_CMDLINE_MAX         0x10000u /* bytes with the final NUL; a kernel may take less */
#define LAYOUT_LOW_RAM_END         0xa0000u /* conventional memory ends here in the memory map */

/* E820-reserved up to 1 MiB. */
#define LAYOUT_IDENTITY            0xd0000u /* (snapshot) 64 KiB, boot/identity.h */
#define LAYOUT_IDENTITY_SIZE       0x10000u
#define LAYOUT_ACPI                0xe0000u /* (snapshot) RSDP first, then the tables */
#define LAYOUT_ACPI_SIZE           0x1f000u
#define LAYOUT_RESET_VECTOR        0xffff0u /* (snapshot) where a PC's firmware starts: 16 bytes */

#define LAYOUT_HIGH_RAM            0x100000u
#define LAYOUT_HOLE_START          0xc0000000ull /* (snapshot) low RAM ends here at the latest */
#define LAYOUT_HOLE_END            0x100000000ull

#define LAYOUT_VIRTIO_MMIO         0xd0000000u /* (snapshot) slot i at + i * LAYOUT_VIRTIO_STRIDE */
#define LAYOUT_VIRTIO_STRIDE       0x1000u
#define LAYOUT_VIRTIO_WINDOW       0x200000u /* nothing else lies so far from there on */
#define LAYOUT_VIRTIO_SIZE         0x200u
#define LAYOUT_VIRTIO_SLOTS        32u
#define LAYOUT_VIRTIO_GSI          16u /* (snapshot) slot i interrupts on pin 16 + i */

#define LAYOUT_IOAPIC              0xfec00000u
#define LAYOUT_LAPIC               0xfee00000u
#define LAYOUT_KVM_IDENTITY        0xfffbc000u /* KVM_SET_IDENTITY_MAP_ADDR */
#define LAYOUT_KVM_TSS             0xfffbd000u /* KVM_SET_TSS_ADDR, three pages */

/* Ports. (snapshot) */
#define LAYOUT_PORT_KEYBOARD       0x64u
#define LAYOUT_PORT_DEBUG_EXIT     0xf4u
#define LAYOUT_PORT_PARK           0xf8u
#define LAYOUT_PORT_SERIAL         0x3f8u
#define LAYOUT_PORT_POWER          0x600u /* ACPI sleep control, sleep status, reset: one byte each */
#define LAYOUT_SERIAL_GSI          4u
#define LAYOUT_POWER_GSI           9u /* the power button */

/* What lies at LAYOUT_PORT_POWER: offsets, and the values that do something. */
#define LAYOUT_POWER_SLEEP_CONTROL 0u
#define LAYOUT_POWER_SLEEP_STATUS  1u
#define LAYOUT_POWER_RESET         2u
#define LAYOUT_POWER_SLEEP_TYPE_S5 5u
#define LAYOUT_POWER_RESET_VALUE   1u

#endif
