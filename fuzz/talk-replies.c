/* SPDX-License-Identifier: BSD-3-Clause */
/* The part of talk.h for the transmission: every reply belongs to a request, and answers it. */
#include "fuzz/talk.h"

static bool is_wire_error(uint32_t e)
{
    return e == NBD_EPERM || e == NBD_EIO || e == NBD_ENOMEM || e == NBD_EINVAL ||
           e == NBD_ENOSPC || e == NBD_EOVERFLOW || e == NBD_ENOTSUP || e == NBD_ESHUTDOWN;
}

/* The request that a reply names. It was sent, and is not yet answered to the end. */
static struct asked *find(struct talk *t, uint64_t cookie)
{
    uint64_t i = cookie - COOKIE;

    CHECK(i < t->n_asked);
    CHECK(!t->asked[i].done);
    return &t->asked[i];
}

static const uint8_t *must_wait(struct talk *t, size_t need)
{
    const uint8_t *bytes = talk_wait(t, need);
    CHECK(bytes != NULL && "a reply is sent whole");
    return bytes;
}

/* Do the first `period` bytes come again and again? */
static bool repeats(const uint8_t *bytes, uint64_t length, uint64_t period)
{
    return length <= period || memcmp(bytes, bytes + period, length - period) == 0;
}

/* Take `length` bytes of a read from `offset`, which have to follow those before. */
static void take_data(struct talk *t, struct asked *a, uint64_t offset, uint64_t length,
                      const uint8_t *data)
{
    CHECK(a->r.type == NBD_CMD_READ && !a->failed && length > 0);
    CHECK(offset == a->r.offset + a->at && length <= a->r.length - a->at);
    a->at += length;
    if (t->bytes == NULL)
        return;
    if (data != NULL)
        CHECK(memcmp(t->bytes + offset, data, length) == 0);
    else
        CHECK(repeats(t->bytes + offset, length, 1) && t->bytes[offset] == 0);
}

static void take_error(struct asked *a, uint32_t error)
{
    CHECK(is_wire_error(error) && !a->failed);
    CHECK(error != NBD_ENOTSUP || (a->r.flags & NBD_CMD_FLAG_FAST_ZERO));
    a->failed = true;
}

/* ---- the end of a reply ---- */

/* A write, also of zeroes, is on the disk. */
static void check_effect(const struct talk *t, const struct asked *a)
{
    const struct request *r = &a->r;

    if (r->type != NBD_CMD_WRITE && r->type != NBD_CMD_WRITE_ZEROES)
        return;
    const uint8_t *bytes = t->bytes + r->offset;
    CHECK(repeats(bytes, r->length, PATTERN));
    for (uint64_t i = 0; i < MIN(r->length, PATTERN); i++)
        CHECK(bytes[i] == (r->type == NBD_CMD_WRITE ? (uint8_t)(r->cookie + i) : 0));
}

static void finish(struct talk *t, struct asked *a)
{
    a->done = true;
    if (a->failed)
        return;
    /* No request succeeds that lies outside the disk or was not allowed. */
    const struct request *r = &a->r;
    CHECK(r->type <= NBD_CMD_BLOCK_STATUS && r->type != NBD_CMD_DISC);
    CHECK(r->offset <= t->size && r->length <= t->size - r->offset);
    CHECK(!(t->eflags & NBD_FLAG_READ_ONLY) ||
          (r->type != NBD_CMD_WRITE && r->type != NBD_CMD_WRITE_ZEROES));
    CHECK(r->type == NBD_CMD_BLOCK_STATUS || (r->offset | r->length) % t->min_block == 0);
    if (r->type == NBD_CMD_READ)
        CHECK(a->at == r->length);
    if (r->type == NBD_CMD_BLOCK_STATUS)
        CHECK(a->answers > 0 && a->answers == a->n_ids);
    if (t->bytes != NULL)
        check_effect(t, a);
}

/* ---- chunks ---- */

/* Take the `n` extents of one context. Each has `size` bytes: length and flags. */
static void take_extents(struct talk *t, struct asked *a, uint32_t id, const uint8_t *list,
                         size_t n, size_t size)
{
    uint64_t total = 0;
    unsigned hit = 0;

    CHECK(a->r.type == NBD_CMD_BLOCK_STATUS && !a->failed);
    while (hit < a->n_ids && a->ids[hit] != id)
        hit++;
    CHECK(hit < a->n_ids && "a context that was asked about, and only once");
    a->ids[hit] = UINT32_MAX;
    CHECK(n > 0 && (n == 1 || !(a->r.flags & NBD_CMD_FLAG_REQ_ONE)));
    for (size_t i = 0; i < n; i++, list += size) {
        uint64_t length = size == 16 ? load_be64(list) : load_be32(list);
        uint64_t flags = size == 16 ? load_be64(list + 8) : load_be32(list + 4);
        CHECK(length > 0 && length <= a->r.length - total && flags <= 3);
        total += length;
        CHECK(length % t->min_block == 0 || total == a->r.length);
    }
    CHECK(a->answers == 0 || total == a->at);
    a->at = total;
    a->answers++;
}

static void take_error_chunk(struct talk *t, struct asked *a, uint16_t type, const uint8_t *data,
                             size_t length)
{
    size_t tail = type == NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;

    CHECK(length >= 6 + tail && load_be16(data + 4) == length - 6 - tail);
    CHECK(text_is_valid(data + 6, length - 6 - tail));
    take_error(a, load_be32(data));
    if (tail > 0)
        CHECK(load_be64(data + length - 8) - a->r.offset < MAX(a->r.length, 1));
}

static void take_chunk(struct talk *t, struct asked *a, uint16_t type, const uint8_t *data,
                       size_t length)
{
    switch (type) {
    case NBD_REPLY_TYPE_NONE:
        CHECK(length == 0);
        break;
    case NBD_REPLY_TYPE_OFFSET_DATA:
        CHECK(length > 8);
        take_data(t, a, load_be64(data), length - 8, data + 8);
        break;
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        CHECK(length == 12);
        take_data(t, a, load_be64(data), load_be32(data + 8), NULL);
        break;
    case NBD_REPLY_TYPE_BLOCK_STATUS:
        CHECK(!t->extended && length >= 12 && length % 8 == 4);
        take_extents(t, a, load_be32(data), data + 4, (length - 4) / 8, 8);
        break;
    case NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
        CHECK(t->extended && length >= 24 && length % 16 == 8);
        CHECK(load_be32(data + 4) == (length - 8) / 16);
        take_extents(t, a, load_be32(data), data + 8, (length - 8) / 16, 16);
        break;
    default:
        CHECK(type == NBD_REPLY_TYPE_ERROR || type == NBD_REPLY_TYPE_ERROR_OFFSET);
        take_error_chunk(t, a, type, data, length);
        break;
    }
}

static void simple_reply(struct talk *t, const uint8_t *header)
{
    struct asked *a = find(t, load_be64(header + 8));
    uint32_t error = load_be32(header + 4);

    CHECK(!t->extended);
    CHECK(!t->structured || (a->r.type != NBD_CMD_READ && a->r.type != NBD_CMD_BLOCK_STATUS));
    if (error != 0)
        take_error(a, error);
    else if (a->r.type == NBD_CMD_READ && a->r.length > 0)
        take_data(t, a, a->r.offset, a->r.length, must_wait(t, a->r.length));
    finish(t, a);
}

bool talk_reply(struct talk *t)
{
    const uint8_t *header = talk_wait(t, NBD_SIMPLE_REPLY_SIZE);

    if (header == NULL) {
        CHECK(t->in->len == t->taken && "the end is not inside a header");
        return false;
    }
    if (load_be32(header) == NBD_SIMPLE_REPLY_MAGIC) {
        simple_reply(t, header);
        return true;
    }
    CHECK(t->structured);
    CHECK(load_be32(header) ==
          (t->extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC));
    uint16_t flags = load_be16(header + 4), type = load_be16(header + 6);
    struct asked *a = find(t, load_be64(header + 8));
    CHECK((flags & ~NBD_REPLY_FLAG_DONE) == 0);
    const uint8_t *rest = must_wait(t, t->extended ? 16 : 4);
    uint64_t length = t->extended ? load_be64(rest + 8) : load_be32(rest);
    CHECK(!t->extended || load_be64(rest) == a->r.start);
    CHECK(length <= NBD_MAX_PAYLOAD + 8);
    take_chunk(t, a, type, must_wait(t, length), length);
    if (flags & NBD_REPLY_FLAG_DONE)
        finish(t, a);
    return true;
}
