/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Images in memory that outlives the process: the backend of the model's disks. Each step of a request
 * is a point at which the process may be killed, as are the calls of libc by which the state folder is
 * made durable.
 */
#include "common/util/error.h"
#include "tests/rigs/backup-model.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct backup_image {
    struct backend backend;
    struct model *m;
    unsigned disk;
};

/* ---- the fuse ---- */

static struct model *_Atomic fused; /* other threads burn it */
static pthread_mutex_t in_model = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

void model_lock(void)
{
    pthread_mutex_lock(&in_model);
}

void model_unlock(void)
{
    pthread_mutex_unlock(&in_model);
}

void fuse_set(struct model *m, long points)
{
    atomic_store(&m->fuse, points < 0 ? LONG_MAX : points);
    fused = m;
}

void fuse_burn(void)
{
    struct model *m = atomic_load(&fused);

    if (!m || atomic_load(&m->fuse) == LONG_MAX || atomic_fetch_sub(&m->fuse, 1) > 1)
        return;
    model_lock();
    kill(getpid(), SIGKILL);
}

/* SQLite finds these, too. */
int fsync(int fd)
{
    fuse_burn();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    fuse_burn();
    return (int)syscall(SYS_fdatasync, fd);
}

int unlink(const char *path)
{
    fuse_burn();
    return (int)syscall(SYS_unlink, path);
}

int unlinkat(int dir, const char *path, int flags)
{
    fuse_burn();
    return (int)syscall(SYS_unlinkat, dir, path, flags);
}

int ftruncate(int fd, off_t size)
{
    fuse_burn();
    return (int)syscall(SYS_ftruncate, fd, size);
}

/* ---- the backend ---- */

static struct backup_image *image_of(struct backend_handle *h)
{
    return (struct backup_image *)h->backend;
}

static char *bytes_of(struct backup_image *b, uint64_t offset)
{
    return b->m->image[b->disk] + offset;
}

static int open_image(struct backend *backend, bool readonly, const struct backend_client *client,
                      struct backend_handle **handle, GError **err)
{
    struct backup_image *b = (struct backup_image *)backend;
    struct backend_handle *h = g_new0(struct backend_handle, 1);

    *h = (struct backend_handle){
        .backend = backend,
        .size = (uint64_t)b->m->image_sectors[b->disk] * SECTOR,
        .min_block = SECTOR,
        .pref_block = 4096,
        .max_block = 32u << 20,
        .can_write = !readonly,
        .can_flush = true,
        .can_trim = true,
        .can_zero = true,
        .can_extents = true,
        .can_multi_conn = true,
        .fd = -1,
    };
    *handle = h;
    return 0;
}

static void close_image(struct backend_handle *h)
{
    g_free(h);
}

static int image_pread(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    fuse_burn();
    memcpy(buf, bytes_of(image_of(h), offset), length);
    return 0;
}

/* As a file's mtime, which goes by ticks. */
static void touch(struct backup_image *b)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    b->m->image_time[b->disk] = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    b->m->image_changes[b->disk]++;
}

static void change(struct backup_image *b, const char *data, uint64_t length, uint64_t offset,
                   bool written)
{
    touch(b);
    for (uint64_t at = 0; at < length; at += SECTOR) {
        fuse_burn();
        if (data)
            memcpy(bytes_of(b, offset + at), data + at, SECTOR);
        else
            memset(bytes_of(b, offset + at), 0, SECTOR);
        b->m->written[b->disk][(offset + at) / SECTOR] = written;
    }
    fuse_burn();
}

static int image_pwrite(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset,
                        uint32_t flags)
{
    change(image_of(h), buf, length, offset, true);
    return 0;
}

static int image_zero(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    change(image_of(h), NULL, length, offset, !(flags & BACKEND_MAY_TRIM));
    return 0;
}

static int image_trim(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    change(image_of(h), NULL, length, offset, false);
    return 0;
}

static int image_flush(struct backend_handle *h)
{
    fuse_burn();
    return 0;
}

static int image_cache(struct backend_handle *h, uint64_t length, uint64_t offset)
{
    return 0;
}

static int image_extents(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                         struct extents *extents)
{
    struct backup_image *b = image_of(h);
    int r = 0;

    for (uint64_t at = offset; at < offset + length && r == 0; at += SECTOR)
        r = extents_add(extents, SECTOR,
                        b->m->written[b->disk][at / SECTOR] ? 0 : EXTENT_HOLE | EXTENT_ZERO);
    return r == -ENOSPC ? 0 : r;
}

static int image_resize(struct backend_handle *h, uint64_t size, GError **err)
{
    struct backup_image *b = image_of(h);
    uint32_t old = b->m->image_sectors[b->disk], sectors = (uint32_t)(size / SECTOR);

    fuse_burn();
    touch(b);
    for (uint32_t s = MIN(old, sectors); s < SECTORS; s++)
        b->m->written[b->disk][s] = false;
    if (sectors > old)
        memset(bytes_of(b, (uint64_t)old * SECTOR), 0, (size_t)(sectors - old) * SECTOR);
    b->m->image_sectors[b->disk] = sectors;
    fuse_burn();
    return 0;
}

static int image_identity(struct backend_handle *h, struct backend_identity *identity, GError **err)
{
    struct backup_image *b = image_of(h);

    identity->image = g_strdup_printf("memory %u", b->disk);
    identity->content = g_strdup_printf("changes=%" G_GUINT64_FORMAT, b->m->image_changes[b->disk]);
    identity->modified = b->m->image_time[b->disk];
    identity->transient = false;
    return 0;
}

static void free_image(struct backend *b)
{
    g_free(b);
}

static const struct backend_ops image_ops = {
    .open = open_image,
    .close = close_image,
    .pread = image_pread,
    .pwrite = image_pwrite,
    .zero = image_zero,
    .trim = image_trim,
    .flush = image_flush,
    .cache = image_cache,
    .extents = image_extents,
    .resize = image_resize,
    .identity = image_identity,
    .free = free_image,
};

struct backend *backup_image_new(struct model *m, unsigned disk)
{
    struct backup_image *b = g_new0(struct backup_image, 1);

    b->backend = (struct backend){.ops = &image_ops, .driver = "model", .filename = ""};
    b->m = m;
    b->disk = disk;
    return &b->backend;
}
