/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carrying a request out: the node's operation and the laying out of the reply.
 */
#ifndef NBD_EXECUTE_H
#define NBD_EXECUTE_H

#include "server/nbd/reply-buffer.h"
#include "server/nbd/negotiated.h"

/* Bytes of a read that are read and sent as one piece; longer reads are streamed. A reply buffer
 * that reads are executed in has room for a piece and its header. */
#define READ_PIECE       (256u << 10)
#define READ_PIECE_SPACE (READ_PIECE + 64)

/* Reads at least as long are sent from the page cache where they can be (send_cached). */
#define SEND_FILE_MIN (64u << 10)

/* Bytes of a view that are trimmed before looking whether the client is still there: tens of
 * milliseconds. */
#define TRIM_PIECE (16ull << 30)

enum outcome {
    EXECUTED,    /* the reply, also one about an error, is laid out */
    MIGHT_BLOCK, /* with nowait: as much as was done without is; *r is what remains */
    WOULD_BLOCK, /* the same, and it is sure to */
};

/* Carry out a request that request_check has passed. `payload` is what follows the header, whole: a
 * write is one call to the node, so that an instant is wholly before or after it.
 *
 * nowait: only as far as it does not block. */
enum outcome execute(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
                     const uint8_t *payload, bool nowait);

#endif
