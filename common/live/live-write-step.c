/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing to clusters whose entries have to be changed for that.
 *
 * Where the disk read as zeroes, clusters of the reserve take the guest's bytes alone: they are
 * zeroes all around, and their entries may become durable before the bytes. Where it had other
 * content, whole clusters are composed, and their entries are flagged: they become durable after
 * the content.
 */
#include "common/live/live-change.h"
#include "common/live/live-reserve.h"

/* Does the disk surely read as zeroes in all clusters of a span, and have they no place, of
 * which nobody knows what is in it? 1, 0 or a negative errno. */
static int reads_zeroes(const struct live_change *c, const struct live_span *s,
                        const struct live_run *run)
{
    if (run->own || run->host || c->top->geometry.data_file)
        return 0;
    if (run->kind == Q2_UNALLOCATED)
        return live_change_zero_below(c, s->first * c->top->cluster, s->n * c->top->cluster);
    return run->kind == Q2_ZERO;
}

/* Take clusters for a span; it is made as short as what there is. 0 or a negative errno. */
static int take(struct live_change *c, struct live_span *s, uint64_t *host)
{
    int n = live_reserve_take(c->image, s->n, host);

    if (n < 0)
        return n;
    s->n = (unsigned)n;
    if (s->end > (s->first + s->n) * c->top->cluster)
        s->end = (s->first + s->n) * c->top->cluster;
    return 0;
}

static int write_new(struct live_change *c, const void *from, struct live_span *s)
{
    uint64_t host;
    int error = take(c, s, &host);

    if (error < 0)
        return error;
    if (from)
        error = live_change_put(c, from, s->end - s->begin, host + s->begin % c->top->cluster);
    if (error == 0)
        error = live_change_lead(c, s->first, s->n, host, false);
    if (error < 0)
        live_reserve_drop(c->image, host, s->n);
    return error;
}

/* The clusters at the beginning of a span that are written as a whole, or else the first one. */
static void cut_to_whole(const struct live_change *c, bool from, struct live_span *s)
{
    uint64_t cluster = c->top->cluster, n = (s->end - s->begin) / cluster;

    s->n = from && s->begin % cluster == 0 && n > 1 ? (unsigned)n : 1;
    if (s->end > (s->first + s->n) * cluster)
        s->end = (s->first + s->n) * cluster;
}

/* Where the new content goes; *taken: out of the reserve. */
static int find_place(struct live_change *c, struct live_span *s, const struct live_run *run,
                      uint64_t *host, bool *taken)
{
    *taken = false;
    if (run->own)
        *host = run->host - s->begin % c->top->cluster;
    else if (c->top->geometry.data_file)
        *host = s->first * c->top->cluster;
    else
        *taken = true;
    return *taken ? take(c, s, host) : 0;
}

static int write_over(struct live_change *c, const void *from, struct live_span *s,
                      const struct live_run *run)
{
    uint64_t cluster = c->top->cluster, host;
    bool taken;
    int error;

    cut_to_whole(c, from, s);
    error = find_place(c, s, run, &host, &taken);
    if (error < 0)
        return error;
    error = live_change_compose(c, from, s->begin, s->end - s->begin, s->first * cluster,
                                (s->first + s->n) * cluster, host);
    if (error == 0)
        error = live_change_lead(c, s->first, s->n, host, true);
    if (error == 0)
        live_change_give_up(c, s, run);
    else if (taken)
        live_reserve_drop(c->image, host, s->n);
    return error;
}

int live_change_write(struct live_change *c, const void *from, uint64_t offset, uint64_t length,
                      uint64_t *done)
{
    struct live_span s;
    struct live_run run;
    int error = live_change_look(c, offset, length, &run);

    if (error < 0)
        return error;
    *done = run.length;
    if (run.kind == Q2_DATA && run.own)
        return live_change_put(c, from, run.length, run.host);
    if (c->top->geometry.extended)
        return live_change_write_sub(c, from, offset, &run, done);
    s = live_change_span(c, offset, run.length);
    error = reads_zeroes(c, &s, &run);
    if (error < 0)
        return error;
    error = error ? write_new(c, from, &s) : write_over(c, from, &s, &run);
    *done = s.end - s.begin;
    return error;
}
