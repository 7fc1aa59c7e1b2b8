/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/zeroes.h"

#include <string.h>

/* Data seldom begin with so many zeroes, and these are looked at without a call. */
#define HEAD 16

bool all_zeroes(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length && i < HEAD; i++) {
        if (bytes[i])
            return false;
    }
    /* The head is zero. All is, if each byte is as the one HEAD before it. */
    return length <= HEAD || memcmp(bytes, bytes + HEAD, length - HEAD) == 0;
}
