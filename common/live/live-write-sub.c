/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing where L2 is extended: a cluster at a time, and subclusters of one kind.
 *
 * A cluster that has a place of its own may have anything in subclusters that have no data: they
 * are composed, as are those with content below, and flagged. A cluster that is compressed, or
 * whose place is not its own, moves as a whole.
 */
#include "common/live/live-change.h"
#include "common/live/live-reserve.h"

#include <errno.h>

/* What is written, and the subclusters that it touches. */
struct part {
    uint64_t offset, length; /* of the guest's bytes */
    uint64_t start;          /* of the cluster */
    uint64_t begin, end;     /* of the subclusters */
    uint64_t bits;           /* theirs, in the lower half of a bitmap */
};

static struct part part_of(const struct live_change *c, uint64_t offset, uint64_t length)
{
    uint64_t cluster = c->top->cluster, sub = cluster / 32;
    struct part p = {.offset = offset, .length = length, .start = offset - offset % cluster};
    unsigned first, n;

    if (p.length > p.start + cluster - offset)
        p.length = p.start + cluster - offset;
    first = (unsigned)((offset - p.start) / sub);
    n = (unsigned)((offset + p.length - p.start + sub - 1) / sub) - first;
    p.begin = p.start + first * sub;
    p.end = p.begin + n * sub;
    p.bits = ((UINT64_C(1) << n) - 1) << first;
    return p;
}

static int take_one(struct live_change *c, uint64_t *host)
{
    int n = live_reserve_take(c->image, 1, host);

    return n < 0 ? n : 0;
}

static int lead(struct live_change *c, const struct part *p, uint64_t host, uint64_t bitmap,
                bool flagged)
{
    struct live_entry e = {host | Q2_ENTRY_COPIED, bitmap};

    return live_slices_change(c->top, p->start / c->top->cluster, 1, &e, flagged);
}

/* The whole cluster, to a place of its own. */
static int move(struct live_change *c, const void *from, const struct part *p,
                const struct live_run *run)
{
    struct live_span s = {p->start / c->top->cluster, 1, p->offset, p->offset + p->length};
    bool data_file = c->top->geometry.data_file;
    uint64_t host = p->start;
    int error = data_file ? 0 : take_one(c, &host);

    if (error < 0)
        return error;
    error = live_change_compose(c, from, p->offset, p->length, p->start, p->start + c->top->cluster,
                                host);
    if (error == 0)
        error = lead(c, p, host, UINT32_MAX, true);
    if (error == 0)
        live_change_give_up(c, &s, run);
    else if (!data_file)
        live_reserve_drop(c->image, host, 1);
    return error;
}

/* Subclusters without data, in a cluster that has no place, or one of its own. */
static int write_part(struct live_change *c, const void *from, const struct part *p,
                      const struct live_run *run)
{
    uint64_t bitmap = (run->bitmap & ~(p->bits << 32)) | p->bits;
    bool taken = !run->own && !c->top->geometry.data_file;
    uint64_t host = run->own ? run->word & Q2_ENTRY_OFFSET : p->start;
    int zero = run->kind == Q2_ZERO, error;

    if (run->kind == Q2_UNALLOCATED && taken)
        zero = live_change_zero_below(c, p->begin, p->end - p->begin);
    error = zero < 0 ? zero : taken ? take_one(c, &host) : 0;
    if (error < 0)
        return error;
    if (taken && zero)
        error = from ? live_change_put(c, from, p->length, host + (p->offset - p->start)) : 0;
    else
        error = live_change_compose(c, from, p->offset, p->length, p->begin, p->end,
                                    host + (p->begin - p->start));
    if (error == 0)
        error = lead(c, p, host, bitmap, !(taken && zero));
    if (error < 0 && taken)
        live_reserve_drop(c->image, host, 1);
    return error;
}

int live_change_write_sub(struct live_change *c, const void *from, uint64_t offset,
                          const struct live_run *run, uint64_t *done)
{
    struct part p = part_of(c, offset, run->length);
    bool moves = run->kind == Q2_COMPRESSED || (run->host && !run->own);

    *done = p.length;
    return moves ? move(c, from, &p, run) : write_part(c, from, &p, run);
}
