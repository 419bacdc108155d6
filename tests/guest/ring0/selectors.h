/* SPDX-License-Identifier: Apache-2.0 */
/* Of the GDT in guest/builtin/boot.S. */
#ifndef VIRGA_TESTS_GUEST_RING0_SELECTORS_H
#define VIRGA_TESTS_GUEST_RING0_SELECTORS_H

#define SELECTOR_CODE0 0x08
#define SELECTOR_DATA3 0x23
#define SELECTOR_CODE3 0x2b

#endif
