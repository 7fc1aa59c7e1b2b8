/* SPDX-License-Identifier: BSD-3-Clause */
/* Each write, sync and truncation of SQLite's fails in turn, once or from then on. What was said of
 * the transaction is compared with what the files hold then, as the death of the process leaves
 * them. */
#include "common/state/catalogue-private.h"
#include "common/state/catalogue.h"

#include "common/state/folder.h"
#include "common/util/log.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

/* ---- a VFS that fails ---- */

static struct {
    sqlite3_vfs *real;
    int left;     /* calls until one fails; 0: none does any more */
    bool lasting; /* all after it fail, too */
    bool full;    /* as on a full disk: syncs do not fail */
    unsigned failed;
} faults;

struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real; /* right behind it */
};

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct faulty_file *)f)->real;
}

static bool fails(void)
{
    if (faults.left == 0)
        return false;
    if (faults.left > 1) {
        faults.left--;
        return false;
    }
    if (!faults.lasting)
        faults.left = 0;
    faults.failed++;
    return true;
}

static int faulty_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int faulty_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 offset)
{
    return real_of(f)->pMethods->xRead(real_of(f), buf, n, offset);
}

/* A full disk takes half of it; another failure may come after all of it was written. */
static int faulty_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 offset)
{
    bool now = fails();
    int length = now && faults.full ? n / 2 : n;
    int code = real_of(f)->pMethods->xWrite(real_of(f), buf, length, offset);

    return !now ? code : faults.full ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

static int faulty_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    if (!faults.full && fails())
        return SQLITE_IOERR_TRUNCATE;
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int faulty_sync(sqlite3_file *f, int flags)
{
    if (!faults.full && fails())
        return SQLITE_IOERR_FSYNC;
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int faulty_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int faulty_lock(sqlite3_file *f, int lock)
{
    return real_of(f)->pMethods->xLock(real_of(f), lock);
}

static int faulty_unlock(sqlite3_file *f, int lock)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), lock);
}

static int faulty_is_locked(sqlite3_file *f, int *locked)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), locked);
}

static int faulty_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int faulty_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int faulty_device(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

/* Version 1 has no shared memory: with locking_mode=EXCLUSIVE a log needs none. */
static const sqlite3_io_methods faulty_methods = {
    .iVersion = 1,
    .xClose = faulty_close,
    .xRead = faulty_read,
    .xWrite = faulty_write,
    .xTruncate = faulty_truncate,
    .xSync = faulty_sync,
    .xFileSize = faulty_size,
    .xLock = faulty_lock,
    .xUnlock = faulty_unlock,
    .xCheckReservedLock = faulty_is_locked,
    .xFileControl = faulty_control,
    .xSectorSize = faulty_sector,
    .xDeviceCharacteristics = faulty_device,
};

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct faulty_file *file = (struct faulty_file *)f;
    int code;

    file->real = (sqlite3_file *)(file + 1);
    code = faults.real->xOpen(faults.real, name, file->real, flags, out);
    file->base.pMethods = code == SQLITE_OK ? &faulty_methods : NULL;
    return code;
}

static void register_faulty(void)
{
    static sqlite3_vfs vfs;

    faults.real = sqlite3_vfs_find(NULL);
    vfs = *faults.real;
    vfs.pNext = NULL;
    vfs.zName = "faulty";
    vfs.szOsFile = (int)sizeof(struct faulty_file) + faults.real->szOsFile;
    vfs.xOpen = faulty_open;
    g_assert_cmpint(sqlite3_vfs_register(&vfs, 0), ==, SQLITE_OK);
}

static void fail_at(int n, bool lasting, bool full)
{
    faults.left = n;
    faults.lasting = lasting;
    faults.full = full;
    faults.failed = 0;
}

/* ---- folders ---- */

static const char *const files[] = {"catalogue.db", "catalogue.db-wal"};

static void remove_folder(char *folder)
{
    static const char *const others[] = {"catalogue.new", "catalogue.new-wal", "lock", ""};

    for (size_t i = 0; i < G_N_ELEMENTS(files) + G_N_ELEMENTS(others); i++) {
        size_t n = G_N_ELEMENTS(files);
        g_autofree char *path = g_build_filename(folder, i < n ? files[i] : others[i - n], NULL);

        if (g_remove(path) < 0)
            g_assert_cmpint(errno, ==, ENOENT);
    }
    g_free(folder);
}

static char *make_folder(void)
{
    char *folder = g_dir_make_tmp("faults-XXXXXX", NULL);

    g_assert_nonnull(folder);
    return folder;
}

/* A folder with the catalogue's files as they are now in another one. */
static char *copy_folder(const char *from)
{
    char *folder = make_folder();

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *old = g_build_filename(from, files[i], NULL);
        g_autofree char *new = g_build_filename(folder, files[i], NULL);
        g_autofree char *bytes = NULL;
        size_t length;

        if (g_file_get_contents(old, &bytes, &length, NULL))
            g_assert_true(g_file_set_contents(new, bytes, (gssize)length, NULL));
    }
    return folder;
}

static struct storage *open_folder(const char *folder)
{
    g_autoptr(GError) err = NULL;
    struct storage *s = state_folder_open(folder, false, &err);

    g_assert_no_error(err);
    s->vfs = "faulty";
    return s;
}

static struct catalogue *open_catalogue(struct storage *s)
{
    g_autoptr(GError) err = NULL;
    struct catalogue *c = catalogue_open(s, &err);

    g_assert_no_error(err);
    return c;
}

static int put_disk(struct catalogue *c, const char *name)
{
    struct catalogue_disk d = {.name = (char *)name,
                               .size = 4096,
                               .image = g_strnfill(10000, 'i'), /* more than a page */
                               .content = (char *)""};
    int r = catalogue_put_disk(c, &d, NULL);

    g_free(d.image);
    return r;
}

/* The disks of a folder, when another process opens it. */
static unsigned count_disks(const char *folder)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) rows = NULL;
    struct storage *s = open_folder(folder);
    struct catalogue *c = open_catalogue(s);
    unsigned n;

    rows = catalogue_disks(c, damaged, NULL);
    g_assert_nonnull(rows);
    g_assert_cmpuint(damaged->len, ==, 0);
    n = rows->len;
    catalogue_close(c);
    s->ops->free(s);
    return n;
}

/* ---- tests ---- */

/* The catalogue cannot be used before it was opened anew, and that tells whether the transaction has
 * happened. */
static void open_anew(struct catalogue *c, bool expected, bool still_failing)
{
    g_autoptr(GError) err = NULL;
    bool happened = !expected;
    int r;

    g_assert_cmpint(catalogue_begin(c, NULL), ==, -1);
    if (still_failing) {
        fail_at(1, true, false);
        g_assert_cmpint(catalogue_reopen(c, &happened, &err), ==, -1);
        g_assert_nonnull(err);
        g_clear_error(&err);
        fail_at(0, false, false);
        g_assert_cmpint(catalogue_begin(c, NULL), ==, -1);
    }
    r = catalogue_reopen(c, &happened, &err);
    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
    g_assert_true(happened == expected);
}

/* Make a transaction over one disk in which a call fails; returns the number of failures. */
static unsigned one_transaction(const char *base, int n, bool lasting, bool full)
{
    char *folder = copy_folder(base), *left;
    struct storage *s = open_folder(folder);
    struct catalogue *c = open_catalogue(s);
    g_autoptr(GError) err = NULL;
    bool unsure = false;
    unsigned found, failed;
    int r;

    fail_at(n, lasting, full);
    r = catalogue_begin(c, &err);
    g_assert_no_error(err);
    g_assert_cmpint(put_disk(c, "new"), ==, 0);
    r = catalogue_commit(c, &unsure, &err);
    failed = faults.failed;
    fail_at(0, false, false);
    left = copy_folder(folder);
    found = count_disks(left);
    remove_folder(left);
    g_assert_true(r == 0 || err);
    if (!unsure)
        g_assert_cmpuint(found, ==, r == 0 ? 2 : 1);
    g_assert_false(full && unsure);
    g_assert_true(catalogue_has_failed(c) == unsure);
    if (unsure)
        open_anew(c, found == 2, lasting);
    /* The next one goes well, and takes nothing of the failed one with it. */
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    g_assert_cmpint(put_disk(c, "next"), ==, 0);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    left = copy_folder(folder);
    g_assert_cmpuint(count_disks(left), ==, found + 1);
    remove_folder(left);
    catalogue_close(c);
    s->ops->free(s);
    remove_folder(folder);
    return failed;
}

static void test_transactions(const void *full)
{
    char *base = make_folder();
    struct storage *s = open_folder(base);
    struct catalogue *c = open_catalogue(s);
    unsigned failures = 0;

    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    g_assert_cmpint(put_disk(c, "old"), ==, 0);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    catalogue_close(c);
    s->ops->free(s);
    for (unsigned lasting = 0; lasting < 2; lasting++)
        for (int n = 1; one_transaction(base, n, lasting, full) > 0; n++)
            failures++;
    g_assert_cmpuint(failures, >, 10);
    remove_folder(base);
}

static bool put_open(struct catalogue *c, bool open)
{
    struct catalogue_folder f;
    bool before;

    g_assert_cmpint(catalogue_folder(c, &f, NULL), ==, 0);
    before = f.open;
    f.open = open;
    if (!sqlite3_get_autocommit(c->db))
        g_assert_cmpint(catalogue_put_folder(c, &f, NULL), ==, 0);
    return before;
}

/* A transaction that changes no row that is counted. Returns the number of failures. */
static unsigned folder_transaction(int n)
{
    char *folder = make_folder();
    struct storage *s = open_folder(folder);
    struct catalogue *c = open_catalogue(s);
    bool unsure, happened;
    unsigned failed;
    int r;

    fail_at(n, false, false);
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    put_open(c, true);
    r = catalogue_commit(c, &unsure, NULL);
    failed = faults.failed;
    fail_at(0, false, false);
    happened = r == 0;
    if (unsure)
        g_assert_cmpint(catalogue_reopen(c, &happened, NULL), ==, 0);
    g_assert_true(put_open(c, true) == happened);
    catalogue_close(c);
    s->ops->free(s);
    remove_folder(folder);
    return failed;
}

static void test_folder_row(void)
{
    unsigned failures = 0;

    for (int n = 1; folder_transaction(n) > 0; n++)
        failures++;
    g_assert_cmpuint(failures, >, 5);
}

/* A catalogue that could not be made is made the next time. */
static void test_making(void)
{
    unsigned failed = 1;

    for (int n = 1; failed > 0; n++) {
        char *folder = make_folder();
        struct storage *s = open_folder(folder);
        struct catalogue *c;

        fail_at(n, false, false);
        c = catalogue_open(s, NULL);
        failed = faults.failed;
        fail_at(0, false, false);
        if (c)
            catalogue_close(c);
        s->ops->free(s);
        g_assert_cmpuint(count_disks(folder), ==, 0);
        remove_folder(folder);
    }
}

int main(int argc, char **argv)
{
    if (access("/dev/shm", W_OK) == 0) /* where syncs cost nothing */
        g_setenv("TMPDIR", "/dev/shm", TRUE);
    g_test_init(&argc, &argv, NULL);
    log_setup(LOG_TO_NULL, "test", false);
    register_faulty();
    g_test_add_data_func("/catalogue-faults/failing", NULL, test_transactions);
    g_test_add_data_func("/catalogue-faults/full", "full", test_transactions);
    g_test_add_func("/catalogue-faults/folder-row", test_folder_row);
    g_test_add_func("/catalogue-faults/making", test_making);
    return g_test_run();
}
