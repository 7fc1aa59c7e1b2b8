/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/turn.h"
#include "common/util/error.h"
#include "server/disk/disk.h"
#include "server/registry/registry-private.h"

struct turn {
    struct server *server;
    GPtrArray *disks;
    void (*begin)(void *opaque, struct turn *turn, const GError *error);
    void *opaque;
    bool begun;
    guint timer; /* until it begins */
    GList link;  /* in server->turns, in the order in which they were asked for */
};

static bool share_a_disk(const struct turn *a, const struct turn *b)
{
    for (guint i = 0; i < a->disks->len; i++)
        if (g_ptr_array_find(b->disks, a->disks->pdata[i], NULL))
            return true;
    return false;
}

/* No turn that was asked for earlier, and is not over, has a disk in common with it. */
static bool is_next(const struct turn *t)
{
    for (const GList *l = t->link.prev; l; l = l->prev)
        if (share_a_disk(t, l->data))
            return false;
    return true;
}

static void turn_free(struct turn *t)
{
    if (t->timer)
        g_source_remove(t->timer);
    g_queue_unlink(&t->server->turns, &t->link);
    g_ptr_array_unref(t->disks);
    g_free(t);
}

static struct turn *find_next(struct server *s)
{
    for (GList *l = s->turns.head; l; l = l->next) {
        struct turn *t = l->data;

        if (!t->begun && is_next(t))
            return t;
    }
    return NULL;
}

static void begin(struct turn *t)
{
    t->begun = true;
    if (t->timer)
        g_source_remove(t->timer);
    t->timer = 0;
    t->begin(t->opaque, t, NULL);
}

/* What `begin` does may end turns, so the list is looked at anew each time. */
static void begin_all(struct server *s)
{
    struct turn *t;

    while ((t = find_next(s)))
        begin(t);
}

static gboolean begin_later(gpointer server)
{
    struct server *s = server;

    s->turn_source = 0;
    begin_all(s);
    return G_SOURCE_REMOVE;
}

/* Takes over the error. The turn is gone before its owner hears of that, and may take another. */
static void fail_turn(struct turn *t, GError *error)
{
    void (*fn)(void *, struct turn *, const GError *) = t->begin;
    void *opaque = t->opaque;

    turn_free(t);
    fn(opaque, NULL, error);
    g_error_free(error);
}

static GError *server_ends(void)
{
    GError *error = NULL;

    fail(&error, "The server is shutting down");
    return error;
}

/* A disk that the turn waits for: one that has a turn now, which does not end. */
static const struct disk *find_busy(const struct turn *t)
{
    for (const GList *l = t->link.prev; l; l = l->prev) {
        const struct turn *earlier = l->data;

        for (guint i = 0; earlier->begun && i < t->disks->len; i++)
            if (g_ptr_array_find(earlier->disks, t->disks->pdata[i], NULL))
                return t->disks->pdata[i];
    }
    return t->disks->pdata[0];
}

/* Turns behind it may have waited as long: they begin before their own timers are looked at. */
static gboolean run_out(gpointer turn)
{
    struct turn *t = turn;
    struct server *s = t->server;
    GError *error = NULL;

    t->timer = 0;
    if (is_next(t)) { /* since a moment: begin_later comes too late for it */
        begin(t);
        return G_SOURCE_REMOVE;
    }
    fail(&error, "disk %s: an earlier change of it did not end within %u s",
         disk_name(find_busy(t)), s->turn_ms / 1000);
    fail_turn(t, error);
    begin_all(s);
    return G_SOURCE_REMOVE;
}

void server_take_turn(struct server *s, const GPtrArray *disks,
                      void (*fn)(void *opaque, struct turn *turn, const GError *error),
                      void *opaque)
{
    struct turn *t;

    t = g_new0(struct turn, 1);
    t->server = s;
    t->disks = g_ptr_array_new();
    for (guint i = 0; i < disks->len; i++)
        if (!g_ptr_array_find(t->disks, disks->pdata[i], NULL))
            g_ptr_array_add(t->disks, disks->pdata[i]);
    t->begin = fn;
    t->opaque = opaque;
    t->link.data = t;
    g_queue_push_tail_link(&s->turns, &t->link);
    if (s->no_turns)
        fail_turn(t, server_ends());
    else if (is_next(t))
        begin(t);
    else
        t->timer = g_timeout_add(s->turn_ms, run_out, t);
}

/* The next ones begin from the main loop, not from inside of the change that has just ended. */
void turn_end(struct turn *t)
{
    struct server *s = t->server;

    turn_free(t);
    if (find_next(s) && !s->turn_source)
        s->turn_source = g_idle_add_full(G_PRIORITY_DEFAULT, begin_later, s, NULL);
}

void server_refuse_turns(struct server *s)
{
    s->no_turns = true;
    for (GList *l = s->turns.head, *next; l; l = next) {
        struct turn *t = l->data;

        next = l->next;
        if (!t->begun)
            fail_turn(t, server_ends());
    }
}

bool server_has_turns(struct server *s)
{
    return s->turns.length > 0;
}

bool disk_has_turn(struct server *s, const struct disk *d)
{
    for (const GList *l = s->turns.head; l; l = l->next)
        if (g_ptr_array_find(((struct turn *)l->data)->disks, d, NULL))
            return true;
    return false;
}
