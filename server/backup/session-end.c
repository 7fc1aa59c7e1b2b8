/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a session ends: the decision, an instant with its checkpoint and its record; then its exports
 * with their clients; then its views (session-views.c).
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/registry/commit.h"
#include "server/registry/turn.h"

/* Seconds until the next attempt at an abort that the state folder did not take, or for which a disk
 * did not answer. Each attempt shuts the gates of all its disks for a while, so they become rare. */
#define RETRY_SECONDS     10
#define RETRY_SECONDS_MAX 600

struct ending {
    struct session *session; /* a reference */
    bool commit;
    char *reason, *text; /* the reason; the record's text as it is to be */
    int64_t usec;
    struct turn *turn;
    GPtrArray *old; /* struct session, references: they are dropped from the list */
    void (*done)(void *opaque, const GError *error);
    void *opaque;
};

static void free_old(gpointer session)
{
    struct session *n = session;

    n->dropped = false;
    session_unref(n);
}

static void ending_free(struct ending *e)
{
    g_ptr_array_unref(e->old);
    session_unref(e->session);
    g_free(e->reason);
    g_free(e->text);
    g_free(e);
}

int session_fail_ended(const struct session *n, GError **err)
{
    const char *reason = n->record.reason;

    if (n->record.state == SESSION_COMMITTED)
        return fail(err, "Backup session '%s' was committed already", n->record.id);
    return reason ? fail(err, "Backup session '%s' was aborted: %s", n->record.id, reason)
                  : fail(err, "Backup session '%s' was aborted already", n->record.id);
}

/* ---- after the decision ---- */

static void views_deleted(void *opaque)
{
    struct ending *e = opaque;

    e->done(e->opaque, NULL);
    ending_free(e);
}

/* If a client hangs, the view that it uses stays until the client ends. */
static void exports_ended(void *opaque, const GError *error)
{
    struct ending *e = opaque;

    if (error)
        log_error("backup session %s: %s", e->session->record.id, error->message);
    session_delete_views(e->session, views_deleted, e);
}

static void unref_export(gpointer e)
{
    export_unref(e);
}

/* The session lets go of its exports: it is listed for long, and they have the frozen maps. */
static void take_down(struct ending *e)
{
    struct session *n = e->session;
    g_autoptr(GPtrArray) exports = g_ptr_array_new_with_free_func(unref_export);

    for (unsigned i = 0; i < n->record.disks->len; i++)
        g_ptr_array_add(exports, g_steal_pointer(&n->disks[i].export));
    server_exports_end(n->all->server, exports, exports_ended, e);
}

static void let_go_of_disks(struct session *n)
{
    for (unsigned i = 0; i < n->record.disks->len; i++) {
        struct session_disk *d = &n->disks[i];

        view_claim(d->view, false);
        if (d->base)
            dirty_bitmap_busy_end(d->base);
        g_clear_pointer(&d->base, dirty_bitmap_unref);
        g_clear_pointer(&d->frozen, dirty_bitmap_unref);
    }
}

static void is_decided(struct ending *e)
{
    struct session *n = e->session;
    const struct server_event event = {.kind = EVENT_BACKUP_ENDED,
                                       .id = n->record.id,
                                       .result = e->commit ? "commit" : "abort",
                                       .reason = e->reason};

    n->record.state = e->commit ? SESSION_COMMITTED : SESSION_ABORTED;
    n->record.reason = g_strdup(e->reason);
    n->record.ended_usec = e->usec;
    g_clear_handle_id(&n->lease_timer, g_source_remove);
    g_clear_handle_id(&n->retry_timer, g_source_remove);
    let_go_of_disks(n);
    for (unsigned i = 0; i < e->old->len; i++)
        session_forget(e->old->pdata[i]);
    if (e->reason)
        log_info("backup session %s: aborted: %s", n->record.id, e->reason);
    server_emit(n->all->server, &event);
    take_down(e);
}

/* ---- the decision ---- */

static gboolean retry(gpointer session);

/* It doubles each time. */
static guint retry_delay(struct session *n)
{
    guint doubled = RETRY_SECONDS << MIN(n->retries, 6);

    n->retries++;
    return MIN(doubled, RETRY_SECONDS_MAX);
}

static void is_undecided(struct ending *e, const GError *error)
{
    struct session *n = e->session;

    g_ptr_array_set_size(e->old, 0);
    e->done(e->opaque, error);
    if (n->doom && !n->all->stopped && !n->retry_timer)
        n->retry_timer = g_timeout_add_seconds(retry_delay(n), retry, n);
    ending_free(e);
}

static void decided(void *opaque, const GError *error)
{
    struct ending *e = opaque;

    e->session->ending = false;
    if (e->turn)
        turn_end(e->turn);
    if (error)
        is_undecided(e, error);
    else
        is_decided(e);
}

static char *text_of_end(void *opaque)
{
    return g_strdup(((struct ending *)opaque)->text);
}

static int stage_records(struct ending *e, struct instant *i, struct disk *d, GError **err)
{
    struct state_record record = {
        .kind = SESSION_KIND, .name = e->session->record.id, .text = text_of_end, .opaque = e};

    if (instant_record(i, d, &record, err) < 0)
        return -1;
    for (unsigned k = 0; k < e->old->len; k++) {
        record = (struct state_record){.kind = SESSION_KIND,
                                       .name = ((struct session *)e->old->pdata[k])->record.id};
        if (instant_record(i, d, &record, err) < 0)
            return -1;
    }
    return 0;
}

static int stage_decision(struct ending *e, struct instant *i, GError **err)
{
    const struct session *n = e->session;
    struct checkpoints *c = n->all->checkpoints;
    const char *checkpoint = n->record.checkpoint;
    struct disk *d = session_stored_disk(n);

    if (checkpoint && e->commit && checkpoint_stage_keep(c, i, checkpoint, err) < 0)
        return -1;
    if (checkpoint && !e->commit &&
        checkpoint_stage_delete(c, i, checkpoint, n->record.id, NULL, err) < 0)
        return -1;
    return d ? stage_records(e, i, d, err) : 0;
}

static void drop(struct ending *e, struct session *n)
{
    n->dropped = true;
    g_ptr_array_add(e->old, session_ref(n));
}

/* This session will have ended, too. The oldest of those that have ended make room for it. A record is
 * left alone where another end removes it already, or where a session of the same id is about to begin,
 * which writes it anew. */
static void find_old(struct ending *e)
{
    struct sessions *all = e->session->all;
    g_autoptr(GPtrArray) old = sessions_of_old(all, SESSIONS_MOST_ENDED - 1);

    for (guint k = 0; k < old->len; k++) {
        struct session *n = old->pdata[k];

        if (!n->dropped && sessions_lookup(all, n->record.id, false) == n)
            drop(e, n);
    }
}

static void decide(void *opaque, struct turn *turn, const GError *no_turn)
{
    struct ending *e = opaque;
    g_autoptr(GError) error = NULL;
    struct instant *i;

    e->turn = turn;
    if (no_turn) {
        decided(e, no_turn);
        return;
    }
    find_old(e);
    i = instant_new();
    if (stage_decision(e, i, &error) == 0) {
        server_commit(e->session->all->server, i, decided, e);
        return;
    }
    instant_abort(i);
    decided(e, error);
}

static struct ending *ending_new(struct session *n, bool commit, const char *reason)
{
    struct session_record record = n->record; /* what it will be */
    struct ending *e = g_new0(struct ending, 1);

    *e = (struct ending){.session = session_ref(n),
                         .commit = commit,
                         .reason = g_strdup(reason),
                         .usec = g_get_real_time()};
    record.state = commit ? SESSION_COMMITTED : SESSION_ABORTED;
    record.reason = e->reason;
    record.ended_usec = e->usec;
    e->text = session_record_text(&record);
    e->old = g_ptr_array_new_with_free_func(free_old);
    return e;
}

static void begin_end(struct session *n, bool commit, const char *reason,
                      void (*done)(void *opaque, const GError *error), void *opaque)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    struct ending *e = ending_new(n, commit, reason);

    e->done = done;
    e->opaque = opaque;
    n->ending = true;
    for (unsigned i = 0; i < n->record.disks->len; i++)
        g_ptr_array_add(disks, n->disks[i].disk);
    server_take_turn(n->all->server, disks, decide, e);
}

int session_check(const struct session *n, GError **err)
{
    const char *id = n->record.id;

    if (session_has_ended(n))
        return session_fail_ended(n, err);
    if (n->doom)
        return fail(err, "Backup session '%s' is being aborted: %s", id, n->doom);
    return n->ending ? fail(err, "Backup session '%s' is being ended", id) : 0;
}

void session_end(struct session *n, bool commit, const char *reason,
                 void (*done)(void *opaque, const GError *error), void *opaque)
{
    g_autoptr(GError) error = NULL;

    if (session_check(n, &error) < 0)
        done(opaque, error);
    else
        begin_end(n, commit, reason, done, opaque);
}

/* ---- sessions that the server ends by itself ---- */

static void doom_done(void *opaque, const GError *error)
{
    struct session *n = opaque;

    if (!error || n->doom_told || n->all->stopped)
        return;
    n->doom_told = true;
    log_error("backup session %s: it is to be aborted (%s), which is tried again until it can be "
              "done: %s",
              n->record.id, n->doom, error->message);
}

static gboolean retry(gpointer session)
{
    struct session *n = session;

    n->retry_timer = 0;
    if (!n->all->stopped)
        session_pursue_doom(n);
    return G_SOURCE_REMOVE;
}

void session_pursue_doom(struct session *n)
{
    if (n->doom && n->begun && !n->ending && !session_has_ended(n))
        begin_end(n, false, n->doom, doom_done, n);
}

/* If an end is being decided already, the doom counts only if that fails (is_undecided). */
void session_doom(struct session *n, const char *reason)
{
    if (n->doom || session_has_ended(n) || n->all->stopped)
        return;
    n->doom = g_strdup(reason);
    session_pursue_doom(n);
}
