/* SPDX-License-Identifier: BSD-3-Clause */
/* A good header is taken, and each rule of the format is broken once. */
#include "common/base/cursor.h"
#include "common/qcow2/q2-header.h"

#include <glib.h>
#include <stdbool.h>

#define CLUSTER   65536
#define FILE_SIZE (16 * CLUSTER)
#define SIZE      (UINT64_C(1) << 30)

struct sample {
    uint8_t bytes[CLUSTER];
    size_t at; /* of the next extension */
};

static void put(struct sample *s, size_t offset, unsigned width, uint64_t value)
{
    for (unsigned i = width; i-- > 0; value >>= 8)
        s->bytes[offset + i] = (uint8_t)value;
}

static void sample_init(struct sample *s, unsigned version)
{
    memset(s, 0, sizeof(*s));
    put(s, 0, 4, 0x514649fb);
    put(s, 4, 4, version);
    put(s, 20, 4, 16);
    put(s, 24, 8, SIZE);
    put(s, 36, 4, 2);
    put(s, 40, 8, 3 * CLUSTER);
    put(s, 48, 8, CLUSTER);
    put(s, 56, 4, 1);
    if (version == 3) {
        put(s, 96, 4, 4);
        put(s, 100, 4, 112);
    }
    s->at = version == 3 ? 112 : 72;
}

static void add_extension(struct sample *s, uint32_t type, const void *data, size_t length)
{
    put(s, s->at, 4, type);
    put(s, s->at + 4, 4, length);
    memcpy(s->bytes + s->at + 8, data, length);
    s->at += 8 + (length + 7) / 8 * 8;
}

static void add_string(struct sample *s, uint32_t type, const char *text)
{
    add_extension(s, type, text, strlen(text));
}

static void set_backing(struct sample *s, size_t offset, const char *name)
{
    put(s, 8, 8, offset);
    put(s, 16, 4, strlen(name));
    memcpy(s->bytes + offset, name, strlen(name));
}

static struct q2_header good(const struct sample *s)
{
    struct q2_header h;
    struct q2_error err = {0};

    if (q2_header_parse(s->bytes, CLUSTER, FILE_SIZE, &h, &err) < 0)
        g_error("refused: %s", err.text);
    return h;
}

static void assert_bad(const struct sample *s, size_t length, uint64_t file_size, const char *text)
{
    /* In memory of its own, so that a sanitizer sees each byte too many. */
    g_autofree uint8_t *bytes = g_memdup2(s->bytes, length);
    struct q2_header h;
    struct q2_error err = {0};

    if (q2_header_parse(bytes, length, file_size, &h, &err) == 0)
        g_error("taken, in spite of: %s", text);
    if (!strstr(err.text, text))
        g_error("refused, but not for \"%s\": %s", text, err.text);
    g_assert_cmpint(q2_header_parse(bytes, length, file_size, &h, NULL), ==, -1);
}

#define BACKING_FORMAT 0xe2792aca
#define FEATURES       0x6803f857
#define BITMAPS        0x23852875
#define DATA_FILE      0x44415441

static void test_good(void)
{
    struct sample s;
    struct q2_header h;

    sample_init(&s, 3);
    add_string(&s, 0x12345678, "nobody knows this");
    add_string(&s, BACKING_FORMAT, "qcow2");
    set_backing(&s, s.at + 8, "base.qcow2");
    h = good(&s);
    g_assert_cmpuint(h.version, ==, 3);
    g_assert_cmpuint(h.cluster_bits, ==, 16);
    g_assert_cmpuint(h.size, ==, SIZE);
    g_assert_cmpuint(h.l1_size, ==, 2);
    g_assert_cmpuint(h.l1_offset, ==, 3 * CLUSTER);
    g_assert_cmpuint(h.refcount_table_offset, ==, CLUSTER);
    g_assert_cmpuint(h.refcount_table_clusters, ==, 1);
    g_assert_cmpuint(h.refcount_order, ==, 4);
    g_assert_cmpuint(h.header_length, ==, 112);
    g_assert_cmpstr(h.backing, ==, "base.qcow2");
    g_assert_cmpstr(h.backing_format, ==, "qcow2");
    g_assert_cmpstr(h.data_file, ==, "");
    g_assert_cmpuint(h.nb_bitmaps, ==, 0);
}

static void test_version_2(void)
{
    struct sample s;
    struct q2_header h;

    sample_init(&s, 2);
    add_string(&s, BACKING_FORMAT, "raw");
    set_backing(&s, 200, "b");
    /* What would be features in version 3 are extensions here. */
    h = good(&s);
    g_assert_cmpuint(h.incompatible | h.compatible | h.autoclear, ==, 0);
    g_assert_cmpuint(h.refcount_order, ==, 4);
    g_assert_cmpuint(h.header_length, ==, 72);
    g_assert_cmpstr(h.backing_format, ==, "raw");
    g_assert_cmpstr(h.backing, ==, "b");
}

static void test_features(void)
{
    uint8_t bitmaps[24] = {0, 0, 0, 2};
    struct sample s;
    struct q2_header h;

    sample_init(&s, 3);
    put(&s, 36, 4, 4); /* tables of subclusters have half as many entries */
    put(&s, 72, 8, 0x1f);
    put(&s, 80, 8, 0xf1);
    put(&s, 88, 8, 3);
    put(&s, 104, 1, 1);
    add_string(&s, DATA_FILE, "disk.raw");
    bitmaps[15] = 60;
    bitmaps[21] = 5; /* 5 * CLUSTER */
    add_extension(&s, BITMAPS, bitmaps, sizeof(bitmaps));
    h = good(&s);
    g_assert_cmpuint(h.incompatible, ==, 0x1f);
    g_assert_cmpuint(h.compatible, ==, 0xf1);
    g_assert_cmpuint(h.compression, ==, Q2_ZSTD);
    g_assert_cmpstr(h.data_file, ==, "disk.raw");
    g_assert_cmpuint(h.nb_bitmaps, ==, 2);
    g_assert_cmpuint(h.bitmap_directory_size, ==, 60);
    g_assert_cmpuint(h.bitmap_directory_offset, ==, 5 * CLUSTER);
    /* Somebody who does not know bitmaps has written: they are not looked at. */
    put(&s, 88, 8, 0);
    g_assert_cmpuint(good(&s).nb_bitmaps, ==, 0);
}

/* Names at the limits of their length, and none at all. */
static void test_names(void)
{
    char name[1024];
    struct sample s;

    memset(name, 'x', 1023);
    name[1023] = 0;
    sample_init(&s, 3);
    set_backing(&s, CLUSTER - 1023, name);
    g_assert_cmpstr(good(&s).backing, ==, name);
    put(&s, 16, 4, 0);
    g_assert_cmpstr(good(&s).backing, ==, "");
    put(&s, 16, 4, 5);
    put(&s, 8, 8, 0);
    g_assert_cmpstr(good(&s).backing, ==, "");
}

/* One field of a good header is changed. */
static const struct {
    unsigned offset, width;
    uint64_t value;
    const char *text;
} fields[] = {
    {0, 4, 0x514649fa, "no qcow2 file"},
    {4, 4, 1, "version 1"},
    {4, 4, 4, "version 4"},
    {16, 4, 1024, "at most 1023"},
    {16, 4, CLUSTER, "outside of the header's cluster"},
    {16, 4, 0xffffffff, "outside of the header's cluster"},
    {8, 8, 104, "outside of the header's cluster"},
    {8, 8, CLUSTER, "outside of the header's cluster"},
    {8, 8, UINT64_MAX, "outside of the header's cluster"},
    {20, 4, 8, "2^8 bytes"},
    {20, 4, 22, "2^22 bytes"},
    {20, 4, 0xffffffff, "2^4294967295 bytes"},
    {24, 8, SIZE + 1, "too few for a disk"},
    {24, 8, UINT64_MAX, "too few for a disk"},
    {32, 4, 1, "AES"},
    {32, 4, 2, "LUKS"},
    {32, 4, 3, "encrypted"},
    {36, 4, (32 << 20) / 8 + 1, "L1 table has 4194305 entries"},
    {36, 4, 1, "too few for a disk"},
    {36, 4, 4 << 20, "behind the end of the file"},
    {40, 8, 3 * CLUSTER + 512, "no place for one"},
    {40, 8, 0, "no place for one"},
    {40, 8, FILE_SIZE, "L1 table lies behind the end"},
    {40, 8, UINT64_C(1) << 63, "L1 table lies behind the end"},
    {40, 8, UINT64_MAX - CLUSTER + 1, "L1 table lies behind the end"},
    {48, 8, CLUSTER + 8, "reference counts is at 65544"},
    {48, 8, 0, "reference counts is at 0"},
    {48, 8, FILE_SIZE, "counts lies behind the end"},
    {48, 8, UINT64_MAX - CLUSTER + 1, "counts lies behind the end"},
    {56, 4, 0, "counts has 0 clusters"},
    {56, 4, 129, "counts has 129 clusters"},
    {56, 4, 0xffffffff, "counts has 4294967295 clusters"},
    {56, 4, 16, "counts lies behind the end"},
    {60, 4, 65537, "65537 internal snapshots"},
    {60, 4, 1, "snapshots is at 0"},
    {72, 8, 1 << 5, "bit 5"},
    {72, 8, UINT64_C(1) << 63, "bit 63"},
    {72, 8, 4, "does not name that"},
    {72, 8, 8, "do not agree"},
    {96, 4, 7, "2^7 bits"},
    {96, 4, 0xffffffff, "bits"},
    {100, 4, 72, "72 bytes"},
    {100, 4, 96, "96 bytes"},
    {100, 4, 108, "108 bytes"},
    {100, 4, CLUSTER + 8, "65544 bytes"},
    {104, 1, 1, "do not agree"},
    {104, 1, 2, "type 2"},
    {112, 4, 0x0537be77, "LUKS"},
    {116, 4, CLUSTER, "no room"},
    {116, 4, 0xffffffff, "no room"},
};

static void test_fields(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        struct sample s;

        sample_init(&s, 3);
        add_string(&s, 0x12345678, "an extension");
        set_backing(&s, 1000, "base");
        good(&s);
        put(&s, fields[i].offset, fields[i].width, fields[i].value);
        assert_bad(&s, CLUSTER, FILE_SIZE, fields[i].text);
    }
}

static void test_subclusters(void)
{
    struct sample s;

    sample_init(&s, 3);
    put(&s, 72, 8, 16);
    put(&s, 36, 4, 4);
    good(&s);
    put(&s, 36, 4, 3);
    assert_bad(&s, CLUSTER, FILE_SIZE, "too few for a disk");
    put(&s, 20, 4, 13);
    assert_bad(&s, 8192, FILE_SIZE, "begin at 16384");
}

static void test_strings(void)
{
    struct sample s;
    char text[1025];

    memset(text, 'x', sizeof(text));
    sample_init(&s, 3);
    add_extension(&s, BACKING_FORMAT, text, 32);
    assert_bad(&s, CLUSTER, FILE_SIZE, "at most 31");
    sample_init(&s, 3);
    add_extension(&s, BACKING_FORMAT, "ra\0w", 4);
    assert_bad(&s, CLUSTER, FILE_SIZE, "NUL");
    sample_init(&s, 3);
    put(&s, 72, 8, 4);
    add_extension(&s, DATA_FILE, text, 1024);
    assert_bad(&s, CLUSTER, FILE_SIZE, "at most 1023");
    sample_init(&s, 3);
    put(&s, 72, 8, 4);
    add_extension(&s, DATA_FILE, text, 0);
    assert_bad(&s, CLUSTER, FILE_SIZE, "does not name that");
    sample_init(&s, 3);
    set_backing(&s, 1000, "ba");
    put(&s, 1001, 1, 0);
    assert_bad(&s, CLUSTER, FILE_SIZE, "NUL");
}

/* An unknown feature is refused by the name that the file has for it. */
static void test_feature_names(void)
{
    uint8_t table[96] = {0};
    struct sample s;

    table[0] = 1; /* a compatible feature, whose number is the same */
    table[1] = 7;
    memcpy(table + 2, "wrong", 5);
    table[49] = 7;
    memset(table + 50, 'n', 46);
    table[50] = '\n';
    sample_init(&s, 3);
    put(&s, 72, 8, 1 << 7);
    add_extension(&s, FEATURES, table, sizeof(table));
    assert_bad(&s, CLUSTER, FILE_SIZE, "bit 7, \"?nnn");
    /* A table that is cut in the middle of an entry. */
    put(&s, 116, 4, 95);
    assert_bad(&s, CLUSTER, FILE_SIZE, "incompatible bit 7");
}

static void test_bitmaps(void)
{
    static const struct {
        unsigned offset;
        uint8_t value;
        const char *text;
    } broken[] = {
        {3, 0, "is damaged"},   {0, 1, "is damaged"},     {7, 1, "is damaged"},
        {8, 1, "where none"},   {23, 1, "where none"},    {21, 0, "where none"},
        {21, 16, "where none"}, {16, 0xff, "where none"}, {13, 16, "where none"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(broken); i++) {
        uint8_t bitmaps[24] = {0, 0, 0, 2};
        struct sample s;

        bitmaps[15] = 60;
        bitmaps[21] = 5;
        bitmaps[broken[i].offset] = broken[i].value;
        sample_init(&s, 3);
        put(&s, 88, 8, 1);
        add_extension(&s, BITMAPS, bitmaps, sizeof(bitmaps));
        assert_bad(&s, CLUSTER, FILE_SIZE, broken[i].text);
    }
}

/* Whatever is cut off: an error, or, behind all that the header needs, nothing. */
static void test_short(void)
{
    struct sample s;

    sample_init(&s, 3);
    add_string(&s, BACKING_FORMAT, "qcow2");
    set_backing(&s, s.at + 8, "base");
    for (size_t length = 0; length < s.at + 12; length++)
        assert_bad(&s, length, FILE_SIZE,
                   length < 8 ? "ends inside" : "inside of its qcow2 header");
    /* A header, and nothing more: the rest is zeroes. */
    sample_init(&s, 3);
    put(&s, 24, 8, 0);
    put(&s, 36, 4, 0);
    assert_bad(&s, 112, FILE_SIZE, "inside of its qcow2 header");
    assert_bad(&s, 112, 112, "counts lies behind the end");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/header/good", test_good);
    g_test_add_func("/header/version-2", test_version_2);
    g_test_add_func("/header/features", test_features);
    g_test_add_func("/header/names", test_names);
    g_test_add_func("/header/fields", test_fields);
    g_test_add_func("/header/subclusters", test_subclusters);
    g_test_add_func("/header/strings", test_strings);
    g_test_add_func("/header/feature-names", test_feature_names);
    g_test_add_func("/header/bitmaps", test_bitmaps);
    g_test_add_func("/header/short", test_short);
    return g_test_run();
}
