/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lease that begins anew. Where it gets another length, this is recorded first, so that the session has
 * it after a restart, too. While it is being recorded, the old lease does not end: whoever renews it is
 * there.
 */
#include "server/backup/session-private.h"
#include "server/registry/commit.h"
#include "server/registry/turn.h"

struct renewal {
    struct session *session; /* a reference */
    int64_t lease;
    char *text; /* of the record as it is to be; NULL: not staged yet */
    struct turn *turn;
    void (*done)(void *opaque, const GError *error);
    void *opaque;
};

static void begin_anew(struct session *n, int64_t lease)
{
    n->record.lease = lease;
    session_lease_begin(n);
}

static void recorded(void *opaque, const GError *error)
{
    struct renewal *r = opaque;
    struct session *n = r->session;

    n->renewals--;
    if (r->turn)
        turn_end(r->turn);
    if (!error && !session_has_ended(n))
        begin_anew(n, r->lease);
    r->done(r->opaque, error);
    session_unref(n);
    g_free(r->text);
    g_free(r);
}

static char *text_of(void *opaque)
{
    return g_strdup(((struct renewal *)opaque)->text);
}

static int stage(struct renewal *r, struct instant *i, GError **err)
{
    struct session_record record = r->session->record;
    const struct state_record change = {
        .kind = SESSION_KIND, .name = record.id, .text = text_of, .opaque = r};

    record.lease = r->lease;
    r->text = session_record_text(&record);
    return instant_record(i, session_stored_disk(r->session), &change, err);
}

/* Nobody else changes the record meanwhile: an end waits for a turn on the same disk. */
static void record(void *opaque, struct turn *turn, const GError *no_turn)
{
    struct renewal *r = opaque;
    g_autoptr(GError) error = NULL;
    struct instant *i;

    r->turn = turn;
    if (no_turn || session_check(r->session, &error) < 0) {
        recorded(r, no_turn ? no_turn : error);
        return;
    }
    i = instant_new();
    if (stage(r, i, &error) == 0) {
        server_commit(r->session->all->server, i, recorded, r);
        return;
    }
    instant_abort(i);
    recorded(r, error);
}

static void begin_record(struct session *n, struct disk *stored, int64_t lease,
                         void (*done)(void *opaque, const GError *error), void *opaque)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    struct renewal *r = g_new0(struct renewal, 1);

    *r =
        (struct renewal){.session = session_ref(n), .lease = lease, .done = done, .opaque = opaque};
    n->renewals++;
    g_ptr_array_add(disks, stored);
    server_take_turn(n->all->server, disks, record, r);
}

void session_renew(struct session *n, int64_t lease,
                   void (*done)(void *opaque, const GError *error), void *opaque)
{
    g_autoptr(GError) error = NULL;
    struct disk *stored;

    if (session_check(n, &error) < 0) {
        done(opaque, error);
        return;
    }
    stored = session_stored_disk(n);
    if (stored && lease >= 0 && (lease != n->record.lease || n->renewals > 0)) {
        begin_record(n, stored, lease, done, opaque);
        return;
    }
    begin_anew(n, lease < 0 ? n->record.lease : lease);
    done(opaque, NULL);
}
