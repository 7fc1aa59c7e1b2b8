/* SPDX-License-Identifier: BSD-3-Clause */
/* Commits and the thread that writes back: what comes before what, what is done once for many, and what fails for
 * ever. */
#include "tests/rigs/slices-rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define K      UINT64_C(1024)
#define C      (64 * K) /* bytes of a cluster */
#define COPIED Q2_ENTRY_COPIED

static void assert_log(struct slices_rig *r, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void assert_log(struct slices_rig *r, const char *format, ...)
{
    g_autofree char *log = slices_rig_log(r), *expected = NULL;
    va_list args;

    va_start(args, format);
    expected = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_cmpstr(log, ==, expected);
}

/* A table for the disk's first clusters; where it lies. */
static guint64 begin(struct slices_rig *r, const struct slices_options *options)
{
    uint64_t table;

    slices_rig_begin(r, options);
    table = slices_rig_table(r, 0);
    slices_rig_grow(r, 100 * C);
    return table;
}

/* ---- order ---- */

static void test_nothing_dirty(void)
{
    struct slices_rig r;

    begin(&r, &(struct slices_options){0});
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "s");
    slices_rig_end(&r);
}

static void test_order(void)
{
    struct slices_rig r;
    guint64 table = begin(&r, &(struct slices_options){0});

    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, false);
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "w %" G_GUINT64_FORMAT " s", table);

    slices_rig_change(&r, 1, (21 * C) | COPIED, 0, false);
    slices_rig_change(&r, 2, (22 * C) | COPIED, 0, true);
    slices_rig_change(&r, 512, (23 * C) | COPIED, 0, false);
    g_assert_cmpint(live_write_back(&r.image), ==, 0);
    assert_log(&r, "w %" G_GUINT64_FORMAT, table + 4096);
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "s w %" G_GUINT64_FORMAT " s", table);
    g_assert_cmphex(slices_rig_get(&r, 1), ==, (21 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&r, 2), ==, (22 * C) | COPIED);
    g_assert_false(live_slices_dirty(&r.layer));
    slices_rig_end(&r);
}

static void test_data_file(void)
{
    struct slices_rig r;
    guint64 table = begin(&r, &(struct slices_options){.data_file = true});

    slices_rig_change(&r, 0, COPIED, 0, true);
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "S w %" G_GUINT64_FORMAT " S s", table);
    slices_rig_end(&r);
}

/* What was given up when the commit began is counted down after its last sync; what is given up while it is
 * under way waits for the next one. */
static void give_up_more(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    if (event == SLICES_SYNC)
        atomic_store(&r->given_up, 5);
}

static void test_given_up(void)
{
    struct slices_rig r;
    guint64 table = begin(&r, &(struct slices_options){0});

    slices_rig_change(&r, 0, 1, 0, false);
    atomic_store(&r.given_up, 3);
    r.before = give_up_more;
    g_assert_true(live_commit_wanted(&r.image));
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "w %" G_GUINT64_FORMAT " s c3", table);
    g_assert_true(live_commit_wanted(&r.image));
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    assert_log(&r, "s c5");
    g_assert_false(live_commit_wanted(&r.image));
    slices_rig_end(&r);
}

/* ---- failures ---- */

static void test_sync_fails_for_ever(gconstpointer data_file)
{
    struct slices_rig r;

    begin(&r, &(struct slices_options){.data_file = GPOINTER_TO_UINT(data_file)});
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, true);
    atomic_store(&r.given_up, 1);
    atomic_store(&r.fails[SLICES_SYNC], -EIO);
    g_assert_cmpint(live_commit(&r.image), ==, -EIO);
    atomic_store(&r.fails[SLICES_SYNC], 0);
    g_assert_cmpint(live_commit(&r.image), ==, -EIO);
    g_assert_cmpint(live_commit(&r.image), ==, -EIO);
    /* The data may be lost: nothing may lead to it. */
    g_assert_cmphex(slices_rig_get(&r, 0), ==, 0);
    g_assert_cmpuint(r.counted_down, ==, 0);
    slices_rig_end(&r);
}

static void test_full_file_system(void)
{
    struct slices_rig r;
    guint64 table = begin(&r, &(struct slices_options){0});

    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, true);
    slices_rig_change(&r, 512, (20 * C) | COPIED, 0, true);
    atomic_store(&r.fails[SLICES_WRITE], -ENOSPC);
    g_assert_cmpint(live_commit(&r.image), ==, -ENOSPC);
    atomic_store(&r.fails[SLICES_WRITE], 0);
    assert_log(&r, "s");
    g_assert_true(live_slices_flagged(&r.layer));
    g_assert_cmpint(live_commit(&r.image), ==, 0);
    g_assert_false(live_slices_dirty(&r.layer));
    g_assert_cmphex(slices_rig_get(&r, 0), ==, (20 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&r, 512), ==, (20 * C) | COPIED);
    g_assert_cmpuint(table, >, 0);
    slices_rig_end(&r);
}

/* ---- many at once ---- */

#define ASKERS 6

struct crowd {
    struct slices_rig r;
    struct asker {
        struct crowd *crowd;
        GThread *thread;
        _Atomic pid_t id;
    } asker[ASKERS];
    _Atomic pid_t evictor;
    atomic_bool held, go;
};

static gpointer ask(gpointer opaque)
{
    struct asker *a = opaque;

    atomic_store(&a->id, gettid());
    g_assert_cmpint(live_commit(&a->crowd->r.image), ==, 0);
    return NULL;
}

static void start_asker(struct crowd *t, unsigned i)
{
    t->asker[i].crowd = t;
    t->asker[i].thread = g_thread_new("asker", ask, &t->asker[i]);
}

static void wait_until(atomic_bool *b)
{
    while (!atomic_load(b))
        g_thread_yield();
}

static void hold_first_sync(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    struct crowd *t = r->opaque;

    if (event == SLICES_SYNC && !atomic_exchange(&t->held, true))
        wait_until(&t->go);
}

/* One sync is under way; all who ask meanwhile have the next one. */
static void test_group(void)
{
    struct crowd t = {0};
    guint64 table = begin(&t.r, &(struct slices_options){0});

    t.r.opaque = &t;
    t.r.before = hold_first_sync;
    start_asker(&t, 0);
    wait_until(&t.held);
    slices_rig_change(&t.r, 0, (20 * C) | COPIED, 0, false);
    for (unsigned i = 1; i < ASKERS; i++)
        start_asker(&t, i);
    for (unsigned i = 1; i < ASKERS; i++)
        slices_rig_wait_sleeping(&t.asker[i].id);
    atomic_store(&t.go, true);
    for (unsigned i = 0; i < ASKERS; i++)
        g_thread_join(t.asker[i].thread);
    assert_log(&t.r, "s w %" G_GUINT64_FORMAT " s", table);
    slices_rig_end(&t.r);
}

static void hold_first_write(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    struct crowd *t = r->opaque;

    if (event == SLICES_WRITE && !atomic_exchange(&t->held, true))
        wait_until(&t->go);
}

static gpointer evict(gpointer opaque)
{
    struct crowd *t = opaque;

    for (unsigned i = 8; i < 16; i++)
        slices_rig_run(&t->r, i * 512 * C, C);
    return NULL;
}

/* A slice that is being written for the sake of its place is clean already, but not in the file: a commit waits
 * for it. */
static void test_waits_for_evictions(void)
{
    struct crowd t = {0};
    g_autofree char *log = NULL;
    GThread *evictor;

    begin(&t.r, &(struct slices_options){.memory = 1});
    t.r.opaque = &t;
    t.r.before = hold_first_write;
    for (unsigned i = 0; i < 8; i++)
        slices_rig_change(&t.r, i * 512, (20 * C) | COPIED, 0, false);
    evictor = g_thread_new("evictor", evict, &t);
    wait_until(&t.held);
    start_asker(&t, 0);
    slices_rig_wait_sleeping(&t.asker[0].id);
    atomic_store(&t.go, true);
    g_thread_join(evictor);
    g_thread_join(t.asker[0].thread);
    log = slices_rig_log(&t.r);
    /* The eight writes come before the sync. */
    g_assert_nonnull(strchr(log, 's'));
    g_assert_cmpuint(t.r.count[SLICES_WRITE], ==, 8);
    g_assert_null(strchr(strchr(log, 's'), 'w'));
    for (unsigned i = 0; i < 8; i++)
        g_assert_cmphex(slices_rig_get(&t.r, i * 512), ==, (20 * C) | COPIED);
    slices_rig_end(&t.r);
}

/* What is flagged while a commit syncs is not written by it: its data came after. */
static void flag_during_sync(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    struct crowd *t = r->opaque;

    if (event == SLICES_SYNC && !atomic_exchange(&t->held, true)) {
        slices_rig_change(r, 1, (21 * C) | COPIED, 0, true);
        slices_rig_change(r, 512, (22 * C) | COPIED, 0, true);
    }
}

static void test_flagged_during_a_sync(void)
{
    struct crowd t = {0};
    guint64 table = begin(&t.r, &(struct slices_options){0});

    slices_rig_change(&t.r, 0, (20 * C) | COPIED, 0, true);
    t.r.opaque = &t;
    t.r.before = flag_during_sync;
    g_assert_cmpint(live_commit(&t.r.image), ==, 0);
    assert_log(&t.r, "s w %" G_GUINT64_FORMAT " s", table);
    g_assert_cmphex(slices_rig_get(&t.r, 0), ==, (20 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&t.r, 1), ==, 0);
    g_assert_true(live_slices_flagged(&t.r.layer));
    g_assert_cmpint(live_commit(&t.r.image), ==, 0);
    g_assert_cmphex(slices_rig_get(&t.r, 1), ==, (21 * C) | COPIED);
    g_assert_cmphex(slices_rig_get(&t.r, 512), ==, (22 * C) | COPIED);
    slices_rig_end(&t.r);
}

/* A slice that becomes flagged while the commit writes what is not: it was dirty before, and is not missed. */
static void flag_during_write(struct slices_rig *r, enum slices_event event, uint64_t offset)
{
    struct crowd *t = r->opaque;

    if (event == SLICES_WRITE && !atomic_exchange(&t->held, true))
        for (unsigned i = 0; i < 2; i++)
            slices_rig_change(r, i * 512 + 1, (21 * C) | COPIED, 0, true);
}

static void test_flagged_during_a_write(void)
{
    struct crowd t = {0};

    begin(&t.r, &(struct slices_options){0});
    for (unsigned i = 0; i < 2; i++)
        slices_rig_change(&t.r, i * 512, (20 * C) | COPIED, 0, false);
    t.r.opaque = &t;
    t.r.before = flag_during_write;
    g_assert_cmpint(live_commit(&t.r.image), ==, 0);
    for (unsigned i = 0; i < 2; i++)
        g_assert_cmphex(slices_rig_get(&t.r, i * 512), ==, (20 * C) | COPIED);
    slices_rig_end(&t.r);
}

/* ---- the thread ---- */

static void wait_for(_Atomic uint64_t *n, uint64_t least)
{
    while (atomic_load(n) < least)
        g_usleep(1000);
}

static void test_worker(void)
{
    struct slices_rig r;
    guint64 table = begin(&r, &(struct slices_options){0});

    g_assert_cmpint(live_worker_start(&r.image), ==, 0);
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, false);
    wait_for(&r.count[SLICES_WRITE], 1);
    slices_rig_change(&r, 1, (21 * C) | COPIED, 0, true);
    atomic_store(&r.given_up, 2);
    wait_for(&r.counted_down, 2);
    live_worker_stop(&r.image);
    g_assert_null(r.image.worker);
    assert_log(&r, "w %" G_GUINT64_FORMAT " s w %" G_GUINT64_FORMAT " s c2", table, table);
    g_assert_false(live_slices_dirty(&r.layer));
    slices_rig_end(&r);
}

/* Woken, it fills the reserve; started, it does not: an image that nobody writes to stays as it is. It ends while it has nothing to do, and while it has. */
static void test_worker_fills(void)
{
    struct slices_rig r;

    begin(&r, &(struct slices_options){0});
    live_worker_wake(&r.image);
    live_worker_stop(&r.image);
    g_assert_cmpint(live_worker_start(&r.image), ==, 0);
    for (int i = 1; i <= 100; i++) {
        r.image.wake(&r.image);
        while (atomic_load(&r.fills) < i)
            g_thread_yield();
    }
    slices_rig_change(&r, 0, (20 * C) | COPIED, 0, true);
    live_worker_stop(&r.image);
    int before = atomic_load(&r.fills);
    g_assert_cmpint(live_worker_start(&r.image), ==, 0);
    live_worker_stop(&r.image);
    g_assert_cmpint(atomic_load(&r.fills), ==, before);
    slices_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/commit/nothing-dirty", test_nothing_dirty);
    g_test_add_func("/commit/order", test_order);
    g_test_add_func("/commit/data-file", test_data_file);
    g_test_add_func("/commit/given-up", test_given_up);
    g_test_add_data_func("/commit/sync-fails-for-ever/file", GUINT_TO_POINTER(0),
                         test_sync_fails_for_ever);
    g_test_add_data_func("/commit/sync-fails-for-ever/data-file", GUINT_TO_POINTER(1),
                         test_sync_fails_for_ever);
    g_test_add_func("/commit/full-file-system", test_full_file_system);
    g_test_add_func("/commit/group", test_group);
    g_test_add_func("/commit/waits-for-evictions", test_waits_for_evictions);
    g_test_add_func("/commit/flagged-during-a-sync", test_flagged_during_a_sync);
    g_test_add_func("/commit/flagged-during-a-write", test_flagged_during_a_write);
    g_test_add_func("/commit/worker", test_worker);
    g_test_add_func("/commit/worker-fills", test_worker_fills);
    return g_test_run();
}
