/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Readers, changes, evictions and commits of slices, in all schedules (sched.h): each access to a word of a
 * slice, each lock, each read, write and sync of the file is a step. What a reader is told was true
 * while he asked; what was changed before a commit began is in the file, and was synced, when it returns.
 */
#include "tests/rigs/sched.h"
#include "tests/rigs/slices-rig.h"

#include <string.h>

/* Small clusters have small slices: 64 words. 8 of them are in memory. */
#define C      UINT64_C(512)
#define SLICE  (64 * C) /* bytes of the disk */
#define COPIED Q2_ENTRY_COPIED
#define ALL    UINT64_C(0xffffffff)

struct scene {
    struct slices_rig r;
    bool changed; /* the entry of cluster 0, before the commit */
    /* At each sync: what the file has of the entry of cluster 0; and whether data were synced before. */
    uint64_t synced;
    bool data_written, data_synced;
};

static void file_step(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    struct scene *s = r->opaque;

    sched_step(event == SLICES_READ ? "read" : event == SLICES_WRITE ? "write" : "sync", 0);
    if (event != SLICES_SYNC)
        return;
    s->synced = slices_rig_get(r, 0);
    s->data_synced = s->data_written;
    if (s->synced && !s->data_written)
        sched_fail("an entry is durable whose data is not written");
}

/* A table for each slice; those of the first nine lead to clusters of their own. */
static struct scene *scene_new(bool extended, bool tables)
{
    struct scene *s = g_new0(struct scene, 1);

    slices_rig_begin(&s->r, &(struct slices_options){.cluster_bits = extended ? 14 : 9,
                                                     .extended = extended,
                                                     .size = 16 * SLICE,
                                                     .memory = 1});
    for (unsigned i = 0; tables && i < (extended ? 1 : 9); i++)
        slices_rig_table(&s->r, i);
    slices_rig_grow(&s->r, 1000 * s->r.layer.cluster);
    s->r.opaque = s;
    s->r.before = file_step;
    return s;
}

static void scene_free(struct scene *s)
{
    slices_rig_end(&s->r);
    g_free(s);
}

static uint64_t host_of(unsigned slice)
{
    return (500 + slice) * C;
}

/* ---- a slot that is given to another slice ---- */

static void *full_cache(void)
{
    struct scene *s = scene_new(false, true);

    for (unsigned i = 0; i < 9; i++)
        slices_rig_entry(&s->r, i * 64, host_of(i) | COPIED, 0);
    for (unsigned i = 0; i < 8; i++)
        slices_rig_run(&s->r, i * SLICE, C);
    return s;
}

static void expect_slice(struct scene *s, unsigned i, bool wait)
{
    struct live_run run;

    if (wait)
        run = slices_rig_run(&s->r, i * SLICE, C);
    else if (!live_slices_run(&s->r.layer, i * SLICE, C, &run))
        return;
    if (run.kind != Q2_DATA || run.host != host_of(i))
        sched_fail("slice %u has the kind %d and the host %u", i, (int)run.kind,
                   (unsigned)(run.host / C));
}

static void read_first(void *scene)
{
    expect_slice(scene, 0, false);
}

static void load_first(void *scene)
{
    expect_slice(scene, 0, true);
}

static void load_another(void *scene)
{
    expect_slice(scene, 8, true);
}

static void all_slices(void *scene)
{
    for (unsigned i = 0; i < 9; i++)
        expect_slice(scene, i, true);
    scene_free(scene);
}

/* ---- extended entries ---- */

/* What an entry was, and becomes; the kinds of its first subcluster then. */
static const struct life {
    struct live_entry from, to;
    enum q2_kind before, after;
} lives[] = {
    {{0, 0}, {(50 << 14) | COPIED, 1}, Q2_UNALLOCATED, Q2_DATA},
    {{0, ALL << 32}, {(51 << 14) | COPIED, 1 | (ALL - 1) << 32}, Q2_ZERO, Q2_DATA},
    {{52 << 14, ALL}, {0, ALL << 32}, Q2_DATA, Q2_ZERO},
    {{Q2_ENTRY_COMPRESSED | (53 << 14), 0}, {(54 << 14) | COPIED, ALL}, Q2_COMPRESSED, Q2_DATA},
    {{Q2_ENTRY_COMPRESSED | (53 << 14), 0}, {0, ALL << 32}, Q2_COMPRESSED, Q2_ZERO},
};

static void *extended(void)
{
    struct scene *s = scene_new(true, true);

    s->data_written = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(lives); i++)
        slices_rig_entry(&s->r, i, lives[i].from.word, lives[i].from.bitmap);
    slices_rig_run(&s->r, 0, C);
    return s;
}

static void change_lives(void *scene)
{
    struct scene *s = scene;

    for (unsigned i = 0; i < G_N_ELEMENTS(lives); i++)
        slices_rig_change(&s->r, i, lives[i].to.word, lives[i].to.bitmap, false);
}

static void watch_lives(void *scene)
{
    struct scene *s = scene;

    for (unsigned i = 0; i < G_N_ELEMENTS(lives); i++) {
        enum q2_kind last = lives[i].before;

        for (unsigned look = 0; look < 2; look++) {
            struct live_run run = slices_rig_run(&s->r, (uint64_t)i << 14, C);

            if (run.kind != last && run.kind != lives[i].after)
                sched_fail("life %u: kind %d", i, (int)run.kind);
            last = run.kind;
        }
    }
}

static void end_lives(void *scene)
{
    struct scene *s = scene;

    for (unsigned i = 0; i < G_N_ELEMENTS(lives); i++)
        if (slices_rig_run(&s->r, (uint64_t)i << 14, C).kind != lives[i].after)
            sched_fail("life %u has not changed", i);
    scene_free(s);
}

/* ---- changes, while tables are made and slices come and go ---- */

static void *no_tables(void)
{
    struct scene *s = scene_new(false, false);

    s->data_written = true;
    return s;
}

static void change_one(void *scene)
{
    struct scene *s = scene;

    slices_rig_change(&s->r, 0, host_of(0) | COPIED, 0, false);
    expect_slice(s, 0, true);
}

static void change_two(void *scene)
{
    struct scene *s = scene;

    slices_rig_change(&s->r, 1, host_of(1) | COPIED, 0, false);
}

static void one_table(void *scene)
{
    struct scene *s = scene;

    if (s->r.tables != 1)
        sched_fail("%d tables were made", s->r.tables);
    if (live_commit(&s->r.image) < 0)
        sched_fail("a commit failed");
    for (unsigned i = 0; i < 2; i++)
        if (slices_rig_get(&s->r, i) != (host_of(i) | COPIED))
            sched_fail("the file lacks entry %u", i);
    if (slices_rig_get_l1(&s->r, 0) != s->r.layer.l1[0])
        sched_fail("the file lacks the table");
    scene_free(s);
}

/* ---- commits ---- */

/* Slice 0 is dirty, and will be evicted by the next one that is loaded. */
static void *dirty_cache(void)
{
    struct scene *s = scene_new(false, true);

    s->data_written = true;
    for (unsigned i = 0; i < 8; i++) {
        slices_rig_run(&s->r, i * SLICE, C);
        slices_rig_change(&s->r, i * 64, host_of(i) | COPIED, 0, false);
    }
    slices_rig_entry(&s->r, 8 * 64, host_of(8) | COPIED, 0);
    return s;
}

static void commit_dirty(void *scene)
{
    struct scene *s = scene;

    if (live_commit(&s->r.image) < 0)
        sched_fail("a commit failed");
    for (unsigned i = 0; i < 8; i++)
        if (slices_rig_get(&s->r, i * 64) != (host_of(i) | COPIED))
            sched_fail("a commit left out slice %u", i);
    if (s->synced != (host_of(0) | COPIED))
        sched_fail("a commit has not synced slice 0");
}

static void *clean_cache(void)
{
    return scene_new(false, true);
}

/* A write over something: the data, and then the entry. And a flush. */
static void write_and_flush(void *scene)
{
    struct scene *s = scene;

    sched_step("data", 0);
    s->data_written = true;
    slices_rig_change(&s->r, 0, host_of(0) | COPIED, 0, true);
    if (live_commit(&s->r.image) < 0)
        sched_fail("a commit failed");
    if (s->synced != (host_of(0) | COPIED))
        sched_fail("a flush has not synced the entry");
}

/* Another entry of that slice, and a flush. */
static void change_and_flush(void *scene)
{
    struct scene *s = scene;

    slices_rig_change(&s->r, 1, host_of(1) | COPIED, 0, false);
    if (live_commit(&s->r.image) < 0)
        sched_fail("a commit failed");
    if (slices_rig_get(&s->r, 1) != (host_of(1) | COPIED))
        sched_fail("a flush left out an entry");
}

static void write_back(void *scene)
{
    struct scene *s = scene;

    live_write_back(&s->r.image);
    if (slices_rig_get(&s->r, 0) && !s->data_synced)
        sched_fail("an entry is written before its data is synced");
}

static void end(void *scene)
{
    scene_free(scene);
}

static const struct scenario scenarios[] = {
    {
        .name = "a reader of a slot that is given to another slice",
        .preemptions = 2,
        .preemptions_long = 3,
        .setup = full_cache,
        .bodies = {read_first, load_another},
        .finish = all_slices,
    },
    {
        .name = "two that load one slice while a third takes its place",
        .preemptions = 1,
        .preemptions_long = 2,
        .setup = full_cache,
        .bodies = {load_another, load_first, load_another},
        .finish = all_slices,
    },
    {
        .name = "extended entries that change under a reader",
        .preemptions = 2,
        .preemptions_long = 3,
        .setup = extended,
        .bodies = {watch_lives, change_lives},
        .finish = end_lives,
    },
    {
        .name = "two that make one table",
        .preemptions = 2,
        .preemptions_long = 3,
        .setup = no_tables,
        .bodies = {change_one, change_two},
        .finish = one_table,
    },
    {
        .name = "a commit and evictions",
        .preemptions = 1,
        .preemptions_long = 2,
        .setup = dirty_cache,
        .bodies = {commit_dirty, load_another},
        .finish = all_slices,
    },
    {
        .name = "a flagged change, another of its slice, and writing back",
        .preemptions = 1,
        .preemptions_long = 2,
        .setup = clean_cache,
        .bodies = {write_and_flush, change_and_flush, write_back},
        .finish = end,
    },
};

static void test_scenario(gconstpointer scenario)
{
    sched_explore(scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *path = g_strdup_printf("/slices-schedules/%s", scenarios[i].name);

        g_test_add_data_func(path, &scenarios[i], test_scenario);
    }
    return g_test_run();
}
