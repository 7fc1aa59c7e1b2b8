/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants over two disks, beside guests who write to both, in all schedules (sched.h).
 */
#include "tests/rigs/sched-disk.h"

#include <string.h>

static void add_bitmap(struct rig *r, unsigned disk, const char *name, bool recording)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, r->disks[disk], name, SECTOR, recording, false, NULL), ==,
                    0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
}

static void *with_bitmaps(void)
{
    struct rig *r = rig_new(1);

    put(r, 0, 0, 0, SIZE, 'a');
    put(r, 0, 1, 0, SIZE, 'a');
    for (unsigned d = 0; d < DISKS; d++) {
        add_bitmap(r, d, "now", true);
        add_bitmap(r, d, "before", false);
    }
    return r;
}

static void a_then_b(void *rig)
{
    change(rig, 0, 0, 0, 0);
    change(rig, 0, 1, 1, 0);
}

static void b_then_a(void *rig)
{
    change(rig, 1, 2, 1, SECTOR);
    change(rig, 1, 3, 0, SECTOR);
}

/* On both disks, move what was recorded so far to "before", and begin recording anew. */
static void stage_turnover(struct rig *r, struct instant *i)
{
    GError *error = NULL;

    for (unsigned d = 0; d < DISKS; d++) {
        must(instant_bitmap_merge(i, r->disks[d], "before", r->disks[d], "now", &error), error);
        must(instant_bitmap_clear(i, r->disks[d], "now", &error), error);
    }
}

static void turnover(void *rig)
{
    struct rig *r = rig;
    struct instant *i = instant_new();
    GError *error = NULL;

    stage_turnover(r, i);
    must(instant_view_create(i, r->disks[0], "v0", &(struct view_options){0}, &r->views[0], &error),
         error);
    must(instant_commit(i, &error), error);
    must(node_io_open(view_node(r->views[0]), false, false, NULL, &r->readers[0], &error), error);
    memcpy(r->was[0], r->instant[0], SIZE);
    check_view(r, 0, 0, SIZE);
}

/* A guest's second change is never before the instant without the first. */
static void check_order(struct rig *r)
{
    if ((r->changes[1].inside && !r->changes[0].inside) ||
        (r->changes[3].inside && !r->changes[2].inside))
        sched_fail("the instant has a guest's later change and not its earlier one");
    for (unsigned i = 0; i < CHANGES; i++) {
        const struct change *c = &r->changes[i];

        if (c->begun && (r->instant[c->disk][c->offset] == (char)('0' + i)) != c->inside)
            sched_fail("change %u had entered the gate and was not done", i);
    }
}

static void check_turnover(void *rig)
{
    struct rig *r = rig;

    check_order(r);
    for (unsigned d = 0; d < DISKS; d++) {
        check_bitmap(r, d, "before", before_instant);
        check_bitmap(r, d, "now", after_instant);
    }
    rig_free(r);
}

static const struct scenario two_disks = {
    .name = "an instant over two disks between two guests who write to both",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_bitmaps,
    .bodies = {turnover, a_then_b, b_then_a},
    .finish = check_turnover,
};

/* ---- a backup begins ---- */

/* What is dirty on each disk at the instant is frozen; the bitmaps go on. */
static void freeze(void *opaque)
{
    struct rig *r = opaque;
    struct instant *i = instant_new();
    struct dirty_bitmap **frozen = r->opaque;
    GError *error = NULL;

    for (unsigned d = 0; d < DISKS; d++)
        must(instant_freeze(i, r->disks[d],
                            &(struct freeze_options){.name = "frozen", .source = "now"}, &frozen[d],
                            &error),
             error);
    must(instant_commit(i, &error), error);
}

static void *to_freeze(void)
{
    static struct dirty_bitmap *frozen[DISKS];
    struct rig *r = with_bitmaps();

    r->opaque = frozen;
    return r;
}

/* Exactly what came before the instant is in it. */
static void check_frozen(void *opaque)
{
    struct rig *r = opaque;
    struct dirty_bitmap **frozen = r->opaque;

    check_order(r);
    for (unsigned d = 0; d < DISKS; d++) {
        check_bitmap_of(r, d, frozen[d], before_instant);
        check_bitmap(r, d, "now", always);
        dirty_bitmap_unref(frozen[d]);
    }
    rig_free(r);
}

static const struct scenario frozen_two_disks = {
    .name = "two disks are frozen between two guests who write to both",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = to_freeze,
    .bodies = {freeze, a_then_b, b_then_a},
    .finish = check_frozen,
};

static const struct scenario frozen_one_guest = {
    .name = "two disks are frozen while a guest writes to both",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = to_freeze,
    .bodies = {freeze, a_then_b},
    .finish = check_frozen,
};

static void give_up(void *rig)
{
    struct instant *i = instant_new();

    stage_turnover(rig, i);
    instant_abort(i);
}

static void check_given_up(void *rig)
{
    struct rig *r = rig;

    for (unsigned d = 0; d < DISKS; d++) {
        check_bitmap(r, d, "before", never);
        check_bitmap(r, d, "now", always);
        if (r->disks[d]->tracker->n != 1)
            sched_fail("disk %u: a shadow is left", d);
    }
    rig_free(r);
}

static const struct scenario given_up = {
    .name = "an instant that is given up",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_bitmaps,
    .bodies = {give_up, a_then_b, b_then_a},
    .finish = check_given_up,
};

/* ---- run step by step ---- */

static void wake(void *opaque)
{
    futex_word *wakes = opaque;

    atomic_fetch_add(wakes, 1);
    sched_wake(wakes, "wake", 0);
}

/* Begins recording anew on both disks. */
static struct instant *stage_clear(struct rig *r)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    for (unsigned d = 0; d < DISKS; d++)
        must(instant_bitmap_clear(i, r->disks[d], "now", &error), error);
    return i;
}

static void clear_by_steps(void *rig)
{
    struct instant *i = stage_clear(rig);
    enum instant_state state;
    futex_word wakes = 0;

    instant_start(i, wake, &wakes);
    while ((state = instant_step(i, NULL)) == INSTANT_WAITS)
        while (!atomic_load(&wakes))
            sched_wait(&wakes, 0, "waiting for a wake", 0);
    if (state != INSTANT_DONE)
        sched_fail("an instant failed, and nothing was in its way");
    if (atomic_load(&wakes) > 1)
        sched_fail("an instant was told to go on twice");
}

static void check_cleared(void *rig)
{
    struct rig *r = rig;

    check_order(r);
    for (unsigned d = 0; d < DISKS; d++)
        check_bitmap(r, d, "now", after_instant);
    rig_free(r);
}

static const struct scenario by_steps = {
    .name = "an instant over two disks that is told when writes have ended",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = with_bitmaps,
    .bodies = {clear_by_steps, a_then_b},
    .finish = check_cleared,
};

static const struct scenario by_steps_two_guests = {
    .name = "an instant over two disks that is told so, between two guests",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_bitmaps,
    .bodies = {clear_by_steps, a_then_b, b_then_a},
    .finish = check_cleared,
};

/* An instant is cancelled where it has to wait, and makes no call later. Then another follows. */
static void cancel_and_clear(void *rig)
{
    struct rig *r = rig;
    struct instant *i = stage_clear(r);
    enum instant_state state;
    futex_word wakes = 0;
    uint32_t n;

    instant_start(i, wake, &wakes);
    state = instant_step(i, NULL);
    if (state == INSTANT_DONE)
        return;
    instant_cancel(i);
    state = instant_step(i, NULL);
    if (state == INSTANT_WAITS)
        sched_fail("an instant that was cancelled waits for writes");
    if (state == INSTANT_DONE)
        return;
    n = atomic_load(&wakes);
    for (unsigned d = 0; d < DISKS; d++)
        if (atomic_load(&r->disks[d]->gate.closed) || disk_in_instant(r->disks[d]))
            sched_fail("disk %u: something is left of an instant that was cancelled", d);
    clear_by_steps(r);
    if (atomic_load(&wakes) != n)
        sched_fail("an instant that was cancelled is told to go on");
}

static const struct scenario cancelled = {
    .name = "an instant that is cancelled while writes end, and another",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = with_bitmaps,
    .bodies = {cancel_and_clear, a_then_b},
    .finish = check_cleared,
};

static const struct scenario *const scenarios[] = {
    &by_steps, &by_steps_two_guests, &cancelled,        &two_disks,
    &given_up, &frozen_two_disks,    &frozen_one_guest,
};

int main(int argc, char **argv)
{
    return run_scenarios(argc, argv, scenarios, G_N_ELEMENTS(scenarios));
}
