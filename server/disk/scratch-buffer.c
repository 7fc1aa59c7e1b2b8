/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/scratch-buffer.h"

#include <stdlib.h>

bool segments_add(struct segments *all, uint64_t first, unsigned slots)
{
    uint8_t *bytes = all->spare ? all->spare : malloc(SEGMENT_BYTES);

    if (!bytes)
        return false;
    all->spare = NULL;
    struct segment *s = g_new0(struct segment, 1);
    s->first = first;
    s->slots = slots;
    s->bytes = bytes;
    s->uses = 1;
    s->link.data = s;
    g_queue_push_tail_link(&all->list, &s->link);
    return true;
}

const struct segment *segments_oldest(const struct segments *all)
{
    return all->list.head ? all->list.head->data : NULL;
}

struct segment *segments_find(const struct segments *all, uint64_t slot)
{
    /* From the newest: that is where writers are. */
    for (GList *i = all->list.tail; i; i = i->prev) {
        struct segment *s = i->data;
        if (slot >= s->first && slot - s->first < s->slots)
            return s;
    }
    return NULL;
}

bool segments_overlap(const struct segments *all, uint64_t slot, uint64_t n)
{
    for (GList *i = all->list.tail; i; i = i->prev) {
        struct segment *s = i->data;
        if (slot < s->first + s->slots && s->first < slot + n)
            return true;
    }
    return false;
}

void segments_remove(struct segments *all, struct segment *s)
{
    g_queue_unlink(&all->list, &s->link);
    segments_unuse(all, s);
}

void segments_unuse(struct segments *all, struct segment *s)
{
    if (--s->uses > 0)
        return;
    free(all->spare);
    all->spare = s->bytes;
    g_free(s);
}

void segments_clear(struct segments *all)
{
    while (!g_queue_is_empty(&all->list))
        segments_remove(all, g_queue_peek_tail(&all->list));
    free(all->spare);
    all->spare = NULL;
}
