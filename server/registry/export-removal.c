/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/export-removal.h"
#include "common/util/error.h"
#include "server/registry/departure.h"
#include "server/registry/export-private.h"

#include <string.h>

/* ---- clients that have hung up ---- */

/* All clients of `only` (NULL: of all exports of `n`) have hung up, and there is one. */
static bool all_hung_up_locked(struct server *s, const struct export *only, const struct node *n)
{
    bool any = false;

    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (only ? e != only : e->info.node != n)
            continue;
        for (GList *l = e->clients.head; l; l = l->next) {
            struct export_client *c = l->data;

            if (!c->hung_up(c))
                return false;
            any = true;
        }
    }
    return any;
}

struct hang_up {
    struct departure departure;
    struct export *only; /* a reference, or NULL */
    const struct node *node;
    void (*then)(void *opaque);
    void *opaque;
};

static bool hang_up_is_over(struct departure *d)
{
    struct hang_up *h = (struct hang_up *)d;

    return !all_hung_up_locked(d->server, h->only, h->node);
}

static void hang_up_ends(struct departure *d, bool in_time)
{
    struct hang_up *h = (struct hang_up *)d;

    h->then(h->opaque);
    if (h->only)
        export_unref(h->only);
    g_free(h);
}

static void when_hung_up_left(struct server *s, struct export *only, const struct node *n,
                              void (*then)(void *opaque), void *opaque)
{
    struct hang_up *h = g_new(struct hang_up, 1);

    *h = (struct hang_up){
        .departure = {.is_over = hang_up_is_over, .then = hang_up_ends},
        .only = only ? export_ref(only) : NULL,
        .node = n,
        .then = then,
        .opaque = opaque,
    };
    departure_wait(s, &h->departure, EXPORT_GRACE_MS);
}

void server_when_hung_up_left(struct server *s, struct node *n, void (*then)(void *opaque),
                              void *opaque)
{
    when_hung_up_left(s, NULL, n, then, opaque);
}

/* ---- one export ---- */

/* End the clients of an export that is going; they detach on their own threads. */
static void cancel_locked(struct export *e, bool cut)
{
    for (GList *l = e->clients.head; l; l = l->next) {
        struct export_client *c = l->data;

        c->cancel(c, cut);
    }
}

/* They hang: who waits for exports to be gone waits for this one no longer. */
static gboolean give_up(gpointer export)
{
    struct export *e = export;

    e->cut_timer = 0;
    pthread_mutex_lock(&e->server->lock);
    e->given_up = true;
    pthread_mutex_unlock(&e->server->lock);
    departures_check(e->server);
    return G_SOURCE_REMOVE;
}

/* The time for ending in order is over. */
static gboolean cut_clients(gpointer export)
{
    struct export *e = export;

    pthread_mutex_lock(&e->server->lock);
    cancel_locked(e, true);
    pthread_mutex_unlock(&e->server->lock);
    e->cut_timer = g_timeout_add(e->server->gone_ms - EXPORT_GRACE_MS, give_up, e);
    return G_SOURCE_REMOVE;
}

static struct export *find(struct server *s, const char *id, GError **err)
{
    struct export *e;
    bool going;

    pthread_mutex_lock(&s->lock);
    e = export_find_id_locked(s, id);
    if (e && e->reserved)
        e = NULL;
    going = e && e->going;
    pthread_mutex_unlock(&s->lock);
    if (!e)
        fail(err, "Export '%s' is not found", id);
    else if (going)
        fail(err, "Export '%s' is already shutting down", id);
    return going ? NULL : e;
}

/* 0, or -1 and *err: a client is there, and it was not to be made to go. */
static int take_away(struct export *e, bool hard, GError **err)
{
    unsigned clients;

    pthread_mutex_lock(&e->server->lock);
    clients = e->clients.length;
    if (hard || clients == 0) {
        e->going = true;
        cancel_locked(e, false);
    }
    pthread_mutex_unlock(&e->server->lock);
    if (clients == 0)
        export_release(e, true);
    else if (!hard)
        return fail(err, "export '%s' still in use", e->info.id);
    else
        e->cut_timer = g_timeout_add(EXPORT_GRACE_MS, cut_clients, e);
    return 0;
}

struct removal {
    struct server *server;
    char *id;
    export_done done;
    void *opaque;
};

/* Others may have taken it away meanwhile. */
static void remove_now(void *opaque)
{
    struct removal *r = opaque;
    g_autoptr(GError) error = NULL;
    struct export *e = find(r->server, r->id, &error);

    if (e)
        take_away(e, false, &error);
    r->done(r->opaque, error);
    g_free(r->id);
    g_free(r);
}

void server_export_del(struct server *s, const char *id, bool hard, export_done done, void *opaque)
{
    g_autoptr(GError) error = NULL;
    struct export *e = find(s, id, &error);
    struct removal *r;

    if (e && e->info.owner) {
        fail(&error, "Export '%s' belongs to %s", id, e->info.owner);
        e = NULL;
    }
    if (!e || hard) {
        if (e)
            take_away(e, true, &error);
        done(opaque, error);
        return;
    }
    r = g_new(struct removal, 1);
    *r = (struct removal){.server = s, .id = g_strdup(id), .done = done, .opaque = opaque};
    when_hung_up_left(s, e, NULL, remove_now, r);
}

/* ---- many exports ---- */

struct clearance {
    struct departure departure;
    GPtrArray *only; /* struct export, references; NULL: all */
    export_done done;
    void *opaque;
};

/* One that has clients, or NULL; `awaited`: and has not been given up. */
static struct export *find_going_locked(const struct clearance *c, bool awaited)
{
    const GPtrArray *all = c->only ? c->only : c->departure.server->exports;

    for (unsigned i = 0; i < all->len; i++) {
        struct export *e = all->pdata[i];

        if (e->going && e->clients.length > 0 && !(awaited && e->given_up))
            return e;
    }
    return NULL;
}

static bool clearance_is_over(struct departure *d)
{
    return !find_going_locked((struct clearance *)d, true);
}

static void clearance_ends(struct departure *d, bool in_time)
{
    struct clearance *c = (struct clearance *)d;
    struct server *s = d->server;
    g_autoptr(GError) error = NULL;
    struct export *left;

    server_release_gone(s);
    pthread_mutex_lock(&s->lock);
    left = find_going_locked(c, false);
    if (left)
        fail(&error, "export '%s' still in use: a request of its client does not end",
             left->info.id);
    pthread_mutex_unlock(&s->lock);
    c->done(c->opaque, error);
    if (c->only)
        g_ptr_array_unref(c->only);
    g_free(c);
}

/* Takes over `only`. */
static void wait_for_clearance(struct server *s, GPtrArray *only, export_done done, void *opaque)
{
    struct clearance *c = g_new(struct clearance, 1);

    *c = (struct clearance){
        .departure = {.is_over = clearance_is_over, .then = clearance_ends},
        .only = only,
        .done = done,
        .opaque = opaque,
    };
    departure_wait(s, &c->departure, s->gone_ms);
}

void server_export_del_all(struct server *s, export_done done, void *opaque)
{
    g_autoptr(GArray) all = server_exports(s);

    for (unsigned i = 0; i < all->len; i++) {
        struct export *e = find(s, g_array_index(all, struct export_status, i).info->id, NULL);

        if (e)
            take_away(e, true, NULL);
    }
    wait_for_clearance(s, NULL, done, opaque);
}

static void unref(gpointer export)
{
    export_unref(export);
}

void server_exports_end(struct server *s, const GPtrArray *exports, export_done done, void *opaque)
{
    GPtrArray *only = g_ptr_array_new_with_free_func(unref);

    for (unsigned i = 0; i < exports->len; i++) {
        struct export *e = exports->pdata[i];
        bool there;

        g_ptr_array_add(only, export_ref(e));
        pthread_mutex_lock(&s->lock);
        there = !e->reserved && !e->going;
        pthread_mutex_unlock(&s->lock);
        if (there)
            take_away(e, true, NULL);
    }
    wait_for_clearance(s, only, done, opaque);
}
