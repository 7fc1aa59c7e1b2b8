/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-steps.h"

#include "tests/rigs/sim-threads.h"

#include <string.h>

#define MIB        (UINT64_C(1) << 20)
#define SECOND     INT64_C(1000000000)
#define SMALL_SIZE (12 * MIB)
#define LARGE_SIZE (16 * MIB)

/* ---- base and run ---- */

static void one(struct sim_server *s, struct sim_action a)
{
    GError *error = NULL;

    if (!sim_transaction(s, &a, 1, NULL, NULL, &error))
        sim_fail("base: %s", error->message);
}

void sim_base_new(struct sim_host *base, const struct sim_options *options)
{
    GError *error = NULL;
    struct sim_server *s;
    struct storage *storage;

    memset(base, 0, sizeof *base);
    base->machine = (struct sim_machine){.boot = 1, .id = 1};
    base->storage = sim_storage_new();
    for (unsigned k = 0; k < SIM_DISKS; k++) {
        base->model.disks[k].size = SMALL_SIZE;
        base->images[k].size = base->images[k].flushed = SMALL_SIZE;
        base->images[k].modified = sim_clock();
    }
    s = sim_server_start(base, options, &error);
    if (!s)
        sim_fail("base: %s", error->message);
    one(s, (struct sim_action){.kind = SIM_ADD, .disk = 0, .bitmap = "x", .granularity = 65536});
    one(s, (struct sim_action){.kind = SIM_ADD, .disk = 1, .bitmap = "y", .granularity = 262144});
    sim_write(s, 0, 0, 4096);
    sim_write(s, 1, 6 * MIB, 131072);
    sim_server_stop(s, &storage);
    base->storage = storage;
    sim_storage_settle(storage);
}

void sim_run_begin(struct sim_run *r, const struct sim_host *base, const struct sim_options *o)
{
    GError *error = NULL;

    memcpy(&r->host, base, sizeof *base);
    r->host.storage = sim_storage_copy(base->storage);
    sim_machine_unshare(&r->host.machine);
    r->options = *o;
    r->server = sim_server_start(&r->host, o, &error);
    if (!r->server)
        sim_fail("start: %s", error->message);
}

void sim_run_end(struct sim_run *r)
{
    if (r->server)
        sim_server_stop(r->server, NULL);
    sim_host_clear(&r->host);
}

static void open_and_judge(struct sim_run *r, enum sim_death death,
                           const struct sim_allowance *allowed)
{
    GError *error = NULL;

    r->server = sim_server_open(&r->host, &r->options, &error);
    if (!r->server)
        sim_fail("start: %s", error->message);
    sim_judge(r->server, death, allowed);
    if (sim_server_serve(r->server, &error) < 0)
        sim_fail("start: %s", error->message);
}

void sim_run_die(struct sim_run *r, struct sim_host *left, enum sim_death death, uint32_t seed)
{
    g_autofree struct sim_allowance *allowed = g_new0(struct sim_allowance, 1);

    sim_server_watch(r->server, false);
    sim_run_end(r);
    memcpy(&r->host, left, sizeof *left);
    left->storage = NULL;
    left->machine.memory = NULL;
    r->failing = r->failed = false;
    death = sim_die(&r->host, death, seed, &r->options, allowed);
    open_and_judge(r, death, allowed);
}

/* Guests notice nothing of the folder, but for a wait that has a limit; or, with
 * --on-state-error break-guest-write, that their writes fail. */
static bool request_done(struct sim_run *r, int error, int64_t begin)
{
    if (error < 0 && !(r->failing && r->options.break_guest_write))
        sim_fail("a request has failed: %s", g_strerror(-error));
    if (sim_clock() - begin > SIM_MOST_WAIT)
        sim_fail("a guest has waited for %" G_GINT64_FORMAT " ms", (sim_clock() - begin) / 1000000);
    return true;
}

void sim_run_write(struct sim_run *r, GRand *rand)
{
    unsigned disk = (unsigned)g_rand_int_range(rand, 0, SIM_DISKS);
    uint64_t blocks = r->host.model.disks[disk].size / SIM_BLOCK;
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, (int)blocks);
    uint64_t length = 1 + (uint64_t)g_rand_int_range(rand, 0, 1 << g_rand_int_range(rand, 0, 8));
    int64_t begin;
    int error;

    length = MIN(length, blocks - offset);
    sim_note("write %" G_GUINT64_FORMAT " blocks at %" G_GUINT64_FORMAT " of disk %u", length,
             offset, disk);
    begin = sim_clock();
    error = sim_write(r->server, disk, offset * SIM_BLOCK, length * SIM_BLOCK);
    request_done(r, error, begin);
}

/* ---- steps ---- */

static struct sim_bitmap *bitmap_of(struct sim_run *r, unsigned disk, const char *name)
{
    return sim_model_find(&r->host.model, disk, name);
}

static bool any_broken(const struct sim_model *m)
{
    for (unsigned d = 0; d < SIM_DISKS; d++)
        for (unsigned k = 0; k < SIM_BITMAPS; k++)
            if (*m->disks[d].bitmaps[k].name && m->disks[d].bitmaps[k].broken)
                return true;
    return false;
}

/* A command that the model says can be done. */
static bool command(struct sim_run *r, const struct sim_action *actions, unsigned n,
                    void (*between)(struct sim_server *s, void *opaque))
{
    g_autoptr(GError) error = NULL;

    if (sim_transaction(r->server, actions, n, between, r, &error))
        return true;
    if (any_broken(&r->host.model) && strstr(error->message, "is inconsistent and cannot be used"))
        return true;
    if (!r->failing)
        sim_fail("a command has failed: %s", error->message);
    sim_note("failed: %s", error->message);
    r->failed = true;
    return true;
}

static bool command_one(struct sim_run *r, struct sim_action a)
{
    return command(r, &a, 1, NULL);
}

static bool write_to(struct sim_run *r, unsigned disk, uint64_t offset, uint64_t length)
{
    int64_t begin = sim_clock();

    return request_done(r, sim_write(r->server, disk, offset, length), begin);
}

static bool write_first(struct sim_run *r)
{
    return write_to(r, 0, 1 * MIB, 4096);
}

/* Over the border of two regions. */
static bool write_border(struct sim_run *r)
{
    return write_to(r, 0, 4 * MIB - SIM_UNIT, 2 * SIM_UNIT);
}

static bool zero_other(struct sim_run *r)
{
    int64_t begin = sim_clock();

    return request_done(r, sim_zero(r->server, 1, 9 * MIB, 8192), begin);
}

static bool add(struct sim_run *r)
{
    return !bitmap_of(r, 0, "n") &&
           command_one(r,
                       (struct sim_action){.kind = SIM_ADD, .bitmap = "n", .granularity = 131072});
}

static bool remove_x(struct sim_run *r)
{
    return bitmap_of(r, 0, "x") &&
           command_one(r, (struct sim_action){.kind = SIM_REMOVE, .bitmap = "x"});
}

static bool clear_x(struct sim_run *r)
{
    return bitmap_of(r, 0, "x") &&
           command_one(r, (struct sim_action){.kind = SIM_CLEAR, .bitmap = "x"});
}

/* A client writes when the new bits have been synced, and records into the old ones still. */
static bool record_x(struct sim_run *r)
{
    struct sim_bitmap *x = bitmap_of(r, 0, "x");

    if (!x)
        return false;
    sim_write_at(r->server, SIM_SYNC_NAMES, 0, 10 * MIB, 4096);
    command_one(
        r, (struct sim_action){.kind = x->recording ? SIM_DISABLE : SIM_ENABLE, .bitmap = "x"});
    sim_write_at(r->server, SIM_SYNC_NAMES, 0, 0, 0);
    return true;
}

static bool merge(struct sim_run *r)
{
    return bitmap_of(r, 0, "x") && bitmap_of(r, 0, "n") &&
           command_one(r, (struct sim_action){.kind = SIM_MERGE, .bitmap = "n", .source = "x"});
}

static bool persist_x(struct sim_run *r)
{
    struct sim_bitmap *x = bitmap_of(r, 0, "x");

    return x && command_one(r, (struct sim_action){.kind = x->persistent ? SIM_FORGET : SIM_PERSIST,
                                                   .bitmap = "x"});
}

/* Guests write while nobody knows yet whether the transaction happens. */
static void write_between(struct sim_server *s, void *run)
{
    write_to(run, 0, 2 * MIB, 4096);
    write_to(run, 1, 0, 4096);
}

/* What a backup begins with, on both disks at one instant. */
static bool back_up(struct sim_run *r)
{
    static const struct sim_action actions[] = {{.kind = SIM_CLEAR, .bitmap = "x"},
                                                {.kind = SIM_VIEW},
                                                {.kind = SIM_CLEAR, .disk = 1, .bitmap = "y"},
                                                {.kind = SIM_VIEW, .disk = 1}};

    if (!bitmap_of(r, 0, "x"))
        return false;
    command(r, actions, G_N_ELEMENTS(actions), write_between);
    sim_drop_views(r->server);
    return true;
}

static bool resize(struct sim_run *r)
{
    uint64_t size = r->host.model.disks[0].size == SMALL_SIZE ? LARGE_SIZE : SMALL_SIZE;

    return command_one(r, (struct sim_action){.kind = SIM_RESIZE, .size = size});
}

/* So long that regions are closed. */
static bool idle(struct sim_run *r)
{
    sim_threads_sleep(40 * SECOND);
    return true;
}

/* A region is not closed while a write into it has not marked its bits. */
static bool write_slowly(struct sim_run *r)
{
    GThread *writer = sim_slow_write(r->server, 0, 3 * MIB, 4096, 45 * SECOND);

    sim_threads_sleep(60 * SECOND);
    g_thread_join(writer);
    return true;
}

/* A region that is being closed is opened again. */
static bool write_at_closing(struct sim_run *r)
{
    write_to(r, 0, 5 * MIB, 4096);
    sim_write_at(r->server, SIM_SYNC, 0, 6 * MIB, 4096);
    for (unsigned k = 0; k < 4; k++) {
        sim_threads_sleep(7 * SECOND);
        write_to(r, 0, 7 * MIB + k * SIM_UNIT, 4096);
    }
    sim_write_at(r->server, SIM_SYNC, 0, 0, 0);
    return true;
}

static bool restart(struct sim_run *r)
{
    static const struct sim_allowance nothing;
    struct storage *storage;

    sim_server_stop(r->server, &storage);
    r->server = NULL;
    r->host.storage = storage;
    sim_model_restart(&r->host.model);
    open_and_judge(r, SIM_PROCESS, &nothing);
    return true;
}

const struct sim_step sim_steps[] = {
    {"write", write_first},
    {"write over a border", write_border},
    {"zero the other", zero_other},
    {"add n", add},
    {"remove x", remove_x},
    {"clear x", clear_x},
    {"enable or disable x", record_x},
    {"merge x into n", merge},
    {"x persistent or not", persist_x},
    {"clear both, with views", back_up},
    {"resize", resize},
    {"idle", idle},
    {"write slowly", write_slowly},
    {"write at a closing", write_at_closing},
    {"stop and start", restart},
};
const unsigned sim_n_steps = G_N_ELEMENTS(sim_steps);
