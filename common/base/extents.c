/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/extents.h"

#include <errno.h>
#include <stdlib.h>

static int grow(struct extents *e)
{
    size_t wanted = e->allocated ? e->allocated * 2 : 64;
    struct extent *list = realloc(e->list, wanted * sizeof *list);

    if (!list)
        return -ENOMEM;
    e->list = list;
    e->allocated = wanted;
    return 0;
}

int extents_add(struct extents *e, uint64_t length, uint32_t flags)
{
    if (length == 0)
        return 0;
    if (e->count > 0 && e->list[e->count - 1].flags == flags) {
        e->list[e->count - 1].length += length;
        e->total += length;
        return 0;
    }
    if (e->count >= (e->most ? e->most : EXTENTS_MAX))
        return -ENOSPC;
    if (e->count == e->allocated && grow(e) < 0)
        return -ENOMEM;
    e->list[e->count++] = (struct extent){.length = length, .flags = flags};
    e->total += length;
    return 0;
}

int extents_add_part(struct extents *e, const struct extents *other, uint64_t skip, uint64_t length)
{
    for (size_t i = 0; i < other->count && length > 0; i++) {
        uint64_t n = other->list[i].length;

        if (skip >= n) {
            skip -= n;
            continue;
        }
        n = n - skip < length ? n - skip : length;
        int error = extents_add(e, n, other->list[i].flags);
        if (error < 0)
            return error;
        skip = 0;
        length -= n;
    }
    return 0;
}

void extents_truncate(struct extents *e, uint64_t total)
{
    while (e->total > total) {
        struct extent *last = &e->list[e->count - 1];
        uint64_t rest = e->total - total;

        if (rest < last->length) {
            last->length -= rest;
            e->total = total;
            return;
        }
        e->total -= last->length;
        e->count--;
    }
}

void extents_clear(struct extents *e)
{
    e->count = 0;
    e->total = 0;
}

void extents_free(struct extents *e)
{
    free(e->list);
    *e = (struct extents)EXTENTS_INIT;
}
