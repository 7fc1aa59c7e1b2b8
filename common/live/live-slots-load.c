/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a slice, and checking it; finding a slot for it. See live-slots.h. */
#include "common/live/live-slots.h"

#include "common/live/live-reserve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- checking ---- */

/* Behind what an entry leads to: of data, its first byte. */
static uint64_t end_of(const struct q2_entry *e)
{
    return e->host + (e->kind == Q2_COMPRESSED ? e->length : 1);
}

static bool on_metadata(const struct live_layer *l, const struct q2_entry *e)
{
    const struct live_image *image = l->image;

    if (!l->writable || l->geometry.data_file || !image->reserve)
        return false;
    for (uint64_t at = e->host & ~(l->cluster - 1); at < end_of(e); at += l->cluster)
        if (live_reserve_is_metadata(image, at))
            return true;
    return false;
}

/*
 * Whether a place was not in the file when it was opened, and is not of the reserve, either. The file grows beyond it:
 * an image that was cut must not read as zeroes then, and not as what others have there. We do not write
 * compressed entries: none leads into the reserve.
 */
static bool was_cut_off(const struct live_layer *l, const struct q2_entry *e, bool old)
{
    uint64_t first;

    if (!l->writable || l->geometry.data_file || !l->image->reserve ||
        (e->kind != Q2_COMPRESSED && e->host < l->slices->file_end))
        return false;
    first = live_reserve_first(l->image);
    if (e->kind == Q2_COMPRESSED)
        return e->host >= l->slices->file_end || end_of(e) > first;
    return old || e->host < first;
}

const char *live_entry_broken(struct live_layer *l, const struct q2_entry *e, bool old)
{
    bool has_data = e->kind == Q2_DATA || e->kind == Q2_COMPRESSED;
    uint64_t size = atomic_load_explicit(&live_layer_data(l)->size, memory_order_relaxed);

    if (e->kind == Q2_INVALID)
        return "its entry in the L2 table breaks the rules";
    /* A place without data is written one day. In a data file nothing else would be there. */
    if (!has_data && (!e->host || !l->writable || l->geometry.data_file))
        return NULL;
    if (e->host >= size || was_cut_off(l, e, old))
        return "its cluster lies behind the end of the file";
    if (on_metadata(l, e))
        return "its cluster is one of the image's tables";
    return NULL;
}

const char *live_table_broken(const struct live_layer *l, const struct q2_entry *table)
{
    uint64_t size = atomic_load_explicit(&l->file.size, memory_order_relaxed);

    if (table->kind == Q2_INVALID)
        return "its entry in the L1 table breaks the rules";
    if (table->host >= size || l->cluster > size - table->host)
        return "its L2 table lies behind the end of the file";
    return NULL;
}

/* What is wrong with a slice that has been read. */
struct looked {
    bool old; /* as it was when the image was opened */
    bool bad, cut;
};

/* Look whether an entry of a slice breaks a rule, in any of its parts, or is cut. */
static void look(struct live_layer *l, uint64_t word, uint64_t bitmap, struct looked *k)
{
    struct q2_entry e;

    if (!word && !bitmap)
        return;
    e = q2_entry_l2(&l->geometry, word, bitmap, 0);
    if (l->geometry.extended && (uint32_t)bitmap && e.kind != Q2_COMPRESSED && e.kind != Q2_INVALID)
        e.kind = Q2_DATA;
    k->bad |= live_entry_broken(l, &e, k->old) != NULL;
    k->cut |= k->old && was_cut_off(l, &e, true);
}

static void look_at_all(struct live_layer *l, const uint64_t *words, struct looked *k)
{
    const struct live_slices *s = l->slices;
    unsigned step = l->geometry.extended ? 2 : 1;

    for (size_t i = 0; i < s->bytes / 8; i += step)
        look(l, be64toh(words[i]), step == 2 ? be64toh(words[i + 1]) : 0, k);
}

/* ---- a slot for it ---- */

/*
 * The slot that may be taken, of a set: one that is empty, else the first that the hand of the clock finds
 * unused since it was there last. NULL: each is dirty, or somebody reads or writes it.
 */
static struct live_slot *find_victim(struct live_slices *s, struct live_set *set)
{
    for (unsigned i = 0; i < LIVE_WAYS; i++)
        if (!set->slot[i].loading && !set->number[i])
            return &set->slot[i];
    for (unsigned i = 0; i < 2 * LIVE_WAYS; i++) {
        struct live_slot *slot = &set->slot[s->hand++ % LIVE_WAYS];

        if (slot->loading || slot->dirty || slot->writing)
            continue;
        if (!atomic_exchange_explicit(&slot->used, false, memory_order_relaxed))
            return slot;
    }
    return NULL;
}

/* Wait for a slot of a set that has none to take. 0: look again. */
static int make_room(struct live_layer *l, struct live_set *set)
{
    struct live_slices *s = l->slices;
    struct live_image *image = l->image;
    int r = -ENOMEM;

    for (unsigned i = 0; i < LIVE_WAYS; i++) {
        struct live_slot *slot = &set->slot[s->hand++ % LIVE_WAYS];

        if (slot->dirty && !slot->flagged && !slot->writing)
            return live_slot_write(l, slot);
    }
    for (unsigned i = 0; i < LIVE_WAYS; i++)
        if (set->slot[i].loading || set->slot[i].writing)
            return pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    if (image->make_room)
        r = image->make_room(image);
    pthread_mutex_lock(&s->lock);
    return r;
}

static bool is_loading(const struct live_set *set, uint64_t number)
{
    for (unsigned i = 0; i < LIVE_WAYS; i++)
        if (set->slot[i].loading && set->slot[i].target == number + 1)
            return true;
    return false;
}

/* 0: *slot is the caller's to fill, or NULL: the slice is in memory. */
static int take_slot(struct live_layer *l, uint64_t number, struct live_slot **slot)
{
    struct live_slices *s = l->slices;
    struct live_set *set = live_set_of(s, number);
    int r = 0;

    *slot = NULL;
    while (r == 0 && !live_slot_find(s, number)) {
        if (is_loading(set, number)) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        *slot = find_victim(s, set);
        if (*slot)
            break;
        r = make_room(l, set);
    }
    if (!*slot)
        return r;
    live_slot_empty(s, *slot);
    (*slot)->loading = true;
    (*slot)->target = number + 1;
    return 0;
}

/* ---- loading ---- */

static int allocate(const struct live_slices *s, struct live_slot *slot)
{
    _Atomic uint64_t *words;

    if (live_slot_words(slot))
        return 0;
    words = calloc(1, s->bytes);
    if (!words)
        return -ENOMEM;
    atomic_store_explicit(&slot->words, words, memory_order_release);
    return 0;
}

static int read_slice(struct live_layer *l, uint64_t number, uint64_t *words)
{
    uint64_t host = live_slice_host(l, number);
    struct q2_entry table = {.kind = Q2_DATA, .host = host & ~(l->cluster - 1)};

    if (live_table_broken(l, &table))
        return -EIO;
    return live_file_pread(&l->file, words, l->slices->bytes, host);
}

/* With nothing locked: the slot is the caller's. */
static int fill(struct live_layer *l, struct live_slot *slot, uint64_t number, bool zeroes,
                bool old)
{
    const struct live_slices *s = l->slices;
    struct looked k = {.old = old};
    uint64_t words[LIVE_SLICE_MAX / 8];
    _Atomic uint64_t *to;
    int r = allocate(s, slot);

    if (r < 0)
        return r;
    if (zeroes)
        memset(words, 0, s->bytes);
    else
        r = read_slice(l, number, words);
    if (r < 0)
        return r;
    to = live_slot_words(slot);
    for (size_t i = 0; i < s->bytes / 8; i++)
        atomic_store_explicit(&to[i], words[i], memory_order_release);
    if (!zeroes)
        look_at_all(l, words, &k);
    atomic_store_explicit(&slot->bad, k.bad, memory_order_release);
    atomic_store_explicit(&slot->cut, k.cut, memory_order_release);
    return 0;
}

int live_slot_load(struct live_layer *l, uint64_t number, bool zeroes)
{
    struct live_slices *s = l->slices;
    struct live_slot *slot;
    bool old;
    int r;

    pthread_mutex_lock(&s->lock);
    r = take_slot(l, number, &slot);
    if (slot) {
        old = !live_slots_is_altered(s, number);
        pthread_mutex_unlock(&s->lock);
        r = fill(l, slot, number, zeroes, old);
        pthread_mutex_lock(&s->lock);
        live_slot_filled(s, slot, r == 0 ? number + 1 : 0);
        slot->loading = false;
        atomic_store_explicit(&slot->used, true, memory_order_relaxed);
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}
