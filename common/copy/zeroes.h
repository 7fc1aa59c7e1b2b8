/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether bytes are all zero. Pure. */
#ifndef COMMON_COPY_ZEROES_H
#define COMMON_COPY_ZEROES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool all_zeroes(const uint8_t *bytes, size_t length);

#endif
