/* SPDX-License-Identifier: BSD-3-Clause */
/* What one JSON value may cost, and how exact its numbers must be. */
#ifndef COMMON_JSON_LIMITS_H
#define COMMON_JSON_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

/* A value that exceeds a limit is refused with QEMU's words. */
struct json_limits {
    size_t bytes;   /* without white space between tokens */
    size_t tokens;  /* strings, numbers, words and each of {}[]:, */
    unsigned depth; /* objects and arrays inside each other */

    /* Refuse an integer outside of int64, and a number too large for a double. Without it, as QEMU
     * has it, they are read as floating point and as infinity. */
    bool exact;
};

#endif
