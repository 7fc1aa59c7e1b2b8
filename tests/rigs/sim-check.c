/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-check.h"

#include "common/state/folder.h"
#include "tests/rigs/sim-threads.h"

#include <string.h>

#define SECOND INT64_C(1000000000)

/* ---- death ---- */

/* Disks were attached in their order: their rows have the numbers 1 and 2. */
static void note_entry(struct sim_allowance *a, const struct journal_entry *e)
{
    if (e->disk < 1 || e->disk > (int64_t)SIM_DISKS)
        return;
    for (uint64_t r = e->first; r < e->first + e->count && r < SIM_REGIONS; r++)
        a->open[e->disk - 1][r] = e->open;
}

/* What a half of the journal says, read sector by sector: not by journal_scan, which is judged here,
 * too. The generation; 0: its snapshot is not whole. */
static uint64_t read_half(struct storage_file *f, uint64_t offset, struct sim_allowance *says)
{
    uint8_t sector[JOURNAL_SECTOR];
    struct journal_entry entries[JOURNAL_CAPACITY];
    struct journal_sector head, first = {0};
    unsigned n = 0;

    for (;; n++) {
        if (f->storage->ops->read(f, sector, sizeof sector, offset + n * JOURNAL_SECTOR) < 0 ||
            journal_sector_decode(sector, &head, entries) != JOURNAL_VALID || head.number != n)
            break;
        if (n == 0)
            first = head;
        if (head.generation != first.generation)
            break;
        for (unsigned k = 0; k < head.n; k++)
            note_entry(says, &entries[k]);
    }
    return n > 0 && n >= first.snapshot ? first.generation : 0;
}

/* Regions that the journal has open may be dirty. */
static void allow_open(struct storage *s, struct sim_allowance *allowed)
{
    struct sim_allowance halves[2] = {0};
    uint64_t generations[2];
    struct storage_file *f;
    unsigned newer;

    if (s->ops->open(s, STATE_INTENT, false, &f) < 0)
        return;
    for (unsigned k = 0; k < 2; k++)
        generations[k] = read_half(f, (uint64_t)k * JOURNAL_HALF, &halves[k]);
    s->ops->close(f);
    newer = generations[1] > generations[0];
    for (unsigned d = 0; d < SIM_DISKS; d++)
        for (unsigned r = 0; r < SIM_REGIONS; r++)
            allowed->open[d][r] |= generations[newer] > 0 && halves[newer].open[d][r];
}

static void lose_folder(struct sim_host *h, uint32_t seed)
{
    struct storage *after = sim_storage_lose_power(h->storage, seed);

    h->storage->ops->free(h->storage);
    h->storage = after;
}

static void lose_power(struct sim_host *h, uint32_t seed)
{
    lose_folder(h, seed);
    for (unsigned k = 0; k < SIM_DISKS; k++)
        sim_image_lose_power(&h->images[k], seed >> (5 + k) & 1);
    sim_threads_sleep(30 * SECOND);
    sim_clock_boot();
    sim_threads_sleep(5 * SECOND);
    sim_machine_reboot(&h->machine);
}

/* Where the other machine has booted before the server died, it cannot be known when the images were
 * changed last. */
static void move(struct sim_host *h, uint32_t seed)
{
    sim_threads_sleep(SECOND);
    if (seed / 16 % 4) {
        sim_clock_boot();
    } else {
        sim_model_doubt(&h->model);
        sim_model_doubt(&h->after);
    }
    sim_threads_sleep(SECOND);
    sim_machine_move(&h->machine);
}

/* The file system writes an image's size some seconds later. Nobody flushes it at a start; that such a
 * size gets lost even then is not looked at. */
static void write_back(struct sim_host *h)
{
    for (unsigned k = 0; k < SIM_DISKS; k++)
        h->images[k].flushed = h->images[k].size;
}

static void leave(struct sim_host *h, enum sim_death death, uint32_t seed)
{
    switch (death) {
    case SIM_UNMOUNTED:
        lose_folder(h, seed);
        break;
    case SIM_FORGOT:
        sim_machine_clear(&h->machine);
        break;
    case SIM_PROCESS:
        break;
    case SIM_MOVED:
        move(h, seed);
        return;
    case SIM_POWER:
        lose_power(h, seed);
        return;
    }
    sim_threads_sleep(SECOND);
}

/* What is found may have more bits than what was lost. Without a journal there is no lease either: where
 * only the memory is gone, nobody knows when the images were changed last. */
static void allow(struct sim_host *h, enum sim_death death, const struct sim_options *options,
                  struct sim_allowance *allowed)
{
    allowed->lost |= !options->power;
    if (death == SIM_FORGOT && !options->power) {
        sim_model_doubt(&h->model);
        sim_model_doubt(&h->after);
    }
    allow_open(h->storage, allowed);
}

enum sim_death sim_die(struct sim_host *h, enum sim_death death, uint32_t seed,
                       const struct sim_options *options, struct sim_allowance *allowed)
{
    if (sim_is_exact(death) && !h->machine.memory)
        death = SIM_FORGOT;
    sim_counts.crashes[death]++;
    if (death != SIM_POWER)
        write_back(h);
    leave(h, death, seed);
    if (!sim_is_exact(death))
        allow(h, death, options, allowed);
    else if (options->failing && h->either)
        allow_open(h->storage, allowed); /* of a command that failed, new bits are gone in memory */
    return death;
}

bool sim_same(const struct sim_host *a, const struct sim_host *b, enum sim_death death)
{
    return a->either == b->either && a->machine.lasting == b->machine.lasting &&
           memcmp(a->images, b->images, sizeof a->images) == 0 &&
           memcmp(&a->model, &b->model, sizeof a->model) == 0 &&
           (!a->either || memcmp(&a->after, &b->after, sizeof a->after) == 0) &&
           (death == SIM_POWER || death == SIM_UNMOUNTED
                ? sim_storage_same(a->storage, b->storage)
                : sim_storage_looks_same(a->storage, b->storage)) &&
           (!sim_is_exact(death) || sim_machine_same(&a->machine, &b->machine));
}

/* ---- check ---- */

struct check {
    const struct sim_options *options;
    struct sim_allowance allowed;
    enum sim_death death;
    uint32_t seed;
    /* Recovery dies, too, before this operation; 0: never. */
    unsigned dies_at, operations;
    struct sim_host again; /* what it leaves */
    bool died;
};

static void count_operation(void *opaque, struct sim_server *s, const char *where)
{
    struct check *c = opaque;

    if (++c->operations != c->dies_at)
        return;
    sim_note("recovery dies: %s", where);
    sim_server_copy(s, &c->again);
    c->died = true;
}

/* Recover and judge; the host has the storage again. */
static void recover(struct check *c, struct sim_host *h)
{
    struct sim_options options = {.power = c->options->power,
                                  .break_guest_write = c->options->break_guest_write,
                                  .at = count_operation,
                                  .opaque = c};
    GError *error = NULL;
    struct sim_server *s = sim_server_open(h, &options, &error);

    if (!s)
        sim_fail("the folder cannot be opened: %s", error->message);
    sim_judge(s, c->death, &c->allowed);
    if (c->seed % 3 == 0 && sim_server_serve(s, &error) < 0)
        sim_fail("the server cannot start: %s", error->message);
    sim_server_stop(s, &h->storage);
}

/* What was in order is found as it was left, also after a power loss. */
static void look_again(struct check *c, struct sim_host *h)
{
    c->death = c->seed % 32 ? SIM_POWER : SIM_PROCESS;
    sim_counts.crashes[c->death]++;
    if (c->death == SIM_POWER)
        lose_power(h, c->seed / 32);
    memset(&c->allowed, 0, sizeof c->allowed);
    sim_note("started again: %s", sim_death_name(c->death));
    recover(c, h);
}

/* A server that has no such memory uses the folder, and dies. Then the memory is there again: what it
 * says is not true any more. */
static void come_back(struct check *c, struct sim_host *h, struct sim_machine *stale)
{
    struct sim_options options = {.power = c->options->power,
                                  .break_guest_write = c->options->break_guest_write};
    g_autofree struct sim_host *left = g_new0(struct sim_host, 1);
    GError *error = NULL;
    struct sim_server *s = sim_server_start(h, &options, &error);

    sim_note("another server uses the folder");
    if (!s)
        sim_fail("the server cannot start: %s", error->message);
    for (unsigned k = 0; k < SIM_DISKS; k++)
        if (sim_write(s, k, (10 - k) * SIM_UNIT * 16, SIM_UNIT) < 0)
            sim_fail("a request has failed");
    sim_server_copy(s, left);
    sim_server_stop(s, NULL);
    sim_machine_clear(&left->machine);
    left->machine = *stale;
    stale->memory = NULL;
    sim_counts.crashes[SIM_FORGOT]++;
    sim_threads_sleep(SECOND);
    memset(&c->allowed, 0, sizeof c->allowed);
    allow(left, SIM_FORGOT, &options, &c->allowed);
    recover(c, left);
    sim_host_clear(left);
}

static void check(struct check *c, const struct sim_host *copy);

/* Recovery has died: what it left is judged in the same world, since the clock has gone on. */
static void check_again(struct check *first)
{
    struct check c = {
        .options = first->options, .allowed = first->allowed, .seed = first->seed + 1};

    sim_counts.again++;
    c.death = MAX(first->death, first->seed / 160 % 2 ? SIM_POWER : SIM_PROCESS);
    sim_note("once more: %s", sim_death_name(c.death));
    check(&c, &first->again);
    sim_host_clear(&first->again);
}

static void check(struct check *c, const struct sim_host *copy)
{
    g_autofree struct sim_host *h = g_memdup2(copy, sizeof *h);
    struct sim_machine *outside = sim_machine_use(&h->machine), stale = copy->machine;

    h->storage = sim_storage_copy(copy->storage);
    sim_machine_unshare(&h->machine);
    sim_machine_unshare(&stale);
    sim_world_enter();
    c->death = sim_die(h, c->death, c->seed, c->options, &c->allowed);
    recover(c, h);
    if (c->died)
        check_again(c);
    else if (c->death == SIM_FORGOT && stale.memory && c->seed % 2)
        come_back(c, h, &stale);
    else if (c->seed % 8 == 0)
        look_again(c, h);
    sim_host_clear(h);
    sim_machine_clear(&stale);
    sim_world_leave();
    sim_machine_use(outside);
}

void sim_check(const struct sim_host *copy, enum sim_death death, uint32_t seed,
               const struct sim_options *options)
{
    g_autofree struct check *c = g_new0(struct check, 1);
    size_t length = sim_notes();

    sim_note("death: %s, seed %u", sim_death_name(death), seed);
    c->options = options;
    c->death = death;
    c->seed = seed;
    c->dies_at = seed % 4 == 3 ? 1 + seed / 4 % 40 : 0;
    check(c, copy);
    sim_notes_cut(length);
}
