/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-detach.h"

#include "server/state/store-break.h"
#include "server/state/store-rows.h"
#include "server/state/stored-bits.h"

#include <time.h>

static void break_one(struct state_disk *d, struct catalogue_bitmap *b, struct stored_bits *sb,
                      const char *why)
{
    g_autofree char *reason = g_strdup_printf("its bits could not be written: %s", why);

    if (sb)
        store_break(d, sb, reason);
    else
        row_set_inconsistent(b, reason);
}

/* After this its bits are durable and have a checksum, or they are broken. */
static void seal(struct state_disk *d, struct catalogue_bitmap *b)
{
    struct stored_bits *sb = stored_bits_named(d, b->uuid);
    g_autofree char *broken = sb ? store_broken(sb) : NULL;
    g_autoptr(GError) error = NULL;

    if (!b->inconsistent && !broken) {
        b->sealed = sb && stored_bits_sync(sb, &error) == 0 &&
                    bit_file_crc(sb->file, &b->crc, &error) == 0;
        if (!b->sealed)
            break_one(d, b, sb, error ? error->message : "nobody knows them");
    }
    stored_bits_unref(sb);
}

static int64_t wall_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* How the image was left. */
static void date_disk(struct state_disk *d, const struct image_identity *identity)
{
    if (identity) {
        g_free(d->row.image);
        g_free(d->row.content);
        d->row.image = g_strdup(identity->image ? identity->image : "");
        d->row.content = g_strdup(identity->content ? identity->content : "");
        d->row.state = DISK_CLEAN;
    } else {
        struct identity_past past = {.now = wall_clock(), .last_known = true};

        past.last = live_now(d->store->live, d->row.id);
        d->row.state = DISK_CRASHED;
        d->row.changed_until = identity_changed_until(&past);
    }
}

static int put_rows(struct state_disk *d, GError **err)
{
    struct catalogue *c = d->store->catalogue;

    if (store_put_broken(d->store, err) < 0)
        return -1;
    for (unsigned i = 0; i < d->bitmaps->len; i++)
        if (catalogue_put_bitmap(c, d->bitmaps->pdata[i], err) < 0)
            return -1;
    return catalogue_put_disk(c, &d->row, err);
}

int detach_disk(struct state_disk *d, const struct image_identity *identity, GError **err)
{
    struct catalogue *c = d->store->catalogue;

    for (unsigned i = 0; i < d->bitmaps->len; i++)
        seal(d, d->bitmaps->pdata[i]);
    date_disk(d, identity);
    if (catalogue_begin(c, err) < 0)
        return -1;
    if (put_rows(d, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    if (catalogue_commit(c, NULL, err) < 0)
        return -1;
    store_settled(d->store);
    return 0;
}

void detach_free(struct state_disk *d, bool hung)
{
    pthread_mutex_lock(&d->events_lock);
    d->events.broken = NULL;
    pthread_mutex_unlock(&d->events_lock);
    if (!hung)
        stored_bits_close(d);
}
