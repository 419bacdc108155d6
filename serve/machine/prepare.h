/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shell can have ready before there is a request, or even a function.
 */
#ifndef VIRGA_SERVE_MACHINE_PREPARE_H
#define VIRGA_SERVE_MACHINE_PREPARE_H

#include "boot/snapshot/snapshot.h"

/*
 * What costs time once and does not depend on the template: CPUID, and a vCPU's first entry. shape's
 * state stays as long as the vCPUs. 0 or -errno with a sentence.
 */
int prepare_vcpus(struct vm *vm, const struct snapshot *shape);

/*
 * For a shell that has the shape of some function's template and is perhaps given to another function:
 * nothing of that template's content stays but the CPUID, which its vCPUs refer to. 0 or -errno with a sentence.
 */
int prepare_strip(struct snapshot *shape);

#endif
