/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t model_random(struct model *m)
{
    uint64_t z = m->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void model_fail(struct model *m, const char *format, ...)
{
    va_list args;

    printf("# FLEECE_SEED=%" G_GUINT64_FORMAT ", step %" G_GUINT64_FORMAT
           ", %u kills, %u instants, pending %d%s: ",
           m->seed, m->steps, m->count.kills, m->count.instants, m->pending.kind,
           m->pending.flipped ? " (flipped)" : "");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    abort();
}

/* ---- checkpoints ---- */

struct model_checkpoint *model_checkpoint(struct model *m, uint32_t serial)
{
    for (unsigned i = 0; serial && i < CHECKPOINTS; i++)
        if (m->checkpoints[i].used && m->checkpoints[i].serial == serial)
            return &m->checkpoints[i];
    return NULL;
}

bool model_is_base(const struct model *m, uint32_t serial, unsigned disk)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        for (unsigned d = 0; m->sessions[i].used && d < DISKS; d++)
            if ((d == disk || disk == DISKS) && m->sessions[i].disks[d].used &&
                m->sessions[i].disks[d].base == serial)
                return true;
    return false;
}

static bool is_before(const struct model_checkpoint *a, const struct model_checkpoint *b)
{
    return a->instant < b->instant || (a->instant == b->instant && a->serial < b->serial);
}

const struct model_checkpoint *model_parent(const struct model *m, const struct model_checkpoint *c)
{
    const struct model_checkpoint *parent = NULL;

    for (unsigned i = 0; i < CHECKPOINTS; i++) {
        const struct model_checkpoint *other = &m->checkpoints[i];

        if (other->used && !other->pending && is_before(other, c) &&
            (!parent || is_before(parent, other)))
            parent = other;
    }
    return parent;
}

void model_expected(const struct model_checkpoint *c, const struct content *now, unsigned disk,
                    bool dirty[GRANULES])
{
    memset(dirty, 0, GRANULES * sizeof *dirty);
    for (uint32_t s = 0; c->on[disk] && s < now->sectors; s++)
        if (now->changed[s] > c->instant)
            dirty[s * SECTOR / c->granularity] = true;
}

/* ---- changes ---- */

void model_mark(struct model_bitmap *b, uint32_t first, uint32_t n)
{
    if (n > 0)
        for (uint32_t g = first * SECTOR / b->granularity;
             g <= (first + n - 1) * SECTOR / b->granularity && g < GRANULES; g++)
            b->dirty[g] = true;
}

static void mark_all(struct model *m, unsigned disk, uint32_t first, uint32_t n)
{
    struct pending *p = &m->pending;

    for (unsigned i = 0; i < BITMAPS; i++)
        if (m->bitmaps[disk][i].used && m->bitmaps[disk][i].recording)
            model_mark(&m->bitmaps[disk][i], first, n);
    if (p->kind == PENDING_BITMAP && p->flipped && p->disk == disk && p->after.used &&
        p->after.recording)
        model_mark(&p->after, first, n);
}

void model_changed(struct model *m, unsigned disk, uint32_t first, uint32_t n, uint32_t version)
{
    struct content *c = &m->now[disk];

    m->clock++;
    for (uint32_t s = first; s < first + n; s++) {
        c->version[s] = version;
        c->changed[s] = m->clock;
    }
    mark_all(m, disk, first, n);
}

/* Bits beyond the disk's end. */
static void cut(struct model_bitmap *b, uint32_t sectors)
{
    for (uint32_t g = model_granules(sectors, b->granularity); g < GRANULES; g++)
        b->dirty[g] = false;
}

void model_resized(struct model *m, unsigned disk, uint32_t sectors)
{
    struct content *c = &m->now[disk];
    uint32_t old = c->sectors;

    c->sectors = sectors;
    for (unsigned i = 0; i < BITMAPS; i++)
        if (m->bitmaps[disk][i].used)
            cut(&m->bitmaps[disk][i], sectors);
    if (sectors > old)
        model_changed(m, disk, old, sectors - old, 0);
}

/* ---- instants ---- */

static void copy(struct content *to, const struct content *from)
{
    to->sectors = from->sectors;
    memcpy(to->version, from->version, from->sectors * sizeof from->version[0]);
    memcpy(to->changed, from->changed, from->sectors * sizeof from->changed[0]);
}

static void flip_checkpoint(struct model *m, struct model_checkpoint *c)
{
    c->instant = m->clock;
    for (unsigned d = 0; d < DISKS; d++)
        if (c->on[d])
            copy(&c->at[d], &m->now[d]);
}

static void flip_session(struct model *m, struct model_session *n)
{
    for (unsigned d = 0; d < DISKS; d++) {
        struct model_session_disk *disk = &n->disks[d];
        const struct model_checkpoint *base = model_checkpoint(m, disk->base);

        if (!disk->used)
            continue;
        copy(&disk->at, &m->now[d]);
        memset(disk->dropped, 0, sizeof disk->dropped);
        if (base)
            model_expected(base, &disk->at, d, disk->dirty);
        else
            memset(disk->dirty, true, sizeof disk->dirty);
        disk->granularity = base ? base->granularity : 4096;
    }
}

static void merge(struct model_bitmap *b, const bool dirty[GRANULES], uint32_t granularity)
{
    for (uint32_t g = 0; g < GRANULES * 4096 / granularity; g++)
        if (dirty[g])
            model_mark(b, g * (granularity / SECTOR), granularity / SECTOR);
}

static void flip_bitmap(struct model *m, struct pending *p)
{
    const struct model_bitmap *now = &m->bitmaps[p->disk][p->slot];
    const struct content *content = &m->now[p->disk];
    bool dirty[GRANULES];

    memset(p->after.dirty, 0, sizeof p->after.dirty);
    if (now->used && p->act != BITMAP_CLEAR)
        memcpy(p->after.dirty, now->dirty, sizeof now->dirty);
    if (p->act == BITMAP_MERGE && p->from_checkpoint) {
        model_expected(&m->checkpoints[p->source], content, p->disk, dirty);
        merge(&p->after, dirty, m->checkpoints[p->source].granularity);
    } else if (p->act == BITMAP_MERGE) {
        const struct model_bitmap *source = &m->bitmaps[p->disk][p->source];

        memcpy(dirty, source->dirty, sizeof dirty);
        merge(&p->after, dirty, source->granularity);
    }
    for (uint32_t s = 0; p->act == BITMAP_POPULATE && s < content->sectors; s++)
        if (m->written[p->disk][s])
            model_mark(&p->after, s, 1);
    cut(&p->after, content->sectors);
}

void model_flip(struct model *m)
{
    struct pending *p = &m->pending;

    model_lock(); /* the server calls this */
    m->count.instants++;
    if (p->kind == PENDING_CREATE)
        flip_checkpoint(m, &m->checkpoints[p->slot]);
    if (p->kind == PENDING_BEGIN)
        flip_session(m, &m->sessions[p->slot]);
    if (p->kind == PENDING_BEGIN && p->checkpoint)
        flip_checkpoint(m, &m->checkpoints[p->checkpoint - 1]);
    if (p->kind == PENDING_BITMAP)
        flip_bitmap(m, p);
    p->flipped = true;
    model_unlock();
}

void model_ended(struct model *m, struct model_session *n, bool committed, bool wanted)
{
    struct model_checkpoint *c = model_checkpoint(m, n->checkpoint);

    if (c && committed)
        c->pending = false;
    else if (c)
        c->used = false;
    n->used = false;
    m->ended[n->serial % ENDED].serial = n->serial;
    m->ended[n->serial % ENDED].committed = committed;
    m->ended[n->serial % ENDED].wanted = wanted;
    if (committed)
        m->count.committed++;
    else
        m->count.aborted++;
}
