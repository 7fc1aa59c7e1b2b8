/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Design
 *
 * A place holds one decompressed cluster, known by where it is compressed in the file. Who wants a
 * cluster that is in no place takes the place that was used longest ago by nobody who still uses
 * it, says that it is being filled, and fills it without the lock; who wants the same meanwhile
 * waits. A place is not taken from who copies out of it (`users`). Where all places are in use, a
 * cluster is decompressed into memory of its own.
 *
 * A cluster that fails is not kept: who waited for it tries for himself, and fails likewise.
 */
#include "common/live/live-compressed.h"

#include "common/qcow2/q2-codec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PLACES_MAX 32
#define MEMORY_MAX ((size_t)16 << 20)

/* What one thread decompresses with. */
struct context {
    struct context *next;
    struct q2_codec *codec;
    uint8_t *from; /* compressed */
    size_t room;
};

struct place {
    uint64_t host;
    uint8_t *cluster; /* NULL: never used */
    enum { EMPTY, FILLING, FULL } state;
    unsigned users; /* who fill it, or copy out of it */
    uint64_t used;  /* when, by the count of uses */
};

struct live_compressed {
    pthread_mutex_t lock;
    pthread_cond_t filled; /* a place is FILLING no more */
    uint64_t uses;
    unsigned n;
    struct place places[PLACES_MAX];
    struct context *contexts; /* that nobody uses */
};

int live_compressed_init(struct live_layer *l)
{
    struct live_compressed *c = calloc(1, sizeof(*c));
    uint64_t n = MEMORY_MAX / l->cluster;

    if (!c)
        return -ENOMEM;
    c->n = n < 1 ? 1 : n > PLACES_MAX ? PLACES_MAX : (unsigned)n;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->filled, NULL);
    l->compressed = c;
    return 0;
}

static void free_context(struct context *x)
{
    q2_codec_free(x->codec);
    free(x->from);
    free(x);
}

void live_compressed_clear(struct live_layer *l)
{
    struct live_compressed *c = l->compressed;

    if (!c)
        return;
    l->compressed = NULL;
    for (struct context *x = c->contexts, *next; x; x = next) {
        next = x->next;
        free_context(x);
    }
    for (unsigned i = 0; i < c->n; i++)
        free(c->places[i].cluster);
    pthread_cond_destroy(&c->filled);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- decompressing ---- */

static struct context *take_context(struct live_compressed *c)
{
    struct context *x;
    struct q2_error err;

    pthread_mutex_lock(&c->lock);
    x = c->contexts;
    if (x)
        c->contexts = x->next;
    pthread_mutex_unlock(&c->lock);
    if (x)
        return x;
    x = calloc(1, sizeof(*x));
    if (x && !(x->codec = q2_codec_new(&err))) {
        free(x);
        x = NULL;
    }
    return x;
}

static void put_context(struct live_compressed *c, struct context *x)
{
    pthread_mutex_lock(&c->lock);
    x->next = c->contexts;
    c->contexts = x;
    pthread_mutex_unlock(&c->lock);
}

static int read_compressed(struct live_layer *l, struct context *x, uint64_t host, size_t bytes)
{
    if (x->room < bytes) {
        free(x->from);
        x->from = malloc(bytes);
        x->room = x->from ? bytes : 0;
        if (!x->from)
            return -ENOMEM;
    }
    return live_file_pread(&l->file, x->from, bytes, host);
}

static int decompress(struct live_layer *l, uint64_t host, uint32_t bytes, void *to,
                      const char **why)
{
    uint64_t size = atomic_load(&l->file.size);
    struct context *x;
    struct q2_error err;
    int error;

    if (host >= size) {
        *why = "its compressed data lie behind the end of the file";
        return -EIO;
    }
    /* The last sector of a file may be there in part. */
    if (bytes > size - host)
        bytes = (uint32_t)(size - host);
    x = take_context(l->compressed);
    if (!x)
        return -ENOMEM;
    error = read_compressed(l, x, host, bytes);
    if (error == 0 && q2_decompress(x->codec, l->opened->header.compression, x->from, bytes, to,
                                    (size_t)l->cluster, &err) < 0) {
        *why = "its compressed data are damaged";
        error = -EIO;
    }
    put_context(l->compressed, x);
    return error;
}

/* ---- the places; all under the lock, which is given back while a place is filled ---- */

static struct place *find_place(struct live_compressed *c, uint64_t host)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->places[i].state != EMPTY && c->places[i].host == host)
            return &c->places[i];
    return NULL;
}

/* The place that is best given to another cluster; NULL: all are in use. */
static struct place *oldest_place(struct live_compressed *c)
{
    struct place *oldest = NULL;

    for (unsigned i = 0; i < c->n; i++) {
        struct place *p = &c->places[i];

        if (p->users == 0 && (!oldest || p->used < oldest->used))
            oldest = p;
    }
    return oldest;
}

static int fill(struct live_layer *l, struct place *p, uint64_t host, uint32_t bytes,
                const char **why)
{
    struct live_compressed *c = l->compressed;
    int error = 0;

    p->host = host;
    p->state = FILLING;
    pthread_mutex_unlock(&c->lock);
    if (!p->cluster)
        p->cluster = malloc((size_t)l->cluster);
    error = p->cluster ? decompress(l, host, bytes, p->cluster, why) : -ENOMEM;
    pthread_mutex_lock(&c->lock);
    p->state = error < 0 ? EMPTY : FULL;
    pthread_cond_broadcast(&c->filled);
    return error;
}

/* Have the cluster in a place, which is in use until the caller says that it is not. 0; 1: there
 * is none for it; or a negative errno. */
static int have(struct live_layer *l, uint64_t host, uint32_t bytes, struct place **place,
                const char **why)
{
    struct live_compressed *c = l->compressed;
    struct place *p;
    int error = 0;

    while ((p = find_place(c, host)) && p->state == FILLING)
        pthread_cond_wait(&c->filled, &c->lock);
    if (!p && !(p = oldest_place(c)))
        return 1;
    p->users++;
    p->used = ++c->uses;
    if (p->state == EMPTY || p->host != host)
        error = fill(l, p, host, bytes, why);
    if (error < 0)
        p->users--;
    *place = p;
    return error;
}

static int read_apart(struct live_layer *l, uint64_t host, uint32_t bytes, void *buffer,
                      size_t within, size_t length, const char **why)
{
    uint8_t *cluster = malloc((size_t)l->cluster);
    int error = cluster ? decompress(l, host, bytes, cluster, why) : -ENOMEM;

    if (error == 0)
        memcpy(buffer, cluster + within, length);
    free(cluster);
    return error;
}

int live_compressed_read(struct live_layer *l, uint64_t host, uint32_t bytes, void *buffer,
                         size_t within, size_t length, const char **why)
{
    struct live_compressed *c = l->compressed;
    struct place *p;
    int error;

    pthread_mutex_lock(&c->lock);
    error = have(l, host, bytes, &p, why);
    pthread_mutex_unlock(&c->lock);
    if (error == 1)
        return read_apart(l, host, bytes, buffer, within, length, why);
    if (error < 0)
        return error;
    memcpy(buffer, p->cluster + within, length);
    pthread_mutex_lock(&c->lock);
    p->users--;
    pthread_mutex_unlock(&c->lock);
    return 0;
}
