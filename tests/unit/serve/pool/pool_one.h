/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of one function `f` whose clones are armed (tests/unit/serve/pool/pool_bed.h), and requests of it by
 * number.
 */
#ifndef VIRGA_TESTS_UNIT_POOL_ONE_H
#define VIRGA_TESTS_UNIT_POOL_ONE_H

#include "tests/unit/serve/pool/pool_bed.h"

#define SHELLS   40u
#define REQUESTS 100u

extern struct pool_bed *pool_one;
extern struct function *f;
extern struct request r[REQUESTS];
extern unsigned pool_one_notes; /* calls of notef(), where it is wrapped */

/* Set-up, with SHELLS shells at most and a bare one; tear-down. */
int pool_one_open(void **state);
int pool_one_close(void **state);

/* Until all that is wanted is there. */
void settle(void);

/* Sends request i, which may take 3 s; has its shell answer, and the answer must arrive. */
void begin(unsigned i);
void answer(unsigned i);

/* Has stderr kept. How many lines there were, with those of notef(), and it is as before. */
int notes_begin(void);
unsigned notes_end(int kept);

/* It is as if nothing had been: request i goes the best way. */
void check_well(unsigned i);

#endif
