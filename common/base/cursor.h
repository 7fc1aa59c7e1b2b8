/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading untrusted bytes: a cursor never leaves its buffer, whatever the lengths in it claim.
 * Each cursor_* call takes its item whole and returns true, or returns false and moves nothing.
 * Nothing is copied: what is returned points into the buffer.
 */
#ifndef COMMON_BASE_CURSOR_H
#define COMMON_BASE_CURSOR_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
    const uint8_t *at, *end;
};

static inline struct cursor cursor_on(const void *buf, size_t length)
{
    const uint8_t *at = buf;
    return (struct cursor){at, length > 0 ? at + length : at};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

bool cursor_u16(struct cursor *c, uint16_t *value);
bool cursor_u32(struct cursor *c, uint32_t *value);
bool cursor_u64(struct cursor *c, uint64_t *value);
bool cursor_bytes(struct cursor *c, size_t length, const uint8_t **bytes);

static inline uint16_t load_be16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return be16toh(v);
}

static inline uint32_t load_be32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static inline uint64_t load_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

static inline void store_be16(void *p, uint16_t v)
{
    v = htobe16(v);
    memcpy(p, &v, sizeof v);
}

static inline void store_be32(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}

static inline void store_be64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

#endif
