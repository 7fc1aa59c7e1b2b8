/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of the handshake: option_parse_*, and the meta contexts that their queries select
 * (meta_list, meta_set) on an export with a few bitmaps.
 *
 * Input: a byte that chooses the option, then its data.
 */
#include "fuzz/fuzz.h"

#include "server/nbd/meta.h"
#include "server/nbd/option.h"
#include "tests/rigs/fake-registry.h"

#include <string.h>

const char fuzz_name[] = "option";

static void check_error(uint32_t error, const char *why)
{
    CHECK(error == NBD_REP_ERR_INVALID || error == NBD_REP_ERR_TOO_BIG);
    CHECK(why != NULL && strlen(why) <= NBD_STRING_MAX);
}

/* A string that was accepted is short, is UTF-8 without NUL, and lies in the option's data. */
static void check_text(struct text t, const uint8_t *data, size_t size)
{
    CHECK(t.length <= NBD_STRING_MAX);
    if (t.length == 0)
        return;
    const uint8_t *at = (const uint8_t *)t.at;
    CHECK(at >= data && at + t.length <= data + size);
    CHECK(g_utf8_validate_len(t.at, t.length, NULL));
    CHECK(memchr(t.at, 0, t.length) == NULL);
}

/* The text that people see is short, and has no control characters. */
static void check_display(struct text t, size_t max)
{
    g_autofree char *shown = text_for_display(t, max);

    CHECK(g_utf8_validate(shown, -1, NULL));
    for (const char *p = shown; *p != '\0'; p++)
        CHECK((uint8_t)*p >= 0x20 && *p != 0x7f);
    CHECK(strlen(shown) <= 4 * max + 3); /* \xNN for each byte, and the dots */
}

/* ---- INFO and GO ---- */

static void check_go(const uint8_t *data, size_t size)
{
    struct option_go go;
    const char *why = NULL;
    uint32_t error = option_parse_go(data, size, &go, &why);

    if (error != 0) {
        check_error(error, why);
        return;
    }
    check_text(go.name, data, size);
    check_display(go.name, 80);
    /* No byte is left over: 32 bits, the name, 16 bits, and so many times 16 bits. */
    size_t rest = 4 + go.name.length;
    CHECK(load_be32(data) == go.name.length);
    CHECK(size == rest + 2 + 2u * load_be16(data + rest));
    bool infos[4] = {0};
    for (size_t at = rest + 2; at < size; at += 2) {
        if (load_be16(data + at) < 4)
            infos[load_be16(data + at)] = true;
    }
    CHECK(go.want_name == infos[NBD_INFO_NAME]);
    CHECK(go.want_description == infos[NBD_INFO_DESCRIPTION]);
    CHECK(go.want_block_size == infos[NBD_INFO_BLOCK_SIZE]);
    /* With one byte less it is refused. */
    CHECK(option_parse_go(data, size - 1, &go, &why) != 0);
}

/* ---- LIST and SET_META_CONTEXT ---- */

static void append_u32(GByteArray *out, uint32_t value)
{
    uint8_t be[4];

    store_be32(be, value);
    g_byte_array_append(out, be, sizeof be);
}

static void append_text(GByteArray *out, struct text t)
{
    append_u32(out, (uint32_t)t.length);
    if (t.length > 0)
        g_byte_array_append(out, (const uint8_t *)t.at, (guint)t.length);
}

/* parse, then serialise: the same bytes. */
static void check_round_trip(struct option_meta meta, const uint8_t *data, size_t size)
{
    GByteArray *again = g_byte_array_new();
    struct text query;

    append_text(again, meta.name);
    append_u32(again, meta.n_queries);
    for (uint32_t i = 0; i < meta.n_queries; i++) {
        CHECK(option_meta_next(&meta, &query));
        check_text(query, data, size);
        append_text(again, query);
    }
    CHECK(!option_meta_next(&meta, &query));
    CHECK(again->len == size && memcmp(again->data, data, size) == 0);
    g_byte_array_unref(again);
}

/* Count the replies in `out`, which are all of contexts, each different. */
static unsigned check_replies(const GByteArray *out, uint32_t option)
{
    struct cursor c = cursor_on(out->data, out->len);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    uint64_t magic;
    uint32_t of, type, length, id;
    const uint8_t *name;

    while (cursor_left(&c) > 0) {
        CHECK(cursor_u64(&c, &magic) && magic == NBD_OPTION_REPLY_MAGIC);
        CHECK(cursor_u32(&c, &of) && of == option);
        CHECK(cursor_u32(&c, &type) && type == NBD_REP_META_CONTEXT);
        CHECK(cursor_u32(&c, &length) && length > 4);
        CHECK(cursor_u32(&c, &id) && cursor_bytes(&c, length - 4, &name));
        CHECK(id < 16 && id != 1);
        CHECK(g_hash_table_add(names, g_strndup((const char *)name, length - 4)));
    }
    return g_hash_table_size(names);
}

static void check_selection(struct export *e, struct option_meta meta)
{
    GByteArray *listed = g_byte_array_new(), *set = g_byte_array_new();
    struct option_meta once = meta, twice = meta;
    struct meta_contexts selection = {0};
    const char *why = NULL;

    meta_list(e, &once, listed);
    CHECK(meta_set(e, &twice, &selection, set, &why) == 0);
    unsigned n_listed = check_replies(listed, NBD_OPT_LIST_META_CONTEXT);
    unsigned n_set = check_replies(set, NBD_OPT_SET_META_CONTEXT);
    CHECK(n_set == selection.n && n_set <= n_listed);
    for (unsigned i = 0; i < selection.n; i++) {
        CHECK((selection.list[i].id == 0) == (selection.list[i].bitmap == NULL));
        CHECK(i == 0 || selection.list[i].id > selection.list[i - 1].id);
    }
    CHECK(meta.n_queries > 0 || (n_set == 0 && n_listed == 4));
    meta_contexts_clear(&selection);
    g_byte_array_unref(listed);
    g_byte_array_unref(set);
}

static void check_meta(const uint8_t *data, size_t size, struct export *e)
{
    struct option_meta meta;
    const char *why = NULL;
    uint32_t error = option_parse_meta(data, size, &meta, &why);

    if (error != 0) {
        check_error(error, why);
        return;
    }
    check_text(meta.name, data, size);
    check_round_trip(meta, data, size);
    check_selection(e, meta);
    CHECK(option_parse_meta(data, size - 1, &meta, &why) != 0);
}

/* ---- the rest ---- */

static void check_name(const uint8_t *data, size_t size)
{
    struct text name;
    const char *why = NULL;
    uint32_t error = option_parse_name(data, size, &name, &why);

    if (error != 0) {
        check_error(error, why);
        return;
    }
    CHECK(name.length == size);
    check_text(name, data, size);
    check_display(name, 10);
}

static void check_header(const uint8_t *data, size_t size)
{
    uint8_t again[NBD_OPTION_HEADER_SIZE];
    struct option_header h;
    char buf[24];

    if (size < sizeof again || !option_parse_header(data, &h))
        return;
    store_be64(again, NBD_OPTION_MAGIC);
    store_be32(again + 8, h.option);
    store_be32(again + 12, h.length);
    CHECK(memcmp(again, data, sizeof again) == 0);
    CHECK(strlen(option_name(h.option, buf)) > 0);
}

static struct server *make_registry(struct export **e)
{
    static const struct node_info info = {.size = 4096};
    struct server *registry = fake_new();

    *e = fake_add(registry, "disk", &info);
    fake_add_bitmap(*e, "b0", 512);
    fake_add_bitmap(*e, "b", 512);
    fake_add_bitmap(*e, "\303\244:b", 512);
    return registry;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct export *e;

    if (size == 0)
        return 0;
    /* The data have memory of their own, so that a sanitizer sees a read before them, too. */
    g_autofree uint8_t *copy = g_memdup2(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        check_go(copy, size - 1);
        break;
    case 1: {
        struct server *registry = make_registry(&e);
        check_meta(copy, size - 1, e);
        fake_free(registry);
        break;
    }
    case 2:
        check_name(copy, size - 1);
        break;
    default:
        check_header(copy, size - 1);
        break;
    }
    return 0;
}
