/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/execute.h"

#include "server/nbd/reply.h"
#include "server/nbd/status.h"

#include <errno.h>

static void reply_result(const struct session *s, struct lane *l, const struct request *r,
                         int error)
{
    if (error == 0)
        reply_success(l, s, r);
    else
        reply_error(l, s, r, request_error(r, error), NULL);
}

/* What the node's answer to NODE_NOWAIT means. */
static enum outcome outcome_of(int error)
{
    return error == -EAGAIN ? MIGHT_BLOCK : error == NODE_WOULD_BLOCK ? WOULD_BLOCK : EXECUTED;
}

/* The rest of a run of bytes whose header has been sent, from *offset on, which ends up where it
 * could not be read. Returns that error; `pad`: only when zeroes have taken the place of what is
 * missing, for who is going to say that they are none of the data. */
static int stream_rest(const struct session *s, struct lane *l, uint64_t *offset, uint64_t length,
                       bool pad)
{
    int error = 0;

    while (length > 0 && !l->dead) {
        uint32_t n = (uint32_t)MIN(length, READ_PIECE);
        uint8_t *p = lane_reserve(l, n);
        if (error == 0)
            error = node_read(s->io, p, n, *offset, 0);
        if (error != 0 && !pad)
            return error;
        if (error != 0)
            memset(p, 0, n); /* the chunk was promised whole */
        else
            *offset += n;
        lane_commit(l, n);
        length -= n;
    }
    return error;
}

/* Success was promised, and there is no way back. While the lane is held: whatever came next, a
 * reply that waits behind us, the client would take for the data that it lacks. */
static void break_promise(struct lane *l)
{
    stream_cut(l->sender->stream);
}

/* A piece of a read, `n` bytes, sent straight from the page cache: neither copied to us nor by us.
 * (256 KiB at depth 4: half as many again a second, for a third of the processor's time; less than
 * SEND_FILE_MIN is quicker copied.) false: it is not to be had there, nothing is laid out. */
static bool send_cached(const struct session *s, struct lane *l, struct request *r, uint32_t n)
{
    int fd = s->send_file && n >= SEND_FILE_MIN ? node_cached_fd(s->io, n, r->offset) : -1;
    if (fd < 0)
        return false;
    size_t head = reply_data_header_size(s);
    reply_data_header(lane_reserve(l, head), s, r, r->offset, n, n == r->length);
    lane_commit(l, head);

    lane_hold(l);
    size_t sent = lane_send_file(l, fd, r->offset, n);
    r->offset += sent;
    if (stream_rest(s, l, &r->offset, n - sent, false) != 0)
        break_promise(l);
    lane_release(l);
    r->length -= n;
    return true;
}

/* A read as replies of at most `piece` bytes of data. */
static enum outcome read_pieces(const struct session *s, struct lane *l, struct request *r,
                                uint32_t piece, uint32_t flags)
{
    size_t head = reply_data_header_size(s);

    while (r->length > 0) {
        uint32_t n = (uint32_t)MIN(r->length, piece);
        if ((flags & NODE_NOWAIT) && send_cached(s, l, r, n))
            continue;
        uint8_t *p = lane_reserve(l, head + n);
        if (l->dead)
            return EXECUTED;
        int error = node_read(s->io, p + head, n, r->offset, flags);
        if ((flags & NODE_NOWAIT) && outcome_of(error) != EXECUTED)
            return outcome_of(error);
        if (error != 0) {
            reply_error_at(l, s, r, request_error(r, error), r->offset);
            return EXECUTED;
        }
        reply_data_header(p, s, r, r->offset, n, n == r->length);
        lane_commit(l, head + n);
        r->offset += n;
        r->length -= n;
    }
    return EXECUTED;
}

/* A read that has to be one run of bytes (a simple reply, or DF) and is longer than a piece.
 * Others' replies wait until it is through; nothing is ever larger than the lane. */
static void read_unfragmented(const struct session *s, struct lane *l, struct request *r)
{
    size_t head = reply_data_header_size(s);
    uint8_t *p = lane_reserve(l, head + READ_PIECE);
    if (l->dead)
        return;
    int error = node_read(s->io, p + head, READ_PIECE, r->offset, 0);
    if (error != 0) {
        reply_error_at(l, s, r, request_error(r, error), r->offset);
        return;
    }
    reply_data_header(p, s, r, r->offset, (uint32_t)r->length, false);
    lane_commit(l, head + READ_PIECE);
    r->offset += READ_PIECE;
    r->length -= READ_PIECE;

    lane_hold(l);
    error = stream_rest(s, l, &r->offset, r->length, s->rules.structured);
    r->length = 0;
    if (error != 0 && !s->rules.structured)
        break_promise(l);
    lane_release(l);
    if (s->rules.structured)
        error ? reply_error_at(l, s, r, request_error(r, error), r->offset)
              : reply_success(l, s, r);
}

static enum outcome execute_read(const struct session *s, struct lane *l, struct request *r,
                                 bool nowait)
{
    bool one_run = !s->rules.structured || (r->flags & NBD_CMD_FLAG_DF);
    uint32_t flags = nowait ? NODE_NOWAIT : 0;

    if (r->length == 0) {
        reply_success(l, s, r);
        return EXECUTED;
    }
    if (!one_run)
        return read_pieces(s, l, r, READ_PIECE, flags);
    if (reply_data_header_size(s) + r->length <= l->size)
        return read_pieces(s, l, r, (uint32_t)r->length, flags);
    if (nowait)
        return MIGHT_BLOCK;
    read_unfragmented(s, l, r);
    return EXECUTED;
}

static uint32_t node_flags(const struct request *r, bool nowait)
{
    uint32_t flags = nowait ? NODE_NOWAIT : 0;

    if (r->flags & NBD_CMD_FLAG_FUA)
        flags |= BACKEND_FUA;
    if (r->type == NBD_CMD_WRITE_ZEROES && !(r->flags & NBD_CMD_FLAG_NO_HOLE))
        flags |= BACKEND_MAY_TRIM;
    if (r->flags & NBD_CMD_FLAG_FAST_ZERO)
        flags |= BACKEND_FAST;
    return flags;
}

/* To trim a view marks each block, which takes seconds for a large one. It is no change that others
 * might see half of, so it goes piece by piece, and who is cut off meanwhile is not waited for. */
static int trim_view(const struct session *s, struct lane *l, const struct request *r,
                     uint32_t flags)
{
    uint64_t offset = r->offset, left = r->length;
    int error = 0;

    while (left > 0 && error == 0) {
        uint64_t n = MIN(left, TRIM_PIECE - offset % TRIM_PIECE);

        if (stream_is_cut(l->sender->stream))
            return -ESHUTDOWN;
        error = node_trim(s->io, n, offset, flags);
        offset += n;
        left -= n;
    }
    return error;
}

static int execute_plain(const struct session *s, struct lane *l, const struct request *r,
                         const uint8_t *payload, uint32_t flags)
{
    if (r->length == 0 && r->type != NBD_CMD_FLUSH)
        return 0;
    switch (r->type) {
    case NBD_CMD_WRITE:
        return node_write(s->io, payload, (uint32_t)r->length, r->offset, flags);
    case NBD_CMD_WRITE_ZEROES:
        return node_zero(s->io, r->length, r->offset, flags);
    case NBD_CMD_TRIM:
        if (node_io_info(s->io)->readonly)
            return trim_view(s, l, r, flags);
        return node_trim(s->io, r->length, r->offset, flags);
    case NBD_CMD_CACHE:
        return node_cache(s->io, r->length, r->offset, flags & NODE_NOWAIT);
    case NBD_CMD_FLUSH:
        return node_flush(s->io, flags & NODE_NOWAIT);
    default:
        return -EINVAL; /* request_check lets no other pass */
    }
}

enum outcome execute(const struct session *s, struct lane *l, struct request *r,
                     const uint8_t *payload, bool nowait)
{
    if (r->type == NBD_CMD_READ)
        return execute_read(s, l, r, nowait);
    if (r->type == NBD_CMD_BLOCK_STATUS) {
        if (nowait)
            return MIGHT_BLOCK;
        if (!l->dead)
            status_execute(s, l, r, payload);
        return EXECUTED;
    }
    int error = execute_plain(s, l, r, payload, node_flags(r, nowait));
    if (nowait && outcome_of(error) != EXECUTED)
        return outcome_of(error);
    reply_result(s, l, r, error);
    return EXECUTED;
}
