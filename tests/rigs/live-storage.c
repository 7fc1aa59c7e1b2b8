/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-storage.h"

#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    dev_t dev;
    ino_t ino;
    struct live_content base, cached; /* as it was added; as it is now */
};

static struct {
    pthread_mutex_t lock;
    struct file files[LIVE_STORAGE_FILES];
    unsigned n_files;
    GArray *events;
    struct live_fault fault;
    unsigned count;
    bool failed;
} storage = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- files ---- */

void live_storage_begin(void)
{
    g_assert_null(storage.events);
    storage.events = g_array_new(FALSE, FALSE, sizeof(struct live_event));
    live_storage_fault(NULL);
}

void live_storage_forget(void)
{
    for (unsigned i = 0; i < storage.events->len; i++)
        g_free(g_array_index(storage.events, struct live_event, i).bytes);
    g_array_set_size(storage.events, 0);
    storage.n_files = 0;
    live_crash_clear();
}

void live_storage_end(void)
{
    live_storage_forget();
    live_crash_end();
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++) {
        live_content_clear(&storage.files[i].base);
        live_content_clear(&storage.files[i].cached);
    }
    g_array_free(storage.events, TRUE);
    storage.events = NULL;
}

static void read_content(int fd, uint64_t size, struct live_content *c)
{
    g_autofree uint8_t *bytes = g_malloc(size + 1);

    c->filled = 0;
    c->size = size;
    g_assert_cmpint(pread_all(fd, bytes, size, 0), ==, 0);
    live_content_write(c, bytes, size, 0);
}

void live_storage_add(const char *path)
{
    struct file *file = &storage.files[storage.n_files++];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    g_assert_cmpuint(storage.n_files, <=, LIVE_STORAGE_FILES);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    read_content(fd, (uint64_t)st.st_size, &file->base);
    live_content_copy(&file->cached, &file->base);
    close(fd);
}

const struct live_content *live_storage_base(unsigned file)
{
    return file < storage.n_files ? &storage.files[file].base : NULL;
}

static struct file *find(const struct live_file *f)
{
    struct stat st;

    g_assert_cmpint(fstat(f->fd, &st), ==, 0);
    for (unsigned i = 0; i < storage.n_files; i++)
        if (storage.files[i].ino == st.st_ino && storage.files[i].dev == st.st_dev)
            return &storage.files[i];
    return NULL;
}

/* ---- the log ---- */

static struct live_event *new_event(const struct file *file, enum live_what what)
{
    struct live_event event = {.what = what, .file = (unsigned)(file - storage.files)};

    g_array_append_val(storage.events, event);
    return &g_array_index(storage.events, struct live_event, storage.events->len - 1);
}

/* A write, or zeroes (NULL): in the page cache, and in the log. */
static struct live_event *log_write(struct file *file, enum live_what what, const void *bytes,
                                    size_t length, uint64_t offset)
{
    struct live_event *e = new_event(file, what);
    struct live_content *c = &file->cached;

    if (length > 0)
        live_content_write(c, bytes, length, offset);
    e->end = what == LIVE_ZERO_RANGE ? 0 : offset + length;
    e->grew = e->end > c->size;
    c->size = MAX(c->size, e->end);
    if (length == 0)
        return e;
    e->offset = offset & ~(uint64_t)(LIVE_STORAGE_SECTOR - 1);
    e->length = (size_t)((offset + length + LIVE_STORAGE_SECTOR - 1 - e->offset) &
                         ~(uint64_t)(LIVE_STORAGE_SECTOR - 1));
    if (bytes || e->offset != offset || e->length != length) {
        e->bytes = g_malloc(e->length);
        live_content_read(c, e->bytes, e->length, e->offset);
    }
    return e;
}

unsigned live_storage_length(void)
{
    unsigned length;

    pthread_mutex_lock(&storage.lock);
    length = storage.events->len;
    pthread_mutex_unlock(&storage.lock);
    return length;
}

const struct live_event *live_storage_event(unsigned i)
{
    return &g_array_index(storage.events, struct live_event, i);
}

static const char *name_of(const struct live_event *e)
{
    switch (e->what) {
    case LIVE_WRITE:
        return "write";
    case LIVE_DURABLE:
        return "durable write";
    case LIVE_SYNC:
        return "sync";
    case LIVE_EXTEND:
        return "extend";
    case LIVE_SHORTEN:
        return "shorten";
    default:
        return "zero";
    }
}

char *live_storage_describe(unsigned from, unsigned to)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = from; i < to; i++) {
        const struct live_event *e = live_storage_event(i);

        g_string_append_printf(s, "  %u: file %u: %s%s", i, e->file, name_of(e),
                               e->failed ? " FAILS" : "");
        if (e->length)
            g_string_append_printf(s, " 0x%" G_GINT64_MODIFIER "x+0x%zx", e->offset, e->length);
        if (e->end)
            g_string_append_printf(s, " end 0x%" G_GINT64_MODIFIER "x", e->end);
        g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}

/* ---- faults ---- */

void live_storage_fault(const struct live_fault *fault)
{
    static const struct live_fault none;

    pthread_mutex_lock(&storage.lock);
    storage.fault = fault ? *fault : none;
    storage.count = 0;
    storage.failed = false;
    pthread_mutex_unlock(&storage.lock);
}

unsigned live_storage_count(void)
{
    return storage.count;
}

bool live_storage_failed(void)
{
    return storage.failed;
}

/* What becomes of this operation: 0 or a negative errno. */
static int judge(enum live_what what)
{
    const struct live_fault *f = &storage.fault;
    unsigned number;

    if (!(f->kinds & what))
        return 0;
    number = storage.count++;
    if (!f->error || number < f->nth || (number > f->nth && !f->from_then_on))
        return 0;
    storage.failed = true;
    return -f->error;
}

/* ---- the operations ---- */

static int storage_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    int r;

    pthread_mutex_lock(&storage.lock);
    r = judge(LIVE_READ);
    pthread_mutex_unlock(&storage.lock);
    return r < 0 ? r : live_file_usual.pread(f, buffer, length, offset);
}

static int write_failing(struct live_file *f, struct file *file, const void *buffer, size_t length,
                         uint64_t offset, bool durable, int r)
{
    bool medium = durable && storage.fault.medium;
    uint64_t middle = (offset + length / 2) & ~(uint64_t)(LIVE_STORAGE_SECTOR - 1);
    size_t half = middle > offset ? (size_t)(middle - offset) : 0;
    size_t done = medium ? length : storage.fault.half ? half : 0;

    if (done) {
        g_assert_cmpint(live_file_usual.pwrite(f, buffer, done, offset, false), ==, 0);
        log_write(file, LIVE_WRITE, buffer, done, offset)->failed = true;
    }
    return medium ? live_file_sync_failed(f, r) : r;
}

static int storage_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                          bool durable)
{
    enum live_what what = durable ? LIVE_DURABLE : LIVE_WRITE;
    struct file *file;
    int r;

    pthread_mutex_lock(&storage.lock);
    file = find(f);
    g_assert_nonnull(file);
    r = judge(what);
    if (r < 0)
        r = write_failing(f, file, buffer, length, offset, durable, r);
    else if ((r = live_file_usual.pwrite(f, buffer, length, offset, false)) == 0)
        log_write(file, what, buffer, length, offset)->durable = durable;
    pthread_mutex_unlock(&storage.lock);
    return r;
}

static int storage_sync(struct live_file *f)
{
    struct file *file;
    int r;

    pthread_mutex_lock(&storage.lock);
    file = find(f);
    g_assert_nonnull(file);
    r = judge(LIVE_SYNC);
    new_event(file, LIVE_SYNC)->failed = r < 0;
    pthread_mutex_unlock(&storage.lock);
    /* Others go on meanwhile, with what this sync does not save. */
    for (unsigned i = 0; i < 10; i++)
        sched_yield();
    return r < 0 ? live_file_sync_failed(f, r) : 0;
}

static int extend_failing(struct live_file *f, struct file *file, uint64_t size, int r)
{
    struct live_event *e;

    if (!storage.fault.medium && !storage.fault.half)
        return r;
    g_assert_cmpint(live_file_usual.extend(f, size), ==, 0);
    e = log_write(file, LIVE_EXTEND, NULL, 0, size);
    e->failed = true;
    return storage.fault.medium ? live_file_sync_failed(f, r) : r;
}

static int storage_extend(struct live_file *f, uint64_t size)
{
    struct file *file;
    int r;

    pthread_mutex_lock(&storage.lock);
    file = find(f);
    g_assert_nonnull(file);
    r = judge(LIVE_EXTEND);
    if (r < 0)
        r = extend_failing(f, file, size, r);
    else if ((r = live_file_usual.extend(f, size)) == 0)
        log_write(file, LIVE_EXTEND, NULL, 0, size)->durable = true;
    pthread_mutex_unlock(&storage.lock);
    return r;
}

static int storage_shorten(struct live_file *f, uint64_t size)
{
    struct file *file;
    int r;

    pthread_mutex_lock(&storage.lock);
    file = find(f);
    g_assert_nonnull(file);
    r = judge(LIVE_SHORTEN);
    if (r == 0 && (r = live_file_usual.shorten(f, size)) == 0) {
        live_content_resize(&file->cached, size);
        new_event(file, LIVE_SHORTEN)->end = size;
    }
    pthread_mutex_unlock(&storage.lock);
    return r;
}

static int storage_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    struct file *file;
    int r;

    pthread_mutex_lock(&storage.lock);
    file = find(f);
    g_assert_nonnull(file);
    g_assert_cmpuint(offset + length, <=, file->cached.size);
    r = judge(LIVE_ZERO_RANGE);
    if (r == 0 && (r = live_file_usual.zero(f, length, offset, hole)) == 0)
        log_write(file, LIVE_ZERO_RANGE, NULL, (size_t)length, offset);
    pthread_mutex_unlock(&storage.lock);
    return r;
}

const struct live_file_ops live_storage_ops = {
    .pread = storage_pread,
    .pwrite = storage_pwrite,
    .sync = storage_sync,
    .extend = storage_extend,
    .shorten = storage_shorten,
    .zero = storage_zero,
};
