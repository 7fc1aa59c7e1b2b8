/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of a simulated folder are damaged, byte by byte: no bitmap may be found that lacks a bit and is
 * good. (The catalogue's rows have tests of their own.)
 */
#include "common/state/folder.h"
#include "common/state/live-file.h"
#include "common/util/log.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <string.h>

#define MIB   (UINT64_C(1) << 20)
#define FLIPS 400

static struct sim_host base;
static const struct sim_options options = {.power = true};
static GRand *chance;

static unsigned damaged; /* files, since the last report */

static void report_damaged(unsigned least)
{
    g_test_message("damaged files: %u (at least %u), wrong 0", damaged, least);
    g_assert_cmpuint(damaged, >=, least);
    damaged = 0;
}

static unsigned inconsistent(struct sim_server *s)
{
    unsigned n = 0;

    for (unsigned d = 0; d < SIM_DISKS; d++) {
        const GArray *found = sim_server_found(s, d);

        for (unsigned k = 0; k < found->len; k++)
            n += g_array_index(found, struct store_bitmap, k).inconsistent != NULL;
    }
    return n;
}

/* Start with what is there, and judge. The host's storage goes. Returns how many bitmaps are found to
 * be inconsistent. */
static unsigned start(struct sim_host *h, enum sim_death death)
{
    g_autofree struct sim_allowance *anywhere = g_new0(struct sim_allowance, 1);
    GError *error = NULL;
    struct sim_server *s = sim_server_open(h, &options, &error);
    unsigned n;

    if (!s)
        sim_fail("the folder cannot be opened: %s", error->message);
    anywhere->any = true;
    n = inconsistent(s);
    sim_judge(s, death, anywhere);
    sim_server_stop(s, NULL);
    return n;
}

static void flip(struct storage *s, const char *name, uint64_t begin, uint64_t end)
{
    uint64_t offset = (uint64_t)g_rand_int_range(chance, (int)begin, (int)end);
    uint8_t mask = (uint8_t)(1 << g_rand_int_range(chance, 0, 8));

    sim_note("byte %" G_GUINT64_FORMAT " of %s, mask %u", offset, name, mask);
    g_assert_true(sim_storage_flip(s, name, offset, mask));
    damaged++;
}

/* A copy of `left`, in a world of its own. */
static struct sim_host *copy_begin(const struct sim_host *left)
{
    struct sim_host *h = g_memdup2(left, sizeof *h);

    sim_note(NULL);
    h->storage = sim_storage_copy(left->storage);
    sim_machine_unshare(&h->machine);
    sim_world_enter();
    sim_model_doubt(&h->model);
    return h;
}

static void copy_end(struct sim_host *h)
{
    sim_host_clear(h);
    g_free(h);
    sim_world_leave();
}

/* Files of bits that were sealed by a stop in order: any damage is noticed. */
static void test_bits(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpint(base.storage->ops->list(base.storage, STATE_BITS, names), ==, 0);
    g_assert_cmpuint(names->len, ==, 2);
    for (unsigned k = 0; k < FLIPS; k++) {
        struct sim_host *h = copy_begin(&base);
        g_autofree char *name = g_build_filename(STATE_BITS, names->pdata[k % 2], NULL);

        /* Every other time among the bits that there are: 192 of the one file, 48 of the other. */
        if (k % 4 < 2)
            flip(h->storage, name, 4096, k % 2 ? 4096 + 6 : 4096 + 24);
        else
            flip(h->storage, name, 0, 8192);
        g_assert_cmpuint(start(h, SIM_PROCESS), ==, 1);
        copy_end(h);
    }
    report_damaged(FLIPS);
}

static void test_swapped(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    struct sim_host *h = copy_begin(&base);
    const struct storage_ops *ops = h->storage->ops;
    g_autofree char *a = NULL;
    g_autofree char *b = NULL;

    g_assert_cmpint(ops->list(h->storage, STATE_BITS, names), ==, 0);
    a = g_build_filename(STATE_BITS, names->pdata[0], NULL);
    b = g_build_filename(STATE_BITS, names->pdata[1], NULL);
    g_assert_cmpint(ops->rename(h->storage, a, "bits/between"), ==, 0);
    g_assert_cmpint(ops->rename(h->storage, b, a), ==, 0);
    g_assert_cmpint(ops->rename(h->storage, "bits/between", b), ==, 0);
    g_assert_cmpuint(start(h, SIM_PROCESS), ==, 2);
    copy_end(h);
}

/* The host of a server that has opened some regions, and has closed some. */
static void leave_running(struct sim_host *left)
{
    g_autofree struct sim_run *r = g_new0(struct sim_run, 1);

    sim_run_begin(r, &base, &options);
    for (unsigned k = 0; k < 3; k++) {
        g_assert_cmpint(sim_write(r->server, 0, k * 4 * MIB + MIB, 4096), ==, 0);
        g_assert_cmpint(sim_write(r->server, 1, k * 4 * MIB + MIB, 4096), ==, 0);
        sim_threads_sleep(INT64_C(9000000000));
    }
    sim_server_copy(r->server, left);
    sim_run_end(r);
}

/* A damaged journal says nothing, or at least what it did. */
static void test_journal(void)
{
    g_autofree struct sim_host *left = g_new0(struct sim_host, 1);
    unsigned noticed = 0;

    leave_running(left);
    for (unsigned k = 0; k < FLIPS; k++) {
        struct sim_host *h = copy_begin(left);
        struct sim_allowance unused = {0};

        sim_die(h, SIM_POWER, 1000 + k, &options, &unused);
        flip(h->storage, STATE_INTENT, 0, k % 2 ? 4096 : 512);
        noticed += start(h, SIM_POWER) > 0;
        copy_end(h);
    }
    g_assert_cmpuint(noticed, ==, FLIPS);
    report_damaged(FLIPS);
    sim_host_clear(left);
}

/* The times of changes: where they are damaged, a bitmap may be inconsistent, never lack a bit. */
static void test_live(void)
{
    g_autofree struct sim_host *left = g_new0(struct sim_host, 1);

    leave_running(left);
    for (unsigned k = 0; k < FLIPS; k++) {
        struct sim_host *h = copy_begin(left);
        struct sim_allowance unused = {0};
        enum sim_death death = k % 2 ? SIM_POWER : SIM_PROCESS;

        death = sim_die(h, death, k, &options, &unused);
        if (death == SIM_PROCESS)
            flip(h->machine.memory, STATE_LIVE, 0, 1024);
        else
            flip(h->storage, STATE_LIVE, 0, LIVE_LEASE_LENGTH);
        start(h, death);
        copy_end(h);
    }
    report_damaged(FLIPS);
    sim_host_clear(left);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!g_getenv("FLEECE_SIM_LOG"))
        log_set_target(LOG_TO_NULL);
    sim_threads_begin();
    chance = g_rand_new_with_seed(1);
    sim_base_new(&base, &options);
    g_test_add_func("/sim/damage/bits", test_bits);
    g_test_add_func("/sim/damage/swapped", test_swapped);
    g_test_add_func("/sim/damage/journal", test_journal);
    g_test_add_func("/sim/damage/live", test_live);
    return g_test_run();
}
