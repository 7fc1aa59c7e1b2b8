/* SPDX-License-Identifier: BSD-3-Clause */
/* Single images of each kind that qemu-img makes: the disk is what QEMU reads, and each range is of the
 * kind that QEMU says. */
#include "tests/rigs/qcow2-oracle.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#define SIZE (UINT64_C(9) << 20)

/* Options of `qemu-img create`. */
static const char *const kinds[] = {
    "compat=0.10",
    "compat=0.10,cluster_size=4096",
    "cluster_size=512",
    "cluster_size=1024,refcount_bits=1",
    "cluster_size=4096,refcount_bits=2",
    "refcount_bits=4",
    "refcount_bits=8",
    "refcount_bits=16,lazy_refcounts=on",
    "refcount_bits=32",
    "refcount_bits=64",
    "cluster_size=2M",
    "cluster_size=128k,extended_l2=on",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=2M,extended_l2=on",
    "preallocation=metadata",
    "preallocation=metadata,extended_l2=on",
    "preallocation=falloc",
    "preallocation=full,cluster_size=4096",
    "data_file=data.raw",
    "data_file=data.raw,extended_l2=on",
    "data_file=data.raw,data_file_raw=on",
};

static void test_kind(gconstpointer options)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -o %s i.qcow2 %" G_GUINT64_FORMAT,
                  (const char *)options, (guint64)SIZE);
    qcow2_assert_same(&r, "i.qcow2");
    qcow2_rig_fill(&r, "i.qcow2", SIZE, 30);
    qcow2_assert_same(&r, "i.qcow2");
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

/* Text that can be compressed, next to what cannot. */
static void make_raw(const struct qcow2_rig *r, uint64_t size)
{
    g_autofree char *path = qcow2_rig_path(r, "content.raw");
    g_autofree uint8_t *bytes = g_malloc0(size);
    g_autoptr(GError) err = NULL;

    for (uint64_t at = 0; at < size; at++)
        if (at / 100000 % 3 == 0)
            bytes[at] = (uint8_t)g_test_rand_int();
        else if (at / 100000 % 3 == 1)
            bytes[at] = (uint8_t)(at / 7 % 11);
    g_file_set_contents(path, (char *)bytes, (gssize)size, &err);
    g_assert_no_error(err);
}

static void test_compressed(void)
{
    static const char *const options[] = {
        "compression_type=zlib",
        "compression_type=zstd",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=4096,compression_type=zstd",
        "cluster_size=2M,compression_type=zstd",
        "cluster_size=2M",
        "extended_l2=on,compression_type=zstd",
    };
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    make_raw(&r, SIZE + 12800);
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        qcow2_rig_run(&r, "qemu-img convert -c -f raw -O qcow2 -o %s content.raw i.qcow2",
                      options[i]);
        qcow2_assert_same(&r, "i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
        /* Other clusters between the compressed ones. */
        qcow2_rig_fill(&r, "i.qcow2", SIZE, 10);
        qcow2_assert_same(&r, "i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
    }
    qcow2_rig_end(&r);
}

static void test_sizes(void)
{
    static const unsigned sizes[] = {0, 512, 65024, 65536, 66048, 1000448};
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 %u", sizes[i]);
        if (sizes[i])
            qcow2_rig_run(&r, "qemu-io -f qcow2 -c 'write -P 3 %u 512' i.qcow2", sizes[i] - 512);
        qcow2_assert_same(&r, "i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
    }
    /* What is no multiple of a sector is served as QEMU does it. */
    qcow2_rig_put(&r, "i.qcow2", 24, 8, 1000448 + 511);
    qcow2_assert_same(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

/* Tables that are absent, and where they end: 2 TiB, with clusters at its borders. */
static void test_large(void)
{
    const uint64_t table = UINT64_C(512) << 20, size = UINT64_C(2) << 40;
    const uint64_t places[] = {0, table - 65536, table, 5 * table, size - 65536};
    struct q2_reader *reader;
    struct q2_image *image;
    struct qcow2_rig r;
    struct q2_extent e;
    uint64_t at = 0;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 2T");
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
        qcow2_rig_run(&r, "qemu-io -f qcow2 -c 'write -q -P %u %" G_GUINT64_FORMAT " 64k' i.qcow2",
                      i + 1, (guint64)places[i]);
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        uint8_t byte = 0;

        for (; at < places[i]; at += e.length) {
            g_assert_cmpint(q2_image_extent(reader, at, size - at, UINT_MAX, &e, NULL), ==, 0);
            g_assert_cmpint(e.kind, ==, Q2_UNALLOCATED);
        }
        g_assert_cmpuint(at, ==, places[i]);
        g_assert_cmpint(q2_image_extent(reader, at, 65536, UINT_MAX, &e, NULL), ==, 0);
        g_assert_cmpint(e.kind, ==, Q2_DATA);
        g_assert_cmpuint(e.length, ==, 65536);
        g_assert_cmpint(q2_image_pread(reader, &byte, 1, at + 65535, NULL), ==, 0);
        g_assert_cmpint(byte, ==, i + 1);
        at += e.length;
    }
    g_assert_cmpuint(at, ==, size);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* What follows on the host is one extent, also over tables; a restore reads it in one piece. */
static void test_coalesced(void)
{
    struct q2_reader *reader;
    struct q2_image *image;
    struct qcow2_rig r;
    struct q2_extent e;

    if (!qcow2_rig_begin(&r))
        return;
    /* 32 KiB for each table. */
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -o cluster_size=512,preallocation=metadata "
                      "i.qcow2 1M && qemu-img create -q -f qcow2 z.qcow2 1M && "
                      "qemu-io -f qcow2 -c 'write -q -z 128k 512k' z.qcow2 && "
                      "qemu-io -f qcow2 -c 'write -q 0 1M' -c 'write -q -z 0 64k' i.qcow2");
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_extent(reader, 65536, 1 << 20, UINT_MAX, &e, NULL), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_DATA);
    g_assert_cmpuint(e.length, >=, 32768);
    q2_reader_free(reader);
    q2_image_close(image);
    image = qcow2_open(&r, "z.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_extent(reader, 131072, 1 << 20, UINT_MAX, &e, NULL), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_ZERO);
    g_assert_cmpuint(e.length, ==, 512 << 10);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* Internal snapshots and bitmaps are there, and do not matter. */
static void test_extras(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 4M");
    for (unsigned i = 0; i < 3; i++) {
        qcow2_rig_fill(&r, "i.qcow2", 4 << 20, 15);
        qcow2_rig_run(&r, "qemu-img snapshot -c s%u i.qcow2 && qemu-img bitmap --add i.qcow2 b%u",
                      i, i);
        qcow2_assert_same(&r, "i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
    }
    qcow2_rig_end(&r);
}

static void test_outside(void)
{
    struct q2_reader *reader;
    struct q2_image *image;
    struct qcow2_rig r;
    struct q2_extent e;
    struct q2_error err;
    uint8_t bytes[1024];

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 1M");
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_pread(reader, bytes, 513, (1 << 20) - 512, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "no 513 bytes at 1048064"));
    g_assert_cmpint(q2_image_pread(reader, bytes, 1, UINT64_MAX, &err), ==, -1);
    g_assert_cmpint(q2_image_pread(reader, bytes, 0, 1 << 20, &err), ==, 0);
    g_assert_cmpint(q2_image_extent(reader, 1 << 20, 1, UINT_MAX, &e, &err), ==, -1);
    g_assert_cmpint(q2_image_extent(reader, 0, 0, UINT_MAX, &e, &err), ==, -1);
    g_assert_cmpint(q2_image_extent(reader, 4096, UINT64_MAX, UINT_MAX, &e, &err), ==, 0);
    g_assert_cmpuint(e.length, ==, (1 << 20) - 4096);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* Of the image h.qcow2 `length` bytes are there, and `whole` would be: what its first cluster is. */
static int look_at_head(const struct qcow2_rig *r, off_t length, uint64_t whole,
                        struct q2_extent *e, struct q2_error *err)
{
    g_autofree char *path = qcow2_rig_path(r, "h.qcow2");
    struct q2_reader *reader;
    struct q2_image *image;
    uint8_t byte;
    int result;

    g_assert_cmpint(truncate(path, length), ==, 0);
    image = q2_image_open_head(path, whole, err);
    g_assert_nonnull(image);
    g_assert_cmpuint(q2_image_size(image), ==, 1 << 20);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_pread(reader, &byte, 1, 0, NULL), ==, -1);
    result = q2_image_extent(reader, 0, 1 << 20, UINT_MAX, e, err);
    q2_reader_free(reader);
    q2_image_close(image);
    return result;
}

/* What is not there is not read as zeroes. */
static void test_head(void)
{
    const off_t data = 5 * 65536; /* its cluster; before it there are the header and four tables */
    struct qcow2_rig r;
    struct q2_extent e;
    struct q2_error err;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 h.qcow2 1M && "
                      "qemu-io -f qcow2 -c 'write -q -P 1 0 64k' h.qcow2");
    g_assert_cmpint(look_at_head(&r, data, UINT64_C(1) << 50, &e, &err), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_DATA);
    g_assert_cmpuint(e.length, ==, 65536);
    g_assert_cmpuint(e.host, ==, data);
    g_assert_cmpint(look_at_head(&r, data, data, &e, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "its cluster lies behind the end of the file"));
    g_assert_cmpint(look_at_head(&r, data - 65536, UINT64_C(1) << 50, &e, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "Cannot read 65536 bytes at 262144"));
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/image/kind/%s", kinds[i]);

        g_test_add_data_func(path, kinds[i], test_kind);
    }
    g_test_add_func("/image/compressed", test_compressed);
    g_test_add_func("/image/sizes", test_sizes);
    g_test_add_func("/image/large", test_large);
    g_test_add_func("/image/coalesced", test_coalesced);
    g_test_add_func("/image/extras", test_extras);
    g_test_add_func("/image/outside", test_outside);
    g_test_add_func("/image/head", test_head);
    return g_test_run();
}
