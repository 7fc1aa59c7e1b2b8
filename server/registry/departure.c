/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/departure.h"
#include "server/registry/registry-private.h"

static void end(struct departure *d, bool in_time)
{
    struct server *s = d->server;

    pthread_mutex_lock(&s->lock);
    g_queue_unlink(&s->departures, &d->link);
    pthread_mutex_unlock(&s->lock);
    if (d->timer)
        g_source_remove(d->timer);
    d->then(d, in_time);
}

static gboolean too_late(gpointer departure)
{
    struct departure *d = departure;

    d->timer = 0;
    end(d, false);
    return G_SOURCE_REMOVE;
}

/* Under one lock: a client that leaves after it was asked about finds that somebody waits. */
void departure_wait(struct server *s, struct departure *d, unsigned ms)
{
    bool is_over;

    d->server = s;
    d->link = (GList){.data = d};
    d->timer = 0;
    pthread_mutex_lock(&s->lock);
    is_over = d->is_over(d);
    if (!is_over)
        g_queue_push_tail_link(&s->departures, &d->link);
    pthread_mutex_unlock(&s->lock);
    if (is_over)
        d->then(d, true);
    else
        d->timer = g_timeout_add(ms, too_late, d);
}

static struct departure *find_over(struct server *s)
{
    struct departure *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (GList *l = s->departures.head; l && !found; l = l->next) {
        struct departure *d = l->data;

        if (d->is_over(d))
            found = d;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

void departures_check(struct server *s)
{
    struct departure *d;

    while ((d = find_over(s)))
        end(d, true);
}

void departures_cancel(struct server *s)
{
    while (s->departures.head)
        end(s->departures.head->data, false);
}
