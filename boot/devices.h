/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices a machine that is booted has: those that the configuration names beside the usual
 * ones, or in their place.
 */
#ifndef VIRGA_BOOT_DEVICES_H
#define VIRGA_BOOT_DEVICES_H

#include "boot/boot.h"
#include "boot/config.h"
#include "devices/device.h"

/*
 * The devices of a machine of that configuration, in their order: the list is to be freed. kernel is
 * the configuration's: a Linux gets some more, at the end; NULL: without those, of which nobody has
 * said anything that a supervisor could answer by. 0 or -errno with a sentence.
 */
int boot_devices(const struct config *config, const struct image *kernel, struct device_list *list);

/*
 * Says of the devices of a machine that goes on from a snapshot what the configuration says of them.
 * 0, -EINVAL with a sentence when it speaks of one that the machine has not; -ENOMEM.
 */
int boot_devices_match(const struct config *config, struct device_list *list);

/*
 * Whether this build has what the function channel runs over, and what an embedded guest needs besides;
 * who is for the sentence, which has all words that DEVICES lacks. 0 or -ENODEV.
 */
int boot_devices_channel(const char *who, bool embedded);

#endif
