/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent does as process 1 of an initramfs, and what it reads from the kernel.
 */
#ifndef VIRGA_GUEST_AGENT_INIT_H
#define VIRGA_GUEST_AGENT_INIT_H

#include <stddef.h>
#include <stdint.h>

/* Mounts /proc, /sys and /dev unless they are, opens a console, loads /virga/modules. */
void init_machine(void);

/* Powers the machine off. Process 1 only. */
void init_power_off(void) __attribute__((noreturn));

/* The value of `key=VALUE` on the kernel command line, or NULL. The caller frees it. */
char *init_option(const char *key);

/* Mixes bytes into the kernel's random pool and reseeds it at once; does nothing if not allowed. */
void init_reseed(const void *data, size_t len);

#endif
