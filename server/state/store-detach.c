/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-detach.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/bits-sync.h"
#include "server/state/store-break.h"
#include "server/state/stored-bits.h"

#include <time.h>

/* Its file has the bits, durably. Somebody may have damaged it meanwhile. */
static int seal_file(struct stored_bits *sb, struct catalogue_bitmap *b, GError **err)
{
    uint32_t crc;

    if (stored_bits_sync(sb, err) < 0 || bit_file_crc(sb->file, &b->crc, err) < 0 ||
        bits_sum(sb, &crc, err) < 0)
        return -1;
    return crc == b->crc ? 0 : fail(err, "its bits were damaged");
}

/* The bits go to a new file. The old one is an orphan when the row is committed; the next start removes
 * it. */
static int seal_copy(struct stored_bits *sb, struct catalogue_bitmap *b, GError **err)
{
    struct bit_file *f = bits_copy(sb, err);
    int result;

    if (!f)
        return -1;
    result = bit_file_crc(f, &b->crc, err);
    if (result == 0)
        g_strlcpy(b->uuid, bit_file_uuid(f), sizeof b->uuid);
    bit_file_close(f);
    return result;
}

/* After this its bits are durable and have a checksum, or they are broken. -1: neither. Their disk
 * must stay in use, so that the next start recovers them. */
static int seal(struct state_disk *d, struct catalogue_bitmap *b, GError **err)
{
    struct stored_bits *sb = b->inconsistent ? NULL : stored_bits_named(d, b->uuid);
    g_autofree char *broken = sb ? store_broken(sb) : NULL;
    g_autoptr(GError) error = NULL;

    if (sb && !broken && seal_file(sb, b, &error) < 0) {
        log_error("disk %s: bitmap '%s' gets a new file: %s", d->row.name, b->name, error->message);
        g_free(broken);
        broken = store_broken(sb);
        if (!broken && seal_copy(sb, b, err) < 0) {
            stored_bits_unref(sb);
            return -1;
        }
    }
    b->sealed = sb && !broken;
    stored_bits_unref(sb);
    return 0;
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
        if (seal(d, d->bitmaps->pdata[i], err) < 0)
            return -1;
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
