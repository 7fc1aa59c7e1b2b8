/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SETS_BITS_MAX 24

/* ---- all of them ---- */

static unsigned bits_for(size_t memory, size_t bytes)
{
    unsigned bits = 0;

    while (bits < SETS_BITS_MAX && memory >> (bits + 1) >= bytes * LIVE_WAYS)
        bits++;
    return bits;
}

static void set_sizes(struct live_slices *s, const struct live_layer *l, size_t memory)
{
    unsigned size = q2_entry_size(&l->geometry);

    s->bytes = l->cluster < LIVE_SLICE_MAX ? (size_t)l->cluster : LIVE_SLICE_MAX;
    s->entries = (unsigned)s->bytes / size;
    while (1U << s->entry_bits < s->entries)
        s->entry_bits++;
    s->sets_bits = bits_for(memory, s->bytes);
    s->file_end = atomic_load(&l->file.size);
    s->busy.previous = s->busy.next = &s->busy;
    s->l1_pieces = (l->l1_entries + LIVE_L1_PIECE - 1) / LIVE_L1_PIECE;
}

/* Pages that nobody has used yet are zeroes, and take no memory. */
static struct live_set *new_sets(size_t n)
{
    void *sets = mmap(NULL, n * sizeof(struct live_set), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return sets == MAP_FAILED ? NULL : sets;
}

static void free_sets(struct live_slices *s)
{
    size_t n = (size_t)1 << s->sets_bits;

    if (!s->set)
        return;
    for (size_t i = 0; i < n; i++)
        for (unsigned j = 0; j < LIVE_WAYS; j++)
            free((void *)live_slot_words(&s->set[i].slot[j]));
    munmap(s->set, n * sizeof(struct live_set));
}

uint64_t live_slots_altered_words(const struct live_layer *l, uint64_t l1_entries)
{
    unsigned bits = q2_table_bits(&l->geometry) - l->slices->entry_bits;

    return (l1_entries << bits) / 64 + 1;
}

uint64_t *live_slots_new_altered(const struct live_layer *l, uint64_t l1_entries)
{
    return calloc(live_slots_altered_words(l, l1_entries), sizeof(uint64_t));
}

int live_slices_init(struct live_layer *l, size_t memory)
{
    struct live_slices *s;

    if (l->raw)
        return 0;
    s = aligned_alloc(_Alignof(struct live_slices), sizeof(*s));
    if (!s)
        return -ENOMEM;
    memset(s, 0, sizeof(*s));
    set_sizes(s, l, memory);
    s->set = new_sets((size_t)1 << s->sets_bits);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    l->slices = s;
    if (l->writable) {
        s->l1_dirty = calloc(s->l1_pieces + 1, 1);
        s->altered = live_slots_new_altered(l, l->l1_entries);
    }
    if (s->set && (!l->writable || (s->l1_dirty && s->altered)))
        return 0;
    live_slices_clear(l);
    return -ENOMEM;
}

void live_slices_clear(struct live_layer *l)
{
    struct live_slices *s = l->slices;

    if (!s)
        return;
    free_sets(s);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s->l1_dirty);
    free(s->altered);
    free(s);
    l->slices = NULL;
}

uint64_t live_slice_host(const struct live_layer *l, uint64_t number)
{
    const struct live_slices *s = l->slices;
    uint64_t cluster = number << s->entry_bits;
    uint64_t index = cluster >> q2_table_bits(&l->geometry);
    uint64_t at = (cluster * q2_entry_size(&l->geometry)) & (l->cluster - 1);

    return (live_l1_word(l, index) & Q2_ENTRY_OFFSET) + at;
}

bool live_slices_dirty(const struct live_layer *l)
{
    return l->slices && atomic_load_explicit(&l->slices->n_dirty, memory_order_acquire) > 0;
}

bool live_slices_flagged(const struct live_layer *l)
{
    return l->slices && atomic_load_explicit(&l->slices->n_flagged, memory_order_acquire) > 0;
}

/* ---- one slot ---- */

static struct live_set *set_with(const struct live_slices *s, const struct live_slot *slot,
                                 unsigned *way)
{
    size_t place = (size_t)((const char *)slot - (const char *)s->set);
    struct live_set *set = &s->set[place / sizeof(*set)];

    *way = (unsigned)(slot - set->slot);
    return set;
}

uint64_t live_slot_number(const struct live_slices *s, const struct live_slot *slot)
{
    unsigned way;
    struct live_set *set = set_with(s, slot, &way);

    return atomic_load_explicit(&set->number[way], memory_order_relaxed) - 1;
}

void live_slot_empty(struct live_slices *s, struct live_slot *slot)
{
    unsigned way;
    struct live_set *set = set_with(s, slot, &way);
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);

    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_relaxed);
    atomic_store_explicit(&set->number[way], 0, memory_order_release);
}

void live_slot_filled(struct live_slices *s, struct live_slot *slot, uint64_t number)
{
    unsigned way;
    struct live_set *set = set_with(s, slot, &way);
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);

    atomic_store_explicit(&set->number[way], number, memory_order_release);
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_release);
}

static void count(_Atomic uint64_t *n, int64_t by)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + (uint64_t)by,
                          memory_order_release);
}

static void put_in_list(struct live_slices *s, struct live_slot *slot)
{
    if (slot->next)
        return;
    slot->previous = s->busy.previous;
    slot->next = &s->busy;
    slot->previous->next = slot->next->previous = slot;
}

static void take_out_of_list(struct live_slot *slot)
{
    slot->previous->next = slot->next;
    slot->next->previous = slot->previous;
    slot->previous = slot->next = NULL;
}

bool live_slot_set_dirty(struct live_slices *s, struct live_slot *slot, bool flagged)
{
    bool first = atomic_load_explicit(&s->n_dirty, memory_order_relaxed) == 0;

    if (!slot->dirty)
        count(&s->n_dirty, 1);
    if (flagged && !slot->flagged)
        count(&s->n_flagged, 1);
    slot->dirty = true;
    slot->flagged |= flagged;
    put_in_list(s, slot);
    return first;
}

bool live_slices_set_l1_dirty(struct live_slices *s, uint64_t index)
{
    unsigned char *piece = &s->l1_dirty[index / LIVE_L1_PIECE];
    bool first = atomic_load_explicit(&s->n_dirty, memory_order_relaxed) == 0;

    if (!*piece) {
        *piece = 1;
        s->n_l1_dirty++;
        count(&s->n_dirty, 1);
    }
    return first;
}

void live_slices_clear_l1_dirty(struct live_slices *s, uint64_t piece)
{
    s->l1_dirty[piece] = 0;
    s->n_l1_dirty--;
    count(&s->n_dirty, -1);
}

void live_slot_set_writing(struct live_slices *s, struct live_slot *slot)
{
    count(&s->n_dirty, -1);
    if (slot->flagged)
        count(&s->n_flagged, -1);
    slot->dirty = slot->flagged = false;
    slot->writing = true;
}

void live_slot_end_writing(struct live_slices *s, struct live_slot *slot)
{
    slot->writing = false;
    if (!slot->dirty)
        take_out_of_list(slot);
    pthread_cond_broadcast(&s->changed);
}
