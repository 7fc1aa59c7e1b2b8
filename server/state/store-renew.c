/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Until the catalogue names the new file, all is as it was: regions stay open, and the memory has the
 * bits under the old name. If the server dies between the COMMIT and the new name in memory, the bitmap
 * counts as after a power loss: the regions are still open then.
 */
#include "server/state/store-renew.h"

#include "common/util/log.h"
#include "server/state/bits-sync.h"
#include "server/state/store-catalogue.h"
#include "server/state/stored-bits.h"

static struct catalogue_bitmap *row_of(struct state_disk *d, const struct stored_bits *sb)
{
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct catalogue_bitmap *b = d->bitmaps->pdata[i];

        if (g_str_equal(b->uuid, sb->uuid) && !b->inconsistent)
            return b;
    }
    return NULL;
}

static int put_row(struct store *s, struct catalogue_bitmap *b, const char *uuid, bool *unsure,
                   GError **err)
{
    struct catalogue_bitmap row = *b; /* borrows its strings */

    g_strlcpy(row.uuid, uuid, sizeof row.uuid);
    if (store_catalogue_begin(s, err) < 0)
        return -1;
    if (catalogue_put_bitmap(s->catalogue, &row, err) == 0)
        return store_catalogue_commit(s, unsure, err);
    catalogue_rollback(s->catalogue);
    return -1;
}

/* The catalogue names `f`: it takes the old one's place. */
static void take_over(struct stored_bits *sb, struct catalogue_bitmap *b, struct bit_file *f)
{
    struct store *s = sb->disk->store;
    g_autoptr(GError) error = NULL;
    struct bit_file *old = bits_put_copy(sb, f);

    g_strlcpy(b->uuid, bit_file_uuid(f), sizeof b->uuid);
    if (sb->memory && bit_file_rename(sb->memory, b->uuid, &error) < 0)
        log_error("%s", error->message);
    (void)bit_file_remove(s->storage, bit_file_uuid(old), NULL); /* or else an orphan */
    bit_file_close(old);
    log_info("disk %s: bitmap '%s' has a new file", sb->disk->row.name, b->name);
}

/* Where it is not known which file the catalogue names, neither is removed. */
static int renew(struct stored_bits *sb, struct catalogue_bitmap *b, GError **err)
{
    struct store *s = sb->disk->store;
    struct bit_file *f = bits_copy(sb, err);
    bool unsure = false;

    if (!f)
        return -1;
    if (put_row(s, b, bit_file_uuid(f), &unsure, err) == 0) {
        take_over(sb, b, f);
        return 0;
    }
    if (!unsure)
        (void)bit_file_remove(s->storage, bit_file_uuid(f), NULL);
    bit_file_close(f);
    return -1;
}

/* Is there no row yet that names the file, and may one come? */
static bool is_awaited(struct stored_bits *sb)
{
    struct store *s = sb->disk->store;
    bool awaited;

    pthread_mutex_lock(&s->lock);
    awaited = !sb->catalogued && !sb->dropped && !sb->broken;
    pthread_mutex_unlock(&s->lock);
    return awaited;
}

/* False: it has to be tried again. */
static bool renew_stuck(struct stored_bits *sb)
{
    struct state_disk *d = sb->disk;
    struct catalogue_bitmap *b = row_of(d, sb);
    g_autoptr(GError) error = NULL;

    if (!b)
        return !is_awaited(sb);
    if (renew(sb, b, &error) == 0)
        return true;
    log_debug("disk %s: bitmap '%s' has no new file yet: %s", d->row.name, b->name, error->message);
    return false;
}

static void renew_disk(struct state_disk *d)
{
    g_autoptr(GPtrArray) files = stored_bits_with_files(d);

    for (unsigned i = 0; i < files->len; i++) {
        struct stored_bits *sb = files->pdata[i];

        if (atomic_load(&sb->stuck) && !renew_stuck(sb))
            atomic_store(&d->store->any_stuck, true);
    }
}

void store_renew(void *store)
{
    struct store *s = store;

    pthread_mutex_lock(&s->catalogue_lock);
    atomic_store(&s->any_stuck, false);
    for (unsigned i = 0; s->started && i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->attached && !d->detached)
            renew_disk(d);
    }
    pthread_mutex_unlock(&s->catalogue_lock);
}
