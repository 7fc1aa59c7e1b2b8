/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl image resize: let the disk of a qcow2 image grow, as the server does while it serves it. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/image-open.h"
#include "common/base/size.h"
#include "common/json/value.h"
#include "common/live/live.h"

struct resize_options {
    char **allow;
};

static int take_size(const char *text, uint64_t *size, GError **err)
{
    int64_t value;

    if (size_parse(text, &value) < 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "%s: not a size", text);
    if (value % 512 != 0)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "%s: the size of a qcow2 disk is a multiple of 512 bytes", text);
    *size = (uint64_t)value;
    return 0;
}

/* Make the disk larger; *old is what it was. The image stays the caller's. */
static int grow(struct live_image *image, const char *path, uint64_t size, GError **err)
{
    uint64_t old = live_size(image);
    int error;

    if (size < old)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: the disk has %" G_GUINT64_FORMAT
                           " bytes, and is not made smaller: what is behind would be lost",
                           path, old);
    error = size > old ? live_resize(image, size) : 0;
    return error == 0 ? 0
                      : client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot resize the disk: %s",
                                    path, live_resize_why(error));
}

static void print(struct client *c, const char *path, uint64_t old, uint64_t size)
{
    g_autofree char *clean = text_clean(path, !c->terminal.utf8);
    char before[16], now[16];

    if (c->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *name = g_utf8_make_valid(path, -1);

        json_builder_begin_object(b);
        json_add_string(b, "filename", name);
        json_add_size(b, "virtual-size", size);
        json_builder_end_object(b);
        client_print_builder(c, b);
    } else if (old == size) {
        g_string_append_printf(c->out, "%s: the disk has %s already\n", clean,
                               size_format(size, now));
    } else {
        g_string_append_printf(c->out, "%s: the disk has grown from %s to %s\n", clean,
                               size_format(old, before), size_format(size, now));
    }
}

static int run_image_resize(struct client *c, const void *options, char **args, GError **err)
{
    const struct resize_options *ro = options;
    struct live_options o = LIVE_OPTIONS_INIT;
    struct live_image *image;
    uint64_t size = 0, old;
    struct q2_error why;
    int result;

    if (take_size(args[1], &size, err) < 0)
        return -1;
    /* An image of somebody else's must not have any file written that its user may write. */
    o.open.references = Q2_REFERENCES_FOLDER;
    o.open.allow = (const char *const *)ro->allow;
    o.writable = true;
    o.tell = image_tell;
    image = live_open(args[0], &o, &why);
    if (!image)
        return image_refused(&why, err);
    old = live_size(image);
    result = grow(image, args[0], size, err);
    if (live_close(image, &why) < 0 && result == 0)
        result = client_fail(err, CLIENT_ERROR_FAILED, "%s", why.text);
    if (result < 0)
        return -1;
    print(c, args[0], old, size);
    return 0;
}

static const struct option resize_options[] = {
    {"allow", 0, OPTION_LIST, "FOLDER", offsetof(struct resize_options, allow), IMAGE_ALLOW_HELP},
    {NULL},
};

const struct command cmd_image_resize = {
    .name = "image resize",
    .synopsis = "FILE SIZE [--allow FOLDER]...",
    .summary = "let the disk of a qcow2 image grow",
    .help = "No server and no QEMU may be using FILE: a server's disk is resized by the server\n"
            "(block_resize). No control socket is needed.\n",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .options = resize_options,
    .options_size = sizeof(struct resize_options),
    .run = run_image_resize,
};
