/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device under test asks of its machine, counted instead of done. A test that says
 * `wrap: vm_irq vm_irq_want vm_wake vm_poll_add` gets these in their place.
 */
#ifndef VIRGA_TESTS_UNIT_VM_CALLS_H
#define VIRGA_TESTS_UNIT_VM_CALLS_H

#include "arch/vm.h"

/* Set to zero by the test's setup. */
struct vm_calls {
	unsigned edges; /* times that an interrupt line rose */
	unsigned wakes;
	unsigned wanted; /* the pin that a device said it is on */
	unsigned gsi;    /* of the last change of a line, and its level */
	bool level;
};

extern struct vm_calls vm_calls;

#endif
