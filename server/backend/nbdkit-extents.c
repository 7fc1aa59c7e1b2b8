/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The list behind nbdkit_add_extent(3).
 *
 * A plugin tells what lies where, in ascending order and without gaps. It may begin before the
 * range that was asked for, and go on behind it; we keep what lies inside [start, end). A plugin
 * that breaks the order is told so at once. If it returns success all the same, its answer is not
 * used (`broken`): an answer in disorder may call data a hole.
 */
#include "server/backend/plugin-private.h"

#include <errno.h>
#include <stdlib.h>

struct nbdkit_extents {
    uint64_t start, end; /* [start, end) was asked for */
    uint64_t next;       /* where the next extent has to begin, if `begun` */
    bool begun, broken;
    bool full;           /* something was left out: nothing may follow */
    struct extents kept; /* from `start` on */
};

struct nbdkit_extents *nbdkit_extents_new(uint64_t start, uint64_t end)
{
    struct nbdkit_extents *e = calloc(1, sizeof *e);

    if (!e)
        return NULL;
    e->start = start;
    e->end = end;
    return e;
}

void nbdkit_extents_free(struct nbdkit_extents *e)
{
    if (e)
        extents_free(&e->kept);
    free(e);
}

static int refuse(struct nbdkit_extents *e, const char *why, uint64_t offset)
{
    e->broken = true;
    nbdkit_error("nbdkit_add_extent: extent at %" G_GUINT64_FORMAT " %s", offset, why);
    errno = ERANGE;
    return -1;
}

int nbdkit_add_extent(struct nbdkit_extents *e, uint64_t offset, uint64_t length, uint32_t type)
{
    uint64_t behind;

    if (e->begun && offset != e->next)
        return refuse(e, "does not begin where the one before it ended", offset);
    if (__builtin_add_overflow(offset, length, &behind) || behind > INT64_MAX)
        return refuse(e, "ends beyond any possible disk", offset);
    e->begun = true;
    e->next = behind;

    /* None of it is asked for. (The order has been checked before, for an empty one too.) */
    if (length == 0 || behind <= e->start || offset >= e->end || e->full)
        return 0;
    if (offset > e->start && e->kept.total == 0)
        return refuse(e, "is the first, but begins behind the start of the request", offset);

    uint64_t from = MAX(offset, e->start), to = MIN(behind, e->end);
    int r = extents_add(&e->kept, to - from, type & (EXTENT_HOLE | EXTENT_ZERO));
    if (r == -ENOSPC) { /* what is in it is a good, shorter answer */
        e->full = true;
        return 0;
    }
    if (r < 0) {
        nbdkit_error("nbdkit_add_extent: out of memory");
        errno = -r;
        return -1;
    }
    return 0;
}

/*
 * Copy `in`, which begins at a multiple of `align`, so that every boundary is a multiple of it. A
 * block that several extents share gets the flags that are true of all of them. A last block that
 * `in` covers only in part is left to the next question, unless there is no other: then it is data.
 */
static int align_extents(const struct extents *in, uint32_t align, struct extents *out)
{
    const uint64_t before = out->total;
    uint32_t shared = 0; /* how many bytes of a shared block have been seen */
    uint32_t flags = 0;  /* which are true of all of these */
    int r = 0;

    for (size_t i = 0; r == 0 && i < in->count; i++) {
        uint64_t left = in->list[i].length;

        if (shared) {
            uint32_t n = (uint32_t)MIN(left, align - shared);
            flags &= in->list[i].flags;
            shared += n;
            left -= n;
            if (shared == align) {
                r = extents_add(out, align, flags);
                shared = 0;
            }
        }
        if (r == 0 && left >= align)
            r = extents_add(out, left - left % align, in->list[i].flags);
        if (left % align && !shared) {
            shared = left % align;
            flags = in->list[i].flags;
        }
    }
    if (r == 0 && shared && out->total == before)
        r = extents_add(out, align, 0);
    return r == -ENOSPC ? 0 : r;
}

int nbdkit_extents_take(struct nbdkit_extents *e, uint32_t align, struct extents *out)
{
    if (e->broken)
        return -EIO;
    if (e->kept.total == 0) {
        nbdkit_error("extents: at least one extent must be returned");
        return -EIO; /* the plugin's fault, and not the client's */
    }
    return align_extents(&e->kept, align, out);
}
