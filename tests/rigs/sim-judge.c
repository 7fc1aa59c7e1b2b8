/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-judge.h"

#include <string.h>

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
    if (b->broken && !found->inconsistent && sim_is_exact(j->death))
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
        if (!sim_is_exact(j->death))
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
