/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small scenes of server/disk/ in all schedules (sched.h): two or three threads, a disk of two
 * blocks, one view or two. What must hold after each run is what the model test checks at large.
 */
#include "server/disk/view-chain.h"
#include "tests/rigs/sched-disk.h"

#include <errno.h>
#include <string.h>

/* ---- guests who write to one block, under one view ---- */

static void *one_view(void)
{
    struct rig *r = rig_new(1);

    put(r, 0, 0, 0, SIZE, 'a');
    add_view(r, 0, 0, false);
    return r;
}

static void write_0(void *rig)
{
    put(rig, 0, 0, 0, SECTOR, 'x');
}

static void write_1(void *rig)
{
    put(rig, 1, 0, SECTOR, SECTOR, 'y');
}

static void write_2(void *rig)
{
    put(rig, 2, 0, 2 * SECTOR, SECTOR, 'z');
}

static void write_both(void *rig)
{
    put(rig, 1, 0, UNIT - SECTOR, 2 * SECTOR, 'z');
}

static void write_other_block(void *rig)
{
    put(rig, 2, 0, UNIT, SECTOR, 'w');
}

static void read_view_0(void *rig)
{
    check_view(rig, 0, 0, UNIT);
}

static void read_all_of_view_0(void *rig)
{
    check_view(rig, 0, 0, SIZE);
}

static void kept_one(void *rig)
{
    check_kept(rig, 0, UNIT);
    rig_free(rig);
}

static void kept_two(void *rig)
{
    check_kept(rig, 0, 2 * UNIT);
    rig_free(rig);
}

static const struct scenario same_block = {
    .name = "two guests and a reader at one block",
    .preemptions = 2,
    .preemptions_long = 4,
    .setup = one_view,
    .bodies = {write_0, write_1, read_view_0},
    .finish = kept_one,
};

/* One guest keeps the block, one waits for that, and then a third one comes. */
static const struct scenario three_guests = {
    .name = "three guests at one block",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = one_view,
    .bodies = {write_0, write_1, write_2},
    .finish = kept_one,
};

static const struct scenario two_blocks = {
    .name = "two guests at two blocks that cross, and a reader",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = one_view,
    .bodies = {write_both, write_other_block, read_all_of_view_0},
    .finish = kept_two,
};

/* ---- an image that takes whole blocks: what a guest writes is a part of one ---- */

static void *one_view_of_blocks(void)
{
    struct rig *r = rig_new(UNIT);

    put(r, 0, 0, 0, SIZE, 'a');
    add_view(r, 0, 0, false);
    return r;
}

/* Neither guest has written the other's sector back as it was before. */
static void both_written(void *rig)
{
    struct rig *r = rig;
    char want[SIZE], have[SIZE];

    memset(want, 'a', SIZE);
    memset(want, 'x', SECTOR);
    memset(want + SECTOR, 'y', SECTOR);
    fake_backend_peek(r->backends[0], have, SIZE, 0);
    compare("the disk", have, want, 0, SIZE);
    kept_one(r);
}

static const struct scenario whole_blocks = {
    .name = "two guests at parts of one block of the image, and a reader",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = one_view_of_blocks,
    .bodies = {write_0, write_1, read_view_0},
    .finish = both_written,
};

/* ---- a view goes while an older one is read ---- */

/* Block 0 was kept by view 1, which is about to go; view 0 needs it. */
static void *two_views(void)
{
    struct rig *r = one_view();

    add_view(r, 1, 0, true);
    put(r, 0, 0, 0, UNIT, 'b');
    check_kept(r, 1, UNIT);
    return r;
}

static void delete_view_1(void *rig)
{
    drop_view(rig, 1);
}

static const struct scenario view_goes = {
    .name = "a view goes, its older neighbour is read, a guest writes",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views,
    .bodies = {delete_view_1, read_all_of_view_0, write_other_block},
    .finish = kept_two,
};

/* Both views keep the same block. Nobody needs what view 1 kept, so its slot is soon used again. */
static void *two_views_own(void)
{
    struct rig *r = one_view();

    put(r, 0, 0, 0, UNIT, 'b');
    add_view(r, 1, 0, true);
    put(r, 0, 0, 0, UNIT, 'c');
    check_kept(r, 0, UNIT);
    check_kept(r, 1, UNIT);
    return r;
}

static const struct scenario view_goes_own = {
    .name = "a view goes that nobody inherits from",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views_own,
    .bodies = {delete_view_1, read_all_of_view_0, write_other_block},
    .finish = kept_two,
};

/* Nothing was written before the views, so view 1 keeps a hole. */
static void *two_views_of_holes(void)
{
    struct rig *r = rig_new(1);

    add_view(r, 0, 0, false);
    add_view(r, 1, 0, true);
    put(r, 0, 0, 0, UNIT, 'b');
    return r;
}

static void extents_of_view_0(void *rig)
{
    struct rig *r = rig;
    struct extents e = EXTENTS_INIT;
    int error = node_extents(r->readers[0], SIZE, 0, 0, &e);

    if (error < 0 || e.count != 1 || e.list[0].flags != (EXTENT_HOLE | EXTENT_ZERO))
        sched_fail("view 0 is not all hole: %d, %u extents, first has flags %u", error,
                   (unsigned)e.count, e.count ? e.list[0].flags : 0);
    extents_free(&e);
}

static void kept_none(void *rig)
{
    check_kept(rig, 0, 0);
    rig_free(rig);
}

static const struct scenario view_goes_extents = {
    .name = "a view goes, its older neighbour is asked for holes, a guest writes",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views_of_holes,
    .bodies = {delete_view_1, extents_of_view_0, write_other_block},
    .finish = kept_none,
};

/* ---- a view breaks while two guests write to a block of it ---- */

static void *two_equal_views(void)
{
    struct rig *r = one_view();

    add_view(r, 1, 0, false);
    return r;
}

/* Break the view as a third guest does that writes elsewhere, and whose old data cannot be kept. */
static void break_view_1(void *rig)
{
    struct rig *r = rig;

    gate_enter(r->guests[0][2]->slot);
    view_break(r->views[1], "no more scratch");
    gate_leave(r->guests[0][2]->slot);
}

/* View 1 kept the block or it did not, but nobody kept it twice. */
static void view_1_broke(void *rig)
{
    struct rig *r = rig;
    struct view_info info[2];

    for (unsigned n = 0; n < 2; n++)
        view_info(r->views[n], &info[n]);
    if (!info[1].broken || info[0].broken)
        sched_fail("the wrong view broke");
    if (info[0].scratch_bytes + info[1].scratch_bytes != UNIT)
        sched_fail("the views keep %u and %u bytes of one block", (unsigned)info[0].scratch_bytes,
                   (unsigned)info[1].scratch_bytes);
    check_view(r, 0, 0, SIZE);
    drop_view(r, 1);
    rig_free(r);
}

static const struct scenario view_breaks = {
    .name = "a view breaks while two guests write to a block of it",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = two_equal_views,
    .bodies = {write_0, write_1, break_view_1},
    .finish = view_1_broke,
};

/* ---- a view's client trims it ---- */

static void trim(struct rig *r, uint64_t offset, uint64_t length)
{
    int error = node_trim(r->readers[1], length, offset, 0);

    if (error < 0)
        sched_fail("trim: %s", g_strerror(-error));
    memset(r->was[1] + offset, 0, length);
}

static void trim_0(void *rig)
{
    trim(rig, 0, UNIT);
}

static void trim_1(void *rig)
{
    trim(rig, UNIT, UNIT);
}

/* While it is trimmed a reader may get the old bytes or zeroes, block by block. */
static void read_view_1(void *rig)
{
    struct rig *r = rig;
    char buf[UNIT];
    int error = node_read(r->readers[1], buf, UNIT, 0, 0);

    if (error < 0 || (buf[0] != 'b' && buf[0] != 0) || memcmp(buf, buf + 1, UNIT - 1) != 0)
        sched_fail("view 1, being trimmed: %s, %02x", g_strerror(-error), (unsigned char)buf[0]);
}

static void finish(void *rig)
{
    rig_free(rig);
}

/* Each view keeps one block: view 1 gave one away and kept the other. */
static void kept_one_each(void *rig)
{
    check_kept(rig, 1, UNIT);
    kept_one(rig);
}

static const struct scenario trim_kept = {
    .name = "a kept block is trimmed, the older view is read, a guest writes",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views,
    .bodies = {trim_0, read_all_of_view_0, write_other_block},
    .finish = kept_one_each,
};

static const struct scenario trim_needed = {
    .name = "a block is trimmed and written, the older view is read",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views,
    .bodies = {trim_1, read_all_of_view_0, write_other_block},
    .finish = finish,
};

/* Block 0 moves from view 1 to view 0. A reader of view 0 finds it at any moment. */
static void look_for_0(void *rig)
{
    struct rig *r = rig;
    unsigned phase = grace_enter(&r->disks[0]->readers);

    if (view_resolve(r->views[0], 0) < BLOCK_KEPT_SLOT)
        sched_fail("block 0 is not found on its way");
    grace_leave(&r->disks[0]->readers, phase);
}

static const struct scenario trim_moves = {
    .name = "a block is looked for that a TRIM hands over",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = two_views,
    .bodies = {trim_0, look_for_0},
    .finish = finish,
};

static const struct scenario deletion_moves = {
    .name = "a block is looked for that a deletion hands over",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = two_views,
    .bodies = {delete_view_1, look_for_0},
    .finish = finish,
};

static const struct scenario deletion_extents = {
    .name = "an older view is asked for holes that a deletion hands over",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views_of_holes,
    .bodies = {delete_view_1, extents_of_view_0},
    .finish = finish,
};

static const struct scenario trim_read = {
    .name = "a block is trimmed and read, its slot is taken by a guest's write",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = two_views_own,
    .bodies = {trim_0, read_view_1, write_other_block},
    .finish = finish,
};

/* The small ones first. */
static const struct scenario *const scenarios[] = {
    &three_guests, &trim_moves,   &deletion_moves, &deletion_extents, &same_block,
    &two_blocks,   &whole_blocks, &view_goes,      &view_goes_own,    &view_goes_extents,
    &view_breaks,  &trim_kept,    &trim_needed,    &trim_read,
};

int main(int argc, char **argv)
{
    return run_scenarios(argc, argv, scenarios, G_N_ELEMENTS(scenarios));
}
