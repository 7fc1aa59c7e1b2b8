/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers that are built are what the parser reads, and lie where they have to. */
#include "common/base/cursor.h"
#include "common/qcow2/q2-header.h"

#include <glib.h>
#include <string.h>

#define CLUSTER   65536
#define FILE_SIZE (UINT64_C(1) << 30)

static struct q2_header header(void)
{
    return (struct q2_header){
        .version = 3,
        .cluster_bits = 16,
        .size = UINT64_C(10) << 30,
        .l1_size = 20,
        .l1_offset = CLUSTER,
        .refcount_table_offset = 2 * CLUSTER,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
    };
}

/* Build, and parse what has come out. `bytes` has a cluster. */
static struct q2_header build(const struct q2_header *h, uint8_t *bytes)
{
    struct q2_error err = {0};
    struct q2_header is;

    if (q2_header_build(h, bytes, CLUSTER, &err) < 0 ||
        q2_header_parse(bytes, CLUSTER, FILE_SIZE, &is, &err) < 0)
        g_error("%s", err.text);
    return is;
}

static void test_fields(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_header h = header(), is;

    memset(bytes, 0xff, CLUSTER);
    is = build(&h, bytes);
    g_assert_cmpuint(is.version, ==, 3);
    g_assert_cmpuint(is.cluster_bits, ==, 16);
    g_assert_cmpuint(is.size, ==, h.size);
    g_assert_cmpuint(is.l1_size, ==, 20);
    g_assert_cmpuint(is.l1_offset, ==, CLUSTER);
    g_assert_cmpuint(is.refcount_table_offset, ==, 2 * CLUSTER);
    g_assert_cmpuint(is.refcount_table_clusters, ==, 1);
    g_assert_cmpuint(is.refcount_order, ==, 4);
    g_assert_cmpuint(is.header_length, ==, 112);
    g_assert_cmphex(is.incompatible, ==, 0);
    g_assert_cmpstr(is.backing, ==, "");
    for (size_t i = 4096; i < CLUSTER; i++)
        g_assert_cmpuint(bytes[i], ==, 0);
}

/* The bit follows from the kind. */
static void test_compression(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_header h = header(), is;

    h.compression = Q2_ZSTD;
    is = build(&h, bytes);
    g_assert_cmphex(is.incompatible, ==, Q2_INCOMPATIBLE_COMPRESSION);
    g_assert_cmpint(is.compression, ==, Q2_ZSTD);
    h.compression = Q2_ZLIB;
    h.incompatible = Q2_INCOMPATIBLE_COMPRESSION;
    is = build(&h, bytes);
    g_assert_cmphex(is.incompatible, ==, 0);
    g_assert_cmpint(is.compression, ==, Q2_ZLIB);
}

static void test_backing(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_header h = header(), is;

    for (size_t length = 1; length < Q2_NAME_MAX; length += 73) {
        memset(h.backing, 'x', length);
        strcpy(h.backing_format, length % 2 ? "qcow2" : "raw");
        is = build(&h, bytes);
        g_assert_cmpstr(is.backing, ==, h.backing);
        g_assert_cmpstr(is.backing_format, ==, h.backing_format);
    }
}

/* All that changes with bitmaps is in the first 512 bytes, which a write does not tear. */
static void test_bitmaps(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_header h = header(), is;

    strcpy(h.backing, "base");
    strcpy(h.backing_format, "qcow2");
    h.nb_bitmaps = 3;
    h.bitmap_directory_size = 96;
    h.bitmap_directory_offset = 5 * CLUSTER;
    h.autoclear = Q2_AUTOCLEAR_BITMAPS;
    is = build(&h, bytes);
    g_assert_cmpuint(is.nb_bitmaps, ==, 3);
    g_assert_cmpuint(is.bitmap_directory_size, ==, 96);
    g_assert_cmpuint(is.bitmap_directory_offset, ==, 5 * CLUSTER);
    g_assert_cmphex(load_be32(bytes + 112), ==, 0x23852875);
    g_assert_cmpstr(is.backing, ==, "base");
}

static void test_data_file(void)
{
    g_autofree uint8_t *bytes = g_malloc(CLUSTER);
    struct q2_header h = header(), is;

    strcpy(h.data_file, "some data");
    h.incompatible = Q2_INCOMPATIBLE_DATA_FILE;
    h.autoclear = Q2_AUTOCLEAR_RAW_DATA_FILE;
    is = build(&h, bytes);
    g_assert_cmpstr(is.data_file, ==, "some data");
    g_assert_cmphex(is.incompatible, ==, Q2_INCOMPATIBLE_DATA_FILE);
    g_assert_cmphex(is.autoclear, ==, Q2_AUTOCLEAR_RAW_DATA_FILE);
}

/* The names of features are left out before anything is refused. */
static void test_small(void)
{
    uint8_t bytes[512];
    struct q2_header h = header();
    struct q2_error err;

    h.cluster_bits = 9;
    strcpy(h.backing, "base");
    strcpy(h.backing_format, "qcow2");
    g_assert_cmpint(q2_header_build(&h, bytes, sizeof bytes, &err), ==, 0);
    g_assert_cmphex(load_be32(bytes + 112), ==, 0xe2792aca);
    g_assert_cmphex(load_be32(bytes + 112 + 16), ==, 0);
    g_assert_cmpmem(bytes + load_be64(bytes + 8), load_be32(bytes + 16), "base", 4);
}

static void refuse(const struct q2_header *h, size_t cluster, const char *why)
{
    g_autofree uint8_t *bytes = g_malloc(cluster); /* exact, so that ASan sees a write past it */
    struct q2_error err = {0};

    g_assert_cmpint(q2_header_build(h, bytes, cluster, &err), ==, -1);
    if (!strstr(err.text, why))
        g_error("not '%s', but '%s'", why, err.text);
}

static void test_refused(void)
{
    struct q2_header h = header();

    h.version = 2;
    refuse(&h, CLUSTER, "of version 2");
    h = header();
    refuse(&h, 4096, "into 4096 bytes");
    h.cluster_bits = 22;
    refuse(&h, (size_t)1 << 22, "cluster_bits 22");
    h = header();
    h.size += 1;
    refuse(&h, CLUSTER, "no multiple of 512");
    h = header();
    h.compression = 7;
    refuse(&h, CLUSTER, "compression 7");
    h = header();
    strcpy(h.data_file, "data");
    refuse(&h, CLUSTER, "has no data file");
    h.incompatible = Q2_INCOMPATIBLE_DATA_FILE;
    memset(h.data_file, 'x', sizeof h.data_file);
    refuse(&h, CLUSTER, "longer than 1023 bytes");
    h.data_file[0] = 0;
    refuse(&h, CLUSTER, "has no name");
    h = header();
    strcpy(h.backing, "base");
    refuse(&h, CLUSTER, "is not stated");
    memset(h.backing, 'x', sizeof h.backing);
    refuse(&h, CLUSTER, "longer than 1023 bytes");
    h = header();
    memset(h.backing_format, 'x', sizeof h.backing_format);
    refuse(&h, CLUSTER, "format is longer than 31 bytes");
    h = header();
    h.cluster_bits = 10;
    memset(h.backing, 'x', 1000);
    strcpy(h.backing_format, "raw");
    refuse(&h, 1024, "does not fit");
    h.cluster_bits = 9;
    refuse(&h, 512, "does not fit");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/header-build/fields", test_fields);
    g_test_add_func("/header-build/compression", test_compression);
    g_test_add_func("/header-build/backing", test_backing);
    g_test_add_func("/header-build/bitmaps", test_bitmaps);
    g_test_add_func("/header-build/data-file", test_data_file);
    g_test_add_func("/header-build/small", test_small);
    g_test_add_func("/header-build/refused", test_refused);
    return g_test_run();
}
