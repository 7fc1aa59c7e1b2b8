/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs of a layer. See live-slots.h for how slices are found and read. */
#include "common/live/live-slots.h"

#include <errno.h>
#include <string.h>

/* A slice that is being read: valid as long as its slot has this sequence number. */
struct view {
    const struct live_slot *slot;
    const _Atomic uint64_t *words;
    uint64_t sequence;
    bool bad, cut;
};

/* What one entry says, from a byte of the disk on. */
struct unit {
    struct q2_entry entry; /* its host is that of the byte */
    uint64_t word, bitmap;
    uint64_t end; /* of the range of the disk that it says it of */
    bool own;
    const char *why;
};

/* The slot may be given to another slice between the look at its number and that at `sequence`: so the
 * number is looked at once more. */
static inline bool view_slice(const struct live_slices *s, uint64_t number, struct view *v)
{
    struct live_slot *slot = live_slot_find(s, number);
    struct live_set *set = live_set_of(s, number);

    if (!slot)
        return false;
    v->slot = slot;
    v->sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    v->words = live_slot_words(slot);
    v->bad = atomic_load_explicit(&slot->bad, memory_order_acquire);
    v->cut = atomic_load_explicit(&slot->cut, memory_order_acquire);
    if ((v->sequence & 1) || !v->words ||
        atomic_load_explicit(&set->number[slot - set->slot], memory_order_acquire) != number + 1)
        return false;
    if (!atomic_load_explicit(&slot->used, memory_order_relaxed))
        atomic_store_explicit(&slot->used, true, memory_order_relaxed);
    return true;
}

/* After the last word of it was read. */
static bool still_valid(const struct view *v)
{
    return atomic_load_explicit(&v->slot->sequence, memory_order_relaxed) == v->sequence;
}

static uint64_t word_at(const struct view *v, size_t i)
{
    return be64toh(atomic_load_explicit(&v->words[i], memory_order_acquire));
}

/* Both words of an extended entry, as they were at one moment, or as live-slices.h says that they may be
 * seen. */
static void read_entry(const struct live_layer *l, const struct view *v, size_t i, struct unit *u)
{
    uint64_t before;

    if (!l->geometry.extended) {
        u->word = word_at(v, i);
        u->bitmap = 0;
        return;
    }
    u->word = word_at(v, 2 * i);
    do {
        before = u->word;
        u->bitmap = word_at(v, 2 * i + 1);
        u->word = word_at(v, 2 * i);
    } while (u->word != before);
}

/* Data of its own, without subclusters: what most entries are, and most requests want. */
static inline bool decode_plain(const struct live_layer *l, const struct view *v, uint64_t offset,
                                struct unit *u)
{
    uint64_t within = offset & (l->cluster - 1), host = u->word & ~Q2_ENTRY_COPIED;

    if (v->bad || host == u->word || !host || (host & ~Q2_ENTRY_OFFSET) ||
        (host & (l->cluster - 1)) || l->geometry.extended)
        return false;
    u->entry = (struct q2_entry){.kind = Q2_DATA, .host = host + within};
    u->end = offset - within + l->cluster;
    u->own = true;
    u->why = NULL;
    return true;
}

static void decode(struct live_layer *l, const struct view *v, uint64_t offset, struct unit *u)
{
    const struct q2_geometry *g = &l->geometry;
    uint64_t within = offset & (l->cluster - 1);
    unsigned bits = q2_unit_bits(g);

    u->entry = q2_entry_l2(g, u->word, u->bitmap, (unsigned)(within >> bits));
    if (q2_entry_uniform(g, u->word, u->bitmap))
        u->end = offset - within + l->cluster;
    else
        u->end = ((offset >> bits) + 1) << bits;
    u->own = u->entry.kind != Q2_COMPRESSED && (u->word & Q2_ENTRY_COPIED) &&
             (u->entry.host || g->data_file);
    u->why = v->bad || u->entry.kind == Q2_INVALID ? live_entry_broken(l, &u->entry, v->cut) : NULL;
    if (u->why) {
        u->entry = (struct q2_entry){.kind = Q2_INVALID};
        u->own = false;
    } else if (u->entry.kind != Q2_COMPRESSED && (u->entry.host || u->own)) {
        u->entry.host += within;
    }
}

static void read_unit(struct live_layer *l, const struct view *v, uint64_t offset, struct unit *u)
{
    read_entry(l, v, offset >> l->geometry.cluster_bits & (l->slices->entries - 1), u);
    if (!decode_plain(l, v, offset, u))
        decode(l, v, offset, u);
}

static void begin_run(struct live_run *run, const struct unit *u, uint64_t offset)
{
    *run = (struct live_run){
        .kind = u->entry.kind,
        .length = u->end - offset,
        .host = u->entry.host,
        .bytes = u->entry.length,
        .own = u->own,
        .word = u->word,
        .bitmap = u->bitmap,
        .why = u->why,
    };
}

static bool goes_on(const struct live_run *run, const struct unit *u)
{
    bool placed = run->host || run->own;

    return u->entry.kind == run->kind && u->own == run->own && run->kind != Q2_COMPRESSED &&
           run->kind != Q2_INVALID &&
           (placed ? u->entry.host == run->host + run->length : !u->entry.host);
}

static uint64_t end_of_slice(const struct live_layer *l, uint64_t offset)
{
    unsigned bits = l->geometry.cluster_bits + l->slices->entry_bits;

    return ((offset >> bits) + 1) << bits;
}

static bool run_in_slice(struct live_layer *l, uint64_t offset, uint64_t end, struct live_run *run)
{
    uint64_t last = end_of_slice(l, offset), at;
    struct view v;
    struct unit u;

    if (!view_slice(l->slices, live_slice_of(l->slices, offset >> l->geometry.cluster_bits), &v))
        return false;
    if (last > end)
        last = end;
    read_unit(l, &v, offset, &u);
    begin_run(run, &u, offset);
    for (at = u.end; at < last; at = u.end) {
        read_unit(l, &v, at, &u);
        if (!goes_on(run, &u))
            break;
        run->length += u.end - at;
    }
    return still_valid(&v);
}

/* Tables that are absent, from number `index` on, are one range. */
static uint64_t end_of_absent(const struct live_layer *l, uint64_t index, uint64_t end)
{
    const struct q2_geometry *g = &l->geometry;
    uint64_t span = q2_table_span(g), entries = l->l1_entries;

    do
        index++;
    while (index < entries && index * span < end &&
           q2_entry_l1(g, live_l1_word(l, index)).kind == Q2_UNALLOCATED);
    return index * span;
}

/* Whether there is a table, and nothing is wrong with it. */
static inline bool is_plain_table(const struct live_layer *l, uint64_t word)
{
    uint64_t host = word & Q2_ENTRY_OFFSET;

    return host && !(host & (l->cluster - 1)) &&
           host + l->cluster <= atomic_load_explicit(&l->file.size, memory_order_relaxed);
}

static bool find_run(struct live_layer *l, uint64_t offset, uint64_t end, struct live_run *run)
{
    const struct q2_geometry *g = &l->geometry;
    uint64_t index = offset >> (g->cluster_bits + q2_table_bits(g));
    uint64_t word = live_l1_word(l, index);
    struct q2_entry table;

    if (is_plain_table(l, word))
        return run_in_slice(l, offset, end, run);
    table = q2_entry_l1(g, word);
    *run = (struct live_run){.kind = Q2_UNALLOCATED};
    if (table.kind == Q2_UNALLOCATED) {
        run->length = end_of_absent(l, index, end) - offset;
        return true;
    }
    run->why = live_table_broken(l, &table);
    run->kind = Q2_INVALID;
    run->length = (index + 1) * q2_table_span(g) - offset;
    return true;
}

bool live_slices_run(struct live_layer *l, uint64_t offset, uint64_t length, struct live_run *run)
{
    if (l->raw)
        *run = (struct live_run){.kind = Q2_DATA, .host = offset, .length = length};
    else if (!find_run(l, offset, offset + length, run))
        return false;
    if (run->length > length)
        run->length = length;
    return true;
}

int live_slices_run_wait(struct live_layer *l, uint64_t offset, uint64_t length,
                         struct live_run *run)
{
    int r = 0;

    while (r == 0 && !live_slices_run(l, offset, length, run))
        r = live_slot_load(l, live_slice_of(l->slices, offset >> l->geometry.cluster_bits), false);
    return r;
}
