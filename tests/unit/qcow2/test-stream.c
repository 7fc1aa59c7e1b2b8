/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2 files that are written in one pass: qemu-img finds them clean, and the disk in them. */
#include "tests/rigs/stream-rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER UINT64_C(65536)

/* Every other 192 KiB, in ascending order, with tables closed on the way. */
static void write_stripes(struct stream_rig *r, enum stream_data kind)
{
    for (uint64_t at = 0; at < r->o.size; at += 6 * CLUSTER) {
        stream_rig_write(r, 0, kind, at, MIN(3 * CLUSTER, r->o.size - at));
        stream_rig_below(r, at);
    }
}

static void test_sizes(void)
{
    const uint64_t sizes[] = {0, 1, 512, 65535, 65536, 65536 + 512, 3 * MIB + 100};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes) && stream_can_check(); i++) {
        struct stream_rig r;

        stream_rig_new(&r, &(struct q2_stream_options){.size = sizes[i]});
        write_stripes(&r, DATA_RANDOM);
        stream_rig_finish(&r);
        stream_rig_check(&r);
        stream_rig_free(&r);
    }
}

/* Every kind of data, by each way of compression. */
static void test_data(void)
{
    for (int kind = DATA_RANDOM; kind <= DATA_MIXED && stream_can_check(); kind++)
        for (int way = 0; way < 3; way++) {
            struct stream_rig r;
            struct q2_stream_options o = {.size = 9 * MIB + 1000,
                                          .compress = way > 0,
                                          .compression = way == 1 ? Q2_ZLIB : Q2_ZSTD,
                                          .detect_zeroes = kind != DATA_ZERO};

            stream_rig_new(&r, &o);
            stream_rig_write(&r, 0, kind, 0, 5 * MIB);
            stream_rig_write(&r, 0, kind, 5 * MIB, o.size - 5 * MIB);
            stream_rig_finish(&r);
            stream_rig_check(&r);
            stream_rig_free(&r);
        }
}

/* The compressed ones are really smaller, and packed without much between them. */
static void test_packed(void)
{
    for (int way = Q2_ZLIB; way <= Q2_ZSTD && stream_can_check(); way++) {
        struct stream_rig r;
        struct q2_stream_options o = {
            .size = 64 * MIB, .compress = true, .compression = way, .lanes = 1};

        stream_rig_new(&r, &o);
        for (uint64_t at = 0; at < o.size; at += 192 * KIB)
            stream_rig_write(&r, 0, DATA_TEXT, at, MIN(192 * KIB, o.size - at));
        stream_rig_finish(&r);
        stream_rig_check(&r);
        /* Half of it is text, of which each byte has 4 bits. */
        g_assert_cmpuint(q2_stream_file_size(r.stream), <, 20 * MIB);
        stream_rig_free(&r);
    }
}

static void expect(const char *text, const char *what)
{
    if (!strstr(text, what))
        g_error("no '%s' in: %s", what, text);
}

/* What qemu-img says of the header. */
static void test_header(void)
{
    struct stream_rig r;
    struct q2_stream_options o = {.size = 10 * MIB + 1,
                                  .backing = "base.raw",
                                  .backing_format = "raw",
                                  .compress = true,
                                  .compression = Q2_ZSTD};
    g_autofree char *text = NULL;

    if (!stream_can_check())
        return;
    stream_rig_new(&r, &o);
    stream_rig_base(&r, MIB);
    stream_rig_finish(&r);
    stream_rig_check(&r);
    text =
        stream_run(r.folder, (const char *[]){"qemu-img", "info", "--output=json", r.path, NULL});
    expect(text, "\"virtual-size\": 10486272");
    expect(text, "\"cluster-size\": 65536");
    expect(text, "\"compat\": \"1.1\"");
    expect(text, "\"compression-type\": \"zstd\"");
    expect(text, "\"refcount-bits\": 16");
    expect(text, "\"corrupt\": false");
    expect(text, "\"backing-filename\": \"base.raw\"");
    expect(text, "\"backing-filename-format\": \"raw\"");
    expect(text, "\"dirty-flag\": false");
    stream_rig_free(&r);
}

/* Zeroes hide what a base has, where they are told and where they are found; what does not come is
 * the base's, which may be shorter or longer. */
static void test_base(void)
{
    const uint64_t sizes[] = {MIB, 5 * MIB + 512, 20 * MIB};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes) && stream_can_check(); i++)
        for (int found = 0; found < 2; found++) {
            struct stream_rig r;
            struct q2_stream_options o = {.size = 5 * MIB + 512,
                                          .backing = "base.raw",
                                          .backing_format = "raw",
                                          .detect_zeroes = true};

            stream_rig_new(&r, &o);
            stream_rig_base(&r, sizes[i]);
            stream_rig_write(&r, 0, DATA_RANDOM, 65536, 65536);
            if (found)
                stream_rig_write(&r, 0, DATA_ZERO, 0, 65536);
            else
                stream_rig_zero(&r, 0, 0, 65536);
            stream_rig_zero(&r, 0, 3 * MIB + 65536, 2 * MIB - 65536);
            stream_rig_zero(&r, 0, 5 * MIB, 512);
            stream_rig_finish(&r);
            stream_rig_check(&r);
            stream_rig_free(&r);
        }
}

/* Without a base, zeroes take no space and need no table. */
static void test_zeroes_alone(void)
{
    struct stream_rig r;
    struct q2_stream_options o = {.size = 4 * GIB, .detect_zeroes = true};

    if (!stream_can_check())
        return;
    stream_rig_new(&r, &o);
    stream_rig_zero(&r, 0, 0, 2 * GIB);
    stream_rig_write(&r, 0, DATA_ZERO, 2 * GIB, 4 * MIB);
    stream_rig_finish(&r);
    stream_rig_check(&r);
    g_assert_cmpuint(q2_stream_file_size(r.stream), ==, 4 * 65536);
    stream_rig_free(&r);
}

/* On both sides of where one table ends and the next begins, and far away. */
static void test_tables(void)
{
    const uint64_t at[] = {0,         512 * MIB - 65536, 512 * MIB, 3 * GIB - 65536,
                           700 * GIB, TIB - 65536};

    for (int closed = 0; closed < 2 && stream_can_check(); closed++) {
        struct stream_rig r;

        stream_rig_new(&r, &(struct q2_stream_options){.size = TIB});
        for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
            if (closed)
                stream_rig_below(&r, at[i]);
            stream_rig_write(&r, 0, DATA_RANDOM, at[i], 65536);
        }
        stream_rig_finish(&r);
        stream_rig_check(&r);
        stream_rig_free(&r);
    }
}

/* Whole tables of zero clusters, told at once and by parts. */
static void test_zero_tables(void)
{
    for (int n = 1; n <= 5 && stream_can_check(); n += 2) {
        struct stream_rig r;
        struct q2_stream_options o = {
            .size = 5 * GIB + 65536, .backing = "base.raw", .backing_format = "raw"};

        stream_rig_new(&r, &o);
        stream_rig_base(&r, 2 * GIB);
        stream_rig_zero(&r, 0, 512 * MIB, n * 512 * MIB - 65536);
        stream_rig_zero(&r, 0, (n + 1) * 512 * MIB - 65536, 65536);
        stream_rig_below(&r, n / 2 * 512 * MIB);
        stream_rig_write(&r, 0, DATA_RANDOM, 4 * GIB, 65536);
        stream_rig_finish(&r);
        stream_rig_check(&r);
        /* Header, L1, data and its table, counts and their table; and those of zero clusters. */
        g_assert_cmpuint(q2_stream_file_size(r.stream), ==, (6 + n) * 65536);
        stream_rig_free(&r);
    }
}

/* Each cluster of a part of a disk once, or never, in any order, by many pieces in a call. */
static void test_random(void)
{
    struct q2_stream_options o = {.size = 3 * GIB + 700,
                                  .backing = "base.raw",
                                  .backing_format = "raw",
                                  .compress = g_test_rand_bit(),
                                  .compression = Q2_ZSTD,
                                  .detect_zeroes = true};
    struct stream_rig r;
    uint64_t at[200];

    if (!stream_can_check())
        return;
    stream_rig_new(&r, &o);
    stream_rig_base(&r, 2 * GIB + 512);
    for (size_t i = 0; i < G_N_ELEMENTS(at); i++)
        at[i] = o.size / G_N_ELEMENTS(at) * i / CLUSTER * CLUSTER;
    for (size_t i = G_N_ELEMENTS(at) - 1; i > 0; i--) {
        size_t j = (size_t)g_test_rand_int_range(0, (gint32)i + 1);
        uint64_t other = at[j];

        at[j] = at[i];
        at[i] = other;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
        uint64_t length = MIN((uint64_t)g_test_rand_int_range(1, 12) * CLUSTER, o.size - at[i]);

        if (g_test_rand_int_range(0, 4) == 0)
            stream_rig_zero(&r, 0, at[i], length);
        else
            stream_rig_write(&r, 0, DATA_MIXED, at[i], length);
    }
    stream_rig_finish(&r);
    stream_rig_check(&r);
    stream_rig_free(&r);
}

/* More pieces and clusters in one call than go into one pwritev, from one piece of memory. */
static void test_many_pieces(void)
{
    for (int compress = 0; compress < 2 && stream_can_check(); compress++) {
        struct stream_rig r;
        struct q2_stream_options o = {
            .size = 200 * MIB, .compress = compress, .compression = Q2_ZSTD};
        g_autofree struct q2_piece *pieces = g_new(struct q2_piece, 1600);
        g_autofree uint8_t *data = stream_data(DATA_MIXED, 0, 3 * 65536);
        struct q2_error err = {0};

        stream_rig_new(&r, &o);
        for (uint64_t i = 0; i < 1600; i++) {
            pieces[i] = (struct q2_piece){i * 2 * CLUSTER, CLUSTER, data + i % 3 * CLUSTER};
            g_assert_cmpint(pwrite(r.model, pieces[i].data, CLUSTER, (off_t)pieces[i].offset), ==,
                            CLUSTER);
        }
        g_assert_cmpint(q2_stream_write(r.stream, 0, pieces, 1600, &err), ==, 0);
        stream_rig_finish(&r);
        stream_rig_check(&r);
        stream_rig_free(&r);
    }
}

/* A call that breaks the rules would lose data: it is an error, and so is the end. */
static void test_misuse(void)
{
    static const uint8_t bytes[2 * 65536] = {1};
    const struct q2_piece wrong[] = {
        {512, 65536, bytes},      {0, 512, bytes},           {4 * 65536, 65536, bytes},
        {4 * 65536, 1024, bytes}, {65536, 2 * 65536, bytes}, {0, 65536, bytes},
    };
    struct q2_stream_options o = {
        .size = 4 * 65536 + 512, .backing = "base.raw", .backing_format = "raw"};

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
        for (int zero = 0; zero < 2; zero++) {
            struct stream_rig r;
            struct q2_error err = {0};

            stream_rig_new(&r, &o);
            stream_rig_write(&r, 0, DATA_RANDOM, 2 * 65536, 65536);
            if (i == 5) /* it comes too late */
                stream_rig_below(&r, o.size);
            g_assert_cmpint(
                zero ? q2_stream_zero(r.stream, 0, wrong[i].offset, wrong[i].length, &err)
                     : q2_stream_write(r.stream, 0, &wrong[i], 1, &err),
                ==, -1);
            expect(err.text, i < 4 ? "are not clusters" : i < 5 ? "comes twice" : "too late");
            g_assert_cmpint(q2_stream_finish(r.stream, &err), ==, -1);
            expect(err.text, "of no use");
            stream_rig_no_image(&r);
            stream_rig_free(&r);
        }
}

static void refuse(int fd, const struct q2_stream_options *o, const char *why)
{
    struct q2_error err = {0};

    g_assert_null(q2_stream_new(fd, o, &err));
    expect(err.text, why);
}

static void test_refused(void)
{
    struct q2_stream_options o = {.size = MIB, .lanes = 1};
    struct stream_rig r;
    g_autofree char *long_name = g_strnfill(1024, 'x');
    int fd;

    stream_rig_new(&r, &o);
    refuse(-1, &o, "cannot look at the file");
    fd = open("/dev/null", O_RDWR);
    refuse(fd, &o, "not a regular file");
    close(fd);
    fd = open(r.path, O_RDWR | O_APPEND);
    refuse(fd, &o, "appending");
    close(fd);
    o.size = 2049 * TIB;
    refuse(r.fd, &o, "larger than qcow2 takes");
    o.size = MIB;
    o.backing = "base";
    refuse(r.fd, &o, "is not stated");
    o.backing_format = "qcow2";
    o.backing = long_name;
    refuse(r.fd, &o, "longer than 1023 bytes");
    o.backing = NULL;
    o.compress = true;
    o.level = 10;
    refuse(r.fd, &o, "zlib has no level 10");
    o.compression = Q2_ZSTD;
    o.level = 1000;
    refuse(r.fd, &o, "zstd has no level 1000");
    o.compress = false;
    o.lanes = 0;
    refuse(r.fd, &o, "nobody would write");
    o.lanes = 1;
    g_assert_cmpint(write(r.fd, "x", 1), ==, 1);
    refuse(r.fd, &o, "not empty");
    stream_rig_free(&r);
}

static void add_tests(void)
{
    g_test_add_func("/stream/sizes", test_sizes);
    g_test_add_func("/stream/data", test_data);
    g_test_add_func("/stream/packed", test_packed);
    g_test_add_func("/stream/header", test_header);
    g_test_add_func("/stream/base", test_base);
    g_test_add_func("/stream/zeroes-alone", test_zeroes_alone);
    g_test_add_func("/stream/tables", test_tables);
    g_test_add_func("/stream/zero-tables", test_zero_tables);
    g_test_add_func("/stream/random", test_random);
    g_test_add_func("/stream/many-pieces", test_many_pieces);
    g_test_add_func("/stream/misuse", test_misuse);
    g_test_add_func("/stream/refused", test_refused);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests();
    return g_test_run();
}
