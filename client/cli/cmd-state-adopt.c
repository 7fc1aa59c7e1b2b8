/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl state adopt and forget: which disks the bitmaps of a state folder belong to. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/cli/state-print.h"
#include "client/state/record-disks.h"
#include "client/state/survey.h"
#include "common/state/bit-file.h"
#include "common/state/identity.h"

#include <stdio.h>
#include <string.h>

static struct catalogue_disk *named(const survey *s, const char *name)
{
    for (guint i = 0; i < s->disks->len; i++) {
        struct catalogue_disk *d = &g_array_index(s->disks, struct catalogue_disk, i);

        if (strcmp(d->name, name) == 0)
            return d;
    }
    return NULL;
}

/* What there is after a recovery: a transaction on a folder that was not left in order would make the
 * recovery take an old copy of it for the one that was in use. */
static survey *recovered_survey(const offline *o, GError **err)
{
    return state_recover_told(o, err) < 0 ? NULL : survey_take(o, err);
}

/* ---- adopt ---- */

static bool has_good_bitmaps(const survey *s, const struct catalogue_disk *d)
{
    for (guint i = 0; i < s->bitmaps->len; i++) {
        const struct catalogue_bitmap *b = &((struct surveyed_bitmap *)s->bitmaps->pdata[i])->row;

        if (b->disk == d->id && !b->inconsistent)
            return true;
    }
    return false;
}

/* Checkpoints and sessions name their disks. */
static int rename_disk(struct catalogue *c, struct catalogue_disk *d, const char *name,
                       GError **err)
{
    if (record_disks_rename(c, d, name, err) < 0)
        return -1;
    g_free(d->name);
    d->name = g_strdup(name);
    return catalogue_put_disk(c, d, err);
}

/* The disk that has the new name goes aside. It is not removed: the folder goes on to know its
 * image, which is not to be taken for that of the disk that is adopted (`leaving`). */
static int put_aside(struct catalogue *c, const survey *s, struct catalogue_disk *taken,
                     const struct catalogue_disk *leaving, GError **err)
{
    g_autoptr(GString) name = g_string_new(taken->name);
    const struct catalogue_disk *other;

    do {
        g_string_append(name, IDENTITY_REPLACED);
        other = named(s, name->str);
    } while (other && other->id != leaving->id);
    return rename_disk(c, taken, name->str, err);
}

/* Nothing that was said of another disk of this name is said of the one that gets it. */
static int free_name(struct catalogue *c, const survey *s, struct catalogue_disk *taken,
                     const struct catalogue_disk *leaving, const char *name, GError **err)
{
    if (taken)
        return put_aside(c, s, taken, leaving, err);
    return strcmp(leaving->name, name) == 0 ? 0 : record_disks_forget_unknown(c, name, err);
}

static int put_adopted(struct catalogue *c, const survey *s, struct catalogue_disk *d,
                       const char *name, GError **err)
{
    struct catalogue_disk *taken = strcmp(d->name, name) == 0 ? NULL : named(s, name);

    if (catalogue_begin(c, err) < 0)
        return -1;
    d->adopted = true;
    if (free_name(c, s, taken, d, name, err) < 0 || rename_disk(c, d, name, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    return catalogue_commit(c, NULL, err);
}

static int run_state_adopt(struct client *c, const void *options, char **args, GError **err)
{
    const char *old = args[1], *new = args[2];
    g_autoptr(offline) o = offline_open(args[0], true, err);
    g_autoptr(survey) s = o ? recovered_survey(o, err) : NULL;
    const struct catalogue_disk *taken;

    if (!s || !survey_find_disk(s, old, err))
        return -1;
    taken = strcmp(old, new) == 0 ? NULL : named(s, new);
    if (taken && has_good_bitmaps(s, taken))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "disk %s: it has bitmaps of its own, so it cannot take over those of %s "
                           "(`fleecectl state adopt %s %s NAME` gives it another name)",
                           new, old, args[0], new);
    if (put_adopted(o->catalogue, s, named(s, old), new, err) < 0)
        return -1;
    if (c->json)
        g_string_append(c->out, "{}\n");
    else
        g_string_append_printf(
            c->out,
            "The bitmaps of disk %s are now those of disk %s. Its image is taken "
            "as it is at the next start.\n",
            old, new);
    return 0;
}

const struct command cmd_state_adopt = {
    .name = "state adopt",
    .synopsis = "DIR OLD NEW",
    .summary = "rename a disk of a state folder; take its image as it is",
    .help = "OLD and NEW may be the same name: the image was moved or copied, and its bytes are\n"
            "still those that the bitmaps speak of. Only you can know that.\n",
    .min_args = 3,
    .max_args = 3,
    .acts = true,
    .run = run_state_adopt,
};

/* ---- forget ---- */

static int remove_rows(struct catalogue *c, const struct catalogue_disk *d, GError **err)
{
    if (catalogue_begin(c, err) < 0)
        return -1;
    if (catalogue_remove_disk(c, d->id, err) < 0 || record_disks_forget(c, d, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    return catalogue_commit(c, NULL, err);
}

/* Files that stay do no harm: the next start removes them. */
static guint remove_files(const offline *o, const survey *s, const struct catalogue_disk *d)
{
    guint n = 0;

    for (guint i = 0; i < s->bitmaps->len; i++) {
        const struct catalogue_bitmap *b = &((struct surveyed_bitmap *)s->bitmaps->pdata[i])->row;
        g_autoptr(GError) error = NULL;

        if (b->disk != d->id)
            continue;
        n++;
        if (bit_file_remove(o->storage, b->uuid, &error) < 0)
            fprintf(stderr, "fleecectl: %s\n", error->message);
    }
    return n;
}

static int run_state_forget(struct client *c, const void *options, char **args, GError **err)
{
    g_autoptr(offline) o = offline_open(args[0], true, err);
    g_autoptr(survey) s = o ? recovered_survey(o, err) : NULL;
    const struct catalogue_disk *d = s ? survey_find_disk(s, args[1], err) : NULL;
    guint n;

    if (!d || remove_rows(o->catalogue, d, err) < 0)
        return -1;
    n = remove_files(o, s, d);
    if (c->json)
        g_string_append(c->out, "{}\n");
    else
        g_string_append_printf(c->out, "Disk %s is forgotten, with %u bitmap%s.\n", d->name, n,
                               n == 1 ? "" : "s");
    return 0;
}

const struct command cmd_state_forget = {
    .name = "state forget",
    .synopsis = "DIR DISK",
    .summary = "remove a disk and its bitmaps from a state folder",
    .help = "No server may be using DIR. If one serves the disk again, it is new to the folder.\n"
            "Checkpoints lose their part of it; one that has no other disk is gone.\n",
    .min_args = 2,
    .max_args = 2,
    .acts = true,
    .run = run_state_forget,
};
