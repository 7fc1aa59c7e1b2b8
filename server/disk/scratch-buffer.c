/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/scratch-buffer.h"

#include <stdlib.h>

bool buffers_add(struct scratch_buffers *all, uint64_t first, unsigned slots)
{
    uint8_t *bytes = all->spare ? all->spare : malloc(BUFFER_BYTES);

    if (!bytes)
        return false;
    all->spare = NULL;
    struct scratch_buffer *s = g_new0(struct scratch_buffer, 1);
    s->first = first;
    s->slots = slots;
    s->bytes = bytes;
    s->uses = 1;
    s->link.data = s;
    g_queue_push_tail_link(&all->list, &s->link);
    return true;
}

const struct scratch_buffer *buffers_oldest(const struct scratch_buffers *all)
{
    return all->list.head ? all->list.head->data : NULL;
}

struct scratch_buffer *buffers_find(const struct scratch_buffers *all, uint64_t slot)
{
    /* From the newest: that is where writers are. */
    for (GList *i = all->list.tail; i; i = i->prev) {
        struct scratch_buffer *s = i->data;
        if (slot >= s->first && slot - s->first < s->slots)
            return s;
    }
    return NULL;
}

bool buffers_overlap(const struct scratch_buffers *all, uint64_t slot, uint64_t n)
{
    for (GList *i = all->list.tail; i; i = i->prev) {
        struct scratch_buffer *s = i->data;
        if (slot < s->first + s->slots && s->first < slot + n)
            return true;
    }
    return false;
}

void buffers_remove(struct scratch_buffers *all, struct scratch_buffer *s)
{
    g_queue_unlink(&all->list, &s->link);
    buffers_unuse(all, s);
}

void buffers_unuse(struct scratch_buffers *all, struct scratch_buffer *s)
{
    if (--s->uses > 0)
        return;
    free(all->spare);
    all->spare = s->bytes;
    g_free(s);
}

void buffers_clear(struct scratch_buffers *all)
{
    while (!g_queue_is_empty(&all->list))
        buffers_remove(all, g_queue_peek_tail(&all->list));
    free(all->spare);
    all->spare = NULL;
}
