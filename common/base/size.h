/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes as people write and read them. */
#ifndef COMMON_BASE_SIZE_H
#define COMMON_BASE_SIZE_H

#include <stdint.h>

/* "10M" and the like into bytes: nbdkit's grammar (nbdkit_parse_size(3)): a decimal number and one
 * optional suffix of b k m g t p e (times 1024, either case), or s for 512. 0, or -EINVAL (not a
 * size) or -ERANGE (negative or above INT64_MAX); *size is untouched on error. */
int size_parse(const char *text, int64_t *size);

/* Bytes for people: "0", "512", "4 KiB", "1.5 GiB". At most 16 bytes with the NUL, in `buf`. */
const char *size_format(uint64_t bytes, char buf[16]);

/* The same with 0, 1 or 2 digits after the point: "1.25 GiB". There is no point if they are all
 * 0. */
const char *size_format_digits(uint64_t bytes, unsigned digits, char buf[16]);

#endif
