/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each operation on the files of a live image fails, one after the other, in each way, while a guest does what it
 * does. What it was promised holds, whenever power is lost then; nothing that it reads is wrong; after a sync has failed nothing
 * is promised any more; and where there was just no room, or a read that failed, all goes well afterwards.
 */
#include "tests/rigs/live-power.h"

#include <errno.h>

/* In eighths of a cluster. */
struct template
{
    enum live_step_kind kind;
    unsigned flags;
    unsigned from, length;
};

static const struct template life[] = {
    {LIVE_STEP_WRITE, 0, 17, 4},
    {LIVE_STEP_WRITE, 0, 30, 20},
    {LIVE_STEP_FLUSH, 0, 0, 0},
    {LIVE_STEP_WRITE, 0, 2, 3},
    {LIVE_STEP_ZERO, LIVE_MAY_TRIM, 4, 12},
    {LIVE_STEP_WRITE, LIVE_FUA, 57, 3},
    {LIVE_STEP_TRIM, 0, 20, 20},
    {LIVE_STEP_WRITE_BACK, 0, 0, 0},
    {LIVE_STEP_ZERO, LIVE_FUA, 42, 20},
    {LIVE_STEP_RESIZE, 0, 0, 0},
    {LIVE_STEP_WRITE, 0, 56, 16},
    {LIVE_STEP_FLUSH, 0, 0, 0},
    {LIVE_STEP_WRITE, 0, 12, 8},
    {LIVE_STEP_REOPEN, 0, 0, 0},
    {LIVE_STEP_WRITE, 0, 0, 64},
    {LIVE_STEP_FLUSH, 0, 0, 0},
    {LIVE_STEP_REOPEN, 0, 0, 0},
};

static struct live_step make_step(const struct template *t, unsigned cluster)
{
    struct live_step s = {.kind = t->kind, .flags = t->flags};

    if (t->kind == LIVE_STEP_RESIZE)
        s.length = cluster == 512 ? 60 * 512 : 3 * cluster;
    s.offset = (uint64_t)t->from * (cluster / 8);
    s.length += (uint64_t)t->length * (cluster / 8);
    return s;
}

static bool promises(const struct live_step *s)
{
    return s->kind == LIVE_STEP_FLUSH || s->kind == LIVE_STEP_REOPEN || (s->flags & LIVE_FUA);
}

/* All that a guest may want works. */
static void all_is_well(struct live_power *p)
{
    struct live_step all = {LIVE_STEP_WRITE, 0, 100, p->guest.size - 100};
    struct live_step flush = {.kind = LIVE_STEP_FLUSH};

    if (live_power_step(p, &all, false) < 0 || live_power_step(p, &flush, false) < 0)
        live_power_complain(p, "after a failure that is over", "a write or a flush fails");
}

/* Is what has failed over, with nothing lost? */
static bool is_over(const struct live_fault *f)
{
    return !f->from_then_on && !f->medium && f->kinds != LIVE_SYNC &&
           (f->error == ENOSPC || f->kinds == LIVE_READ);
}

/* Live with a fault. False: it did not come up. */
static bool live_with(struct live_power *p, const struct live_fault *fault)
{
    bool final = false, failed;

    live_power_start(p);
    live_storage_fault(fault);
    for (unsigned i = 0; i < G_N_ELEMENTS(life) && p->guest.image; i++) {
        struct live_step s = make_step(&life[i], p->images.kind->cluster);
        if (s.offset >= p->guest.size) /* what a resize that failed should have made */
            continue;
        if (s.kind == LIVE_STEP_WRITE)
            s.length = MIN(s.length, p->guest.size - s.offset);
        int r = live_power_step(p, &s, false);

        if (r < 0 && !live_storage_failed())
            live_power_complain(p, "without a failure", "a step fails");
        if (r == 0 && final && promises(&s))
            live_power_complain(p, "after a sync has failed", "something is promised");
        final = final || (live_storage_failed() && (fault->medium || fault->kinds == LIVE_SYNC));
        if (r < 0)
            live_power_lose(p);
    }
    failed = live_storage_failed();
    live_power_lose(p);
    live_storage_fault(NULL);
    if (failed && is_over(fault) && p->guest.image)
        all_is_well(p);
    live_power_stop(p, failed);
    return failed;
}

static const struct live_fault faults[] = {
    {.kinds = LIVE_WRITE, .error = ENOSPC},
    {.kinds = LIVE_WRITE, .error = ENOSPC, .half = true},
    {.kinds = LIVE_WRITE, .error = ENOSPC, .half = true, .from_then_on = true},
    {.kinds = LIVE_WRITE, .error = EIO, .half = true},
    {.kinds = LIVE_WRITE, .error = EIO, .from_then_on = true},
    {.kinds = LIVE_DURABLE, .error = ENOSPC},
    {.kinds = LIVE_DURABLE, .error = ENOSPC, .half = true},
    {.kinds = LIVE_DURABLE, .error = EIO, .medium = true},
    {.kinds = LIVE_DURABLE, .error = EIO},
    {.kinds = LIVE_EXTEND, .error = ENOSPC},
    {.kinds = LIVE_EXTEND, .error = ENOSPC, .half = true},
    {.kinds = LIVE_EXTEND, .error = ENOSPC, .from_then_on = true},
    {.kinds = LIVE_EXTEND, .error = EIO, .medium = true},
    {.kinds = LIVE_SYNC, .error = EIO},
    {.kinds = LIVE_SYNC, .error = ENOSPC},
    {.kinds = LIVE_SYNC, .error = EIO, .from_then_on = true},
    {.kinds = LIVE_ZERO_RANGE, .error = EIO},
    {.kinds = LIVE_ZERO_RANGE, .error = ENOTSUP, .from_then_on = true},
    {.kinds = LIVE_SHORTEN, .error = EIO},
    {.kinds = LIVE_CHANGES, .error = ENOSPC},
    {.kinds = LIVE_CHANGES, .error = EIO, .from_then_on = true},
    {.kinds = LIVE_READ, .error = EIO},
};

static void test_kind(gconstpointer data)
{
    struct live_power p;
    const struct live_kind *kind = data;
    /* Not each operation by default, on each kind. */
    unsigned step = kind->whole || g_getenv("FLEECE_LONG") ? 0 : 6, lives = 0;

    if (!live_power_begin(&p, data))
        return;
    p.seed = (uint64_t)g_test_rand_int();
    p.reopen_every = 5;
    p.ask_every = 1000;
    for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
        struct live_fault f = faults[i];

        for (f.nth = step ? (unsigned)g_test_rand_int_range(0, (gint32)step) : 0; live_with(&p, &f);
             f.nth += step + 1)
            lives++;
    }
    g_test_message("%s: %u lives, %" G_GUINT64_FORMAT " crashes", p.images.kind->name, lives,
                   (guint64)p.states);
    g_assert_cmpuint(lives, >, 20);
    live_power_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < live_n_kinds; i++) {
        g_autofree char *path = g_strdup_printf("/faults/%s", live_kinds[i].name);

        g_test_add_data_func(path, &live_kinds[i], test_kind);
    }
    return g_test_run();
}
