/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies of the transmission phase, laid out in a reply buffer. The one place that knows their
 * formats; which of them a client gets follows from what it negotiated: simple replies; structured
 * chunks where there is something to carry, else simple replies; or extended chunks and nothing
 * else.
 */
#ifndef NBD_REPLY_H
#define NBD_REPLY_H

#include "server/nbd/reply-buffer.h"
#include "server/nbd/negotiated.h"

/* Success, without (further) data. */
void reply_success(struct reply_buffer *b, const struct negotiated *neg, const struct request *r);

/* `why` may be NULL: a sentence is found for the error. */
void reply_error(struct reply_buffer *b, const struct negotiated *neg, const struct request *r,
                 uint32_t error, const char *why);

/* The same for an error that happened at `offset`, which lies inside the request. */
void reply_error_at(struct reply_buffer *b, const struct negotiated *neg, const struct request *r,
                    uint32_t error, uint64_t offset);

/* The size of the header before the data of a read, and the header itself: `length` bytes of the
 * export, from `offset` on, follow it. `done`: they are the last of this reply. */
size_t reply_data_header_size(const struct negotiated *neg);
void reply_data_header(uint8_t *p, const struct negotiated *neg, const struct request *r,
                       uint64_t offset, uint32_t length, bool done);

/* A chunk's header, structured or extended, and its size. The payload of `length` bytes follows. */
size_t reply_chunk_header_size(const struct negotiated *neg);
void reply_chunk_header(uint8_t *p, const struct negotiated *neg, const struct request *r,
                        uint16_t flags, uint16_t type, uint32_t length);

#endif
