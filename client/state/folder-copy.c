/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/folder-copy.h"
#include "client/base/error.h"
#include "common/state/bit-file.h"
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "common/state/live-file.h"
#include "common/state/note.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE          (1u << 20)
#define CATALOGUE_MOST (UINT64_C(1) << 30) /* no catalogue is that long */
#define BIT_HEADER     4096u

/* ---- one file ---- */

/* Copy bytes [0, end), but for zeroes. */
static int copy_bytes(struct storage_file *from, struct storage_file *to, uint64_t end)
{
    g_autofree char *piece = g_malloc(PIECE);

    for (uint64_t at = 0; at < end; at += PIECE) {
        size_t length = MIN(PIECE, end - at);
        int error = from->storage->ops->read(from, piece, length, at);

        if (error == 0 && (*piece != '\0' || memcmp(piece, piece + 1, length - 1) != 0))
            error = to->storage->ops->write(to, piece, length, at);
        if (error < 0)
            return error;
    }
    return 0;
}

/* Make the copy as long as the original, and copy the first `most` bytes. */
static int copy_open_file(struct storage_file *from, struct storage_file *to, uint64_t most)
{
    uint64_t size, end;
    int error = from->storage->ops->size(from, &size);

    if (error < 0 || size == 0)
        return error;
    error = to->storage->ops->write(to, "", 1, size - 1);
    end = MIN(size, most);
    return error < 0 ? error : copy_bytes(from, to, end);
}

/* A file that is not there is not copied. */
static int copy_file(struct storage *original, struct storage *copy, const char *name,
                     uint64_t most, GError **err)
{
    struct storage_file *from, *to;
    int error = original->ops->open(original, name, false, &from);

    if (error == -ENOENT)
        return 0;
    if (error < 0)
        return storage_fail(original, name, "open", error, err);
    error = copy->ops->open(copy, name, true, &to);
    if (error == 0) {
        error = copy_open_file(from, to, most);
        copy->ops->close(to);
    }
    original->ops->close(from);
    if (error < 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "state: %s/%s: copy to %s (another place: $TMPDIR): %s", original->path,
                           name, copy->path, g_strerror(-error));
    return 0;
}

/* ---- the folder ---- */

/* All but the bits. */
static int copy_root(struct storage *original, struct storage *copy, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int error = original->ops->list(original, "", names);

    if (error < 0)
        return storage_fail(original, "", "list", error, err);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        uint64_t most = 0;

        if (strcmp(name, STATE_BITS) == 0)
            continue;
        if (g_str_has_prefix(name, STATE_CATALOGUE))
            most = CATALOGUE_MOST;
        else if (strcmp(name, STATE_INTENT) == 0)
            most = 2 * JOURNAL_HALF;
        else if (strcmp(name, STATE_LIVE) == 0)
            most = LIVE_LINES * sizeof(struct live_line);
        if (copy_file(original, copy, name, most, err) < 0)
            return -1;
    }
    return 0;
}

/* Bytes of the file bits/`uuid` that some bitmap has. */
static uint64_t bits_length(GArray *bitmaps, const char *uuid)
{
    uint64_t most = 0;

    for (guint i = 0; i < bitmaps->len; i++) {
        const struct catalogue_bitmap *b = &g_array_index(bitmaps, struct catalogue_bitmap, i);

        if (strcmp(b->uuid, uuid) == 0 && b->granularity > 0)
            most = MAX(most, BIT_HEADER + bit_file_map_length(b->size, b->granularity));
    }
    return most;
}

static int copy_bits(struct storage *original, struct folder_copy *c, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) bitmaps = catalogue_bitmaps(c->catalogue, damaged, err);
    int error = original->ops->list(original, STATE_BITS, names);

    if (!bitmaps)
        return -1;
    if (error == -ENOENT)
        return 0;
    if (error < 0)
        return storage_fail(original, STATE_BITS, "list", error, err);
    error = c->storage->ops->make_folder(c->storage, STATE_BITS);
    if (error < 0)
        return storage_fail(c->storage, STATE_BITS, "make", error, err);
    for (guint i = 0; i < names->len; i++) {
        const char *uuid = names->pdata[i];
        g_autofree char *name = g_strconcat(STATE_BITS "/", uuid, NULL);

        if (copy_file(original, c->storage, name, bits_length(bitmaps, uuid), err) < 0)
            return -1;
    }
    return 0;
}

/* A failure may be noted outside of the folder, and a recovery takes that note away: it finds a copy.
 * The memory folder (common/state/memory.h) it only reads: it finds the original's. */
static int copy_notes(struct folder_copy *c, GError **err)
{
    struct catalogue_folder f;
    bool failed;

    if (catalogue_folder(c->catalogue, &f, err) < 0)
        return -1;
    failed = lasting_note_there(f.uuid);
    c->notes = g_strconcat(c->path, ".notes", NULL);
    if (mkdir(c->notes, 0700) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", c->notes, g_strerror(errno));
    lasting_note_set_folder(c->notes);
    return failed ? lasting_note_make(f.uuid, c->path, "a copy", err) : 0;
}

/* An error of the copy is about the original. */
static void rename_error(const struct folder_copy *c, const struct storage *original, GError *error)
{
    g_auto(GStrv) parts = g_strsplit(error->message, c->path, -1);

    g_free(error->message);
    error->message = g_strjoinv(original->path, parts);
}

static int open_catalogue(struct storage *original, struct folder_copy *c, GError **err)
{
    GError *error = NULL;

    c->catalogue = catalogue_open(c->storage, &error);
    if (!c->catalogue) {
        rename_error(c, original, error);
        g_propagate_error(err, error);
        return -1;
    }
    /* SQLite has its file open: from here on the path is for messages alone. */
    g_free(c->storage->path);
    c->storage->path = g_strdup(original->path);
    return 0;
}

static int make_folder(struct folder_copy *c, GError **err)
{
    int fd;

    c->path = g_dir_make_tmp("nbdfleece-state-XXXXXX", err);
    if (!c->path)
        return -1;
    fd = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", c->path, g_strerror(errno));
    c->storage = storage_dir_new(c->path, fd);
    return 0;
}

folder_copy *folder_copy_make(struct storage *original, GError **err)
{
    g_autoptr(folder_copy) c = g_new0(struct folder_copy, 1);

    if (make_folder(c, err) < 0 || copy_root(original, c->storage, err) < 0 ||
        open_catalogue(original, c, err) < 0 || copy_bits(original, c, err) < 0 ||
        copy_notes(c, err) < 0)
        return NULL;
    return g_steal_pointer(&c);
}

static void remove_files(struct storage *s, const char *folder)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    s->ops->list(s, folder, names);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *name = *folder != '\0' ? g_strconcat(folder, "/", names->pdata[i], NULL)
                                                : g_strdup(names->pdata[i]);

        s->ops->unlink(s, name);
    }
}

static void remove_notes(struct folder_copy *c)
{
    GDir *folder = g_dir_open(c->notes, 0, NULL);
    const char *name;

    lasting_note_set_folder(NULL);
    while (folder && (name = g_dir_read_name(folder))) {
        g_autofree char *note = g_build_filename(c->notes, name, NULL);

        unlink(note);
    }
    g_clear_pointer(&folder, g_dir_close);
    rmdir(c->notes);
    g_free(c->notes);
}

void folder_copy_free(folder_copy *c)
{
    if (!c)
        return;
    if (c->notes)
        remove_notes(c);
    if (c->catalogue)
        catalogue_close(c->catalogue);
    if (c->storage) {
        g_autofree char *bits = g_build_filename(c->path, STATE_BITS, NULL);

        remove_files(c->storage, STATE_BITS);
        remove_files(c->storage, "");
        c->storage->ops->free(c->storage);
        rmdir(bits);
    }
    if (c->path)
        rmdir(c->path);
    g_free(c->path);
    g_free(c);
}
