/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-scratch.h"

#include "common/util/error.h"

struct scratch *disk_scratch_hold(struct disk *d, GError **err)
{
    struct scratch *s;

    pthread_mutex_lock(&d->lock);
    if (!d->scratch)
        d->scratch = scratch_new(d->pool, d->unit, err);
    s = d->scratch;
    d->scratch_holders += s != NULL;
    pthread_mutex_unlock(&d->lock);
    if (!s)
        g_prefix_error(err, "disk %s: ", d->node.name);
    return s;
}

static void hold_again(struct disk *d)
{
    pthread_mutex_lock(&d->lock);
    d->scratch_holders++;
    pthread_mutex_unlock(&d->lock);
}

void disk_scratch_release(struct disk *d)
{
    struct scratch *s = NULL;

    pthread_mutex_lock(&d->lock);
    if (--d->scratch_holders == 0)
        s = g_steal_pointer(&d->scratch);
    pthread_mutex_unlock(&d->lock);
    scratch_free(s);
}

/* ---- slots on their way back ---- */

struct run {
    uint32_t slot, n;
};

struct freed_slots {
    struct disk *disk;
    GArray *runs; /* struct run */
};

struct freed_slots *freed_slots_new(struct disk *d)
{
    struct freed_slots *f = g_new0(struct freed_slots, 1);

    f->disk = d;
    f->runs = g_array_new(FALSE, FALSE, sizeof(struct run));
    hold_again(d);
    return f;
}

void freed_slots_add(struct freed_slots *f, uint32_t entry)
{
    struct run run = {.slot = entry - BLOCK_KEPT_SLOT, .n = 1};

    if (entry < BLOCK_KEPT_SLOT)
        return;
    if (f->runs->len > 0) {
        struct run *last = &g_array_index(f->runs, struct run, f->runs->len - 1);

        if (last->slot + last->n == run.slot) {
            last->n++;
            return;
        }
    }
    g_array_append_val(f->runs, run);
}

static void give(void *freed_slots)
{
    struct freed_slots *f = freed_slots;

    for (unsigned i = 0; i < f->runs->len; i++) {
        struct run run = g_array_index(f->runs, struct run, i);

        scratch_give(f->disk->scratch, run.slot, run.n);
    }
    disk_scratch_release(f->disk);
    g_array_unref(f->runs);
    g_free(f);
}

void freed_slots_give(struct freed_slots *f)
{
    if (f->runs->len > 0)
        grace_call(&f->disk->readers, give, f);
    else
        give(f);
}
