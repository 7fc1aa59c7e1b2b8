/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is open is found from the end: entries are taken from the last to the first, and each paints
 * the regions that no later one has painted. The boundaries of all entries cut the regions into
 * pieces, so that a piece is painted once; `next` leads past the pieces that are done.
 */
#include "common/state/journal-scan.h"

#include "common/state/folder.h"
#include "common/util/error.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define PIECE_SECTORS 128u
#define NO_PIECE      UINT_MAX

/* ---- the two halves ---- */

/* Where the journal's bytes come from, piece by piece: most of them are zeroes that nobody needs
 * twice. */
struct source {
    /* The sector with this number in the file; valid until the next call. NULL: it cannot be read. */
    const uint8_t *(*sector)(struct source *s, unsigned number);
    const uint8_t *bytes; /* all of them; or */
    struct storage_file *file;
    uint8_t *piece;
    unsigned first; /* sector of the piece; NO_PIECE: there is none yet */
    int error;      /* of reading */
};

struct half {
    struct source *source;
    unsigned begin;               /* its first sector in the file */
    struct journal_sector *heads; /* JOURNAL_SECTORS; generation 0: zeroes */
    uint64_t generation;          /* the highest that it has */
    unsigned length;              /* sectors from the first one that are of it */
    bool whole;                   /* its snapshot is */
};

static const char *read_sector(struct half *h, unsigned i, uint64_t folder, uint64_t parity)
{
    const uint8_t *bytes = h->source->sector(h->source, h->begin + i);
    struct journal_entry entries[JOURNAL_CAPACITY];
    struct journal_sector *s = &h->heads[i];

    if (!bytes)
        return "it cannot be read";
    switch (journal_sector_decode(bytes, s, entries)) {
    case JOURNAL_DAMAGED:
        return "a sector is damaged";
    case JOURNAL_ZEROES:
        s->generation = 0;
        return NULL;
    case JOURNAL_VALID:
        break;
    }
    if (s->folder != folder)
        return "it is another folder's";
    if (s->number != i || (s->generation & 1) != parity)
        return "a sector is not where it belongs";
    h->generation = MAX(h->generation, s->generation);
    return NULL;
}

/* Does sector i, of the half's generation, fit the one before it? */
static bool fits(const struct half *h, unsigned i)
{
    const struct journal_sector *s = &h->heads[i], *first = &h->heads[0];

    if (i < s->snapshot)
        return s->batch == 0 && (i == 0 || h->length == 0 || s->snapshot == first->snapshot);
    if (s->batch < s->snapshot || h->length == 0 || s->snapshot != first->snapshot)
        return false;
    return i > h->length || s->batch == i || s->batch == h->heads[i - 1].batch;
}

/* Is it the batch of the first sector that is missing? */
static bool is_last_batch(const struct half *h, uint32_t batch)
{
    return batch == h->length || (h->length > 0 && batch == h->heads[h->length - 1].batch);
}

/* Sectors behind the first one that is missing belong to the batch that was never synced. */
static const char *find_length(struct half *h)
{
    while (h->length < JOURNAL_SECTORS && h->heads[h->length].generation == h->generation)
        h->length++;
    for (unsigned i = 0; i < JOURNAL_SECTORS; i++) {
        if (h->heads[i].generation != h->generation)
            continue;
        if (!fits(h, i))
            return "sectors do not fit each other";
        if (i > h->length && !is_last_batch(h, h->heads[i].batch))
            return "a sector is missing";
    }
    h->whole = h->length > 0 && h->length >= h->heads[0].snapshot;
    return NULL;
}

static const char *read_half(struct half *h, struct source *s, uint64_t folder, unsigned which)
{
    *h = (struct half){.source = s,
                       .begin = which * JOURNAL_SECTORS,
                       .heads = g_new0(struct journal_sector, JOURNAL_SECTORS)};
    for (unsigned i = 0; i < JOURNAL_SECTORS; i++) {
        const char *why = read_sector(h, i, folder, which == 0);

        if (why)
            return why;
    }
    return h->generation > 0 ? find_length(h) : NULL;
}

/* The half that counts. A snapshot is begun in one half only when the other one has been in use
 * with the generation before. */
static const struct half *choose(const struct half halves[2], const char **why)
{
    const struct half *newer = &halves[halves[1].generation > halves[0].generation];
    const struct half *older = &halves[newer == &halves[0]];

    *why = NULL;
    if (newer->generation == 0)
        *why = "it has only zeroes";
    else if (older->generation != newer->generation - 1)
        *why = "its halves do not belong together";
    else if (!newer->whole && !older->whole)
        *why = "no snapshot is whole";
    return newer->whole ? newer : older;
}

/* ---- what is open ---- */

/* NULL: what was read before cannot be read any more, or has changed. */
static GArray *read_entries(const struct half *h)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct journal_entry));

    for (unsigned i = 0; i < h->length; i++) {
        const uint8_t *bytes = h->source->sector(h->source, h->begin + i);
        struct journal_entry entries[JOURNAL_CAPACITY];
        struct journal_sector s;

        if (!bytes || journal_sector_decode(bytes, &s, entries) != JOURNAL_VALID) {
            g_array_unref(all);
            return NULL;
        }
        g_array_append_vals(all, entries, s.n);
    }
    return all;
}

struct point {
    int64_t disk;
    uint64_t region;
};

struct pieces {
    struct point *points; /* piece i goes from points[i] to points[i + 1] */
    size_t n;
    size_t *next; /* a piece that is not painted, or leads on towards one; itself: is not painted */
    bool *open;
};

static int compare_points(const void *a, const void *b)
{
    const struct point *p = a, *q = b;

    if (p->disk != q->disk)
        return p->disk < q->disk ? -1 : 1;
    return p->region < q->region ? -1 : p->region > q->region;
}

static void cut(struct pieces *p, const GArray *entries)
{
    size_t n = 0;

    p->points = g_new(struct point, 2 * entries->len + 1);
    for (guint i = 0; i < entries->len; i++) {
        const struct journal_entry *e = &g_array_index(entries, struct journal_entry, i);

        p->points[n++] = (struct point){e->disk, e->first};
        p->points[n++] = (struct point){e->disk, e->first + e->count};
    }
    qsort(p->points, n, sizeof *p->points, compare_points);
    for (size_t i = 0; i < n; i++)
        if (p->n == 0 || compare_points(&p->points[p->n - 1], &p->points[i]) != 0)
            p->points[p->n++] = p->points[i];
    p->open = g_new0(bool, p->n + 1);
    p->next = g_new(size_t, p->n + 1);
    for (size_t i = 0; i <= p->n; i++)
        p->next[i] = i;
}

static size_t find_point(const struct pieces *p, int64_t disk, uint64_t region)
{
    struct point key = {disk, region};
    const struct point *found = bsearch(&key, p->points, p->n, sizeof key, compare_points);

    return (size_t)(found - p->points);
}

static size_t not_painted(struct pieces *p, size_t i)
{
    while (p->next[i] != i) {
        p->next[i] = p->next[p->next[i]];
        i = p->next[i];
    }
    return i;
}

static void paint(struct pieces *p, const struct journal_entry *e)
{
    size_t end = find_point(p, e->disk, e->first + e->count);
    size_t i = not_painted(p, find_point(p, e->disk, e->first));

    for (; i < end; i = not_painted(p, i)) {
        p->open[i] = e->open;
        p->next[i] = i + 1;
    }
}

static GArray *collect(const struct pieces *p)
{
    GArray *open = g_array_new(FALSE, FALSE, sizeof(struct journal_entry));

    for (size_t i = 0; i + 1 < p->n; i++) {
        const struct point *from = &p->points[i];
        uint64_t count = p->points[i + 1].region - from->region;
        struct journal_entry e = {from->disk, from->region, count, true}, *last;

        if (!p->open[i])
            continue;
        last = open->len > 0 ? &g_array_index(open, struct journal_entry, open->len - 1) : NULL;
        if (last && last->disk == e.disk && last->first + last->count == e.first)
            last->count += e.count;
        else
            g_array_append_val(open, e);
    }
    return open;
}

static GArray *find_open(const struct half *h)
{
    GArray *entries = read_entries(h), *open;
    struct pieces p = {0};

    if (!entries)
        return NULL;
    cut(&p, entries);
    for (guint i = entries->len; i-- > 0;)
        paint(&p, &g_array_index(entries, struct journal_entry, i));
    open = collect(&p);
    g_array_free(entries, TRUE);
    g_free(p.points);
    g_free(p.open);
    g_free(p.next);
    return open;
}

static GArray *scan(struct source *s, uint64_t folder, const char **why)
{
    struct half halves[2] = {0};
    const struct half *h;
    GArray *open = NULL;

    *why = NULL;
    for (unsigned i = 0; i < 2 && !*why; i++)
        *why = read_half(&halves[i], s, folder, i);
    if (!*why && (h = choose(halves, why)) && !*why) {
        open = find_open(h);
        if (!open)
            *why = "it cannot be read twice";
    }
    g_free(halves[0].heads);
    g_free(halves[1].heads);
    return open;
}

/* ---- bytes ---- */

/* NULL: it is a journal's length. */
static const char *judge_length(uint64_t length)
{
    if (length == 2 * JOURNAL_HALF)
        return NULL;
    return length < 2 * JOURNAL_HALF ? "it is cut short" : "it is too long";
}

static const uint8_t *sector_of_bytes(struct source *s, unsigned number)
{
    return s->bytes + number * JOURNAL_SECTOR;
}

GArray *journal_scan_bytes(const uint8_t *bytes, size_t length, uint64_t folder, const char **why)
{
    struct source s = {.sector = sector_of_bytes, .bytes = bytes};

    *why = NULL;
    if (length == 0)
        return g_array_new(FALSE, FALSE, sizeof(struct journal_entry));
    *why = judge_length(length);
    return *why ? NULL : scan(&s, folder, why);
}

/* ---- the file ---- */

static const uint8_t *sector_of_file(struct source *s, unsigned number)
{
    unsigned first = number - number % PIECE_SECTORS;

    if (s->first != first) {
        s->error = s->file->storage->ops->read(s->file, s->piece, PIECE_SECTORS * JOURNAL_SECTOR,
                                               (uint64_t)first * JOURNAL_SECTOR);
        s->first = s->error < 0 ? NO_PIECE : first;
    }
    return s->error < 0 ? NULL : s->piece + (number - first) * JOURNAL_SECTOR;
}

/* NULL: *why, or s->error. An empty file has no open regions. */
static GArray *scan_sized(struct source *s, uint64_t size, uint64_t folder, const char **why)
{
    if (size == 0)
        return g_array_new(FALSE, FALSE, sizeof(struct journal_entry));
    *why = judge_length(size);
    return *why ? NULL : scan(s, folder, why);
}

static GArray *scan_file(struct storage_file *f, uint64_t folder, GError **err)
{
    g_autofree uint8_t *piece = g_malloc(PIECE_SECTORS * JOURNAL_SECTOR);
    struct source s = {.sector = sector_of_file, .file = f, .piece = piece, .first = NO_PIECE};
    const char *why = NULL;
    GArray *open = NULL;
    uint64_t size;

    s.error = f->storage->ops->size(f, &size);
    if (s.error == 0)
        open = scan_sized(&s, size, folder, &why);
    if (s.error < 0)
        storage_fail(f->storage, f->name, "cannot read the journal", s.error, err);
    else if (!open)
        fail(err, "state: %s/%s: the journal is damaged: %s", f->storage->path, f->name, why);
    return open;
}

GArray *journal_scan(struct storage *s, uint64_t folder, GError **err)
{
    struct storage_file *f;
    GArray *open;
    int r = s->ops->open(s, STATE_INTENT, false, &f);

    if (r == -ENOENT)
        return g_array_new(FALSE, FALSE, sizeof(struct journal_entry));
    if (r < 0) {
        storage_fail(s, STATE_INTENT, "cannot open the journal", r, err);
        return NULL;
    }
    open = scan_file(f, folder, err);
    s->ops->close(f);
    return open;
}
