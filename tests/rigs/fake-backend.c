/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/fake-backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct fake_backend {
    struct backend backend;
    uint64_t size;
    char *data;
    bool *written; /* a sector each */
    pthread_mutex_t lock;
    fake_hook hook;
    void *opaque;
    uint32_t min_block;
    bool multi_conn;
    uint32_t hole_flags;
    uint64_t most_extents;
    atomic_uint calls[FAKE_RESIZE + 1];
    atomic_uint fua_calls;
    _Atomic uint64_t bytes_read;
    atomic_uint flags;
    bool no_extents;
    bool shared; /* `data` and `written` are the test's */
    int fd;      /* of handles; -1: none */
    fake_map map;
};

static struct fake_backend *fake(struct backend_handle *h)
{
    return (struct fake_backend *)h->backend;
}

static int begin(struct backend_handle *h, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct fake_backend *f = fake(h);
    uint64_t size;

    pthread_mutex_lock(&f->lock);
    size = f->size;
    pthread_mutex_unlock(&f->lock);
    /* What backend.h promises a backend. */
    g_assert(call == FAKE_RESIZE || (offset <= size && length <= size - offset));
    g_assert(offset % f->min_block == 0);
    g_assert(length % f->min_block == 0 || offset + length == size);
    atomic_fetch_add(&f->calls[call], 1);
    return f->hook ? f->hook(f->opaque, call, offset, length) : 0;
}

static int fake_open(struct backend *b, bool readonly, const struct backend_client *client,
                     struct backend_handle **handle, GError **err)
{
    struct fake_backend *f = (struct fake_backend *)b;
    struct backend_handle *h = g_new0(struct backend_handle, 1);
    uint64_t size;

    pthread_mutex_lock(&f->lock);
    size = f->size;
    pthread_mutex_unlock(&f->lock);
    *h = (struct backend_handle){
        .backend = b,
        .size = size,
        .min_block = f->min_block,
        .pref_block = 4096,
        .max_block = 32u << 20,
        .can_write = !readonly,
        .can_flush = true,
        .can_trim = true,
        .can_zero = true,
        .can_fua = true,
        .can_extents = !f->no_extents,
        .can_multi_conn = f->multi_conn,
        .fd = f->fd,
        .map = f->map,
    };
    *handle = h;
    return 0;
}

static void fake_close(struct backend_handle *h)
{
    g_free(h);
}

/* Up to the end of the sector that holds `offset`. */
static uint64_t piece(uint64_t offset, uint64_t length)
{
    return MIN(length, FAKE_SECTOR - offset % FAKE_SECTOR);
}

static int fake_pread(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    struct fake_backend *f = fake(h);
    char *p = buf;
    int error = begin(h, FAKE_READ, offset, length);

    if (error < 0)
        return error;
    atomic_fetch_add(&f->bytes_read, length);
    for (uint64_t n; length > 0; p += n, offset += n, length -= (uint32_t)n) {
        n = piece(offset, length);
        pthread_mutex_lock(&f->lock);
        memcpy(p, f->data + offset, n);
        pthread_mutex_unlock(&f->lock);
    }
    return 0;
}

static void change(struct fake_backend *f, const char *data, uint64_t length, uint64_t offset,
                   bool written)
{
    for (uint64_t n; length > 0; offset += n, length -= n) {
        n = piece(offset, length);
        pthread_mutex_lock(&f->lock);
        if (data)
            memcpy(f->data + offset, data, n);
        else
            memset(f->data + offset, 0, n);
        if (written || n == FAKE_SECTOR)
            f->written[offset / FAKE_SECTOR] = written;
        pthread_mutex_unlock(&f->lock);
        data = data ? data + n : NULL;
    }
}

static int fake_pwrite(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset,
                       uint32_t flags)
{
    int error = begin(h, FAKE_WRITE, offset, length);

    atomic_store(&fake(h)->flags, flags);
    atomic_fetch_add(&fake(h)->fua_calls, (flags & BACKEND_FUA) != 0);
    if (error == 0)
        change(fake(h), buf, length, offset, true);
    return error;
}

static int fake_zero(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    int error = begin(h, FAKE_ZERO, offset, length);

    atomic_store(&fake(h)->flags, flags);
    atomic_fetch_add(&fake(h)->fua_calls, (flags & BACKEND_FUA) != 0);
    if (error == 0)
        change(fake(h), NULL, length, offset, !(flags & BACKEND_MAY_TRIM));
    return error;
}

static int fake_trim(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    int error = begin(h, FAKE_TRIM, offset, length);

    atomic_store(&fake(h)->flags, flags);
    if (error == 0)
        change(fake(h), NULL, length, offset, false);
    return error;
}

static int fake_flush(struct backend_handle *h)
{
    return begin(h, FAKE_FLUSH, 0, 0);
}

static int fake_cache(struct backend_handle *h, uint64_t length, uint64_t offset)
{
    return 0;
}

static int fake_extents(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                        struct extents *extents)
{
    struct fake_backend *f = fake(h);
    int error = begin(h, FAKE_EXTENTS, offset, length);

    length = MIN(length, f->most_extents);
    for (uint64_t n; error == 0 && length > 0; offset += n, length -= n) {
        bool written;

        n = piece(offset, length);
        pthread_mutex_lock(&f->lock);
        written = f->written[offset / FAKE_SECTOR];
        pthread_mutex_unlock(&f->lock);
        error = extents_add(extents, n, written ? 0 : f->hole_flags);
    }
    return error == -ENOSPC ? 0 : error;
}

static int fake_resize(struct backend_handle *h, uint64_t size, GError **err)
{
    struct fake_backend *f = fake(h);

    if (begin(h, FAKE_RESIZE, size, 0) < 0) {
        g_set_error(err, g_quark_from_static_string("fake"), 0, "disk vda: resize refused");
        return -1;
    }
    pthread_mutex_lock(&f->lock);
    f->data = g_realloc(f->data, size);
    f->written = g_renew(bool, f->written, size / FAKE_SECTOR + 1);
    if (size > f->size) {
        memset(f->data + f->size, 0, size - f->size);
        /* The last sector may be used in part. */
        memset(f->written + (f->size + FAKE_SECTOR - 1) / FAKE_SECTOR, 0,
               size / FAKE_SECTOR + 1 - (f->size + FAKE_SECTOR - 1) / FAKE_SECTOR);
    }
    f->size = size;
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static void fake_free(struct backend *b)
{
    struct fake_backend *f = (struct fake_backend *)b;

    pthread_mutex_destroy(&f->lock);
    if (!f->shared) {
        g_free(f->data);
        g_free(f->written);
    }
    g_free((char *)b->driver);
    g_free((char *)b->filename);
    g_free(f);
}

static const struct backend_ops fake_ops = {
    .open = fake_open,
    .close = fake_close,
    .pread = fake_pread,
    .pwrite = fake_pwrite,
    .zero = fake_zero,
    .trim = fake_trim,
    .flush = fake_flush,
    .cache = fake_cache,
    .extents = fake_extents,
    .resize = fake_resize,
    .free = fake_free,
};

struct backend *fake_backend_new(uint64_t size)
{
    struct fake_backend *f = g_new0(struct fake_backend, 1);

    f->backend =
        (struct backend){.ops = &fake_ops, .driver = g_strdup("fake"), .filename = g_strdup("")};
    f->size = size;
    f->min_block = 1;
    f->fd = -1;
    f->hole_flags = EXTENT_HOLE | EXTENT_ZERO;
    f->most_extents = UINT64_MAX;
    f->data = g_malloc0(size);
    f->written = g_new0(bool, size / FAKE_SECTOR + 1);
    pthread_mutex_init(&f->lock, NULL);
    return &f->backend;
}

struct backend *fake_backend_new_over(uint64_t size, char *data, bool *written)
{
    struct fake_backend *f = (struct fake_backend *)fake_backend_new(size);

    g_free(f->data);
    g_free(f->written);
    f->data = data;
    f->written = written;
    f->shared = true;
    return &f->backend;
}

void fake_backend_set_hook(struct backend *b, fake_hook hook, void *opaque)
{
    ((struct fake_backend *)b)->hook = hook;
    ((struct fake_backend *)b)->opaque = opaque;
}

static int fail_call(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    const struct fake_failure *f = opaque;

    return call == f->call && offset >= f->offset ? f->error : 0;
}

void fake_backend_fail(struct backend *b, struct fake_failure *f)
{
    fake_backend_set_hook(b, fail_call, f);
}

void fake_backend_set_min_block(struct backend *b, uint32_t min_block)
{
    ((struct fake_backend *)b)->min_block = min_block;
}

void fake_backend_set_multi_conn(struct backend *b, bool can)
{
    ((struct fake_backend *)b)->multi_conn = can;
}

void fake_backend_set_fd(struct backend *b, int fd)
{
    ((struct fake_backend *)b)->fd = fd;
}

void fake_backend_set_map(struct backend *b, fake_map map)
{
    ((struct fake_backend *)b)->map = map;
}

void fake_backend_set_holes(struct backend *b, uint32_t flags, char byte)
{
    struct fake_backend *f = (struct fake_backend *)b;

    f->hole_flags = flags;
    memset(f->data, byte, f->size);
}

void fake_backend_set_most_extents(struct backend *b, uint64_t length)
{
    ((struct fake_backend *)b)->most_extents = length;
}

void fake_backend_peek(struct backend *b, void *buf, uint64_t length, uint64_t offset)
{
    struct fake_backend *f = (struct fake_backend *)b;

    pthread_mutex_lock(&f->lock);
    memcpy(buf, f->data + offset, length);
    pthread_mutex_unlock(&f->lock);
}

unsigned fake_backend_calls(struct backend *b, enum fake_call call)
{
    return atomic_load(&((struct fake_backend *)b)->calls[call]);
}

uint32_t fake_backend_last_flags(struct backend *b)
{
    return atomic_load(&((struct fake_backend *)b)->flags);
}

void fake_backend_set_no_extents(struct backend *b)
{
    ((struct fake_backend *)b)->no_extents = true;
}

unsigned fake_backend_fua_calls(struct backend *b)
{
    return atomic_load(&((struct fake_backend *)b)->fua_calls);
}

uint64_t fake_backend_bytes_read(struct backend *b)
{
    return atomic_load(&((struct fake_backend *)b)->bytes_read);
}

uint64_t fake_backend_size(struct backend *b)
{
    struct fake_backend *f = (struct fake_backend *)b;
    uint64_t size;

    pthread_mutex_lock(&f->lock);
    size = f->size;
    pthread_mutex_unlock(&f->lock);
    return size;
}
