/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/copy-rig.h"

#include "common/base/deadline.h"

#include <stddef.h>
#include <string.h>

#define MiB (UINT64_C(1) << 20)
const char *const rig_call_names[RIG_CALLS] = {"extents", "read_start", "read_wait", "trim",
                                               "write",   "zero",       "below",     "sync",
                                               "mark",    "finish"};

static struct copy_rig *of_source(struct copy_source *s)
{
    return (struct copy_rig *)((char *)s - offsetof(struct copy_rig, source));
}

static struct copy_rig *of_target(struct copy_target *t)
{
    return (struct copy_rig *)((char *)t - offsetof(struct copy_rig, target));
}

/* ---- calls ---- */

static int enter(struct copy_rig *r, enum rig_call call, GError **err)
{
    unsigned n;

    pthread_mutex_lock(&r->lock);
    n = r->calls[call]++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return r->hook ? r->hook(r, call, n, err) : 0;
}

static void claim(struct copy_rig *r, struct rig_lane *lane)
{
    pthread_mutex_lock(&r->lock);
    g_assert_false(lane->busy);
    lane->busy = true;
    pthread_mutex_unlock(&r->lock);
}

static int release(struct copy_rig *r, struct rig_lane *lane, int result)
{
    pthread_mutex_lock(&r->lock);
    lane->busy = false;
    pthread_mutex_unlock(&r->lock);
    return result;
}

static struct rig_lane *source_lane(struct copy_rig *r, unsigned lane)
{
    g_assert_cmpuint(lane, <, r->o.source_lanes);
    claim(r, &r->source_lanes[lane]);
    return &r->source_lanes[lane];
}

static struct rig_lane *target_lane(struct copy_rig *r, unsigned lane)
{
    g_assert_cmpuint(lane, <, r->o.target_lanes ? r->o.target_lanes : r->o.source_lanes);
    claim(r, &r->target_lanes[lane]);
    return &r->target_lanes[lane];
}

/* Whole blocks of `align`, inside of the disk. */
static void check_range(const struct copy_rig *r, uint64_t offset, uint64_t length, uint32_t align,
                        uint64_t most)
{
    g_assert_cmpuint(length, >, 0);
    g_assert_cmpuint(offset, <, r->o.size);
    g_assert_cmpuint(length, <=, r->o.size - offset);
    g_assert_cmpuint(offset % align, ==, 0);
    if (offset + length != r->o.size)
        g_assert_cmpuint(length % align, ==, 0);
    if (most)
        g_assert_cmpuint(length, <=, most);
}

/* ---- the source ---- */

static int tell(struct copy_rig *r, uint64_t from, uint64_t to, copy_extent_sink sink, void *opaque,
                GError **err)
{
    for (guint i = 0; i < r->extents->len; i++) {
        const struct copy_extent *e = &g_array_index(r->extents, struct copy_extent, i);
        uint64_t start = MAX(e->offset, from), end = MIN(e->offset + e->length, to);
        struct copy_extent part = {start, end - start, e->zero};

        if (start < end && sink(opaque, &part, err) < 0)
            return -1;
    }
    return 0;
}

static int rig_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                       copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct copy_rig *r = of_source(s);
    struct rig_lane *l = source_lane(r, lane);
    int result = enter(r, RIG_EXTENTS, err);

    pthread_mutex_lock(&r->lock);
    g_assert_false(r->in_extents);
    r->in_extents = true;
    g_assert_cmpuint(length, >, 0);
    g_assert_cmpuint(offset, <, r->o.size);
    g_assert_cmpuint(offset, >=, r->o.copy.start);
    g_assert_cmpuint(length, <=, r->o.size - offset);
    *end = offset + length;
    if (r->o.short_ends)
        *end = offset + 1 + (uint64_t)(g_rand_double(r->rand) * (double)MIN(length - 1, MiB / 4));
    pthread_mutex_unlock(&r->lock);
    if (result == 0)
        result = tell(r, offset, *end, sink, opaque, err);
    pthread_mutex_lock(&r->lock);
    r->in_extents = false;
    pthread_mutex_unlock(&r->lock);
    return release(r, l, result);
}

static void note_read(struct copy_rig *r, const struct copy_piece *p)
{
    check_range(r, p->offset, p->length, r->o.source_align, r->o.max_read);
    for (size_t i = 0; i < p->length; i++) {
        g_assert_false(r->was_read[p->offset + i]);
        r->was_read[p->offset + i] = 1;
    }
}

static int rig_read_start(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                          size_t n, GError **err)
{
    struct copy_rig *r = of_source(s);
    struct rig_lane *l = source_lane(r, lane);
    int result = enter(r, RIG_READ_START, err);
    unsigned lanes = 0;

    g_assert_cmpuint(n, >, 0);
    if (result < 0)
        return release(r, l, result);
    pthread_mutex_lock(&r->lock);
    g_assert_cmpuint(l->n, <, 2);
    for (size_t i = 0; i < n; i++)
        note_read(r, &pieces[i]);
    l->batches[l->n++] = (struct rig_batch){g_memdup2(pieces, n * sizeof *pieces), n};
    r->under_way++;
    for (unsigned i = 0; i < r->o.source_lanes; i++)
        lanes += r->source_lanes[i].n > 0;
    r->most_lanes = MAX(r->most_lanes, lanes);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return release(r, l, 0);
}

/* The bytes come as late as they may, also where the wait fails. */
static int rig_read_wait(struct copy_source *s, unsigned lane, GError **err)
{
    struct copy_rig *r = of_source(s);
    struct rig_lane *l = source_lane(r, lane);
    int result = enter(r, RIG_READ_WAIT, err);
    struct rig_batch b;

    pthread_mutex_lock(&r->lock);
    g_assert_cmpuint(l->n, >, 0);
    b = l->batches[0];
    l->batches[0] = l->batches[1];
    l->n--;
    r->under_way--;
    pthread_mutex_unlock(&r->lock);
    for (size_t i = 0; i < b.n; i++)
        memcpy(b.pieces[i].data, r->disk + b.pieces[i].offset, b.pieces[i].length);
    g_free(b.pieces);
    return release(r, l, result);
}

static int rig_trim(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                    GError **err)
{
    struct copy_rig *r = of_source(s);
    struct rig_lane *l = source_lane(r, lane);
    int result = enter(r, RIG_TRIM, err);

    if (result < 0)
        return release(r, l, result);
    pthread_mutex_lock(&r->lock);
    check_range(r, offset, length, 1, 0);
    if (r->o.mark)
        g_assert_cmpuint(offset + length, <=, r->marked);
    for (uint64_t i = offset; i < offset + length; i++) {
        g_assert_true(r->finished || r->durable[i] != RIG_UNTOUCHED);
        g_assert_true(r->done[i] != RIG_UNTOUCHED);
        g_assert_false(r->trimmed[i]);
        r->trimmed[i] = 1;
    }
    pthread_mutex_unlock(&r->lock);
    return release(r, l, 0);
}

/* Source and target: both are told. */
static void cancelled(struct copy_rig *r)
{
    pthread_mutex_lock(&r->lock);
    r->cancelled = ++r->cancels == 2;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void rig_cancel_source(struct copy_source *s)
{
    cancelled(of_source(s));
}

/* ---- the target ---- */

static void note_written(struct copy_rig *r, uint64_t offset, uint64_t length, uint8_t kind)
{
    check_range(r, offset, length, r->o.target_align, kind == RIG_DATA ? r->o.max_write : 0);
    g_assert_false(r->finished);
    g_assert_cmpuint(offset, >=, r->below);
    if (r->o.ordered)
        g_assert_cmpuint(offset, >=, r->stream_position);
    r->stream_position = offset + length;
    for (uint64_t i = offset; i < offset + length; i++) {
        if (r->done[i] != RIG_UNTOUCHED || r->expected[i] == RIG_UNTOUCHED)
            g_error("byte %" G_GUINT64_FORMAT " comes as %d, is %d, should be %d", i, kind,
                    r->done[i], r->expected[i]);
        r->done[i] = kind;
    }
}

/* What is on its way holds back the position. */
static void check_position(struct copy_rig *r, uint64_t offset)
{
    struct copy_progress p;
    struct copy *c;

    pthread_mutex_lock(&r->lock);
    c = r->copy;
    pthread_mutex_unlock(&r->lock);
    if (!c)
        return;
    copy_get_progress(c, &p);
    g_assert_cmpuint(p.position, <=, offset);
}

static int rig_write(struct copy_target *t, unsigned lane, const struct copy_piece *pieces,
                     size_t n, GError **err)
{
    struct copy_rig *r = of_target(t);
    struct rig_lane *l = target_lane(r, lane);
    int result = enter(r, RIG_WRITE, err);

    g_assert_cmpuint(n, >, 0);
    check_position(r, pieces[0].offset);
    for (size_t i = 0; i < n && result == 0; i++) {
        pthread_mutex_lock(&r->lock);
        note_written(r, pieces[i].offset, pieces[i].length, RIG_DATA);
        g_assert_true(i == 0 || pieces[i].offset >= pieces[i - 1].offset + pieces[i - 1].length);
        memcpy(r->image + pieces[i].offset, pieces[i].data, pieces[i].length);
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
    return release(r, l, result);
}

static int rig_zero(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                    GError **err)
{
    struct copy_rig *r = of_target(t);
    struct rig_lane *l = target_lane(r, lane);
    int result = enter(r, RIG_ZERO, err);

    if (result == 0) {
        pthread_mutex_lock(&r->lock);
        note_written(r, offset, length, RIG_ZEROED);
        memset(r->image + offset, 0, length);
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
    return release(r, l, result);
}

/* below and sync never come at once. */
static void follow(struct copy_rig *r, bool in)
{
    pthread_mutex_lock(&r->lock);
    g_assert_cmpint(r->in_follow, !=, in);
    r->in_follow = in;
    pthread_mutex_unlock(&r->lock);
}

static int rig_below(struct copy_target *t, uint64_t offset, GError **err)
{
    struct copy_rig *r = of_target(t);
    int result;

    follow(r, true);
    result = enter(r, RIG_BELOW, err);
    pthread_mutex_lock(&r->lock);
    g_assert_cmpuint(offset, >, r->below);
    g_assert_cmpuint(offset, <=, r->o.size);
    for (uint64_t i = r->below; i < offset; i++)
        g_assert_true((r->done[i] == RIG_UNTOUCHED) == (r->expected[i] == RIG_UNTOUCHED));
    r->below = offset;
    pthread_mutex_unlock(&r->lock);
    follow(r, false);
    return result;
}

static int rig_sync(struct copy_target *t, GError **err)
{
    struct copy_rig *r = of_target(t);
    g_autofree uint8_t *now = NULL;
    int result;

    follow(r, true);
    pthread_mutex_lock(&r->lock);
    now = g_memdup2(r->done, r->o.size);
    pthread_mutex_unlock(&r->lock);
    result = enter(r, RIG_SYNC, err);
    if (result == 0) {
        pthread_mutex_lock(&r->lock);
        memcpy(r->durable, now, r->o.size);
        pthread_mutex_unlock(&r->lock);
    }
    follow(r, false);
    return result;
}

int rig_mark(void *opaque, uint64_t offset, GError **err)
{
    struct copy_rig *r = opaque;
    int result = enter(r, RIG_MARK, err);

    pthread_mutex_lock(&r->lock);
    g_assert_cmpuint(offset, >, r->marked);
    if (r->finished)
        g_assert_cmpuint(offset, ==, r->o.size);
    else
        g_assert_cmpuint(offset % (2 * MiB), ==, 0);
    for (uint64_t i = r->marked; i < offset && !r->finished; i++)
        g_assert_true((r->durable[i] == RIG_UNTOUCHED) == (r->expected[i] == RIG_UNTOUCHED));
    if (result == 0)
        r->marked = offset;
    else
        r->end_unmarked = r->finished;
    pthread_mutex_unlock(&r->lock);
    return result;
}

static int rig_finish(struct copy_target *t, GError **err)
{
    struct copy_rig *r = of_target(t);
    int result = enter(r, RIG_FINISH, err);

    pthread_mutex_lock(&r->lock);
    g_assert_false(r->finished);
    g_assert_cmpuint(r->under_way, ==, 0);
    for (unsigned i = 0; i < r->o.source_lanes; i++)
        g_assert_false(r->source_lanes[i].busy || r->target_lanes[i].busy);
    g_assert_cmpuint(r->below, ==, r->o.size);
    r->finished = result == 0;
    pthread_mutex_unlock(&r->lock);
    return result;
}

static void rig_cancel_target(struct copy_target *t)
{
    cancelled(of_target(t));
}

const struct copy_source_ops rig_source_ops = {.extents = rig_extents,
                                               .read_start = rig_read_start,
                                               .read_wait = rig_read_wait,
                                               .trim = rig_trim,
                                               .cancel = rig_cancel_source};
const struct copy_target_ops rig_target_ops = {.write = rig_write,
                                               .zero = rig_zero,
                                               .below = rig_below,
                                               .sync = rig_sync,
                                               .finish = rig_finish,
                                               .cancel = rig_cancel_target};

void rig_wait(struct copy_rig *r, gint64 end)
{
    struct timespec until = deadline_timespec(end);

    g_assert_cmpint(pthread_cond_clockwait(&r->changed, &r->lock, CLOCK_MONOTONIC, &until), ==, 0);
}

void rig_wait_cancelled(struct copy_rig *r)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;

    pthread_mutex_lock(&r->lock);
    while (!r->cancelled)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
}
