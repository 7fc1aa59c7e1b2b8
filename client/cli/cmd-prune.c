/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl prune: takes backups out of a repository. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/option-values.h"
#include "client/cli/table.h"
#include "client/repo/prune.h"
#include "common/base/size.h"
#include "common/json/value.h"

#include <inttypes.h>

/* Most backups that a rule keeps. */
#define MOST 1000000

struct prune_command {
    char *keep[PRUNE_RULES];
    gboolean dry_run;
};

/* ---- what stays ---- */

/* "last, daily"; NULL: it goes. */
static char *reasons_text(unsigned reasons)
{
    GString *text = g_string_new(NULL);

    for (unsigned rule = 0; rule < PRUNE_RULES; rule++) {
        if (reasons & 1u << rule)
            g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "", prune_rule_name(rule));
    }
    return g_string_free(text, text->len == 0);
}

static void print_members(struct client *c, const struct repository *r, const unsigned *reasons)
{
    static const char *const headers[] = {">ID", "TIME", "LEVEL", "KEPT AS", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];
        g_autofree char *why = reasons_text(reasons[i]);

        table_add_number(t, (uint64_t)m->id);
        table_add_time(t, m->time);
        table_add(t, repo_level_name(repo_member_level(m)));
        table_add(t, why ? why : "goes");
    }
    table_print(t, c->out);
}

static void print_rewrites(struct client *c, const struct prune_plan *p)
{
    for (guint i = 0; i < p->rewrites->len; i++) {
        const struct prune_rewrite *w = p->rewrites->pdata[i];
        g_autoptr(GString) text = g_string_new(i == 0 ? "\n" : "");
        g_autofree char *clean = text_clean(w->disk->file, !c->terminal.utf8);
        g_autofree char *clean_new = text_clean(w->file, !c->terminal.utf8);
        g_autofree char *clean_base = w->base ? text_clean(w->base, !c->terminal.utf8) : NULL;

        g_string_append_printf(text, "%s becomes %s", clean, clean_new);
        if (clean_base)
            g_string_append_printf(text, ", over %s", clean_base);
        if (w->depth > 0)
            g_string_append_printf(text, ", with what it needs of %u older file%s", w->depth,
                                   w->depth == 1 ? "" : "s");
        g_string_append_printf(c->out, "%s\n", text->str);
    }
}

static void print_text(struct client *c, const struct repository *r, const unsigned *reasons,
                       const struct prune_plan *p, bool dry_run)
{
    char freed[16], need[16];

    print_members(c, r, reasons);
    print_rewrites(c, p);
    g_string_append_printf(c->out, "\n%s%u of %u backups", dry_run ? "would remove " : "removing ",
                           p->gone->len, r->members->len);
    if (p->gone->len > 0)
        g_string_append_printf(c->out, ": files of %s go", size_format(p->freed, freed));
    if (p->rewrites->len > 0)
        g_string_append_printf(c->out, ", after new ones of at most %s are written",
                               size_format(p->need, need));
    g_string_append_c(c->out, '\n');
}

/* Bytes of all files that the manifest names, but for the checksums. */
static uint64_t bytes_of(const struct repository *r)
{
    uint64_t bytes = 0;

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++)
            bytes += ((const struct repo_disk *)m->disks->pdata[k])->bytes;
    }
    return bytes;
}

/* How many there were before, and what they took. */
static void print_done(struct client *c, const struct repository *r, guint members, uint64_t bytes)
{
    uint64_t now = bytes_of(r);
    char freed[16];

    g_string_append_printf(c->out, "removed %u of %u backups, %s freed\n",
                           members - r->members->len, members,
                           size_format(bytes > now ? bytes - now : 0, freed));
}

/* ---- as JSON ---- */

static void member_json(JsonBuilder *b, const struct repo_member *m, unsigned reasons)
{
    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)m->id);
    json_add_string(b, "level", repo_level_name(repo_member_level(m)));
    json_add_bool(b, "removed", reasons == 0);
    json_builder_set_member_name(b, "kept-as");
    json_builder_begin_array(b);
    for (unsigned rule = 0; rule < PRUNE_RULES; rule++) {
        if (reasons & 1u << rule)
            json_builder_add_string_value(b, prune_rule_name(rule));
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
}

static void rewrite_json(JsonBuilder *b, const struct prune_rewrite *w)
{
    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)w->member->id);
    json_add_string(b, "disk", w->disk->disk);
    json_add_string(b, "old-file", w->disk->file);
    json_add_string(b, "file", w->file);
    json_add_string(b, "level", repo_level_name(w->level));
    if (w->parent >= 0)
        json_add_size(b, "parent", (uint64_t)w->parent);
    json_add_size(b, "merged", (uint64_t)w->depth);
    json_builder_end_object(b);
}

/* Gather it before the plan is carried out, which changes what it is about. */
static JsonBuilder *make_json(const struct repository *r, const unsigned *reasons,
                              const struct prune_plan *p, bool dry_run)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_add_bool(b, "dry-run", dry_run);
    json_builder_set_member_name(b, "members");
    json_builder_begin_array(b);
    for (guint i = 0; i < r->members->len; i++)
        member_json(b, r->members->pdata[i], reasons[i]);
    json_builder_end_array(b);
    json_builder_set_member_name(b, "rewritten");
    json_builder_begin_array(b);
    for (guint i = 0; i < p->rewrites->len; i++)
        rewrite_json(b, p->rewrites->pdata[i]);
    json_builder_end_array(b);
    json_add_size(b, "freed", p->freed);
    json_add_size(b, "needed", p->need);
    json_builder_end_object(b);
    return b;
}

/* ---- the command ---- */

static int read_policy(const struct prune_command *pc, struct prune_policy *policy, GError **err)
{
    *policy = (struct prune_policy){{0}};
    for (unsigned rule = 0; rule < PRUNE_RULES; rule++) {
        g_autofree char *name = g_strconcat("keep-", prune_rule_name(rule), NULL);

        if (option_number(name, pc->keep[rule], 1, MOST, &policy->keep[rule], err) < 0)
            return -1;
    }
    if (prune_policy_keeps(policy))
        return 0;
    return client_fail(err, CLIENT_ERROR_USAGE,
                       "prune: what is to stay? At least one of --keep-last, --keep-daily, "
                       "--keep-weekly, --keep-monthly and --keep-yearly is needed");
}

/* Say what is to be done, and do it. */
static int carry_out(struct client *c, struct repository *r, const unsigned *reasons,
                     const struct prune_plan *plan, bool dry_run, GError **err)
{
    g_autoptr(JsonBuilder) json = c->json ? make_json(r, reasons, plan, dry_run) : NULL;
    uint64_t bytes = bytes_of(r);
    guint members = r->members->len;
    struct progress *p;
    int result;

    if (!c->json)
        print_text(c, r, reasons, plan, dry_run);
    else if (dry_run)
        client_print_builder(c, json);
    /* If nobody can read what goes, nothing goes. */
    if (client_flush(c, err) < 0)
        return -1;
    if (dry_run)
        return 0;
    p = progress_new(c->json);
    result = prune_run(r, plan, p, err);
    progress_free(p);
    if (result < 0)
        return -1;
    if (json)
        client_print_builder(c, json);
    else
        print_done(c, r, members, bytes);
    return 0;
}

static int run_prune(struct client *c, const void *options, char **args, GError **err)
{
    const struct prune_command *pc = options;
    g_autoptr(GTimeZone) zone = g_time_zone_new_local();
    g_autofree unsigned *reasons = NULL;
    g_autoptr(repository) r = NULL;
    struct prune_policy policy;
    struct prune_plan *plan;
    int result;

    if (read_policy(pc, &policy, err) < 0)
        return -1;
    r = repository_open(args[0], pc->dry_run ? REPO_READ : REPO_WRITE, err);
    if (!r)
        return -1;
    reasons = prune_choose(r, &policy, zone);
    plan = prune_plan_new(r, reasons, err);
    if (!plan)
        return -1;
    result = carry_out(c, r, reasons, plan, pc->dry_run, err);
    prune_plan_free(plan);
    return result;
}

#define FIELD(rule) (offsetof(struct prune_command, keep) + (rule) * sizeof(char *))
static const struct option prune_options[] = {
    {"keep-last", 0, OPTION_TEXT, "N", FIELD(PRUNE_LAST), "keep the newest N"},
    {"keep-daily", 0, OPTION_TEXT, "N", FIELD(PRUNE_DAILY),
     "keep the newest of each of the last N days that have one"},
    {"keep-weekly", 0, OPTION_TEXT, "N", FIELD(PRUNE_WEEKLY), "the same of weeks, from Monday"},
    {"keep-monthly", 0, OPTION_TEXT, "N", FIELD(PRUNE_MONTHLY), "the same of months"},
    {"keep-yearly", 0, OPTION_TEXT, "N", FIELD(PRUNE_YEARLY), "the same of years"},
    {"dry-run", 'n', OPTION_FLAG, NULL, offsetof(struct prune_command, dry_run),
     "only say what would be done"},
    {NULL},
};
#undef FIELD

const struct command cmd_prune = {
    .name = "prune",
    .synopsis = "REPO [--keep-last N] [--keep-daily N] [--keep-weekly N] [--keep-monthly N] "
                "[--keep-yearly N] [--dry-run]",
    .summary = "remove backups that no rule keeps",
    .help = "A backup stays if one of the rules keeps it, for one of its disks. What those that\n"
            "stay need of those that go is written into new files first. An end at any moment\n"
            "leaves each backup that stays as it was.\n",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = prune_options,
    .options_size = sizeof(struct prune_command),
    .run = run_prune,
};
