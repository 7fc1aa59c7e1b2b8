/* SPDX-License-Identifier: BSD-3-Clause */
/* Slices of L2 tables in the hands of many threads: whatever a reader is told was true while he asked. */
#include "tests/rigs/slices-rig.h"

#include <errno.h>
#include <string.h>

#define K        UINT64_C(1024)
#define C        (64 * K) /* bytes of a cluster */
#define SPAN     (UINT64_C(512) << 20)
#define COPIED   Q2_ENTRY_COPIED
#define ALL      UINT64_C(0xffffffff)
#define THREADS  4
#define CLUSTERS 64 /* that are changed, two of each slice */
#define STEP     256

static GThread *start(GThreadFunc function, gpointer opaque)
{
    return g_thread_new("test", function, opaque);
}

/* ---- readers, while entries change and slices come and go ---- */

struct race {
    struct slices_rig r;
    unsigned generations;
    /* Of each cluster: what has been begun, and what has been done. */
    _Atomic uint64_t begun[CLUSTERS], done[CLUSTERS];
    atomic_uint writers; /* that are at work */
    atomic_uint names;
    _Atomic uint64_t looks, commits;
};

static uint64_t host_of(const struct race *t, unsigned i, uint64_t generation)
{
    return (1000 + (uint64_t)i * (t->generations + 1) + generation) * C;
}

/* There is a commit after each change, and there are looks at it. */
static void wait_for_others(struct race *t)
{
    uint64_t looks = atomic_load(&t->looks), commits = atomic_load(&t->commits);

    while (atomic_load(&t->looks) < looks + CLUSTERS || atomic_load(&t->commits) == commits)
        g_thread_yield();
}

static gpointer write_generations(gpointer opaque)
{
    struct race *t = opaque;
    unsigned me = atomic_fetch_add(&t->names, 1);

    for (uint64_t g = 1; g <= t->generations; g++) {
        wait_for_others(t);
        for (unsigned i = me; i < CLUSTERS; i += 2) {
            atomic_store(&t->begun[i], g);
            slices_rig_change(&t->r, i * STEP, host_of(t, i, g) | COPIED, 0, (i + g) % 8 == 0);
            atomic_store(&t->done[i], g);
        }
    }
    atomic_fetch_sub(&t->writers, 1);
    return NULL;
}

static void look(struct race *t, unsigned i)
{
    uint64_t before = atomic_load(&t->done[i]), after, g;
    struct live_run run = slices_rig_run(&t->r, i * STEP * C, C);

    after = atomic_load(&t->begun[i]);
    g = run.kind == Q2_UNALLOCATED ? 0 : run.host / C - host_of(t, i, 0) / C;
    g_assert_true(run.kind == Q2_DATA || (run.kind == Q2_UNALLOCATED && before == 0));
    g_assert_cmpuint(g, >=, before);
    g_assert_cmpuint(g, <=, after);
    atomic_fetch_add(&t->looks, 1);
}

static gpointer read_generations(gpointer opaque)
{
    struct race *t = opaque;
    unsigned i = 0;

    while (atomic_load(&t->writers) > 0)
        look(t, (i = i * 5 + 17) % CLUSTERS);
    return NULL;
}

static gpointer make_commits(gpointer opaque)
{
    struct race *t = opaque;

    while (atomic_load(&t->writers) > 0) {
        g_assert_cmpint(live_write_back(&t->r.image), ==, 0);
        g_assert_cmpint(live_commit(&t->r.image), ==, 0);
        atomic_fetch_add(&t->commits, 1);
    }
    return NULL;
}

static void test_readers(gconstpointer memory)
{
    struct race *t = g_new0(struct race, 1);
    GThread *threads[5];

    t->generations = 60;
    slices_rig_begin(&t->r, &(struct slices_options){.memory = GPOINTER_TO_UINT(memory)});
    slices_rig_grow(&t->r, host_of(t, CLUSTERS, 0));
    t->writers = 2;
    for (unsigned i = 0; i < 5; i++)
        threads[i] = start(i < 2 ? write_generations : i < 4 ? read_generations : make_commits, t);
    for (unsigned i = 0; i < 5; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(live_commit(&t->r.image), ==, 0);
    for (unsigned i = 0; i < CLUSTERS; i++) {
        look(t, i);
        g_assert_cmphex(slices_rig_get(&t->r, i * STEP), ==,
                        host_of(t, i, t->generations) | COPIED);
    }
    g_test_message("%u looks, %u reads, %u writes", (unsigned)t->looks,
                   (unsigned)t->r.count[SLICES_READ], (unsigned)t->r.count[SLICES_WRITE]);
    g_assert_cmpint(t->r.tables, ==, 2);
    slices_rig_end(&t->r);
    g_free(t);
}

/* ---- extended entries ---- */

/* What an entry was, and becomes in one step; the kinds of its subcluster 0 then. */
struct life {
    struct live_entry from, to;
    enum q2_kind before, after;
};

static const struct life lives[] = {
    {{0, 0}, {(50 * C) | COPIED, 1}, Q2_UNALLOCATED, Q2_DATA},
    {{0, ALL << 32}, {(51 * C) | COPIED, 1 | (ALL - 1) << 32}, Q2_ZERO, Q2_DATA},
    {{52 * C, ALL}, {0, ALL << 32}, Q2_DATA, Q2_ZERO},
    {{Q2_ENTRY_COMPRESSED | (53 * C), 0}, {(54 * C) | COPIED, ALL}, Q2_COMPRESSED, Q2_DATA},
    {{Q2_ENTRY_COMPRESSED | (53 * C), 0}, {0, ALL << 32}, Q2_COMPRESSED, Q2_ZERO},
};

struct lives {
    struct slices_rig r;
    _Atomic uint64_t now; /* the cluster that is about to change */
    atomic_bool over;
    atomic_uint seen[2]; /* looks that found it before and after */
};

#define BORN 4000

static gpointer watch_lives(gpointer opaque)
{
    struct lives *t = opaque;
    uint64_t cluster = 0, last = UINT64_MAX;
    bool changed = false;

    while (!atomic_load(&t->over)) {
        const struct life *life;
        struct live_run run;

        cluster = atomic_load(&t->now);
        life = &lives[cluster % G_N_ELEMENTS(lives)];
        if (cluster != last)
            changed = false;
        last = cluster;
        run = slices_rig_run(&t->r, cluster * C, C / 32);
        g_assert_true(run.kind == life->after || (run.kind == life->before && !changed));
        changed = run.kind == life->after;
        atomic_fetch_add(&t->seen[changed], 1);
    }
    return NULL;
}

static void test_extended(void)
{
    struct lives *t = g_new0(struct lives, 1);
    GThread *threads[2];

    slices_rig_begin(&t->r, &(struct slices_options){.extended = true, .memory = 1});
    slices_rig_table(&t->r, 0);
    slices_rig_grow(&t->r, 100 * C);
    for (unsigned i = 0; i < BORN; i++) {
        const struct life *life = &lives[i % G_N_ELEMENTS(lives)];

        slices_rig_entry(&t->r, i, life->from.word, life->from.bitmap);
    }
    for (unsigned i = 0; i < 2; i++)
        threads[i] = start(watch_lives, t);
    for (unsigned i = 0; i < BORN; i++) {
        const struct life *life = &lives[i % G_N_ELEMENTS(lives)];
        unsigned seen = atomic_load(&t->seen[0]);

        atomic_store(&t->now, i);
        while (atomic_load(&t->seen[0]) == seen)
            ;
        slices_rig_change(&t->r, i, life->to.word, life->to.bitmap, i % 2);
    }
    atomic_store(&t->over, true);
    for (unsigned i = 0; i < 2; i++)
        g_thread_join(threads[i]);
    slices_rig_end(&t->r);
    g_free(t);
}

/* ---- once for all ---- */

struct once {
    struct slices_rig r;
    atomic_uint names, ready;
};

static void wait_for_all(struct once *t)
{
    atomic_fetch_add(&t->ready, 1);
    while (atomic_load(&t->ready) % THREADS)
        g_thread_yield();
}

static gpointer load_it(gpointer opaque)
{
    struct once *t = opaque;

    wait_for_all(t);
    g_assert_cmpint(slices_rig_run(&t->r, 0, C).kind, ==, Q2_DATA);
    return NULL;
}

static gpointer change_it(gpointer opaque)
{
    struct once *t = opaque;
    unsigned me = atomic_fetch_add(&t->names, 1) % THREADS;

    wait_for_all(t);
    slices_rig_change(&t->r, me, ((20 + me) * C) | COPIED, 0, false);
    return NULL;
}

static void by_all(struct once *t, GThreadFunc function)
{
    GThread *threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = start(function, t);
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
}

static void test_read_once(void)
{
    for (unsigned round = 0; round < 50; round++) {
        struct once t = {0};

        slices_rig_begin(&t.r, &(struct slices_options){0});
        slices_rig_table(&t.r, 0);
        slices_rig_grow(&t.r, 100 * C);
        slices_rig_entry(&t.r, 0, (20 * C) | COPIED, 0);
        by_all(&t, load_it);
        g_assert_cmpuint(t.r.count[SLICES_READ], ==, 1);
        slices_rig_end(&t.r);
    }
}

/* The slice is loaded by one thread, from the file, while another makes the table that it is in. */
static void test_made_once(void)
{
    for (unsigned round = 0; round < 50; round++) {
        struct once t = {0};

        slices_rig_begin(&t.r, &(struct slices_options){0});
        by_all(&t, change_it);
        slices_rig_grow(&t.r, 100 * C);
        g_assert_cmpint(t.r.tables, ==, 1);
        g_assert_cmphex(slices_rig_run(&t.r, 0, SPAN).length, ==, THREADS * C);
        g_assert_cmpint(live_commit(&t.r.image), ==, 0);
        for (unsigned i = 0; i < THREADS; i++)
            g_assert_cmphex(slices_rig_get(&t.r, i), ==, ((20 + i) * C) | COPIED);
        slices_rig_end(&t.r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/slices-threads/readers/roomy", GUINT_TO_POINTER(1 << 20), test_readers);
    g_test_add_data_func("/slices-threads/readers/cramped", GUINT_TO_POINTER(1), test_readers);
    g_test_add_func("/slices-threads/extended", test_extended);
    g_test_add_func("/slices-threads/read-once", test_read_once);
    g_test_add_func("/slices-threads/made-once", test_made_once);
    return g_test_run();
}
