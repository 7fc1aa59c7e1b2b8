/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk and its store tell each other beside instants (server/state/state.h). */
#include "server/disk/disk.h"
#include "server/disk/disk-private.h"

bool disk_has_store(const struct disk *d)
{
    return d->state.ops != NULL;
}

int64_t disk_store_id(const struct disk *d)
{
    return d->state.id;
}

/* ---- failures of the store ---- */

static void break_clear(gpointer p)
{
    struct bits_break *b = p;

    g_free(b->reason);
    g_free(b);
}

void disk_watch_breaks(struct disk *d, bool on)
{
    pthread_mutex_lock(&d->lock);
    g_clear_pointer(&d->breaks, g_ptr_array_unref);
    if (on)
        d->breaks = g_ptr_array_new_with_free_func(break_clear);
    pthread_mutex_unlock(&d->lock);
}

/* Under the lock. */
static const struct bits_break *find_break(const struct disk *d, const struct bitmap *bits)
{
    for (unsigned k = 0; k < d->breaks->len; k++) {
        const struct bits_break *b = d->breaks->pdata[k];

        if (!b->bits || b->bits == bits)
            return b;
    }
    return NULL;
}

const char *disk_break_locked(const struct disk *d, const struct bitmap *bits)
{
    const struct bits_break *b = d->breaks ? find_break(d, bits) : NULL;

    return b ? b->reason : NULL;
}

char *disk_break_of(struct disk *d, const struct bitmap *bits)
{
    char *reason;

    pthread_mutex_lock(&d->lock);
    reason = g_strdup(disk_break_locked(d, bits));
    pthread_mutex_unlock(&d->lock);
    return reason;
}

/* Under the lock. */
static void note_break(struct disk *d, const struct bitmap *bits, const char *reason)
{
    struct bits_break *b;

    if (!d->breaks || find_break(d, bits))
        return;
    b = g_new(struct bits_break, 1);
    *b = (struct bits_break){.bits = bits, .reason = g_strdup(reason)};
    g_ptr_array_add(d->breaks, b);
}

void disk_bitmaps_broken(struct disk *d, const struct bitmap *bits, const char *reason)
{
    pthread_mutex_lock(&d->lock);
    note_break(d, bits, reason);
    for (unsigned k = 0; k < d->bitmaps->len; k++) {
        struct dirty_bitmap *db = d->bitmaps->pdata[k];

        if (dirty_bitmap_break(db, bits, reason) && d->events.bitmap_inconsistent)
            d->events.bitmap_inconsistent(d->events.opaque, d->node.name, db->name, reason);
    }
    pthread_mutex_unlock(&d->lock);
}

/* ---- what it has found ---- */

/* The store may have told of it before the disk had the bitmap. */
static void break_lost(struct disk *d, const struct disk_restored *bitmaps, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (bitmaps[k].bits && bitmap_is_lost(bitmaps[k].bits))
            disk_bitmaps_broken(d, bitmaps[k].bits, "its bits were lost with their file");
}

void disk_restore(struct disk *d, const struct disk_state *state,
                  const struct disk_restored *bitmaps, unsigned n)
{
    g_autoptr(GArray) recorded = mark_array_new();

    d->state = *state;
    pthread_mutex_lock(&d->lock);
    for (unsigned k = 0; k < n; k++)
        g_ptr_array_add(d->bitmaps, dirty_bitmap_restore(&bitmaps[k]));
    pthread_mutex_unlock(&d->lock);
    break_lost(d, bitmaps, n);
    disk_add_recorded(d, recorded);
    tracker_free(atomic_exchange(&d->tracker, tracker_new(recorded)));
}
