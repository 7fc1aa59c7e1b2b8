/* SPDX-License-Identifier: BSD-3-Clause */
/* A length of time in words, by nbdkit's grammar: "10", "1.5", "1.5s", "250ms", "8us", "8μs",
 * "8ns". Without a unit it is seconds. */
#ifndef COMMON_UTIL_DELAY_H
#define COMMON_UTIL_DELAY_H

#include <stdbool.h>
#include <stdint.h>

/* A number that is not negative, not infinite and not hexadecimal, in the C locale, at the
 * beginning of `text`; *end: behind it. */
bool decimal_parse(const char *text, double *value, const char **end);

/* *ns is rounded, and less than 2^31 seconds. False: `text` is no such time; *ns is untouched. */
bool delay_parse(const char *text, uint64_t *ns);

#endif
