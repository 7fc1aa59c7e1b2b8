/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A lane is where one thread lays out replies: a buffer of fixed size that fills up and is sent.
 * The connection's thread gathers many replies in its lane; each job (crew.h) has a small one.
 *
 * A read goes straight into its place behind its header, so a batch of replies is one run of bytes
 * and one send, without a copy. A reply that is longer than the lane holds the stream from its
 * first byte to its last.
 *
 * When the sender is dead, what is laid out goes nowhere; nothing else changes.
 */
#ifndef NBD_REPLY_BUFFER_H
#define NBD_REPLY_BUFFER_H

#include "server/nbd/sender.h"

struct lane {
    struct sender *sender;
    uint8_t *buf;
    size_t size, used;
    bool held; /* we own the stream over several sends */
    bool dead; /* a send failed */
};

/* Begin so that what follows a header of `head` bytes at the front is aligned to a cache line: the
 * kernel copies 256 KiB a third faster to there than to bytes in between. Nothing is laid out. */
#define LANE_ALIGNMENT 64u
static inline void lane_align(struct lane *l, size_t head)
{
    size_t pad = -((uintptr_t)l->buf + head) % LANE_ALIGNMENT;

    l->buf += pad;
    l->size -= pad;
}

/* Send what is laid out. */
void lane_flush(struct lane *l);

/* Room for `length` bytes, at most l->size, behind what is laid out; sends that first where the
 * room is needed. The bytes count when committed. */
uint8_t *lane_reserve(struct lane *l, size_t length);
static inline void lane_commit(struct lane *l, size_t length)
{
    l->used += length;
}

/* From here to lane_release, what is laid out reaches the client with nothing in between. */
void lane_hold(struct lane *l);
void lane_release(struct lane *l);

/* Between those two: send what is laid out, and behind it bytes of a file. Returns how many of
 * those were sent (stream_send_file). */
size_t lane_send_file(struct lane *l, int fd, uint64_t offset, size_t length);

#endif
