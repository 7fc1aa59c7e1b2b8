/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-catalogue.h"

#include "common/util/log.h"
#include "server/state/store-records.h"

/* ---- the catalogue becomes what memory says ---- */

static struct state_disk *known_disk(struct store *s, int64_t id)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->row.id == id)
            return d;
    }
    return NULL;
}

static bool is_known(struct store *s, const struct catalogue_bitmap *b)
{
    struct state_disk *d = known_disk(s, b->disk);

    for (unsigned i = 0; d && i < d->bitmaps->len; i++)
        if (((struct catalogue_bitmap *)d->bitmaps->pdata[i])->id == b->id)
            return true;
    return false;
}

static int remove_unknown(struct store *s, GError **err)
{
    g_autoptr(GArray) disks = catalogue_disks(s->catalogue, NULL, err);
    g_autoptr(GArray) bitmaps = disks ? catalogue_bitmaps(s->catalogue, NULL, err) : NULL;

    if (!bitmaps)
        return -1;
    for (unsigned i = 0; i < bitmaps->len; i++) {
        const struct catalogue_bitmap *b = &g_array_index(bitmaps, struct catalogue_bitmap, i);

        if (!is_known(s, b) && catalogue_remove_bitmap(s->catalogue, b->id, err) < 0)
            return -1;
    }
    for (unsigned i = 0; i < disks->len; i++) {
        const struct catalogue_disk *d = &g_array_index(disks, struct catalogue_disk, i);

        if (!known_disk(s, d->id) && catalogue_remove_disk(s->catalogue, d->id, err) < 0)
            return -1;
    }
    return 0;
}

static int put_known(struct store *s, GError **err)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (catalogue_put_disk(s->catalogue, &d->row, err) < 0)
            return -1;
        for (unsigned k = 0; k < d->bitmaps->len; k++)
            if (catalogue_put_bitmap(s->catalogue, d->bitmaps->pdata[k], err) < 0)
                return -1;
    }
    return records_put_known(s, err);
}

/* ---- transactions ---- */

static int open_anew(struct store *s, bool *happened, GError **err)
{
    if (catalogue_reopen(s->catalogue, happened, err) < 0)
        return -1;
    log_info("state: %s: the catalogue was opened anew after a failure of its storage", s->path);
    return 0;
}

int store_catalogue_begin(struct store *s, GError **err)
{
    bool happened;

    if (catalogue_has_failed(s->catalogue) && open_anew(s, &happened, err) < 0)
        return -1;
    if (catalogue_begin(s->catalogue, err) < 0)
        return -1;
    if (!s->differs || (remove_unknown(s, err) == 0 && put_known(s, err) == 0))
        return 0;
    catalogue_rollback(s->catalogue);
    return -1;
}

/* Until the catalogue is as memory says, it may name bits that nobody records in: the journal closes no
 * region (store_sync_bits). */
static void set_differs(struct store *s, bool differs)
{
    pthread_mutex_lock(&s->lock);
    s->failing = s->failing || differs;
    s->differs = differs;
    pthread_mutex_unlock(&s->lock);
}

/* The outcome of a COMMIT that failed, after the catalogue was opened anew. */
static int settle_commit(struct store *s, bool *unsure, GError **err)
{
    g_autoptr(GError) error = NULL;
    bool happened;

    if (open_anew(s, &happened, &error) < 0) {
        *unsure = true;
        set_differs(s, true);
        return -1;
    }
    *unsure = false;
    if (!happened)
        return -1;
    g_clear_error(err);
    return 0;
}

int store_catalogue_commit(struct store *s, bool *unsure, GError **err)
{
    bool failed;
    int result = catalogue_commit(s->catalogue, &failed, err);

    if (result < 0 && failed)
        result = settle_commit(s, &failed, err);
    if (result == 0) {
        set_differs(s, false);
        memory_note_catalogue(s->memory, catalogue_number(s->catalogue));
    }
    if (unsure)
        *unsure = failed;
    return result;
}
