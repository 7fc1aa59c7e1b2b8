/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-make.h"

#include "common/state/catalogue-schema.h"
#include "common/state/catalogue-sql.h"
#include "common/state/catalogue-tally.h"
#include "common/state/catalogue.h"
#include "common/state/folder.h"
#include "common/util/error.h"

#include <errno.h>
#include <string.h>

#define NEW "catalogue.new"

/* Files that are in a folder only after it has a catalogue. */
static bool comes_later(const char *name)
{
    return strcmp(name, STATE_INTENT) == 0 || strcmp(name, STATE_LIVE) == 0 ||
           g_str_has_prefix(name, STATE_CATALOGUE);
}

/* A new folder has neither a catalogue nor anything else. Where other files are there, the catalogue
 * was lost, and its bitmaps must not be silently gone. */
static int check_new(struct storage *s, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) bits = g_ptr_array_new_with_free_func(g_free);
    int error = s->ops->list(s, "", names);
    bool old;

    if (error == 0)
        error = s->ops->list(s, STATE_BITS, bits);
    if (error < 0)
        return storage_fail(s, "", "list", error, err);
    old = bits->len > 0;
    for (unsigned i = 0; i < names->len; i++)
        old = old || comes_later(g_ptr_array_index(names, i));
    if (!old)
        return 0;
    return fail(err,
                "state: %s/" STATE_CATALOGUE ": it is missing, and the folder has other files of a "
                "state folder: restore it, or begin with a new folder",
                s->path);
}

static int make_empty_file(struct storage *s, GError **err)
{
    static const char *const old[] = {NEW, NEW "-wal", NEW "-journal"};
    struct storage_file *file;
    int error;

    for (size_t i = 0; i < G_N_ELEMENTS(old); i++) {
        error = s->ops->unlink(s, old[i]);
        if (error < 0 && error != -ENOENT)
            return storage_fail(s, old[i], "unlink", error, err);
    }
    error = s->ops->open(s, NEW, true, &file);
    if (error < 0)
        return storage_fail(s, NEW, "make it", error, err);
    s->ops->close(file);
    return 0;
}

static int put_first_rows(struct catalogue *c, GError **err)
{
    g_autofree char *uuid = g_uuid_string_random();
    struct catalogue_folder folder = {.run = 0};

    g_strlcpy(folder.uuid, uuid, sizeof folder.uuid);
    for (unsigned i = 0; i < TALLIES; i++)
        c->tallies[i] = (struct tally){.id = 1 + (int64_t)i, .next = 1};
    return catalogue_put_folder(c, &folder, err) < 0 ? -1 : tally_write(c, err);
}

/* Nothing reads the file before it has its name, so that no journal is needed. At the end it becomes
 * a database with a write-ahead log. */
static int fill(struct catalogue *c, GError **err)
{
    g_autofree char *mode = NULL;

    if (sql_open(c, NEW, err) < 0 || sql_run(c, "PRAGMA journal_mode = MEMORY; BEGIN", err) < 0 ||
        schema_create(c, err) < 0 || put_first_rows(c, err) < 0 || sql_run(c, "COMMIT", err) < 0)
        return -1;
    mode = sql_text(c, "PRAGMA journal_mode = WAL", err);
    return mode ? 0 : -1;
}

static int sync_file(struct storage *s, GError **err)
{
    struct storage_file *file;
    int error = s->ops->open(s, NEW, false, &file);

    if (error < 0)
        return storage_fail(s, NEW, "open", error, err);
    error = s->ops->sync(file);
    s->ops->close(file);
    return error < 0 ? storage_fail(s, NEW, "sync", error, err) : 0;
}

static int give_name(struct storage *s, GError **err)
{
    int error = s->ops->rename(s, NEW, STATE_CATALOGUE);

    if (error == 0)
        error = s->ops->sync_names(s, "");
    return error < 0 ? storage_fail(s, STATE_CATALOGUE, "give it its name", error, err) : 0;
}

int catalogue_make(struct storage *s, GError **err)
{
    struct catalogue c = {.s = s};
    int result;

    if (check_new(s, err) < 0 || make_empty_file(s, err) < 0)
        return -1;
    result = fill(&c, err);
    if (sqlite3_close(c.db) != SQLITE_OK && result == 0)
        result = fail(err, "state: %s/" NEW ": close", s->path);
    return result < 0 || sync_file(s, err) < 0 ? -1 : give_name(s, err);
}
