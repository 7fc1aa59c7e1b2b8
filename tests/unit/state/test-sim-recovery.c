/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a death has left is recovered while each operation of the storage fails in turn, those that read
 * as well. Either the folder cannot be opened, and the next start finds all as it was; or it can, and
 * a bitmap that lacks a bit is inconsistent.
 */
#include "common/util/log.h"
#include "tests/rigs/sim-steps.h"
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <string.h>

#define MIB   (UINT64_C(1) << 20)
#define LEAST 80 /* operations of a recovery */
#define SEEDS 4  /* of power losses */

struct fault {
    unsigned fails_at, done; /* operations, from 1 */
};

static struct sim_host base, left;
static const struct sim_options options = {.power = true};

static int fail_there(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    struct fault *f = opaque;

    if (!f->fails_at || ++f->done != f->fails_at)
        return 0;
    sim_note("fails: %s %s", sim_op_name(op), name);
    return -EIO;
}

static struct sim_server *open_failing(struct sim_host *h, struct fault *f)
{
    struct sim_options failing = {.power = true, .failing = true, .hook = fail_there, .opaque = f};
    struct storage *s = sim_storage_ref(h->storage);
    g_autoptr(GError) error = NULL;
    struct sim_server *server = sim_server_open(h, &failing, &error);

    if (server) {
        s->ops->free(s);
        return server;
    }
    sim_note("cannot be opened: %s", error->message);
    sim_storage_set_hook(s, NULL, NULL);
    h->storage = s;
    return NULL;
}

/* False: there are not so many operations. */
static bool run(enum sim_death death, unsigned fails_at, uint32_t seed)
{
    g_autofree struct sim_allowance *allowed = g_new0(struct sim_allowance, 1);
    g_autofree struct sim_host *h = g_memdup2(&left, sizeof left);
    struct fault f = {.fails_at = fails_at};
    struct sim_server *server;
    GError *error = NULL;

    sim_note(NULL);
    h->storage = sim_storage_copy(left.storage);
    sim_machine_unshare(&h->machine);
    sim_world_enter();
    death = sim_die(h, death, 64 * fails_at + seed, &options, allowed);
    server = open_failing(h, &f);
    if (server)
        sim_model_doubt(&h->model);
    else
        server = sim_server_open(h, &options, &error);
    if (!server)
        sim_fail("the folder cannot be opened: %s", error->message);
    sim_judge(server, death, allowed);
    sim_server_stop(server, NULL);
    sim_host_clear(h);
    sim_world_leave();
    return f.done >= fails_at;
}

static void run_all(enum sim_death death)
{
    unsigned n = 1;

    while (run(death, n, 0)) {
        for (uint32_t seed = 1; death == SIM_POWER && seed < SEEDS; seed++)
            run(death, n, seed);
        n++;
    }
    g_test_message("%u operations", n - 1);
    g_assert_cmpuint(n, >, LEAST);
    sim_counts_end(LEAST);
}

static void test_process(void)
{
    run_all(SIM_PROCESS);
}

static void test_unmounted(void)
{
    run_all(SIM_UNMOUNTED);
}

static void test_forgot(void)
{
    run_all(SIM_FORGOT);
}

static void test_moved(void)
{
    run_all(SIM_MOVED);
}

static void test_power(void)
{
    run_all(SIM_POWER);
}

static int fail_syncs_of_bits(void *fails, struct storage *s, enum sim_op op, const char *name)
{
    return *(bool *)fails && op == SIM_SYNC && g_str_has_prefix(name, "bits/") ? -EIO : 0;
}

/* What is written lies in the page cache, and a sync of it has failed. A recovery that has no more to
 * set must write it all the same, since the power may be lost after it. */
static void lose_what_was_synced_badly(enum sim_death death, uint32_t seed)
{
    g_autofree struct sim_run *r = g_new0(struct sim_run, 1);
    bool fails = false;
    struct sim_options o = {
        .power = true, .failing = true, .hook = fail_syncs_of_bits, .opaque = &fails};
    struct sim_host copy;

    sim_note(NULL);
    sim_world_enter();
    sim_run_begin(r, &base, &o);
    sim_storage_seed(sim_server_storage(r->server), seed);
    r->failing = fails = true;
    for (unsigned k = 0; k < SIM_DISKS; k++)
        g_assert_cmpint(sim_write(r->server, k, 0, r->host.model.disks[k].size), ==, 0);
    sim_threads_sleep(INT64_C(100000000000)); /* regions cannot be closed */
    sim_server_copy(r->server, &copy);
    fails = false;
    sim_run_die(r, &copy, death, seed);
    sim_server_copy(r->server, &copy);
    sim_run_die(r, &copy, SIM_POWER, seed);
    sim_run_end(r);
    sim_world_leave();
}

static void test_synced_badly(void)
{
    for (uint32_t seed = 0; seed < 16; seed++) {
        lose_what_was_synced_badly(SIM_PROCESS, seed);
        lose_what_was_synced_badly(SIM_FORGOT, seed);
    }
    sim_counts_end(64);
}

/* A server that has opened some regions and has closed some. */
static void leave_running(void)
{
    g_autofree struct sim_run *r = g_new0(struct sim_run, 1);

    sim_run_begin(r, &base, &options);
    for (unsigned k = 0; k < 3; k++) {
        g_assert_cmpint(sim_write(r->server, 0, k * 4 * MIB + MIB, 4096), ==, 0);
        g_assert_cmpint(sim_write(r->server, 1, k * 4 * MIB + MIB, 4096), ==, 0);
        sim_threads_sleep(INT64_C(9000000000));
    }
    sim_server_copy(r->server, &left);
    sim_run_end(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!g_getenv("FLEECE_SIM_LOG"))
        log_set_target(LOG_TO_NULL);
    sim_threads_begin();
    sim_base_new(&base, &options);
    leave_running();
    g_test_add_func("/sim/recovery/process", test_process);
    g_test_add_func("/sim/recovery/unmounted", test_unmounted);
    g_test_add_func("/sim/recovery/forgot", test_forgot);
    g_test_add_func("/sim/recovery/moved", test_moved);
    g_test_add_func("/sim/recovery/power", test_power);
    g_test_add_func("/sim/recovery/synced-badly", test_synced_badly);
    return g_test_run();
}
