/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-resize.h"

#include "common/util/log.h"
#include "server/state/store-catalogue.h"
#include "server/state/stored-bits.h"

static int put_resize(struct state_disk *d, uint64_t size, GError **err)
{
    struct catalogue_disk row = d->row; /* borrows its strings */
    struct catalogue *c = d->store->catalogue;

    row.resize_to = size;
    if (store_catalogue_begin(d->store, err) < 0)
        return -1;
    if (catalogue_put_disk(c, &row, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    if (store_catalogue_commit(d->store, NULL, err) < 0)
        return -1;
    d->row.resize_to = size;
    return 0;
}

int store_resize_begin(struct state_disk *d, uint64_t size, GError **err)
{
    int result;

    pthread_mutex_lock(&d->store->catalogue_lock);
    atomic_fetch_add(&d->resizes, 1);
    result = put_resize(d, size, err);
    pthread_mutex_unlock(&d->store->catalogue_lock);
    return result;
}

struct cancel {
    struct state_disk *disk;
    unsigned resize;
};

/* If it cannot be written, a start accepts either size: nothing is lost. */
static void cancel_resize(void *data)
{
    struct cancel *c = data;
    struct state_disk *d = c->disk;
    g_autoptr(GError) error = NULL;

    pthread_mutex_lock(&d->store->catalogue_lock);
    if (atomic_load(&d->resizes) == c->resize && d->row.resize_to != 0 &&
        put_resize(d, 0, &error) < 0)
        log_error("disk %s: a resize that did not happen stays noted: %s", d->row.name,
                  error->message);
    pthread_mutex_unlock(&d->store->catalogue_lock);
    g_free(c);
}

void store_resize_cancel(struct state_disk *d)
{
    struct cancel *c = g_new0(struct cancel, 1);

    c->disk = d;
    c->resize = atomic_load(&d->resizes);
    if (!store_post(d->store, cancel_resize, c))
        g_free(c);
}
