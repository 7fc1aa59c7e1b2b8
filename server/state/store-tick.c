/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-tick.h"

#include "common/state/folder.h"
#include "common/util/log.h"
#include "server/state/store-break.h"
#include "server/state/store-renew.h"

#include <time.h>

int64_t store_lease_end(const struct store *s)
{
    struct timespec t;

    /* Without a journal, nothing is known after a power loss in any case. */
    if (!s->power)
        return 0;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec + LIVE_LEASE_NS;
}

static bool is_failing(struct store *s)
{
    bool failing;

    pthread_mutex_lock(&s->lock);
    failing = s->failing;
    pthread_mutex_unlock(&s->lock);
    return failing;
}

/* A sync that failed is not tried again: after a power loss, images that were changed later than the
 * last lease do not fit their bitmaps. */
static void extend_lease(struct store *s)
{
    g_autoptr(GError) error = NULL;

    if (!s->power || s->lease_failed || live_extend_lease(s->live, store_lease_end(s), &error) == 0)
        return;
    s->lease_failed = true;
    log_error("%s: after a power loss, bitmaps of images that were changed from now on will be "
              "inconsistent",
              error->message);
}

/* Who finds it is a signal handler. */
static void say_incomplete(struct store *s)
{
    if (s->said_incomplete || !memory_is_incomplete(s->memory))
        return;
    s->said_incomplete = true;
    log_error(
        "state: %s: there is no memory left in %s: if the server dies, its bitmaps will count "
        "as after a power loss",
        s->path, memory_storage(s->memory)->path);
}

void store_tick(void *opaque)
{
    struct store *s = opaque;

    if (is_failing(s))
        store_settle(s);
    else
        extend_lease(s);
    if (atomic_load(&s->any_stuck))
        store_renew(s);
    say_incomplete(s);
}

/* The counts of changes under way are gone, without which no region is ever closed. Bits are good,
 * but the lines would say that nobody has changed anything. */
void store_live_lost(void *opaque)
{
    struct store *s = opaque;

    memory_note_incomplete(s->memory);
    log_error("state: %s: somebody has cut short the file %s in memory: if the server dies, its "
              "bitmaps will count as after a power loss",
              s->path, STATE_LIVE);
}
