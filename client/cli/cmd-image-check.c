/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl image check: is a qcow2 image in order? And what can be mended, is. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/image-open.h"
#include "common/json/value.h"
#include "common/qcow2/q2-repair.h"

#include <string.h>

struct check_options {
    char *repair; /* NULL: not given; "": without a value */
    char **allow;
};

/* What is to be done. */
struct plan {
    const char *path;
    bool repair;
    enum q2_repair_what what;
};

/* What a check has found. */
struct found {
    uint64_t leaks, corruptions;
    struct q2_error first; /* the first corruption */
    bool repaired;
    bool changed;
    struct q2_error why_not; /* a repair has failed; "": it has not */
};

/* ---- the command line ---- */

static bool what_of(const char *text, enum q2_repair_what *what)
{
    *what = strcmp(text, "all") == 0 ? Q2_REPAIR_ALL : Q2_REPAIR_LEAKS;
    return *what == Q2_REPAIR_ALL || strcmp(text, "leaks") == 0;
}

/* --repair=all, or --repair all, which comes as an argument before FILE or behind it. */
static int make_plan(struct plan *p, const struct check_options *co, char **args, GError **err)
{
    const char *what = co->repair && *co->repair ? co->repair : NULL;
    bool more = args[1];

    *p = (struct plan){.path = args[0], .repair = co->repair};
    if (co->repair && !what && more) {
        bool first = what_of(args[0], &p->what);

        what = first ? args[0] : args[1];
        p->path = first ? args[1] : args[0];
        more = false;
    }
    if (more)
        return client_fail(err, CLIENT_ERROR_USAGE, "image check: unexpected argument '%s'",
                           args[1]);
    if (co->repair && (!what || !what_of(what, &p->what)))
        return client_fail(err, CLIENT_ERROR_USAGE, "--repair %s: there is leaks and all",
                           what ? what : "");
    return 0;
}

/* ---- telling ---- */

static void print_json(struct client *c, const char *path, const struct found *f)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autofree char *name = g_utf8_make_valid(path, -1);
    g_autofree char *first = g_utf8_make_valid(f->first.text, -1);

    json_builder_begin_object(b);
    json_add_string(b, "filename", name);
    json_add_string(b, "format", "qcow2");
    json_add_size(b, "check-errors", f->why_not.text[0] && !f->leaks && !f->corruptions);
    json_add_size(b, "leaks", f->repaired ? 0 : f->leaks);
    json_add_size(b, "corruptions", f->repaired ? 0 : f->corruptions);
    if (f->corruptions > 0)
        json_add_string(b, "first-corruption", first);
    if (f->repaired) {
        json_add_size(b, "leaks-fixed", f->leaks);
        json_add_size(b, "corruptions-fixed", f->corruptions);
    }
    json_builder_end_object(b);
    client_print_builder(c, b);
}

static void print_text(struct client *c, const char *path, const struct found *f)
{
    g_autofree char *clean = text_clean(path, !c->terminal.utf8);

    if (f->why_not.text[0])
        return;
    if (f->leaks == 0 && f->corruptions == 0)
        g_string_append_printf(c->out, "%s: nothing is wrong\n", clean);
    else if (f->repaired)
        g_string_append_printf(c->out,
                               "%s: repaired: leaked clusters: %" G_GUINT64_FORMAT
                               ", corruptions: %" G_GUINT64_FORMAT "\n",
                               clean, f->leaks, f->corruptions);
}

/* Exit codes: fleecectl(1). */
static int verdict(const char *path, const struct found *f, GError **err)
{
    if (f->why_not.text[0])
        return client_fail(err, f->changed ? CLIENT_ERROR_PARTLY : CLIENT_ERROR_FAILED, "%s",
                           f->why_not.text);
    if (f->repaired)
        return 0;
    if (f->corruptions > 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: corrupt in %" G_GUINT64_FORMAT " places, the first of which is: %s",
                           path, f->corruptions, f->first.text);
    if (f->leaks > 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: leaked clusters: %" G_GUINT64_FORMAT
                           ". They take room and do no other harm",
                           path, f->leaks);
    return 0;
}

/* ---- the command ---- */

/* 0, or -1 and *why: it could not be checked. */
static int check(struct q2_image *image, struct found *f, struct q2_error *why)
{
    if (q2_image_check(image, &f->leaks, &f->corruptions, why) < 0)
        return -1;
    f->first = *why;
    return 0;
}

static void repair(struct q2_image *image, enum q2_repair_what what, struct found *f)
{
    struct q2_repaired r;

    f->repaired = q2_image_repair(image, what, &r, &f->why_not) == 0;
    if (f->repaired)
        f->why_not.text[0] = 0;
    f->leaks = r.leaks;
    f->corruptions = r.corruptions;
    f->first = r.first;
    f->changed = r.changed;
}

static int run_image_check(struct client *c, const void *options, char **args, GError **err)
{
    const struct check_options *co = options;
    struct q2_open_options o = {.references = Q2_REFERENCES_ANY, .alone = true, .locking = true};
    struct q2_image *image;
    struct found f = {0};
    struct q2_error why;
    struct plan p;
    int result = 0;

    if (make_plan(&p, co, args, err) < 0)
        return -1;
    if (p.repair) {
        /* What it names is opened for writing, too. */
        o.writable = true;
        o.references = Q2_REFERENCES_FOLDER;
        o.allow = (const char *const *)co->allow;
        o.tell = image_tell;
    }
    image = q2_image_open_with(p.path, &o, &why);
    if (!image)
        return image_refused(&why, err);
    if (p.repair)
        repair(image, p.what, &f);
    else
        result = check(image, &f, &why);
    q2_image_close(image);
    if (result < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s", why.text);
    if (c->json)
        print_json(c, p.path, &f);
    else
        print_text(c, p.path, &f);
    if (verdict(p.path, &f, err) < 0)
        return -1;
    return f.changed ? 0 : client_flush(c, err); /* what was changed is not undone by a full pipe */
}

static const struct option check_options[] = {
    {"repair", 0, OPTION_OPTIONAL, "leaks|all", offsetof(struct check_options, repair),
     "mend what takes room only, or all that can be mended"},
    {"allow", 0, OPTION_LIST, "FOLDER", offsetof(struct check_options, allow), IMAGE_ALLOW_HELP},
    {NULL},
};

const struct command cmd_image_check = {
    .name = "image check",
    .synopsis = "FILE [--repair leaks|all [--allow FOLDER]...]",
    .summary = "is a qcow2 image in order? and mend it",
    .help = "Every table and every reference count of FILE is looked at, but not its backing\n"
            "file. Without --repair FILE is not changed. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 2,
    .acts = true,
    .options = check_options,
    .options_size = sizeof(struct check_options),
    .run = run_image_check,
};
