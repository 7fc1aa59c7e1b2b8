/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/reply-buffer.h"

void lane_flush(struct lane *l)
{
    if (l->used == 0)
        return;
    int r = l->held ? sender_send_held(l->sender, l->buf, l->used)
                    : sender_send(l->sender, l->buf, l->used);
    if (r != 0)
        l->dead = true;
    l->used = 0;
}

uint8_t *lane_reserve(struct lane *l, size_t length)
{
    if (length > l->size - l->used)
        lane_flush(l);
    return l->buf + l->used;
}

void lane_hold(struct lane *l)
{
    sender_hold(l->sender);
    l->held = true;
}

size_t lane_send_file(struct lane *l, int fd, uint64_t offset, size_t length)
{
    lane_flush(l);
    return l->dead ? 0 : sender_send_file_held(l->sender, fd, offset, length);
}

void lane_release(struct lane *l)
{
    lane_flush(l);
    l->held = false;
    sender_release(l->sender);
}
