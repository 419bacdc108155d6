/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clang-tidy cannot see by itself, put before each file it reads: failf() returns a negative
 * number, so that the path after a failure is not taken for the one after success.
 */
#include "arch/base/error.h"

#define failf(err, ...) (failf((err), __VA_ARGS__), -22)
