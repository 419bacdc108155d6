/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums made right again after damage: what they guard is then reached by a fuzzer too, as by
 * somebody who writes such files on purpose.
 */
#ifndef VIRGA_TESTS_FUZZ_SEAL_H
#define VIRGA_TESTS_FUZZ_SEAL_H

#include <stddef.h>
#include <stdint.h>

/*
 * The file `state` (docs/snapshot.md): its length in the header, the sums of sections that lie in
 * the file, of table, header and whole file, as far as it has them.
 */
void seal_state(uint8_t *data, size_t len);

#endif
