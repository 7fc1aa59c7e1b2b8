/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/reply.h"

#include "common/cursor.h"

#define TEXT_MAX 160u

static void simple(struct lane *l, const struct request *r, uint32_t error)
{
    uint8_t *p = lane_reserve(l, NBD_SIMPLE_REPLY_SIZE);
    store_be32(p, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(p + 4, error);
    store_be64(p + 8, r->cookie);
    lane_commit(l, NBD_SIMPLE_REPLY_SIZE);
}

void reply_chunk_header(uint8_t *p, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t length)
{
    store_be32(p, NBD_STRUCTURED_REPLY_MAGIC);
    store_be16(p + 4, flags);
    store_be16(p + 6, type);
    store_be64(p + 8, cookie);
    store_be32(p + 16, length);
}

void reply_success(struct lane *l, const struct session *s, const struct request *r)
{
    /* A simple reply says the same in fewer bytes, and the protocol allows it where there is no
     * payload; but never to a READ. */
    if (!s->rules.structured || (r->type != NBD_CMD_READ && r->type != NBD_CMD_BLOCK_STATUS)) {
        simple(l, r, 0);
        return;
    }
    uint8_t *p = lane_reserve(l, NBD_STRUCTURED_REPLY_SIZE);
    reply_chunk_header(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, r->cookie, 0);
    lane_commit(l, NBD_STRUCTURED_REPLY_SIZE);
}

static void error_chunk(struct lane *l, const struct request *r, uint32_t error, const char *why,
                        const uint64_t *offset)
{
    size_t text = MIN(strlen(why), TEXT_MAX);
    size_t length = 6 + text + (offset ? sizeof *offset : 0);
    uint8_t *p = lane_reserve(l, NBD_STRUCTURED_REPLY_SIZE + length);

    reply_chunk_header(p, NBD_REPLY_FLAG_DONE,
                       offset ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR, r->cookie,
                       (uint32_t)length);
    store_be32(p + 20, error);
    store_be16(p + 24, (uint16_t)text);
    memcpy(p + 26, why, text);
    if (offset != NULL)
        store_be64(p + 26 + text, *offset);
    lane_commit(l, NBD_STRUCTURED_REPLY_SIZE + length);
}

void reply_error(struct lane *l, const struct session *s, const struct request *r, uint32_t error,
                 const char *why)
{
    if (s->rules.structured)
        error_chunk(l, r, error, why ? why : request_error_text(error), NULL);
    else
        simple(l, r, error);
}

void reply_error_at(struct lane *l, const struct session *s, const struct request *r,
                    uint32_t error, uint64_t offset)
{
    if (s->rules.structured)
        error_chunk(l, r, error, request_error_text(error), &offset);
    else
        simple(l, r, error);
}

size_t reply_data_header_size(const struct session *s)
{
    return s->rules.structured ? NBD_STRUCTURED_REPLY_SIZE + 8 : NBD_SIMPLE_REPLY_SIZE;
}

void reply_data_header(uint8_t *p, const struct session *s, const struct request *r,
                       uint64_t offset, uint32_t length, bool done)
{
    if (!s->rules.structured) {
        store_be32(p, NBD_SIMPLE_REPLY_MAGIC);
        store_be32(p + 4, 0);
        store_be64(p + 8, r->cookie);
        return;
    }
    reply_chunk_header(p, done ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_DATA, r->cookie,
                       length + 8);
    store_be64(p + NBD_STRUCTURED_REPLY_SIZE, offset);
}
