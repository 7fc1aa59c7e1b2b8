/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The places of slices in memory, for the files that live-slices.h is made of:
 *
 *   live-slots          the places, how one is found, filled, and marked as dirty
 *   live-slots-write    writing back
 *   live-slots-load     reading and checking a slice, which takes the place of another
 *   live-slices-run     runs
 *   live-slices-change  changing entries, making tables
 *
 * Design
 *
 * A slice has a number: that of its first guest cluster by the entries of a slice. A set of 8 slots
 * follows from the number.
 *
 * Readers take no lock. Of each slot they read `sequence` (odd: the slot is being filled), the words,
 * and `sequence` once more. What they read in between counts if it is the same even number. There
 * are no fences: words are loaded with acquire, so that the second look at `sequence` comes after
 * them, and stored with release, so that nobody sees a new word without the odd number before it.
 *
 * Everything else is under `lock`: which slot is dirty, is being loaded, or is being written. No file
 * is read or written under it. A slot that is `loading` is nobody's but the loading thread's. A slot
 * that is `writing` has a copy that is on its way to the file:
 * - it is not evicted, since the file has the older slice;
 * - it is not written by a second thread, since the older copy could come last;
 * - who makes a commit waits for it, since it may have been dirty before the commit began.
 *
 * A slot is in the list of busy ones while it is dirty or writing.
 *
 * Of a slice that has not been changed since the image was opened, each entry is as another program left it: none
 * may lead behind the end that the file had then, where the reserve grows it. One that does is broken for good. Of
 * a slice that has been changed nobody knows which entries were there before: so a slice with such an entry is never
 * changed (it is `cut`), and `altered` remembers the others when they are read again.
 *
 * Invariants: a slot is dirty only while it has a number. What is flagged is dirty. A table's slices
 * are in no slot but as zeroes before L1 refers to it.
 */
#ifndef COMMON_LIVE_LIVE_SLOTS_H
#define COMMON_LIVE_LIVE_SLOTS_H

#include "common/live/live-slices.h"

#include <pthread.h>

#define LIVE_SLICE_MAX 4096 /* bytes */
#define LIVE_WAYS      8    /* slots of a set */
#define LIVE_L1_PIECE  64   /* entries of L1 that are written together: 512 bytes */

/* A line of the processor's cache each. */
struct live_slot {
    _Alignas(64) _Atomic uint64_t sequence; /* odd: it is being filled */
    _Atomic(_Atomic uint64_t *) words;      /* as in the file, big-endian; NULL: never used */
    atomic_bool bad; /* an entry breaks a rule: each is checked when it is used */
    atomic_bool
        cut; /* an entry leads behind the file as it was opened: never changed; `bad`, too */
    atomic_bool used; /* since the hand of the clock was here */
    /* Under the lock; not beside what is not: compilers read neighbours of a word together. */
    uint64_t target; /* loading: the number that it will have, and 1 */
    struct live_slot *previous, *next;
    bool dirty, flagged, loading, writing;
};

struct live_set {
    _Alignas(64) _Atomic uint64_t number[LIVE_WAYS]; /* of the slice, and 1; 0: none */
    struct live_slot slot[LIVE_WAYS];
};

struct live_slices {
    size_t bytes;        /* of a slice */
    unsigned entries;    /* of a slice */
    unsigned entry_bits; /* entries = 1 << entry_bits */
    unsigned sets_bits;
    struct live_set *set;
    uint64_t file_end; /* bytes of the file when it was opened */

    pthread_mutex_t lock;
    pthread_cond_t changed;  /* a slot is no longer loading or writing; a table has been made */
    struct live_slot busy;   /* head of the list: dirty or writing */
    bool making;             /* a table is being made */
    unsigned hand;           /* of the clock: the slot of a set that is looked at next */
    unsigned char *l1_dirty; /* a byte for each piece; NULL: the layer is not written */
    uint64_t l1_pieces, n_l1_dirty;
    /* A bit for each slice: it has been changed since the image was opened. NULL: the layer is not written. Pages
     * of it that nobody has used take no memory. */
    uint64_t *altered;
    /* How many slots are busy for the reason; changed under the lock, read without. */
    _Atomic uint64_t n_dirty, n_flagged;
};

/* The number of the slice that a guest cluster's entry is in. */
static inline uint64_t live_slice_of(const struct live_slices *s, uint64_t cluster)
{
    return cluster >> s->entry_bits;
}

static inline struct live_set *live_set_of(const struct live_slices *s, uint64_t number)
{
    /* Multiplied, so that disks that are used in steps of a power of two use all sets. */
    return &s->set[s->sets_bits ? number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - s->sets_bits) : 0];
}

/* The slot of a slice; NULL: it is not in memory. Without the lock: only until `sequence` says so. */
static inline struct live_slot *live_slot_find(const struct live_slices *s, uint64_t number)
{
    struct live_set *set = live_set_of(s, number);

    for (unsigned i = 0; i < LIVE_WAYS; i++)
        if (atomic_load_explicit(&set->number[i], memory_order_acquire) == number + 1)
            return &set->slot[i];
    return NULL;
}

static inline _Atomic uint64_t *live_slot_words(const struct live_slot *slot)
{
    return atomic_load_explicit(&slot->words, memory_order_acquire);
}

/* `altered`, clear, for an L1 table of so many entries. NULL: no memory. */
uint64_t *live_slots_new_altered(const struct live_layer *l, uint64_t l1_entries);
/* How many words that are. */
uint64_t live_slots_altered_words(const struct live_layer *l, uint64_t l1_entries);

/* Where the file has a slice, whose table exists: bytes. */
uint64_t live_slice_host(const struct live_layer *l, uint64_t number);

/* ---- under the lock ---- */

/* The number of the slice that is in a slot. */
uint64_t live_slot_number(const struct live_slices *s, const struct live_slot *slot);
/* Let nobody find what is in a slot, whose words may change from here on; and the end of that, with
 * another slice in it. `number`: that of the slice, and 1; 0: nothing is in it. */
void live_slot_empty(struct live_slices *s, struct live_slot *slot);
void live_slot_filled(struct live_slices *s, struct live_slot *slot, uint64_t number);

/* Whether a slice has been changed since the image was opened. */
static inline bool live_slots_is_altered(const struct live_slices *s, uint64_t number)
{
    return s->altered && s->altered[number / 64] >> number % 64 & 1;
}

/* These return whether nothing of the layer was dirty before. */
bool live_slot_set_dirty(struct live_slices *s, struct live_slot *slot, bool flagged);
bool live_slices_set_l1_dirty(struct live_slices *s, uint64_t index);
void live_slices_clear_l1_dirty(struct live_slices *s, uint64_t piece);
/* A copy is on its way: clean. And the end of it. */
void live_slot_set_writing(struct live_slices *s, struct live_slot *slot);
void live_slot_end_writing(struct live_slices *s, struct live_slot *slot);

/* ---- live-slots-write.c ---- */

/* Write back a slot that is dirty and not flagged, and not being written. With the lock, which is given up and
 * taken again. 0 or a negative errno: it is dirty as before. */
int live_slot_write(struct live_layer *l, struct live_slot *slot);

/* ---- live-slots-load.c ---- */

/* Have a slice in memory, for a moment at least. `zeroes`: it is not in the file yet, and is all
 * zeroes. 0 or a negative errno. Without the lock. */
int live_slot_load(struct live_layer *l, uint64_t number, bool zeroes);

/* Which rule an entry breaks, seen at a byte of the disk whose unit is `e`; NULL: none. `old`: it is as it was when
 * the image was opened. */
const char *live_entry_broken(struct live_layer *l, const struct q2_entry *e, bool old);
/* The same of an entry of L1 that is not Q2_UNALLOCATED. */
const char *live_table_broken(const struct live_layer *l, const struct q2_entry *table);

#endif
