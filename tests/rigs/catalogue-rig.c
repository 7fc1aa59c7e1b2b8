/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/catalogue-rig.h"

#include "common/state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

void catalogue_rig_open(struct catalogue_rig *p)
{
    g_autoptr(GError) err = NULL;

    p->c = catalogue_open(p->s, &err);
    g_assert_no_error(err);
    g_assert_nonnull(p->c);
}

void catalogue_rig_close(struct catalogue_rig *p)
{
    catalogue_close(p->c);
    p->c = NULL;
}

void catalogue_rig_begin(struct catalogue_rig *p)
{
    /* Where syncs cost nothing, if there is such a place. */
    const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
    g_autoptr(GError) err = NULL;

    p->folder = g_mkdtemp(g_build_filename(top, "catalogue-XXXXXX", NULL));
    g_assert_nonnull(p->folder);
    p->s = state_folder_open(p->folder, false, &err);
    g_assert_no_error(err);
    catalogue_rig_open(p);
}

char *catalogue_rig_path(struct catalogue_rig *p, const char *name)
{
    return g_build_filename(p->folder, name, NULL);
}

void catalogue_rig_end(struct catalogue_rig *p)
{
    static const char *const names[] = {"lock",   "catalogue.db", "catalogue.db-wal",
                                        "old.db", "bits",         ""};

    if (p->c)
        catalogue_rig_close(p);
    p->s->ops->free(p->s);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = catalogue_rig_path(p, names[i]);

        if (remove(path) < 0)
            g_assert_cmpint(errno, ==, ENOENT);
    }
    g_free(p->folder);
}

void catalogue_rig_transaction(struct catalogue_rig *p)
{
    g_autoptr(GError) err = NULL;
    int r = catalogue_begin(p->c, &err);

    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
}

void catalogue_rig_commit(struct catalogue_rig *p)
{
    g_autoptr(GError) err = NULL;
    bool unsure = true;
    int r = catalogue_commit(p->c, &unsure, &err);

    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
    g_assert_false(unsure);
}

int64_t catalogue_rig_put_disk(struct catalogue_rig *p, const char *name)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_disk d = {.name = (char *)name,
                               .size = 1 << 30,
                               .state = DISK_CLEAN,
                               .image = (char *)"file dev=8:1 ino=77",
                               .content = (char *)"size=1073741824 mtime=5",
                               .changed_until = 0};

    catalogue_put_disk(p->c, &d, &err);
    g_assert_no_error(err);
    g_assert_cmpint(d.id, >, 0);
    return d.id;
}

struct catalogue_bitmap catalogue_rig_bitmap(int64_t disk, const char *name)
{
    g_autofree char *uuid = g_uuid_string_random();
    struct catalogue_bitmap b = {.disk = disk,
                                 .name = (char *)name,
                                 .granularity = 65536,
                                 .size = 1 << 30,
                                 .recording = true,
                                 .sealed = true,
                                 .crc = 0xfedcba98};

    g_strlcpy(b.uuid, uuid, sizeof b.uuid);
    return b;
}

int64_t catalogue_rig_put_bitmap(struct catalogue_rig *p, int64_t disk, const char *name)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_bitmap b = catalogue_rig_bitmap(disk, name);

    catalogue_put_bitmap(p->c, &b, &err);
    g_assert_no_error(err);
    g_assert_cmpint(b.id, >, 0);
    return b.id;
}

int64_t catalogue_rig_put_record(struct catalogue_rig *p, const char *kind, const char *name,
                                 const char *text)
{
    g_autoptr(GError) err = NULL;
    struct catalogue_record r = {.kind = (char *)kind, .name = (char *)name, .text = (char *)text};

    catalogue_put_record(p->c, &r, &err);
    g_assert_no_error(err);
    g_assert_cmpint(r.id, >, 0);
    return r.id;
}

GArray *catalogue_rig_disks(struct catalogue_rig *p, GPtrArray *damaged)
{
    g_autoptr(GError) err = NULL;
    GArray *rows = catalogue_disks(p->c, damaged, &err);

    g_assert_no_error(err);
    return rows;
}

GArray *catalogue_rig_bitmaps(struct catalogue_rig *p, GPtrArray *damaged)
{
    g_autoptr(GError) err = NULL;
    GArray *rows = catalogue_bitmaps(p->c, damaged, &err);

    g_assert_no_error(err);
    return rows;
}

void catalogue_rig_assert_bitmaps(struct catalogue_rig *p, const char *expected)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) rows = catalogue_rig_bitmaps(p, damaged);
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned i = 0; i < rows->len; i++)
        g_string_append_printf(names, "%s ", bitmap_at(rows, i)->name);
    g_assert_cmpstr(names->str, ==, expected);
    g_assert_cmpuint(damaged->len, ==, 0);
}

GArray *catalogue_rig_records(struct catalogue_rig *p, GPtrArray *damaged)
{
    g_autoptr(GError) err = NULL;
    GArray *rows = catalogue_records(p->c, damaged, &err);

    g_assert_no_error(err);
    return rows;
}

void catalogue_rig_assert_records(struct catalogue_rig *p, const char *expected)
{
    g_autoptr(GPtrArray) damaged = sentences_new();
    g_autoptr(GArray) rows = catalogue_rig_records(p, damaged);
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < rows->len; i++) {
        const struct catalogue_record *r = record_at(rows, i);

        g_string_append_printf(text, "%s/%s=%s ", r->kind, r->name, r->text);
    }
    g_assert_cmpstr(text->str, ==, expected);
    g_assert_cmpuint(damaged->len, ==, 0);
}

void catalogue_rig_run_sql(struct catalogue_rig *p, const char *sql)
{
    g_autofree char *path = catalogue_rig_path(p, STATE_CATALOGUE);
    char *message = NULL;
    sqlite3 *db;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &message);
    g_assert_cmpstr(message, ==, NULL);
    sqlite3_close(db);
}

void catalogue_rig_assert_refused(struct catalogue_rig *p, const char *format)
{
    g_autofree char *expected = g_strdup_printf(format, p->folder);
    g_autoptr(GError) err = NULL;

    g_assert_null(catalogue_open(p->s, &err));
    g_assert_cmpstr(err->message, ==, expected);
}

void catalogue_rig_write_file(struct catalogue_rig *p, const char *name, const char *bytes,
                              size_t length)
{
    g_autofree char *path = catalogue_rig_path(p, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, bytes, length), ==, (ssize_t)length);
    close(fd);
}
