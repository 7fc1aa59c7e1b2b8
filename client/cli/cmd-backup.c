/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl backup: a server's disks into a repository. */
#include "client/repo/backup.h"
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/forward-control.h"
#include "client/cli/option-values.h"
#include "client/cli/table.h"
#include "client/repo/repo-time.h"
#include "common/json/value.h"

#include <inttypes.h>
#include <string.h>

/* Where the command line does not say. */
#define JOBS  2
#define KEEP  2
#define LEASE 600 /* seconds */
#define RETRY 60  /* seconds */

struct cli_options {
    char *output, *level, *since, *jobs, *connections, *rate_limit, *keep, *lease, *retry,
        *compress, *ssh, *tls_certificates;
    char **include, **exclude;
    gboolean resume;
};

/* ---- options ---- */

static int read_level(const char *text, enum backup_level *level, GError **err)
{
    static const char *const names[] = {[BACKUP_AUTO] = "auto",
                                        [BACKUP_FULL] = "full",
                                        [BACKUP_INC] = "inc",
                                        [BACKUP_DIFF] = "diff"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!text || strcmp(text, names[i]) == 0) {
            *level = (enum backup_level)i;
            return 0;
        }
    }
    return client_fail(err, CLIENT_ERROR_USAGE, "--level %s: there is auto, full, inc and diff",
                       text);
}

static int read_since(const char *text, struct backup_options *o, GError **err)
{
    guint64 id;

    o->since = -1;
    if (!text)
        return 0;
    if (o->level == BACKUP_FULL)
        return client_fail(err, CLIENT_ERROR_USAGE, "a full backup takes no --since");
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &id, NULL))
        return client_fail(err, CLIENT_ERROR_USAGE, "--since %s: not the ID of a backup", text);
    o->since = (int64_t)id;
    return 0;
}

static int read_options(const struct cli_options *c, struct backup_options *o, GError **err)
{
    *o = (struct backup_options){.repo = c->output,
                                 .include = c->include,
                                 .exclude = c->exclude,
                                 .jobs = JOBS,
                                 .keep = KEEP,
                                 .lease = LEASE,
                                 .retry = RETRY,
                                 .resume = c->resume};
    if (!c->output)
        return client_fail(err, CLIENT_ERROR_USAGE, "backup: into which repository? -o REPO");
    return read_level(c->level, &o->level, err) < 0 || read_since(c->since, o, err) < 0 ||
                   option_number("jobs", c->jobs, 1, 16, &o->jobs, err) < 0 ||
                   option_number("connections", c->connections, 1, 16, &o->connections, err) < 0 ||
                   option_number("checkpoint-keep", c->keep, 1, 1000, &o->keep, err) < 0 ||
                   option_number("lease", c->lease, 0, G_MAXINT32, &o->lease, err) < 0 ||
                   option_number("retry", c->retry, 0, 86400, &o->retry, err) < 0 ||
                   option_rate("rate-limit", c->rate_limit, &o->rate, err) < 0 ||
                   option_compress(c->compress, &o->compress, &o->compression, &o->compress_level,
                                   err) < 0
               ? -1
               : 0;
}

/* ---- what was done ---- */

static void print_table(struct client *c, const struct repo_member *m)
{
    static const char *const headers[] = {"DISK",   "LEVEL", ">ON",    ">READ",
                                          ">BYTES", "FILE",  "REASON", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < m->disks->len; i++) {
        const struct repo_disk *d = g_ptr_array_index(m->disks, i);

        table_add(t, d->disk);
        table_add(t, repo_level_name(d->level));
        if (d->parent >= 0)
            table_add_number(t, (uint64_t)d->parent);
        else
            table_add(t, NULL);
        table_add_size(t, d->read);
        table_add_size(t, d->bytes);
        table_add(t, d->file);
        table_add(t, d->reason);
    }
    table_print(t, c->out);
}

static void print_text(struct client *c, const struct backup_result *result)
{
    const struct repo_member *m = result->member;
    g_autofree char *time = m ? time_text(m->time) : NULL;

    if (m) {
        client_print_row(c, "backup", "%" PRId64 "%s%s%s", m->id, time ? ", of " : "",
                         time ? time : "", result->resumed ? ", resumed" : "");
        print_table(c, m);
    }
    for (guint i = 0; i < result->notes->len; i++)
        client_print_row(c, "note", "%s", (const char *)g_ptr_array_index(result->notes, i));
}

static void add_disk(JsonBuilder *b, const struct repo_disk *d)
{
    json_builder_begin_object(b);
    json_add_string(b, "disk", d->disk);
    json_add_string(b, "level", repo_level_name(d->level));
    json_builder_set_member_name(b, "parent");
    if (d->parent >= 0)
        json_builder_add_int_value(b, d->parent);
    else
        json_builder_add_null_value(b);
    json_add_string(b, "since", d->since);
    json_add_string(b, "reason", d->reason);
    json_add_string(b, "file", d->file);
    json_add_size(b, "size", d->size);
    json_add_size(b, "read", d->read);
    json_add_size(b, "bytes", d->bytes);
    json_builder_end_object(b);
}

static void add_member(JsonBuilder *b, const struct repo_member *m)
{
    g_autofree char *time = repo_time_text(m->time);

    json_builder_set_member_name(b, "id");
    json_builder_add_int_value(b, m->id);
    json_add_string(b, "time", time);
    json_add_string(b, "level", repo_level_name(repo_member_level(m)));
    json_add_string(b, "checkpoint", m->checkpoint);
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < m->disks->len; i++)
        add_disk(b, g_ptr_array_index(m->disks, i));
    json_builder_end_array(b);
}

static void print_json(struct client *c, const struct backup_result *result)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    if (result->member)
        add_member(b, result->member);
    json_add_bool(b, "resumed", result->resumed);
    json_builder_set_member_name(b, "notes");
    json_builder_begin_array(b);
    for (guint i = 0; i < result->notes->len; i++)
        json_builder_add_string_value(b, g_ptr_array_index(result->notes, i));
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

static int back_up(struct client *c, const struct backup_options *o, GError **err)
{
    struct qmp *qmp = client_qmp(c, err);
    struct backup_result result;
    struct progress *progress;
    int rc;

    if (!qmp)
        return -1;
    progress = progress_new(c->json);
    rc = backup_run(qmp, o, progress, &result, err);
    progress_free(progress);
    if (c->json)
        print_json(c, &result);
    else
        print_text(c, &result);
    backup_result_clear(&result);
    return rc;
}

static int run_backup(struct client *c, const void *options, char **args, GError **err)
{
    const struct cli_options *given = options;
    struct backup_options o;
    struct remote *remote;
    int rc = 0;

    if (read_options(given, &o, err) < 0)
        return -1;
    remote = remote_new(given->ssh, given->tls_certificates);
    o.reach = remote_reach;
    o.opaque = remote;
    if (given->ssh)
        rc = forward_control(c, remote, err);
    if (rc == 0)
        rc = back_up(c, &o, err);
    remote_free(remote);
    return rc;
}

static const struct option backup_options[] = {
    {"output", 'o', OPTION_TEXT, "REPO", offsetof(struct cli_options, output),
     "the repository, which is made if it is not there"},
    {"level", 0, OPTION_TEXT, "LEVEL", offsetof(struct cli_options, level),
     "auto (default), full, inc or diff"},
    {"since", 0, OPTION_TEXT, "ID", offsetof(struct cli_options, since),
     "what has changed since this backup"},
    {"include", 0, OPTION_LIST, "DISK", offsetof(struct cli_options, include),
     "back up this disk (default: all)"},
    {"exclude", 0, OPTION_LIST, "DISK", offsetof(struct cli_options, exclude),
     "do not back up this disk"},
    {"jobs", 'j', OPTION_TEXT, "N", offsetof(struct cli_options, jobs),
     "so many disks at once (default: 2)"},
    {"compress", 0, OPTION_OPTIONAL, "METHOD", offsetof(struct cli_options, compress),
     "compress the files: zstd, zlib, zstd:LEVEL..."},
    {"connections", 0, OPTION_TEXT, "N", offsetof(struct cli_options, connections),
     "so many to each disk (default: 4)"},
    {"rate-limit", 0, OPTION_TEXT, "RATE", offsetof(struct cli_options, rate_limit),
     "read at most so many bytes a second"},
    {"checkpoint-keep", 0, OPTION_TEXT, "N", offsetof(struct cli_options, keep),
     "the server keeps the checkpoints of so many backups (default: 2)"},
    {"lease", 0, OPTION_TEXT, "SECONDS", offsetof(struct cli_options, lease),
     "the server ends a session that is left so long (default: 600)"},
    {"retry", 0, OPTION_TEXT, "SECONDS", offsetof(struct cli_options, retry),
     "an NBD server that has gone may take so long to come back (default: 60)"},
    {"resume", 0, OPTION_FLAG, NULL, offsetof(struct cli_options, resume),
     "go on with a backup that was cut, and do not undo this one where it is cut"},
    {"ssh", 0, OPTION_TEXT, "HOST", offsetof(struct cli_options, ssh),
     "the server is on HOST, where SOCKET is its control socket"},
    {"tls-certificates", 0, OPTION_TEXT, "DIR", offsetof(struct cli_options, tls_certificates),
     "the folder with this client's certificates, for a server with TLS"},
    {NULL},
};

const struct command cmd_backup = {
    .name = "backup",
    .synopsis = "-o REPO [--level LEVEL] [--since ID] [--include DISK]... [--exclude DISK]... "
                "[--jobs N] [--compress[=METHOD]] [--connections N] [--rate-limit RATE] "
                "[--checkpoint-keep N] "
                "[--lease SECONDS] [--retry SECONDS] [--resume] [--ssh HOST] "
                "[--tls-certificates DIR]",
    .summary = "back up disks into a repository",
    .help =
        "Each disk becomes one qcow2 file, at one instant of all disks. With auto it has what has "
        "changed since the newest backup that it can be put on, and is full where there is none.\n",
    .acts = true,
    .options = backup_options,
    .options_size = sizeof(struct cli_options),
    .run = run_backup,
};
