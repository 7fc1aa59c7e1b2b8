/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's end while plugins do not come back: nobody waits, the end is told once, and until
 * then the server can say what is left.
 */
#include "tests/rigs/nbd-rig.h"

#include <string.h>

enum { READ = NBD_CMD_READ };

/* What nbd_server_stop calls back. */
struct told {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned times;
};

static void told_init(struct told *t)
{
    *t = (struct told){0};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
}

static void note(void *told)
{
    struct told *t = told;

    pthread_mutex_lock(&t->lock);
    t->times++;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static unsigned told_times(struct told *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned times = t->times;
    pthread_mutex_unlock(&t->lock);
    return times;
}

static void wait_told(struct told *t)
{
    pthread_mutex_lock(&t->lock);
    while (t->times == 0)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

/* The end has been told once, nothing is left, and all can be freed. */
static void free_server(struct rig *r, struct told *t)
{
    g_autoptr(GPtrArray) left = nbd_server_left(r->nbd);

    g_assert_cmpuint(left->len, ==, 0);
    nbd_server_free(r->nbd);
    r->nbd = NULL;
    g_assert_cmpuint(told_times(t), ==, 1);
    rig_end(r);
}

static void expect_left(struct rig *r, const char *what)
{
    g_autoptr(GPtrArray) left = nbd_server_left(r->nbd);

    g_assert_cmpuint(left->len, ==, 1);
    g_test_message("%s", (const char *)left->pdata[0]);
    g_assert_nonnull(strstr(left->pdata[0], "client process "));
    g_assert_nonnull(strstr(left->pdata[0], " of export \"disk\" (disk): "));
    g_assert_nonnull(strstr(left->pdata[0], what));
}

static void test_nobody_is_there(void)
{
    struct rig r;
    struct told t;

    told_init(&t);
    rig_begin(&r, NULL);
    nbd_server_stop(r.nbd, note, &t);
    g_assert_cmpuint(told_times(&t), ==, 1);
    free_server(&r, &t);
}

/* When nobody is in transmission, clients in the handshake are cut at once. */
static void test_handshakes_end(void)
{
    struct rig r;
    struct told t;

    told_init(&t);
    rig_begin(&r, NULL);
    struct client c = rig_connect(&r);
    client_greet(&c, NBD_FLAG_FIXED_NEWSTYLE);
    nbd_server_stop(r.nbd, note, &t);
    client_expect_end(&c);
    wait_told(&t);
    client_close(&c);
    free_server(&r, &t);
}

/* When the last client in transmission ends, those in the handshake are cut. */
static void test_last_in_transmission(void)
{
    struct rig r;
    struct told t;

    told_init(&t);
    rig_begin(&r, NULL);
    fake_hold(r.registry, 4096);
    struct client haggler = rig_connect(&r), c = rig_go(&r, true);
    client_greet(&haggler, NBD_FLAG_FIXED_NEWSTYLE);
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    nbd_server_stop(r.nbd, note, &t);
    g_assert_cmphex(client_go_option(&haggler, NBD_OPT_INFO, "disk"), ==, NBD_REP_ERR_SHUTDOWN);
    g_assert_cmpuint(told_times(&t), ==, 0);
    fake_release(r.registry, 4096);
    client_expect_success(&c, 1, 512);
    client_expect_end(&c);
    client_expect_end(&haggler);
    wait_told(&t);
    client_close(&haggler);
    client_close(&c);
    free_server(&r, &t);
}

/* A request that hangs in the plugin, in a worker or in the connection's own thread, outlasts the
 * cut, holds nobody up, and is named. */
static void test_hung_request(gconstpointer inline_)
{
    struct rig r;
    struct told t;

    told_init(&t);
    rig_begin(&r, NULL);
    fake_never_promise(r.registry, true);
    fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, true);
    if (inline_)
        rig_connection(&r, PHASE_TRANSMISSION)->offload.average_ns[CLASS_READ] = 0;
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    nbd_server_stop(r.nbd, note, &t);
    expect_left(&r, "a READ is in the plugin for ");
    nbd_server_cut(r.nbd);
    client_expect_end(&c);
    expect_left(&r, "a READ is in the plugin for ");
    g_assert_cmpuint(told_times(&t), ==, 0);
    fake_release(r.registry, 4096);
    wait_told(&t);
    client_close(&c);
    free_server(&r, &t);
}

/* A close hangs in the plugin: the client has gone, and the connection has not ended yet. */
static void test_hung_close(void)
{
    struct rig r;
    struct told t;

    told_init(&t);
    rig_begin(&r, NULL);
    fake_hold_close(r.registry, true);
    struct client c = rig_go(&r, true);
    client_close(&c);
    fake_wait_held(r.registry, 1);
    nbd_server_stop(r.nbd, note, &t);
    nbd_server_cut(r.nbd);
    expect_left(&r, "its close is in the plugin for ");
    g_assert_cmpuint(told_times(&t), ==, 0);
    fake_hold_close(r.registry, false);
    wait_told(&t);
    free_server(&r, &t);
}

int main(int argc, char **argv)
{
    static const int yes;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-stop/nobody-is-there", test_nobody_is_there);
    g_test_add_func("/nbd-stop/handshakes-end", test_handshakes_end);
    g_test_add_func("/nbd-stop/last-in-transmission", test_last_in_transmission);
    g_test_add_data_func("/nbd-stop/hung-request/worker", NULL, test_hung_request);
    g_test_add_data_func("/nbd-stop/hung-request/inline", &yes, test_hung_request);
    g_test_add_func("/nbd-stop/hung-close", test_hung_close);
    return g_test_run();
}
