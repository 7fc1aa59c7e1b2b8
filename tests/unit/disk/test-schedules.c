/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small scenes of server/disk/ in all schedules (sched.h): two or three threads, a disk of two
 * blocks, one view or two. What must hold after each run is what the model test checks at large.
 */
#include "server/disk/disk-private.h"
#include "server/disk/instant.h"
#include "tests/rigs/fake-backend.h"
#include "tests/rigs/sched.h"

#include <errno.h>
#include <string.h>

#define UNIT    4096u
#define SIZE    (2 * UNIT)
#define SECTOR  FAKE_SECTOR
#define DISKS   2
#define VIEWS   2
#define GUESTS  3
#define CHANGES 4

/* A write that a guest does, and whether it had entered the gate when an instant closed it. */
struct change {
    unsigned disk;
    uint64_t offset; /* no other change has it */
    bool begun, entered, inside;
};

struct rig {
    struct disk *disks[DISKS];
    struct backend *backends[DISKS];
    struct disk_hooks hooks[DISKS];
    struct place {
        struct rig *rig;
        unsigned disk;
    } places[DISKS];
    struct node_io *guests[DISKS][GUESTS];
    struct view *views[VIEWS];
    struct node_io *readers[VIEWS];
    char was[VIEWS][SIZE];     /* what each view must hold */
    char instant[DISKS][SIZE]; /* the disks when the gates were closed */
    struct change changes[CHANGES];
};

/* ---- the stage ---- */

static int backend_hook(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    static const char *const names[] = {"backend read",  "backend write", "backend zero",
                                        "backend trim",  "backend flush", "backend extents",
                                        "backend resize"};

    sched_step(names[call], (int)(offset / SECTOR));
    return 0;
}

static int at(void *opaque, enum disk_point point, uint64_t offset)
{
    const struct place *p = opaque;
    struct rig *r = p->rig;

    for (unsigned i = 0; point == POINT_WRITE_ENTERED && i < CHANGES; i++)
        if (r->changes[i].begun && r->changes[i].disk == p->disk && r->changes[i].offset == offset)
            r->changes[i].entered = true;
    for (unsigned i = 0; point == POINT_GATES_CLOSED && i < CHANGES; i++)
        r->changes[i].inside = r->changes[i].entered;
    if (point == POINT_GATES_CLOSED)
        fake_backend_peek(r->backends[p->disk], r->instant[p->disk], SIZE, 0);
    return 0;
}

static struct rig *rig_new(void)
{
    struct rig *r = g_new0(struct rig, 1);

    for (unsigned d = 0; d < DISKS; d++) {
        r->backends[d] = fake_backend_new(SIZE);
        fake_backend_set_hook(r->backends[d], backend_hook, r);
        r->disks[d] =
            disk_new(&(struct disk_config){.name = d ? "b" : "a", .backend = r->backends[d]}, NULL);
        r->places[d] = (struct place){r, d};
        r->hooks[d] = (struct disk_hooks){.at = at, .opaque = &r->places[d]};
        r->disks[d]->hooks = &r->hooks[d];
        for (unsigned g = 0; g < GUESTS; g++)
            g_assert_cmpint(
                node_io_open(disk_node(r->disks[d]), true, false, NULL, &r->guests[d][g], NULL), ==,
                0);
    }
    return r;
}

static void put(struct rig *r, unsigned guest, unsigned disk, uint64_t offset, uint32_t length,
                char c)
{
    char buf[SIZE];
    int error;

    memset(buf, c, length);
    error = node_write(r->guests[disk][guest], buf, length, offset, 0);
    if (error != 0)
        sched_fail("a write at %u: %s", (unsigned)offset, g_strerror(-error));
}

/* Write a sector, as change `n` of the scene. */
static void change(struct rig *r, unsigned guest, unsigned n, unsigned disk, uint64_t offset)
{
    struct change *c = &r->changes[n];

    c->disk = disk;
    c->offset = offset;
    c->begun = true;
    put(r, guest, disk, offset, SECTOR, (char)('0' + n));
}

static void add_view(struct rig *r, unsigned n, uint64_t limit, bool discard)
{
    const struct view_options options = {.scratch_limit = limit};
    struct instant *i = instant_new();

    g_assert_cmpint(
        instant_view_create(i, r->disks[0], n ? "v1" : "v0", &options, &r->views[n], NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    g_assert_cmpint(
        node_io_open(view_node(r->views[n]), false, discard, NULL, &r->readers[n], NULL), ==, 0);
    fake_backend_peek(r->backends[0], r->was[n], SIZE, 0);
}

static void compare(const char *what, const char *have, const char *want, uint64_t offset,
                    uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        if (have[i] != want[offset + i])
            sched_fail("%s has %02x at %u, not %02x", what, (unsigned char)have[i],
                       (unsigned)(offset + i), (unsigned char)want[offset + i]);
}

static void check_view(struct rig *r, unsigned n, uint64_t offset, uint32_t length)
{
    char buf[SIZE];
    int error = node_read(r->readers[n], buf, length, offset, 0);

    if (error < 0)
        sched_fail("view %u: %s", n, g_strerror(-error));
    compare(n ? "view 1" : "view 0", buf, r->was[n], offset, length);
}

static void check_kept(struct rig *r, unsigned n, uint64_t bytes)
{
    struct view_info info;

    view_info(r->views[n], &info);
    if (info.scratch_bytes != bytes)
        sched_fail("view %u keeps %u bytes, not %u", n, (unsigned)info.scratch_bytes,
                   (unsigned)bytes);
}

static void drop_view(struct rig *r, unsigned n)
{
    g_autoptr(GError) error = NULL;

    if (!r->views[n])
        return;
    node_io_close(r->readers[n]);
    if (view_delete(r->views[n], &error) < 0)
        sched_fail("view-delete: %s", error->message);
    r->views[n] = NULL;
}

static void rig_free(struct rig *r)
{
    for (unsigned n = 0; n < VIEWS; n++) {
        if (r->views[n])
            check_view(r, n, 0, SIZE);
        drop_view(r, n);
    }
    for (unsigned d = 0; d < DISKS; d++) {
        for (unsigned g = 0; g < GUESTS; g++)
            node_io_close(r->guests[d][g]);
        disk_free(r->disks[d]);
    }
    g_free(r);
}

/* ---- guests who write to one block, under one view ---- */

static void *one_view(void)
{
    struct rig *r = rig_new();

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

/* One keeps the block, one waits for that, and then comes a third. */
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

/* The same block in both: what view 1 kept is nobody's and its slot is soon used again. */
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

/* Never written at first, so what view 1 kept is a hole. */
static void *two_views_of_holes(void)
{
    struct rig *r = rig_new();

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

/* As a third guest would, elsewhere, whose old data cannot be kept. */
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

/* One block each: view 1 gave one away and kept the other. */
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

/* Block 0 is in view 1 or, on its way, in view 0: a reader of that finds it, wherever it looks. */
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

/* ---- instants ---- */

static void add_bitmap(struct rig *r, unsigned disk, const char *name, bool recording)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, r->disks[disk], name, SECTOR, recording, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
}

static void *with_bitmaps(void)
{
    struct rig *r = rig_new();

    put(r, 0, 0, 0, SIZE, 'a');
    put(r, 0, 1, 0, SIZE, 'a');
    for (unsigned d = 0; d < DISKS; d++) {
        add_bitmap(r, d, "now", true);
        add_bitmap(r, d, "before", false);
    }
    return r;
}

/* Dirty is exactly what `want` says of each change. */
static void check_bitmap(struct rig *r, unsigned disk, const char *name,
                         bool (*want)(const struct change *))
{
    struct dirty_bitmap *db = disk_find_bitmap(r->disks[disk], name);
    struct bitmap *bits = dirty_bitmap_bits(db);

    for (uint64_t s = 0; s < SIZE; s += SECTOR) {
        bool expected = false;

        for (unsigned i = 0; i < CHANGES; i++)
            expected |=
                r->changes[i].disk == disk && r->changes[i].offset == s && want(&r->changes[i]);
        if (bitmap_test(bits, s) != expected)
            sched_fail("disk %u: sector %u of bitmap %s is %s", disk, (unsigned)(s / SECTOR), name,
                       expected ? "clean" : "dirty");
    }
    bitmap_unref(bits);
    dirty_bitmap_unref(db);
}

static bool before_instant(const struct change *c)
{
    return c->inside;
}

static bool after_instant(const struct change *c)
{
    return !c->inside;
}

static bool always(const struct change *c)
{
    return true;
}

static bool never(const struct change *c)
{
    return false;
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

static void must(int result, GError *error)
{
    if (result < 0)
        sched_fail("%s", error->message);
}

/* On both disks: what was recorded so far goes to "before", and recording begins anew. */
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

        if ((r->instant[c->disk][c->offset] == (char)('0' + i)) != c->inside)
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

/* The small ones first. */
static const struct scenario *const scenarios[] = {
    &three_guests, &trim_moves,  &deletion_moves, &deletion_extents,  &same_block,
    &two_blocks,   &view_goes,   &view_goes_own,  &view_goes_extents, &view_breaks,
    &trim_kept,    &trim_needed, &trim_read,      &two_disks,         &given_up,
};

static void test_scenario(gconstpointer scenario)
{
    sched_explore(scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *path = g_strdup_printf("/schedules/%s", scenarios[i]->name);

        g_test_add_data_func(path, scenarios[i], test_scenario);
    }
    return g_test_run();
}
