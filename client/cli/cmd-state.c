/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl state list and export: what there is in a state folder that no server uses. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/state-print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- list ---- */

static int run_state_list(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(offline) o = offline_open(args[0], false, err);
    g_autoptr(survey) s = NULL;

    if (!o || state_recover_told(o, err) < 0)
        return -1;
    s = survey_take(o, err);
    if (!s)
        return -1;
    for (guint i = 0; i < s->damaged->len; i++)
        client_tell(s->damaged->pdata[i]);
    if (c->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();

        json_builder_begin_object(b);
        state_print_json(b, s);
        json_builder_end_object(b);
        client_print_builder(c, b);
    } else {
        state_print(c, s);
    }
    return 0;
}

const struct command cmd_state_list = {
    .name = "state list",
    .synopsis = "DIR",
    .summary = "what there is in a state folder that no server uses",
    .help = "DIR is not changed. No control socket is needed.\n",
    .min_args = 1,
    .max_args = 1,
    .run = run_state_list,
};

/* ---- export ---- */

static void print_extent(GString *out, uint64_t offset, uint64_t length, bool dirty)
{
    g_string_append_printf(out,
                           "%s{ \"offset\": %" PRIu64 ", \"length\": %" PRIu64
                           ", \"type\": %d, \"description\": \"%s\"}",
                           offset == 0 ? "" : ",\n", offset, length, dirty ? 1 : 0,
                           dirty ? "dirty" : "clean");
}

/* The extents in the shape of `nbdinfo --map --json`. */
static int print_extents(struct client *c, const struct bitmap *bits, uint64_t size, GError **err)
{
    uint64_t at = 0, start, length;

    g_string_append(c->out, "[\n");
    while (at < size) {
        if (!bitmap_next_dirty(bits, at, size, &start, &length)) {
            start = size;
            length = 0;
        }
        if (start > at)
            print_extent(c->out, at, start - at, false);
        if (length > 0)
            print_extent(c->out, start, length, true);
        at = start + length;
        if (c->out->len > 1 << 16 && client_flush(c, err) < 0)
            return -1;
    }
    g_string_append(c->out, "\n]\n");
    return 0;
}

static int run_state_export(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(offline) o = offline_open(args[0], false, err);
    g_autoptr(survey) s = NULL;
    const struct catalogue_disk *d;
    const struct surveyed_bitmap *b;
    struct bitmap *bits;
    int result;

    if (!o || state_recover_told(o, err) < 0)
        return -1;
    s = survey_take(o, err);
    d = s ? survey_find_disk(s, args[1], err) : NULL;
    b = d ? survey_find_bitmap(s, d, args[2], err) : NULL;
    if (!b)
        return -1;
    if (b->row.inconsistent)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "Bitmap '%s' is inconsistent and cannot be used: %s", b->row.name,
                           b->row.inconsistent);
    bits = bits_read(o->storage, &b->row, err);
    if (!bits)
        return -1;
    result = print_extents(c, bits, b->row.size, err);
    bitmap_unref(bits);
    return result;
}

const struct command cmd_state_export = {
    .name = "state export",
    .synopsis = "DIR DISK BITMAP",
    .summary = "what is dirty in a bitmap of a state folder, as JSON",
    .help = "The output has the shape of nbdinfo --map --json. DIR is not changed.\n",
    .min_args = 3,
    .max_args = 3,
    .run = run_state_export,
};
