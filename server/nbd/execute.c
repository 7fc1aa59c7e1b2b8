/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/execute.h"

#include "server/disk/node-stats.h"
#include "server/nbd/reply.h"
#include "server/nbd/status.h"

#include <errno.h>

/* A read ends, with 0 or an error: count it. It has come as far as r->offset. */
static inline void count_read(const struct reply_buffer *b, const struct request *r, int error)
{
    io_count(b->counters, IO_READ, r->start, r->offset - r->start, error);
}

static void fail_read(const struct negotiated *neg, struct reply_buffer *b, const struct request *r,
                      int error)
{
    count_read(b, r, error);
    reply_error_at(b, neg, r, request_error(r, error), r->offset);
}

static void read_nothing(const struct negotiated *neg, struct reply_buffer *b,
                         const struct request *r)
{
    count_read(b, r, 0);
    reply_success(b, neg, r);
}

static void reply_result(const struct negotiated *neg, struct reply_buffer *b,
                         const struct request *r, int error)
{
    if (error == 0)
        reply_success(b, neg, r);
    else
        reply_error(b, neg, r, request_error(r, error), NULL);
}

/* Lay out the rest of a run of bytes whose header has been sent, from *offset on. Returns 0, or the
 * error where the bytes could not be read; *offset is then that place. With `pad` zeroes are laid
 * out in place of what is missing: the caller tells the client that they are no data. The buffer is
 * held; its last bytes are sent when it is released. */
static int stream_rest(const struct negotiated *neg, struct reply_buffer *b, uint64_t *offset,
                       uint64_t length, bool pad)
{
    int error = 0;

    while (length > 0 && !b->dead) {
        uint32_t n = (uint32_t)MIN(length, READ_PIECE);
        uint8_t *p = reply_buffer_reserve(b, n);
        if (error == 0)
            error = node_read(neg->io, p, n, *offset, 0);
        if (error != 0 && !pad)
            return error;
        if (error != 0)
            memset(p, 0, n); /* the chunk was promised whole */
        else
            *offset += n;
        reply_buffer_commit(b, n);
        length -= n;
    }
    return error;
}

/* The header that has been sent promises success, and cannot be taken back. Called while the reply
 * buffer is held, since the client would take the next reply for the data that it lacks. */
static void break_promise(struct reply_buffer *b)
{
    reply_buffer_cut(b);
}

/* A piece of a read, `n` bytes, sent straight from the page cache: neither copied to us nor by us.
 * (256 KiB at depth 4: half as many again a second, for a third of the processor's time; less than
 * SEND_FILE_MIN is quicker copied.) False: it is not in the page cache, and nothing is laid out. */
static bool send_cached(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
                        uint32_t n)
{
    uint64_t host;
    int fd =
        neg->send_file && n >= SEND_FILE_MIN ? node_cached_fd(neg->io, n, r->offset, &host) : -1;
    if (fd < 0)
        return false;
    if (n == r->length) /* the end of the read; if it fails yet, that is counted as well */
        io_count(b->counters, IO_READ, r->start, r->offset + n - r->start, 0);
    size_t head = reply_data_header_size(neg);
    reply_data_header(reply_buffer_reserve(b, head), neg, r, r->offset, n, n == r->length);
    reply_buffer_commit(b, head);

    reply_buffer_hold(b);
    size_t sent = reply_buffer_send_file(b, fd, host, n);
    r->offset += sent;
    int error = stream_rest(neg, b, &r->offset, n - sent, false);
    r->length -= n;
    if (error != 0) {
        count_read(b, r, error);
        break_promise(b);
        r->length = 0; /* nothing follows */
    }
    reply_buffer_release(b);
    return true;
}

/* `n` bytes of a read are in the reply buffer, behind room for their header of `head` bytes. They
 * are sent later, so that a read is counted when its last piece is there. */
static inline void commit_piece(const struct negotiated *neg, struct reply_buffer *b,
                                struct request *r, uint8_t *p, size_t head, uint32_t n)
{
    reply_data_header(p, neg, r, r->offset, n, n == r->length);
    reply_buffer_commit(b, head + n);
    r->offset += n;
    r->length -= n;
}

/* A read as replies of at most `piece` bytes of data. */
static void read_pieces(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
                        uint32_t piece)
{
    size_t head = reply_data_header_size(neg);

    while (r->length > 0) {
        uint32_t n = (uint32_t)MIN(r->length, piece);
        uint8_t *p = reply_buffer_reserve(b, head + n);
        if (b->dead)
            return;
        int error = node_read(neg->io, p + head, n, r->offset, 0);
        if (error != 0) {
            fail_read(neg, b, r, error);
            return;
        }
        commit_piece(neg, b, r, p, head, n);
    }
    count_read(b, r, 0);
}

/* The same without blocking. */
static int read_pieces_now(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
                           uint32_t piece)
{
    size_t head = reply_data_header_size(neg);

    while (r->length > 0) {
        uint32_t n = (uint32_t)MIN(r->length, piece);
        if (send_cached(neg, b, r, n)) {
            if (r->length == 0)
                return 0; /* it has been counted */
            continue;
        }
        uint8_t *p = reply_buffer_reserve(b, head + n);
        if (b->dead)
            return 0;
        int error = node_read_now(neg->io, p + head, n, r->offset);
        if (error == -EAGAIN || error == NODE_WOULD_BLOCK)
            return error;
        if (error != 0) {
            fail_read(neg, b, r, error);
            return 0;
        }
        commit_piece(neg, b, r, p, head, n);
    }
    count_read(b, r, 0);
    return 0;
}

/* A read that has to be one run of bytes (a simple reply, or DF) and is longer than a piece.
 * Others' replies wait until it is through; nothing is ever larger than the reply buffer. */
static void read_unfragmented(const struct negotiated *neg, struct reply_buffer *b,
                              struct request *r)
{
    size_t head = reply_data_header_size(neg);
    uint8_t *p = reply_buffer_reserve(b, head + READ_PIECE);
    if (b->dead)
        return;
    int error = node_read(neg->io, p + head, READ_PIECE, r->offset, 0);
    if (error != 0) {
        fail_read(neg, b, r, error);
        return;
    }
    reply_data_header(p, neg, r, r->offset, (uint32_t)r->length, false);
    reply_buffer_commit(b, head + READ_PIECE);
    r->offset += READ_PIECE;
    r->length -= READ_PIECE;

    reply_buffer_hold(b);
    error = stream_rest(neg, b, &r->offset, r->length, neg->rules.structured);
    count_read(b, r, error);
    r->length = 0;
    if (error != 0 && !neg->rules.structured)
        break_promise(b);
    reply_buffer_release(b);
    if (neg->rules.structured)
        error ? reply_error_at(b, neg, r, request_error(r, error), r->offset)
              : reply_success(b, neg, r);
}

/* The most data that a reply to the read carries; 0: all of it, which the reply buffer does not
 * hold. */
static uint32_t piece_size(const struct negotiated *neg, const struct reply_buffer *b,
                           const struct request *r)
{
    if (neg->rules.structured && !(r->flags & NBD_CMD_FLAG_DF))
        return READ_PIECE;
    return reply_data_header_size(neg) + r->length <= b->size ? (uint32_t)r->length : 0;
}

int execute_read_now(const struct negotiated *neg, struct reply_buffer *b, struct request *r)
{
    if (r->length == 0) {
        read_nothing(neg, b, r);
        return 0;
    }
    uint32_t piece = piece_size(neg, b, r);
    return piece > 0 ? read_pieces_now(neg, b, r, piece) : -EAGAIN;
}

static void execute_read(const struct negotiated *neg, struct reply_buffer *b, struct request *r)
{
    if (r->length == 0) {
        read_nothing(neg, b, r);
        return;
    }
    uint32_t piece = piece_size(neg, b, r);
    if (piece > 0)
        read_pieces(neg, b, r, piece);
    else
        read_unfragmented(neg, b, r);
}

static uint32_t fua(const struct request *r)
{
    return r->flags & NBD_CMD_FLAG_FUA ? BACKEND_FUA : 0;
}

static uint32_t zero_flags(const struct request *r)
{
    uint32_t flags = fua(r);

    if (!(r->flags & NBD_CMD_FLAG_NO_HOLE))
        flags |= BACKEND_MAY_TRIM;
    if (r->flags & NBD_CMD_FLAG_FAST_ZERO)
        flags |= BACKEND_FAST;
    return flags;
}

/* To trim a view marks each block, which takes seconds for a large view. Nobody sees a difference
 * when half of it is done, so it goes piece by piece, and stops when the client is cut off. */
static int trim_view(const struct negotiated *neg, struct reply_buffer *b, const struct request *r)
{
    uint64_t offset = r->offset, left = r->length;
    int error = 0;

    while (left > 0 && error == 0) {
        uint64_t n = MIN(left, TRIM_PIECE - offset % TRIM_PIECE);

        if (reply_buffer_is_cut(b))
            return -ESHUTDOWN;
        error = node_trim(neg->io, n, offset, fua(r));
        offset += n;
        left -= n;
    }
    return error;
}

static int execute_write(const struct negotiated *neg, struct reply_buffer *b,
                         const struct request *r, const uint8_t *payload)
{
    int error = node_write(neg->io, payload, (uint32_t)r->length, r->offset, fua(r));

    io_count(b->counters, IO_WRITE, r->offset, r->length, error);
    return error;
}

static int execute_zero(const struct negotiated *neg, struct reply_buffer *b,
                        const struct request *r)
{
    int error = node_zero(neg->io, r->length, r->offset, zero_flags(r));
    /* Clients ask whether it would be fast, and then write the zeroes: nothing has failed. */
    bool was_asked_only = error == -ENOTSUP && (r->flags & NBD_CMD_FLAG_FAST_ZERO);

    if (!was_asked_only)
        io_count(b->counters, IO_ZERO, r->offset, r->length, error);
    return error;
}

static int execute_trim(const struct negotiated *neg, struct reply_buffer *b,
                        const struct request *r)
{
    int error = node_io_info(neg->io)->readonly ? trim_view(neg, b, r)
                                                : node_trim(neg->io, r->length, r->offset, fua(r));

    io_count(b->counters, IO_TRIM, r->offset, r->length, error);
    return error;
}

static int execute_flush(const struct negotiated *neg, struct reply_buffer *b)
{
    int error = node_flush(neg->io);

    io_count(b->counters, IO_FLUSH, 0, 0, error);
    return error;
}

static int execute_plain(const struct negotiated *neg, struct reply_buffer *b,
                         const struct request *r, const uint8_t *payload)
{
    switch (r->type) {
    case NBD_CMD_WRITE:
        return execute_write(neg, b, r, payload);
    case NBD_CMD_WRITE_ZEROES:
        return execute_zero(neg, b, r);
    case NBD_CMD_TRIM:
        return execute_trim(neg, b, r);
    case NBD_CMD_CACHE:
        return node_cache(neg->io, r->length, r->offset);
    case NBD_CMD_FLUSH:
        return execute_flush(neg, b);
    default:
        return -EINVAL; /* request_check lets no other pass */
    }
}

bool execute_waits(const struct negotiated *neg, const struct request *r)
{
    bool changes =
        r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES || r->type == NBD_CMD_TRIM;

    return changes && r->length > 0 && node_change_waits(neg->io, r->length, r->offset);
}

void execute(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
             const uint8_t *payload)
{
    if (r->type == NBD_CMD_READ) {
        execute_read(neg, b, r);
    } else if (r->type == NBD_CMD_BLOCK_STATUS) {
        if (!b->dead)
            status_execute(neg, b, r, payload);
    } else {
        reply_result(neg, b, r, execute_plain(neg, b, r, payload));
    }
}
