/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies where in a PC's memory before the guest runs: the memory map that every boot protocol
 * tells, and the few bytes of firmware that a guest may jump to.
 */
#include "arch/x86_64/layout.h"
#include "boot/boot.h"
