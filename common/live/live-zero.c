/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zeroing and trimming.
 *
 * What has a place of its own is zeroed there, byte by byte, and keeps its entry. Elsewhere whole
 * clusters (or subclusters) get entries that read as zeroes, and parts of them are written.
 * Trimming leaves as it is what would have to be written. Neither lets anything below come to
 * light.
 */
#include "common/live/live-change.h"
#include "common/live/live-commit.h"
#include "common/live/live-reserve.h"

#include <errno.h>

#define ENTRIES_MAX 512

/* A flag of our own, beside enum LIVE_...: it is a trim. */
#define TRIM (1U << 16)

/* A part of the disk that is neither in its own place nor zeroes. */
struct part {
    struct live_run run;
    struct live_span span;
    uint64_t unit; /* what can be made zeroes as a whole: bytes */
};

static bool is_whole(const struct live_change *c, const struct part *p)
{
    uint64_t begin = p->span.begin, size = atomic_load(&c->top->size);

    return begin % p->unit == 0 && (p->span.end - begin >= p->unit || p->span.end == size);
}

/* Cut a part to its whole units, or to what lies in its first one. */
static void cut(const struct live_change *c, struct part *p)
{
    struct live_span *s = &p->span;
    uint64_t cluster = c->top->cluster, end = s->begin - s->begin % p->unit + p->unit;

    if (is_whole(c, p) && s->end != atomic_load(&c->top->size))
        end = s->end - s->end % p->unit;
    else if (is_whole(c, p))
        end = s->end;
    if (end < s->end)
        s->end = end;
    s->n = (unsigned)((s->end + cluster - 1) / cluster - s->first);
}

static bool can_be_zero(const struct live_change *c)
{
    return c->top->geometry.zero_flag;
}

/* What there is at `offset`. 1: it is a part, cut; 0: it is in its own place, or zeroes; or a
 * negative errno. */
static int look(struct live_change *c, uint64_t offset, uint64_t length, struct part *p)
{
    bool extended = c->top->geometry.extended;
    int error = live_change_look(c, offset, length, &p->run);

    if (error < 0)
        return error;
    if ((p->run.kind == Q2_DATA && p->run.own) || p->run.kind == Q2_ZERO)
        return 0;
    p->span = live_change_span(c, offset, p->run.length);
    p->unit = extended && p->run.kind != Q2_COMPRESSED ? c->top->cluster / 32 : c->top->cluster;
    if (extended && p->span.end > (p->span.first + 1) * c->top->cluster)
        p->span.end = (p->span.first + 1) * c->top->cluster;
    cut(c, p);
    p->run.length = p->span.end - offset;
    if (p->run.kind == Q2_UNALLOCATED)
        error = live_change_zero_below(c, offset, p->run.length);
    return error < 0 ? error : !error;
}

/* ---- entries that read as zeroes ---- */

/* Version 2 has none: clusters of the reserve are zeroes. */
static int lead_to_zeroes(struct live_change *c, struct part *p)
{
    struct live_span *s = &p->span;
    uint64_t host;
    int n = live_reserve_take(c->image, s->n, &host), error;

    if (n < 0)
        return n;
    s->n = (unsigned)n;
    if (s->end > (s->first + s->n) * c->top->cluster)
        s->end = (s->first + s->n) * c->top->cluster;
    error = live_change_lead(c, s->first, s->n, host, false);
    if (error < 0)
        live_reserve_drop(c->image, host, s->n);
    return error;
}

static int make_zero(struct live_change *c, const struct part *p)
{
    struct live_entry entries[ENTRIES_MAX];

    for (unsigned i = 0; i < p->span.n; i++)
        entries[i] = (struct live_entry){Q2_ENTRY_ZERO, 0};
    return live_slices_change(c->top, p->span.first, p->span.n, entries, false);
}

/* Subclusters of one cluster. *gone: its place has no data any more. */
static int make_zero_sub(struct live_change *c, const struct part *p, bool *gone)
{
    uint64_t begin = p->span.begin % c->top->cluster;
    unsigned first = (unsigned)(begin / p->unit);
    unsigned n = (unsigned)((p->span.end - p->span.begin + p->unit - 1) / p->unit);
    uint64_t bits = ((UINT64_C(1) << n) - 1) << first;
    struct live_entry e = {p->run.word, (p->run.bitmap & ~bits) | bits << 32};

    if (p->run.kind == Q2_COMPRESSED)
        e = (struct live_entry){0, (uint64_t)UINT32_MAX << 32};
    *gone = !p->run.own && (uint32_t)e.bitmap == 0;
    if (*gone)
        e.word = 0;
    return live_slices_change(c->top, p->span.first, 1, &e, false);
}

static int clear_entries(struct live_change *c, struct part *p)
{
    bool gone = true;
    int error;

    if (!can_be_zero(c))
        error = lead_to_zeroes(c, p);
    else if (c->top->geometry.extended)
        error = make_zero_sub(c, p, &gone);
    else
        error = make_zero(c, p);
    if (error == 0 && gone)
        live_change_give_up(c, &p->span, &p->run);
    return error;
}

/* ---- the steps ---- */

/* Data that may not be forgotten where they lie, though they are not the cluster's own: a data
 * file has nothing else. */
static bool stays(const struct live_change *c, const struct part *p)
{
    return p->run.kind == Q2_DATA && c->top->geometry.data_file;
}

static int zero_part(struct live_change *c, struct part *p, unsigned flags, uint64_t *done)
{
    int error = 0;

    if (is_whole(c, p) && !stays(c, p) && (can_be_zero(c) || !(flags & TRIM))) {
        error = clear_entries(c, p);
        *done = p->span.end - p->span.begin;
    } else if (flags & TRIM) {
        *done = p->span.end - p->span.begin;
    } else {
        error = live_change_write(c, NULL, p->span.begin, p->span.end - p->span.begin, done);
    }
    return error;
}

static int zero_own(struct live_change *c, const struct live_run *run, unsigned flags)
{
    struct live_file *f = live_layer_data(c->top);
    int error = live_change_clear(f, run->length, run->host, flags & (LIVE_MAY_TRIM | TRIM));

    if (error != -ENOTSUP || (flags & LIVE_FAST))
        return error;
    return flags & TRIM ? 0 : live_change_put(c, NULL, run->length, run->host);
}

static int zero_step(struct live_change *c, uint64_t offset, uint64_t length, unsigned flags,
                     uint64_t *done)
{
    struct part p;
    int r = look(c, offset, length, &p);

    if (r < 0)
        return r;
    if (r > 0)
        return zero_part(c, &p, flags, done);
    *done = p.run.length;
    return p.run.kind == Q2_DATA ? zero_own(c, &p.run, flags) : 0;
}

/*
 * Can all of a range be zeroed without writing zeroes? Nothing has been changed if not: parts are
 * looked for first, and then the first of the places is zeroed, because only trying tells. 0 or a
 * negative errno.
 */
static int try_fast(struct live_change *c, uint64_t offset, uint64_t length, unsigned flags)
{
    struct live_run first = {.length = 0};

    while (length > 0) {
        struct part p;
        int r = look(c, offset, length, &p);

        if (r < 0)
            return r;
        if (r > 0 && (!is_whole(c, &p) || stays(c, &p)))
            return -ENOTSUP;
        if (r == 0 && p.run.kind == Q2_DATA && first.length == 0)
            first = p.run;
        offset += p.run.length;
        length -= p.run.length;
    }
    return first.length ? zero_own(c, &first, flags) : 0;
}

static int zero(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags)
{
    struct live_change c;
    uint64_t n;
    int error;

    if (!image->top->writable)
        return -EROFS;
    error = atomic_load(&image->broken);
    if (error < 0 || length == 0)
        return error;
    live_change_begin(&c, image, offset, length);
    if (flags & LIVE_FAST)
        error = try_fast(&c, offset, length, flags);
    for (; length > 0 && error == 0; offset += n, length -= n) {
        error = zero_step(&c, offset, length, flags & ~(unsigned)LIVE_FAST, &n);
        if (error < 0)
            break;
    }
    error = live_change_end(&c, error);
    return error == 0 && (flags & LIVE_FUA) ? live_commit(image) : error;
}

int live_zero(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags)
{
    return zero(image, length, offset, flags);
}

int live_trim(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags)
{
    return zero(image, length, offset, (flags & LIVE_FUA) | TRIM);
}
