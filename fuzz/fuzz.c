/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz/fuzz.h"

#include "common/base/cursor.h"
#include "common/util/log.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    log_set_target(LOG_TO_NULL); /* most inputs are wrong, and would say so */
    return 0;
}

void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: %s: does not hold: %s\n", file, line, fuzz_name, condition);
    abort();
}

const uint8_t *take_bytes(struct supply *s, size_t length, size_t *got)
{
    const uint8_t *at = s->at;

    *got = MIN(length, supply_left(s));
    s->at += *got;
    return at;
}

/* `length` bytes, 8 at most, as a big-endian number. */
static uint64_t take_number(struct supply *s, size_t length)
{
    uint8_t bytes[8] = {0};
    size_t got;
    const uint8_t *from = take_bytes(s, length, &got);

    if (got > 0)
        memcpy(bytes + sizeof bytes - length, from, got);
    return load_be64(bytes);
}

uint8_t take_u8(struct supply *s)
{
    return (uint8_t)take_number(s, 1);
}

uint16_t take_u16(struct supply *s)
{
    return (uint16_t)take_number(s, 2);
}

uint32_t take_u32(struct supply *s)
{
    return (uint32_t)take_number(s, 4);
}

uint64_t take_u64(struct supply *s)
{
    return take_number(s, 8);
}

char *take_rest(struct supply *s)
{
    size_t got;
    const uint8_t *bytes = take_bytes(s, supply_left(s), &got);

    return got > 0 ? g_strndup((const char *)bytes, got) : g_strdup("");
}
