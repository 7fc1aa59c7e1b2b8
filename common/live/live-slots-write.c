/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing slices back, and pieces of L1. See live-slots.h. */
#include "common/live/live-slots.h"

#include "common/base/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A copy of a slice that is flagged. The slot is `writing` as long as there is one. */
struct live_copy {
    struct live_copy *next;
    struct live_slot *slot;
    uint64_t host;
    uint64_t words[];
};

static void copy_words(const struct live_slices *s, const struct live_slot *slot, uint64_t *to)
{
    _Atomic uint64_t *words = live_slot_words(slot);

    for (size_t i = 0; i < s->bytes / 8; i++)
        to[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
}

/*
 * A full file system changes nothing: the slice stays dirty, and may be written when there is room. After any
 * other failure nothing is written any more.
 */
static int write_table(struct live_layer *l, const void *words, size_t bytes, uint64_t host)
{
    int r = atomic_load(&l->image->broken), none = 0;

    if (r == 0)
        r = live_file_pwrite(&l->file, words, bytes, host);
    else
        return r;
    if (r < 0 && r != -ENOSPC && r != -EDQUOT &&
        atomic_compare_exchange_strong(&l->image->broken, &none, r))
        live_tell(l->image, "'%s': cannot write an L2 table: %s. Nothing is written any more",
                  l->file.path, strerror(-r));
    return r;
}

/* While it was written, the thread may have found nothing to do, and gone to sleep. */
static void wake_for(struct live_layer *l, bool first)
{
    if (first && l->image->wake)
        l->image->wake(l->image);
}

static void set_dirty_again(struct live_layer *l, struct live_slot *slot, bool flagged)
{
    wake_for(l, live_slot_set_dirty(l->slices, slot, flagged));
}

/* ---- not flagged ---- */

int live_slot_write(struct live_layer *l, struct live_slot *slot)
{
    struct live_slices *s = l->slices;
    uint64_t words[LIVE_SLICE_MAX / 8], host;
    int r;

    host = live_slice_host(l, live_slot_number(s, slot));
    copy_words(s, slot, words);
    live_slot_set_writing(s, slot);
    pthread_mutex_unlock(&s->lock);
    r = write_table(l, words, s->bytes, host);
    pthread_mutex_lock(&s->lock);
    if (r < 0)
        set_dirty_again(l, slot, false);
    live_slot_end_writing(s, slot);
    return r;
}

/* The busy slots of this moment; NULL: no memory. */
static struct live_slot **list_busy(struct live_slices *s, size_t *n)
{
    struct live_slot **list, *slot;

    *n = 0;
    for (slot = s->busy.next; slot != &s->busy; slot = slot->next)
        ++*n;
    list = malloc((*n + 1) * sizeof(struct live_slot *));
    *n = 0;
    for (slot = s->busy.next; list && slot != &s->busy; slot = slot->next)
        list[(*n)++] = slot;
    return list;
}

static void wait_for_writer(struct live_slices *s, const struct live_slot *slot)
{
    while (slot->writing)
        pthread_cond_wait(&s->changed, &s->lock);
}

static int write_slots(struct live_layer *l)
{
    struct live_slices *s = l->slices;
    size_t n;
    struct live_slot **list = list_busy(s, &n);
    int r = list ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && r == 0; i++) {
        wait_for_writer(s, list[i]);
        if (list[i]->dirty && !list[i]->flagged)
            r = live_slot_write(l, list[i]);
    }
    free(list);
    return r;
}

static int write_l1_piece(struct live_layer *l, uint64_t piece)
{
    struct live_slices *s = l->slices;
    uint64_t first = piece * LIVE_L1_PIECE, words[LIVE_L1_PIECE];
    unsigned n = 0;
    int r;

    while (n < LIVE_L1_PIECE && first + n < l->l1_entries) {
        words[n] = htobe64(live_l1_word(l, first + n));
        n++;
    }
    live_slices_clear_l1_dirty(s, piece);
    pthread_mutex_unlock(&s->lock);
    r = write_table(l, words, n * sizeof(words[0]), l->l1_offset + first * 8);
    pthread_mutex_lock(&s->lock);
    if (r < 0)
        wake_for(l, live_slices_set_l1_dirty(s, first));
    return r;
}

static int write_l1(struct live_layer *l)
{
    struct live_slices *s = l->slices;
    int r = 0;

    for (uint64_t i = 0; i < s->l1_pieces && s->n_l1_dirty > 0 && r == 0; i++)
        if (s->l1_dirty[i])
            r = write_l1_piece(l, i);
    return r;
}

int live_slices_write(struct live_layer *l)
{
    struct live_slices *s = l->slices;
    int r;

    if (l->raw || !l->writable)
        return 0;
    pthread_mutex_lock(&s->lock);
    r = write_slots(l);
    if (r == 0)
        r = write_l1(l);
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* ---- flagged ---- */

static struct live_copy *copy_slot(struct live_layer *l, struct live_slot *slot)
{
    struct live_slices *s = l->slices;
    struct live_copy *c = malloc(sizeof(*c) + s->bytes);

    if (!c)
        return NULL;
    c->slot = slot;
    c->host = live_slice_host(l, live_slot_number(s, slot));
    copy_words(s, slot, c->words);
    live_slot_set_writing(s, slot);
    return c;
}

static int copy_flagged(struct live_layer *l, struct live_copy **copies)
{
    struct live_slices *s = l->slices;
    size_t n;
    struct live_slot **list = list_busy(s, &n);
    int r = list ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && r == 0; i++) {
        struct live_copy *c;

        wait_for_writer(s, list[i]);
        if (!list[i]->flagged)
            continue;
        c = copy_slot(l, list[i]);
        if (!c) {
            r = -ENOMEM;
        } else {
            c->next = *copies;
            *copies = c;
        }
    }
    free(list);
    return r;
}

int live_slices_take_flagged(struct live_layer *l, struct live_copy **copies)
{
    struct live_slices *s = l->slices;
    int r;

    *copies = NULL;
    if (!live_slices_flagged(l))
        return 0;
    pthread_mutex_lock(&s->lock);
    r = copy_flagged(l, copies);
    pthread_mutex_unlock(&s->lock);
    return r < 0 ? live_slices_end_flagged(l, *copies, r) : 0;
}

static int end_copy(struct live_layer *l, struct live_copy *c, int r)
{
    struct live_slices *s = l->slices;

    if (r == 0)
        r = write_table(l, c->words, s->bytes, c->host);
    pthread_mutex_lock(&s->lock);
    if (r < 0)
        set_dirty_again(l, c->slot, true);
    live_slot_end_writing(s, c->slot);
    pthread_mutex_unlock(&s->lock);
    return r;
}

int live_slices_end_flagged(struct live_layer *l, struct live_copy *copies, int error)
{
    while (copies) {
        struct live_copy *c = copies;

        copies = c->next;
        error = end_copy(l, c, error);
        free(c);
    }
    return error;
}
