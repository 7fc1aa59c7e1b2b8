/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the views of a session that has ended are deleted: each in an instant of its own, so that a disk
 * that hangs does not hold up the views of other disks. If somebody still uses a view, or its disk does
 * not answer, the deletion is tried again when an export has ended, or after a while.
 */
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/registry/commit.h"
#include "server/registry/turn.h"

/* Seconds until the next attempt at views that could not be deleted. */
#define RETRY_SECONDS 10

/* One attempt to delete all views that are left. */
struct deletion {
    struct session *session; /* a reference */
    unsigned left;           /* deletions under way, and 1 until all have been begun */
    void (*done)(void *opaque);
    void *opaque;
};

struct view_deletion {
    struct deletion *all;
    struct session_disk *disk;
    struct turn *turn;
};

static void begin_deletion(struct session *n, void (*done)(void *opaque), void *opaque);

static bool has_views(const struct session *n)
{
    for (unsigned i = 0; i < n->record.disks->len; i++)
        if (n->disks[i].view)
            return true;
    return false;
}

static gboolean retry(gpointer session)
{
    struct session *n = session;

    n->retry_timer = 0;
    session_export_ended(n);
    return G_SOURCE_REMOVE;
}

static void one_less(struct deletion *d)
{
    struct session *n = d->session;
    bool again;

    if (--d->left > 0)
        return;
    again = n->delete_again;
    n->deleting = n->delete_again = false;
    d->done(d->opaque);
    if (has_views(n) && !n->all->stopped) {
        if (again)
            begin_deletion(n, NULL, NULL);
        else if (!n->retry_timer)
            n->retry_timer = g_timeout_add_seconds(RETRY_SECONDS, retry, n);
    }
    session_unref(n);
    g_free(d);
}

static void deleted(void *opaque, const GError *error)
{
    struct view_deletion *v = opaque;
    struct session *n = v->all->session;

    if (error) {
        view_use_begin(v->disk->view);
        log_error("backup session %s: its view %s could not be deleted: %s", n->record.id,
                  v->disk->node, error->message);
    } else {
        v->disk->view = NULL;
    }
    turn_end(v->turn);
    one_less(v->all);
    g_free(v);
}

static void keep(struct view_deletion *v)
{
    if (v->turn)
        turn_end(v->turn);
    one_less(v->all);
    g_free(v);
}

/* While we have the turn, nobody else deletes the view or begins to use it. */
static void delete_view(void *opaque, struct turn *turn, const GError *no_turn)
{
    struct view_deletion *v = opaque;
    struct view_info info;
    struct instant *i;

    v->turn = turn;
    if (no_turn) {
        keep(v);
        return;
    }
    view_use_end(v->disk->view);
    view_info(v->disk->view, &info);
    if (info.in_use) {
        view_use_begin(v->disk->view);
        keep(v);
        return;
    }
    i = instant_new();
    if (instant_view_delete(i, v->disk->view, NULL) == 0) {
        server_commit(v->all->session->all->server, i, deleted, v);
        return;
    }
    instant_abort(i);
    view_use_begin(v->disk->view);
    keep(v);
}

static void begin_view(struct deletion *d, struct session_disk *disk)
{
    struct view_deletion *v = g_new0(struct view_deletion, 1);
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    *v = (struct view_deletion){.all = d, .disk = disk};
    d->left++;
    g_ptr_array_add(disks, disk->disk);
    server_take_turn(d->session->all->server, disks, delete_view, v);
}

static void nobody_waits(void *opaque)
{
}

static void begin_deletion(struct session *n, void (*done)(void *opaque), void *opaque)
{
    struct deletion *d = g_new0(struct deletion, 1);

    *d = (struct deletion){
        .session = session_ref(n), .left = 1, .done = done ? done : nobody_waits, .opaque = opaque};
    n->deleting = true;
    for (unsigned i = 0; i < n->record.disks->len; i++)
        if (n->disks[i].view)
            begin_view(d, &n->disks[i]);
    one_less(d);
}

void session_delete_views(struct session *n, void (*done)(void *opaque), void *opaque)
{
    n->exports_ended = true;
    begin_deletion(n, done, opaque);
}

void session_export_ended(struct session *n)
{
    if (!session_has_ended(n) || !n->disks || !has_views(n) || n->all->stopped)
        return;
    if (n->deleting)
        n->delete_again = true;
    else if (n->exports_ended)
        begin_deletion(n, NULL, NULL);
}
