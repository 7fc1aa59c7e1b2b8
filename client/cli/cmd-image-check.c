/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl image check: is a qcow2 image in order? */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "common/json/value.h"
#include "common/qcow2/q2-image.h"

/* What a check has found. */
struct found {
    uint64_t leaks, corruptions;
    struct q2_error first; /* the first corruption */
};

static void print_json(struct client *c, const char *path, const struct found *f)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autofree char *name = g_utf8_make_valid(path, -1);
    g_autofree char *first = g_utf8_make_valid(f->first.text, -1);

    json_builder_begin_object(b);
    json_add_string(b, "filename", name);
    json_add_string(b, "format", "qcow2");
    json_add_size(b, "check-errors", 0);
    json_add_size(b, "leaks", f->leaks);
    json_add_size(b, "corruptions", f->corruptions);
    if (f->corruptions > 0)
        json_add_string(b, "first-corruption", first);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* Exit codes: fleecectl(1). */
static int verdict(const char *path, const struct found *f, GError **err)
{
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

static int run_image_check(struct client *c, const void *options, char **args, GError **err)
{
    struct q2_open_options o = {.references = Q2_REFERENCES_ANY, .alone = true, .locking = true};
    struct q2_error why;
    struct q2_image *image = q2_image_open_with(args[0], &o, &why);
    struct found f = {0};
    int result;

    if (!image)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s", why.text);
    result = q2_image_check(image, &f.leaks, &f.corruptions, &why);
    q2_image_close(image);
    if (result < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s", why.text);
    f.first = why;
    if (c->json)
        print_json(c, args[0], &f);
    else if (f.leaks == 0 && f.corruptions == 0)
        g_string_append_printf(c->out, "%s: nothing is wrong\n", args[0]);
    return verdict(args[0], &f, err);
}

const struct command cmd_image_check = {
    .name = "image check",
    .synopsis = "FILE",
    .summary = "is a qcow2 image in order?",
    .help = "Every table and every reference count of FILE is looked at, but not its backing\n"
            "file. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_image_check,
};
