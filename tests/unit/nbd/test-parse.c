/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients send: which options and requests are taken, and with what error the others are
 * refused.
 */
#include "server/nbd/negotiated.h"
#include "server/nbd/option.h"

#include <errno.h>
#include <glib.h>

/* ---- options ---- */

/* A good GO, cut to every length, and with each byte changed to every value. The parser never reads
 * beyond it (that is for the sanitizer), and what it accepts adds up. */
static void test_go_never_strays(void)
{
    static const uint8_t good[] = {0, 0, 0, 3, 'v', 'd', 'a', 0, 2, 0, 1, 0, 3};
    struct option_go go;
    const char *why = NULL;

    g_assert_cmphex(option_parse_go(good, sizeof good, &go, &why), ==, 0);
    g_assert_true(text_equal(go.name, "vda"));
    g_assert_true(go.want_name && go.want_block_size && !go.want_description);
    for (size_t length = 0; length < sizeof good; length++) {
        g_autofree uint8_t *cut = g_memdup2(good, length);
        g_assert_cmphex(option_parse_go(cut, length, &go, &why), ==, NBD_REP_ERR_INVALID);
        g_assert_nonnull(why);
    }
    for (unsigned i = 0; i < sizeof good * 256; i++) {
        g_autofree uint8_t *changed = g_memdup2(good, sizeof good);
        changed[i / 256] = (uint8_t)i;
        if (option_parse_go(changed, sizeof good, &go, &why) == 0)
            g_assert_cmpuint(go.name.length, ==, 3);
    }
}

static void test_meta(void)
{
    static const uint8_t good[] = {0, 0, 0, 1, 'd', 0, 0, 0, 2, 0, 0, 0, 2, 'a', ':', 0, 0, 0, 0};
    struct option_meta m;
    struct text query;
    const char *why;

    g_assert_cmphex(option_parse_meta(good, sizeof good, &m, &why), ==, 0);
    g_assert_cmpuint(m.n_queries, ==, 2);
    g_assert_true(option_meta_next(&m, &query));
    g_assert_true(text_equal(query, "a:"));
    g_assert_true(option_meta_next(&m, &query));
    g_assert_true(text_equal(query, ""));
    g_assert_false(option_meta_next(&m, &query));
    for (size_t length = 0; length < sizeof good; length++) {
        g_autofree uint8_t *cut = g_memdup2(good, length);
        g_assert_cmphex(option_parse_meta(cut, length, &m, &why), ==, NBD_REP_ERR_INVALID);
    }
    g_autofree uint8_t *longer = g_malloc0(sizeof good + 1);
    memcpy(longer, good, sizeof good);
    g_assert_cmphex(option_parse_meta(longer, sizeof good + 1, &m, &why), ==, NBD_REP_ERR_INVALID);
    /* 2^32 - 1 queries in a few bytes */
    memset(longer + 5, 0xff, 4);
    g_assert_cmphex(option_parse_meta(longer, sizeof good, &m, &why), ==, NBD_REP_ERR_INVALID);
}

static void test_strings(void)
{
    g_autofree uint8_t *name = g_malloc(4097);
    struct text t;
    const char *why;

    memset(name, 'x', 4097);
    g_assert_cmphex(option_parse_name(name, 4096, &t, &why), ==, 0);
    g_assert_cmphex(option_parse_name(name, 4097, &t, &why), ==, NBD_REP_ERR_TOO_BIG);
    name[10] = 0;
    g_assert_cmphex(option_parse_name(name, 20, &t, &why), ==, NBD_REP_ERR_INVALID);
    g_assert_cmphex(option_parse_name(NULL, 0, &t, &why), ==, 0);
}

/* ---- requests ---- */

static const struct request_rules everything = {
    .size = 1 << 20,
    .min_block = 512,
    .eflags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
              NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_DF | NBD_FLAG_SEND_CACHE |
              NBD_FLAG_SEND_FAST_ZERO,
    .structured = true,
    .status_contexts = 1,
};

/* A request's header on the heap, so that a sanitizer sees who reads beyond it. */
static uint8_t *make_header(bool extended, uint16_t flags, uint16_t type, uint64_t length)
{
    uint8_t *h = g_malloc(extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE);

    store_be32(h, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(h + 4, flags);
    store_be16(h + 6, type);
    store_be64(h + 8, 0x1122334455667788);
    store_be64(h + 16, 0x99aabbccddeeff00);
    if (extended)
        store_be64(h + 24, length);
    else
        store_be32(h + 24, (uint32_t)length);
    return h;
}

static struct request parsed(bool extended, uint16_t flags, uint16_t type, uint64_t length)
{
    const struct request_rules rules = {.structured = extended, .extended = extended};
    const struct request_rules other = {.structured = true, .extended = !extended};
    g_autofree uint8_t *header = make_header(extended, flags, type, length);
    struct request r;

    g_assert_true(request_parse(header, &rules, &r));
    g_assert_cmphex(r.cookie, ==, 0x1122334455667788);
    g_assert_cmphex(r.offset, ==, 0x99aabbccddeeff00);
    g_assert_cmphex(r.start, ==, r.offset);
    g_assert_cmphex(r.flags, ==, flags);
    g_assert_cmphex(r.type, ==, type);
    g_assert_false(request_parse(header, &other, &r)); /* the magic is looked at first */
    return r;
}

/* The header's length is the request's or the payload's. */
static void test_header(void)
{
    const uint64_t large = 0x123456789abcdef0;

    for (uint16_t type = 0; type < 10; type++) {
        struct request r = parsed(false, NBD_CMD_FLAG_PAYLOAD_LEN, type, 4096);
        g_assert_cmpuint(r.length, ==, 4096);
        g_assert_cmpuint(r.payload, ==, type == NBD_CMD_WRITE ? 4096 : 0);
        r = parsed(true, 0, type, large);
        g_assert_cmpuint(r.length, ==, large);
        g_assert_cmpuint(r.payload, ==, type == NBD_CMD_WRITE ? large : 0); /* as QEMU sends it */
        r = parsed(true, NBD_CMD_FLAG_PAYLOAD_LEN, type, large);
        g_assert_cmpuint(r.length, ==, type == NBD_CMD_WRITE ? large : 0);
        g_assert_cmpuint(r.payload, ==, large);
    }
}

static uint32_t judge(const struct request_rules *rules, uint16_t type, uint16_t flags,
                      uint64_t offset, uint64_t length)
{
    struct request r = {.type = type, .flags = flags, .offset = offset, .length = length};
    const char *why = NULL;
    uint32_t error = request_check(&r, rules, &why);

    g_assert_cmpint(error != 0, ==, why != NULL);
    return error;
}

static void test_ranges(void)
{
    static const struct {
        uint64_t offset, length;
    } outside[] = {{1 << 20, 512},           {(1 << 20) - 512, 1024}, {UINT64_MAX - 511, 512},
                   {UINT64_MAX - 511, 1024}, {0, (1 << 20) + 512},    {0, UINT64_MAX - 511},
                   {1ull << 63, 1ull << 63}};

    for (unsigned i = 0; i < G_N_ELEMENTS(outside); i++) {
        for (uint16_t type = 0; type <= NBD_CMD_BLOCK_STATUS; type++) {
            if (type == NBD_CMD_DISC || type == NBD_CMD_FLUSH)
                continue;
            bool writes = type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES;
            g_assert_cmpuint(judge(&everything, type, 0, outside[i].offset, outside[i].length), ==,
                             writes ? NBD_ENOSPC : NBD_EINVAL);
        }
    }
    g_assert_cmpuint(judge(&everything, NBD_CMD_READ, 0, (1 << 20) - 512, 512), ==, 0);
    g_assert_cmpuint(judge(&everything, NBD_CMD_READ, 0, 1 << 20, 0), ==, 0);
    g_assert_cmpuint(judge(&everything, NBD_CMD_READ, 0, 1, 512), ==, NBD_EINVAL);
    g_assert_cmpuint(judge(&everything, NBD_CMD_READ, 0, 0, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(judge(&everything, NBD_CMD_FLUSH, 0, 512, 0), ==, NBD_EINVAL);
    g_assert_cmpuint(judge(&everything, NBD_CMD_BLOCK_STATUS, 0, 0, 0), ==, NBD_EINVAL);
}

static void test_readonly(void)
{
    struct request_rules r = everything;

    r.readonly = true;
    r.eflags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY;
    g_assert_cmpuint(judge(&r, NBD_CMD_WRITE, 0, 0, 512), ==, NBD_EPERM);
    g_assert_cmpuint(judge(&r, NBD_CMD_WRITE_ZEROES, 0, 0, 512), ==, NBD_EPERM);
    g_assert_cmpuint(judge(&r, NBD_CMD_TRIM, 0, 0, 512), ==, NBD_EPERM);
    g_assert_cmpuint(judge(&r, NBD_CMD_READ, 0, 0, 512), ==, 0);
    g_assert_cmpuint(judge(&r, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 512), ==, NBD_EINVAL);
    r.eflags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_TRIM; /* a view that may be discarded */
    g_assert_cmpuint(judge(&r, NBD_CMD_TRIM, 0, 0, 512), ==, 0);
    g_assert_cmpuint(judge(&r, NBD_CMD_WRITE, 0, 0, 512), ==, NBD_EPERM);
}

static uint32_t judge_payload(const struct request_rules *rules, uint16_t type, uint64_t payload)
{
    struct request r = parsed(rules->extended, NBD_CMD_FLAG_PAYLOAD_LEN, type, payload);
    const char *why = NULL;

    r.offset = 0;
    uint32_t error = request_check(&r, rules, &why);
    g_assert_cmpint(error != 0, ==, why != NULL);
    return error;
}

static void test_payloads(void)
{
    struct request_rules r = everything;

    g_assert_cmpuint(judge_payload(&r, NBD_CMD_WRITE, 512), ==, NBD_EINVAL); /* compact */
    r.extended = true;
    r.status_contexts = 3;
    g_assert_cmpuint(judge(&r, NBD_CMD_WRITE, 0, 0, 512), ==, 0);
    g_assert_cmpuint(judge_payload(&r, NBD_CMD_WRITE, 512), ==, 0);
    g_assert_cmpuint(judge_payload(&r, NBD_CMD_BLOCK_STATUS, 12), ==, NBD_EINVAL); /* no offer */
    r.eflags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    for (uint64_t n = 0; n < 40; n++) {
        bool good = n == 12 || n == 16 || n == 20;
        g_assert_cmpuint(judge_payload(&r, NBD_CMD_BLOCK_STATUS, n), ==, good ? 0 : NBD_EINVAL);
    }
    g_assert_cmpuint(judge_payload(&r, NBD_CMD_BLOCK_STATUS, UINT64_MAX - 3), ==, NBD_EINVAL);
    for (uint16_t type = 0; type < 10; type++) {
        if (type != NBD_CMD_WRITE && type != NBD_CMD_BLOCK_STATUS && type != NBD_CMD_DISC)
            g_assert_cmpuint(judge_payload(&r, type, 12), ==, NBD_EINVAL);
    }
}

static void test_errors(void)
{
    struct request plain = {.type = NBD_CMD_WRITE_ZEROES};
    struct request fast = {.type = NBD_CMD_WRITE_ZEROES, .flags = NBD_CMD_FLAG_FAST_ZERO};

    for (int e = 1; e < 200; e++) {
        uint32_t error = request_error(&plain, -e);
        g_assert_true(error == NBD_EPERM || error == NBD_EIO || error == NBD_ENOMEM ||
                      error == NBD_EINVAL || error == NBD_ENOSPC || error == NBD_ESHUTDOWN);
        g_assert_cmpuint(request_error(&plain, e), ==, error);
    }
    g_assert_cmpuint(request_error(&plain, -ENOTSUP), ==, NBD_EINVAL);
    g_assert_cmpuint(request_error(&fast, -ENOTSUP), ==, NBD_ENOTSUP);
    g_assert_cmpuint(request_error(&plain, -EDQUOT), ==, NBD_ENOSPC);
    g_assert_cmpuint(request_error(&plain, -EFBIG), ==, NBD_ENOSPC);
}

static void test_block_sizes(void)
{
    static const struct {
        uint32_t min, pref, max;
    } given[] = {{1, 4096, 32 << 20},
                 {0, 0, 0},
                 {3, 5, 7},
                 {65536, 512, 512},
                 {1 << 20, 1 << 30, UINT32_MAX},
                 {512, 512, UINT32_MAX},
                 {4096, 4096, 5000}};

    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++) {
        struct node_info info = {
            .min_block = given[i].min, .pref_block = given[i].pref, .max_block = given[i].max};
        struct block_sizes b = negotiated_block_sizes(&info);
        g_assert_cmpuint(b.min & (b.min - 1), ==, 0);
        g_assert_cmpuint(b.min, >=, 1);
        g_assert_cmpuint(b.min, <=, 65536);
        g_assert_cmpuint(b.pref & (b.pref - 1), ==, 0);
        g_assert_cmpuint(b.pref, >=, MAX(b.min, 512));
        g_assert_cmpuint(b.max, >=, b.pref);
        g_assert_cmpuint(b.max, <=, NBD_MAX_PAYLOAD);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-parse/go-never-strays", test_go_never_strays);
    g_test_add_func("/nbd-parse/meta", test_meta);
    g_test_add_func("/nbd-parse/strings", test_strings);
    g_test_add_func("/nbd-parse/header", test_header);
    g_test_add_func("/nbd-parse/ranges", test_ranges);
    g_test_add_func("/nbd-parse/readonly", test_readonly);
    g_test_add_func("/nbd-parse/payloads", test_payloads);
    g_test_add_func("/nbd-parse/errors", test_errors);
    g_test_add_func("/nbd-parse/block-sizes", test_block_sizes);
    return g_test_run();
}
