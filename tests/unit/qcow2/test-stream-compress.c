/* SPDX-License-Identifier: BSD-3-Clause */
/* Clusters as they are compressed: what every reader can read. */
#include "common/qcow2/q2-stream-private.h"

#include <glib.h>
#include <string.h>

/* Random bytes that come again from 20000 bytes on: only a reader with a large window would know
 * them. */
static void fill_far(uint8_t *bytes)
{
    for (size_t i = 0; i < CLUSTER; i++)
        bytes[i] = i < 20000 ? (uint8_t)(g_test_rand_int() & 0x7f) : bytes[i - 20000];
}

static struct q2_lane *lane_new(enum q2_compression compression, int level)
{
    struct q2_lane *l = g_new0(struct q2_lane, 1);
    struct q2_stream_options o = {.compress = true, .compression = compression, .level = level};
    struct q2_error err;

    g_assert_cmpint(q2_lane_open(l, &o, &err), ==, 0);
    return l;
}

static void lane_free(struct q2_lane *l)
{
    q2_lane_close(l);
    g_free(l);
}

static struct q2_cluster compress_one(struct q2_lane *l, const uint8_t *bytes)
{
    struct q2_cluster c = {0, bytes, (uint32_t)CLUSTER, Q2_DATA, 0};
    struct q2_error err;

    g_assert_cmpint(q2_lane_compress(l, &c, &err), ==, 0);
    return c;
}

/* Inflate with a window of 4 KiB, and nothing more to look back at. */
static void inflate_small(const struct q2_cluster *c, const uint8_t *bytes)
{
    z_stream z = {.next_in = (uint8_t *)c->data, .avail_in = c->length};
    int result = Z_OK;

    g_assert_cmpint(inflateInit2(&z, -12), ==, Z_OK);
    for (size_t i = 0; i < CLUSTER; i++) {
        uint8_t byte;

        z.next_out = &byte;
        z.avail_out = 1;
        result = inflate(&z, Z_NO_FLUSH);
        g_assert_cmpint(result, >=, Z_OK);
        g_assert_cmpuint(byte, ==, bytes[i]);
    }
    g_assert_cmpint(inflateEnd(&z), ==, Z_OK);
}

static void test_zlib_window(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_lane *l = lane_new(Q2_ZLIB, 0);

    fill_far(bytes);
    for (int i = 0; i < 3; i++) { /* the context is used again */
        struct q2_cluster c = compress_one(l, bytes);

        g_assert_cmpint(c.kind, ==, Q2_COMPRESSED);
        inflate_small(&c, bytes);
    }
    lane_free(l);
}

static void test_zstd(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER), *back = g_malloc(CLUSTER);
    struct q2_lane *l = lane_new(Q2_ZSTD, 19);

    fill_far(bytes);
    for (int i = 0; i < 3; i++) {
        struct q2_cluster c = compress_one(l, bytes);

        g_assert_cmpuint(ZSTD_decompress(back, CLUSTER, c.data, c.length), ==, CLUSTER);
        g_assert_cmpmem(back, CLUSTER, bytes, CLUSTER);
    }
    lane_free(l);
}

/* What does not get smaller stays as it is, and takes none of the room of what does. */
static void test_incompressible(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);

    for (size_t i = 0; i < CLUSTER; i++)
        bytes[i] = (uint8_t)g_test_rand_int();
    for (int way = Q2_ZLIB; way <= Q2_ZSTD; way++) {
        struct q2_lane *l = lane_new(way, 0);
        struct q2_cluster c = compress_one(l, bytes);

        g_assert_cmpint(c.kind, ==, Q2_DATA);
        g_assert_true(c.data == bytes);
        g_assert_cmpuint(c.length, ==, CLUSTER);
        g_assert_cmpuint(l->packed_end, ==, 0);
        lane_free(l);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compress/zlib-window", test_zlib_window);
    g_test_add_func("/compress/zstd", test_zstd);
    g_test_add_func("/compress/incompressible", test_incompressible);
    return g_test_run();
}
