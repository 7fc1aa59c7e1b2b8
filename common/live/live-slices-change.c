/* SPDX-License-Identifier: BSD-3-Clause */
/* Changing entries, and making the tables that they are in. */
#include "common/live/live-reserve.h"
#include "common/live/live-slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void wake(struct live_layer *l)
{
    if (l->image->wake)
        l->image->wake(l->image);
}

/* ---- tables ---- */

/* L1 refers to a table that is all zeroes and counted, durably: in any order with what else is written. */
static void put_table(struct live_layer *l, uint64_t index, uint64_t host)
{
    atomic_store_explicit(&l->l1[index], host | Q2_ENTRY_COPIED, memory_order_release);
    live_slices_set_l1_dirty(l->slices, index);
}

/*
 * Make the table that slice `number` is in. The slice comes into memory as zeroes first: once L1 refers to
 * the table, others load the slice, and change it. One table is made at a time.
 */
static int make_table(struct live_layer *l, uint64_t index, uint64_t number)
{
    struct live_slices *s = l->slices;
    uint64_t host = 0;
    int r;

    s->making = true;
    pthread_mutex_unlock(&s->lock);
    r = live_slot_load(l, number, true);
    if (r == 0)
        r = live_reserve_take_table(l->image, &host);
    pthread_mutex_lock(&s->lock);
    if (r == 0)
        put_table(l, index, host);
    s->making = false;
    pthread_cond_broadcast(&s->changed);
    return r;
}

static int fail_not_own(struct live_layer *l, uint64_t word)
{
    live_tell(l->image, "'%s': the L2 table at %llu is not this disk's own, and is not changed",
              l->file.path, (unsigned long long)(word & Q2_ENTRY_OFFSET));
    return -EIO;
}

static int need_table(struct live_layer *l, uint64_t number)
{
    struct live_slices *s = l->slices;
    uint64_t index = number << s->entry_bits >> q2_table_bits(&l->geometry), word;
    bool absent;
    int r = 0;

    pthread_mutex_lock(&s->lock);
    while (s->making)
        pthread_cond_wait(&s->changed, &s->lock);
    word = live_l1_word(l, index);
    absent = q2_entry_l1(&l->geometry, word).kind == Q2_UNALLOCATED;
    if (absent)
        r = make_table(l, index, number);
    pthread_mutex_unlock(&s->lock);
    if (absent && r == 0)
        wake(l);
    return absent || (word & Q2_ENTRY_COPIED) ? r : fail_not_own(l, word);
}

/* ---- entries ---- */

/*
 * The order of two words (live-slices.h). What a reader sees in between is what was, or what will be: beside
 * a compressed word the bitmap means nothing; a place may have gone only when no bit refers to it; and a place
 * that is new has to be there before bits refer to it.
 */
static void put_extended(_Atomic uint64_t *at, const struct live_entry *e)
{
    uint64_t old = be64toh(atomic_load_explicit(&at[0], memory_order_relaxed));
    bool second_first = (old & Q2_ENTRY_COMPRESSED) || !e->word;

    if (second_first)
        atomic_store_explicit(&at[1], htobe64(e->bitmap), memory_order_release);
    atomic_store_explicit(&at[0], htobe64(e->word), memory_order_release);
    if (!second_first)
        atomic_store_explicit(&at[1], htobe64(e->bitmap), memory_order_release);
}

static void put_entries(const struct live_layer *l, struct live_slot *slot, uint64_t cluster,
                        unsigned n, const struct live_entry *entries)
{
    unsigned first = (unsigned)cluster & (l->slices->entries - 1);
    _Atomic uint64_t *words = live_slot_words(slot);

    for (unsigned i = 0; i < n; i++)
        if (l->geometry.extended)
            put_extended(&words[2 * (first + i)], &entries[i]);
        else
            atomic_store_explicit(&words[first + i], htobe64(entries[i].word),
                                  memory_order_release);
}

/* 1: done; 0: the slice is not in memory; -EIO: it is not to be changed, since it is cut. */
static int change_if_there(struct live_layer *l, uint64_t cluster, unsigned n,
                           const struct live_entry *entries, bool flagged)
{
    struct live_slices *s = l->slices;
    uint64_t number = live_slice_of(s, cluster);
    struct live_slot *slot;
    bool first = false, cut;

    pthread_mutex_lock(&s->lock);
    slot = live_slot_find(s, number);
    cut = slot && atomic_load_explicit(&slot->cut, memory_order_relaxed);
    if (slot && !cut) {
        s->altered[number / 64] |= UINT64_C(1) << number % 64;
        first = live_slot_set_dirty(s, slot, flagged);
        put_entries(l, slot, cluster, n, entries);
    }
    pthread_mutex_unlock(&s->lock);
    if (first)
        wake(l);
    return cut ? -EIO : slot != NULL;
}

static int fail_cut(struct live_layer *l, uint64_t cluster)
{
    return live_damaged(
        l->image,
        "'%s': the L2 table for %llu of the disk has an entry that leads behind the "
        "end of the file",
        l->file.path, (unsigned long long)(cluster * l->cluster));
}

int live_slices_change(struct live_layer *l, uint64_t cluster, unsigned n,
                       const struct live_entry *entries, bool flagged)
{
    uint64_t number = live_slice_of(l->slices, cluster);
    int r = atomic_load(&l->image->broken), there = 0;

    if (r == 0)
        r = need_table(l, number);
    while (r == 0 && there == 0) {
        there = change_if_there(l, cluster, n, entries, flagged);
        if (there == 0)
            r = live_slot_load(l, number, false);
    }
    return there < 0 ? fail_cut(l, cluster) : r;
}

unsigned live_slices_room(const struct live_layer *l, uint64_t cluster)
{
    return l->slices->entries - ((unsigned)cluster & (l->slices->entries - 1));
}

/* Pages of zeroes are not written to. */
static void keep_altered(struct live_layer *l, uint64_t *altered)
{
    struct live_slices *s = l->slices;
    uint64_t words = live_slots_altered_words(l, l->l1_entries);

    for (uint64_t i = 0; i < words; i++)
        if (s->altered[i])
            altered[i] = s->altered[i];
    free(s->altered);
    s->altered = altered;
}

/* Nobody knows when the last reader has left a table that was too short, so it stays until the end. Each one is
 * twice as long as the one before, so all of them together are no longer than the last one. */
struct live_old_l1 {
    struct live_old_l1 *next;
    _Atomic uint64_t *words;
};

void live_slices_free_l1(struct live_layer *l)
{
    while (l->old_l1) {
        struct live_old_l1 *old = l->old_l1;

        l->old_l1 = old->next;
        free((void *)old->words);
        free(old);
    }
    free((void *)l->l1);
    l->l1 = NULL;
}

/* Have memory for so many entries, where readers find the old ones all the time. */
static int make_l1_room(struct live_layer *l, uint64_t entries)
{
    uint64_t room = 2 * l->l1_room > entries ? 2 * l->l1_room : entries;
    struct live_old_l1 *old;
    _Atomic uint64_t *words;

    if (entries <= l->l1_room)
        return 0;
    old = malloc(sizeof(*old));
    words = calloc(room, sizeof(*words));
    if (!old || !words) {
        free(old);
        free((void *)words);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < l->l1_entries; i++)
        words[i] = l->l1[i];
    *old = (struct live_old_l1){.next = l->old_l1, .words = l->l1};
    l->old_l1 = old;
    l->l1_room = room;
    l->l1 = words;
    return 0;
}

int live_slices_set_l1(struct live_layer *l, const uint64_t *l1, uint64_t entries, uint64_t offset)
{
    struct live_slices *s = l->slices;
    uint64_t pieces = (entries + LIVE_L1_PIECE - 1) / LIVE_L1_PIECE;
    unsigned char *dirty = calloc(pieces + 1, 1);
    uint64_t *altered = live_slots_new_altered(l, entries);
    int r = dirty && altered ? make_l1_room(l, entries) : -ENOMEM;

    if (r < 0) {
        free(dirty);
        free(altered);
        return r;
    }
    pthread_mutex_lock(&s->lock);
    keep_altered(l, altered);
    for (uint64_t i = 0; i < s->l1_pieces; i++)
        if (s->l1_dirty[i])
            live_slices_clear_l1_dirty(s, i);
    free(s->l1_dirty);
    s->l1_dirty = dirty;
    s->l1_pieces = pieces;
    for (uint64_t i = l->l1_entries; i < entries; i++)
        l->l1[i] = l1[i];
    l->l1_entries = entries;
    l->l1_offset = offset;
    pthread_mutex_unlock(&s->lock);
    return 0;
}
