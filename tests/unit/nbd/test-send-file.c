/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Large reads that go from the page cache to the client: which reads do, which do not, and what
 * happens when the file or the client ends too early.
 */
#include "tests/rigs/nbd-rig.h"

#include "server/nbd/execute.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define READ      NBD_CMD_READ
#define FILE_SIZE (2u << 20)

struct scene {
    struct rig rig;
    int fd;
    uint8_t *file; /* the bytes of the file; fake_bytes has others */
};

static void fill(uint8_t *p, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        p[i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
}

static void scene_begin(struct scene *s)
{
    rig_begin(&s->rig, NULL);
    s->fd = memfd_create("image", MFD_CLOEXEC);
    g_assert_cmpint(s->fd, >=, 0);
    s->rig.descriptors++;
    s->file = g_malloc(FILE_SIZE);
    fill(s->file, FILE_SIZE, 1);
    fill(fake_bytes(s->rig.disk), FILE_SIZE, 2);
    g_assert_cmpint(write(s->fd, s->file, FILE_SIZE), ==, FILE_SIZE);
    fake_file(s->rig.disk, s->fd);
}

static void scene_end(struct scene *s)
{
    rig_end(&s->rig);
    close(s->fd);
    g_free(s->file);
}

/* Read `length` bytes, at most READ_PIECE. They must be `bytes`. */
static void expect_data(struct client *c, uint64_t cookie, uint64_t offset, const uint8_t *bytes,
                        uint32_t length)
{
    client_request(c, 0, READ, cookie, offset, length);
    struct answer a = client_answer(c, length);
    g_assert_cmpuint(a.cookie, ==, cookie);
    g_assert_cmpmem(a.payload, a.length, bytes, length);
    g_free(a.payload);
}

static void test_taken(gconstpointer structured)
{
    struct scene s;

    scene_begin(&s);
    struct client c = rig_go(&s.rig, structured != NULL);
    expect_data(&c, 1, 0, s.file, SEND_FILE_MIN);
    expect_data(&c, 2, 12345, s.file + 12345, READ_PIECE);
    expect_data(&c, 3, FILE_SIZE - READ_PIECE, s.file + FILE_SIZE - READ_PIECE, READ_PIECE);
    struct fake_counts n = fake_counts(s.rig.registry);
    g_assert_cmpuint(n.cached, ==, 3);
    g_assert_cmpuint(n.tried + n.blocking, ==, 0);
    client_close(&c);
    scene_end(&s);
}

/* A read that is longer than a piece is sent piece by piece. */
static void test_several_pieces(void)
{
    struct scene s;

    scene_begin(&s);
    struct client c = rig_go(&s.rig, true);
    client_request(&c, 0, READ, 7, 0, FILE_SIZE);
    for (uint32_t at = 0; at < FILE_SIZE;) {
        struct answer a = client_answer(&c, 0);
        g_assert_cmpuint(a.offset, ==, at);
        g_assert_cmpmem(a.payload, a.length, s.file + at, READ_PIECE);
        at += a.length;
        g_assert_cmpint(a.flags & NBD_REPLY_FLAG_DONE, ==, at == FILE_SIZE);
        g_free(a.payload);
    }
    g_assert_cmpuint(fake_counts(s.rig.registry).cached, ==, FILE_SIZE / READ_PIECE);
    client_close(&c);
    scene_end(&s);
}

/* Small reads are copied, which is quicker, and so are reads of an export without a file. */
static void test_not_taken(void)
{
    struct scene s;
    static const struct node_info plain = {.size = FILE_SIZE};

    scene_begin(&s);
    struct export *other = fake_add(s.rig.registry, "other", &plain);
    fill(fake_bytes(other), FILE_SIZE, 3);
    struct client c = rig_go(&s.rig, true);
    expect_data(&c, 1, 0, fake_bytes(s.rig.disk), SEND_FILE_MIN - 1);
    struct client d = rig_connect(&s.rig);
    client_go(&d, "other", true, NULL, 0);
    expect_data(&d, 1, 0, fake_bytes(other), READ_PIECE);
    g_assert_cmpuint(fake_counts(s.rig.registry).cached, ==, 0);
    client_close(&c);
    client_close(&d);
    scene_end(&s);
}

/* If somebody has cut the file, or its pages have left the cache, the rest is read as usual and
 * sent in its place. */
static void test_rest_is_read(gconstpointer structured)
{
    struct scene s;
    const uint32_t cut = 100000;

    scene_begin(&s);
    g_assert_cmpint(ftruncate(s.fd, cut), ==, 0);
    memcpy(s.file + cut, fake_bytes(s.rig.disk) + cut, FILE_SIZE - cut);
    struct client c = rig_go(&s.rig, structured != NULL);
    expect_data(&c, 1, 0, s.file, READ_PIECE);
    expect_data(&c, 2, cut, s.file + cut, READ_PIECE); /* not one byte from the file */
    struct fake_counts n = fake_counts(s.rig.registry);
    g_assert_cmpuint(n.cached, ==, 2);
    g_assert_cmpuint(n.blocking, ==, 2);
    client_close(&c);
    scene_end(&s);
}

/* Count the bytes that come until the end. */
static uint32_t count_rest(struct client *c)
{
    uint8_t byte;
    uint32_t got = 0;

    while (read(c->fd, &byte, 1) == 1)
        got++;
    return got;
}

/* If the rest cannot be read after success was promised, this client alone is cut off, before it
 * has as many bytes as it waits for. */
static void test_rest_fails(gconstpointer structured)
{
    struct scene s;
    const uint32_t cut = 65536;
    const uint32_t head = structured ? NBD_STRUCTURED_REPLY_SIZE + 8 : NBD_SIMPLE_REPLY_SIZE;

    scene_begin(&s);
    g_assert_cmpint(ftruncate(s.fd, cut), ==, 0);
    fake_fail(s.rig.registry, cut, EIO);
    struct client c = rig_go(&s.rig, structured != NULL), other = rig_go(&s.rig, true);
    client_request(&c, 0, READ, 1, 0, READ_PIECE);
    g_assert_cmpuint(count_rest(&c), ==, head + cut);
    rig_wait_gone(&s.rig, 1);
    expect_data(&other, 1, 0, s.file, SEND_FILE_MIN);
    client_close(&c);
    client_close(&other);
    scene_end(&s);
}

/* A reply that waits behind such a read is not sent in the place of what could not be read. */
static void test_rest_fails_before_others(gconstpointer structured)
{
    struct scene s;
    const uint32_t cut = READ_PIECE - 1000, other = 512 << 10;
    const uint32_t head = structured ? NBD_STRUCTURED_REPLY_SIZE + 8 : NBD_SIMPLE_REPLY_SIZE;

    scene_begin(&s);
    g_assert_cmpint(ftruncate(s.fd, cut), ==, 0);
    fake_hold(s.rig.registry, other);
    fake_hold(s.rig.registry, cut);
    fake_fail(s.rig.registry, cut, EIO);
    struct client c = rig_go(&s.rig, structured != NULL);
    client_request(&c, 0, READ, 1, other, 4096);
    client_request(&c, 0, READ, 2, 0, READ_PIECE);
    fake_wait_held(s.rig.registry, 2);
    fake_release(s.rig.registry, other);
    rig_wait_posted(&s.rig, 1);
    fake_release(s.rig.registry, cut);
    g_assert_cmpuint(count_rest(&c), ==, head + cut);
    client_close(&c);
    scene_end(&s);
}

/* A client that goes away is an error for its connection, and no signal for the process. */
static void test_client_goes(void)
{
    struct scene s;

    scene_begin(&s);
    struct client c = rig_go(&s.rig, true);
    for (unsigned i = 0; i < 32; i++)
        client_request(&c, 0, READ, i, 0, FILE_SIZE);
    struct answer a = client_answer(&c, 0);
    g_free(a.payload);
    client_close(&c);
    rig_wait_gone(&s.rig, 1);
    g_assert_cmpuint(fake_counts(s.rig.registry).cached, >, 0);
    scene_end(&s);
}

/* A client that takes nothing is dropped, as with other replies. */
static void test_client_stalls(void)
{
    struct scene s;

    scene_begin(&s);
    s.rig.nbd->send_seconds = 1;
    struct client c = rig_go(&s.rig, true);
    client_request(&c, 0, READ, 1, 0, FILE_SIZE);
    rig_wait_gone(&s.rig, 1);
    client_close(&c);
    scene_end(&s);
}

/* The replies of workers come whole: between pieces from the file, and not inside them. */
static void test_between_others(void)
{
    struct scene s;
    const unsigned n = 64;
    unsigned held = 0, cached = 0;

    scene_begin(&s);
    const uint8_t *bytes = fake_bytes(s.rig.disk);
    for (unsigned i = 0; i < n; i++)
        fake_hold(s.rig.registry, 512 * i);
    struct client c = rig_go(&s.rig, true);
    for (unsigned i = 0; i < n; i++) {
        client_request(&c, 0, READ, i, 512 * i, 512);
        client_request(&c, 0, READ, n + i, 0, READ_PIECE);
        fake_release(s.rig.registry, 512 * i);
    }
    while (held + cached < 2 * n) {
        struct answer a = client_answer(&c, 0);
        if (a.length == 512) {
            g_assert_cmpmem(a.payload, a.length, bytes + 512 * a.cookie, 512);
            held++;
        } else {
            g_assert_cmpuint(a.cookie, >=, n);
            g_assert_cmpmem(a.payload, a.length, s.file, READ_PIECE);
            cached++;
        }
        g_free(a.payload);
    }
    g_assert_cmpuint(held, ==, n);
    client_close(&c);
    scene_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/send-file/taken/simple", NULL, test_taken);
    g_test_add_data_func("/send-file/taken/structured", "", test_taken);
    g_test_add_func("/send-file/several-pieces", test_several_pieces);
    g_test_add_func("/send-file/not-taken", test_not_taken);
    g_test_add_data_func("/send-file/rest-is-read/simple", NULL, test_rest_is_read);
    g_test_add_data_func("/send-file/rest-is-read/structured", "", test_rest_is_read);
    g_test_add_data_func("/send-file/rest-fails/simple", NULL, test_rest_fails);
    g_test_add_data_func("/send-file/rest-fails/structured", "", test_rest_fails);
    g_test_add_data_func("/send-file/rest-fails-before-others/simple", NULL,
                         test_rest_fails_before_others);
    g_test_add_data_func("/send-file/rest-fails-before-others/structured", "",
                         test_rest_fails_before_others);
    g_test_add_func("/send-file/client-goes", test_client_goes);
    g_test_add_func("/send-file/client-stalls", test_client_stalls);
    g_test_add_func("/send-file/between-others", test_between_others);
    return g_test_run();
}
