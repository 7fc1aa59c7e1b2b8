/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-attach.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/store-break.h"
#include "server/state/store-names.h"
#include "server/state/store-rows.h"
#include "server/state/store-views.h"
#include "server/state/stored-bits.h"

#include <inttypes.h>

/* ---- bitmaps ---- */

static void clear_found(void *opaque)
{
    struct store_bitmap *b = opaque;

    g_free(b->name);
    g_free(b->inconsistent);
    bitmap_unref(b->bits);
}

void store_bitmaps_free(GArray *bitmaps)
{
    if (bitmaps)
        g_array_unref(bitmaps);
}

/* The old bits may have been lost while they were read. */
static int merge_old(struct state_disk *d, struct bitmap *bits, const struct bitmap *old,
                     GError **err)
{
    struct stored_bits *sb = stored_bits_of(d, old);
    bool lost;

    bitmap_merge(bits, old);
    lost = mapping_is_lost(sb->guard);
    stored_bits_unref(sb);
    return lost ? fail(err, "%s", stored_bits_lost_reason) : 0;
}

/* Bits of the image's size, of a bitmap that has another one: the server died after it had resized
 * the image, and before the catalogue knew. What has grown is dirty. The row is changed; its old
 * file is an orphan then, which the next start removes. */
static struct bitmap *resized(struct state_disk *d, struct catalogue_bitmap *b,
                              const struct bitmap *old, uint64_t size, GError **err)
{
    struct storage *s = d->store->storage;
    g_autoptr(GPtrArray) files = NULL;
    struct bitmap *bits = stored_bits_new(d, size, b->granularity, err);
    struct stored_bits *sb;
    int error;

    if (!bits)
        return NULL;
    if (merge_old(d, bits, old, err) < 0) {
        bitmap_unref(bits);
        return NULL;
    }
    if (size > b->size)
        bitmap_set(bits, b->size, size - b->size);
    sb = stored_bits_of(d, bits);
    error = stored_bits_attach(d, bits, err);
    if (error == 0)
        error = stored_bits_sync(sb, err);
    if (error == 0 && (error = s->ops->sync_names(s, "bits")) < 0)
        storage_fail(s, "bits", "syncing the names in it", error, err);
    if (error == 0) {
        g_strlcpy(b->uuid, sb->uuid, sizeof b->uuid);
        b->size = size;
        stored_bits_set_catalogued(sb); /* once the start is committed */
        stored_bits_leave(d, old);
    } else {
        bitmap_unref(bits);
    }
    stored_bits_unref(sb);
    return error == 0 ? bits : NULL;
}

static struct bitmap *open_bits(struct state_disk *d, struct catalogue_bitmap *b, uint64_t size,
                                GError **err)
{
    struct bitmap *bits = stored_bits_open(d, b, b->sealed, err), *right = bits;

    if (bits && b->size != size) {
        right = resized(d, b, bits, size, err);
        bitmap_unref(bits);
    }
    return right;
}

/* One bitmap. `reason`: why no bitmap of the disk is good, or NULL. */
static struct store_bitmap find_bitmap(struct state_disk *d, struct catalogue_bitmap *b,
                                       uint64_t size, const char *reason)
{
    struct store_bitmap found = {.name = g_strdup(b->name), .granularity = b->granularity};
    g_autoptr(GError) error = NULL;

    if (!b->inconsistent && reason)
        row_set_inconsistent(b, reason);
    if (!b->inconsistent) {
        found.bits = open_bits(d, b, size, &error);
        if (!found.bits)
            row_set_inconsistent(b, error->message);
    }
    if (b->inconsistent)
        log_error("disk %s: bitmap '%s' is inconsistent: %s", d->row.name, b->name,
                  b->inconsistent);
    b->sealed = false;
    found.recording = b->recording;
    found.inconsistent = g_strdup(b->inconsistent);
    return found;
}

/* All of a disk; what differs is put into the catalogue's transaction. */
static int find_bitmaps(struct state_disk *d, uint64_t size, const char *reason, GArray *found,
                        GError **err)
{
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct catalogue_bitmap *b = d->bitmaps->pdata[i];
        struct catalogue_bitmap before = row_copy(b);
        struct store_bitmap bitmap = find_bitmap(d, b, size, reason);
        int result = 0;

        b->disk = d->row.id;
        g_array_append_val(found, bitmap);
        if (b->id == 0 || !row_equal(b, &before))
            result = catalogue_put_bitmap(d->store->catalogue, b, err);
        catalogue_bitmap_clear(&before);
        if (result < 0)
            return -1;
    }
    return 0;
}

/* ---- the disk ---- */

/* The disk is in use, as it is now. */
static int put_disk(struct state_disk *d, uint64_t size, const struct image_identity *identity,
                    GError **err)
{
    g_free(d->image_before);
    d->image_before = g_steal_pointer(&d->row.image);
    g_free(d->row.content);
    d->row.image = g_strdup(identity->image ? identity->image : "");
    d->row.content = g_strdup(identity->content ? identity->content : "");
    d->row.size = size;
    d->row.resize_to = 0;
    d->row.changed_until = 0;
    d->row.state = DISK_OPEN;
    d->row.adopted = false;
    return catalogue_put_disk(d->store->catalogue, &d->row, err);
}

static bool phase_left(void *opaque, unsigned phase)
{
    struct state_disk *d = opaque;

    return live_phase_left(d->store->live, d->row.id, phase);
}

static int add_to_journal(struct state_disk *d, GError **err)
{
    struct journal_disk_options o = {.id = d->row.id,
                                     .cover = &d->cover,
                                     .phase_left = phase_left,
                                     .sync_bits = store_sync_bits,
                                     .opaque = d};

    if (!d->store->journal)
        return 0;
    d->journal = journal_add_disk(d->store->journal, &o, err);
    return d->journal ? 0 : -1;
}

static int take_line(struct state_disk *d, GError **err)
{
    d->line = live_take(d->store->live, d->row.id);
    if (d->line)
        return 0;
    return fail(err, "disk %s: more disks than the file %s of the state folder has lines",
                d->row.name, "live");
}

static void set_attached(struct state_disk *d, const struct image_identity *identity,
                         const struct state_disk_events *events)
{
    d->transient = identity->transient;
    pthread_mutex_lock(&d->events_lock);
    d->events = *events;
    pthread_mutex_unlock(&d->events_lock);
    pthread_mutex_lock(&d->store->lock);
    d->attached = true;
    pthread_mutex_unlock(&d->store->lock);
}

/* The disk that gets the name and the image, and why its bitmaps do not fit, or NULL. */
static struct state_disk *choose_disk(struct store *s, const char *name, uint64_t size,
                                      const struct image_identity *identity, char **reason,
                                      GError **err)
{
    struct state_disk *d = rows_find_disk(s, name);

    *reason = NULL;
    if (d)
        d = names_choose(d, size, identity, reason, err);
    else if (names_return(s, name, identity, &d, err) == 0 && !d)
        return rows_add_disk(s, name, size);
    if (d && !*reason && d->bitmaps->len > 0)
        *reason = identity_judge(&d->row, identity, size);
    return d;
}

/* What was done with the disk's bitmaps, for people. */
static char *describe(struct state_disk *d, const char *reason)
{
    const struct recovery *r = d->store->recovery;
    uint64_t widened = 0;

    if (d->is_new)
        return g_strdup("new");
    if (!reason)
        reason = recovery_broken(r, d->row.id);
    if (reason)
        return g_strdup_printf("inconsistent: %s", reason);
    /* The process has died, and a bitmap whose memory was gone was widened: that is not exact either. */
    if (recovery_widened(r, d->row.id, &widened) &&
        (widened > 0 || (r->kind == RECOVERY_POWER_LOSS && !r->lost)))
        return g_strdup_printf("widened by %" PRIu64 " bytes after power loss", widened);
    return g_strdup("exact");
}

struct state_disk *attach_disk(struct store *s, const char *name, uint64_t size,
                               const struct image_identity *identity,
                               const struct state_disk_events *events, GArray **bitmaps,
                               char **recovered, GError **err)
{
    struct state_disk *d = rows_find_disk(s, name);
    g_autofree char *reason = NULL;

    if (d && d->attached) {
        fail(err, "disk %s: the state folder has it in use already", name);
        return NULL;
    }
    d = choose_disk(s, name, size, identity, &reason, err);
    if (!d)
        return NULL;
    d->stale = views_judge(d, reason, identity, size);
    *bitmaps = g_array_new(FALSE, TRUE, sizeof(struct store_bitmap));
    g_array_set_clear_func(*bitmaps, clear_found);
    if (put_disk(d, size, identity, err) < 0 || find_bitmaps(d, size, reason, *bitmaps, err) < 0 ||
        take_line(d, err) < 0 || add_to_journal(d, err) < 0) {
        g_clear_pointer(bitmaps, store_bitmaps_free);
        return NULL;
    }
    set_attached(d, identity, events);
    *recovered = describe(d, reason);
    return d;
}
