/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-model.h"

#include <string.h>

struct sim_bitmap *sim_model_find(struct sim_model *m, unsigned disk, const char *name)
{
    for (unsigned k = 0; k < SIM_BITMAPS; k++) {
        struct sim_bitmap *b = &m->disks[disk].bitmaps[k];

        if (strcmp(b->name, name) == 0)
            return b;
    }
    return NULL;
}

/* Mark a range, rounded out to granules. */
static void mark(struct sim_bitmap *b, uint64_t offset, uint64_t length, uint8_t marks)
{
    uint64_t begin = offset / b->granularity * b->granularity;
    uint64_t end = (offset + length + b->granularity - 1) / b->granularity * b->granularity;

    for (uint64_t u = begin / SIM_UNIT; u < end / SIM_UNIT && u < SIM_UNITS; u++)
        b->marks[u] |= marks;
}

void sim_model_mark(struct sim_model *m, unsigned disk, uint64_t offset, uint64_t length,
                    uint8_t marks)
{
    for (unsigned k = 0; k < SIM_BITMAPS; k++) {
        struct sim_bitmap *b = &m->disks[disk].bitmaps[k];

        if (*b->name && b->recording)
            mark(b, offset, length, marks);
    }
}

bool sim_model_add(struct sim_model *m, unsigned disk, const char *name, uint32_t granularity,
                   bool recording, bool persistent)
{
    struct sim_bitmap *b = sim_model_find(m, disk, "");

    if (!b || sim_model_find(m, disk, name))
        return false;
    *b = (struct sim_bitmap){.granularity = granularity,
                             .recording = recording,
                             .persistent = persistent,
                             .order = m->made++};
    g_strlcpy(b->name, name, sizeof b->name);
    return true;
}

bool sim_model_remove(struct sim_model *m, unsigned disk, const char *name)
{
    struct sim_bitmap *b = sim_model_find(m, disk, name);

    if (b)
        memset(b, 0, sizeof *b);
    return b;
}

bool sim_model_clear(struct sim_model *m, unsigned disk, const char *name)
{
    struct sim_bitmap *b = sim_model_find(m, disk, name);

    if (!b)
        return false;
    memset(b->marks, 0, sizeof b->marks);
    b->broken = b->may_break = false;
    return true;
}

bool sim_model_record(struct sim_model *m, unsigned disk, const char *name, bool recording)
{
    struct sim_bitmap *b = sim_model_find(m, disk, name);

    if (!b || b->broken)
        return false;
    b->recording = recording;
    return true;
}

bool sim_model_merge(struct sim_model *m, unsigned disk, const char *target, unsigned source_disk,
                     const char *source)
{
    struct sim_bitmap *to = sim_model_find(m, disk, target);
    struct sim_bitmap *from = sim_model_find(m, source_disk, source);

    if (!to || !from || m->disks[disk].size != m->disks[source_disk].size || to->broken ||
        from->broken)
        return false;
    for (unsigned u = 0; u < SIM_UNITS; u++)
        if (from->marks[u])
            mark(to, (uint64_t)u * SIM_UNIT, SIM_UNIT, from->marks[u]);
    to->may_break |= from->may_break;
    return true;
}

bool sim_model_persist(struct sim_model *m, unsigned disk, const char *name, bool persistent)
{
    struct sim_bitmap *b = sim_model_find(m, disk, name);

    if (!b || b->broken)
        return false;
    b->persistent = persistent;
    return true;
}

void sim_model_resize(struct sim_model *m, unsigned disk, uint64_t size)
{
    struct sim_disk *d = &m->disks[disk];

    for (unsigned k = 0; k < SIM_BITMAPS; k++) {
        struct sim_bitmap *b = &d->bitmaps[k];
        uint64_t units = size / SIM_UNIT;

        if (!*b->name)
            continue;
        if (size > d->size && b->recording)
            mark(b, d->size, size - d->size, MAY | MUST);
        else if (size < d->size)
            memset(b->marks + units, 0, SIM_UNITS - units);
    }
    d->size = size;
}

void sim_model_restart(struct sim_model *m)
{
    for (unsigned d = 0; d < SIM_DISKS; d++)
        for (unsigned k = 0; k < SIM_BITMAPS; k++) {
            struct sim_bitmap *b = &m->disks[d].bitmaps[k];

            if (!b->persistent)
                memset(b, 0, sizeof *b);
        }
}

void sim_model_doubt(struct sim_model *m)
{
    for (unsigned d = 0; d < SIM_DISKS; d++)
        for (unsigned k = 0; k < SIM_BITMAPS; k++)
            m->disks[d].bitmaps[k].may_break = true;
}
