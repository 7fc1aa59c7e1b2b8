/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"

bool cursor_bytes(struct cursor *c, size_t length, const uint8_t **bytes)
{
    if (length > cursor_left(c))
        return false;
    *bytes = c->at;
    c->at += length;
    return true;
}

bool cursor_u16(struct cursor *c, uint16_t *value)
{
    const uint8_t *p;
    if (!cursor_bytes(c, sizeof *value, &p))
        return false;
    *value = load_be16(p);
    return true;
}

bool cursor_u32(struct cursor *c, uint32_t *value)
{
    const uint8_t *p;
    if (!cursor_bytes(c, sizeof *value, &p))
        return false;
    *value = load_be32(p);
    return true;
}

bool cursor_u64(struct cursor *c, uint64_t *value)
{
    const uint8_t *p;
    if (!cursor_bytes(c, sizeof *value, &p))
        return false;
    *value = load_be64(p);
    return true;
}
