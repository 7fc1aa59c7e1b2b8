/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants over two disks with a store, beside guests who write to both, in all schedules (sched.h).
 * Whenever a write reaches an image, the bits have it that would count if the process died now.
 */
#include "tests/rigs/sched-disk.h"

#include <string.h>

/* ---- a store in memory ---- */

struct sched_store {
    bool fails;
    struct bitmap *next[DISKS]; /* what "now" will record in, if it is committed; borrowed */
    bool published;
    struct cover cover;
    _Atomic uint8_t regions[1];
};

static struct sched_store store;

struct state_disk {
    unsigned index;
};

static struct bitmap *bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err)
{
    return bitmap_new(size, granularity, err);
}

static int bits_attach(struct state_disk *d, struct bitmap *bits, GError **err)
{
    sched_step("attach", 0);
    return 0;
}

static int prepare(void *opaque, const struct state_change *changes, unsigned n,
                   struct state_transaction **t, GError **err)
{
    for (unsigned k = 0; k < n; k++)
        if (strcmp(changes[k].bitmap, "now") == 0)
            store.next[changes[k].disk->index] = changes[k].bits;
    sched_step("prepare", 0);
    return 0;
}

static int commit(void *opaque, struct state_transaction *t, GError **err)
{
    sched_step("commit", 0);
    if (!store.fails)
        return 0;
    memset(store.next, 0, sizeof store.next);
    g_set_error(err, g_quark_from_static_string("sched"), 0, "the commit fails");
    return -1;
}

static void end(void *opaque, struct state_transaction *t, bool committed)
{
    store.published = true;
}

static struct live_line lines[DISKS][GUESTS];
static unsigned taken[DISKS];

static struct live_line *line_take(struct state_disk *d)
{
    return &lines[d->index][taken[d->index]++ % GUESTS];
}

static void line_give(struct state_disk *d, struct live_line *line)
{
}

static const struct state_ops ops = {
    .bits_new = bits_new,
    .bits_attach = bits_attach,
    .prepare = prepare,
    .commit = commit,
    .end = end,
    .line_take = line_take,
    .line_give = line_give,
};

/* ---- what the bits have when a write is issued ---- */

static bool is_dirty(struct rig *r, unsigned disk, const char *name, uint64_t offset)
{
    struct dirty_bitmap *db = disk_find_bitmap(r->disks[disk], name);
    bool dirty = bitmap_test(db->bits, offset);

    dirty_bitmap_unref(db);
    return dirty;
}

/* Before the commit the old bits count, and after it the new ones. Which of them is not known until
 * it is published. */
static void issued(struct rig *r, unsigned disk, uint64_t offset)
{
    const struct change *c = NULL;

    for (unsigned i = 0; i < CHANGES; i++)
        if (r->changes[i].begun && r->changes[i].disk == disk && r->changes[i].offset == offset)
            c = &r->changes[i];
    if (!c || store.published)
        return;
    if (!is_dirty(r, disk, "now", offset))
        sched_fail("disk %u: the old bits lack sector %u", disk, (unsigned)(offset / SECTOR));
    if (r->flipped[disk] && store.next[disk] && !c->inside &&
        !bitmap_test(store.next[disk], offset))
        sched_fail("disk %u: the new bits lack sector %u", disk, (unsigned)(offset / SECTOR));
}

/* ---- the scenes ---- */

static void add_bitmap(struct rig *r, unsigned disk, const char *name, bool recording)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, r->disks[disk], name, SECTOR, recording, true, NULL), ==,
                    0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
}

static void *with_store(void)
{
    static struct state_disk disks[DISKS] = {{0}, {1}};
    struct rig *r = rig_new(1);

    store = (struct sched_store){0};
    memset(lines, 0, sizeof lines);
    put(r, 0, 0, 0, SIZE, 'a');
    put(r, 0, 1, 0, SIZE, 'a');
    for (unsigned d = 0; d < DISKS; d++) {
        rig_restore(r, d,
                    &(struct disk_state){
                        .ops = &ops, .store = &store, .disk = &disks[d], .cover = &store.cover});
        add_bitmap(r, d, "now", true);
        add_bitmap(r, d, "before", false);
        r->flipped[d] = false;
    }
    store.published = false;
    r->issued = issued;
    return r;
}

static void *with_store_that_fails(void)
{
    void *r = with_store();

    store.fails = true;
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

/* On both disks, move what was recorded so far to "before", and begin recording anew; and make a
 * view of the first. */
static struct instant *stage_turnover(struct rig *r)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    for (unsigned d = 0; d < DISKS; d++) {
        must(instant_bitmap_merge(i, r->disks[d], "before", r->disks[d], "now", &error), error);
        must(instant_bitmap_clear(i, r->disks[d], "now", &error), error);
    }
    must(instant_view_create(i, r->disks[0], "v0", &(struct view_options){0}, &r->views[0], &error),
         error);
    return i;
}

static void turnover(void *rig)
{
    struct rig *r = rig;
    GError *error = NULL;

    must(instant_commit(stage_turnover(r), &error), error);
    must(node_io_open(view_node(r->views[0]), false, false, NULL, &r->readers[0], &error), error);
    memcpy(r->was[0], r->instant[0], SIZE);
    check_view(r, 0, 0, SIZE);
}

static void check_turnover(void *rig)
{
    struct rig *r = rig;

    for (unsigned d = 0; d < DISKS; d++) {
        check_bitmap(r, d, "before", before_instant);
        check_bitmap(r, d, "now", after_instant);
    }
    rig_free(r);
}

static const struct scenario durable = {
    .name = "an instant over two disks is made durable, a guest writes to both",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = with_store,
    .bodies = {turnover, a_then_b},
    .finish = check_turnover,
};

static const struct scenario durable_two_guests = {
    .name = "an instant over two disks is made durable, between two guests",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_store,
    .bodies = {turnover, a_then_b, b_then_a},
    .finish = check_turnover,
};

/* An older view is there: it finds what the one that is given up has kept. */
static void *with_view_and_store_that_fails(void)
{
    struct rig *r = with_store();

    add_view(r, 1, 0, false);
    for (unsigned d = 0; d < DISKS; d++)
        r->flipped[d] = false;
    store.published = false;
    store.fails = true;
    return r;
}

static void fail_to_turn_over(void *rig)
{
    struct rig *r = rig;

    if (instant_commit(stage_turnover(r), NULL) == 0)
        sched_fail("an instant takes effect that was not committed");
    r->views[0] = NULL;
}

static void check_as_before(void *rig)
{
    struct rig *r = rig;

    store.fails = false;
    for (unsigned d = 0; d < DISKS; d++) {
        check_bitmap(r, d, "before", never);
        check_bitmap(r, d, "now", always);
        if (r->disks[d]->tracker->n != 1 || r->disks[d]->strays->len > 0)
            sched_fail("disk %u: something is left of an instant that failed", d);
    }
    if (r->disks[0]->newest != r->views[1])
        sched_fail("a view is left of an instant that failed");
    rig_free(r);
}

static const struct scenario not_durable = {
    .name = "an instant over two disks cannot be made durable, a guest writes to both",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_store_that_fails,
    .bodies = {fail_to_turn_over, a_then_b, b_then_a},
    .finish = check_as_before,
};

static void read_older(void *rig)
{
    check_view(rig, 1, 0, SIZE);
}

static const struct scenario older_view_inherits = {
    .name = "an instant cannot be made durable, an older view is read, a guest writes",
    .preemptions = 1,
    .preemptions_long = 2,
    .setup = with_view_and_store_that_fails,
    .bodies = {fail_to_turn_over, a_then_b, b_then_a, read_older},
    .finish = check_as_before,
};

/* ---- covered changes ---- */

/* A region is closed, as server/state/journal.c does: it is marked so, the phase is turned, and if
 * nobody is inside who may have found it open, all their bits are there. */
struct closing {
    bool settled;        /* nobody was inside */
    bool dirty[CHANGES]; /* the change's bit was set then */
};

static struct closing closing;

static int open_region(struct cover *c, uint64_t first, uint64_t last)
{
    sched_step("open", 0);
    atomic_store(&c->regions[0], REGION_OPEN);
    return 0;
}

static unsigned covered(unsigned phase)
{
    unsigned n = 0;

    for (unsigned g = 0; g < GUESTS; g++)
        n += atomic_load(&lines[0][g].inside[phase]);
    return n;
}

static void close_region(void *rig)
{
    struct rig *r = rig;
    unsigned phase;

    atomic_fetch_and(&store.regions[0], (uint8_t)~REGION_OPEN);
    sched_step("closed", 0);
    phase = atomic_fetch_add(&store.cover.phase, 1) & 1;
    sched_step("turned", 0);
    closing.settled = covered(phase) == 0;
    for (unsigned k = 0; k < CHANGES; k++)
        closing.dirty[k] = is_dirty(r, 0, "now", r->changes[k].offset) && r->changes[k].begun;
}

/* A write that is issued once the region was settled has its bit in what was synced then, or the
 * region was opened again before. */
static void issued_covered(struct rig *r, unsigned disk, uint64_t offset)
{
    issued(r, disk, offset);
    for (unsigned k = 0; k < CHANGES; k++)
        if (r->changes[k].begun && r->changes[k].offset == offset && closing.settled &&
            !closing.dirty[k] && !(atomic_load(&store.regions[0]) & REGION_OPEN))
            sched_fail("sector %u is written, and neither its bit nor its region is durable",
                       (unsigned)(offset / SECTOR));
}

static void *with_closing(void)
{
    struct rig *r = with_store();

    r->issued = issued_covered;
    closing = (struct closing){0};
    atomic_store(&store.regions[0], REGION_OPEN);
    store.cover.regions = store.regions;
    store.cover.open = open_region;
    return r;
}

static void one(void *rig)
{
    change(rig, 0, 0, 0, 0);
}

static void another(void *rig)
{
    change(rig, 1, 1, 0, SECTOR);
}

static bool begun(const struct change *c)
{
    return c->begun;
}

static void check_covered(void *rig)
{
    check_bitmap(rig, 0, "now", begun);
    if (covered(0) + covered(1) > 0)
        sched_fail("a change that is over is still covered");
    rig_free(rig);
}

static const struct scenario closing_beside_writers = {
    .name = "a region is closed beside two guests",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = with_closing,
    .bodies = {close_region, one, another},
    .finish = check_covered,
};

static const struct scenario *const scenarios[] = {
    &durable, &durable_two_guests, &not_durable, &older_view_inherits, &closing_beside_writers,
};

int main(int argc, char **argv)
{
    return run_scenarios(argc, argv, scenarios, G_N_ELEMENTS(scenarios));
}
