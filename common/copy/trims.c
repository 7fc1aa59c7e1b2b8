/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/trims.h"

/* Ranges that wait: above MANY it is time; above MOST they are merged, and what is then too much is
 * forgotten. */
#define MANY (64 << 10)
#define MOST (256 << 10)

struct span {
    uint64_t offset, length;
};

struct trims {
    GArray *waiting; /* struct span, in any order */
    GArray *ready;   /* struct span; taken from its end */
};

struct trims *trims_new(void)
{
    struct trims *t = g_new0(struct trims, 1);

    t->waiting = g_array_new(FALSE, FALSE, sizeof(struct span));
    t->ready = g_array_new(FALSE, FALSE, sizeof(struct span));
    return t;
}

void trims_free(struct trims *t)
{
    if (!t)
        return;
    g_array_free(t->waiting, TRUE);
    g_array_free(t->ready, TRUE);
    g_free(t);
}

static void append(GArray *spans, uint64_t offset, uint64_t length)
{
    struct span s = {offset, length};

    if (spans->len > 0) {
        struct span *last = &g_array_index(spans, struct span, spans->len - 1);

        if (last->offset + last->length == offset) {
            last->length += length;
            return;
        }
    }
    g_array_append_val(spans, s);
}

static gint by_offset(gconstpointer a, gconstpointer b)
{
    const struct span *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Make one of those that touch; and forget the last ones, if half of MOST is left. */
static void merge(GArray *spans)
{
    g_autoptr(GArray) old = g_array_copy(spans);

    g_array_sort(old, by_offset);
    g_array_set_size(spans, 0);
    for (guint i = 0; i < old->len && spans->len < MOST / 2; i++) {
        const struct span *s = &g_array_index(old, struct span, i);

        append(spans, s->offset, s->length);
    }
}

void trims_add(struct trims *t, const struct plan_range *ranges, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        append(t->waiting, ranges[i].offset, ranges[i].length);
    if (t->waiting->len > MOST)
        merge(t->waiting);
}

bool trims_are_many(const struct trims *t)
{
    return t->waiting->len > MANY;
}

void trims_release(struct trims *t, uint64_t offset)
{
    g_autoptr(GArray) old = g_steal_pointer(&t->waiting);

    t->waiting = g_array_new(FALSE, FALSE, sizeof(struct span));
    for (guint i = 0; i < old->len; i++) {
        const struct span *s = &g_array_index(old, struct span, i);
        uint64_t below = s->offset < offset ? MIN(s->length, offset - s->offset) : 0;

        if (below > 0)
            append(t->ready, s->offset, below);
        if (below < s->length)
            append(t->waiting, s->offset + below, s->length - below);
    }
    if (t->ready->len > MOST)
        merge(t->ready);
}

bool trims_take(struct trims *t, uint64_t *offset, uint64_t *length)
{
    const struct span *last;

    if (t->ready->len == 0)
        return false;
    last = &g_array_index(t->ready, struct span, t->ready->len - 1);
    *offset = last->offset;
    *length = last->length;
    g_array_set_size(t->ready, t->ready->len - 1);
    return true;
}
