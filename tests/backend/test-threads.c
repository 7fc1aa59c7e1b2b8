/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Thread models, and what plugins may ask of the thread that they run in.
 *
 * A hook inside the callbacks watches. Where calls may run side by side, each waits in the hook for
 * the other; if the host kept them apart, this would never end, and an alarm would end the test.
 * Where they may not, one call is kept inside while the test looks whether the lock is held that
 * another call would take. Besides, four threads call everything, and none may ever find another
 * one inside.
 */
#include "tests/backend/harness.h"

#include "server/backend/plugin-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- side by side ---- */

static pthread_barrier_t meeting;

static void meet(const char *callback)
{
    pthread_barrier_wait(&meeting);
}

/* Each write goes somewhere else, so that the plugin is never asked to write one byte twice at
 * once. */
static void *write_once(void *handle)
{
    static atomic_uint next;
    struct backend_handle *h = handle;
    uint64_t offset = atomic_fetch_add(&next, 1);

    g_assert_cmpint(h->backend->ops->pwrite(h, "x", 1, offset, 0), ==, 0);
    return NULL;
}

static void assert_meet(struct backend_handle *a, struct backend_handle *b)
{
    pthread_t thread;

    pthread_barrier_init(&meeting, NULL, 2);
    harness_hook(a->backend, meet);
    pthread_create(&thread, NULL, write_once, b);
    write_once(a);
    pthread_join(thread, NULL);
    harness_hook(a->backend, NULL);
    pthread_barrier_destroy(&meeting);
}

/* ---- one after the other ---- */

static atomic_int inside, overlaps, calls;

static void watch(const char *callback)
{
    if (atomic_fetch_add(&inside, 1) > 0)
        atomic_fetch_add(&overlaps, 1);
    atomic_fetch_add(&calls, 1);
    sched_yield(); /* another thread may come in here; it is slow where processors are few */
    atomic_fetch_sub(&inside, 1);
}

static int call_pread(struct backend_handle *h)
{
    char buf[512];

    return h->backend->ops->pread(h, buf, sizeof buf, 0);
}

static int call_pwrite(struct backend_handle *h)
{
    static const char buf[512];

    return h->backend->ops->pwrite(h, buf, sizeof buf, 0, BACKEND_FUA);
}

static int call_zero(struct backend_handle *h)
{
    return h->backend->ops->zero(h, 512, 0, 0);
}

static int call_trim(struct backend_handle *h)
{
    return h->backend->ops->trim(h, 512, 0, 0);
}

static int call_flush(struct backend_handle *h)
{
    return h->backend->ops->flush(h);
}

static int call_extents(struct backend_handle *h)
{
    struct extents e = EXTENTS_INIT;
    int r = h->backend->ops->extents(h, 512, 0, 0, &e);

    extents_free(&e);
    return r;
}

static int (*const data_calls[])(struct backend_handle *h) = {
    call_pread, call_pwrite, call_zero, call_trim, call_flush, call_extents,
};

enum { ROUNDS = 20, CALLS = G_N_ELEMENTS(data_calls) };

struct caller {
    struct backend_handle *h;
    pthread_barrier_t *start;
};

static void *call_everything(void *opaque)
{
    struct caller *c = opaque;

    pthread_barrier_wait(c->start);
    for (int i = 0; i < ROUNDS * CALLS; i++)
        g_assert_cmpint(data_calls[i % CALLS](c->h), ==, 0);
    return NULL;
}

static void assert_apart(struct backend_handle *a, struct backend_handle *b)
{
    enum { N = 4 };
    pthread_t threads[N];
    pthread_barrier_t start;
    struct caller callers[2] = {{a, &start}, {b, &start}};

    atomic_store(&overlaps, 0);
    atomic_store(&calls, 0);
    pthread_barrier_init(&start, NULL, N);
    harness_hook(a->backend, watch);
    for (int i = 0; i < N; i++)
        pthread_create(&threads[i], NULL, call_everything, &callers[i % 2]);
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    harness_hook(a->backend, NULL);
    pthread_barrier_destroy(&start);
    g_assert_cmpint(atomic_load(&calls), ==, N * ROUNDS * CALLS);
    g_assert_cmpint(atomic_load(&overlaps), ==, 0);
}

/* ---- for certain: one thread is inside, and another one wants to come in ---- */

static pthread_barrier_t entered, may_leave;
static atomic_int in_hook;

static void dwell(const char *callback)
{
    if (atomic_fetch_add(&in_hook, 1) == 0) {
        pthread_barrier_wait(&entered);
        pthread_barrier_wait(&may_leave);
    }
}

struct held_call {
    struct backend_handle *h;
    int (*call)(struct backend_handle *h);
};

static void *call_once(void *opaque)
{
    struct held_call *c = opaque;

    g_assert_cmpint(c->call(c->h), ==, 0);
    return NULL;
}

static void assert_locked_by(struct held_call *c, pthread_mutex_t *lock, bool expected)
{
    pthread_t thread;

    atomic_store(&in_hook, 0);
    pthread_barrier_init(&entered, NULL, 2);
    pthread_barrier_init(&may_leave, NULL, 2);
    harness_hook(c->h->backend, dwell);
    pthread_create(&thread, NULL, call_once, c);
    pthread_barrier_wait(&entered);
    int r = pthread_mutex_trylock(lock);
    g_assert_cmpint(r, ==, expected ? EBUSY : 0);
    if (r == 0)
        pthread_mutex_unlock(lock);
    pthread_barrier_wait(&may_leave);
    pthread_join(thread, NULL);
    harness_hook(c->h->backend, NULL);
    pthread_barrier_destroy(&entered);
    pthread_barrier_destroy(&may_leave);
}

/* While any call on `a` is inside, the lock that a call on `b` takes is held. */
static void assert_locked(struct backend_handle *a, struct backend_handle *b, bool expected)
{
    struct plugin *p = plugin_of(a->backend);
    struct plugin_handle *h = (struct plugin_handle *)b;
    pthread_mutex_t *lock = p->thread_model <= NBDKIT_SERIALIZE_ALL_REQUESTS ? &p->lock : &h->lock;

    for (int i = 0; i < CALLS; i++)
        assert_locked_by(&(struct held_call){a, data_calls[i]}, lock, expected);
}

/* ---- the models ---- */

static void test_parallel(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "thread_model", "3", NULL);
    struct backend_handle *h = harness_open(b), *h2 = harness_open(b);
    assert_meet(h, h);
    assert_meet(h, h2);
    harness_close(h);
    harness_close(h2);
    harness_free(b);
}

static void test_serialize_requests(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "thread_model", "2", NULL);
    struct backend_handle *h = harness_open(b), *h2 = harness_open(b);
    assert_meet(h, h2);
    assert_apart(h, h);
    assert_locked(h, h, true);
    assert_locked(h, h2, false);
    harness_close(h);
    harness_close(h2);
    harness_free(b);
}

static void test_serialize_all_requests(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "thread_model", "1", NULL);
    struct backend_handle *h = harness_open(b), *h2 = harness_open(b);
    assert_apart(h, h2);
    assert_locked(h, h2, true);
    harness_close(h);
    harness_close(h2);
    harness_free(b);
}

static void test_serialize_connections(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "thread_model", "0", NULL);
    struct backend_handle *h = harness_open(b);
    assert_apart(h, h);
    assert_locked(h, h, true);
    /* One handle at a time; the next one when that is closed. */
    g_autofree char *error = harness_open_error(b, false);
    assert_contains(error, "one handle at a time");
    harness_close(h);
    harness_close(harness_open(b));
    harness_free(b);
}

/* Two disks with one plugin do not wait for each other, whatever their model. */
static void test_two_instances(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *a = harness_load("@v2", "thread_model", "0", NULL);
    struct backend *b = harness_load("@v2", "thread_model", "0", NULL);
    struct backend_handle *ha = harness_open(a), *hb = harness_open(b);
    harness_hook(b, meet);
    assert_meet(ha, hb);
    harness_close(ha);
    harness_close(hb);
    harness_free(a);
    harness_free(b);
}

/* ---- the client behind a call ---- */

static void test_client(void)
{
    int fds[2];
    char buf[512];

    if (!harness_have_plugins())
        return;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    struct backend *b = harness_load("@extras", NULL);
    struct backend_handle *own = harness_open(b), *h;
    struct backend_client client = {.export_name = "vda",
                                    .tls = true,
                                    .tls_dn = "CN=alice",
                                    .tls_issuer_dn = "CN=ca",
                                    .socket = fds[0]};
    g_assert_cmpint(b->ops->open(b, false, &client, &h, NULL), ==, 0);
    g_assert_cmpint(b->ops->pread(h, buf, 512, 0), ==, 0);
    g_autofree char *record = harness_probe(b);
    g_autofree char *expected =
        g_strdup_printf("uid=%u tls=1 dn=CN=alice issuer=CN=ca name=\n", getuid());
    g_assert_cmpstr(record, ==, expected);
    /* The server's own handle has no client to ask about. */
    harness_log_begin();
    g_assert_cmpint(b->ops->pread(own, buf, 512, 0), ==, 0);
    g_autofree char *log = harness_log_end();
    g_autofree char *second = harness_probe(b);
    g_assert_cmpstr(second, ==, "uid=-1 tls=0 dn= issuer= name=\n");
    assert_contains(log, "disk vda: extras: there is no client behind this call");
    /* A thread that works for a client, as those of connections do, has one on that handle, too. */
    backend_set_thread_client(&client);
    g_assert_cmpint(b->ops->pread(own, buf, 512, 0), ==, 0);
    backend_set_thread_client(NULL);
    g_autofree char *third = harness_probe(b);
    g_assert_cmpstr(third, ==, expected);
    harness_close(h);
    harness_close(own);
    harness_free(b);
    close(fds[0]);
    close(fds[1]);
}

/* ---- sleeping ---- */

static pthread_barrier_t asleep;

static void about_to_sleep(const char *callback)
{
    if (!strcmp(callback, "flush"))
        pthread_barrier_wait(&asleep);
}

static void *flush_fails(void *handle)
{
    struct backend_handle *h = handle;

    g_assert_cmpint(h->backend->ops->flush(h), ==, -ESHUTDOWN);
    return NULL;
}

/* An hour's sleep ends when the client goes, or the server. */
static void test_nanosleep(void)
{
    int fds[2];
    pthread_t thread;
    struct backend_handle *h, *own;

    if (!harness_have_plugins())
        return;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    pthread_barrier_init(&asleep, NULL, 2);
    struct backend *b = harness_load("@extras", NULL);
    struct backend_client client = {.export_name = "", .socket = fds[0]};
    own = harness_open(b);
    g_assert_cmpint(b->ops->open(b, false, &client, &h, NULL), ==, 0);
    harness_hook(b, about_to_sleep);

    harness_log_begin();
    pthread_create(&thread, NULL, flush_fails, h);
    pthread_barrier_wait(&asleep);
    close(fds[1]);
    pthread_join(thread, NULL);
    g_autofree char *log = harness_log_end();
    assert_contains(log, "the client has gone");

    /* A call that sleeps on the disk's handle may be needed by others than the client that has
     * gone. */
    struct backend *brief = harness_load("@extras", "hour", "1000", NULL);
    struct backend_handle *shared = harness_open(brief);
    backend_set_thread_client(&client);
    g_assert_cmpint(brief->ops->flush(shared), ==, 0);
    backend_set_thread_client(NULL);
    harness_close(shared);
    harness_free(brief);

    harness_log_begin();
    pthread_create(&thread, NULL, flush_fails, own);
    pthread_barrier_wait(&asleep);
    plugin_begin_shutdown();
    pthread_join(thread, NULL);
    g_autofree char *second = harness_log_end();
    assert_contains(second, "the server is ending");
    harness_close(h);
    harness_close(own);
    harness_free(b);
    close(fds[0]);
}

static void count(void *opaque)
{
    ++*(int *)opaque;
}

static void test_shutdown(void)
{
    int n = 0;

    if (!harness_have_plugins())
        return;
    plugin_set_shutdown(count, &n);
    struct backend *b = harness_load("@extras", "shutdown", "1", NULL);
    g_assert_cmpint(n, ==, 1);
    plugin_set_shutdown(NULL, NULL);
    harness_free(b);
}

/* ---- extras ---- */

static void test_offered_fd(void)
{
    if (!harness_have_plugins())
        return;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    g_autofree char *number = g_strdup_printf("%d", fd);
    struct backend *b = harness_load("@extras", "fd", number, NULL);
    struct backend_handle *h = harness_open(b);
    g_assert_cmpint(h->fd, ==, fd);
    harness_close(h);
    harness_free(b);
    /* It is not asked where calls may not run side by side. */
    b = harness_load("@extras", "fd", number, "model", "2", NULL);
    h = harness_open(b);
    g_assert_cmpint(h->fd, ==, -1);
    harness_close(h);
    harness_free(b);
    b = harness_load("@extras", "fd", "-1", NULL);
    h = harness_open(b);
    g_assert_cmpint(h->fd, ==, -1);
    harness_close(h);
    harness_free(b);
    close(fd);
}

static void test_offered_resize(void)
{
    g_autoptr(GError) err = NULL;
    struct backend_handle *ro;

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@extras", NULL);
    struct backend_handle *h = harness_open(b);
    g_assert_nonnull(b->ops->resize);
    g_assert_cmpint(b->ops->resize(h, 8192, NULL), ==, 0);
    g_assert_cmpint(b->ops->resize(h, 2 << 20, &err), <, 0);
    g_assert_cmpstr(err->message, ==, "disk vda: extras: too large");
    g_clear_error(&err);
    g_assert_cmpint(b->ops->open(b, true, NULL, &ro, NULL), ==, 0);
    g_assert_cmpuint(ro->size, ==, 8192);
    g_assert_cmpint(b->ops->resize(ro, 4096, &err), <, 0);
    assert_contains(err->message, "not open for writing");
    harness_close(ro);
    harness_close(h);
    harness_free(b);

    b = harness_load("@minimal", NULL);
    g_assert_null(b->ops->resize);
    harness_free(b);
}

static void test_offered_open_ahead(void)
{
    g_autoptr(GError) err = NULL;

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@extras", NULL);
    g_assert_cmpint(plugin_open_ahead(b, true, &err), <, 0);
    g_assert_cmpstr(err->message, ==, "disk vda: extras: not ahead");
    g_assert_cmpint(plugin_open_ahead(b, false, NULL), ==, 0);
    struct backend_handle *h = harness_open(b);
    g_assert_cmpuint(h->size, ==, 12288);
    harness_close(h);
    harness_free(b);

    b = harness_load("@minimal", NULL);
    g_assert_cmpint(plugin_open_ahead(b, false, NULL), ==, 0);
    harness_free(b);
}

static void add_tests(void)
{
    alarm(300); /* a test that waits for ever is a failure */
    g_test_add_func("/threads/parallel", test_parallel);
    g_test_add_func("/threads/serialize-requests", test_serialize_requests);
    g_test_add_func("/threads/serialize-all-requests", test_serialize_all_requests);
    g_test_add_func("/threads/serialize-connections", test_serialize_connections);
    g_test_add_func("/threads/two-instances", test_two_instances);
    g_test_add_func("/client/questions", test_client);
    g_test_add_func("/extras/fd", test_offered_fd);
    g_test_add_func("/extras/resize", test_offered_resize);
    g_test_add_func("/extras/open-ahead", test_offered_open_ahead);
    g_test_add_func("/server/shutdown", test_shutdown);
    g_test_add_func("/server/nanosleep", test_nanosleep); /* last: no sleep is long after it */
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
