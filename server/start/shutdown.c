/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/shutdown.h"

#include <glib.h>

/* Used by the main thread alone; a ticket may be on its way from another thread. */
struct shutdown {
    unsigned references; /* until it has ended, one; and one of each ticket */
    const struct shutdown_step *steps;
    unsigned n_steps;
    unsigned at; /* the step that is under way; n_steps: ended */
    guint timer; /* its limit */
    bool in_order;
    void (*ended)(void *opaque, bool in_order);
    void *opaque;
};

struct shutdown_ticket {
    struct shutdown *shutdown;
    unsigned step;
};

static void unref(struct shutdown *s)
{
    if (--s->references == 0)
        g_free(s);
}

static gboolean limit_passed(gpointer shutdown);

static void begin(struct shutdown *s)
{
    const struct shutdown_step *step = &s->steps[s->at];
    struct shutdown_ticket *ticket;

    if (s->at == s->n_steps) {
        s->ended(s->opaque, s->in_order);
        unref(s);
        return;
    }
    ticket = g_new(struct shutdown_ticket, 1);
    *ticket = (struct shutdown_ticket){s, s->at};
    s->references++;
    s->timer = g_timeout_add(step->limit_ms, limit_passed, s);
    step->begin(s->opaque, ticket);
}

static gboolean limit_passed(gpointer shutdown)
{
    struct shutdown *s = shutdown;

    s->in_order = false;
    s->steps[s->at].give_up(s->opaque);
    s->at++;
    begin(s);
    return G_SOURCE_REMOVE;
}

static gboolean step_completed(gpointer data)
{
    struct shutdown_ticket *ticket = data;
    struct shutdown *s = ticket->shutdown;

    if (s->at == ticket->step) {
        g_source_remove(s->timer);
        s->at++;
        begin(s);
    }
    unref(s);
    g_free(ticket);
    return G_SOURCE_REMOVE;
}

void shutdown_complete(struct shutdown_ticket *ticket)
{
    g_idle_add_full(G_PRIORITY_DEFAULT, step_completed, ticket, NULL);
}

void shutdown_start(const struct shutdown_step *steps, unsigned n_steps,
                    void (*ended)(void *opaque, bool in_order), void *opaque)
{
    struct shutdown *s = g_new(struct shutdown, 1);

    *s = (struct shutdown){
        .references = 1,
        .steps = steps,
        .n_steps = n_steps,
        .in_order = true,
        .ended = ended,
        .opaque = opaque,
    };
    begin(s);
}
