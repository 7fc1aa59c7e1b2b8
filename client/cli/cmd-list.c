/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl list: what is in a backup repository. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/repo/member-status.h"
#include "client/repo/repo-time.h"
#include "common/json/value.h"

#include <inttypes.h>

/* ---- for people ---- */

static void add_id(table *t, int64_t id)
{
    if (id < 0)
        table_add(t, NULL);
    else
        table_add_number(t, (uint64_t)id);
}

static void add_row(table *t, const struct repo_member *m, const struct repo_disk *d,
                    const struct member_status *status)
{
    table_add_number(t, (uint64_t)m->id);
    table_add_time(t, m->time);
    table_add(t, d->disk);
    table_add(t, repo_level_name(d->level));
    add_id(t, d->parent);
    table_add_size(t, d->size);
    table_add_size(t, d->bytes);
    table_add(t, m->checkpoint);
    table_add(t, member_status_word(status, d));
}

static void print_table(struct client *c, const struct repository *r,
                        const struct member_status *status)
{
    static const char *const headers[] = {"ID",    "TIME",   "DISK",       "LEVEL",  ">PARENT",
                                          ">SIZE", ">BYTES", "CHECKPOINT", "STATUS", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++)
            add_row(t, m, m->disks->pdata[k], status);
    }
    table_print(t, c->out);
}

/* ---- as JSON ---- */

static void add_disk(JsonBuilder *b, const struct repo_disk *d, const struct member_status *status)
{
    json_builder_begin_object(b);
    json_add_string(b, "disk", d->disk);
    json_add_string(b, "file", d->file);
    json_add_string(b, "level", repo_level_name(d->level));
    if (d->parent >= 0)
        json_add_size(b, "parent", (uint64_t)d->parent);
    else
        json_add_string(b, "parent", NULL);
    json_add_string(b, "since", d->since);
    json_add_string(b, "reason", d->reason);
    json_add_size(b, "size", d->size);
    json_add_size(b, "bytes", d->bytes);
    json_add_string(b, "status", member_status_word(status, d));
    json_builder_end_object(b);
}

/* The checkpoint since which all disks have their changes; NULL: there is no such one. */
static const char *since_of(const struct repo_member *m)
{
    const char *since = ((const struct repo_disk *)m->disks->pdata[0])->since;

    for (guint i = 1; i < m->disks->len; i++) {
        if (g_strcmp0(((const struct repo_disk *)m->disks->pdata[i])->since, since) != 0)
            return NULL;
    }
    return since;
}

static void add_member(JsonBuilder *b, const struct repo_member *m,
                       const struct member_status *status)
{
    g_autofree char *time = repo_time_text(m->time);

    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)m->id);
    json_add_string(b, "time", time);
    json_add_string(b, "level", repo_level_name(repo_member_level(m)));
    json_add_string(b, "checkpoint", m->checkpoint);
    json_add_string(b, "since", since_of(m));
    json_builder_set_member_name(b, "disks");
    json_builder_begin_array(b);
    for (guint i = 0; i < m->disks->len; i++)
        add_disk(b, m->disks->pdata[i], status);
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void print_json(struct client *c, const struct repository *r,
                       const struct member_status *status)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "members");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->members->len; i++)
        add_member(b, r->members->pdata[i], status);
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* ---- the command ---- */

static int run_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(repository) r = repository_open(args[0], REPO_LOOK, err);
    g_autoptr(member_status) status = NULL;

    if (!r)
        return -1;
    status = member_status_take(r);
    if (c->json)
        print_json(c, r, status);
    else
        print_table(c, r, status);
    return 0;
}

const struct command cmd_list = {
    .name = "list",
    .synopsis = "REPO",
    .summary = "what is in a backup repository",
    .help =
        "STATUS is ok, or what is wrong with the file: missing, wrong size, damaged (by the last\n"
        "fleecectl verify), or broken chain, where that is true of a file that it stands on.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_list,
};
