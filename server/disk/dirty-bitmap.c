/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-private.h"

#include <errno.h>

static struct dirty_bitmap *new (const char *name, uint32_t granularity, bool recording)
{
    struct dirty_bitmap *db = g_new0(struct dirty_bitmap, 1);

    atomic_init(&db->references, 1);
    db->name = g_strdup(name);
    db->granularity = granularity;
    db->recording = recording;
    pthread_mutex_init(&db->lock, NULL);
    return db;
}

struct dirty_bitmap *dirty_bitmap_new(const char *name, struct bitmap *bits, bool recording)
{
    struct dirty_bitmap *db = new (name, bitmap_granularity(bits), recording);

    db->bits = bits;
    return db;
}

struct dirty_bitmap *dirty_bitmap_new_full(const char *name, uint64_t size, uint32_t granularity)
{
    struct dirty_bitmap *db = new (name, granularity, false);

    db->full = true;
    db->size = size;
    return db;
}

struct dirty_bitmap *dirty_bitmap_restore(const struct disk_restored *found)
{
    struct dirty_bitmap *db = new (found->name, found->granularity, found->recording);

    db->bits = found->bits ? bitmap_ref(found->bits) : NULL;
    db->persistent = true;
    db->reason = g_strdup(found->inconsistent);
    return db;
}

void dirty_bitmap_set_all(struct dirty_bitmap *db)
{
    pthread_mutex_lock(&db->lock);
    bitmap_set(db->bits, 0, bitmap_size(db->bits));
    g_clear_pointer(&db->reason, g_free);
    pthread_mutex_unlock(&db->lock);
}

struct dirty_bitmap *dirty_bitmap_ref(struct dirty_bitmap *db)
{
    atomic_fetch_add_explicit(&db->references, 1, memory_order_relaxed);
    return db;
}

void dirty_bitmap_unref(struct dirty_bitmap *db)
{
    if (!db || atomic_fetch_sub_explicit(&db->references, 1, memory_order_acq_rel) != 1)
        return;
    bitmap_unref(db->bits);
    pthread_mutex_destroy(&db->lock);
    g_free(db->reason);
    g_free(db->name);
    g_free(db);
}

static void unref(gpointer db)
{
    dirty_bitmap_unref(db);
}

GPtrArray *dirty_bitmap_array_new(void)
{
    return g_ptr_array_new_with_free_func(unref);
}

const char *dirty_bitmap_name(const struct dirty_bitmap *db)
{
    return db->name;
}

void dirty_bitmap_flags(struct dirty_bitmap *db, struct dirty_bitmap_info *info)
{
    pthread_mutex_lock(&db->lock);
    *info = (struct dirty_bitmap_info){
        .granularity = db->granularity,
        .recording = db->recording && !db->reason,
        .busy = db->busy > 0 || db->changing,
        .persistent = db->persistent,
        .inconsistent = db->reason != NULL,
        .readonly = db->readonly,
    };
    pthread_mutex_unlock(&db->lock);
}

void dirty_bitmap_info(struct dirty_bitmap *db, struct dirty_bitmap_info *info)
{
    struct bitmap *bits = dirty_bitmap_bits(db);

    dirty_bitmap_flags(db, info);
    if (bits)
        info->count = bitmap_count(bits);
    else if (db->full)
        info->count = db->size;
    bitmap_unref(bits);
}

char *dirty_bitmap_reason(struct dirty_bitmap *db)
{
    char *reason;

    pthread_mutex_lock(&db->lock);
    reason = g_strdup(db->reason);
    pthread_mutex_unlock(&db->lock);
    return reason;
}

bool dirty_bitmap_records(struct dirty_bitmap *db)
{
    bool records;

    pthread_mutex_lock(&db->lock);
    records = db->recording && db->bits && (db->persistent || !db->reason);
    pthread_mutex_unlock(&db->lock);
    return records;
}

struct bitmap *dirty_bitmap_bits(struct dirty_bitmap *db)
{
    struct bitmap *bits;

    pthread_mutex_lock(&db->lock);
    bits = db->bits ? bitmap_ref(db->bits) : NULL;
    pthread_mutex_unlock(&db->lock);
    return bits;
}

struct bitmap *dirty_bitmap_replace(struct dirty_bitmap *db, struct bitmap *bits, bool recording,
                                    bool persistent, char *reason)
{
    struct bitmap *old;

    pthread_mutex_lock(&db->lock);
    old = db->bits;
    db->bits = bits;
    g_free(db->reason);
    db->reason = reason;
    db->persistent = persistent;
    db->recording = recording;
    pthread_mutex_unlock(&db->lock);
    return old;
}

struct bitmap *dirty_bitmap_remove(struct dirty_bitmap *db)
{
    struct bitmap *old;

    pthread_mutex_lock(&db->lock);
    old = g_steal_pointer(&db->bits);
    db->recording = false;
    db->removed = true;
    pthread_mutex_unlock(&db->lock);
    return old;
}

void dirty_bitmap_changing(struct dirty_bitmap *db, bool changing)
{
    pthread_mutex_lock(&db->lock);
    db->changing = changing;
    pthread_mutex_unlock(&db->lock);
}

void dirty_bitmap_set_readonly(struct dirty_bitmap *db)
{
    pthread_mutex_lock(&db->lock);
    db->readonly = true;
    pthread_mutex_unlock(&db->lock);
}

bool dirty_bitmap_break(struct dirty_bitmap *db, const struct bitmap *bits, const char *reason)
{
    bool breaks;

    pthread_mutex_lock(&db->lock);
    breaks = (bits ? db->bits == bits : db->persistent) && !db->reason && !db->removed;
    if (breaks)
        db->reason = g_strdup(reason);
    pthread_mutex_unlock(&db->lock);
    return breaks;
}

void dirty_bitmap_busy_begin(struct dirty_bitmap *db)
{
    pthread_mutex_lock(&db->lock);
    db->busy++;
    pthread_mutex_unlock(&db->lock);
}

void dirty_bitmap_busy_end(struct dirty_bitmap *db)
{
    pthread_mutex_lock(&db->lock);
    g_assert(db->busy > 0);
    db->busy--;
    pthread_mutex_unlock(&db->lock);
}

/* Append `clean` bytes, then `dirty` ones. -ENOSPC: the list is full. */
static int add_pair(struct extents *extents, uint64_t clean, uint64_t dirty)
{
    int error = extents_add(extents, clean, 0);

    return error < 0 ? error : extents_add(extents, dirty, EXTENT_DIRTY);
}

static int scan(const struct bitmap *bits, uint64_t at, uint64_t end, bool one,
                struct extents *extents)
{
    uint64_t start, length, covered = CLAMP(bitmap_size(bits), at, end);
    int error = 0;

    while (error == 0 && at < covered && !(one && extents->count > 0)) {
        if (!bitmap_next_dirty(bits, at, covered, &start, &length)) {
            start = covered;
            length = 0;
        }
        error = add_pair(extents, start - at, length);
        at = start + length;
    }
    if (error == 0 && at == covered && !(one && extents->count > 0))
        error = add_pair(extents, 0, end - at);
    if (one && extents->count > 1)
        extents_truncate(extents, extents->list[0].length);
    return error == -ENOSPC ? 0 : error;
}

int dirty_bitmap_extents(struct dirty_bitmap *db, uint64_t length, uint64_t offset, bool one,
                         struct extents *extents)
{
    struct bitmap *bits;
    bool full;
    int error;

    pthread_mutex_lock(&db->lock);
    bits = db->bits && !db->reason ? bitmap_ref(db->bits) : NULL;
    full = db->full && !db->reason;
    pthread_mutex_unlock(&db->lock);
    if (full)
        return add_pair(extents, 0, length);
    if (!bits)
        return -EIO;
    error = scan(bits, offset, offset + length, one, extents);
    if (bitmap_is_lost(bits))
        error = -EIO;
    bitmap_unref(bits);
    return error;
}
