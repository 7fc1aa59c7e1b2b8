/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pure functions of nbd/: options, requests, what is decided from them.
 */
#include "server/nbd/offload.h"
#include "server/nbd/option.h"
#include "server/nbd/reply.h"
#include "server/nbd/negotiated.h"
#include "server/nbd/status.h"

#include <errno.h>
#include <glib.h>

/* ---- options ---- */

/* A GO of every length around a good one, with each byte changed: never beyond the bytes (that is
 * for the sanitizer), and all that is accepted adds up. */
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

/* Which of the two lengths the header's is. */
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

/* ---- block status ---- */

static void check_list(const struct extents *e, const struct extent *expected, size_t n)
{
    g_assert_cmpuint(e->count, ==, n);
    for (size_t i = 0; i < n; i++) {
        g_assert_cmpuint(e->list[i].length, ==, expected[i].length);
        g_assert_cmpuint(e->list[i].flags, ==, expected[i].flags);
    }
}

static void test_align(void)
{
    static const struct extent given[] = {{1000, 3}, {1000, 0}, {6192, 3}, {4096, 0}, {700, 3}};
    struct extents e = EXTENTS_INIT;

    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        extents_add(&e, given[i].length, given[i].flags);
    /* Allocation: a hole only where all of the unit is one. The list breaks off inside a unit. */
    g_assert_cmpint(status_align(&e, 4096, false, false), ==, 0);
    check_list(&e, (struct extent[]){{4096, 0}, {4096, 3}, {4096, 0}}, 3);
    extents_clear(&e);
    for (unsigned i = 0; i < G_N_ELEMENTS(given); i++)
        extents_add(&e, given[i].length, given[i].flags);
    /* Dirty: where any of it is; complete: the last bytes are known whole. */
    g_assert_cmpint(status_align(&e, 4096, true, true), ==, 0);
    check_list(&e, (struct extent[]){{8192, 3}, {4096, 0}, {700, 3}}, 3);
    extents_clear(&e);
    extents_add(&e, 8192, 1);
    extents_add(&e, 4096, 0);
    extents_add(&e, 100, 1);
    g_assert_cmpint(status_align(&e, 4096, true, true), ==, 0);
    check_list(&e, (struct extent[]){{8192, 1}, {4096, 0}, {100, 1}}, 3);
    extents_free(&e);
}

/* Contexts 0, 2 and 3 are there; a filter of so many of `ids`. */
static uint32_t filter(uint64_t length, const uint32_t *ids, unsigned n)
{
    struct meta_context list[] = {{.id = 0}, {.id = 2}, {.id = 3}};
    struct negotiated s = {.rules = everything, .contexts = {.list = list, .n = 3}};
    struct request r = {.type = NBD_CMD_BLOCK_STATUS,
                        .flags = NBD_CMD_FLAG_PAYLOAD_LEN,
                        .offset = 512,
                        .payload = STATUS_FILTER_HEAD + n * STATUS_FILTER_ID};
    g_autofree uint8_t *payload = g_malloc(r.payload);
    const char *why = NULL;

    store_be64(payload, length);
    for (unsigned i = 0; i < n; i++)
        store_be32(payload + STATUS_FILTER_HEAD + i * STATUS_FILTER_ID, ids[i]);
    uint32_t error = status_filter(&s, &r, payload, &why);
    g_assert_cmpint(error != 0, ==, why != NULL);
    if (error == 0)
        g_assert_cmpuint(r.length, ==, length);
    return error;
}

static void test_filter(void)
{
    g_assert_cmpuint(filter(512, (uint32_t[]){0, 2, 3}, 3), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){3, 0}, 2), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){2}, 1), ==, 0);
    g_assert_cmpuint(filter(512, (uint32_t[]){2, 2}, 2), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){0, 3, 0}, 3), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){1}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(512, (uint32_t[]){0, UINT32_MAX}, 2), ==, NBD_EINVAL);
    g_assert_cmpuint(filter((1 << 20) - 512, (uint32_t[]){0}, 1), ==, 0);
    g_assert_cmpuint(filter(1 << 20, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(UINT64_MAX - 511, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(0, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
    g_assert_cmpuint(filter(100, (uint32_t[]){0}, 1), ==, NBD_EINVAL);
}

/* ---- replies ---- */

/* What one of them lays out. The reply buffer is never full, so nothing is sent. */
struct layout {
    struct negotiated negotiated;
    struct request request;
    uint8_t bytes[512];
    struct reply_buffer replies;
};

static void layout_begin(struct layout *o, bool structured, bool extended, uint16_t type)
{
    *o = (struct layout){
        .negotiated = {.rules = {.structured = structured, .extended = extended}},
        .request = {.type = type, .cookie = 77, .start = 4096, .offset = 8192, .length = 512},
    };
    o->replies = (struct reply_buffer){.buf = o->bytes, .size = sizeof o->bytes};
}

/* The laid out bytes begin with a chunk's header; returns what is behind it. */
static const uint8_t *check_chunk(const struct layout *o, uint16_t flags, uint16_t type,
                                  uint64_t length)
{
    bool extended = o->negotiated.rules.extended;
    const uint8_t *p = o->bytes;
    size_t head = extended ? 32 : 20;

    g_assert_cmphex(load_be32(p), ==, extended ? 0x6e8a278c : 0x668e33ef);
    g_assert_cmphex(load_be16(p + 4), ==, flags);
    g_assert_cmphex(load_be16(p + 6), ==, type);
    g_assert_cmpuint(load_be64(p + 8), ==, 77);
    if (extended)
        g_assert_cmpuint(load_be64(p + 16), ==, 4096); /* not where the work has got to */
    g_assert_cmpuint(extended ? load_be64(p + 24) : load_be32(p + 16), ==, length);
    g_assert_cmpuint(reply_chunk_header_size(&o->negotiated), ==, head);
    return p + head;
}

static void check_simple(const struct layout *o, uint32_t error)
{
    g_assert_cmpuint(o->replies.used, ==, 16);
    g_assert_cmphex(load_be32(o->bytes), ==, 0x67446698);
    g_assert_cmpuint(load_be32(o->bytes + 4), ==, error);
    g_assert_cmpuint(load_be64(o->bytes + 8), ==, 77);
}

static void test_reply_success(void)
{
    struct layout o;

    layout_begin(&o, true, true, NBD_CMD_TRIM);
    reply_success(&o.replies, &o.negotiated, &o.request);
    g_assert_cmpuint(o.replies.used, ==, 32);
    check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
    layout_begin(&o, true, false, NBD_CMD_TRIM);
    reply_success(&o.replies, &o.negotiated, &o.request);
    check_simple(&o, 0);
    layout_begin(&o, true, false, NBD_CMD_READ);
    reply_success(&o.replies, &o.negotiated, &o.request);
    g_assert_cmpuint(o.replies.used, ==, 20);
    check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
}

static void test_reply_error(void)
{
    struct layout o;

    layout_begin(&o, false, false, NBD_CMD_READ);
    reply_error_at(&o.replies, &o.negotiated, &o.request, NBD_EIO, 8192);
    check_simple(&o, NBD_EIO);
    for (unsigned extended = 0; extended < 2; extended++) {
        layout_begin(&o, true, extended, NBD_CMD_READ);
        reply_error(&o.replies, &o.negotiated, &o.request, NBD_EINVAL, "no");
        const uint8_t *p = check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 8);
        g_assert_cmpuint(load_be32(p), ==, NBD_EINVAL);
        g_assert_cmpuint(load_be16(p + 4), ==, 2);
        g_assert_cmpmem(p + 6, 2, "no", 2);
        g_assert_cmpuint(o.replies.used, ==, (size_t)(p - o.bytes) + 8);

        layout_begin(&o, true, extended, NBD_CMD_READ);
        reply_error_at(&o.replies, &o.negotiated, &o.request, NBD_EIO, 8192);
        uint16_t text = (uint16_t)strlen(request_error_text(NBD_EIO));
        p = check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR_OFFSET, 6u + text + 8);
        g_assert_cmpuint(load_be16(p + 4), ==, text);
        g_assert_cmpuint(load_be64(p + 6 + text), ==, 8192);
    }
}

static void test_reply_data(void)
{
    struct layout o;

    for (unsigned extended = 0; extended < 2; extended++) {
        for (unsigned done = 0; done < 2; done++) {
            layout_begin(&o, true, extended, NBD_CMD_READ);
            g_assert_cmpuint(reply_data_header_size(&o.negotiated), ==, extended ? 40 : 28);
            reply_data_header(o.bytes, &o.negotiated, &o.request, 8192, 512, done);
            const uint8_t *p =
                check_chunk(&o, done ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_DATA, 520);
            g_assert_cmpuint(load_be64(p), ==, 8192);
        }
    }
}

/* ---- hand-over ---- */

static void test_offload(void)
{
    struct offload h;
    bool watch;

    offload_init(&h);
    /* New: slow, and alone does not help. */
    g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
    for (unsigned i = 0; i < OFFLOAD_DEEP; i++)
        g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    /* A client that asks one by one. */
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(watch);
    offload_watched(&h, false);
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    offload_watched(&h, true); /* it does not, after all */
    g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    /* A quick disk. */
    for (unsigned i = 0; i < 40; i++)
        offload_note(&h, CLASS_READ, 2000, 4096);
    g_assert_true(offload_stay(&h, CLASS_READ, false, &watch));
    g_assert_false(watch);
    g_assert_false(offload_stay(&h, CLASS_WRITE, false, &watch)); /* another class */
    /* One hiccup is soon forgotten, a slow disk is noticed at once. */
    offload_note(&h, CLASS_READ, 1000000000, 4096);
    offload_note(&h, CLASS_READ, 2000, 4096);
    offload_note(&h, CLASS_READ, 2000, 4096);
    g_assert_true(offload_stay(&h, CLASS_READ, false, &watch));
    for (unsigned i = 0; i < 3; i++)
        offload_note(&h, CLASS_READ, 10000000, 4096);
    g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
}

/* A node that never promises is asked less and less, and always once it does. */
static void test_offload_asks(void)
{
    struct offload h;
    unsigned asked = 0;

    offload_init(&h);
    for (unsigned i = 0; i < 1000; i++) { /* slow: always */
        g_assert_true(offload_ask(&h));
        offload_asked(&h, false, false);
    }
    for (unsigned i = 0; i < 40; i++)
        offload_note(&h, CLASS_READ, 2000, 4096);
    for (unsigned i = 0; i < 1000; i++) {
        if (offload_ask(&h)) {
            asked++;
            offload_asked(&h, false, false);
        }
    }
    g_assert_cmpuint(asked, >, 5);
    g_assert_cmpuint(asked, <, 30);
    while (!offload_ask(&h))
        ;
    offload_asked(&h, true, false);
    for (unsigned i = 0; i < 1000; i++) {
        g_assert_true(offload_ask(&h));
        offload_asked(&h, true, false);
    }
}

/* Data that has to come from a medium: handed to a worker however quick that is, and not asked for
 * each time; until what was asked for is there. */
static void test_offload_blocks(void)
{
    struct offload h;
    unsigned asked = 0;
    bool watch;

    offload_init(&h);
    for (unsigned i = 0; i < 1000; i++) {
        offload_note(&h, CLASS_READ, 2000, 4096);
        if (offload_ask(&h)) {
            asked++;
            offload_asked(&h, false, true);
        }
        g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
    }
    g_assert_cmpuint(asked, <, 40);
    while (!offload_ask(&h))
        ;
    offload_asked(&h, true, false);
    for (unsigned i = 0; i < OFFLOAD_REFUSALS; i++)
        g_assert_true(offload_ask(&h));
    /* One by one: nobody could gain by it. */
    offload_asked(&h, false, true);
    while (h.deep > 0)
        g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(watch);
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
    g_test_add_func("/nbd-parse/align", test_align);
    g_test_add_func("/nbd-parse/filter", test_filter);
    g_test_add_func("/nbd-parse/reply-success", test_reply_success);
    g_test_add_func("/nbd-parse/reply-error", test_reply_error);
    g_test_add_func("/nbd-parse/reply-data", test_reply_data);
    g_test_add_func("/nbd-parse/offload", test_offload);
    g_test_add_func("/nbd-parse/offload-asks", test_offload_asks);
    g_test_add_func("/nbd-parse/offload-blocks", test_offload_blocks);
    return g_test_run();
}
