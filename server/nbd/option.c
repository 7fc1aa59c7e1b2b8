/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/option.h"

#include <stdio.h>

bool option_parse_header(const uint8_t *bytes, struct option_header *h)
{
    if (load_be64(bytes) != NBD_OPTION_MAGIC)
        return false;
    h->option = load_be32(bytes + 8);
    h->length = load_be32(bytes + 12);
    return true;
}

static uint32_t check_string(const uint8_t *bytes, size_t length, struct text *t, const char **why)
{
    if (length > NBD_STRING_MAX) {
        *why = "a string is longer than 4096 bytes";
        return NBD_REP_ERR_TOO_BIG;
    }
    if (!text_is_valid(bytes, length)) {
        *why = "a string is not UTF-8, or has a NUL in it";
        return NBD_REP_ERR_INVALID;
    }
    *t = (struct text){(const char *)bytes, length};
    return 0;
}

/* Take a 32-bit length and that many bytes, behind which `reserved` more must be in the option. */
static uint32_t take_string(struct cursor *c, size_t reserved, struct text *t, const char **why)
{
    uint32_t length;
    const uint8_t *bytes;

    if (!cursor_u32(c, &length) || cursor_left(c) < reserved ||
        length > cursor_left(c) - reserved || !cursor_bytes(c, length, &bytes)) {
        *why = "a string's length does not fit into the option";
        return NBD_REP_ERR_INVALID;
    }
    return check_string(bytes, length, t, why);
}

uint32_t option_parse_name(const uint8_t *data, size_t length, struct text *name, const char **why)
{
    return check_string(data, length, name, why);
}

uint32_t option_parse_empty(size_t length, const char **why)
{
    if (length == 0)
        return 0;
    *why = "the option takes no data";
    return NBD_REP_ERR_INVALID;
}

static uint32_t check_length(size_t length, const char **why)
{
    if (length <= OPTION_DATA_MAX)
        return 0;
    *why = "the option is longer than we read";
    return NBD_REP_ERR_TOO_BIG;
}

uint32_t option_parse_go(const uint8_t *data, size_t length, struct option_go *go, const char **why)
{
    struct cursor c = cursor_on(data, length);
    uint16_t n_infos, info;

    *go = (struct option_go){0};
    uint32_t error = check_length(length, why);
    if (error != 0)
        return error;
    error = take_string(&c, sizeof n_infos, &go->name, why);
    if (error != 0)
        return error;
    if (!cursor_u16(&c, &n_infos) || cursor_left(&c) != (size_t)n_infos * 2) {
        *why = "the number of information requests does not match the option's length";
        return NBD_REP_ERR_INVALID;
    }
    while (cursor_u16(&c, &info)) {
        go->want_name |= info == NBD_INFO_NAME;
        go->want_description |= info == NBD_INFO_DESCRIPTION;
        go->want_block_size |= info == NBD_INFO_BLOCK_SIZE;
    }
    return 0;
}

uint32_t option_parse_meta(const uint8_t *data, size_t length, struct option_meta *meta,
                           const char **why)
{
    struct cursor c = cursor_on(data, length);
    struct text query;

    *meta = (struct option_meta){0};
    uint32_t error = check_length(length, why);
    if (error != 0)
        return error;
    error = take_string(&c, sizeof meta->n_queries, &meta->name, why);
    if (error != 0)
        return error;
    if (!cursor_u32(&c, &meta->n_queries)) {
        *why = "the option is too short";
        return NBD_REP_ERR_INVALID;
    }
    meta->queries = c;
    /* Each turn takes four bytes or more, so a false count cannot keep us turning. */
    for (uint32_t i = 0; i < meta->n_queries; i++) {
        error = take_string(&c, 0, &query, why);
        if (error != 0)
            return error;
    }
    if (cursor_left(&c) > 0) {
        *why = "the option is longer than its queries";
        return NBD_REP_ERR_INVALID;
    }
    return 0;
}

bool option_meta_next(struct option_meta *meta, struct text *query)
{
    uint32_t length;
    const uint8_t *bytes;

    if (!cursor_u32(&meta->queries, &length) || !cursor_bytes(&meta->queries, length, &bytes))
        return false;
    *query = (struct text){(const char *)bytes, length};
    return true;
}

const char *option_name(uint32_t option, char buf[24])
{
    static const char *const names[] = {
        [NBD_OPT_EXPORT_NAME] = "NBD_OPT_EXPORT_NAME",
        [NBD_OPT_ABORT] = "NBD_OPT_ABORT",
        [NBD_OPT_LIST] = "NBD_OPT_LIST",
        [NBD_OPT_STARTTLS] = "NBD_OPT_STARTTLS",
        [NBD_OPT_INFO] = "NBD_OPT_INFO",
        [NBD_OPT_GO] = "NBD_OPT_GO",
        [NBD_OPT_STRUCTURED_REPLY] = "NBD_OPT_STRUCTURED_REPLY",
        [NBD_OPT_LIST_META_CONTEXT] = "NBD_OPT_LIST_META_CONTEXT",
        [NBD_OPT_SET_META_CONTEXT] = "NBD_OPT_SET_META_CONTEXT",
        [NBD_OPT_EXTENDED_HEADERS] = "NBD_OPT_EXTENDED_HEADERS",
    };
    if (option < sizeof names / sizeof names[0] && names[option])
        return names[option];
    snprintf(buf, 24, "option %u", option);
    return buf;
}
