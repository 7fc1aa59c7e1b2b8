/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-vfs.h"
#include "tests/rigs/sim-storage.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

struct sim_vfs {
    sqlite3_vfs vfs;
    struct storage *storage;
    char name[32];
};

struct vfs_file {
    sqlite3_file base;
    struct storage_file *file;
    bool sync_names; /* its name has to be synced with its first sync, as SQLite does on Unix */
    bool remove;
};

static struct storage *storage_of(sqlite3_vfs *v)
{
    return ((struct sim_vfs *)v)->storage;
}

static int full_or(int error, int otherwise)
{
    return error == -ENOSPC ? SQLITE_FULL : otherwise;
}

/* ---- files ---- */

static int file_close(sqlite3_file *file)
{
    struct vfs_file *f = (struct vfs_file *)file;
    struct storage *s = f->file->storage;

    if (f->remove)
        s->ops->unlink(s, f->file->name);
    s->ops->close(f->file);
    return SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *buf, int length, sqlite3_int64 offset)
{
    struct storage_file *f = ((struct vfs_file *)file)->file;
    uint64_t size, end = (uint64_t)offset + (uint64_t)length;

    if (f->storage->ops->size(f, &size) < 0)
        return SQLITE_IOERR_READ;
    if (end <= size)
        return f->storage->ops->read(f, buf, (size_t)length, (uint64_t)offset) < 0
                   ? SQLITE_IOERR_READ
                   : SQLITE_OK;
    memset(buf, 0, (size_t)length);
    if ((uint64_t)offset < size &&
        f->storage->ops->read(f, buf, size - (uint64_t)offset, (uint64_t)offset) < 0)
        return SQLITE_IOERR_READ;
    return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *file, const void *buf, int length, sqlite3_int64 offset)
{
    struct storage_file *f = ((struct vfs_file *)file)->file;
    int error = f->storage->ops->write(f, buf, (size_t)length, (uint64_t)offset);

    return error < 0 ? full_or(error, SQLITE_IOERR_WRITE) : SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return sim_file_truncate(((struct vfs_file *)file)->file, (uint64_t)size) < 0
               ? SQLITE_IOERR_TRUNCATE
               : SQLITE_OK;
}

static int file_sync(sqlite3_file *file, int flags)
{
    struct vfs_file *f = (struct vfs_file *)file;
    struct storage *s = f->file->storage;

    if (s->ops->sync(f->file) < 0)
        return SQLITE_IOERR_FSYNC;
    if (f->sync_names && s->ops->sync_names(s, "") < 0)
        return SQLITE_IOERR_DIR_FSYNC;
    f->sync_names = false;
    return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    struct storage_file *f = ((struct vfs_file *)file)->file;
    uint64_t bytes;

    if (f->storage->ops->size(f, &bytes) < 0)
        return SQLITE_IOERR_FSTAT;
    *size = (sqlite3_int64)bytes;
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *file, int level)
{
    return SQLITE_OK;
}

static int file_check_lock(sqlite3_file *file, int *reserved)
{
    *reserved = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
    return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *file)
{
    return 4096;
}

static int file_device(sqlite3_file *file)
{
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_device,
};

/* ---- names ---- */

/* A file's name in the storage. */
static const char *inside(sqlite3_vfs *v, const char *path)
{
    const char *folder = storage_of(v)->path;

    return g_str_has_prefix(path, folder) ? path + strlen(folder) + 1 : path;
}

static int open_file(struct storage *s, const char *name, bool create, struct vfs_file *f)
{
    int error = s->ops->open(s, name, false, &f->file);

    if (error == -ENOENT && create)
        return s->ops->open(s, name, true, &f->file) < 0 ? SQLITE_CANTOPEN : SQLITE_OK;
    return error < 0 ? SQLITE_CANTOPEN : SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *v, const char *path, sqlite3_file *file, int flags, int *out)
{
    struct vfs_file *f = (struct vfs_file *)file;
    const char *name = path ? inside(v, path) : "temporary";
    bool make = (flags & SQLITE_OPEN_CREATE) && !sim_storage_exists(storage_of(v), name);
    int result;

    memset(f, 0, sizeof *f);
    result = open_file(storage_of(v), name, make, f);
    if (result != SQLITE_OK)
        return result;
    f->base.pMethods = &methods;
    f->remove = flags & SQLITE_OPEN_DELETEONCLOSE;
    f->sync_names = make && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL));
    if (out)
        *out = flags;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *v, const char *path, int sync_folder)
{
    struct storage *s = storage_of(v);
    int error = s->ops->unlink(s, inside(v, path));

    if (error == -ENOENT)
        return SQLITE_IOERR_DELETE_NOENT;
    if (error < 0)
        return SQLITE_IOERR_DELETE;
    if (sync_folder && s->ops->sync_names(s, "") < 0)
        return SQLITE_IOERR_DIR_FSYNC;
    return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *v, const char *path, int flags, int *result)
{
    *result = sim_storage_exists(storage_of(v), inside(v, path));
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *v, const char *path, int size, char *out)
{
    g_strlcpy(out, path, (gsize)size);
    return SQLITE_OK;
}

static int vfs_random(sqlite3_vfs *v, int length, char *out)
{
    memset(out, 7, (size_t)length);
    return length;
}

static int vfs_sleep(sqlite3_vfs *v, int microseconds)
{
    return microseconds;
}

static int vfs_time(sqlite3_vfs *v, double *days)
{
    *days = 2460000.5;
    return SQLITE_OK;
}

static int vfs_error(sqlite3_vfs *v, int size, char *out)
{
    return 0;
}

/* Simulated threads take turns: SQLite needs no locks, and nobody asks what memory it has. */
static void configure(void)
{
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

struct sim_vfs *sim_vfs_new(struct storage *s)
{
    static unsigned count;
    struct sim_vfs *v = g_new0(struct sim_vfs, 1);

    if (count == 0)
        configure();
    v->storage = s;
    g_snprintf(v->name, sizeof v->name, "sim-%u", count++);
    v->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = 256,
        .zName = v->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_error,
    };
    sqlite3_vfs_register(&v->vfs, 0);
    return v;
}

const char *sim_vfs_name(const struct sim_vfs *v)
{
    return v->name;
}

void sim_vfs_free(struct sim_vfs *v)
{
    sqlite3_vfs_unregister(&v->vfs);
    g_free(v);
}
