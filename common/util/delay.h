/* SPDX-License-Identifier: BSD-3-Clause */
/* A length of time as people write it, by nbdkit's grammar: "10", "1.5", "1.5s", "250ms", "8us",
 * "8μs", "8ns". Without a unit it is in seconds. */
#ifndef COMMON_UTIL_DELAY_H
#define COMMON_UTIL_DELAY_H

#include <stdbool.h>
#include <stdint.h>

/* Read the number at the beginning of `text`, as the C locale has it; *end is behind it. False:
 * there is none, or it is negative, infinite or hexadecimal. */
bool decimal_parse(const char *text, double *value, const char **end);

/* *ns is rounded, and less than 2^31 seconds. False: `text` is no such time, and *ns is untouched.
 */
bool delay_parse(const char *text, uint64_t *ns);

#endif
