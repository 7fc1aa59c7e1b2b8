/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/scratch-buffer.h"

#include "server/disk/lasting.h"

#include <errno.h>
#include <stdlib.h>

G_STATIC_ASSERT(LASTING_BUFFERS == 64);

/* ---- where the bytes are ---- */

static uint8_t *place_bytes(const struct scratch_buffers *all, unsigned place)
{
    return (uint8_t *)lasting_rest(all->file) + (size_t)place * BUFFER_BYTES;
}

static unsigned place_of(const struct scratch_buffers *all, const uint8_t *bytes)
{
    return (unsigned)((size_t)(bytes - place_bytes(all, 0)) / BUFFER_BYTES);
}

/* The lowest one that is free: so few have memory. NULL: all are taken, or there is no memory. */
static uint8_t *take_place(struct scratch_buffers *all)
{
    unsigned place;
    uint64_t bit;

    if (all->taken == UINT64_MAX)
        return NULL;
    place = (unsigned)__builtin_ctzll(~all->taken);
    bit = UINT64_C(1) << place;
    if (!(all->reserved & bit) &&
        lasting_reserve(all->file, (uint64_t)place * BUFFER_BYTES, BUFFER_BYTES) < 0)
        return NULL;
    all->taken |= bit;
    all->reserved |= bit;
    return place_bytes(all, place);
}

/* What the bytes are for, if the process dies. */
static void note_place(struct scratch_buffers *all, const uint8_t *bytes, uint64_t first)
{
    if (all->file && !all->keeps)
        atomic_store(&all->file->head->scratch.first[place_of(all, bytes)], first);
}

static uint8_t *take_bytes(struct scratch_buffers *all)
{
    uint8_t *bytes = all->spare;

    if (all->file)
        return take_place(all);
    all->spare = NULL;
    return bytes ? bytes : malloc(BUFFER_BYTES);
}

static void give_bytes(struct scratch_buffers *all, uint8_t *bytes)
{
    if (all->file) {
        all->taken &= ~(UINT64_C(1) << place_of(all, bytes));
        return;
    }
    free(all->spare);
    all->spare = bytes;
}

int buffers_recover(struct scratch_buffers *all, unsigned slots,
                    int (*write)(void *opaque, uint64_t first, const uint8_t *bytes), void *opaque)
{
    for (unsigned place = 0; slots > 0 && place < LASTING_BUFFERS; place++) {
        _Atomic uint64_t *first = &all->file->head->scratch.first[place];
        uint64_t noted = atomic_load(first);
        int error;

        if (noted == 0)
            continue;
        /* Not all slots of it need have been filled; then nobody has them. */
        error = (noted - 1) % slots == 0 ? write(opaque, noted - 1, place_bytes(all, place)) : -EIO;
        if (error < 0)
            return error;
        atomic_store(first, 0);
    }
    return 0;
}

/* ---- the list ---- */

bool buffers_add(struct scratch_buffers *all, uint64_t first, unsigned slots)
{
    uint8_t *bytes = take_bytes(all);

    if (!bytes)
        return false;
    note_place(all, bytes, first + 1);
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
    note_place(all, s->bytes, 0);
    g_queue_unlink(&all->list, &s->link);
    buffers_unuse(all, s);
}

void buffers_unuse(struct scratch_buffers *all, struct scratch_buffer *s)
{
    if (--s->uses > 0)
        return;
    give_bytes(all, s->bytes);
    g_free(s);
}

void buffers_clear(struct scratch_buffers *all)
{
    while (!g_queue_is_empty(&all->list))
        buffers_remove(all, g_queue_peek_tail(&all->list));
    free(all->spare);
    all->spare = NULL;
}
