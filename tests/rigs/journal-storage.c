/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/journal-storage.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define SECTOR 512u

struct content {
    GByteArray *bytes, *durable;
    GHashTable *dirty; /* numbers of sectors that are not durable */
    unsigned refs;
};

struct memory {
    struct storage base;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    GHashTable *names, *durable_names; /* of contents */
    int times[MEMORY_OPS], error[MEMORY_OPS];
    unsigned count[MEMORY_OPS], held;
    bool hold[MEMORY_OPS];
};

struct memory_file {
    struct storage_file base;
    struct content *content;
};

static struct content *content_ref(struct content *c)
{
    c->refs++;
    return c;
}

static void content_unref(void *opaque)
{
    struct content *c = opaque;

    if (--c->refs > 0)
        return;
    g_byte_array_free(c->bytes, TRUE);
    g_byte_array_free(c->durable, TRUE);
    g_hash_table_destroy(c->dirty);
    g_free(c);
}

static struct content *content_new(void)
{
    struct content *c = g_new(struct content, 1);

    *c = (struct content){g_byte_array_new(), g_byte_array_new(), g_hash_table_new(NULL, NULL), 1};
    return c;
}

/* Locks; unlock in any case. */
static int begin(struct memory *m, enum memory_op op)
{
    pthread_mutex_lock(&m->lock);
    m->count[op]++;
    m->held += m->hold[op];
    pthread_cond_broadcast(&m->changed);
    if (m->hold[op]) {
        while (m->hold[op])
            pthread_cond_wait(&m->changed, &m->lock);
        m->held--;
    }
    if (m->times[op] == 0)
        return 0;
    m->times[op] -= m->times[op] > 0;
    return m->error[op];
}

static int end(struct memory *m, int r)
{
    pthread_mutex_unlock(&m->lock);
    return r;
}

static struct memory *of(struct storage_file *f)
{
    return (struct memory *)f->storage;
}

static struct content *content(struct storage_file *f)
{
    return ((struct memory_file *)f)->content;
}

static int memory_open(struct storage *s, const char *name, bool create, struct storage_file **file)
{
    struct memory *m = (struct memory *)s;
    int r = begin(m, MEMORY_OPEN);
    struct content *c = g_hash_table_lookup(m->names, name);
    struct memory_file *f;

    if (r == 0 && create && c)
        r = -EEXIST;
    else if (r == 0 && !create && !c)
        r = -ENOENT;
    if (r < 0)
        return end(m, r);
    if (!c) {
        c = content_new();
        g_hash_table_insert(m->names, g_strdup(name), c);
    }
    f = g_new(struct memory_file, 1);
    *f = (struct memory_file){{s, g_strdup(name)}, content_ref(c)};
    *file = &f->base;
    return end(m, 0);
}

static void memory_close(struct storage_file *f)
{
    struct memory *m = of(f);

    pthread_mutex_lock(&m->lock);
    content_unref(content(f));
    pthread_mutex_unlock(&m->lock);
    g_free(f->name);
    g_free(f);
}

static int memory_size(struct storage_file *f, uint64_t *bytes)
{
    pthread_mutex_lock(&of(f)->lock);
    *bytes = content(f)->bytes->len;
    return end(of(f), 0);
}

static int memory_read_file(struct storage_file *f, void *buf, size_t length, uint64_t offset)
{
    struct content *c = content(f);
    int r = 0;

    pthread_mutex_lock(&of(f)->lock);
    if (offset + length > c->bytes->len)
        r = -ENODATA;
    else
        memcpy(buf, c->bytes->data + offset, length);
    return end(of(f), r);
}

static void grow(GByteArray *bytes, uint64_t size)
{
    guint old = bytes->len;

    if (size <= old)
        return;
    g_byte_array_set_size(bytes, (guint)size);
    memset(bytes->data + old, 0, (guint)size - old);
}

static int memory_write(struct storage_file *f, const void *buf, size_t length, uint64_t offset)
{
    struct content *c = content(f);
    int r = begin(of(f), MEMORY_WRITE);

    if (r < 0)
        length = length / SECTOR / 2 * SECTOR; /* some of it is written */
    grow(c->bytes, offset + length);
    memcpy(c->bytes->data + offset, buf, length);
    for (uint64_t i = offset / SECTOR; i < (offset + length + SECTOR - 1) / SECTOR; i++)
        g_hash_table_add(c->dirty, GUINT_TO_POINTER((guint)i));
    return end(of(f), r);
}

static int memory_reserve(struct storage_file *f, uint64_t size)
{
    pthread_mutex_lock(&of(f)->lock);
    grow(content(f)->bytes, size);
    return end(of(f), 0);
}

static void make_durable(struct content *c)
{
    GHashTableIter i;
    void *key;

    grow(c->durable, c->bytes->len);
    g_hash_table_iter_init(&i, c->dirty);
    while (g_hash_table_iter_next(&i, &key, NULL)) {
        size_t at = (size_t)GPOINTER_TO_UINT(key) * SECTOR;

        memcpy(c->durable->data + at, c->bytes->data + at, MIN(SECTOR, c->bytes->len - at));
    }
    g_hash_table_remove_all(c->dirty);
}

static int memory_sync(struct storage_file *f)
{
    struct content *c = content(f);
    int r = begin(of(f), MEMORY_SYNC);

    if (r == 0)
        make_durable(c);
    return end(of(f), r);
}

static int memory_unlink(struct storage *s, const char *name)
{
    struct memory *m = (struct memory *)s;

    pthread_mutex_lock(&m->lock);
    return end(m, g_hash_table_remove(m->names, name) ? 0 : -ENOENT);
}

static int memory_rename(struct storage *s, const char *from, const char *to)
{
    struct memory *m = (struct memory *)s;
    int r = begin(m, MEMORY_RENAME);
    struct content *c = g_hash_table_lookup(m->names, from);

    if (r == 0 && !c)
        r = -ENOENT;
    if (r == 0) {
        g_hash_table_insert(m->names, g_strdup(to), content_ref(c));
        g_hash_table_remove(m->names, from);
    }
    return end(m, r);
}

static int memory_sync_names(struct storage *s, const char *folder)
{
    struct memory *m = (struct memory *)s;
    int r = begin(m, MEMORY_SYNC_NAMES);
    GHashTableIter i;
    void *name, *c;

    (void)folder;
    if (r < 0)
        return end(m, r);
    g_hash_table_remove_all(m->durable_names);
    g_hash_table_iter_init(&i, m->names);
    while (g_hash_table_iter_next(&i, &name, &c))
        g_hash_table_insert(m->durable_names, g_strdup(name), content_ref(c));
    return end(m, 0);
}

static void memory_free(struct storage *s)
{
    struct memory *m = (struct memory *)s;

    g_hash_table_destroy(m->names);
    g_hash_table_destroy(m->durable_names);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    g_free(s->path);
    g_free(m);
}

static const struct storage_ops memory_ops = {
    .open = memory_open,
    .close = memory_close,
    .size = memory_size,
    .read = memory_read_file,
    .write = memory_write,
    .reserve = memory_reserve,
    .sync = memory_sync,
    .unlink = memory_unlink,
    .rename = memory_rename,
    .sync_names = memory_sync_names,
    .free = memory_free,
};

struct storage *memory_storage_new(void)
{
    struct memory *m = g_new0(struct memory, 1);

    m->base = (struct storage){.ops = &memory_ops, .path = g_strdup("MEMORY")};
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, content_unref);
    m->durable_names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, content_unref);
    return &m->base;
}

void memory_fail(struct storage *s, enum memory_op op, int times, int error)
{
    struct memory *m = (struct memory *)s;

    pthread_mutex_lock(&m->lock);
    m->times[op] = times;
    m->error[op] = error;
    pthread_mutex_unlock(&m->lock);
}

void memory_hold(struct storage *s, enum memory_op op)
{
    struct memory *m = (struct memory *)s;

    pthread_mutex_lock(&m->lock);
    m->hold[op] = true;
    pthread_mutex_unlock(&m->lock);
}

void memory_release(struct storage *s)
{
    struct memory *m = (struct memory *)s;

    pthread_mutex_lock(&m->lock);
    memset(m->hold, 0, sizeof m->hold);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

void memory_wait_held(struct storage *s)
{
    struct memory *m = (struct memory *)s;

    pthread_mutex_lock(&m->lock);
    while (m->held == 0)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

unsigned memory_count(struct storage *s, enum memory_op op)
{
    struct memory *m = (struct memory *)s;
    unsigned n;

    pthread_mutex_lock(&m->lock);
    n = m->count[op];
    pthread_mutex_unlock(&m->lock);
    return n;
}

uint8_t *memory_read(struct storage *s, const char *name, size_t *length)
{
    struct memory *m = (struct memory *)s;
    uint8_t *bytes = NULL;
    struct content *c;

    pthread_mutex_lock(&m->lock);
    c = g_hash_table_lookup(m->names, name);
    if (c) {
        bytes = g_memdup2(c->bytes->data, c->bytes->len);
        *length = c->bytes->len;
    }
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

uint8_t *memory_crash(struct storage *s, const char *name, GRand *rand, size_t *length)
{
    struct memory *m = (struct memory *)s;
    uint8_t *bytes = NULL;
    struct content *c;
    GHashTableIter i;
    void *key;

    pthread_mutex_lock(&m->lock);
    c = g_hash_table_lookup(g_rand_boolean(rand) ? m->names : m->durable_names, name);
    if (!c || c->durable->len == 0) {
        pthread_mutex_unlock(&m->lock);
        return NULL;
    }
    bytes = g_memdup2(c->durable->data, c->durable->len);
    *length = c->durable->len;
    g_hash_table_iter_init(&i, c->dirty);
    while (g_hash_table_iter_next(&i, &key, NULL)) {
        size_t at = (size_t)GPOINTER_TO_UINT(key) * SECTOR;

        if (at + SECTOR <= *length && g_rand_boolean(rand))
            memcpy(bytes + at, c->bytes->data + at, SECTOR);
    }
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

void memory_put(struct storage *s, const char *name, const uint8_t *bytes, size_t length)
{
    struct memory *m = (struct memory *)s;
    struct content *c = content_new();

    g_byte_array_append(c->bytes, bytes, (guint)length);
    g_byte_array_append(c->durable, bytes, (guint)length);
    pthread_mutex_lock(&m->lock);
    g_hash_table_insert(m->names, g_strdup(name), c);
    g_hash_table_insert(m->durable_names, g_strdup(name), content_ref(c));
    pthread_mutex_unlock(&m->lock);
}
