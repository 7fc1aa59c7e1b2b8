/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An instant that waits has a source of the main loop, whose ready time is the instant's deadline,
 * or now: so the same source is the timer and what other threads wake it with.
 */
#include "server/registry/commit.h"
#include "server/registry/registry-private.h"

#include <stdatomic.h>

struct commit {
    struct server *server;
    struct instant *instant;
    GSource *source;
    atomic_bool woken; /* since the last step began */
    void (*done)(void *opaque, const GError *error);
    void *opaque;
    GList link; /* in server->commits */
};

/* Any thread. */
static void wake(void *opaque)
{
    struct commit *c = opaque;

    atomic_store(&c->woken, true);
    g_source_set_ready_time(c->source, 0);
}

static void sleep_until(struct commit *c, gint64 deadline)
{
    g_source_set_ready_time(c->source, deadline == G_MAXINT64 ? -1 : deadline);
    if (atomic_load(&c->woken)) /* before the ready time was set: it has been overwritten */
        g_source_set_ready_time(c->source, 0);
}

static void end(struct commit *c, const GError *error)
{
    g_queue_unlink(&c->server->commits, &c->link);
    g_source_destroy(c->source);
    g_source_unref(c->source);
    c->done(c->opaque, error);
    g_free(c);
}

static void step(struct commit *c)
{
    g_autoptr(GError) error = NULL;
    enum instant_state state;

    atomic_store(&c->woken, false);
    state = instant_step(c->instant, &error);
    if (state == INSTANT_WAITS)
        sleep_until(c, instant_deadline(c->instant));
    else
        end(c, state == INSTANT_DONE ? NULL : error);
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer commit)
{
    step(commit);
    return G_SOURCE_CONTINUE;
}

/* The source's callback data are the commit; there is no callback. */
static GSource *source_new(struct commit *c)
{
    static GSourceFuncs functions = {.dispatch = dispatch};
    GSource *source = g_source_new(&functions, sizeof(GSource));

    g_source_set_callback(source, NULL, c, NULL);
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_ready_time(source, -1);
    g_source_attach(source, NULL);
    return source;
}

void server_commit(struct server *s, struct instant *i,
                   void (*done)(void *opaque, const GError *error), void *opaque)
{
    struct commit *c = g_new0(struct commit, 1);

    c->server = s;
    c->instant = i;
    c->done = done;
    c->opaque = opaque;
    c->source = source_new(c);
    c->link.data = c;
    g_queue_push_tail_link(&s->commits, &c->link);
    instant_start(i, wake, c);
    step(c);
}

void server_cancel_commits(struct server *s)
{
    for (GList *l = s->commits.head, *next; l; l = next) {
        struct commit *c = l->data;

        next = l->next;
        instant_cancel(c->instant);
        step(c);
    }
}
