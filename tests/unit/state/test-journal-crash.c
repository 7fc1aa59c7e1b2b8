/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writers in threads, regions that are closed all the time, syncs that fail now and then; and at
 * random moments the question what a power loss would leave: each region whose bits are not
 * synced is open in it (rig_check_power_loss).
 */
#include "tests/rigs/journal-rig.h"

#include <errno.h>
#include <stdlib.h>

#define WRITERS 8u

struct load {
    struct journal_rig *rig;
    atomic_bool stop;
    atomic_ulong writes;
    atomic_bool refused; /* an attempt to open a region has failed */
    uint64_t batches;    /* when that could last be provoked */
    unsigned regions;    /* that are written to */
    bool may_fail;
};

struct load_writer {
    struct load *load;
    unsigned line;
    uint32_t seed;
};

static void *write_on(void *opaque)
{
    struct load_writer *w = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(w->seed);
    int region = 0;

    while (!atomic_load(&w->load->stop)) {
        unsigned phase;
        int r;

        if (g_rand_int_range(rand, 0, 50) == 0) /* the others have time to be closed */
            region = g_rand_int_range(rand, 0, (int)w->load->regions);
        r = rig_enter(w->load->rig, w->line, (uint64_t)region, &phase);
        if (r < 0) {
            g_assert_true(w->load->may_fail);
            atomic_store(&w->load->refused, true);
            g_thread_yield();
            continue;
        }
        if (g_rand_int_range(rand, 0, 8) == 0)
            g_thread_yield();
        rig_leave(w->load->rig, w->line, phase);
        atomic_fetch_add(&w->load->writes, 1);
    }
    return NULL;
}

static void *close_on(void *opaque)
{
    struct load *l = opaque;

    while (!atomic_load(&l->stop))
        (void)journal_close_all(l->rig->journal, NULL);
    return NULL;
}

/* Bits that cannot be synced, and files that fail. With break_guest_write nothing is lost by it. */
static void disturb(struct load *l, GRand *rand, unsigned number)
{
    struct journal_stats s;

    journal_stats(l->rig->journal, &s);
    if (s.batches > l->batches)
        atomic_store(&l->refused, false);
    /* While writers are refused, the next attempt is to have a chance. */
    if (!l->may_fail || atomic_load(&l->refused))
        return;
    l->batches = s.batches;
    atomic_store(&l->rig->sync_result, g_rand_int_range(rand, 0, 4) == 0 ? -1 : 0);
    if (g_rand_int_range(rand, 0, 4) == 0)
        memory_fail(l->rig->storage, g_rand_boolean(rand) ? MEMORY_WRITE : MEMORY_SYNC, 1, -EIO);
    if (number == 50) /* the new file fails, too: a pause of a second */
        memory_fail(l->rig->storage, MEMORY_SYNC, 2, -EIO);
}

static void run(unsigned regions, bool may_fail, unsigned checks)
{
    struct journal_rig *rig = journal_rig_new(4, 0, may_fail);
    struct load l = {.rig = rig, .regions = regions, .may_fail = may_fail};
    struct load_writer w[WRITERS];
    GThread *t[WRITERS + 1];
    uint32_t seed = (uint32_t)g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    uint64_t open = 0;
    struct journal_stats s;
    unsigned n;

    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] = (struct load_writer){&l, i, seed + i};
        t[i] = g_thread_new("writer", write_on, &w[i]);
    }
    t[WRITERS] = g_thread_new("closer", close_on, &l);
    for (n = 0, s.closed = 0; n < checks || s.closed < 50; n++) {
        disturb(&l, rand, n);
        open += rig_check_power_loss(rig, rand);
        journal_stats(rig->journal, &s);
    }
    atomic_store(&l.stop, true);
    for (unsigned i = 0; i <= WRITERS; i++)
        g_thread_join(t[i]);
    memory_fail(rig->storage, MEMORY_WRITE, 0, 0);
    journal_stats(rig->journal, &s);
    g_test_message("%lu writes, %u checks, %u regions open on average, %u batches, %u closed, "
                   "%u syncs of bits",
                   atomic_load(&l.writes), n, (unsigned)(open / n), (unsigned)s.batches,
                   (unsigned)s.closed, atomic_load(&rig->bit_syncs));
    journal_rig_free(rig);
}

static unsigned checks(void)
{
    return getenv("FLEECE_LONG") ? 20000 : 150;
}

static void test_few_regions(void)
{
    run(16, false, checks());
}

static void test_many_regions(void)
{
    run(RIG_REGIONS, false, checks());
}

static void test_failures(void)
{
    run(64, true, checks());
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal-crash/few-regions", test_few_regions);
    g_test_add_func("/journal-crash/many-regions", test_many_regions);
    g_test_add_func("/journal-crash/failures", test_failures);
    return g_test_run();
}
