/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole connections over socket pairs: what runs where, in what order replies come, and what is
 * bounded. How they end is in test-ends.c.
 */
#include "tests/rigs/nbd-rig.h"

#include "server/nbd/execute.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ = NBD_CMD_READ, WRITE = NBD_CMD_WRITE };

/* ---- requests ---- */

static void test_commands(gconstpointer structured)
{
    struct rig r;
    uint8_t data[4096];

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, structured != NULL);
    g_assert_cmpuint(c.size, ==, 64 << 20);
    fill_bytes(data, sizeof data, 1);
    client_request(&c, NBD_CMD_FLAG_FUA, WRITE, 1, 8192, sizeof data);
    client_send(&c, data, sizeof data);
    client_expect_success(&c, 1, 0);
    client_request(&c, 0, READ, 2, 8192, sizeof data);
    struct answer a = client_answer(&c, sizeof data);
    g_assert_cmpmem(a.payload, a.length, data, sizeof data);
    g_free(a.payload);
    client_request(&c, 0, NBD_CMD_FLUSH, 3, 0, 0);
    client_expect_success(&c, 3, 0);
    client_request(&c, 0, NBD_CMD_TRIM, 4, 0, 4096);
    client_expect_success(&c, 4, 0);
    client_request(&c, 0, NBD_CMD_CACHE, 5, 0, 4096);
    client_expect_success(&c, 5, 0);
    client_request(&c, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 6, 8192, 4096);
    client_expect_success(&c, 6, 0);
    g_assert_cmpint(fake_bytes(r.disk)[8192], ==, 0);
    client_request(&c, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 7, 8192, 4096);
    client_expect_error(&c, 7, NBD_ENOTSUP);
    for (uint16_t type = 0; type <= NBD_CMD_BLOCK_STATUS; type++) {
        if (type == NBD_CMD_DISC)
            continue;
        client_request(&c, 0, type, 8, 0, 0); /* length 0 never ends a connection */
        struct answer empty = client_answer(&c, 0);
        g_assert_cmpuint(empty.cookie, ==, 8);
        g_free(empty.payload);
    }
    client_request(&c, 0, NBD_CMD_DISC, 0, 0, 0);
    client_expect_end(&c);
    client_close(&c);
    rig_end(&r);
}

/* When the only client has gone: of its requests its own thread has counted so many, and its workers
 * so many, which must not write the same counters. */
static void check_counted(struct rig *r, uint64_t here, uint64_t workers)
{
    rig_wait_gone(r, 1);
    g_assert_cmpuint(fake_counts(r->registry).counted, ==, here);
    g_assert_cmpuint(fake_counts(r->registry).counted_shared, ==, workers);
}

/* Many requests in one send: all are answered, in order, by the connection's thread alone. */
static void test_batch_stays_inline(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    for (unsigned i = 0; i < 1000; i++)
        client_request(&c, 0, READ, i, i * 4096, 64);
    for (unsigned i = 0; i < 1000; i++)
        client_expect_success(&c, i, 64);
    struct fake_counts n = fake_counts(r.registry);
    g_assert_cmpuint(n.tried, ==, 1000);
    g_assert_cmpuint(n.blocking, ==, 0);
    client_close(&c);
    check_counted(&r, 1000, 0);
    rig_end(&r);
}

/* Sixteen blocking reads are all with the disk at once. One that does not block overtakes them. */
static void test_blocked_reads_are_overtaken(void)
{
    struct rig r;
    const unsigned n = 16;

    rig_begin(&r, NULL);
    fill_bytes(fake_bytes(r.disk), 1 << 20, 7);
    for (unsigned i = 1; i <= n; i++)
        fake_hold(r.registry, i * 4096);
    struct client c = rig_go(&r, true);
    for (unsigned i = 1; i <= n; i++)
        client_request(&c, 0, READ, i, i * 4096, 512);
    fake_wait_held(r.registry, n);
    client_request(&c, 0, READ, 100, 0, 512);
    client_expect_success(&c, 100, 512);
    for (unsigned i = n; i >= 1; i--) {
        fake_release(r.registry, i * 4096);
        struct answer a = client_answer(&c, 512);
        g_assert_cmpuint(a.cookie, ==, i);
        g_assert_cmpmem(a.payload, a.length, fake_bytes(r.disk) + i * 4096, 512);
        g_free(a.payload);
    }
    g_assert_cmpuint(fake_counts(r.registry).most_held, ==, n);
    client_close(&c);
    check_counted(&r, 1, n);
    rig_end(&r);
}

/* A disk promises nothing but is quick: after a while the connection's thread does its requests. */
static void test_quick_disk_comes_inline(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    fake_never_promise(r.registry, true);
    struct client c = rig_go(&r, true);
    struct connection *first = rig_connection(&r, PHASE_TRANSMISSION);
    /* The estimate is forced, because the machine that runs this may be slow. */
    atomic_store(&first->offload.average_ns[CLASS_READ], 0);
    client_request(&c, 0, READ, 1, 0, 512);
    client_expect_success(&c, 1, 512);
    g_assert_cmpuint(first->workers.n_threads, ==, 0);
    atomic_store(&first->offload.average_ns[CLASS_READ], OFFLOAD_CLIP_NS);
    client_request(&c, 0, READ, 2, 0, 512);
    client_expect_success(&c, 2, 512);
    client_request(&c, 0, NBD_CMD_DISC, 0, 0, 0);
    client_expect_end(&c);
    g_assert_cmpuint(fake_counts(r.registry).blocking, ==, 2);
    client_close(&c);
    rig_end(&r);
}

static void write_512(struct client *c, uint64_t cookie)
{
    uint8_t data[512] = {0};

    client_request(c, 0, WRITE, cookie, 0, sizeof data);
    client_send(c, data, sizeof data);
    client_expect_success(c, cookie, 0);
}

/* However quick the disk is: a change that has to wait for the journal does not hold up the requests
 * behind it. */
static void test_changes_that_wait(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, true);
    struct connection *first = rig_connection(&r, PHASE_TRANSMISSION);
    atomic_store(&first->offload.average_ns[CLASS_WRITE], 0);
    atomic_store(&first->offload.average_ns[CLASS_OTHER], 0);
    write_512(&c, 1);
    fake_changes_wait(r.registry, true);
    write_512(&c, 2);
    client_request(&c, 0, NBD_CMD_WRITE_ZEROES, 3, 0, 512);
    client_expect_success(&c, 3, 0);
    client_request(&c, 0, NBD_CMD_TRIM, 4, 0, 512);
    client_expect_success(&c, 4, 0);
    client_request(&c, 0, READ, 5, 4096, 512);
    client_expect_success(&c, 5, 512);
    client_close(&c);
    check_counted(&r, 2, 3);
    rig_end(&r);
}

/* ---- large ones ---- */

static void test_large_read(gconstpointer structured)
{
    struct rig r;
    const uint32_t length = (4 << 20) + 12345;

    rig_begin(&r, NULL);
    fill_bytes(fake_bytes(r.disk), 8 << 20, 3);
    struct client c = rig_go(&r, structured != NULL);
    g_autofree uint8_t *got = g_malloc(length);
    client_request(&c, 0, READ, 5, 777, length);
    uint32_t covered = 0;
    while (covered < length) {
        struct answer a = client_answer(&c, length);
        uint64_t at = a.simple ? 0 : a.offset - 777;
        g_assert_cmpuint(at + a.length, <=, length);
        memcpy(got + at, a.payload, a.length);
        covered += a.length;
        g_free(a.payload);
    }
    g_assert_cmpmem(got, length, fake_bytes(r.disk) + 777, length);
    client_request(&c, 0, READ, 6, 0, 512); /* the stream is in step */
    client_expect_success(&c, 6, 512);
    client_close(&c);
    rig_end(&r);
}

static void test_large_read_df(void)
{
    struct rig r;
    const uint32_t length = 3 << 20;

    rig_begin(&r, NULL);
    fill_bytes(fake_bytes(r.disk), length, 3);
    struct client c = rig_go(&r, true);
    client_request(&c, NBD_CMD_FLAG_DF, READ, 5, 0, length);
    struct answer a = client_answer(&c, 0);
    g_assert_cmpuint(a.type, ==, NBD_REPLY_TYPE_OFFSET_DATA);
    g_assert_cmpmem(a.payload, a.length, fake_bytes(r.disk), length);
    g_free(a.payload);
    a = client_answer(&c, 0);
    g_assert_cmpuint(a.type, ==, NBD_REPLY_TYPE_NONE);
    g_free(a.payload);

    /* An error inside the chunk: it is padded to its promised length, then the error is told. */
    fake_fail(r.registry, READ_PIECE * 2, EIO);
    client_request(&c, NBD_CMD_FLAG_DF, READ, 6, 0, length);
    a = client_answer(&c, 0);
    g_assert_cmpuint(a.length, ==, length);
    g_assert_cmpuint(a.flags & NBD_REPLY_FLAG_DONE, ==, 0);
    g_free(a.payload);
    a = client_answer(&c, 0);
    g_assert_cmpuint(a.type, ==, NBD_REPLY_TYPE_ERROR_OFFSET);
    g_assert_cmpuint(a.error, ==, NBD_EIO);
    g_assert_cmpuint(a.offset, ==, READ_PIECE * 2);
    g_free(a.payload);
    client_close(&c);
    rig_end(&r);
}

/* A read fails after the header of its simple reply has gone out: the connection ends. */
static void test_large_read_fails_late(void)
{
    struct rig r;
    uint8_t header[16];

    rig_begin(&r, NULL);
    fake_fail(r.registry, READ_PIECE, EIO);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 0, 4 << 20);
    client_receive(&c, header, sizeof header);
    g_assert_cmpuint(load_be32(header + 4), ==, 0);
    uint8_t byte;
    ssize_t n;
    size_t got = 0;
    while ((n = recv(c.fd, &byte, 1, 0)) == 1)
        got++;
    g_assert_cmpuint(got, <, 4 << 20);
    client_close(&c);
    rig_end(&r);
}

/* A reply that waits behind such a read is not sent in the place of what could not be read. */
static void test_large_read_fails_before_others(void)
{
    struct rig r;
    const uint32_t length = READ_PIECE + 1000, other = 8 << 20;
    uint8_t byte;
    uint32_t got = 0;

    rig_begin(&r, NULL);
    fake_hold(r.registry, other);
    fake_hold(r.registry, READ_PIECE);
    fake_fail(r.registry, READ_PIECE, EIO);
    fake_never_promise(r.registry, true);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, other, 4096);
    client_request(&c, 0, READ, 2, 0, length);
    fake_wait_held(r.registry, 2);
    fake_release(r.registry, other);
    rig_wait_posted(&r, 1);
    fake_release(r.registry, READ_PIECE);
    while (recv(c.fd, &byte, 1, 0) == 1)
        got++;
    g_assert_cmpuint(got, <, NBD_SIMPLE_REPLY_SIZE + length);
    client_close(&c);
    rig_end(&r);
}

/* A write is one call to the node, however large. */
static void test_large_write(gconstpointer hold)
{
    struct rig r;
    const uint32_t length = 5 << 20;

    rig_begin(&r, NULL);
    if (hold)
        fake_hold(r.registry, 4096);
    struct client c = rig_go(&r, false);
    g_autofree uint8_t *data = g_malloc(length);
    fill_bytes(data, length, 9);
    client_request(&c, 0, WRITE, 1, 4096, length);
    client_send(&c, data, length);
    if (hold) {
        fake_wait_held(r.registry, 1);
        client_request(&c, 0, READ, 2, 0, 512);
        client_expect_success(&c, 2, 512);
        fake_release(r.registry, 4096);
    }
    client_expect_success(&c, 1, 0);
    g_assert_cmpmem(fake_bytes(r.disk) + 4096, length, data, length);
    g_assert_cmpuint(fake_counts(r.registry).writes, ==, 1);
    client_request(&c, 0, WRITE, 3, 0, IN_PLACE_PAYLOAD);
    client_send(&c, data, IN_PLACE_PAYLOAD);
    client_expect_success(&c, 3, 0);
    g_assert_cmpuint(fake_counts(r.registry).writes, ==, 2);
    client_close(&c);
    rig_end(&r);
}

/* ---- bounds ---- */

/* A client sends and does not read: the server stops taking its requests, and answers all of them
 * when the client reads at last. */
static void test_slow_reader(gconstpointer hold)
{
    struct rig r;
    uint8_t header[NBD_REQUEST_SIZE] = {0};
    unsigned sent = 0, most = 1 << 16;

    rig_begin(&r, NULL);
    if (hold) /* through the workers */
        fake_never_promise(r.registry, true);
    struct client c = rig_go(&r, false);
    fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) | O_NONBLOCK);
    store_be32(header, NBD_REQUEST_MAGIC);
    store_be32(header + 24, 65536);
    size_t part = 0;
    for (; sent < most; sent++) {
        store_be64(header + 8, sent);
        for (part = 0; part < sizeof header;) {
            ssize_t n = send(c.fd, header + part, sizeof header - part, MSG_NOSIGNAL);
            if (n < 0)
                break;
            part += (size_t)n;
        }
        if (part < sizeof header)
            break;
    }
    /* The server has stopped reading, so the socket is full. */
    g_assert_cmpuint(sent, <, most);
    fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) & ~O_NONBLOCK);
    uint64_t sum = 0;
    for (unsigned i = 0; i < sent; i++) {
        struct answer a = client_answer(&c, 65536);
        g_assert_cmpuint(a.error, ==, 0);
        sum += a.cookie;
        g_free(a.payload);
    }
    g_assert_cmpuint(sum, ==, (uint64_t)sent * (sent - 1) / 2);
    client_close(&c);
    rig_end(&r);
}

static void test_send_timeout(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    r.nbd->send_seconds = 1;
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 0, 32 << 20);
    rig_wait_gone(&r, 1);
    client_close(&c);
    rig_end(&r);
}

/* ---- breaches ---- */

static void test_wrong_magic(void)
{
    struct rig r;
    uint8_t junk[NBD_REQUEST_SIZE] = "GET / HTTP/1.1\r\n";

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    client_request(&c, 0, READ, 1, 0, 512); /* what came before is answered */
    client_send(&c, junk, sizeof junk);
    client_expect_success(&c, 1, 512);
    client_expect_end(&c);
    client_close(&c);
    rig_end(&r);
}

static void test_gigantic_write(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, true);
    client_request(&c, 0, WRITE, 1, 0, UINT32_MAX);
    client_expect_end(&c);
    client_close(&c);
    rig_end(&r);
}

/* After a refused write of any size the payload is skipped, and the stream is in step. */
static void test_refused_writes(void)
{
    struct rig r;
    static const uint32_t sizes[] = {
        1, 4096, 65536, IN_PLACE_PAYLOAD, IN_PLACE_PAYLOAD + 1, NBD_MAX_PAYLOAD};
    g_autofree uint8_t *data = g_malloc0(NBD_MAX_PAYLOAD);

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        client_request(&c, 0, WRITE, i, (64 << 20) - sizes[i] + 1, sizes[i]);
        client_send(&c, data, sizes[i]);
        client_expect_error(&c, i, NBD_ENOSPC);
        client_request(&c, 0x8000, WRITE, i, 0, sizes[i]);
        client_send(&c, data, sizes[i]);
        client_expect_error(&c, i, NBD_EINVAL);
    }
    client_request(&c, 0, READ, 77, 0, 512);
    client_expect_success(&c, 77, 512);
    g_assert_cmpuint(fake_counts(r.registry).writes, ==, 0);
    client_close(&c);
    rig_end(&r);
}

/* A client that sends one byte at a time is served like any other. */
static void test_trickle(void)
{
    struct rig r;
    uint8_t header[NBD_REQUEST_SIZE] = {0}, data[16] = "0123456789abcdef";

    rig_begin(&r, NULL);
    struct client c = rig_go(&r, false);
    store_be32(header, NBD_REQUEST_MAGIC);
    store_be16(header + 6, WRITE);
    store_be32(header + 24, sizeof data);
    for (unsigned i = 0; i < sizeof header; i++)
        client_send(&c, header + i, 1);
    for (unsigned i = 0; i < sizeof data; i++)
        client_send(&c, data + i, 1);
    client_expect_success(&c, 0, 0);
    g_assert_cmpmem(fake_bytes(r.disk), sizeof data, data, sizeof data);
    client_close(&c);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const int yes;
    g_test_add_data_func("/nbd/commands/simple", NULL, test_commands);
    g_test_add_data_func("/nbd/commands/structured", &yes, test_commands);
    g_test_add_func("/nbd/batch-stays-inline", test_batch_stays_inline);
    g_test_add_func("/nbd/blocked-reads-are-overtaken", test_blocked_reads_are_overtaken);
    g_test_add_func("/nbd/quick-disk-comes-inline", test_quick_disk_comes_inline);
    g_test_add_func("/nbd/changes-that-wait", test_changes_that_wait);
    g_test_add_data_func("/nbd/large-read/simple", NULL, test_large_read);
    g_test_add_data_func("/nbd/large-read/structured", &yes, test_large_read);
    g_test_add_func("/nbd/large-read/df", test_large_read_df);
    g_test_add_func("/nbd/large-read/fails-late", test_large_read_fails_late);
    g_test_add_func("/nbd/large-read/fails-before-others", test_large_read_fails_before_others);
    g_test_add_data_func("/nbd/large-write/here", NULL, test_large_write);
    g_test_add_data_func("/nbd/large-write/worker", &yes, test_large_write);
    g_test_add_data_func("/nbd/slow-reader/here", NULL, test_slow_reader);
    g_test_add_data_func("/nbd/slow-reader/workers", &yes, test_slow_reader);
    g_test_add_func("/nbd/send-timeout", test_send_timeout);
    g_test_add_func("/nbd/wrong-magic", test_wrong_magic);
    g_test_add_func("/nbd/gigantic-write", test_gigantic_write);
    g_test_add_func("/nbd/refused-writes", test_refused_writes);
    g_test_add_func("/nbd/trickle", test_trickle);
    return g_test_run();
}
