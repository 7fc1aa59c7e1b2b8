/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake's side of talk.h. */
#include "fuzz/talk.h"

#include "server/nbd/option.h"

void talk_greet(struct talk *t, uint32_t flags)
{
    const uint8_t *hello = talk_wait(t, 18);
    uint8_t be[4];

    CHECK(hello != NULL);
    CHECK(load_be64(hello) == NBD_INIT_MAGIC && load_be64(hello + 8) == NBD_OPTION_MAGIC);
    CHECK(load_be16(hello + 16) == (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
    store_be32(be, flags);
    talk_say(t, be, sizeof be);
    t->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
}

void talk_say_option(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];

    store_be64(header, NBD_OPTION_MAGIC);
    store_be32(header + 8, option);
    store_be32(header + 12, length);
    talk_say(t, header, sizeof header);
    talk_say(t, data, length);
}

/* ---- what one reply may carry ---- */

static void take_info(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length)
{
    CHECK(option == NBD_OPT_INFO || option == NBD_OPT_GO);
    CHECK(length >= 2);
    switch (load_be16(data)) {
    case NBD_INFO_EXPORT:
        CHECK(length == 12);
        t->size = load_be64(data + 2);
        t->eflags = load_be16(data + 10);
        CHECK(t->eflags & NBD_FLAG_HAS_FLAGS);
        break;
    case NBD_INFO_BLOCK_SIZE: {
        CHECK(length == 14);
        uint32_t min = load_be32(data + 2), pref = load_be32(data + 6), max = load_be32(data + 10);
        CHECK(min > 0 && (min & (min - 1)) == 0 && min <= 65536);
        CHECK((pref & (pref - 1)) == 0 && pref >= 512 && pref >= min && max >= pref);
        break;
    }
    case NBD_INFO_NAME:
    case NBD_INFO_DESCRIPTION:
        CHECK(length - 2 <= NBD_STRING_MAX && text_is_valid(data + 2, length - 2));
        break;
    default:
        CHECK(!"an information that nobody knows");
    }
}

static void take_context(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length)
{
    CHECK(option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT);
    CHECK(length > 4 && text_is_valid(data + 4, length - 4));
    if (option == NBD_OPT_LIST_META_CONTEXT)
        return;
    CHECK(t->n_contexts < CONTEXTS_MAX);
    for (unsigned i = 0; i < t->n_contexts; i++)
        CHECK(t->contexts[i] != load_be32(data));
    t->contexts[t->n_contexts++] = load_be32(data);
}

static void take_reply(struct talk *t, uint32_t option, uint32_t type, const uint8_t *data,
                       uint32_t length)
{
    switch (type) {
    case NBD_REP_ACK:
        CHECK(length == 0);
        break;
    case NBD_REP_SERVER:
        CHECK(option == NBD_OPT_LIST && length >= 4 && load_be32(data) <= length - 4);
        break;
    case NBD_REP_INFO:
        take_info(t, option, data, length);
        break;
    case NBD_REP_META_CONTEXT:
        take_context(t, option, data, length);
        break;
    default:
        CHECK(type >= NBD_REP_ERR_UNSUP && type <= NBD_REP_ERR_EXT_HEADER_REQD);
        CHECK(text_is_valid(data, length) && length <= NBD_STRING_MAX);
        break;
    }
}

/* ---- all replies to an option ---- */

static char *name_in(uint32_t option, const uint8_t *data, uint32_t length)
{
    struct text name = {0};
    struct option_meta meta;
    struct option_go go;
    const char *why;

    if (option == NBD_OPT_SET_META_CONTEXT && option_parse_meta(data, length, &meta, &why) == 0)
        name = meta.name;
    else if (option == NBD_OPT_GO && option_parse_go(data, length, &go, &why) == 0)
        name = go.name;
    else if (option == NBD_OPT_EXPORT_NAME)
        name = (struct text){(const char *)data, length};
    if (name.length == 0)
        return g_strdup("disk"); /* the first one */
    return g_strndup(name.at, name.length);
}

/* Contexts hold for the export that they were set for, and for chunks. */
static void enter_transmission(struct talk *t, const char *name)
{
    if (!t->structured || t->contexts_of == NULL || strcmp(t->contexts_of, name) != 0)
        t->n_contexts = 0;
    t->in_transmission = true;
}

static void on_ack(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length)
{
    switch (option) {
    case NBD_OPT_STRUCTURED_REPLY:
        t->structured = true;
        break;
    case NBD_OPT_EXTENDED_HEADERS:
        t->structured = t->extended = true;
        break;
    case NBD_OPT_SET_META_CONTEXT:
        g_free(t->contexts_of);
        t->contexts_of = name_in(option, data, length);
        break;
    case NBD_OPT_GO: {
        g_autofree char *name = name_in(option, data, length);
        enter_transmission(t, name);
        break;
    }
    default:
        break;
    }
}

/* EXPORT_NAME is answered by size and flags, or by the end. */
static bool export_name_reply(struct talk *t, const uint8_t *data, uint32_t length)
{
    size_t n = t->no_zeroes ? 10 : 134;
    const uint8_t *answer = talk_wait(t, n);
    g_autofree char *name = name_in(NBD_OPT_EXPORT_NAME, data, length);

    if (answer == NULL) {
        CHECK(t->in->len == t->taken);
        return false;
    }
    t->size = load_be64(answer);
    t->eflags = load_be16(answer + 8);
    for (size_t i = 10; i < n; i++)
        CHECK(answer[i] == 0);
    CHECK(!t->extended);
    enter_transmission(t, name);
    return false;
}

bool talk_option_replies(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length)
{
    uint32_t type;

    if (option == NBD_OPT_EXPORT_NAME)
        return export_name_reply(t, data, length);
    if (option == NBD_OPT_SET_META_CONTEXT)
        t->n_contexts = 0;
    do {
        const uint8_t *header = talk_wait(t, NBD_OPTION_REPLY_HEADER_SIZE);
        CHECK(header != NULL && "an option is answered");
        CHECK(load_be64(header) == NBD_OPTION_REPLY_MAGIC && load_be32(header + 8) == option);
        type = load_be32(header + 12);
        uint32_t n = load_be32(header + 16);
        CHECK(n <= OPTION_DATA_MAX);
        const uint8_t *payload = talk_wait(t, n);
        CHECK(payload != NULL);
        take_reply(t, option, type, payload, n);
    } while (type != NBD_REP_ACK && type < NBD_REP_ERR_UNSUP);
    if (type == NBD_REP_ACK)
        on_ack(t, option, data, length);
    else if (option == NBD_OPT_SET_META_CONTEXT)
        CHECK(t->n_contexts == 0);
    return !t->in_transmission && option != NBD_OPT_ABORT;
}
