/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl session: backup sessions. */
#include "client/cli/arguments.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/qmp/backups.h"

#include <inttypes.h>

/* ---- list ---- */

/* The sum of one figure of all disks. */
static uint64_t sum(const GArray *disks, size_t field)
{
    uint64_t total = 0;

    for (guint i = 0; i < disks->len; i++)
        total += G_STRUCT_MEMBER(uint64_t, &g_array_index(disks, struct session_disk, i), field);
    return total;
}

/* What is left of the lease: "59 min 3 s"; "held" by a client; NULL: it has none. */
static char *lease_text(const struct session_entry *s)
{
    uint64_t left = s->lease_left;

    if (!s->active || s->lease == 0)
        return NULL;
    if (!s->has_lease_left)
        return g_strdup("held");
    if (left >= 3600)
        return g_strdup_printf("%" PRIu64 " h %" PRIu64 " min", left / 3600, left / 60 % 60);
    return left >= 60 ? g_strdup_printf("%" PRIu64 " min %" PRIu64 " s", left / 60, left % 60)
                      : g_strdup_printf("%" PRIu64 " s", left);
}

/* What a person should know: why it ended, or what it lacks. NULL: nothing. */
static char *note_text(const struct session_entry *s)
{
    if (s->reason)
        return g_strdup(s->reason);
    if (s->quiesce_error)
        return g_strdup_printf("not quiesced: %s", s->quiesce_error);
    return s->resumed ? g_strdup("resumed") : NULL;
}

/* What is known of a session only while it lives. */
static void add_figures(struct table *t, const struct session_entry *s)
{
    if (!s->active) {
        for (unsigned i = 0; i < 4; i++)
            table_add(t, NULL);
        return;
    }
    table_add_number(t, s->disks->len);
    table_add_size(t, sum(s->disks, offsetof(struct session_disk, dirty)));
    table_add_size(t, s->scratch);
    table_add_number(t, sum(s->disks, offsetof(struct session_disk, clients)));
}

static void list_table(struct client *c, const GArray *sessions)
{
    static const char *const headers[] = {"ID",         "STATE",  "TIME",   "SINCE",
                                          "CHECKPOINT", ">DISKS", ">DIRTY", ">SCRATCH",
                                          ">CLIENTS",   "LEASE",  "NOTE",   NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < sessions->len; i++) {
        const struct session_entry *s = &g_array_index(sessions, struct session_entry, i);
        g_autofree char *lease = lease_text(s);
        g_autofree char *note = note_text(s);

        table_add(t, s->id);
        table_add(t, s->state);
        table_add_time(t, s->time);
        table_add(t, s->since);
        table_add(t, s->checkpoint);
        add_figures(t, s);
        table_add(t, lease);
        table_add(t, note);
    }
    table_print(t, c->out);
}

static int run_session_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(JsonNode) reply = NULL;
    struct qmp *qmp = client_qmp(c, err);
    g_autoptr(GArray) sessions = qmp ? sessions_get(qmp, &reply, err) : NULL;

    if (!sessions)
        return -1;
    if (c->json)
        client_print_json(c, reply, false);
    else
        list_table(c, sessions);
    return 0;
}

const struct command cmd_session_list = {
    .name = "session list",
    .synopsis = "",
    .summary = "the backup sessions, and the last that have ended",
    .run = run_session_list,
};

/* ---- begin ---- */

struct begin_options {
    char *since, *checkpoint, *lease, *scratch_limit;
    gboolean strict, discard;
};

static int begin_arguments(JsonObject *arguments, const struct begin_options *o, char **args,
                           GError **err)
{
    json_object_set_string_member(arguments, "id", args[0]);
    if (args[1]) {
        JsonArray *disks = json_array_new();

        for (char **disk = args + 1; *disk; disk++) {
            JsonObject *member = json_object_new();

            json_object_set_string_member(member, "disk", *disk);
            json_array_add_object_element(disks, member);
        }
        json_object_set_array_member(arguments, "disks", disks);
    }
    arguments_add_text(arguments, "since", o->since);
    arguments_add_text(arguments, "checkpoint", o->checkpoint);
    if (o->strict)
        json_object_set_string_member(arguments, "mode", "strict");
    if (o->discard)
        json_object_set_boolean_member(arguments, "discard", TRUE);
    if (arguments_add_seconds(arguments, "lease", o->lease, err) < 0)
        return -1;
    return arguments_add_size(arguments, "scratch-limit", o->scratch_limit, err);
}

static void begin_table(struct client *c, const GArray *disks)
{
    static const char *const headers[] = {"DISK", "MODE", ">DIRTY", ">SIZE", "REASON", "URI", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < disks->len; i++) {
        const struct session_disk *d = &g_array_index(disks, struct session_disk, i);

        table_add(t, d->disk);
        table_add(t, d->mode);
        table_add_size(t, d->dirty);
        table_add_size(t, d->size);
        table_add(t, d->reason);
        table_add(t, d->uri);
    }
    table_print(t, c->out);
    for (guint i = 0; i < disks->len; i++) {
        const struct session_disk *d = &g_array_index(disks, struct session_disk, i);

        if (d->quiesce_error) { /* one program for all: the same for each */
            g_string_append_c(c->out, '\n');
            client_print_row(c, "not quiesced", "%s", d->quiesce_error);
            break;
        }
    }
}

static int run_session_begin(struct client *c, const void *options, char **args, GError **err)
{
    g_autofree char *object = g_strdup_printf("session %s", args[0]);
    g_autoptr(JsonObject) arguments = json_object_new();
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) disks = NULL;

    if (begin_arguments(arguments, options, args, err) < 0)
        return -1;
    reply = client_ask(c, object, "backup-begin", g_steal_pointer(&arguments), err);
    disks = reply ? session_disks_read(reply, err) : NULL;
    if (!disks)
        return -1;
    if (c->json)
        client_print_json(c, reply, false);
    else
        begin_table(c, disks);
    return 0;
}

static const struct option begin_options[] = {
    {"since", 0, OPTION_TEXT, "CHECKPOINT", offsetof(struct begin_options, since),
     "what has changed since then is dirty (default: all is)"},
    {"checkpoint", 0, OPTION_TEXT, "NAME", offsetof(struct begin_options, checkpoint),
     "make a checkpoint at this instant, kept by commit"},
    {"strict", 0, OPTION_FLAG, NULL, offsetof(struct begin_options, strict),
     "fail where a disk cannot be done since CHECKPOINT"},
    {"lease", 0, OPTION_TEXT, "SECONDS", offsetof(struct begin_options, lease),
     "abort it after so long without a client; 0: never"},
    {"discard", 0, OPTION_FLAG, NULL, offsetof(struct begin_options, discard),
     "clients may trim what they have read"},
    {"scratch-limit", 0, OPTION_TEXT, "SIZE", offsetof(struct begin_options, scratch_limit),
     "most bytes that its views keep together"},
    {NULL},
};

const struct command cmd_session_begin = {
    .name = "session begin",
    .synopsis = "ID [DISK...] [--since CHECKPOINT] [--checkpoint NAME] [--strict] "
                "[--lease SECONDS] [--discard] [--scratch-limit SIZE]",
    .summary = "freeze an instant of all disks, to be backed up",
    .help = "With DISKs: of these alone. It prints where each is to be read.\n",
    .min_args = 1,
    .max_args = -1,
    .acts = true,
    .options = begin_options,
    .options_size = sizeof(struct begin_options),
    .run = run_session_begin,
};

/* ---- renew, commit, abort ---- */

struct renew_options {
    char *lease;
};

static int run_session_renew(struct client *c, const void *options, char **args, GError **err)
{
    const struct renew_options *o = options;
    g_autofree char *object = g_strdup_printf("session %s", args[0]);
    g_autoptr(JsonObject) arguments = json_object_new();

    json_object_set_string_member(arguments, "id", args[0]);
    if (arguments_add_seconds(arguments, "lease", o->lease, err) < 0)
        return -1;
    return client_act(c, object, "backup-renew", g_steal_pointer(&arguments), err);
}

static const struct option renew_options[] = {
    {"lease", 0, OPTION_TEXT, "SECONDS", offsetof(struct renew_options, lease),
     "its lease from now on (default: as it was)"},
    {NULL},
};

const struct command cmd_session_renew = {
    .name = "session renew",
    .synopsis = "ID [--lease SECONDS]",
    .summary = "let the lease of a session begin anew",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = renew_options,
    .options_size = sizeof(struct renew_options),
    .run = run_session_renew,
};

static int end(struct client *c, const char *id, const char *result, GError **err)
{
    g_autofree char *object = g_strdup_printf("session %s", id);
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "id", id);
    json_object_set_string_member(arguments, "result", result);
    return client_act(c, object, "backup-end", arguments, err);
}

static int run_session_commit(struct client *c, const void *options, char **args, GError **err)
{
    return end(c, args[0], "commit", err);
}

const struct command cmd_session_commit = {
    .name = "session commit",
    .synopsis = "ID",
    .summary = "end a session; its checkpoint is kept",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .run = run_session_commit,
};

static int run_session_abort(struct client *c, const void *options, char **args, GError **err)
{
    return end(c, args[0], "abort", err);
}

const struct command cmd_session_abort = {
    .name = "session abort",
    .synopsis = "ID",
    .summary = "end a session as if it had never been",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .run = run_session_abort,
};
