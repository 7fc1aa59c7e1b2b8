/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hash table with linear probing, at most half full. A slot is written once, or once more when its
 * cluster is removed, so that who looks something up needs no lock. A table that is too small is copied to
 * one of twice the size; the old one is kept until the end, for those who may still look into it: all old ones
 * together are as large as the newest. What an image holds cannot make clusters fall into the same
 * slots, because it does not know the multiplier.
 */
#include "common/live/live-metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define FIRST_BITS 10 /* of the number of slots */
#define REMOVED    UINT64_MAX

struct live_metadata_table {
    struct live_metadata_table *older;
    unsigned bits;            /* of the number of slots */
    uint64_t used;            /* slots, with those of removed clusters */
    _Atomic uint64_t slots[]; /* cluster + 1; 0: free; REMOVED */
};

static struct live_metadata_table *new_table(unsigned bits)
{
    struct live_metadata_table *t = calloc(1, sizeof(*t) + (sizeof(t->slots[0]) << bits));

    if (t)
        t->bits = bits;
    return t;
}

int live_metadata_init(struct live_metadata *m)
{
    struct live_metadata_table *t = new_table(FIRST_BITS);

    if (!t)
        return -ENOMEM;
    if (getrandom(&m->multiplier, sizeof(m->multiplier), GRND_NONBLOCK) < 0)
        m->multiplier = UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)t << 16;
    m->multiplier |= 1;
    pthread_mutex_init(&m->lock, NULL);
    atomic_init(&m->table, t);
    return 0;
}

void live_metadata_clear(struct live_metadata *m)
{
    struct live_metadata_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);

    if (!t)
        return;
    pthread_mutex_destroy(&m->lock);
    while (t) {
        struct live_metadata_table *older = t->older;

        free(t);
        t = older;
    }
    atomic_store_explicit(&m->table, NULL, memory_order_relaxed);
}

/* The slot that has the key, or the free one where a search for it ends. */
static _Atomic uint64_t *find(const struct live_metadata *m, struct live_metadata_table *t,
                              uint64_t key)
{
    uint64_t mask = (UINT64_C(1) << t->bits) - 1, i = key * m->multiplier >> (64 - t->bits), word;

    for (;; i = (i + 1) & mask) {
        word = atomic_load_explicit(&t->slots[i], memory_order_acquire);
        if (word == key || !word)
            return &t->slots[i];
    }
}

static void put(const struct live_metadata *m, struct live_metadata_table *t, uint64_t key)
{
    atomic_store_explicit(find(m, t, key), key, memory_order_release);
    t->used++;
}

static int grow(struct live_metadata *m, struct live_metadata_table *old)
{
    struct live_metadata_table *t = new_table(old->bits + 1);

    if (!t)
        return -ENOMEM;
    for (uint64_t i = 0; i >> old->bits == 0; i++) {
        uint64_t word = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (word && word != REMOVED)
            put(m, t, word);
    }
    t->older = old;
    atomic_store_explicit(&m->table, t, memory_order_release);
    return 0;
}

static int add(struct live_metadata *m, uint64_t key)
{
    struct live_metadata_table *t = atomic_load_explicit(&m->table, memory_order_relaxed);

    if (atomic_load_explicit(find(m, t, key), memory_order_relaxed) == key)
        return 1;
    if (t->used >> (t->bits - 1) != 0) {
        if (grow(m, t) < 0)
            return -ENOMEM;
        t = atomic_load_explicit(&m->table, memory_order_relaxed);
    }
    put(m, t, key);
    return 0;
}

int live_metadata_add(struct live_metadata *m, uint64_t cluster)
{
    int r;

    pthread_mutex_lock(&m->lock);
    r = add(m, cluster + 1);
    pthread_mutex_unlock(&m->lock);
    return r;
}

void live_metadata_remove(struct live_metadata *m, uint64_t cluster)
{
    _Atomic uint64_t *slot;

    pthread_mutex_lock(&m->lock);
    slot = find(m, atomic_load_explicit(&m->table, memory_order_relaxed), cluster + 1);
    if (atomic_load_explicit(slot, memory_order_relaxed))
        atomic_store_explicit(slot, REMOVED, memory_order_release);
    pthread_mutex_unlock(&m->lock);
}

bool live_metadata_has(const struct live_metadata *m, uint64_t cluster)
{
    struct live_metadata_table *t = atomic_load_explicit(&m->table, memory_order_acquire);

    return atomic_load_explicit(find(m, t, cluster + 1), memory_order_relaxed) == cluster + 1;
}
