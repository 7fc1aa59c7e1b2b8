/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl state check: finds what is wrong in a state folder, and mends it. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/state-print.h"
#include "client/state/recovery-text.h"
#include "common/json/value.h"
#include "common/state/state-check.h"

struct check_options {
    char *repair; /* NULL: not given */
};

/* What a check has found. */
typedef struct checked {
    bool repair; /* what was done was done to the folder, not to a copy */
    char *recovery;
    GPtrArray *findings, *notes;
    survey *survey;
} checked;

static void checked_clear(checked *k)
{
    g_free(k->recovery);
    g_ptr_array_unref(k->findings);
    g_ptr_array_unref(k->notes);
    survey_free(k->survey);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(checked, checked_clear)

static guint count_mended(const checked *k)
{
    guint n = 0;

    for (guint i = 0; i < k->findings->len; i++)
        n += ((const struct state_finding *)k->findings->pdata[i])->mended;
    return n;
}

/* ---- as text ---- */

static void print_finding(GString *out, const struct state_finding *f, bool repair)
{
    g_string_append_printf(out, "wrong: %s\n", f->what);
    if (!f->remedy)
        g_string_append(out, "       nothing can be done about it here\n");
    else if (!f->mended && f->why_not)
        g_string_append_printf(out, "       not repaired: %s\n", f->why_not);
    else if (!f->mended)
        g_string_append(out, "       not repaired\n");
    else if (repair)
        g_string_append_printf(out, "       repaired: %s\n", f->remedy);
    else
        g_string_append_printf(out, "       --repair does this: %s\n", f->remedy);
}

static void print_text(struct client *c, const checked *k)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;

    state_print(c, k->survey);
    if (k->recovery)
        g_string_append_printf(text, "\nnot left in order: %s\n", k->recovery);
    for (guint i = 0; i < k->notes->len; i++)
        g_string_append_printf(text, "note: %s\n", (const char *)k->notes->pdata[i]);
    for (guint i = 0; i < k->findings->len; i++)
        print_finding(text, k->findings->pdata[i], k->repair);
    if (k->findings->len == 0)
        g_string_append(text, "nothing is wrong\n");
    lines = g_strsplit(text->str, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_autofree char *clean = text_clean(*line, !c->terminal.utf8);

        g_string_append_printf(c->out, "%s%s", clean, line[1] ? "\n" : "");
    }
}

/* ---- as JSON ---- */

static void finding_json(JsonBuilder *b, const struct state_finding *f, bool repair)
{
    json_builder_begin_object(b);
    json_add_string(b, "what", f->what);
    if (f->remedy)
        json_add_string(b, "remedy", f->remedy);
    json_add_bool(b, "repairable", f->mended);
    json_add_bool(b, "repaired", f->mended && repair);
    if (f->why_not)
        json_add_string(b, "error", f->why_not);
    json_builder_end_object(b);
}

static void print_json(struct client *c, const checked *k)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    state_print_json(b, k->survey);
    if (k->recovery)
        json_add_string(b, "recovery", k->recovery);
    json_builder_set_member_name(b, "findings");
    json_builder_begin_array(b);
    for (guint i = 0; i < k->findings->len; i++)
        finding_json(b, k->findings->pdata[i], k->repair);
    json_builder_end_array(b);
    json_builder_set_member_name(b, "notes");
    json_builder_begin_array(b);
    for (guint i = 0; i < k->notes->len; i++)
        json_builder_add_string_value(b, k->notes->pdata[i]);
    json_builder_end_array(b);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* ---- the command ---- */

static int check(const offline *o, checked *k, GError **err)
{
    struct recovery *r = state_check(o->storage, o->catalogue, k->findings, k->notes, err);

    if (!r)
        return -1;
    k->recovery = recovery_text(r);
    recovery_free(r);
    k->survey = survey_take(o, err);
    return k->survey ? 0 : -1;
}

/* Exit codes: fleecectl(1). */
static int verdict(const char *dir, const checked *k, GError **err)
{
    guint wrong = k->findings->len, mended = count_mended(k);

    if (wrong == 0 || (k->repair && mended == wrong))
        return 0;
    if (!k->repair)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "state: %s: wrong: %u, of which --repair mends %u", dir, wrong, mended);
    return client_fail(err, mended > 0 ? CLIENT_ERROR_PARTLY : CLIENT_ERROR_FAILED,
                       "state: %s: wrong: %u, of which %u could be repaired", dir, wrong, mended);
}

static int run_state_check(struct client *c, const void *options, char **args, GError **err)
{
    const struct check_options *co = options;
    g_autoptr(offline) o = NULL;
    g_auto(checked) k = {
        .repair = co->repair,
        .findings = g_ptr_array_new_with_free_func((GDestroyNotify)state_finding_free),
        .notes = g_ptr_array_new_with_free_func(g_free),
    };

    if (co->repair && *co->repair)
        return client_fail(err, CLIENT_ERROR_USAGE, "state check: --repair takes no value");
    o = offline_open(args[0], co->repair, err);
    if (!o || check(o, &k, err) < 0)
        return -1;
    if (c->json)
        print_json(c, &k);
    else
        print_text(c, &k);
    if (verdict(args[0], &k, err) < 0)
        return -1;
    if (count_mended(&k) > 0)
        return 0;
    return client_flush(c, err); /* if this fails, it is not done in part: it has changed nothing */
}

static const struct option check_options[] = {
    {"repair", 0, OPTION_OPTIONAL, NULL, offsetof(struct check_options, repair),
     "mend what can be mended; else DIR is not changed"},
    {NULL},
};

const struct command cmd_state_check = {
    .name = "state check",
    .synopsis = "DIR [--repair]",
    .summary = "is a state folder that no server uses as it should be?",
    .help = "What cannot be trusted becomes inconsistent, files that no bitmap has are removed.\n"
            "Exit codes: 0 nothing is wrong, or all of it was repaired; 1 something is wrong and\n"
            "was not repaired; 3 some of it was repaired.\n",
    .min_args = 1,
    .max_args = 1,
    .acts = true,
    .options = check_options,
    .options_size = sizeof(struct check_options),
    .run = run_state_check,
};
