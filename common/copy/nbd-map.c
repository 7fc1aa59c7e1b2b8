/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/nbd-map.h"

/* Most runs that are kept of one context. The rest of the answer is asked for again. */
#define RUNS_MAX (1U << 17)

/* Most messages of one answer: a server sends one for each context. */
#define MESSAGES_MAX 64

/* A run of one context, from the end of the one before it. Neighbours differ. */
struct run {
    uint64_t end;
    bool set;
};

struct nbd_map {
    struct nbd_map_disk disk;
    uint64_t offset, end; /* the question */
    GArray *runs[2];      /* of struct run, by enum nbd_map_context */
    unsigned messages;
};

/* ---- answers ---- */

struct nbd_map *nbd_map_new(const struct nbd_map_disk *disk)
{
    struct nbd_map *m = g_new0(struct nbd_map, 1);

    m->disk = *disk;
    for (size_t i = 0; i < G_N_ELEMENTS(m->runs); i++)
        m->runs[i] = g_array_new(FALSE, FALSE, sizeof(struct run));
    return m;
}

void nbd_map_free(struct nbd_map *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(m->runs); i++)
        g_array_unref(m->runs[i]);
    g_free(m);
}

void nbd_map_ask(struct nbd_map *m, uint64_t offset, uint64_t length)
{
    m->offset = offset;
    m->end = offset + length;
    m->messages = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(m->runs); i++)
        g_array_set_size(m->runs[i], 0);
}

static const struct run *run_at(const struct nbd_map *m, enum nbd_map_context context, size_t i)
{
    return &g_array_index(m->runs[context], struct run, i);
}

/* Up to where a context is known. */
static uint64_t known(const struct nbd_map *m, enum nbd_map_context context)
{
    size_t n = m->runs[context]->len;

    return n > 0 ? run_at(m, context, n - 1)->end : m->offset;
}

/* Add to the last run, or begin another. False: there are too many. */
static bool add_run(GArray *runs, uint64_t end, bool set)
{
    struct run run = {.end = end, .set = set};
    struct run *last = runs->len > 0 ? &g_array_index(runs, struct run, runs->len - 1) : NULL;

    if (last && last->set == set)
        last->end = end;
    else if (runs->len >= RUNS_MAX)
        return false;
    else
        g_array_append_val(runs, run);
    return true;
}

bool nbd_map_take(struct nbd_map *m, enum nbd_map_context context, const uint32_t *entries,
                  size_t count)
{
    static const uint32_t flag[] = {[NBD_MAP_DIRTY] = 1, [NBD_MAP_ALLOCATION] = 2};
    uint64_t position = m->offset;

    if (++m->messages > MESSAGES_MAX)
        return false;
    /* The first message of a context is its answer. */
    if (m->runs[context]->len > 0)
        return true;
    for (size_t i = 0; i + 1 < count && position < m->end; i += 2) {
        if (entries[i] == 0)
            continue;
        position += MIN(entries[i], m->end - position);
        if (!add_run(m->runs[context], position, entries[i + 1] & flag[context]))
            break;
    }
    return true;
}

bool nbd_map_is_answered(const struct nbd_map *m)
{
    return m->runs[m->disk.has_context ? NBD_MAP_DIRTY : NBD_MAP_ALLOCATION]->len > 0;
}

/* ---- telling ---- */

enum kind { KIND_CLEAN, KIND_ZERO, KIND_DATA };

/* Where extents go: first whole ones, whose neighbours differ, then cut to blocks. */
struct teller {
    uint32_t align;
    uint64_t end; /* of all that is told */
    copy_extent_sink sink;
    void *opaque;

    enum kind kind; /* of what is at hand: from start to done; not told yet */
    uint64_t start, done;
};

static int tell_at_hand(struct teller *t, GError **err)
{
    struct copy_extent extent = {
        .offset = t->start, .length = t->done - t->start, .zero = t->kind == KIND_ZERO};

    t->start = t->done;
    if (extent.length == 0 || t->kind == KIND_CLEAN)
        return 0;
    return t->sink(t->opaque, &extent, err);
}

/* What is up to `end` is of this kind. */
static int put(struct teller *t, enum kind kind, uint64_t end, GError **err)
{
    if (end <= t->done)
        return 0;
    if (kind != t->kind && tell_at_hand(t, err) < 0)
        return -1;
    t->kind = kind;
    t->done = end;
    return 0;
}

/* An extent that another kind follows at `end`. The block in which both lie is data. */
static int put_blocks(struct teller *t, enum kind kind, uint64_t end, GError **err)
{
    uint64_t down = end - end % t->align;
    uint64_t up = MIN(down + t->align, t->end);

    if (down == end || end == t->end)
        return put(t, kind, end, err);
    return put(t, kind, down, err) < 0 ? -1 : put(t, KIND_DATA, up, err);
}

/* The end of what can be told in whole blocks; where that is nothing, one block of data is told:
 * *all_data. */
static uint64_t told_end(const struct nbd_map *m, bool *all_data)
{
    uint64_t end = m->end;

    *all_data = false;
    if (m->disk.has_context)
        end = MIN(end, known(m, NBD_MAP_DIRTY));
    if (m->runs[NBD_MAP_ALLOCATION]->len > 0)
        end = MIN(end, known(m, NBD_MAP_ALLOCATION));
    if (end == m->end || end % m->disk.align == 0)
        return end;
    end -= end % m->disk.align;
    *all_data = end <= m->offset;
    return *all_data ? MIN(end + m->disk.align, m->end) : end;
}

/* The end of the run of a context at a position, and whether its flag is set; without runs, `set` up
 * to `end`. *i goes on with the position. */
static uint64_t look(const struct nbd_map *m, enum nbd_map_context context, size_t *i,
                     uint64_t position, uint64_t end, bool *set)
{
    if (m->runs[context]->len == 0)
        return end;
    while (run_at(m, context, *i)->end <= position)
        ++*i;
    *set = run_at(m, context, *i)->set;
    return MIN(run_at(m, context, *i)->end, end);
}

int nbd_map_tell(const struct nbd_map *m, copy_extent_sink sink, void *opaque, uint64_t *end,
                 GError **err)
{
    struct teller t = {.align = m->disk.align,
                       .sink = sink,
                       .opaque = opaque,
                       .kind = KIND_DATA,
                       .start = m->offset,
                       .done = m->offset};
    size_t dirty_at = 0, allocation_at = 0;
    enum kind kind = KIND_DATA, before = KIND_DATA;
    bool all_data;

    *end = t.end = told_end(m, &all_data);
    for (uint64_t position = m->offset; position < t.end && !all_data;) {
        bool dirty = true, zero = false;
        uint64_t next = look(m, NBD_MAP_DIRTY, &dirty_at, position, t.end, &dirty);

        next = look(m, NBD_MAP_ALLOCATION, &allocation_at, position, next, &zero);
        kind = !dirty ? KIND_CLEAN : zero ? KIND_ZERO : KIND_DATA;
        if (kind != before && position > m->offset && put_blocks(&t, before, position, err) < 0)
            return -1;
        before = kind;
        position = next;
    }
    return put(&t, kind, t.end, err) < 0 ? -1 : tell_at_hand(&t, err);
}
