/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/journal-ranges.h"

GArray *ranges_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct journal_entry));
}

static int by_region(const void *a, const void *b)
{
    const struct journal_entry *p = a, *q = b;

    if (p->disk != q->disk)
        return p->disk < q->disk ? -1 : 1;
    return p->first < q->first ? -1 : p->first > q->first;
}

/* Join neighbours of a disk that have at most `gap` regions between them. */
static void join_within(GArray *ranges, uint64_t gap)
{
    struct journal_entry *list = (struct journal_entry *)(void *)ranges->data;
    guint n = 0;

    for (guint i = 0; i < ranges->len; i++) {
        struct journal_entry *last = n > 0 ? &list[n - 1] : NULL, *e = &list[i];
        uint64_t end = e->first + e->count;

        if (last && last->disk == e->disk && e->first <= last->first + last->count + gap)
            last->count = MAX(last->first + last->count, end) - last->first;
        else
            list[n++] = *e;
    }
    g_array_set_size(ranges, n);
}

void ranges_join(GArray *ranges)
{
    g_array_sort(ranges, by_region);
    join_within(ranges, 0);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *p = a, *q = b;

    return *p < *q ? -1 : *p > *q;
}

/* The largest gap that has to be closed so that `surplus` ranges vanish. */
static uint64_t find_gap(const GArray *ranges, size_t surplus)
{
    GArray *gaps = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint64_t gap = 0;

    for (guint i = 1; i < ranges->len; i++) {
        const struct journal_entry *e = &g_array_index(ranges, struct journal_entry, i);
        uint64_t between = e->first - e[-1].first - e[-1].count;

        if (e->disk == e[-1].disk)
            g_array_append_val(gaps, between);
    }
    g_array_sort(gaps, by_size);
    if (gaps->len > 0)
        gap = g_array_index(gaps, uint64_t, MIN(surplus, gaps->len) - 1);
    g_array_free(gaps, TRUE);
    return gap;
}

void ranges_squeeze(GArray *ranges, size_t max)
{
    if (ranges->len > max)
        join_within(ranges, find_gap(ranges, ranges->len - max));
}
