/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How connections end: by the client, with the server, with their export, with their listener.
 */
#include "tests/rigs/nbd-rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ = NBD_CMD_READ, WRITE = NBD_CMD_WRITE };

static void test_hang_up(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, false);
    for (unsigned i = 0; i < 8; i++)
        client_request(&c, 0, READ, i, 4096, 4096);
    fake_wait_held(r.registry, 8);
    client_close(&c);
    struct client other = rig_go(&r, false); /* takes the number of the closed descriptor */
    fake_release(r.registry, 4096);
    rig_wait_gone(&r, 1);
    client_request(&other, 0, READ, 99, 0, 512);
    client_expect_success(&other, 99, 512);
    client_close(&other);
    rig_wait_gone(&r, 2);
    rig_end(&r);
}

static void test_half_close(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 4096, 4096);
    fake_wait_held(r.registry, 1);
    client_request(&c, 0, READ, 2, 0, 4096);
    g_assert_cmpint(shutdown(c.fd, SHUT_WR), ==, 0);
    client_expect_success(&c, 2, 4096);
    fake_release(r.registry, 4096);
    client_expect_success(&c, 1, 4096);
    client_expect_end(&c);
    client_close(&c);
    rig_wait_gone(&r, 1);
    rig_end(&r);
}

/* The only worker learns from a reply that its client has gone. From then on it does no reads, but
 * it does a write that waits for it. */
static void test_hang_up_before_a_queued_write(void)
{
    static const struct nbd_options one_worker = {
        .handshake_timeout = 60, .threads = 1, .mask_handshake = UINT16_MAX};
    struct rig r;
    uint8_t data[4096];

    rig_begin(&r, &one_worker);
    fill_bytes(data, sizeof data, 5);
    fake_never_promise(r.registry, true);
    fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 4096, 4096);
    fake_wait_held(r.registry, 1);
    client_request(&c, 0, WRITE, 2, 8192, sizeof data);
    client_send(&c, data, sizeof data);
    client_close(&c);
    fake_release(r.registry, 4096);
    rig_wait_gone(&r, 1);
    g_assert_cmpuint(fake_counts(r.registry).writes, ==, 1);
    g_assert_cmpmem(fake_bytes(r.disk) + 8192, sizeof data, data, sizeof data);
    rig_end(&r);
}

/* Requests before DISC are done, also when the client does not wait for the replies. */
static void test_disc_finishes_writes(gconstpointer hold)
{
    struct rig r;
    uint8_t data[4096];

    rig_begin(&r, NULL);
    fill_bytes(data, sizeof data, 5);
    if (hold)
        fake_hold(r.registry, 0);
    struct client c = rig_go(&r, false);
    for (unsigned i = 0; i < 20; i++) {
        client_request(&c, 0, WRITE, 7, i * 4096, sizeof data); /* the same cookie for all */
        client_send(&c, data, sizeof data);
    }
    client_request(&c, 0, NBD_CMD_DISC, 0, 0, 0);
    if (hold)
        fake_wait_held(r.registry, 1);
    client_close(&c);
    fake_release(r.registry, 0);
    rig_wait_gone(&r, 1);
    g_assert_cmpuint(fake_counts(r.registry).writes, ==, 20);
    for (unsigned i = 0; i < 20; i++)
        g_assert_cmpmem(fake_bytes(r.disk) + i * 4096, 4096, data, 4096);
    rig_end(&r);
}

static void *end_server(void *rig)
{
    rig_end_nbd(rig, 60000);
    return NULL;
}

/* The orderly end: requests under way finish, new ones get ESHUTDOWN, and options of a handshake
 * get ERR_SHUTDOWN. */
static void test_orderly_end(void)
{
    struct rig r;
    uint8_t data[512] = {1};
    pthread_t thread;

    rig_begin(&r, NULL);
    fake_hold(r.registry, 4096);
    struct client idle = rig_go(&r, true);
    struct client haggler = rig_connect(&r);
    client_greet(&haggler, NBD_FLAG_FIXED_NEWSTYLE);
    struct client c = rig_go(&r, true);
    client_request(&c, 0, WRITE, 1, 4096, sizeof data);
    client_send(&c, data, sizeof data);
    fake_wait_held(r.registry, 1);
    g_assert_cmpint(pthread_create(&thread, NULL, end_server, &r), ==, 0);
    client_expect_end(&idle); /* it has nothing under way, so it ends at once */

    client_request(&c, 0, READ, 2, 0, 512);
    client_expect_error(&c, 2, NBD_ESHUTDOWN);
    client_request(&c, 0, WRITE, 3, 0, sizeof data);
    client_send(&c, data, sizeof data);
    client_expect_error(&c, 3, NBD_ESHUTDOWN);
    g_assert_cmphex(client_go_option(&haggler, NBD_OPT_GO, "disk"), ==, NBD_REP_ERR_SHUTDOWN);
    client_option(&haggler, NBD_OPT_LIST, NULL, 0);
    g_assert_cmphex(client_option_reply(&haggler, NBD_OPT_LIST, NULL, NULL), ==,
                    NBD_REP_ERR_SHUTDOWN);
    client_option(&haggler, NBD_OPT_ABORT, NULL, 0);
    g_assert_cmphex(client_option_reply(&haggler, NBD_OPT_ABORT, NULL, NULL), ==, NBD_REP_ACK);

    fake_release(r.registry, 4096);
    client_expect_success(&c, 1, 0);
    client_expect_end(&c);
    pthread_join(thread, NULL);
    g_assert_cmpint(fake_bytes(r.disk)[4096], ==, 1);
    client_close(&idle);
    client_close(&haggler);
    client_close(&c);
    rig_end(&r);
}

/* The orderly end when the connection's own thread does the request under way. */
static void test_orderly_end_inline(void)
{
    struct rig r;
    pthread_t thread;

    rig_begin(&r, NULL);
    struct client haggler = rig_connect(&r);
    client_greet(&haggler, NBD_FLAG_FIXED_NEWSTYLE);
    fake_never_promise(r.registry, true);
    fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, true);
    rig_connection(&r, PHASE_TRANSMISSION)->offload.average_ns[CLASS_READ] = 0;
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    g_assert_cmpint(pthread_create(&thread, NULL, end_server, &r), ==, 0);
    while (client_go_option(&haggler, NBD_OPT_INFO, "disk") != NBD_REP_ERR_SHUTDOWN)
        ; /* until the end has begun */
    client_request(&c, 0, READ, 2, 0, 512);
    fake_release(r.registry, 4096);
    client_expect_success(&c, 1, 512);
    client_expect_error(&c, 2, NBD_ESHUTDOWN);
    client_expect_end(&c);
    pthread_join(thread, NULL);
    client_close(&haggler);
    client_close(&c);
    rig_end(&r);
}

/* When the grace is over, clients are cut. */
static void test_grace(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client haggler = rig_connect(&r), c = rig_go(&r, false);
    client_greet(&haggler, NBD_FLAG_FIXED_NEWSTYLE);
    /* Far more than the socket takes: the reply cannot be finished. */
    client_request(&c, 0, READ, 1, 0, 32 << 20);
    uint8_t first[16];
    client_receive(&c, first, sizeof first);
    rig_end_nbd(&r, 50);
    client_expect_end(&haggler);
    client_close(&haggler);
    client_close(&c);
    rig_end(&r);
}

static void test_export_removed(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    fake_hold(r.registry, 4096);
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    fake_remove(r.registry, r.disk, false);
    client_request(&c, 0, READ, 2, 0, 512);
    client_expect_error(&c, 2, NBD_ESHUTDOWN);
    fake_release(r.registry, 4096);
    client_expect_success(&c, 1, 512);
    client_expect_end(&c);
    rig_wait_gone(&r, 1);
    struct client late = rig_connect(&r);
    client_greet(&late, NBD_FLAG_FIXED_NEWSTYLE);
    g_assert_cmphex(client_go_option(&late, NBD_OPT_GO, "disk"), ==, NBD_REP_ERR_UNKNOWN);
    client_close(&late);
    client_close(&c);
    rig_end(&r);
}

/* A client counts as gone as soon as it has closed, whatever the server still does for it. */
static void test_hung_up(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    g_assert_false(fake_hung_up(r.registry, r.disk));
    fake_hold(r.registry, 4096);
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    client_request(&c, 0, READ, 2, 0, 512); /* a request that waits to be read is not an end */
    g_assert_false(fake_hung_up(r.registry, r.disk));
    shutdown(c.fd, SHUT_WR); /* TCP tells no more than this of a peer that has closed */
    g_assert_true(fake_hung_up(r.registry, r.disk));
    client_close(&c);
    g_assert_true(fake_hung_up(r.registry, r.disk));
    fake_release(r.registry, 4096);
    rig_wait_gone(&r, 1);
    rig_end(&r);
}

/* An export that is cut: its client's connection ends, and requests under way get no answer. */
static void test_export_cut(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    fake_hold(r.registry, 4096);
    client_request(&c, 0, READ, 1, 4096, 512);
    fake_wait_held(r.registry, 1);
    fake_remove(r.registry, r.disk, false);
    fake_remove(r.registry, r.disk, true);
    client_expect_end(&c);
    fake_release(r.registry, 4096);
    rig_wait_gone(&r, 1);
    client_close(&c);
    rig_end(&r);
}

/* ---- pipes ---- */

/* A connection over pipes, as with -s in a pipeline. A reader that has gone raises no SIGPIPE. */
static void test_pipes(void)
{
    struct rig r;
    g_autoptr(GError) err = NULL;
    int in[2], out[2];

    rig_begin(&r, NULL);
    g_assert_cmpint(pipe2(in, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(out, O_CLOEXEC), ==, 0);
    g_assert_cmpint(nbd_serve_stdio(r.nbd, in[0], out[1], NULL, NULL, &err), ==, 0);
    uint8_t hello[18], flags[4] = {0, 0, 0, 3};
    g_assert_cmpint(read(out[0], hello, sizeof hello), ==, sizeof hello);
    g_assert_cmpint(write(in[1], flags, sizeof flags), ==, sizeof flags);
    uint8_t go[16 + 4] = {0};
    store_be64(go, NBD_OPTION_MAGIC);
    store_be32(go + 8, NBD_OPT_EXPORT_NAME);
    store_be32(go + 12, 4);
    memcpy(go + 16, "disk", 4);
    g_assert_cmpint(write(in[1], go, sizeof go), ==, sizeof go);
    uint8_t answer[10];
    g_assert_cmpint(read(out[0], answer, sizeof answer), ==, sizeof answer);
    g_assert_cmpuint(load_be64(answer), ==, 64 << 20);
    close(out[0]);
    uint8_t request[NBD_REQUEST_SIZE] = {0};
    store_be32(request, NBD_REQUEST_MAGIC);
    store_be32(request + 24, 65536);
    g_assert_cmpint(write(in[1], request, sizeof request), ==, sizeof request);
    close(in[1]);
    rig_end(&r);
}

/* The end of the server reaches a client on pipes, although shutdown(2) does nothing there. */
static void test_pipes_end(void)
{
    struct rig r;
    g_autoptr(GError) err = NULL;
    int in[2], out[2];
    uint8_t hello[18], byte;

    rig_begin(&r, NULL);
    g_assert_cmpint(pipe2(in, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(out, O_CLOEXEC), ==, 0);
    g_assert_cmpint(nbd_serve_stdio(r.nbd, in[0], out[1], NULL, NULL, &err), ==, 0);
    g_assert_cmpint(read(out[0], hello, sizeof hello), ==, sizeof hello);
    rig_end_nbd(&r, 0);
    g_assert_cmpint(read(out[0], &byte, 1), ==, 0);
    close(out[0]);
    close(in[1]);
    rig_end(&r);
}

/* An idle connection gives its workers back, and works afterwards. */
static void test_idle(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    fake_never_promise(r.registry, true);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 0, 512);
    client_expect_success(&c, 1, 512);
    fake_wait_threads_ended(r.registry, 1); /* the worker's, after IDLE_SECONDS */
    client_request(&c, 0, READ, 2, 0, 512);
    client_expect_success(&c, 2, 512);
    client_close(&c);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const int yes;
    g_test_add_func("/nbd/hang-up", test_hang_up);
    g_test_add_func("/nbd/hang-up-before-a-queued-write", test_hang_up_before_a_queued_write);
    g_test_add_func("/nbd/half-close", test_half_close);
    g_test_add_data_func("/nbd/disc-finishes-writes/here", NULL, test_disc_finishes_writes);
    g_test_add_data_func("/nbd/disc-finishes-writes/worker", &yes, test_disc_finishes_writes);
    g_test_add_func("/nbd/orderly-end", test_orderly_end);
    g_test_add_func("/nbd/orderly-end-inline", test_orderly_end_inline);
    g_test_add_func("/nbd/grace", test_grace);
    g_test_add_func("/nbd/export-removed", test_export_removed);
    g_test_add_func("/nbd/hung-up", test_hung_up);
    g_test_add_func("/nbd/export-cut", test_export_cut);
    g_test_add_func("/nbd/pipes", test_pipes);
    g_test_add_func("/nbd/pipes-end", test_pipes_end);
    g_test_add_func("/nbd/idle", test_idle);
    return g_test_run();
}
