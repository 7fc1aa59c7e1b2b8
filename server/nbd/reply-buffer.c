/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/reply-buffer.h"

void reply_buffer_flush(struct reply_buffer *b)
{
    if (b->used == 0)
        return;
    int r = b->held ? sender_send_held(b->sender, b->buf, b->used)
                    : sender_send(b->sender, b->buf, b->used);
    if (r != 0)
        b->dead = true;
    b->used = 0;
}

uint8_t *reply_buffer_reserve(struct reply_buffer *b, size_t length)
{
    if (length > b->size - b->used)
        reply_buffer_flush(b);
    return b->buf + b->used;
}

void reply_buffer_hold(struct reply_buffer *b)
{
    sender_hold(b->sender);
    b->held = true;
}

size_t reply_buffer_send_file(struct reply_buffer *b, int fd, uint64_t offset, size_t length)
{
    reply_buffer_flush(b);
    return b->dead ? 0 : sender_send_file_held(b->sender, fd, offset, length);
}

void reply_buffer_release(struct reply_buffer *b)
{
    reply_buffer_flush(b);
    b->held = false;
    sender_release(b->sender);
}

void reply_buffer_cut(struct reply_buffer *b)
{
    sender_cut(b->sender);
}

bool reply_buffer_is_cut(const struct reply_buffer *b)
{
    return sender_is_cut(b->sender);
}
