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

/* Carry out a request that request_check has passed, and lay its reply out. `payload` is what
 * follows the header, whole: a write is one call to the node, so that an instant is wholly before
 * or after it. May block. *r changes: what has been read of a READ is taken off. */
void execute(const struct negotiated *neg, struct reply_buffer *b, struct request *r,
             const uint8_t *payload);

/* Would the request have to wait for the journal of a state folder first? Many that wait at once share
 * one sync. The connection's thread. */
bool execute_waits(const struct negotiated *neg, const struct request *r);

/* Carry out a READ as far as it does not block. 0: its reply is laid out. -EAGAIN if it might
 * block, NODE_WOULD_BLOCK if it is known that it would: the replies to what could be read are laid
 * out then, and *r is what remains. The connection's thread. */
int execute_read_now(const struct negotiated *neg, struct reply_buffer *b, struct request *r);

#endif
