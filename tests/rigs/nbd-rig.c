/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/nbd-rig.h"

#include "server/nbd/serve.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>

unsigned open_descriptors(void)
{
    unsigned n = 0;
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir) != NULL)
        n++;
    return n - 1; /* the folder's own */
}

void rig_begin(struct rig *r, const struct nbd_options *options)
{
    static const struct nbd_options usual = {
        .handshake_timeout = 60, .max_connections = 100, .threads = 16, .mask_handshake = 0xffff};
    static const struct node_info info = {.size = 64 << 20,
                                          .can_trim = true,
                                          .can_flush = true,
                                          .can_fua = true,
                                          .can_fast_zero = true,
                                          .can_cache = true,
                                          .can_multi_conn = true};

    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->registry = fake_new();
    r->disk = fake_add(r->registry, "disk", &info);
    r->descriptors = open_descriptors();
    r->nbd = nbd_server_new(r->registry, options ? options : &usual);
}

static void note_ended(void *rig)
{
    struct rig *r = rig;

    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* Locked. */
static void wait_ended_within(struct rig *r, unsigned ms)
{
    int64_t until = g_get_real_time() + ms * INT64_C(1000);
    struct timespec t = {.tv_sec = until / G_USEC_PER_SEC,
                         .tv_nsec = until % G_USEC_PER_SEC * 1000};

    while (!r->ended && pthread_cond_timedwait(&r->changed, &r->lock, &t) == 0)
        ;
}

void rig_end_nbd(struct rig *r, unsigned grace_ms)
{
    nbd_server_stop(r->nbd, note_ended, r);
    pthread_mutex_lock(&r->lock);
    wait_ended_within(r, grace_ms);
    pthread_mutex_unlock(&r->lock);
    nbd_server_cut(r->nbd);
    pthread_mutex_lock(&r->lock);
    while (!r->ended)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    nbd_server_free(r->nbd);
    r->nbd = NULL;
}

void rig_end(struct rig *r)
{
    if (r->nbd != NULL)
        rig_end_nbd(r, 0);
    g_assert_cmpuint(open_descriptors(), ==, r->descriptors);
    fake_free(r->registry);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

void rig_note_gone(void *rig)
{
    struct rig *r = rig;

    pthread_mutex_lock(&r->lock);
    r->gone++;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

struct client rig_connect(struct rig *r)
{
    g_autoptr(GError) err = NULL;
    int pair[2];

    serve_reap(r->nbd); /* there is no listener that would */
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    nbd_serve_stdio(r->nbd, pair[1], pair[1], rig_note_gone, r, &err);
    g_assert_no_error(err);
    return client_on(pair[0]);
}

struct client rig_go(struct rig *r, bool structured)
{
    struct client c = rig_connect(r);

    client_go(&c, "disk", structured, NULL, 0);
    return c;
}

unsigned rig_count_gone(struct rig *r)
{
    pthread_mutex_lock(&r->lock);
    unsigned gone = r->gone;
    pthread_mutex_unlock(&r->lock);
    return gone;
}

void rig_wait_gone(struct rig *r, unsigned n)
{
    pthread_mutex_lock(&r->lock);
    while (r->gone < n)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static unsigned count_posted(struct rig *r)
{
    unsigned posted = 0;

    pthread_mutex_lock(&r->nbd->clients.lock);
    for (GList *i = r->nbd->clients.list.head; i != NULL; i = i->next) {
        struct sender *s = &connection_of(i->data)->sender;
        pthread_mutex_lock(&s->lock);
        for (struct outgoing *p = s->first; p != NULL; p = p->next)
            posted++;
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_unlock(&r->nbd->clients.lock);
    return posted;
}

void rig_wait_posted(struct rig *r, unsigned n)
{
    while (count_posted(r) < n)
        g_thread_yield();
}

struct connection *rig_connection(struct rig *r, enum phase phase)
{
    struct connection *found = NULL;

    pthread_mutex_lock(&r->nbd->clients.lock);
    for (GList *i = r->nbd->clients.list.head; i != NULL; i = i->next) {
        struct connection *c = connection_of(i->data);
        if (c->client.phase == phase) {
            g_assert_null(found);
            found = c;
        }
    }
    pthread_mutex_unlock(&r->nbd->clients.lock);
    return found;
}

void fill_bytes(uint8_t *p, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        p[i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
}
