/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A reply buffer is where one thread lays out replies: a buffer of fixed size that fills up and is
 * sent. The connection's thread gathers many replies in its reply buffer; each job (workers.h) has
 * a small one.
 *
 * A read goes straight into its place behind its header, so a batch of replies is one run of bytes
 * and one send, without a copy. A reply that is longer than the reply buffer holds the stream from
 * its first byte to its last.
 *
 * When the sender is dead, what is laid out goes nowhere; nothing else changes.
 */
#ifndef NBD_REPLY_BUFFER_H
#define NBD_REPLY_BUFFER_H

#include "server/nbd/sender.h"

struct io_counters;

struct reply_buffer {
    struct sender *sender;
    uint8_t *buf;
    size_t size, used;
    bool held;                    /* we own the stream over several sends */
    bool dead;                    /* a send failed */
    struct io_counters *counters; /* where the thread counts the requests that it replies to */
};

/* Move the buffer's begin so that what follows a header of `head` bytes is aligned to a cache line:
 * the kernel copies 256 KiB a third faster to there. Call it while nothing is laid out. */
#define REPLY_ALIGNMENT 64u
static inline void reply_buffer_align(struct reply_buffer *b, size_t head)
{
    size_t pad = -((uintptr_t)b->buf + head) % REPLY_ALIGNMENT;

    b->buf += pad;
    b->size -= pad;
}

/* Send what is laid out. */
void reply_buffer_flush(struct reply_buffer *b);

/* Room for `length` bytes, at most b->size, behind what is laid out; sends that first where the
 * room is needed. The bytes count when committed. */
uint8_t *reply_buffer_reserve(struct reply_buffer *b, size_t length);
static inline void reply_buffer_commit(struct reply_buffer *b, size_t length)
{
    b->used += length;
}

/* From here to reply_buffer_release, what is laid out reaches the client with nothing in between.
 * */
void reply_buffer_hold(struct reply_buffer *b);
void reply_buffer_release(struct reply_buffer *b);

/* While it is held: send what is laid out, and behind it bytes of a file. Returns how many of those
 * were sent (stream_send_file). */
size_t reply_buffer_send_file(struct reply_buffer *b, int fd, uint64_t offset, size_t length);

/* Break the client's connection off. */
void reply_buffer_cut(struct reply_buffer *b);
/* Has anybody done that? Then nobody waits for the reply. */
bool reply_buffer_is_cut(const struct reply_buffer *b);

#endif
