/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Extents of a BLOCK_STATUS reply: extents_add, status_align, extents_truncate against a picture of
 * the same range, a byte of flags for each of its bytes.
 *
 * Input: the block size, how the flags of a block are combined (any or all), where to cut; then
 * pairs of length and flags.
 */
#include "fuzz/fuzz.h"

#include "common/base/extents.h"
#include "server/nbd/status.h"

#include <glib.h>
#include <string.h>

const char fuzz_name[] = "extents";

#define PICTURE 16384u

struct picture {
    uint8_t flags[PICTURE];
    size_t length;
};

/* The list says what the picture does, its sum is right, and neighbours differ. */
static void check_same(const struct extents *e, const struct picture *p)
{
    size_t at = 0;

    CHECK(e->total == p->length);
    for (size_t i = 0; i < e->count; i++) {
        CHECK(e->list[i].length > 0 && e->list[i].length <= p->length - at);
        CHECK(i == 0 || e->list[i].flags != e->list[i - 1].flags);
        for (uint64_t n = 0; n < e->list[i].length; n++)
            CHECK(p->flags[at++] == e->list[i].flags);
    }
    CHECK(at == p->length);
}

static void fill(struct extents *e, struct picture *p, struct supply *s)
{
    while (supply_left(s) >= 2) {
        uint8_t shape = take_u8(s), flags = take_u8(s) & 3;
        /* Some bytes, or some multiples of 64. */
        size_t length = shape & 128 ? (shape & 127) * 64u : shape;

        length = MIN(length, PICTURE - p->length);
        CHECK(extents_add(e, length, flags) == 0);
        memset(p->flags + p->length, flags, length);
        p->length += length;
    }
}

static void align_picture(struct picture *p, uint32_t align, bool any, bool complete)
{
    for (size_t unit = 0; unit < p->length; unit += align) {
        size_t end = unit + align;

        if (end > p->length && !complete) {
            p->length = unit;
            return;
        }
        end = MIN(end, p->length);
        uint8_t flags = p->flags[unit];
        for (size_t i = unit; i < end; i++)
            flags = any ? flags | p->flags[i] : flags & p->flags[i];
        memset(p->flags + unit, flags, end - unit);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    struct extents e = EXTENTS_INIT;
    struct picture picture;
    uint8_t shape = take_u8(&s);
    uint16_t cut = take_u16(&s);
    uint32_t align = 1u << (shape & 15) % 14;
    bool any = shape & 16, complete = shape & 32;

    picture.length = 0;
    fill(&e, &picture, &s);
    check_same(&e, &picture);
    CHECK(status_align(&e, align, any, complete) == 0);
    align_picture(&picture, align, any, complete);
    check_same(&e, &picture);
    extents_truncate(&e, cut);
    picture.length = MIN(picture.length, cut);
    check_same(&e, &picture);
    extents_clear(&e);
    CHECK(e.count == 0 && e.total == 0);
    extents_free(&e);
    return 0;
}
