/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl audit: does a map of changes tell the truth? */
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/cli/command.h"
#include "client/cli/forward-control.h"
#include "client/cli/table.h"
#include "client/map/nbd-uri.h"
#include "client/repo/audit.h"
#include "client/repo/repo-time.h"
#include "common/base/size.h"
#include "common/json/value.h"

#include <inttypes.h>

/* An NBD server that goes away may take so many seconds to come back. */
#define RETRY 60

struct cmd_options {
    char *until, *uri, *bitmap, *context, *ssh, *tls_certificates;
};

/* ---- options ---- */

static int check_options(const struct cmd_options *o, GError **err)
{
    if (o->bitmap && o->context)
        return client_fail(err, CLIENT_ERROR_USAGE, "audit: --bitmap or --context, not both");
    if (o->uri && !o->bitmap && !o->context)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "audit: --uri needs the --bitmap of what has changed since the backup");
    if (!o->uri && (o->bitmap || o->context))
        return client_fail(err, CLIENT_ERROR_USAGE, "audit: --bitmap and --context go with --uri");
    return o->uri ? nbd_uri_check(o->uri, err) : 0;
}

static char *context_of(const struct cmd_options *o)
{
    return o->bitmap ? g_strconcat("qemu:dirty-bitmap:", o->bitmap, NULL) : g_strdup(o->context);
}

/* ---- what was found ---- */

static void print_size(struct client *c, const char *what, uint64_t bytes)
{
    char text[16];

    client_print_row(c, what, "%s", size_format(bytes, text));
}

static void print_text(struct client *c, const struct audit_options *o,
                       const struct audit_result *a)
{
    static const char *const headers[] = {">OFFSET", ">LENGTH", NULL};
    g_autoptr(table) t = NULL;
    g_autofree char *time = time_text(o->member->time);

    client_print_row(c, "disk", "%s", o->disk);
    client_print_row(c, "backup", "%" PRId64 ", of %s", o->member->id, time ? time : "-");
    print_size(c, "read", a->size);
    print_size(c, "differ", a->changed);
    print_size(c, "dirty", a->dirty);
    print_size(c, "missed", audit_ranges_bytes(a->missed));
    if (a->missed->len == 0) {
        g_string_append(c->out, "all that has changed is dirty\n");
        return;
    }
    g_string_append(c->out, "\nhas changed, and is not dirty:\n");
    t = table_new(&c->terminal, headers);
    for (guint i = 0; i < a->missed->len; i++) {
        const struct audit_range *r = &g_array_index(a->missed, struct audit_range, i);

        table_add_number(t, r->offset);
        table_add_number(t, r->length);
    }
    table_print(t, c->out);
    g_string_append(c->out, "(or the backup is damaged: fleecectl verify --deep)\n");
}

static void print_json(struct client *c, const struct audit_options *o,
                       const struct audit_result *a)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_string(b, "disk", o->disk);
    json_add_size(b, "backup", (uint64_t)o->member->id);
    json_add_size(b, "size", a->size);
    json_add_size(b, "differ", a->changed);
    json_add_size(b, "dirty", a->dirty);
    json_add_size(b, "missed", audit_ranges_bytes(a->missed));
    json_builder_set_member_name(b, "ranges");
    json_builder_begin_array(b);
    for (guint i = 0; i < a->missed->len; i++) {
        const struct audit_range *r = &g_array_index(a->missed, struct audit_range, i);

        json_builder_begin_object(b);
        json_add_size(b, "offset", r->offset);
        json_add_size(b, "length", r->length);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

static int verdict(const struct audit_options *o, const struct audit_result *a, GError **err)
{
    char missed[16];

    if (a->missed->len == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "disk %s: %s have changed since backup %" PRId64 " and are not dirty",
                       o->disk, size_format(audit_ranges_bytes(a->missed), missed), o->member->id);
}

/* ---- the command ---- */

static int audit(struct client *c, const struct repository *r, struct qmp *qmp,
                 const struct audit_options *o, GError **err)
{
    struct progress *progress = progress_new(c->json);
    struct audit_result a;
    int rc = audit_run(r, qmp, o, progress, &a, err);

    progress_free(progress);
    if (rc < 0)
        return -1;
    if (c->json)
        print_json(c, o, &a);
    else
        print_text(c, o, &a);
    rc = verdict(o, &a, err);
    g_array_unref(a.missed);
    return rc;
}

/* Without --uri the server is asked. NULL and *err. */
static struct qmp *ask_server(struct client *c, const char *ssh, struct remote *remote,
                              GError **err)
{
    return ssh && forward_control(c, remote, err) < 0 ? NULL : client_qmp(c, err);
}

static int audit_repository(struct client *c, const char *path, struct audit_options *o,
                            const struct cmd_options *co, struct remote *remote, GError **err)
{
    g_autoptr(repository) r = repository_open(path, REPO_READ, err);
    struct qmp *qmp = NULL;

    if (!r)
        return -1;
    o->member = repository_until(r, co->until, o->disk, err);
    if (!o->member)
        return -1;
    if (!o->uri) {
        qmp = ask_server(c, co->ssh, remote, err);
        if (!qmp)
            return -1;
    }
    return audit(c, r, qmp, o, err);
}

static int run_audit(struct client *c, const void *options, char **args, GError **err)
{
    const struct cmd_options *co = options;
    g_autofree char *context = context_of(co);
    struct audit_options o = {
        .disk = args[1], .uri = co->uri, .context = context, .retry = RETRY, .reach = remote_reach};
    struct remote *remote;
    int result;

    if (check_options(co, err) < 0 || interrupt_fd(err) < 0)
        return -1;
    remote = remote_new(co->ssh, co->tls_certificates);
    o.opaque = remote;
    result = audit_repository(c, args[0], &o, co, remote, err);
    remote_free(remote);
    return result;
}

static const struct option audit_options[] = {
    {"until", 0, OPTION_TEXT, "ID|TIME", offsetof(struct cmd_options, until),
     "compare with this backup, or the newest up to this time (default: the newest)"},
    {"uri", 0, OPTION_TEXT, "URI", offsetof(struct cmd_options, uri),
     "read the disk from this export, of any NBD server"},
    {"bitmap", 'b', OPTION_TEXT, "NAME", offsetof(struct cmd_options, bitmap),
     "with --uri: the dirty bitmap: context qemu:dirty-bitmap:NAME"},
    {"context", 0, OPTION_TEXT, "NAME", offsetof(struct cmd_options, context),
     "with --uri: the NBD meta context that says what is dirty"},
    {"ssh", 0, OPTION_TEXT, "HOST", offsetof(struct cmd_options, ssh),
     "the server is on HOST, where SOCKET is its control socket"},
    {"tls-certificates", 0, OPTION_TEXT, "DIR", offsetof(struct cmd_options, tls_certificates),
     "the folder with this client's certificates, for a server with TLS"},
    {NULL},
};

const struct command cmd_audit = {
    .name = "audit",
    .synopsis = "REPO DISK [--until ID|TIME] [--uri URI --bitmap NAME | --uri URI --context NAME] "
                "[--ssh HOST] [--tls-certificates DIR]",
    .summary = "does the map of what has changed tell the truth?",
    .help =
        "Reads all of the disk, compares it with a backup, and prints what differs and is not\n"
        "dirty: what the next backup would not have. It uses a backup session, which is aborted,\n"
        "since the backup's checkpoint; or with --uri any export, and a bitmap that records since\n"
        "the instant of the backup. Exit codes: 0 all that has changed is dirty; 1 something is\n"
        "not.\n",
    .min_args = 2,
    .max_args = 2,
    .options = audit_options,
    .options_size = sizeof(struct cmd_options),
    .run = run_audit,
};
