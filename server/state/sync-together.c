/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/sync-together.h"

#include "server/state/stored-bits.h"

/* More gain nothing on ext4 and XFS. */
#define MOST_THREADS 8u

struct together {
    const GPtrArray *bits;
    GError **errors; /* of each; NULL: it is synced */
    atomic_uint next;
};

static void *sync_some(void *opaque)
{
    struct together *t = opaque;
    unsigned i;

    while ((i = atomic_fetch_add(&t->next, 1)) < t->bits->len)
        stored_bits_sync(t->bits->pdata[i], &t->errors[i]);
    return NULL;
}

/* The caller's thread is one of them; it goes on alone where there can be no others. */
static void sync_all(struct together *t)
{
    GThread *threads[MOST_THREADS - 1];
    unsigned most = MIN(t->bits->len, MOST_THREADS) - 1, n = 0;

    while (n < most && (threads[n] = g_thread_try_new("state-sync", sync_some, t, NULL)))
        n++;
    sync_some(t);
    while (n > 0)
        g_thread_join(threads[--n]);
}

int sync_together(const GPtrArray *bits, GError **err)
{
    struct together t = {.bits = bits};
    int result = 0;

    if (bits->len == 0)
        return 0;
    t.errors = g_new0(GError *, bits->len);
    sync_all(&t);
    for (unsigned i = 0; i < bits->len; i++) {
        if (!t.errors[i])
            continue;
        if (result == 0)
            g_propagate_error(err, g_steal_pointer(&t.errors[i]));
        g_clear_error(&t.errors[i]);
        result = -1;
    }
    g_free(t.errors);
    return result;
}
