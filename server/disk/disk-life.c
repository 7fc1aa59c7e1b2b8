/* SPDX-License-Identifier: BSD-3-Clause */
/* How a disk begins and ends. */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/disk.h"
#include "server/disk/disk-scratch.h"
#include "server/disk/node-stats.h"
#include "server/disk/view-chain.h"

static void free_tracker(gpointer t)
{
    tracker_free(t);
}

struct disk *disk_new(const struct disk_config *config, GError **err)
{
    struct backend *backend = config->backend;
    struct disk *d;
    struct backend_handle *h;
    g_autoptr(GArray) nothing = mark_array_new();

    if (backend->ops->open(backend, config->readonly, NULL, &h, err) < 0) {
        backend->ops->free(backend);
        return NULL;
    }
    d = g_new0(struct disk, 1);
    d->node.kind = NODE_DISK;
    d->node.name = g_strdup(config->name);
    node_ios_init(&d->node.ios);
    d->backend = backend;
    d->handle = h;
    d->readonly = config->readonly || !h->can_write;
    d->unit = MAX(4096, h->min_block);
    d->unit_shift = (unsigned)__builtin_ctz(d->unit);
    atomic_init(&d->size, h->size);
    d->pool = config->scratch;
    d->drain_usec = DRAIN_USEC;
    d->scratch_usec = SCRATCH_USEC;
    d->leaving_usec = LEAVING_USEC;
    if (config->events)
        d->events = *config->events;
    gate_init(&d->gate);
    range_lock_init(&d->changing);
    grace_init(&d->readers);
    opens_init(&d->opens);
    disk_scratch_init(&d->holding);
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->chain_turn, NULL);
    pthread_mutex_init(&d->chain_lock, NULL);
    d->tracker = tracker_new(nothing);
    d->retired_trackers = g_ptr_array_new_with_free_func(free_tracker);
    d->bitmaps = dirty_bitmap_array_new();
    d->views = g_ptr_array_new();
    d->strays = g_ptr_array_new();
    return d;
}

/* Nobody writes or reads any more, so there is no gate to shut and nobody to wait for. */
static void end_view(struct view *v)
{
    view_forget(v);
    view_unlink(v);
    view_free_later(v);
}

/* A view that somebody will ask for needs the newer ones, too. */
static void keep_claimed(struct disk *d)
{
    for (unsigned k = 0; k < d->views->len && d->state.lasting; k++)
        d->keeps |= ((struct view *)d->views->pdata[k])->claimed;
    if (d->keeps && d->scratch)
        scratch_keep(d->scratch);
}

/* What clients have written is to be safe when the process has ended in order. A flush that waits
 * for an open that hangs, because the plugin allows one call at a time, would hang, too. */
enum disk_settled disk_settle(struct disk *d)
{
    int r;

    if (!opens_end(&d->opens)) {
        log_error("disk %s: %s: an open has still not come back: the plugin is not ended",
                  d->node.name, d->backend->driver);
        return DISK_HANGS;
    }
    r = d->readonly || !d->handle->can_flush ? 0 : d->backend->ops->flush(d->handle);
    if (r < 0)
        log_error("disk %s: flush at the end: %s", d->node.name, g_strerror(-r));
    d->settled = true;
    return r < 0 ? DISK_NOT_FLUSHED : DISK_FLUSHED;
}

bool disk_free(struct disk *d)
{
    /* Before all that a file system of scratch may hold up. */
    if (!d->settled && disk_settle(d) == DISK_HANGS)
        return false;
    if (!disk_scratch_end_making(&d->holding)) {
        log_error("disk %s: scratch: a file in %s has still not been made: the disk is not closed",
                  d->node.name, d->pool->dir);
        return false;
    }
    if (!disk_scratch_end_leaving(&d->holding, d->leaving_usec)) {
        log_error(
            "disk %s: scratch: a file in %s has still not been removed: the disk is not closed",
            d->node.name, d->pool->dir);
        return false;
    }
    keep_claimed(d);
    while (d->views->len > 0)
        end_view(d->views->pdata[0]);
    for (unsigned k = 0; k < d->strays->len; k++)
        end_view(d->strays->pdata[k]);
    tracker_free(d->tracker);
    g_ptr_array_unref(d->retired_trackers);
    g_ptr_array_unref(d->bitmaps);
    g_ptr_array_unref(d->views);
    g_ptr_array_unref(d->strays);
    d->backend->ops->close(d->handle);
    d->backend->ops->free(d->backend);
    gate_destroy(&d->gate);
    range_lock_destroy(&d->changing);
    grace_destroy(&d->readers);
    opens_destroy(&d->opens);
    disk_scratch_destroy(&d->holding);
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->chain_lock);
    pthread_mutex_destroy(&d->chain_turn);
    node_ios_destroy(&d->node.ios);
    log_limit_end(&d->node.open_errors);
    log_limit_end(&d->read_errors);
    log_limit_end(&d->write_errors);
    g_free(d->lost_views);
    g_free(d->node.name);
    g_free(d);
    return true;
}
