/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BLOCK_STATUS: extents of the selected contexts, and the reply that carries them.
 */
#ifndef NBD_STATUS_H
#define NBD_STATUS_H

#include "server/nbd/reply-buffer.h"
#include "server/nbd/negotiated.h"

/* Read the payload of a BLOCK_STATUS whose header request_check has passed, and judge it: the
 * length becomes r->length. 0, or the NBD_E* to answer with, *why as in request_check. Pure. */
uint32_t status_filter(const struct negotiated *neg, struct request *r, const uint8_t *payload,
                       const char **why);

/* Answer a checked BLOCK_STATUS request; `payload`, if it has one, has passed status_filter. Its
 * memory is bounded: see status_charge. May block. */
void status_execute(const struct negotiated *neg, struct reply_buffer *b, const struct request *r,
                    const uint8_t *payload);

/* Most bytes of memory that it takes meanwhile. */
size_t status_charge(const struct negotiated *neg);

/* Move the borders of extents to multiples of `align` (a power of 2), seen from the list's start.
 * A unit that several extents share gets their flags or-ed (`any`) or and-ed. A last unit that is
 * not whole is kept only if the list is `complete`, that is, ends where the request does; else it
 * is dropped, for its other half is not known. 0 or -ENOMEM. */
int status_align(struct extents *e, uint32_t align, bool any, bool complete);

#endif
