/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk.h"
#include "server/disk/disk-private.h"

#include <string.h>

struct node *disk_node(struct disk *d)
{
    return &d->node;
}

const char *disk_name(const struct disk *d)
{
    return d->node.name;
}

struct backend_handle *disk_handle(struct disk *d)
{
    return d->handle;
}

struct backend *disk_backend(struct disk *d)
{
    return d->backend;
}

bool disk_readonly(const struct disk *d)
{
    return d->readonly;
}

uint64_t disk_size(struct disk *d)
{
    return atomic_load(&d->size);
}

bool disk_bitmap_set_readonly(struct disk *d, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(d, name);

    if (!db)
        return false;
    dirty_bitmap_set_readonly(db);
    dirty_bitmap_unref(db);
    return true;
}

bool disk_in_instant(const struct disk *d)
{
    return d->instant != NULL;
}

GPtrArray *disk_bitmaps(struct disk *d)
{
    GPtrArray *copy = dirty_bitmap_array_new();

    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->bitmaps->len; i++)
        g_ptr_array_add(copy, dirty_bitmap_ref(d->bitmaps->pdata[i]));
    pthread_mutex_unlock(&d->lock);
    return copy;
}

struct dirty_bitmap *disk_find_bitmap(struct disk *d, const char *name)
{
    struct dirty_bitmap *found = NULL;

    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->bitmaps->len && !found; i++) {
        struct dirty_bitmap *db = d->bitmaps->pdata[i];

        if (strcmp(db->name, name) == 0)
            found = dirty_bitmap_ref(db);
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}
