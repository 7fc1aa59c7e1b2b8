/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leases. A lease begins to run when the session is renewed or when its last client leaves, whichever
 * comes later. No event tells when a client comes or goes. The timer is set to the earliest time at which
 * the lease can end, and looks at the clients then. If a client is there at that time, the lease cannot
 * end before a whole lease later, so the next look is in time. The lease ends exactly when it should.
 */
#include "server/backup/session-private.h"

/* When the lease began to run (g_get_monotonic_time); -1: a client holds it. */
static int64_t runs_since(struct session *n)
{
    int64_t since = n->renewed;

    for (unsigned i = 0; i < n->record.disks->len; i++) {
        int64_t idle;

        if (export_clients(n->disks[i].export, &idle) > 0)
            return -1;
        since = MAX(since, idle);
    }
    return since;
}

int64_t session_lease_left(struct session *n)
{
    int64_t since = n->record.lease > 0 ? runs_since(n) : -1;

    if (since < 0)
        return -1;
    return MAX(since + n->record.lease * G_USEC_PER_SEC - g_get_monotonic_time(), 0);
}

static void wait_until(struct session *n, int64_t left);

static gboolean look(gpointer session)
{
    struct session *n = session;
    g_autofree char *reason = NULL;
    int64_t left = session_lease_left(n);

    n->lease_timer = 0;
    if (n->all->stopped || session_has_ended(n))
        return G_SOURCE_REMOVE;
    if (left != 0 || n->ending || n->renewals > 0) {
        wait_until(n, left != 0 ? left : G_USEC_PER_SEC);
        return G_SOURCE_REMOVE;
    }
    reason = g_strdup_printf("its lease of %" G_GINT64_FORMAT " s has ended", n->record.lease);
    session_doom(n, reason);
    return G_SOURCE_REMOVE;
}

/* `left` < 0: a client is there. */
static void wait_until(struct session *n, int64_t left)
{
    int64_t usec = left < 0 ? n->record.lease * G_USEC_PER_SEC : left;

    n->lease_timer = g_timeout_add((guint)MIN((usec + 999) / 1000, G_MAXINT), look, n);
}

void session_lease_begin(struct session *n)
{
    g_clear_handle_id(&n->lease_timer, g_source_remove);
    n->renewed = g_get_monotonic_time();
    if (n->record.lease > 0)
        wait_until(n, n->record.lease * G_USEC_PER_SEC);
}
