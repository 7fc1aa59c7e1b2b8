/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/backup-session.h"
#include "client/base/error.h"
#include "common/json/value.h"

#include <poll.h>
#include <string.h>

/* A lease is renewed when a quarter of it is over: three renewals may be late or lost. */
#define RENEWALS 4
/* Seconds that a server may take to end a session that it has begun to end. */
#define PATIENCE 20

/* ---- begin ---- */

static JsonArray *disk_arguments(const GPtrArray *choices)
{
    JsonArray *disks = json_array_new();

    for (guint i = 0; i < choices->len; i++) {
        const struct backup_choice *c = g_ptr_array_index(choices, i);
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "disk", c->disk);
        if (c->since)
            json_object_set_string_member(o, "since", c->since);
        json_array_add_object_element(disks, o);
    }
    return disks;
}

static const struct session_entry *find_session(const GArray *sessions, const char *id)
{
    for (guint i = sessions->len; i-- > 0;) { /* an ID may be used again: the last one counts */
        const struct session_entry *e = &g_array_index(sessions, struct session_entry, i);

        if (strcmp(e->id, id) == 0)
            return e;
    }
    return NULL;
}

/* What every disk must have to be read. */
static int check_disks(const struct backup_session *s, GError **err)
{
    for (guint i = 0; i < s->disks->len; i++) {
        const struct session_disk *d = &g_array_index(s->disks, struct session_disk, i);

        if (!d->mode || !d->context)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "disk %s: the server does not say how it is to be backed up",
                               d->disk);
        if (!d->uri)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "disk %s: the server has no NBD address at which it can be read",
                               d->disk);
    }
    return 0;
}

/* Ask the server for all that it says of the session, which must live. */
static int look_up(struct backup_session *s, GError **err)
{
    g_autoptr(GArray) sessions = sessions_get(s->qmp, &s->reply, err);
    const struct session_entry *e = sessions ? find_session(sessions, s->id) : NULL;

    if (!sessions)
        return -1;
    if (!e || !e->active)
        return client_fail(err, CLIENT_ERROR_FAILED, "session %s has ended%s%s", s->id,
                           e && e->reason ? ": " : "", e && e->reason ? e->reason : "");
    s->lease = (unsigned)MIN(e->lease, G_MAXINT32); /* as the server counts it */
    s->time = e->time;
    s->quiesce_error = e->quiesce_error;
    s->disks = g_array_ref(e->disks);
    return check_disks(s, err);
}

struct backup_session *backup_session_continue(struct qmp *q, const char *id, GError **err)
{
    struct backup_session *s = g_new0(struct backup_session, 1);

    s->qmp = q;
    s->id = g_strdup(id); /* renew_at stays 0: nobody knows how long its lease has run already */
    if (look_up(s, err) == 0)
        return s;
    backup_session_free(s);
    return NULL;
}

/* `checkpoint`: NULL: none. */
static struct backup_session *begin(struct qmp *q, const char *id, const char *checkpoint,
                                    const GPtrArray *choices, unsigned lease, bool *begun,
                                    GError **err)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) reply = NULL;
    GError *error = NULL;

    json_object_set_string_member(arguments, "id", id);
    if (checkpoint)
        json_object_set_string_member(arguments, "checkpoint", checkpoint);
    json_object_set_int_member(arguments, "lease", lease);
    json_object_set_array_member(arguments, "disks", disk_arguments(choices));
    reply = qmp_command(q, "backup-begin", arguments, &error);
    /* Where no reply has come, the command may be done all the same. */
    *begun = reply || !qmp_in_step(q);
    if (!reply) {
        g_propagate_error(err, error);
        return NULL;
    }
    return backup_session_continue(q, id, err);
}

struct backup_session *backup_session_begin(struct qmp *q, const char *id, const GPtrArray *choices,
                                            unsigned lease, bool *begun, GError **err)
{
    return begin(q, id, id, choices, lease, begun, err);
}

struct backup_session *backup_session_begin_plain(struct qmp *q, const char *id,
                                                  const GPtrArray *choices, unsigned lease,
                                                  bool *begun, GError **err)
{
    return begin(q, id, NULL, choices, lease, begun, err);
}

void backup_session_free(struct backup_session *s)
{
    if (!s)
        return;
    g_clear_pointer(&s->disks, g_array_unref);
    g_clear_pointer(&s->reply, json_node_unref);
    g_free(s->id);
    g_free(s);
}

const struct session_disk *backup_session_disk(const struct backup_session *s, const char *disk)
{
    for (guint i = 0; i < s->disks->len; i++) {
        const struct session_disk *d = &g_array_index(s->disks, struct session_disk, i);

        if (strcmp(d->disk, disk) == 0)
            return d;
    }
    return NULL;
}

/* ---- while it lives ---- */

int backup_session_fd(const struct backup_session *s)
{
    return qmp_fd(s->qmp);
}

static JsonObject *renew_arguments(const struct backup_session *s)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "id", s->id);
    return arguments;
}

static int renew(struct backup_session *s, GError **err)
{
    g_autofree char *text = qmp_request_text("backup-renew", renew_arguments(s));

    if (qmp_send(s->qmp, text, err) < 0)
        return -1;
    s->awaited++;
    s->renew_at = g_get_monotonic_time() + (gint64)s->lease * G_USEC_PER_SEC / RENEWALS;
    return 0;
}

/* An event: 0, or -1 and *err where it tells the session's end. */
static int look_at_event(const char *session, JsonObject *message, GError **err)
{
    JsonObject *data = json_member_object(message, "data");
    const char *id = data ? json_member_string(data, "id") : NULL;
    const char *reason = data ? json_member_string(data, "reason") : NULL;

    if (g_strcmp0(json_member_string(message, "event"), "BACKUP_ENDED") != 0 ||
        g_strcmp0(id, session) != 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED, "the server has ended session %s%s%s", session,
                       reason ? ": " : "", reason ? reason : "");
}

/* A message, which is freed: 0, or -1 and *err. */
static int take(struct backup_session *s, JsonObject *message, GError **err)
{
    JsonNode *value = NULL;
    int rc = qmp_read_reply(s->qmp, message, &value, err);

    if (rc == 0) {
        rc = look_at_event(s->id, message, err);
    } else {
        if (s->awaited > 0)
            s->awaited--;
        g_clear_pointer(&value, json_node_unref);
        rc = rc < 0 ? -1 : 0;
    }
    json_object_unref(message);
    return rc;
}

/* Take what has come. 0, or -1 and *err. */
static int take_all(struct backup_session *s, GError **err)
{
    JsonObject *message;
    int rc;

    while ((rc = qmp_take_message(s->qmp, &message, err)) == 1) {
        if (take(s, message, err) < 0)
            return -1;
    }
    return rc;
}

static bool is_readable(const struct backup_session *s)
{
    struct pollfd p = {.fd = qmp_fd(s->qmp), .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

int backup_session_tick(struct backup_session *s, GError **err)
{
    while (is_readable(s)) {
        if (qmp_receive(s->qmp, err) < 0 || take_all(s, err) < 0)
            return -1;
    }
    if (s->lease == 0 || g_get_monotonic_time() < s->renew_at)
        return 0;
    return renew(s, err);
}

/* ---- its end ---- */

int session_fate(struct qmp *q, const char *id, enum session_fate *fate, GError **err)
{
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) sessions = sessions_get(q, &reply, err);
    const struct session_entry *e = sessions ? find_session(sessions, id) : NULL;

    if (!sessions)
        return -1;
    *fate = !e                                      ? SESSION_UNKNOWN
            : e->active                             ? SESSION_ACTIVE
            : g_strcmp0(e->state, "committed") == 0 ? SESSION_COMMITTED
                                                    : SESSION_ABORTED;
    return 0;
}

/* Does a message that has come tell the session's end? */
static bool tells_end(struct qmp *q, const char *id)
{
    JsonObject *message;

    while (qmp_take_message(q, &message, NULL) == 1) {
        bool is_end = look_at_event(id, message, NULL) < 0;

        json_object_unref(message);
        if (is_end)
            return true;
    }
    return false;
}

/* It is active, and the server has begun to end it: wait for that, not for ever. 0, or -1: it has
 * not ended, or the server has gone. */
static int await_end(struct qmp *q, const char *id)
{
    gint64 until = g_get_monotonic_time() + PATIENCE * G_USEC_PER_SEC;

    while (!tells_end(q, id)) {
        struct pollfd p = {.fd = qmp_fd(q), .events = POLLIN};
        gint64 left = (until - g_get_monotonic_time()) / 1000;

        if (left <= 0 || (poll(&p, 1, (int)left) == 1 && qmp_receive(q, NULL) < 0))
            return -1;
    }
    return 0;
}

static int end(struct qmp *q, const char *id, bool commit, GError **err)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) reply = NULL;

    json_object_set_string_member(arguments, "id", id);
    json_object_set_string_member(arguments, "result", commit ? "commit" : "abort");
    reply = qmp_command(q, "backup-end", arguments, err);
    return reply ? 0 : -1;
}

int session_commit(struct qmp *q, const char *id, GError **err)
{
    return end(q, id, true, err);
}

int session_abort(struct qmp *q, const char *id, GError **why)
{
    enum session_fate fate;

    if (end(q, id, false, why) == 0)
        return 0;
    if (session_fate(q, id, &fate, NULL) < 0)
        return -1;
    /* No event of its end has come before that answer: it cannot have been missed. */
    if (fate == SESSION_ACTIVE && await_end(q, id) < 0)
        return -1;
    if (fate == SESSION_UNKNOWN)
        g_clear_error(why);
    return 0;
}

/* Wait for the replies to renewals, so that the next reply is that of the next command. What they
 * say does not matter any more. 0, or -1 and *err: the server has gone. */
static int settle(struct backup_session *s, GError **err)
{
    while (s->awaited > 0) {
        g_autoptr(GError) ignored = NULL;
        JsonObject *message = NULL;
        int rc = qmp_take_message(s->qmp, &message, err);

        if (rc < 0 || (rc == 0 && qmp_receive(s->qmp, err) < 0))
            return -1;
        if (rc > 0)
            take(s, message, &ignored);
    }
    return 0;
}

int backup_session_commit(struct backup_session *s, GError **err)
{
    return settle(s, err) < 0 ? -1 : session_commit(s->qmp, s->id, err);
}

int backup_session_abort(struct backup_session *s, GError **why)
{
    return settle(s, why) < 0 ? -1 : session_abort(s->qmp, s->id, why);
}
