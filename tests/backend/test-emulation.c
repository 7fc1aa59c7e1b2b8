/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done in place of what a plugin cannot do, and what is not believed of a wrong plugin. */
#include "tests/backend/harness.h"

#include <errno.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* ---- pieces ---- */

/* Read "NAME COUNT OFFSET ..." lines and check that they cover [offset, offset + length) in order,
 * with at most `most` bytes each. Returns their number. */
static unsigned check_pieces(const char *record, const char *call, uint64_t offset, uint64_t length,
                             uint64_t most)
{
    g_auto(GStrv) lines = g_strsplit(record, "\n", -1);
    uint64_t at = offset;
    unsigned n = 0;

    for (char **l = lines; *l; l++) {
        char name[16];
        unsigned count;
        unsigned long long where;
        if (sscanf(*l, "%15s %u %llu", name, &count, &where) != 3 || strcmp(name, call) != 0)
            continue;
        g_assert_cmpuint(where, ==, at);
        g_assert_cmpuint(count, <=, most);
        g_assert_cmpuint(count, >, 0);
        at += count;
        n++;
    }
    g_assert_cmpuint(at, ==, offset + length);
    return n;
}

/* A bug of nbdkit 1.32: all pieces of the fallback were written at the same offset. */
static void test_zero_fallback_offsets(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", "zero", "95", NULL); /* ENOTSUP */
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));

    g_assert_cmpint(b->ops->zero(h, 200 * MIB + 512, 3 * GIB + 512, BACKEND_MAY_TRIM), ==, 0);
    g_autofree char *record = harness_probe(b);
    assert_contains(record, "zero 209715712 3221225984 1\n");
    g_assert_cmpuint(check_pieces(record, "pwrite", 3 * GIB + 512, 200 * MIB + 512, 64 * MIB), ==,
                     201);
    assert_contains(record, " 0 zeroes\n");
    g_assert_null(strstr(record, "flush"));
    harness_close(h);
    harness_free(b);
}

/* No piece is larger than the plugin's maximum. FUA that is not native is one flush at the end. */
static void test_zero_fallback_limits(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", "zero", "95", "maximum", "66048", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpuint(h->max_block, ==, 66048);
    g_assert_cmpint(b->ops->zero(h, 10 * MIB, 512, BACKEND_FUA), ==, 0);
    g_autofree char *record = harness_probe(b);
    check_pieces(record, "pwrite", 512, 10 * MIB, 66048);
    g_assert_true(g_str_has_suffix(record, "zeroes\nflush\n"));
    g_assert_true(strstr(record, "flush") == record + strlen(record) - 6);
    harness_close(h);
    harness_free(b);
}

static void test_fast_zero(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", "zero", "95", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->zero(h, 5 * GIB, 0, BACKEND_FAST), ==, -ENOTSUP);
    g_autofree char *record = harness_probe(b);
    g_assert_cmpstr(record, ==, "zero 1073741824 0 8\n"); /* and nothing was written */
    harness_close(h);
    harness_free(b);

    /* Once something has changed, "not supported" would be a lie. */
    b = harness_load("@big", "zero", "95", "zero_after", "1", NULL);
    h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->zero(h, GIB + 4096, 0, BACKEND_FAST), ==, 0);
    g_autofree char *second = harness_probe(b);
    g_assert_cmpstr(second, ==,
                    "zero 1073741824 0 8\nzero 4096 1073741824 0\n"
                    "pwrite 4096 1073741824 0 zeroes\n");
    harness_close(h);
    harness_free(b);
}

/* Only "not supported" leads to the fallback. */
static void test_zero_error(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", "zero", "28", NULL); /* ENOSPC */
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->zero(h, 4096, 0, BACKEND_FUA), ==, -ENOSPC);
    g_autofree char *record = harness_probe(b);
    g_assert_cmpstr(record, ==, "zero 4096 0 0\n");
    harness_close(h);
    harness_free(b);
}

static void test_can_zero_false(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "can_zero", "0", "can_fua", "2", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_true(h->can_zero);
    g_assert_cmpint(b->ops->zero(h, 8192, 4096, BACKEND_FUA | BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 8192, 4096, BACKEND_FAST), ==, -ENOTSUP);
    g_autofree char *record = harness_probe(b);
    g_assert_cmpstr(record, ==, "pwrite 8192 4096 2\n"); /* never MAY_TRIM */
    harness_close(h);
    harness_free(b);
}

static void test_long_ranges(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", NULL);
    struct backend_handle *h = harness_open(b);
    struct extents e = EXTENTS_INIT;
    g_free(harness_probe(b));

    g_assert_cmpint(b->ops->trim(h, 10 * GIB, GIB, BACKEND_FUA), ==, 0);
    g_autofree char *trims = harness_probe(b);
    check_pieces(trims, "trim", GIB, 10 * GIB, UINT32_MAX);
    g_assert_true(g_str_has_suffix(trims, "\nflush\n"));
    g_assert_cmpint(b->ops->zero(h, 16 * GIB, 0, 0), ==, 0);
    g_autofree char *zeroes = harness_probe(b);
    check_pieces(zeroes, "zero", 0, 16 * GIB, UINT32_MAX);
    g_assert_cmpint(b->ops->extents(h, 16 * GIB, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.total, >=, GIB);
    g_assert_cmpuint(e.total, <=, 16 * GIB);
    extents_free(&e);
    harness_close(h);
    harness_free(b);
}

/* No data call is larger than nbdkit would make it, nor than the plugin's maximum. */
static void test_data_pieces(void)
{
    uint32_t length = 130 * MIB;
    g_autofree char *buf = g_malloc0(length);

    if (!harness_have_plugins())
        return;
    for (int with_maximum = 0; with_maximum < 2; with_maximum++) {
        struct backend *b = harness_load("@big", "maximum", with_maximum ? "1000448" : "0", NULL);
        struct backend_handle *h = harness_open(b);
        uint64_t most = with_maximum ? 1000448 : 64 * MIB;
        g_free(harness_probe(b));
        g_assert_cmpint(b->ops->pread(h, buf, length, 512), ==, 0);
        g_autofree char *reads = harness_probe(b);
        check_pieces(reads, "pread", 512, length, most);
        for (uint32_t i = 0; i < length; i += 4099)
            g_assert_cmpint(buf[i], ==, 1);
        g_assert_cmpint(b->ops->pwrite(h, buf, length, 512, BACKEND_FUA), ==, 0);
        g_autofree char *writes = harness_probe(b);
        check_pieces(writes, "pwrite", 512, length, most);
        g_assert_true(g_str_has_suffix(writes, "\nflush\n"));
        harness_close(h);
        harness_free(b);
    }
}

static void test_cache(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@big", NULL); /* can_cache is EMULATE */
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_true(h->can_cache);
    g_assert_cmpint(b->ops->cache(h, 5 * MIB, 512), ==, 0);
    g_autofree char *record = harness_probe(b);
    check_pieces(record, "pread", 512, 5 * MIB, MIB);
    g_assert_cmpint(b->ops->cache(h, 0, 512), ==, 0);
    harness_close(h);
    harness_free(b);
}

static void test_flags_off(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "can_write", "0", NULL);
    struct backend_handle *h = harness_open(b);
    g_assert_false(h->can_write || h->can_trim || h->can_zero || h->can_fast_zero || h->can_fua);
    g_assert_true(h->can_flush);
    g_free(harness_probe(b));
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, 0), ==, -EROFS);
    g_assert_cmpint(b->ops->zero(h, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(b->ops->trim(h, 512, 0, 0), ==, -EROFS);
    g_autofree char *untouched = harness_probe(b);
    g_assert_cmpstr(untouched, ==, "");
    harness_close(h);
    harness_free(b);

    struct extents e = EXTENTS_INIT;
    b = harness_load("@v2", "can_extents", "0", NULL);
    h = harness_open(b);
    g_free(harness_probe(b));
    g_assert_false(h->can_extents);
    g_assert_cmpint(b->ops->extents(h, 1 << 20, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 1); /* all of it is data, as far as can be told */
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    extents_free(&e);
    g_autofree char *unasked = harness_probe(b);
    g_assert_cmpstr(unasked, ==, "");
    harness_close(h);
    harness_free(b);

    b = harness_load("@v2", "can_fua", "1", "can_flush", "0", "thread_model", "0", NULL);
    h = harness_open(b);
    g_free(harness_probe(b));
    /* Emulated FUA flushes even where flushing is not offered; multi-conn is hidden. */
    g_assert_true(h->can_fua);
    g_assert_false(h->can_flush || h->can_multi_conn);
    g_assert_cmpint(b->ops->pwrite(h, "x", 1, 0, BACKEND_FUA), ==, 0);
    g_autofree char *record = harness_probe(b);
    g_assert_cmpstr(record, ==, "pwrite 1 0 0\nflush 0\n");
    harness_close(h);
    harness_free(b);
}

/* ---- wrong plugins ---- */

static void test_wrong_answers(void)
{
    static const struct {
        const char *mode, *message;
    } cases[] = {
        {"no-default", "default"},
        {"bad-default", "default"},
        {"open", "disk vda: evil: no: two reasons; and another"},
        {"size", "get_size"},
        {"block-minimum", "the minimum is not a power of 2"},
        {"block-minimum-huge", "the minimum is not"},
        {"block-preferred", "preferred"},
        {"block-preferred-odd", "preferred"},
        {"block-maximum", "maximum"},
        {"block-descend", "ascend"},
        {"block-return", "block_size"},
        {"can_write", "can_write"},
        {"can_fua", "can_fua"},
        {"can_cache", "can_cache"},
    };

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct backend *b = harness_load("@evil", "mode", cases[i].mode, NULL);
        harness_log_begin();
        g_autofree char *error = harness_open_error(b, false);
        g_free(harness_log_end());
        g_test_message("%s: %s", cases[i].mode, error);
        assert_contains(error, "disk vda: evil: ");
        assert_contains(error, cases[i].message);
        harness_free(b);
    }
    g_autoptr(GError) err = NULL;
    g_assert_null(harness_try(&err, "@evil", "mode", "thread_model", NULL));
    assert_contains(err->message, "disk vda: evil: thread_model");
}

/* An ability without its callback is taken away, with a line in the log. */
static void test_empty_claims(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@evil", "mode", "thread_model-huge", NULL);
    harness_log_begin();
    struct backend_handle *h = harness_open(b);
    g_autofree char *log = harness_log_end();
    g_assert_false(h->can_flush || h->can_trim || h->can_fua);
    g_assert_true(h->can_write && h->can_zero && h->can_cache);
    assert_contains(log, "can_flush is true, but");
    assert_contains(log, "can_trim is true, but");
    assert_contains(log, "can_zero is true, but");
    /* "Native" caching without a callback succeeds and does nothing; this is nbdkit's rule. */
    g_assert_cmpint(b->ops->cache(h, 512, 0), ==, 0);
    harness_close(h);
    harness_free(b);

    b = harness_load("@evil", "mode", "size-huge", NULL);
    harness_log_begin();
    h = harness_open(b);
    g_free(harness_log_end());
    g_assert_cmpuint(h->size, ==, INT64_MAX);
    g_assert_cmpint(b->ops->zero(h, 512, INT64_MAX - 511 - 512, 0), ==, 0);
    harness_close(h);
    harness_free(b);
}

static void test_unlimited_maximum(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@evil", "mode", "block-no-maximum", NULL);
    harness_log_begin();
    struct backend_handle *h = harness_open(b);
    g_free(harness_log_end());
    g_assert_cmpuint(h->min_block, ==, 512);
    g_assert_cmpuint(h->max_block, ==, 64 << 20);
    harness_close(h);
    harness_free(b);
}

static void test_wrong_returns(void)
{
    static const struct {
        const char *mode;
        int error;
        const char *log; /* NULL: nothing is logged */
    } cases[] = {
        {"returns-1", -EIO, "returned 1,"},
        {"returns-count", -EIO, "returned 512,"},
        {"returns-minus-2", -EIO, "returned -2,"},
        {"errno", -EIO, NULL},
        {"set_error", -ENOSPC, NULL},
        {"eagain", -EIO, NULL},
        {"error-nonsense", -EIO, NULL},
    };
    char buf[512];

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct backend *b = harness_load("@evil", "mode", cases[i].mode, NULL);
        harness_log_begin();
        struct backend_handle *h = harness_open(b);
        g_free(harness_log_end());
        g_test_message("%s", cases[i].mode);
        harness_log_begin();
        g_assert_cmpint(b->ops->pread(h, buf, 512, 0), ==, cases[i].error);
        g_assert_cmpint(b->ops->pwrite(h, buf, 512, 0, 0), ==, cases[i].error);
        g_assert_cmpint(b->ops->zero(h, 512, 0, 0), ==, cases[i].error);
        g_autofree char *log = harness_log_end();
        if (cases[i].log)
            assert_contains(log, cases[i].log);
        else
            g_assert_cmpstr(log, ==, "");
        harness_close(h);
        harness_free(b);
    }
}

/* Ask for the extents of [4096, 4096 + 64 KiB). */
static int evil_extents(const char *mode, struct extents *e, char **log)
{
    struct backend *b = harness_load("@evil", "mode", mode, NULL);

    harness_log_begin();
    struct backend_handle *h = harness_open(b);
    g_free(harness_log_end());
    harness_log_begin();
    int r = b->ops->extents(h, 65536, 4096, 0, e);
    *log = harness_log_end();
    harness_close(h);
    harness_free(b);
    return r;
}

static void test_wrong_extents(void)
{
    static const struct {
        const char *mode;
        int error;
    } cases[] = {
        {"extents-none", -EIO},     {"extents-empty", -EIO},     {"extents-before", -EIO},
        {"extents-gap", -EIO},      {"extents-backwards", -EIO}, {"extents-late", -EIO},
        {"extents-overflow", -EIO},
    };

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct extents e = EXTENTS_INIT;
        g_autofree char *log = NULL;
        g_test_message("%s", cases[i].mode);
        g_assert_cmpint(evil_extents(cases[i].mode, &e, &log), ==, cases[i].error);
        assert_contains(log, "extent");
        g_assert_cmpuint(e.count, ==, 0);
        extents_free(&e);
    }
}

static void test_odd_extents(void)
{
    struct extents e = EXTENTS_INIT;
    g_autofree char *log = NULL;

    if (!harness_have_plugins())
        return;
    g_assert_cmpint(evil_extents("extents-flags", &e, &log), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.list[0].flags, ==, EXTENT_ZERO);
    g_assert_cmpuint(e.list[0].length, ==, 65536);
    extents_free(&e);

    /* Bytes that alternate, with a minimum block of 512: it has what all its bytes have in common.
     */
    g_clear_pointer(&log, g_free);
    g_assert_cmpint(evil_extents("extents-many", &e, &log), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.total, ==, 65536);
    extents_free(&e);

    /* 512 hole+zero; 512 zero (shared by three); hole+zero to 4096; 10 bytes are left out. */
    g_clear_pointer(&log, g_free);
    g_assert_cmpint(evil_extents("extents-ragged", &e, &log), ==, 0);
    g_assert_cmpuint(e.count, ==, 3);
    g_assert_cmpuint(e.list[0].length, ==, 512);
    g_assert_cmpuint(e.list[0].flags, ==, EXTENT_HOLE | EXTENT_ZERO);
    g_assert_cmpuint(e.list[1].length, ==, 512);
    g_assert_cmpuint(e.list[1].flags, ==, EXTENT_ZERO);
    g_assert_cmpuint(e.list[2].length, ==, 3072);
    g_assert_cmpuint(e.total, ==, 4096);
    extents_free(&e);

    /* Less than a block: the block, as data. */
    g_clear_pointer(&log, g_free);
    g_assert_cmpint(evil_extents("extents-crumb", &e, &log), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.total, ==, 512);
    extents_free(&e);
}

static void add_tests(void)
{
    g_test_add_func("/emulation/zero/offsets", test_zero_fallback_offsets);
    g_test_add_func("/emulation/zero/limits", test_zero_fallback_limits);
    g_test_add_func("/emulation/zero/fast", test_fast_zero);
    g_test_add_func("/emulation/zero/error", test_zero_error);
    g_test_add_func("/emulation/zero/can-zero-false", test_can_zero_false);
    g_test_add_func("/emulation/long-ranges", test_long_ranges);
    g_test_add_func("/emulation/data-pieces", test_data_pieces);
    g_test_add_func("/emulation/cache", test_cache);
    g_test_add_func("/emulation/flags-off", test_flags_off);
    g_test_add_func("/wrong/answers", test_wrong_answers);
    g_test_add_func("/wrong/empty-claims", test_empty_claims);
    g_test_add_func("/wrong/unlimited-maximum", test_unlimited_maximum);
    g_test_add_func("/wrong/returns", test_wrong_returns);
    g_test_add_func("/wrong/extents", test_wrong_extents);
    g_test_add_func("/wrong/odd-extents", test_odd_extents);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
