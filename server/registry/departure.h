/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for clients of exports to leave, which they do on threads of their own. Control thread.
 */
#ifndef REGISTRY_DEPARTURE_H
#define REGISTRY_DEPARTURE_H

#include <glib.h>
#include <stdbool.h>

struct server;

/* One wait. The caller allocates it, as the first member of a struct of its own. */
struct departure {
    /* Have they left? Asked at once and when some client has left, with the registry's lock held. */
    bool (*is_over)(struct departure *d);
    /* Called once, without the lock: when they have left (in_time), at the deadline, or when the server
     * ends. `d` is not used any more. */
    void (*then)(struct departure *d, bool in_time);

    /* the registry's */
    struct server *server;
    guint timer;
    GList link;
};

/* Wait, `ms` milliseconds at most. `then` may be called before this returns. */
void departure_wait(struct server *s, struct departure *d, unsigned ms);
/* Some client has left: end the waits that are over. */
void departures_check(struct server *s);
/* The server ends: end all waits. */
void departures_cancel(struct server *s);

#endif
