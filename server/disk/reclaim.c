/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What was taken out of the chain of views, and readers may still hold: a deleted view, slots of
 * scratch. It is given back when all readers have left who were inside then (the grace). That takes
 * as long as one read of the disk, and a disk that hangs must not hang the control thread with it:
 * who has waited for a while leaves things here, to be given back later, by the next who waits with
 * success or by a timer.
 */
#include "server/disk/disk-private.h"

/* How often it is tried again, ms. */
#define LIMBO_INTERVAL 500

struct left {
    struct disk *disk;
    struct view *view; /* NULL: only slots */
    GArray *surplus;
};

static void give_back(void *p)
{
    struct left *l = p;

    surplus_give(l->disk, l->surplus);
    if (l->view)
        view_free(l->view);
    g_free(l);
}

/* All readers have left who may hold any of it. */
static void empty(struct disk *d)
{
    g_ptr_array_set_size(d->limbo, 0);
    if (d->limbo_timer)
        g_source_remove(d->limbo_timer);
    d->limbo_timer = 0;
    if (!atomic_load(&d->newest)) {
        scratch_free(d->scratch);
        d->scratch = NULL;
    }
}

static gboolean on_timer(void *opaque)
{
    struct disk *d = opaque;

    if (!grace_wait_until(&d->readers, g_get_monotonic_time()))
        return G_SOURCE_CONTINUE;
    d->limbo_timer = 0;
    empty(d);
    return G_SOURCE_REMOVE;
}

void limbo_init(struct disk *d)
{
    d->limbo = g_ptr_array_new_with_free_func(give_back);
}

void limbo_free(struct disk *d)
{
    grace_wait(&d->readers);
    empty(d);
    g_ptr_array_unref(d->limbo);
}

void limbo_put(struct disk *d, struct view *v, GArray *surplus)
{
    struct left *l = g_new(struct left, 1);

    *l = (struct left){.disk = d, .view = v, .surplus = surplus};
    g_ptr_array_add(d->limbo, l);
    if (grace_wait_until(&d->readers, g_get_monotonic_time() + d->drain_usec / 10))
        empty(d);
    else if (d->limbo_timer == 0)
        d->limbo_timer = g_timeout_add(LIMBO_INTERVAL, on_timer, d);
}

bool limbo_is_empty(const struct disk *d)
{
    return d->limbo->len == 0;
}
