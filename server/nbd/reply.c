/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/reply.h"

#include "common/base/cursor.h"

#define TEXT_MAX 160u

static void simple(struct reply_buffer *b, const struct request *r, uint32_t error)
{
    uint8_t *p = reply_buffer_reserve(b, NBD_SIMPLE_REPLY_SIZE);
    store_be32(p, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(p + 4, error);
    store_be64(p + 8, r->cookie);
    reply_buffer_commit(b, NBD_SIMPLE_REPLY_SIZE);
}

size_t reply_chunk_header_size(const struct negotiated *neg)
{
    return neg->rules.extended ? NBD_EXTENDED_REPLY_SIZE : NBD_STRUCTURED_REPLY_SIZE;
}

void reply_chunk_header(uint8_t *p, const struct negotiated *neg, const struct request *r,
                        uint16_t flags, uint16_t type, uint32_t length)
{
    store_be32(p, neg->rules.extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    store_be16(p + 4, flags);
    store_be16(p + 6, type);
    store_be64(p + 8, r->cookie);
    if (neg->rules.extended) {
        store_be64(p + 16, r->start);
        store_be64(p + 24, length);
    } else {
        store_be32(p + 16, length);
    }
}

/* A simple reply says the same in fewer bytes, and the protocol allows it where there is no
 * payload; but never to a READ, and not with extended headers. */
static bool may_be_simple(const struct negotiated *neg, const struct request *r)
{
    if (neg->rules.extended)
        return false;
    return !neg->rules.structured || (r->type != NBD_CMD_READ && r->type != NBD_CMD_BLOCK_STATUS);
}

void reply_success(struct reply_buffer *b, const struct negotiated *neg, const struct request *r)
{
    if (may_be_simple(neg, r)) {
        simple(b, r, 0);
        return;
    }
    size_t size = reply_chunk_header_size(neg);
    uint8_t *p = reply_buffer_reserve(b, size);
    reply_chunk_header(p, neg, r, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
    reply_buffer_commit(b, size);
}

static void error_chunk(struct reply_buffer *b, const struct negotiated *neg,
                        const struct request *r, uint32_t error, const char *why,
                        const uint64_t *offset)
{
    uint16_t type = offset ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR;
    size_t text = MIN(strlen(why), TEXT_MAX);
    size_t length = 6 + text + (offset ? sizeof *offset : 0);
    size_t head = reply_chunk_header_size(neg);
    uint8_t *p = reply_buffer_reserve(b, head + length);

    reply_chunk_header(p, neg, r, NBD_REPLY_FLAG_DONE, type, (uint32_t)length);
    store_be32(p + head, error);
    store_be16(p + head + 4, (uint16_t)text);
    memcpy(p + head + 6, why, text);
    if (offset)
        store_be64(p + head + 6 + text, *offset);
    reply_buffer_commit(b, head + length);
}

void reply_error(struct reply_buffer *b, const struct negotiated *neg, const struct request *r,
                 uint32_t error, const char *why)
{
    if (neg->rules.structured)
        error_chunk(b, neg, r, error, why ? why : request_error_text(error), NULL);
    else
        simple(b, r, error);
}

void reply_error_at(struct reply_buffer *b, const struct negotiated *neg, const struct request *r,
                    uint32_t error, uint64_t offset)
{
    if (neg->rules.structured)
        error_chunk(b, neg, r, error, request_error_text(error), &offset);
    else
        simple(b, r, error);
}

size_t reply_data_header_size(const struct negotiated *neg)
{
    return neg->rules.structured ? reply_chunk_header_size(neg) + 8 : NBD_SIMPLE_REPLY_SIZE;
}

void reply_data_header(uint8_t *p, const struct negotiated *neg, const struct request *r,
                       uint64_t offset, uint32_t length, bool done)
{
    if (!neg->rules.structured) {
        store_be32(p, NBD_SIMPLE_REPLY_MAGIC);
        store_be32(p + 4, 0);
        store_be64(p + 8, r->cookie);
        return;
    }
    reply_chunk_header(p, neg, r, done ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_DATA,
                       length + 8);
    store_be64(p + reply_chunk_header_size(neg), offset);
}
