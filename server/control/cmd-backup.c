/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backup sessions, our own commands: backup-begin (also as an action), backup-renew, backup-end,
 * query-backups.
 */
#include "common/util/error.h"
#include "server/backup/backup.h"
#include "server/control/control-private.h"
#include "server/control/transaction.h"
#include "server/control/wall-time.h"

#include <string.h>

static const struct arg session_disk_members[] = {
    ARG("disk", ARG_STRING),
    ARG_OPT("since", ARG_STRING),
    ARG_OPT("export", ARG_STRING),
    ARG_OPT("bitmap", ARG_STRING),
    ARGS_END,
};
static const struct arg session_disk = {.type = ARG_STRUCT, .of = session_disk_members};
static const char *const modes[] = {"auto", "strict", NULL};
static const struct arg backup_begin_args[] = {
    ARG("id", ARG_STRING),
    ARG_OPT("disks", ARG_LIST, .of = &session_disk),
    ARG_OPT("since", ARG_STRING),
    ARG_OPT("checkpoint", ARG_STRING),
    ARG_OPT("mode", ARG_ENUM, .values = modes),
    ARG_OPT("lease", ARG_UINT32),
    ARG_OPT("discard", ARG_BOOL),
    ARG_OPT("scratch-limit", ARG_SIZE),
    ARGS_END,
};
static const struct arg backup_renew_args[] = {
    ARG("id", ARG_STRING),
    ARG_OPT("lease", ARG_UINT32),
    ARGS_END,
};
static const char *const results[] = {"commit", "abort", NULL};
static const struct arg backup_end_args[] = {
    ARG("id", ARG_STRING),
    ARG("result", ARG_ENUM, .values = results),
    ARGS_END,
};

/* NULL: *err. Only tests have a server without backups. */
static struct sessions *all_sessions(struct backup *b, GError **err)
{
    if (!b)
        fail(err, "This server has no backup sessions");
    return b ? b->sessions : NULL;
}

/* ---- what a session shows ---- */

/* NBD URIs have the name of the export as their path, which ends at the query. */
static char *uri_of(const char *socket_uri, const char *export)
{
    g_autofree char *name = g_uri_escape_string(export, NULL, FALSE);
    size_t path = strcspn(socket_uri, "?");

    return g_strdup_printf("%.*s%s%s", (int)path, socket_uri, name, socket_uri + path);
}

/* NULL: no listener that serves it has an address that can be said so. */
static const char *socket_uri(const struct control_nbd *nbd, const struct session_disk_info *d)
{
    bool started = nbd->started(nbd->opaque);
    const GPtrArray *uris = nbd->uris(nbd->opaque, started ? EXPORTS_ADDED : EXPORTS_LIVE);

    if (d->shadowed && !started)
        return NULL;
    return uris->len > 0 ? uris->pdata[0] : NULL;
}

static void set_text(JsonObject *o, const char *member, const char *text)
{
    if (text)
        json_object_set_string_member(o, member, text);
}

static JsonObject *describe_disk(const struct control_nbd *nbd, const struct session_disk_info *d)
{
    g_autofree char *context = g_strdup_printf("qemu:dirty-bitmap:%s", d->bitmap);
    const char *socket = socket_uri(nbd, d);
    g_autofree char *uri = socket ? uri_of(socket, d->export) : NULL;
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "disk", disk_name(d->disk));
    json_object_set_string_member(o, "export", d->export);
    set_text(o, "uri", uri);
    json_object_set_string_member(o, "context", context);
    json_object_set_string_member(o, "mode", d->incremental ? "incremental" : "full");
    set_text(o, "reason", d->reason);
    json_object_set_int_member(o, "dirty-bytes", (gint64)d->dirty_bytes);
    json_object_set_int_member(o, "size", (gint64)d->size);
    return o;
}

static void set_quiesced(JsonObject *o, const struct session_info *info)
{
    if (!info->hooked)
        return;
    json_object_set_boolean_member(o, "quiesced", info->quiesced);
    set_text(o, "quiesce-error", info->quiesce_error);
}

static JsonArray *describe_begun(const struct control_nbd *nbd, const struct session_info *info)
{
    JsonArray *list = json_array_new();

    for (unsigned i = 0; i < info->disks->len; i++) {
        JsonObject *o =
            describe_disk(nbd, &g_array_index(info->disks, struct session_disk_info, i));

        set_quiesced(o, info);
        json_array_add_object_element(list, o);
    }
    return list;
}

/* ---- backup-begin ---- */

static void disks_of_session(struct server *s, JsonObject *data, GPtrArray *disks)
{
    JsonArray *list = arg_list(data, "disks");

    if (!list) {
        g_autoptr(GPtrArray) all = server_disks(s);

        g_ptr_array_extend(disks, all, NULL, NULL);
        return;
    }
    for (guint i = 0; i < json_array_get_length(list); i++) {
        struct disk *d =
            server_find_disk(s, arg_string(json_array_get_object_element(list, i), "disk"));

        if (d)
            g_ptr_array_add(disks, d);
    }
}

/* One disk of the request. */
static int add_disk(struct server *s, JsonObject *o, GArray *disks, GError **err)
{
    const char *name = arg_string(o, "disk");
    struct node *n = control_lookup_device(s, NULL, name, err);
    struct session_request_disk d = {
        .since = arg_string(o, "since"),
        .export = arg_string(o, "export"),
        .bitmap = arg_string(o, "bitmap"),
    };

    if (!n)
        return -1;
    d.disk = node_to_disk(n);
    if (!d.disk)
        return fail(err, "Node '%s' is not a disk", name);
    for (unsigned i = 0; i < disks->len; i++)
        if (g_array_index(disks, struct session_request_disk, i).disk == d.disk)
            return fail(err, "Disk '%s' is named twice", name);
    g_array_append_val(disks, d);
    return 0;
}

static int find_disks(struct server *s, JsonObject *data, GArray *disks, GError **err)
{
    JsonArray *list = arg_list(data, "disks");
    g_autoptr(GPtrArray) all = NULL;

    if (!list) {
        all = server_disks(s);
        for (unsigned i = 0; i < all->len; i++) {
            const struct session_request_disk d = {.disk = all->pdata[i]};

            g_array_append_val(disks, d);
        }
    }
    for (guint i = 0; list && i < json_array_get_length(list); i++)
        if (add_disk(s, json_array_get_object_element(list, i), disks, err) < 0)
            return -1;
    return disks->len > 0 ? 0
                          : fail(err, "Backup session '%s' has no disks", arg_string(data, "id"));
}

/* The bitmaps that the transaction removes are still there. */
static int check_checkpoint(struct transaction *t, const struct session_request *r, GError **err)
{
    for (unsigned i = 0; r->checkpoint && i < r->disks->len; i++)
        if (transaction_has_removed_bitmap(
                t, g_array_index(r->disks, struct session_request_disk, i).disk, r->checkpoint))
            return fail(err, "Bitmap already exists: %s", r->checkpoint);
    return 0;
}

static int prepare_begin(struct transaction *t, JsonObject *data, void **state, GError **err)
{
    struct control *c = transaction_control(t);
    struct sessions *all = all_sessions(c->backup, err);
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_request_disk));
    const struct session_request request = {
        .id = arg_string(data, "id"),
        .since = arg_string(data, "since"),
        .checkpoint = arg_string(data, "checkpoint"),
        .disks = disks,
        .strict = g_strcmp0(arg_string(data, "mode"), "strict") == 0,
        .discard = arg_bool(data, "discard", false),
        .alone = !control_nbd_started(c),
        .lease = arg_int(data, "lease", -1),
        .scratch_limit = (uint64_t)arg_int(data, "scratch-limit", 0),
    };

    if (!all || find_disks(c->server, data, disks, err) < 0)
        return -1;
    if (!c->nbd.any_running(c->nbd.opaque))
        return fail(err, "NBD server not running");
    if (check_checkpoint(t, &request, err) < 0)
        return -1;
    return session_stage_begin(all, transaction_instant(t), &request, (struct session **)state,
                               err);
}

static int result_of_begin(struct transaction *t, void *session, JsonNode **value, GError **err)
{
    struct control *c = transaction_control(t);
    struct session_info info;

    if (session_check(session, err) < 0)
        return -1;
    session_info(session, &info);
    *value = qmp_array(describe_begun(&c->nbd, &info));
    session_info_clear(&info);
    return 0;
}

static const struct action begin_backup = {
    .disks = disks_of_session, .prepare = prepare_begin, .result = result_of_begin};

/* ---- backup-renew, backup-end ---- */

static struct session *find_session(struct qmp_call *call, JsonObject *args, GError **err)
{
    struct sessions *all = all_sessions(call_backup(call), err);

    return all ? session_find(all, arg_string(args, "id"), err) : NULL;
}

static void answer(void *opaque, const GError *error)
{
    struct qmp_call *call = opaque;

    if (error)
        qmp_call_fail(call, error);
    else
        qmp_call_return(call, NULL);
}

static void backup_renew(struct qmp_call *call, JsonObject *args)
{
    g_autoptr(GError) error = NULL;
    struct session *n = find_session(call, args, &error);

    if (n)
        session_renew(n, arg_int(args, "lease", -1), answer, call);
    else
        qmp_call_fail(call, error);
}

static void backup_end(struct qmp_call *call, JsonObject *args)
{
    g_autoptr(GError) error = NULL;
    struct session *n = find_session(call, args, &error);

    if (n)
        session_end(n, strcmp(arg_string(args, "result"), "commit") == 0, NULL, answer, call);
    else
        qmp_call_fail(call, error);
}

/* ---- query-backups ---- */

static JsonArray *describe_disks(const struct control_nbd *nbd, const struct session_info *info)
{
    JsonArray *list = json_array_new();

    for (unsigned i = 0; i < info->disks->len; i++) {
        const struct session_disk_info *d =
            &g_array_index(info->disks, struct session_disk_info, i);
        JsonObject *o = describe_disk(nbd, d);

        set_text(o, "since", d->since);
        json_object_set_int_member(o, "scratch-bytes", (gint64)d->scratch_bytes);
        json_object_set_int_member(o, "clients", d->clients);
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *describe_session(const struct control_nbd *nbd, const struct session_info *info)
{
    static const char *const states[] = {[SESSION_ACTIVE] = "active",
                                         [SESSION_COMMITTED] = "committed",
                                         [SESSION_ABORTED] = "aborted"};
    g_autofree char *time = wall_time(info->time_usec);
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "id", info->id);
    json_object_set_string_member(o, "state", states[info->state]);
    set_text(o, "reason", info->reason);
    json_object_set_string_member(o, "time", time);
    set_text(o, "since", info->since);
    set_text(o, "checkpoint", info->checkpoint);
    json_object_set_int_member(o, "lease", info->lease);
    if (info->lease_left >= 0)
        json_object_set_int_member(o, "lease-left", info->lease_left);
    json_object_set_boolean_member(o, "discard", info->discard);
    json_object_set_boolean_member(o, "resumed", info->resumed);
    set_quiesced(o, info);
    if (info->scratch_limit > 0)
        json_object_set_int_member(o, "scratch-limit", (gint64)info->scratch_limit);
    json_object_set_int_member(o, "scratch-used", (gint64)info->scratch_used);
    json_object_set_array_member(o, "disks", describe_disks(nbd, info));
    return o;
}

static int query_backups(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    struct sessions *all = all_sessions(call_backup(call), err);
    g_autoptr(GArray) sessions = all ? sessions_list(all) : NULL;
    JsonArray *list;

    if (!all)
        return -1;
    list = json_array_new();
    for (unsigned i = 0; i < sessions->len; i++)
        json_array_add_object_element(
            list, describe_session(&call_control(call)->nbd,
                                   &g_array_index(sessions, struct session_info, i)));
    *value = qmp_array(list);
    return 0;
}

/* clang-format off */
const struct qmp_command backup_commands[] = {
    {"backup-begin", "Begins a backup session: exports views of disks at one instant.",
     backup_begin_args, .start = transaction_of_one, .action = &begin_backup},
    {"backup-renew", "Lets the lease of a backup session begin anew.",
     backup_renew_args, .start = backup_renew},
    {"backup-end", "Ends a backup session.",
     backup_end_args, .start = backup_end},
    {"query-backups", "Returns the backup sessions, in order of their beginnings.",
     no_args, .run = query_backups},
    {.name = NULL},
};
/* clang-format on */
