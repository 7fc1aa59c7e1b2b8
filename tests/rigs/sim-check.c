/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-check.h"

#include "common/state/folder.h"
#include "tests/rigs/sim-threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

struct sim_counts sim_counts;
static GString *notes;

static const char *const deaths[] = {"process", "unmounted", "forgot", "moved", "power"};

void sim_counts_end(uint64_t least)
{
    struct sim_counts *c = &sim_counts;
    uint64_t crashes = 0;
    GString *by_death = g_string_new(NULL);

    for (unsigned k = 0; k <= SIM_POWER; k++) {
        crashes += c->crashes[k];
        g_string_append_printf(by_death, "%s %" G_GUINT64_FORMAT ", ", deaths[k], c->crashes[k]);
    }
    g_test_message("crashes %" G_GUINT64_FORMAT " (at least %" G_GUINT64_FORMAT
                   "), %sin recovery %" G_GUINT64_FORMAT ", bitmaps %" G_GUINT64_FORMAT
                   ", inconsistent %" G_GUINT64_FORMAT ", over-marked %" G_GUINT64_FORMAT
                   "/%" G_GUINT64_FORMAT " KiB, wrong 0",
                   crashes, least, by_death->str, c->again, c->found, c->inconsistent,
                   c->over / 1024, c->marked / 1024);
    g_string_free(by_death, TRUE);
    g_assert_cmpuint(crashes, >=, least);
    *c = (struct sim_counts){0};
}

void sim_note(const char *format, ...)
{
    va_list list;

    if (!notes)
        notes = g_string_new(NULL);
    if (!format) {
        g_string_truncate(notes, 0);
        return;
    }
    va_start(list, format);
    g_string_append(notes, "#   ");
    g_string_append_vprintf(notes, format, list);
    g_string_append_c(notes, '\n');
    va_end(list);
}

void sim_fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    printf("# wrong: ");
    vprintf(format, list);
    printf("\n# after:\n%s", notes ? notes->str : "");
    fflush(stdout);
    va_end(list);
    abort();
}

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

static bool is_exact(enum sim_death death)
{
    return death <= SIM_UNMOUNTED;
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
    if (is_exact(death) && !h->machine.memory)
        death = SIM_FORGOT;
    sim_counts.crashes[death]++;
    if (death != SIM_POWER)
        write_back(h);
    leave(h, death, seed);
    if (!is_exact(death))
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
           (!is_exact(death) || sim_machine_same(&a->machine, &b->machine));
}

/* ---- judgement ---- */

struct judge {
    struct sim_server *server;
    enum sim_death death;
    const struct sim_allowance *allowed;
    char why[256]; /* not */
};

static bool G_GNUC_PRINTF(2, 3) wrong(struct judge *j, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_vsnprintf(j->why, sizeof j->why, format, list);
    va_end(list);
    return false;
}

static bool may_be_over(const struct judge *j, unsigned disk, unsigned unit)
{
    uint64_t region = (uint64_t)unit * SIM_UNIT >> JOURNAL_REGION_SHIFT;

    return j->allowed->any || j->allowed->open[disk][region];
}

static bool judge_unit(struct judge *j, unsigned disk, const struct sim_bitmap *b, unsigned unit,
                       uint8_t marks, bool dirty)
{
    if (marks & MUST && !dirty)
        return wrong(j, "disk %u, bitmap %s, unit %u: changed, but clean", disk, b->name, unit);
    if (!marks && dirty && !may_be_over(j, disk, unit))
        return wrong(j, "disk %u, bitmap %s, unit %u: dirty without a reason", disk, b->name, unit);
    return true;
}

/* The image may have the size of a resize that was never committed. */
static bool judge_bits(struct judge *j, unsigned disk, uint64_t size, const struct sim_bitmap *b,
                       const struct bitmap *bits)
{
    uint64_t now = sim_server_host(j->server)->images[disk].size;
    uint8_t growth = b->recording ? MAY | MUST : MAY;

    if (bitmap_size(bits) != now)
        return wrong(j, "disk %u, bitmap %s: its size is %" G_GUINT64_FORMAT, disk, b->name,
                     bitmap_size(bits));
    for (unsigned u = 0; u < now / SIM_UNIT; u++) {
        uint8_t marks = (uint64_t)u * SIM_UNIT < size ? b->marks[u] : growth;

        if (!judge_unit(j, disk, b, u, marks, bitmap_test(bits, (uint64_t)u * SIM_UNIT)))
            return false;
    }
    return true;
}

static bool judge_bitmap(struct judge *j, unsigned disk, uint64_t size, const struct sim_bitmap *b,
                         const struct store_bitmap *found)
{
    if (found->granularity != b->granularity)
        return wrong(j, "disk %u, bitmap %s: granularity", disk, b->name);
    if (found->recording != b->recording)
        return wrong(j, "disk %u, bitmap %s: recording is %d", disk, b->name, found->recording);
    /* It is told at once, and noted on the way. After another death, all that was not yet noted may
     * still be made good by the journal. */
    if (b->broken && !found->inconsistent && is_exact(j->death))
        return wrong(j, "disk %u, bitmap %s: broken, but found to be good", disk, b->name);
    if (!found->inconsistent)
        return judge_bits(j, disk, size, b, found->bits);
    if (!b->broken && !b->may_break && !(j->allowed->lost && b->recording))
        return wrong(j, "disk %u, bitmap %s: inconsistent: %s", disk, b->name, found->inconsistent);
    return true;
}

static const struct store_bitmap *find(const GArray *found, const char *name)
{
    for (unsigned k = 0; k < found->len; k++) {
        const struct store_bitmap *b = &g_array_index(found, struct store_bitmap, k);

        if (strcmp(b->name, name) == 0)
            return b;
    }
    return NULL;
}

static bool judge_disk(struct judge *j, const struct sim_model *m, unsigned disk)
{
    const GArray *found = sim_server_found(j->server, disk);
    unsigned n = 0;

    for (unsigned k = 0; k < SIM_BITMAPS; k++) {
        const struct sim_bitmap *b = &m->disks[disk].bitmaps[k];
        const struct store_bitmap *f = *b->name ? find(found, b->name) : NULL;

        if (!*b->name)
            continue;
        if (!f)
            return wrong(j, "disk %u, bitmap %s is gone", disk, b->name);
        if (!judge_bitmap(j, disk, m->disks[disk].size, b, f))
            return false;
        n++;
    }
    if (found->len != n)
        return wrong(j, "disk %u has %u bitmaps, not %u", disk, found->len, n);
    return true;
}

static bool judge_model(struct judge *j, const struct sim_model *m)
{
    for (unsigned k = 0; k < SIM_DISKS; k++)
        if (!judge_disk(j, m, k))
            return false;
    return true;
}

/* ---- what has come true ---- */

static void count_over(struct sim_bitmap *b, unsigned unit)
{
    if (b->marks[unit])
        sim_counts.marked += SIM_UNIT;
    else
        sim_counts.over += SIM_UNIT;
}

static void take_over(struct judge *j, unsigned disk, struct sim_bitmap *b,
                      const struct store_bitmap *found)
{
    sim_counts.found++;
    if (found->inconsistent) {
        sim_counts.inconsistent++;
        b->broken = true;
        return;
    }
    b->broken = b->may_break = false;
    for (unsigned u = 0; u < bitmap_size(found->bits) / SIM_UNIT; u++) {
        if (!bitmap_test(found->bits, (uint64_t)u * SIM_UNIT)) {
            b->marks[u] = 0;
            continue;
        }
        if (!is_exact(j->death))
            count_over(b, u);
        b->marks[u] |= MAY;
    }
}

static void come_true(struct judge *j)
{
    struct sim_host *h = sim_server_host(j->server);

    h->either = false;
    for (unsigned d = 0; d < SIM_DISKS; d++) {
        struct sim_disk *disk = &h->model.disks[d];

        for (unsigned k = 0; k < SIM_BITMAPS; k++)
            if (*disk->bitmaps[k].name)
                take_over(j, d, &disk->bitmaps[k],
                          find(sim_server_found(j->server, d), disk->bitmaps[k].name));
        disk->size = h->images[d].size;
    }
}

void sim_judge(struct sim_server *s, enum sim_death death, const struct sim_allowance *allowed)
{
    struct judge j = {.server = s, .death = death, .allowed = allowed};
    struct sim_host *h = sim_server_host(s);
    char without[sizeof j.why];

    if (!judge_model(&j, &h->model)) {
        memcpy(without, j.why, sizeof without);
        if (!h->either)
            sim_fail("%s", without);
        if (!judge_model(&j, &h->after))
            sim_fail("neither without the command (%s) nor with it (%s)", without, j.why);
        h->model = h->after;
    }
    come_true(&j);
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
    sim_note("started again: %s", deaths[c->death]);
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
    sim_note("once more: %s", deaths[c.death]);
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
    gsize length = notes ? notes->len : 0;

    sim_note("death: %s, seed %u", deaths[death], seed);
    c->options = options;
    c->death = death;
    c->seed = seed;
    c->dies_at = seed % 4 == 3 ? 1 + seed / 4 % 40 : 0;
    check(c, copy);
    g_string_truncate(notes, length);
}
